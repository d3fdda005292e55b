//! The opening handshake, both roles.

use std::time::{Duration, Instant};

use wire::ws_handshake::{
    Answer, AnswerRefusal, Handshake, Offer, accept_for_key, accept_offer, check_accept, check_answer, choose_protocol,
    encode_key, encode_switching_protocols,
};

// RFC 6455 §1.3.
const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn offer_protocols(protocols: &[&[u8]]) -> Result<Vec<String>, u16> {
    offer(Some(b"13"), Some(KEY), protocols).map(|it| it.protocols)
}

fn offer(version: Option<&[u8]>, key: Option<&[u8]>, protocols: &[&[u8]]) -> Result<Handshake, u16> {
    accept_offer(&Offer { version, key, protocols }).map_err(|refusal| refusal.status)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let handshake = offer(Some(b"13"), Some(KEY), &[]).unwrap();
    assert_eq!(handshake.accept, ACCEPT);
    assert!(handshake.protocols.is_empty());
    assert_eq!(accept_for_key(KEY), ACCEPT);
}

#[test]
fn other_versions_are_told_to_upgrade() {
    for version in [None, Some(&b"8"[..]), Some(b"0"), Some(b"013"), Some(b"13, 8"), Some(b"")] {
        assert_eq!(offer(version, Some(KEY), &[]), Err(426), "{version:?}");
    }
}

#[test]
fn old_version_without_key_is_told_about_the_version() {
    assert_eq!(offer(Some(b"7"), None, &[]), Err(426));
}

#[test]
fn keys_that_are_not_16_bytes_in_base64_are_refused() {
    let bad: [&[u8]; 9] = [
        b"",
        b"x",
        b"dGhlIHNhbXBsZSBub25jZQ",        // no padding
        b"dGhlIHNhbXBsZSBub25jZQ=",       // half of it
        b"dGhlIHNhbXBsZSBub25jZSE=",      // 17 bytes
        b"dGhlIHNhbXBsZSBub25jZSEh",      // 18 bytes, no padding needed
        b"dGhlIHNhbXBsZSBub25j!Q==",      // outside the alphabet
        b"dGhlIHNhbXBsZSBub25-_Q==",      // the URL alphabet
        b"dGhl\xc3\xa4HNhbXBsZSBub25Q==", // not ASCII
    ];
    for key in bad {
        assert_eq!(offer(Some(b"13"), Some(key), &[]), Err(400), "{key:?}");
    }
    assert_eq!(offer(Some(b"13"), None, &[]), Err(400));
}

#[test]
fn unused_bits_in_the_last_character_are_tolerated() {
    assert!(offer(Some(b"13"), Some(b"dGhlIHNhbXBsZSBub25jZR=="), &[]).is_ok());
}

#[test]
fn protocols_keep_their_order_over_several_fields() {
    let values: [&[u8]; 2] = [b"chat, superchat ,\tv1.x", b"mqtt"];
    assert_eq!(offer_protocols(&values), Ok(names(&["chat", "superchat", "v1.x", "mqtt"])));
}

#[test]
fn empty_list_elements_are_skipped() {
    assert_eq!(offer_protocols(&[b", a,, b ,"]), Ok(names(&["a", "b"])));
}

#[test]
fn protocols_that_are_not_tokens_are_refused() {
    let bad: [&[u8]; 9] = [b"", b" ", b",", b"a b", b"a/b", b"\"a\"", b"caf\xc3\xa9", b"a\r\nX: y", b"a;q=1"];
    for value in bad {
        assert_eq!(offer_protocols(&[value]), Err(400), "{value:?}");
    }
}

#[test]
fn every_token_character_is_allowed() {
    let token = b"!#$%&'*+-.^_`|~019AZaz";
    assert_eq!(offer_protocols(&[token]).unwrap()[0].as_bytes(), token);
    for byte in 0..=255u8 {
        let allowed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~,".contains(&byte);
        assert_eq!(offer_protocols(&[&[b'a', byte, b'b']]).is_ok(), allowed, "{byte}");
    }
}

#[test]
fn the_same_protocol_twice_is_refused() {
    assert_eq!(offer_protocols(&[b"a, b, a"]), Err(400));
    assert_eq!(offer_protocols(&[b"a", b"a"]), Err(400));
    assert_eq!(offer_protocols(&[b"a, A"]), Ok(names(&["a", "A"])));
}

