//! Bodies: what is read, what is refused with which status, and what is written.

use wire::error::HttpRefusal;
use wire::http_body::{BodyFraming, BodyReader, encode_chunk, encode_last_chunk};
use wire::http_head::FieldError;

const MAX: u64 = 1 << 20;

/// Body, trailers and how many bytes were used, with the input cut into pieces of `size`.
fn read_in_pieces(
    framing: BodyFraming,
    bytes: &[u8],
    max: u64,
    size: usize,
) -> Result<(Vec<u8>, Vec<u8>, usize, bool), HttpRefusal> {
    let mut reader = BodyReader::new(framing, max)?;
    let mut out = Vec::new();
    let mut used = 0;
    for piece in bytes.chunks(size) {
        let taken = reader.read(piece, &mut out)?;
        used += taken;
        assert!(taken == piece.len() || reader.is_done());
    }
    Ok((out, reader.trailers().to_vec(), used, reader.is_done()))
}

fn read_chunked(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>, usize, bool), HttpRefusal> {
    let whole = read_in_pieces(BodyFraming::Chunked, bytes, MAX, usize::MAX);
    let bytewise = read_in_pieces(BodyFraming::Chunked, bytes, MAX, 1);
    assert_eq!(whole, bytewise, "{}", bytes.escape_ascii());
    whole
}

fn assert_refused(bytes: &[u8], status: u16) -> HttpRefusal {
    match read_chunked(bytes) {
        Err(refusal) => {
            assert_eq!(refusal.status, status, "{}: {refusal:?}", bytes.escape_ascii());
            refusal
        }
        Ok(read) => panic!("{} gave {read:?}", bytes.escape_ascii()),
    }
}

#[test]
fn a_body_of_known_length_ends_exactly_there() {
    for size in [1, 2, 3, 100] {
        let read = read_in_pieces(BodyFraming::Length(5), b"helloGET /", MAX, size);
        assert_eq!(read, Ok((b"hello".to_vec(), vec![], 5, true)));
    }
    let read = read_in_pieces(BodyFraming::Length(5), b"hell", MAX, 100);
    assert_eq!(read, Ok((b"hell".to_vec(), vec![], 4, false)));
}

#[test]
fn no_body_is_done_before_it_begins() {
    for framing in [BodyFraming::Empty, BodyFraming::Length(0)] {
        let read = read_in_pieces(framing, b"GET /", 0, 100);
        assert_eq!(read, Ok((vec![], vec![], 0, true)));
        assert!(BodyReader::new(framing, 0).unwrap().is_done());
    }
}

#[test]
fn a_body_up_to_the_close_ends_when_told() {
    let mut reader = BodyReader::new(BodyFraming::UntilClose, 5).unwrap();
    let mut out = Vec::new();
    assert_eq!(reader.read(b"hello", &mut out), Ok(5));
    assert!(!reader.is_done());
    let mut longer = reader.clone();
    assert_eq!(reader.close(), Ok(()));
    assert!(reader.is_done());
    assert_eq!(longer.read(b"!", &mut out).unwrap_err().status, 413);
    assert_eq!(out, b"hello");
}

#[test]
fn chunks_are_joined() {
    let table: &[(&[u8], &[u8])] = &[
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", b"hello!"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
        (b"0000000000000002\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b"5;a=\"q\xe9 \tx\"; b\r\nhello\r\n0\r\n\r\n", b"hello"),
    ];
    for (bytes, body) in table {
        let followed = [bytes, &b"GET /next"[..]].concat();
        let read = read_chunked(&followed);
        assert_eq!(read, Ok((body.to_vec(), vec![], bytes.len(), true)));
    }
}

