//! Any bytes from a peer: no panic, no memory beyond the limits, the same events however they are cut.
#![no_main]

#[path = "../../wire/tests/ws_events/mod.rs"]
mod ws_events;

use libfuzzer_sys::fuzz_target;
use wire::ws_frame::Role;
use wire::ws_message::{MessageLimits, MessageReader};
use ws_events::read_inputs;

const LIMITS: MessageLimits = MessageLimits {
    max_message_bytes: 4096,
    max_fragments: 16,
};

// The first byte chooses the role and the size of the pieces, so that the fuzzer can vary both.
fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else {
        return;
    };
    let role = if choice & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let size = usize::from(choice >> 1) % 40 + 1;
    let mut whole = MessageReader::new(role, LIMITS);
    let mut cut = MessageReader::new(role, LIMITS);
    let expected = read_inputs(&mut whole, [bytes]);
    assert_eq!(read_inputs(&mut cut, bytes.chunks(size)), expected);
    assert_eq!(whole.is_ended(), cut.is_ended());
    // Twice the message, because Vec doubles, and a ping.
    assert!(whole.held_bytes().max(cut.held_bytes()) <= 2 * LIMITS.max_message_bytes + 256);
});
