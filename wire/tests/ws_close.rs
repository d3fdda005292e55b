//! Close codes and close payloads.

use wire::ws_close::{
    self, ABNORMAL, GOING_AWAY, MAX_REASON_BYTES, NO_STATUS, NORMAL, TLS_HANDSHAKE, decode_close, encode_close,
    is_receivable, is_sendable,
};

fn payload(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

fn encoded(code: u16, reason: &str) -> Vec<u8> {
    let mut out = Vec::new();
    encode_close(&mut out, code, reason, None);
    out
}

#[test]
fn only_codes_that_mean_something_may_be_sent() {
    let sendable: Vec<u16> = (0..=u16::MAX).filter(|&code| is_sendable(code)).collect();
    let expected: Vec<u16> = (1000..=1003).chain(1007..=1014).chain(3000..=4999).collect();
    assert_eq!(sendable, expected);
}

#[test]
fn received_codes_are_those_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let result = decode_close(&payload(code, b"why").clone()).map(|(code, reason)| (code, reason.len()));
        match is_receivable(code) {
            true => assert_eq!(result, Ok((code, 3))),
            false => assert_eq!(result.unwrap_err().code, ws_close::PROTOCOL_ERROR),
        }
    }
}

#[test]
fn names_have_the_numbers_of_the_registry() {
    use wire::ws_close::*;
    let named = [
        (NORMAL, 1000),
        (GOING_AWAY, 1001),
        (PROTOCOL_ERROR, 1002),
        (UNSUPPORTED_DATA, 1003),
        (NO_STATUS, 1005),
        (ABNORMAL, 1006),
        (INVALID_PAYLOAD, 1007),
        (POLICY_VIOLATION, 1008),
        (MESSAGE_TOO_BIG, 1009),
        (MANDATORY_EXTENSION, 1010),
        (INTERNAL_ERROR, 1011),
        (SERVICE_RESTART, 1012),
        (TRY_AGAIN_LATER, 1013),
        (BAD_GATEWAY, 1014),
        (TLS_HANDSHAKE, 1015),
    ];
    assert!(named.iter().all(|(name, number)| name == number));
}

#[test]
fn empty_payload_is_no_status() {
    assert_eq!(decode_close(b""), Ok((NO_STATUS, "")));
}

#[test]
fn half_a_code_is_a_protocol_error() {
    assert_eq!(decode_close(&[3]).unwrap_err().code, 1002);
}

#[test]
fn code_without_reason_is_fine() {
    assert_eq!(decode_close(&payload(NORMAL, b"")), Ok((NORMAL, "")));
}

#[test]
fn reason_that_is_not_utf8_is_refused() {
    for bad in [&b"\xff"[..], b"ok \xce", b"\xed\xa0\x80", b"\xc0\xaf"] {
        assert_eq!(decode_close(&payload(NORMAL, bad)).unwrap_err().code, 1007);
    }
}

#[test]
fn bad_code_comes_before_bad_reason() {
    assert_eq!(decode_close(&payload(1005, b"\xff")).unwrap_err().code, 1002);
}

#[test]
fn close_carries_code_and_reason() {
    assert_eq!(encoded(GOING_AWAY, "bye"), b"\x88\x05\x03\xe9bye");
}

#[test]
fn codes_that_must_not_travel_become_an_empty_payload() {
    for code in [0, 999, 1004, NO_STATUS, ABNORMAL, TLS_HANDSHAKE, 2999, 5000] {
        assert_eq!(encoded(code, "bye"), [0x88, 0]);
    }
}

#[test]
fn masked_close_unmasks_to_the_same() {
    let mut out = Vec::new();
    encode_close(&mut out, NORMAL, "ok", Some([1, 2, 3, 4]));
    assert_eq!(out, [0x88, 0x84, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2, b'o' ^ 3, b'k' ^ 4]);
}

#[test]
fn long_reason_is_cut_at_a_character() {
    let reason = "a".repeat(MAX_REASON_BYTES - 1) + "é and more";
    let out = encoded(NORMAL, &reason);
    let (code, cut) = decode_close(&out[2..]).unwrap();
    assert_eq!((code, cut), (NORMAL, &reason[..MAX_REASON_BYTES - 1]));
    assert_eq!(usize::from(out[1]), 2 + MAX_REASON_BYTES - 1);
}

#[test]
fn reason_of_exactly_123_bytes_is_whole() {
    let reason = "é".repeat(61) + "!";
    assert_eq!(reason.len(), MAX_REASON_BYTES);
    let out = encoded(NORMAL, &reason);
    assert_eq!(out.len(), 127);
    assert_eq!(decode_close(&out[2..]), Ok((NORMAL, reason.as_str())));
}
