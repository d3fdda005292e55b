//! Random bytes as a request head, whole and byte by byte: the same answer, and no panic. What is accepted keeps the
//! promises the rest of the server builds on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::http_head::{HeadLimits, HeadReader, RequestHead, Version};

const LIMITS: HeadLimits = HeadLimits {
    max_head_bytes: 512,
    max_headers: 8,
    max_url_bytes: 64,
};

fuzz_target!(|bytes: &[u8]| {
    let whole = HeadReader::new().read_request(bytes, &LIMITS);
    let mut reader = HeadReader::new();
    let bytewise = (0..=bytes.len())
        .map(|end| reader.read_request(&bytes[..end], &LIMITS))
        .find(|read| !matches!(read, Ok(None)));
    match (whole, bytewise) {
        (Ok(None), None) => {}
        (Err(refusal), Some(Err(same))) => assert_eq!(refusal, same),
        (Ok(Some((used, head))), Some(Ok(Some((same, again))))) => {
            assert_eq!((used, head.field_block()), (same, again.field_block()));
            check_promises(&head);
        }
        (whole, bytewise) => panic!("{whole:?} but byte by byte {bytewise:?}"),
    }
    let _ = HeadReader::new().read_response(bytes, &LIMITS);
});

fn check_promises(head: &RequestHead) {
    assert!(!head.method().is_empty() && head.method().len() <= 32);
    assert!(head.path().starts_with('/') || (head.path() == "*" && head.method() == "OPTIONS"));
    assert!(head.target().bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!head.host().contains(['/', '@', '?', '#', ' ', ',']));
    assert!(head.version() == Version::Http10 || !head.host().is_empty());
    assert!(head.fields().count() <= LIMITS.max_headers);
    for (name, value) in head.fields() {
        assert!(!name.is_empty());
        assert_eq!(value, value.trim_ascii());
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)));
    }
}