#[test]
fn bad_chunks_are_refused() {
    let table: &[&[u8]] = &[
        // Sizes.
        b"\r\n",
        b"g\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5_0\r\n",
        b"\xd9\xa5\r\n",
        b"5h\r\n",
        b";a\r\n",
        b"\x00",
        b"00000000000000005\r\nhello\r\n",
        b"10000000000000000\r\n",
        b"fffffffffffffffff\r\n",
        // Line ends.
        b"5\nhello\r\n",
        b"5\rhello\r\n",
        b"5\r\r\nhello\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhelloX\n0\r\n\r\n",
        b"3\r\nhello\r\n",
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\n\rX",
        // Extensions.
        b"5;a\nhello\r\n",
        b"5;a\n\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;\x00\r\nhello\r\n",
        b"5;\x7f\r\nhello\r\n",
        b"5;a=\"\n\"\r\nhello\r\n",
        // Trailers.
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n X: y\r\n\r\n",
        b"0\r\nX: y\r\n folded\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHOST: a\r\n\r\n",
        b"0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for bytes in table {
        assert_refused(bytes, 400);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_arrives() {
    assert_eq!(BodyReader::new(BodyFraming::Length(MAX + 1), MAX).unwrap_err().status, 413);
    assert!(BodyReader::new(BodyFraming::Length(MAX), MAX).is_ok());
    let refusal = assert_refused(b"100001\r", 413);
    assert!(refusal.reason.contains("max_body_bytes"));
    assert_refused(b"FFFFFFFFFFFFFFFF\r", 413);
    assert_refused(b"100001;", 413);
    assert!(read_chunked(b"100000\r\n").is_ok());
    // Across chunks: three and then one more.
    let cut = |max| read_in_pieces(BodyFraming::Chunked, b"3\r\nabc\r\n1\r\n", max, 1);
    assert!(cut(4).is_ok());
    assert_eq!(cut(3).unwrap_err().status, 413);
}

#[test]
fn sizes_that_add_up_past_64_bits_do_not_wrap() {
    let bytes = b"1\r\nx\r\nFFFFFFFFFFFFFFFF\r\n";
    let read = read_in_pieces(BodyFraming::Chunked, bytes, u64::MAX, 1);
    assert_eq!(read.unwrap_err().status, 413);
}

#[test]
fn extensions_are_bounded_over_the_whole_message() {
    let chunk = |extension_bytes: usize| {
        let extension = "e".repeat(extension_bytes);
        format!("400;{extension}\r\n{}\r\n", "x".repeat(1024)).into_bytes()
    };
    let end = b"0\r\n\r\n".to_vec();
    let within = [chunk(4000), chunk(96), end.clone()].concat();
    assert_eq!(read_chunked(&within).unwrap().0.len(), 2048);
    assert_refused(&[chunk(4000), chunk(97), end].concat(), 400);
    assert_refused(&chunk(4097)[..4 + 4097], 400);
}

#[test]
fn one_byte_chunks_pass_and_padded_ones_do_not() {
    let one_byte = b"1\r\nx\r\n".repeat(20_000);
    assert_eq!(read_chunked(&one_byte).unwrap().0.len(), 20_000);
    let padded = b"0000000000000001\r\nx\r\n".repeat(20_000);
    assert_refused(&padded, 400);
    let bare_extensions = b"1;\r\nx\r\n".repeat(20_000);
    assert_eq!(read_chunked(&bare_extensions).unwrap().0.len(), 20_000);
}

#[test]
fn trailers_are_kept_apart_and_bounded() {
    let bytes = b"2\r\nhi\r\n0\r\nX-Sum: \t1 \r\nY:\r\n\r\n";
    let (body, trailers, used, done) = read_chunked(bytes).unwrap();
    assert_eq!((body, used, done), (b"hi".to_vec(), bytes.len(), true));
    assert_eq!(trailers, b"X-Sum:1\r\nY:\r\n");

    let lines = |count: usize| format!("0\r\n{}\r\n", "X: y\r\n".repeat(count)).into_bytes();
    assert!(read_chunked(&lines(32)).unwrap().3);
    assert_refused(&lines(33), 431);

    let sized = |len: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(len - 7)).into_bytes();
    assert!(read_chunked(&sized(8192)).unwrap().3);
    assert_refused(&sized(8193), 431);
    assert_refused(&sized(20_000)[..9000], 431);
}

#[test]
fn trailers_are_told_only_when_complete() {
    let mut reader = BodyReader::new(BodyFraming::Chunked, MAX).unwrap();
    reader.read(b"0\r\nX: y\r\n", &mut Vec::new()).unwrap();
    assert_eq!(reader.trailers(), b"");
    assert!(!reader.is_done());
}

#[test]
fn a_body_cut_short_is_never_taken_for_complete() {
    let whole = b"5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        let mut reader = BodyReader::new(BodyFraming::Chunked, MAX).unwrap();
        reader.read(&whole[..end], &mut Vec::new()).unwrap();
        assert!(!reader.is_done());
        assert_eq!(reader.close().unwrap_err().status, 400);
    }
    let mut reader = BodyReader::new(BodyFraming::Length(2), MAX).unwrap();
    reader.read(b"x", &mut Vec::new()).unwrap();
    assert!(reader.close().is_err());
}

#[test]
fn chunks_are_written() {
    let mut out = Vec::new();
    encode_chunk(&mut out, b"0123456789abcdef");
    encode_chunk(&mut out, b"");
    encode_chunk(&mut out, b"x");
    encode_last_chunk(&mut out, &[]).unwrap();
    assert_eq!(out, b"10\r\n0123456789abcdef\r\n1\r\nx\r\n0\r\n\r\n");
}

#[test]
fn trailers_are_written_and_checked() {
    let mut out = Vec::new();
    encode_last_chunk(&mut out, &[("X-Sum", "1")]).unwrap();
    assert_eq!(out, b"0\r\nX-Sum: 1\r\n\r\n");
    let refused = [("Content-Length", "1"), ("host", "a"), ("X Y", "1"), ("X", "1\r\n")];
    for (name, value) in refused {
        let mut out = Vec::new();
        let error = encode_last_chunk(&mut out, &[("A", "b"), (name, value)]).unwrap_err();
        assert!(out.is_empty());
        assert_ne!(error, FieldError::Status(0));
    }
}
