//! Random bytes as a body in chunks, whole and byte by byte: the same body, trailers and refusal, never more than the limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::error::HttpRefusal;
use wire::http_body::{BodyFraming, BodyReader, encode_chunk, encode_last_chunk};

const MAX_BODY_BYTES: u64 = 300;

type Read = Result<(usize, Vec<u8>, Vec<u8>), HttpRefusal>;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole, read(bytes, 1));
    assert_eq!(whole, read(bytes, 7));
    check_round_trip(bytes);
});

fn read(bytes: &[u8], size: usize) -> Read {
    let mut reader = BodyReader::new(BodyFraming::Chunked, MAX_BODY_BYTES)?;
    let mut body = Vec::new();
    let mut used = 0;
    for piece in bytes.chunks(size) {
        used += reader.read(piece, &mut body)?;
        assert!(body.len() as u64 <= MAX_BODY_BYTES);
    }
    assert!(used == bytes.len() || reader.is_done());
    Ok((used, body, reader.trailers().to_vec()))
}

/// The first byte says how long the pieces are that the rest is written in.
fn check_round_trip(bytes: &[u8]) {
    let Some((&size, data)) = bytes.split_first() else {
        return;
    };
    let mut out = Vec::new();
    for piece in data.chunks(usize::from(size) + 1) {
        encode_chunk(&mut out, piece);
    }
    encode_last_chunk(&mut out, &[]).expect("there are no trailers to refuse");
    let mut body = Vec::new();
    let mut reader = BodyReader::new(BodyFraming::Chunked, u64::MAX).expect("no length is known");
    assert_eq!(reader.read(&out, &mut body), Ok(out.len()));
    assert!(reader.is_done());
    assert_eq!(body, data);
}
