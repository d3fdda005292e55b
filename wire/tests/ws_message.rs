//! Messages and control frames out of frames: what the playbooks cannot say (copies, memory, ends).

mod ws_events;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wire::error::WsRefusal;
use wire::ws_frame::{Opcode, Role, encode_frame, encode_header};
use wire::ws_message::{Incoming, MessageLimits, MessageReader, Payload};
use ws_events::{Event, read_inputs};

const KEY: Option<[u8; 4]> = Some([0xa1, 0x02, 0xc3, 0x04]);

fn server() -> MessageReader {
    MessageReader::new(Role::Server, MessageLimits::default())
}

fn limited(max_message_bytes: usize, max_fragments: u32) -> MessageReader {
    MessageReader::new(Role::Server, MessageLimits { max_message_bytes, max_fragments })
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame(&mut out, opcode, payload, KEY);
    out
}

fn fragment(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = frame(opcode, payload);
    if !fin {
        out[0] &= 0x7f;
    }
    out
}

fn announce(fin: bool, opcode: Opcode, length: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_header(&mut out, fin, opcode, length, Some([0; 4]));
    out
}

fn is_borrowed(event: &Incoming) -> bool {
    matches!(
        event,
        Incoming::Text(Payload::Borrowed(_))
            | Incoming::Binary(Payload::Borrowed(_))
            | Incoming::Ping(Payload::Borrowed(_))
            | Incoming::Pong(Payload::Borrowed(_))
    )
}

