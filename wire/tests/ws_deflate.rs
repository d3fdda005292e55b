//! Compressed messages: what the playbooks cannot say (compressors, memory, bombs, many messages).

mod ws_events;
mod ws_reach;

use std::time::{Duration, Instant};

use wire::ws_deflate::{DeflateParams, Deflater, InflaterPool};
use wire::ws_frame::{Opcode, RSV1, Role, encode_extended_header, encode_frame};
use wire::ws_message::{INFLATE_PER_CALL_BYTES, Incoming, MessageLimits, MessageReader, Payload};
use ws_events::{Event, read_inputs};
use ws_reach::inflate_slowly;

const LIMITS: MessageLimits = MessageLimits { max_message_bytes: 1 << 20, max_fragments: 1 << 20 };

fn params(keeps_context: bool, bits: u8) -> DeflateParams {
    DeflateParams {
        server_no_context_takeover: !keeps_context,
        client_no_context_takeover: !keeps_context,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    }
}

fn client(keeps_context: bool) -> MessageReader {
    MessageReader::with_deflate(Role::Client, LIMITS, &params(keeps_context, 15), InflaterPool::new())
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    fragment(true, RSV1, opcode, payload)
}

fn fragment(fin: bool, rsv: u8, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_extended_header(&mut out, fin, rsv, opcode, payload.len() as u64, None);
    out.extend_from_slice(payload);
    out
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(9, 15).compress(payload, &mut out);
    out
}

/// Words with repetitions near and far, and a little noise.
fn prose(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    let mut out = Vec::new();
    while out.len() < length {
        match next() % 4 {
            0 => out.extend_from_slice(format!("{:x} ", next()).as_bytes()),
            1 => out.extend_from_slice(&b"the quick brown fox "[next() % 16..]),
            2 => out.extend(std::iter::repeat_n(b'a' + (next() % 26) as u8, next() % 300)),
            _ => {
                let back = (next() % 40_000).min(out.len());
                let start = out.len() - back;
                out.extend_from_within(start..start + back.min(next() % 400));
            }
        }
    }
    out.truncate(length);
    out
}

#[test]
fn a_reader_is_small_while_it_is_idle() {
    // Thousands of them wait. Inflaters (40 KiB) and messages are elsewhere, and only while they are needed.
    assert!(size_of::<MessageReader>() <= 128, "{}", size_of::<MessageReader>());
}

#[test]
fn what_is_compressed_is_inflated_at_every_level_and_window() {
    let text = prose(100_000, 1);
    for level in 1..=9 {
        for bits in 8..=15 {
            let mut deflater = Deflater::new(level, bits);
            let mut reader = client(true);
            for payload in [&text[..], b"", b"x", &text[..50_000], b"", &[7; 1000]] {
                let mut compressed = b"before".to_vec();
                deflater.compress(payload, &mut compressed);
                let input = frame(Opcode::Binary, &compressed[6..]);
                let events = read_inputs(&mut reader, input.chunks(4096));
                assert!(events == [Event::Binary(payload.to_vec())], "level {level}, {bits} bits");
            }
        }
    }
}

