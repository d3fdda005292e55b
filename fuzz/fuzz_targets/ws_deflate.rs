//! Any compressed data from a peer: no panic, no memory beyond the limits, the same events however it is cut; and what
//! we compress comes back. The same bytes as Sec-WebSocket-Extensions: whatever is answered is well formed.
#![no_main]

#[path = "../../wire/tests/ws_events/mod.rs"]
mod ws_events;

use libfuzzer_sys::fuzz_target;
use wire::ws_deflate::{
    DeflateOptions, DeflateParams, Deflater, InflaterPool, accept_extensions, check_agreement,
    check_extensions,
};
use wire::ws_frame::{Opcode, RSV1, Role, apply_mask, encode_extended_header};
use wire::ws_message::{MessageLimits, MessageReader};
use ws_events::{Event, read_inputs};

const LIMITS: MessageLimits = MessageLimits {
    max_message_bytes: 1 << 19, // more than one call inflates
    max_fragments: 16,
};

// The first two bytes choose: who reads, whether context is kept, what the bytes are, the size of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((&[choice, size], bytes)) = data.split_first_chunk() else {
        return;
    };
    negotiate(bytes);
    let (role, mask) = match choice & 1 {
        0 => (Role::Server, Some([choice, size, 3, 4])),
        _ => (Role::Client, None),
    };
    let keeps_context = choice & 2 != 0;
    let opcode = if choice & 4 == 0 { Opcode::Text } else { Opcode::Binary };
    let mut stream = Vec::new();
    match choice >> 3 & 3 {
        0 => stream.extend_from_slice(bytes), // frames, if the fuzzer finds out how
        1 => encode(&mut stream, opcode, bytes, mask),
        _ => {
            // Two messages: the second meets what the first left behind.
            let (first, second) = bytes.split_at(usize::from(size).min(bytes.len()));
            encode(&mut stream, opcode, first, mask);
            encode(&mut stream, opcode, second, mask);
        }
    }
    let pool = InflaterPool::new();
    let mut whole = reader(role, keeps_context, &pool);
    let mut cut = reader(role, keeps_context, &pool);
    let expected = read_inputs(&mut whole, [&stream[..]]);
    let pieces = stream.chunks(usize::from(size) % 60 + 1);
    assert_eq!(read_inputs(&mut cut, pieces), expected);
    assert_eq!(whole.is_ended(), cut.is_ended());
    let held = whole.held_bytes().max(cut.held_bytes());
    assert!(held <= 2 * LIMITS.max_message_bytes + 256);
    // The pool has both inflaters back, or whatever became of them.
    roundtrip(&mut reader(role, keeps_context, &pool), bytes, choice, size, mask);
});

fn reader(role: Role, keeps_context: bool, pool: &InflaterPool) -> MessageReader {
    let params = DeflateParams {
        server_no_context_takeover: !keeps_context,
        client_no_context_takeover: !keeps_context,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    MessageReader::with_deflate(role, LIMITS, &params, pool.clone())
}

fn roundtrip(reader: &mut MessageReader, bytes: &[u8], level: u8, bits: u8, mask: Option<[u8; 4]>) {
    let mut deflater = Deflater::new(level % 9 + 1, bits % 8 + 8);
    for _ in 0..2 {
        let (mut payload, mut stream) = (Vec::new(), Vec::new());
        deflater.compress(bytes, &mut payload);
        encode(&mut stream, Opcode::Binary, &payload, mask);
        assert_eq!(read_inputs(reader, [&stream[..]]), [Event::Binary(bytes.to_vec())]);
        deflater.reset();
    }
}

fn encode(stream: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    encode_extended_header(stream, true, RSV1, opcode, payload.len() as u64, mask);
    let start = stream.len();
    stream.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut stream[start..], key, 0);
    }
}

fn negotiate(value: &[u8]) {
    let options = DeflateOptions::default();
    let answer = accept_extensions(&[value], &options);
    assert_eq!(answer.is_err(), check_extensions(&[value]).is_err());
    if let Ok(Some(agreement)) = answer {
        assert!(check_extensions(&[agreement.answer.as_bytes()]).is_ok());
    }
    let _ = check_agreement(&[value], Some(&options));
}