#[test]
fn messages_that_lie_in_the_input_are_not_copied() {
    for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong] {
        let mut input = frame(opcode, b"payload");
        let mut reader = server();
        let (used, event) = reader.read(&mut input).unwrap();
        assert_eq!(used, 13);
        assert!(is_borrowed(&event.unwrap()), "{opcode:?}");
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn a_header_cut_in_two_does_not_cost_the_copy() {
    let mut input = frame(Opcode::Text, b"payload");
    let mut reader = server();
    let (first, second) = input.split_at_mut(3);
    assert!(matches!(reader.read(first), Ok((3, None))));
    assert!(is_borrowed(&reader.read(second).unwrap().1.unwrap()));
}

#[test]
fn many_messages_in_one_input_come_one_by_one() {
    let mut input = [frame(Opcode::Text, b"a"), frame(Opcode::Ping, b""), frame(Opcode::Binary, b"b")].concat();
    let length = input.len();
    let mut reader = server();
    let (used, event) = reader.read(&mut input).unwrap();
    assert_eq!((used, event.map(Event::from)), (7, Some(Event::Text("a".into()))));
    let (used, event) = reader.read(&mut input[7..]).unwrap();
    assert_eq!((used, event.map(Event::from)), (6, Some(Event::Ping(vec![]))));
    let (used, event) = reader.read(&mut input[13..]).unwrap();
    assert_eq!((used, event.map(Event::from)), (length - 13, Some(Event::Binary(b"b".into()))));
    assert!(matches!(reader.read(&mut []), Ok((0, None))));
}

#[test]
fn payload_gives_its_bytes_either_way() {
    assert_eq!(Payload::Borrowed(b"ab").into_vec(), b"ab");
    assert_eq!(Payload::Owned(b"ab".to_vec()).into_vec(), b"ab");
    assert_eq!(Payload::Owned(b"ab".to_vec()).as_ref(), b"ab");
}

#[test]
fn a_reader_is_empty_only_between_messages() {
    let mut reader = server();
    assert!(reader.is_empty());
    let mut steps = vec![
        (fragment(false, Opcode::Text, b"a"), false),
        (frame(Opcode::Ping, b""), false),
        (fragment(true, Opcode::Continuation, b"b"), true),
        (frame(Opcode::Text, b"a")[..1].to_vec(), false),
        (frame(Opcode::Text, b"a")[1..].to_vec(), true),
    ];
    for (input, is_empty) in &mut steps {
        reader.read(input).unwrap();
        assert_eq!(reader.is_empty(), *is_empty);
    }
}

#[test]
fn after_an_error_the_same_error_comes_for_ever() {
    let mut reader = server();
    let refusal: WsRefusal = reader.read(&mut frame(Opcode::Continuation, b"x")).map(drop).unwrap_err();
    assert_eq!(refusal.code, 1002);
    for _ in 0..3 {
        assert_eq!(reader.read(&mut frame(Opcode::Text, b"fine")).map(drop), Err(refusal));
        assert_eq!(reader.read(&mut []).map(drop), Err(refusal));
    }
    assert!(reader.is_ended() && !reader.is_empty());
}

#[test]
fn after_a_close_everything_is_thrown_away() {
    let mut input = [frame(Opcode::Close, b"\x03\xe8"), frame(Opcode::Text, b"late")].concat();
    let mut reader = server();
    let (used, event) = reader.read(&mut input).unwrap();
    assert_eq!(event.map(Event::from), Some(Event::Close(1000, String::new())));
    assert!(reader.is_ended() && reader.is_empty());
    assert!(matches!(reader.read(&mut input[used..]), Ok((10, None))));
    assert!(matches!(reader.read(&mut [0xff; 64]), Ok((64, None))), "garbage is not even looked at");
}

#[test]
fn errors_and_closes_let_go_of_the_memory() {
    for last in [vec![0xff], frame(Opcode::Close, b"")] {
        let mut reader = server();
        read_inputs(&mut reader, [&fragment(false, Opcode::Binary, &[7; 5000])[..]]);
        assert!(reader.held_bytes() >= 5000);
        read_inputs(&mut reader, [&last[..]]);
        assert!(reader.is_ended());
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn a_finished_message_leaves_no_memory_behind() {
    let mut reader = server();
    let whole = frame(Opcode::Binary, &[7; 100_000]);
    assert_eq!(read_inputs(&mut reader, whole.chunks(4096)), [Event::Binary(vec![7; 100_000])]);
    assert_eq!(reader.held_bytes(), 0);
}

#[test]
fn announced_length_takes_no_memory() {
    let mut reader = server();
    let mut input = announce(true, Opcode::Binary, 16 << 20);
    reader.read(&mut input).unwrap();
    assert_eq!(reader.held_bytes(), 0);
    reader.read(&mut [1]).unwrap();
    assert!(reader.held_bytes() <= 64 * 1024, "{}", reader.held_bytes());
}

#[test]
fn memory_doubles_with_what_arrives_and_ends_at_the_announced_length() {
    let (length, mut reader) = (3 << 20, server());
    reader.read(&mut announce(true, Opcode::Text, length as u64)).unwrap();
    let (mut arrived, mut sizes) = (0, BTreeSet::new());
    while arrived < length {
        let mut piece = vec![b'a'; 1000.min(length - arrived)];
        arrived += piece.len();
        let (_, event) = reader.read(&mut piece).unwrap();
        if let Some(Incoming::Text(Payload::Owned(bytes))) = event {
            assert_eq!((bytes.len(), bytes.capacity()), (length, length));
            assert!(sizes.len() < 12, "moved too often: {sizes:?}");
            return;
        }
        assert!(reader.held_bytes() <= length.min(2 * arrived + 64 * 1024));
        sizes.insert(reader.held_bytes());
    }
    panic!("no message");
}

#[test]
fn too_long_a_message_is_refused_at_its_header() {
    for input in [announce(true, Opcode::Text, 11), announce(false, Opcode::Binary, 1 << 40)] {
        assert_eq!(read_inputs(&mut limited(10, 9), [&input[..]]), [Event::Failed(1009)]);
    }
    let input = frame(Opcode::Binary, &[0; 10]);
    assert_eq!(read_inputs(&mut limited(10, 9), [&input[..]]), [Event::Binary(vec![0; 10])]);
}

#[test]
fn fragments_count_together_against_the_length() {
    let start = fragment(false, Opcode::Binary, &[0; 6]);
    let fits = [start.clone(), fragment(true, Opcode::Continuation, &[0; 4])].concat();
    assert_eq!(read_inputs(&mut limited(10, 9), [&fits[..]]), [Event::Binary(vec![0; 10])]);
    let exceeds = [start, announce(false, Opcode::Continuation, 5)].concat();
    assert_eq!(read_inputs(&mut limited(10, 9), [&exceeds[..]]), [Event::Failed(1009)]);
}

#[test]
fn control_frames_do_not_count_against_the_limits() {
    let input = [
        fragment(false, Opcode::Binary, &[0; 10]),
        frame(Opcode::Ping, &[1; 100]),
        fragment(true, Opcode::Continuation, b""),
    ]
    .concat();
    let expected = [Event::Ping(vec![1; 100]), Event::Binary(vec![0; 10])];
    assert_eq!(read_inputs(&mut limited(10, 2), [&input[..]]), expected);
}

#[test]
fn empty_fragments_count() {
    let start = fragment(false, Opcode::Text, b"");
    let more = fragment(false, Opcode::Continuation, b"");
    let end = fragment(true, Opcode::Continuation, b"");
    let three = [&start[..], &more, &end];
    assert_eq!(read_inputs(&mut limited(10, 3), three), [Event::Text(String::new())]);
    let four = [&start[..], &more, &more, &end];
    assert_eq!(read_inputs(&mut limited(10, 3), four), [Event::Failed(1008)]);
}

#[test]
fn each_message_has_its_own_allowance() {
    let one = [fragment(false, Opcode::Text, b"aaaaa"), fragment(true, Opcode::Continuation, b"bbbbb")].concat();
    let events = read_inputs(&mut limited(10, 2), [&one[..], &one, &one]);
    assert_eq!(events, vec![Event::Text("aaaaabbbbb".into()); 3]);
}

// Every fragment ends inside a character: what was checked once must not be checked again each time.
#[test]
fn half_a_million_fragments_stay_linear() {
    let mut input = fragment(false, Opcode::Text, b"\xc3");
    for _ in 0..500_000 {
        input.extend_from_slice(&fragment(false, Opcode::Continuation, b"\xa9\xc3"));
    }
    input.extend_from_slice(&fragment(true, Opcode::Continuation, b"\xa9"));
    let start = Instant::now();
    let events = read_inputs(&mut server(), input.chunks(1 << 16));
    assert_eq!(events, [Event::Text("é".repeat(500_001))]);
    assert!(start.elapsed() < Duration::from_secs(5));
}