// One request may fill a whole head with names. Comparing them pair by pair would take minutes.
#[test]
fn a_hundred_thousand_protocols_take_linear_time() {
    let value: Vec<u8> = (0..100_000).flat_map(|i| format!("p{i},").into_bytes()).collect();
    let start = Instant::now();
    assert_eq!(offer_protocols(&[&value]).unwrap().len(), 100_000);
    let blanks = vec![b' '; 1_000_000];
    assert_eq!(offer_protocols(&[&blanks]), Err(400));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_server_prefers_its_own_order() {
    let supported = names(&["v2", "v1"]);
    assert_eq!(choose_protocol(&names(&["v1", "v2"]), &supported), Some("v2"));
    assert_eq!(choose_protocol(&names(&["v1"]), &supported), Some("v1"));
    assert_eq!(choose_protocol(&names(&["V1"]), &supported), None);
    assert_eq!(choose_protocol(&[], &supported), None);
    assert_eq!(choose_protocol(&names(&["v1"]), &[]), None);
}

fn switch(protocol: Option<&str>, extra: &[u8]) -> String {
    let handshake = offer(Some(b"13"), Some(KEY), &[b"chat"]).unwrap();
    let mut out = Vec::new();
    encode_switching_protocols(&mut out, &handshake, protocol, extra);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_answer_is_complete() {
    assert_eq!(
        switch(Some("chat"), b"Set-Cookie: a=b\r\n"),
        "HTTP/1.1 101 Switching Protocols\r\n\
         Upgrade: websocket\r\n\
         Connection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: chat\r\n\
         Set-Cookie: a=b\r\n\
         \r\n"
    );
}

#[test]
fn a_protocol_that_was_not_offered_is_not_answered() {
    for protocol in [None, Some("other"), Some("chat\r\nX: y"), Some("")] {
        assert!(switch(protocol, b"").ends_with("xOo=\r\n\r\n"), "{protocol:?}");
    }
}

#[test]
fn the_clients_key_is_accepted_by_the_server() {
    let key = encode_key(*b"the sample nonce");
    assert_eq!(key, KEY);
    let handshake = offer(Some(b"13"), Some(&key), &[]).unwrap();
    assert!(check_accept(&key, &handshake.accept));
    assert!(!check_accept(&key, b""));
    assert!(!check_accept(&key, &ACCEPT[..27]));
    assert!(!check_accept(&encode_key([7; 16]), ACCEPT));
}

const ANSWER: Answer = Answer {
    status: 101,
    upgrade: &[b"WebSocket"],
    connection: &[b"keep-alive, Upgrade"],
    accept: &[ACCEPT],
    extensions: &[],
    protocols: &[],
};

fn answer(answer: Answer) -> Result<Option<String>, AnswerRefusal> {
    let offered = names(&["v1", "v2"]);
    check_answer(&answer, KEY, &offered, None).map(|it| it.protocol.map(str::to_owned))
}

#[test]
fn the_client_takes_a_proper_answer() {
    assert_eq!(answer(ANSWER), Ok(None));
    assert_eq!(answer(Answer { protocols: &[b"v2"], ..ANSWER }), Ok(Some("v2".to_owned())));
    assert_eq!(answer(Answer { connection: &[b"close", b"upgrade"], ..ANSWER }), Ok(None));
    assert_eq!(answer(Answer { extensions: &[b" "], ..ANSWER }), Ok(None));
}

#[test]
fn the_client_refuses_everything_else() {
    use AnswerRefusal::*;
    let cases = [
        (Status, Answer { status: 200, ..ANSWER }),
        (Upgrade, Answer { upgrade: &[], ..ANSWER }),
        (Upgrade, Answer { upgrade: &[b"h2c"], ..ANSWER }),
        (Upgrade, Answer { upgrade: &[b"websocket", b"websocket"], ..ANSWER }),
        (Connection, Answer { connection: &[], ..ANSWER }),
        (Connection, Answer { connection: &[b"upgraded"], ..ANSWER }),
        (Accept, Answer { accept: &[], ..ANSWER }),
        (Accept, Answer { accept: &[b"s3pplMBiTxaQ9kYGzzhZRbK+xOo="], ..ANSWER }),
        (Accept, Answer { accept: &[ACCEPT, ACCEPT], ..ANSWER }),
        (Extension, Answer { extensions: &[b"permessage-deflate"], ..ANSWER }),
        (Protocol, Answer { protocols: &[b"v3"], ..ANSWER }),
        (Protocol, Answer { protocols: &[b"v1, v2"], ..ANSWER }),
        (Protocol, Answer { protocols: &[b"v1", b"v2"], ..ANSWER }),
        (Protocol, Answer { protocols: &[b""], ..ANSWER }),
    ];
    for (expected, case) in cases {
        assert_eq!(answer(case), Err(expected), "{case:?}");
        assert!(!expected.reason().is_empty());
    }
}
