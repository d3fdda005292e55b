//! What one side encodes, the other decodes: any messages, fragments, pings between them and a close.
#![no_main]

#[path = "../../wire/tests/ws_events/mod.rs"]
mod ws_events;

use libfuzzer_sys::fuzz_target;
use wire::ws_close::{encode_close, is_sendable};
use wire::ws_frame::{Opcode, Role, apply_mask, encode_frame, encode_header};
use wire::ws_message::{MessageLimits, MessageReader};
use ws_events::{Event, read_inputs};

// The data is a script: a byte that says what to send, a byte that says how much of what follows.
fuzz_target!(|data: &[u8]| {
    let Some((&[role, a, b, c, d], mut script)) = data.split_first_chunk() else {
        return;
    };
    let (role, mask) = match role & 1 {
        0 => (Role::Server, Some([a, b, c, d])),
        _ => (Role::Client, None),
    };
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    while let Some((&[action, length], rest)) = script.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        script = rest;
        if let Some(close) = send(&mut bytes, &mut expected, action, payload, mask) {
            expected.push(close);
            break;
        }
    }
    let mut reader = MessageReader::new(role, MessageLimits::default());
    let size = usize::from(a) + 1;
    assert_eq!(read_inputs(&mut reader, bytes.chunks(size)), expected);
    assert!(reader.is_empty());
});

/// Encodes one event; a close, which is the last one, is returned.
fn send(
    bytes: &mut Vec<u8>,
    expected: &mut Vec<Event>,
    action: u8,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) -> Option<Event> {
    let text = String::from_utf8_lossy(payload);
    let short = &payload[..payload.len().min(125)];
    match action % 6 {
        0 => {
            encode_frame(bytes, Opcode::Text, text.as_bytes(), mask);
            expected.push(Event::Text(text.into_owned()));
        }
        1 => {
            encode_frame(bytes, Opcode::Binary, payload, mask);
            expected.push(Event::Binary(payload.to_vec()));
        }
        2 => {
            encode_frame(bytes, Opcode::Ping, short, mask);
            expected.push(Event::Ping(short.to_vec()));
        }
        3 => {
            let at = usize::from(action >> 3).min(text.len());
            let (first, last) = text.as_bytes().split_at(at);
            encode_fragment(bytes, false, Opcode::Text, first, mask);
            encode_frame(bytes, Opcode::Pong, short, mask);
            encode_fragment(bytes, true, Opcode::Continuation, last, mask);
            expected.push(Event::Pong(short.to_vec()));
            expected.push(Event::Text(text.into_owned()));
        }
        4 => {
            let code = 990 + u16::from(action) * 17;
            encode_close(bytes, code, &text, mask);
            return Some(expected_close(code, &text));
        }
        _ => {} // lets the fuzzer delete an action without shifting the rest
    }
    None
}

fn expected_close(code: u16, reason: &str) -> Event {
    if !is_sendable(code) {
        return Event::Close(1005, String::new());
    }
    let cut = |(at, character): (usize, char)| at + character.len_utf8() <= 123;
    let reason = reason.char_indices().take_while(|&it| cut(it));
    Event::Close(code, reason.map(|(_, character)| character).collect())
}

fn encode_fragment(
    bytes: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    piece: &[u8],
    mask: Option<[u8; 4]>,
) {
    encode_header(bytes, fin, opcode, piece.len() as u64, mask);
    let start = bytes.len();
    bytes.extend_from_slice(piece);
    if let Some(key) = mask {
        apply_mask(&mut bytes[start..], key, 0);
    }
}