#[test]
fn examples_of_the_rfc_are_what_we_make() {
    let mut deflater = Deflater::new(6, 15);
    let mut compress = |payload: &[u8]| {
        let mut out = Vec::new();
        deflater.compress(payload, &mut out);
        out
    };
    assert_eq!(compress(b"Hello"), [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    assert_eq!(compress(b"Hello"), [0xf2, 0x00, 0x11, 0x00, 0x00]);
    assert_eq!(compress(b""), [0x00]);
    deflater.reset();
    let mut out = Vec::new();
    deflater.compress(b"Hello", &mut out);
    assert_eq!(out, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
}

// zlib has no window of 256 bytes, so a server that is asked for one (server_max_window_bits=8) uses 512. This is why
// it may: it never reaches back further than 512 - 262 bytes. The same of all windows, so that nobody is surprised.
#[test]
fn no_compressor_reaches_further_back_than_agreed() {
    let mut sources = vec![prose(60_000, 2), prose(60_000, 3), vec![b'a'; 5000]];
    for period in [100, 200, 249, 250, 251, 255, 256, 257, 258, 300, 400, 511, 512, 513] {
        sources.push(prose(period, period as u64).repeat(5000 / period));
    }
    for level in 1..=9 {
        for bits in 8..=15 {
            let (mut deflater, mut farthest) = (Deflater::new(level, bits), 0);
            for source in &sources {
                deflater.reset();
                let (mut stream, mut expected) = (Vec::new(), Vec::new());
                for message in source.chunks(1500) {
                    deflater.compress(message, &mut stream);
                    stream.extend_from_slice(&[0, 0, 0xff, 0xff]);
                    expected.extend_from_slice(message);
                }
                let (found, reach) = inflate_slowly(&stream);
                assert!(found == expected, "level {level}, {bits} bits");
                farthest = farthest.max(reach);
            }
            assert!(farthest <= (1 << bits.max(9)) - 262, "level {level}, {bits} bits reach {farthest}");
            assert!(farthest <= 1 << bits, "level {level}, {bits} bits reach {farthest}");
            assert!(bits < 10 || farthest > 256, "the sources tempt it: {farthest}");
        }
    }
}

#[test]
fn context_is_kept_in_both_directions_over_many_messages() {
    for (role, mask) in [(Role::Client, None), (Role::Server, Some([1, 2, 3, 4]))] {
        let mut reader = MessageReader::with_deflate(role, LIMITS, &params(true, 10), InflaterPool::new());
        let mut deflater = Deflater::new(6, 10);
        let mut sizes = Vec::new();
        for number in 0..2000 {
            let text = format!("{{\"kind\": \"measurement\", \"number\": {number}, \"unit\": \"kelvin\"}}");
            let mut compressed = Vec::new();
            deflater.compress(text.as_bytes(), &mut compressed);
            sizes.push(compressed.len());
            let mut input = Vec::new();
            encode_frame(&mut input, Opcode::Text, &compressed, mask);
            input[0] |= RSV1 << 4;
            assert_eq!(read_inputs(&mut reader, [&input[..]]), [Event::Text(text)]);
        }
        assert!(sizes[1..].iter().all(|&size| size < sizes[0] / 2), "{sizes:?}");
    }
}

#[test]
fn without_context_every_message_stands_alone() {
    let pool = InflaterPool::new();
    let (mut one, mut two) = (
        MessageReader::with_deflate(Role::Client, LIMITS, &params(false, 15), pool.clone()),
        MessageReader::with_deflate(Role::Client, LIMITS, &params(false, 15), pool),
    );
    let input = frame(Opcode::Text, &deflate(b"over and over and over"));
    let (first, second) = input.split_at(7);
    for _ in 0..10 {
        // Both are inside a message at once, and share what there is.
        assert_eq!(read_inputs(&mut one, [first]), []);
        assert_eq!(read_inputs(&mut two, [first]), []);
        assert_eq!(read_inputs(&mut one, [second]), [Event::Text("over and over and over".into())]);
        assert_eq!(read_inputs(&mut two, [second]), [Event::Text("over and over and over".into())]);
    }
}

#[test]
fn a_borrowed_inflater_comes_back_clean() {
    let pool = InflaterPool::new();
    let reader = || MessageReader::with_deflate(Role::Client, LIMITS, &params(false, 15), pool.clone());
    let whole = frame(Opcode::Text, &deflate(b"whole"));
    // Dropped inside a message, closed inside one, failed inside one: the next borrower does not notice.
    for end in [&b""[..], b"\x88\x00", b"\xff"] {
        let mut broken = reader();
        read_inputs(&mut broken, [&fragment(false, RSV1, Opcode::Text, &deflate(b"broken off")[..5])[..], end]);
        drop(broken);
        assert_eq!(read_inputs(&mut reader(), [&whole[..]]), [Event::Text("whole".into())]);
    }
}

#[test]
fn messages_that_are_not_compressed_are_still_not_copied() {
    let mut reader = client(true);
    let mut input = fragment(true, 0, Opcode::Text, b"payload");
    assert!(matches!(reader.read(&mut input), Ok((9, Some(Incoming::Text(Payload::Borrowed(b"payload")))))));
}

#[test]
fn bombs_are_refused_at_the_cap() {
    for keeps_context in [true, false] {
        let bomb = frame(Opcode::Binary, &deflate(&vec![0; 64 << 20]));
        assert!(bomb.len() < (64 << 20) / 1000);
        let mut reader = client(keeps_context);
        let mut most = 0;
        let mut used = 0;
        let mut input = bomb.clone();
        let refusal = loop {
            match reader.read(&mut input[used..]) {
                Ok((taken, event)) => {
                    assert!(event.is_none());
                    used += taken;
                }
                Err(refusal) => break refusal,
            }
            most = most.max(reader.held_bytes());
        };
        assert_eq!(refusal.code, 1009);
        assert!(refusal.reason.len() <= 123 && refusal.reason.contains("max_message_bytes"), "{}", refusal.reason);
        assert!(most <= LIMITS.max_message_bytes + 1, "{most}");
        assert!(used < bomb.len() / 32, "most of it was not even looked at: {used}");
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn the_longest_message_is_taken() {
    let whole = vec![b'a'; LIMITS.max_message_bytes];
    for (length, expected) in [(whole.len(), Event::Binary(whole.clone())), (whole.len() + 1, Event::Failed(1009))] {
        let input = frame(Opcode::Binary, &deflate(&vec![b'a'; length]));
        assert!(read_inputs(&mut client(false), [&input[..]]) == [expected]);
    }
}

#[test]
fn the_largest_limit_is_no_trap() {
    let limits = MessageLimits { max_message_bytes: usize::MAX, max_fragments: 9 };
    let mut reader = MessageReader::with_deflate(Role::Client, limits, &params(false, 15), InflaterPool::new());
    assert_eq!(read_inputs(&mut reader, [&frame(Opcode::Text, &deflate(b"fine"))[..]]), [Event::Text("fine".into())]);
    let mut header = Vec::new();
    encode_extended_header(&mut header, false, RSV1, Opcode::Binary, i64::MAX as u64, None);
    assert_eq!(read_inputs(&mut reader, [&header[..]]), []);
}

#[test]
fn one_call_inflates_a_bounded_amount() {
    for role in [Role::Client, Role::Server] {
        let payload = prose(1 << 19, 5).into_iter().chain(vec![0; 1 << 19]).collect::<Vec<u8>>();
        let mask = (role == Role::Server).then_some([0x11, 0x22, 0x33, 0x44]);
        let mut input = Vec::new();
        encode_frame(&mut input, Opcode::Binary, &deflate(&payload), mask);
        input[0] |= RSV1 << 4;
        input.extend_from_slice(b"left alone");
        let mut reader = MessageReader::with_deflate(role, LIMITS, &params(false, 15), InflaterPool::new());
        let (mut used, mut before, mut calls) = (0, 0, 0);
        let message = loop {
            let (taken, event) = reader.read(&mut input[used..]).unwrap();
            used += taken;
            calls += 1;
            if let Some(event) = event {
                break Event::from(event);
            }
            assert!(reader.held_bytes() - before <= 4 * INFLATE_PER_CALL_BYTES);
            assert!(!reader.is_empty());
            before = reader.held_bytes();
        };
        assert!(message == Event::Binary(payload));
        assert!(calls >= (1 << 20) / INFLATE_PER_CALL_BYTES, "{calls}");
        assert_eq!(&input[used..], b"left alone");
    }
}

#[test]
fn what_is_held_back_comes_out_without_input() {
    let mut input = frame(Opcode::Binary, &deflate(&vec![0; 1 << 20]));
    let mut reader = client(true);
    let (mut used, mut calls_without_input) = (0, 0);
    loop {
        let (taken, event) = reader.read(&mut input[used..]).unwrap();
        used += taken;
        if let Some(event) = event {
            assert!(Event::from(event) == Event::Binary(vec![0; 1 << 20]));
            break;
        }
        if used == input.len() {
            assert!(reader.has_more(), "it would wait for ever");
            calls_without_input += 1;
        }
    }
    // All 1 KiB of it fits into the first piece, so the frame was complete long before the message.
    assert!(!reader.has_more() && reader.is_empty());
    assert!(calls_without_input <= 4);
}

#[test]
fn nothing_comes_between_the_bytes_of_a_frame() {
    let mut reader = client(false);
    let compressed = deflate(b"hello, hello");
    let mut first = fragment(false, RSV1, Opcode::Text, &compressed[..6]);
    let mut last = fragment(true, 0, Opcode::Continuation, &compressed[6..]);
    assert!(!reader.is_mid_frame());
    reader.read(&mut first[..1]).unwrap();
    assert!(!reader.is_mid_frame(), "only half a header");
    reader.read(&mut first[1..4]).unwrap();
    assert!(reader.is_mid_frame());
    reader.read(&mut first[4..]).unwrap();
    assert!(!reader.is_mid_frame() && !reader.is_empty(), "between fragments a pong may come");
    assert!(reader.read(&mut last).unwrap().1.is_some());
    assert!(!reader.is_mid_frame() && reader.is_empty());
    for input in [fragment(true, 0, Opcode::Ping, b"abc"), fragment(true, 0, Opcode::Binary, b"abc")] {
        read_inputs(&mut reader, [&input[..3]]);
        assert!(reader.is_mid_frame());
        read_inputs(&mut reader, [&input[3..]]);
        assert!(!reader.is_mid_frame());
    }
}

#[test]
fn one_call_reads_a_bounded_amount_of_what_inflates_to_nothing() {
    for (block, most) in [(&[0x00, 0x00, 0x00, 0xff, 0xff][..], 40_000), (&[0x03, 0x00], 600)] {
        let mut input = fragment(false, RSV1, Opcode::Text, &block.repeat((1 << 16) / block.len()));
        let mut reader = client(false);
        let (mut used, mut calls) = (0, 0);
        while used < input.len() {
            let (taken, event) = reader.read(&mut input[used..]).unwrap();
            assert!(event.is_none() && (1..=most).contains(&taken), "{taken}");
            used += taken;
            calls += 1;
        }
        assert!(calls >= (1 << 16) / most);
    }
}

#[test]
fn blocks_of_nothing_cost_little() {
    let start = Instant::now();
    for block in [&[0x00, 0x00, 0x00, 0xff, 0xff][..], &[0x03, 0x00]] {
        let mut nothing = block.repeat(LIMITS.max_message_bytes / block.len());
        nothing.push(0);
        let input = frame(Opcode::Text, &nothing);
        let events = read_inputs(&mut client(false), input.chunks(1 << 16));
        assert_eq!(events, [Event::Text(String::new())]);
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_finished_message_holds_what_it_needs() {
    for payload in [&b"short"[..], &prose(50_000, 6)] {
        let mut input = frame(Opcode::Binary, &deflate(payload));
        let mut reader = client(true);
        let (_, Some(Incoming::Binary(Payload::Owned(bytes)))) = reader.read(&mut input).unwrap() else {
            panic!("no message");
        };
        assert!(bytes == payload && bytes.capacity() <= 2 * bytes.len());
    }
}

#[test]
fn corrupt_data_never_passes_for_the_message() {
    let payload = prose(3000, 7);
    let compressed = deflate(&payload);
    for at in 0..compressed.len() {
        // Cut off: without the rest there is no message, whatever comes after.
        let input = frame(Opcode::Binary, &compressed[..at]);
        let events = read_inputs(&mut client(false), [&input[..]]);
        assert!(events == [Event::Failed(1007)] || at == 0, "cut at {at}: {} events", events.len());
    }
}
