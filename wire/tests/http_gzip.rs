//! gzip: whole bodies and pieces, read back; what each piece costs; how much memory streams may keep.

use flate2::read::GzDecoder;
use flate2::{Decompress, FlushDecompress};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::Read;
use wire::http_gzip::{GzipPool, GzipStream, MAX_KEPT};

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut decoder = GzDecoder::new(bytes);
    let mut out = Vec::new();
    decoder.read_to_end(&mut out).unwrap();
    assert!(decoder.into_inner().is_empty(), "something follows the end");
    out
}

fn compress_pieces(pool: &GzipPool, level: u8, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = GzipStream::new(pool, level);
    let mut out = Vec::new();
    for piece in pieces {
        stream.write(piece, &mut out);
    }
    stream.finish(&mut out);
    out
}

/// RFC 1952 §2.3: every byte around the compressed data is known.
#[test]
fn the_frame_is_as_in_the_rfc() {
    let body = b"hello hello hello hello hello hello hello hello hello hello";
    let bytes = GzipPool::new().compress(6, body).unwrap();
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let end = &bytes[bytes.len() - 8..];
    assert_eq!(end[..4], 0x6c1a_837a_u32.to_le_bytes(), "the CRC-32, from Python's zlib.crc32");
    assert_eq!(end[4..], 59_u32.to_le_bytes());
    assert_eq!(gunzip(&bytes), body);
}

#[test]
fn the_same_body_is_the_same_bytes() {
    let pool = GzipPool::new();
    let body = b"text ".repeat(1000);
    let first = pool.compress(6, &body);
    pool.compress(6, &b"something else in between".repeat(99));
    assert_eq!(pool.compress(6, &body), first);
    assert_eq!(GzipPool::new().compress(6, &body), first);
}

#[test]
fn what_does_not_get_smaller_is_left() {
    let pool = GzipPool::new();
    assert_eq!(pool.compress(9, b""), None);
    assert_eq!(pool.compress(9, b"short"), None);
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(100_000)
    .collect();
    assert_eq!(pool.compress(9, &noise), None);
}

#[test]
fn a_body_without_pieces_is_whole() {
    let bytes = compress_pieces(&GzipPool::new(), 6, &[]);
    assert_eq!(gunzip(&bytes), b"");
    assert_eq!(compress_pieces(&GzipPool::new(), 6, &[b"", b""]), bytes);
}

/// An event must not wait in a compressor for the next one.
#[test]
fn each_piece_can_be_read_when_it_was_written() {
    let pool = GzipPool::new();
    let mut stream = GzipStream::new(&pool, 6);
    let mut inflate = Decompress::new_gzip(15);
    for number in 0..200 {
        let piece = format!("data: {number}\n\n").repeat(number % 7 + 1);
        let mut bytes = Vec::new();
        stream.write(piece.as_bytes(), &mut bytes);
        let mut seen = Vec::with_capacity(4096);
        inflate.decompress_vec(&bytes, &mut seen, FlushDecompress::Sync).unwrap();
        assert_eq!(seen, piece.as_bytes(), "piece {number}");
    }
}

#[test]
fn pieces_refer_to_those_before() {
    let pool = GzipPool::new();
    let event = b"event: position\ndata: {\"latitude\": 52.52, \"longitude\": 13.405, \"height\": 34}\n\n";
    let mut stream = GzipStream::new(&pool, 6);
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let mut bytes = Vec::new();
        stream.write(event, &mut bytes);
        lengths.push(bytes.len());
    }
    assert!(lengths[0] > 60 && lengths[2] < 20, "{lengths:?}");
}

/// Past `MAX_KEPT` streams, compressors are lent for one piece each, and the bytes are good all the same.
#[test]
fn streams_beyond_the_bound_keep_no_compressor() {
    let pool = GzipPool::new();
    let piece = b"the same words again and again, the same words again and again\n";
    let mut begun: Vec<GzipStream> = (0..MAX_KEPT).map(|_| GzipStream::new(&pool, 1)).collect();
    for stream in &mut begun {
        stream.write(piece, &mut Vec::new());
    }
    let second_piece = |pool: &GzipPool| {
        let mut stream = GzipStream::new(pool, 1);
        let mut out = Vec::new();
        stream.write(piece, &mut out);
        let first = out.len();
        stream.write(piece, &mut out);
        let second = out.len() - first;
        stream.finish(&mut out);
        assert_eq!(gunzip(&out), piece.repeat(2));
        second
    };
    let alone = second_piece(&pool);
    begun.pop();
    let kept = second_piece(&pool);
    assert!(kept < 20 && alone > kept + 10, "a stream that ends makes room for one: {kept} {alone}");
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![Just(b"portico ".to_vec()), Just(b"{\"key\": 1}".to_vec()), vec(any::<u8>(), 0..40)];
    vec(word, 0..400).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whole_bodies_come_back(body in body(), level in 1_u8..=9) {
        if let Some(bytes) = GzipPool::new().compress(level, &body) {
            prop_assert!(bytes.len() < body.len());
            prop_assert_eq!(gunzip(&bytes), body);
        }
    }

    #[test]
    fn pieces_come_back(pieces in vec(body(), 0..8), levels in vec(1_u8..=9, 1..4)) {
        let pool = GzipPool::new();
        for level in levels {
            let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(gunzip(&compress_pieces(&pool, level, &slices)), pieces.concat());
        }
    }
}
