//! What must hold for all bytes: any cut gives the same events, what is encoded is decoded, nothing panics.

mod ws_events;

use proptest::collection::vec;
use proptest::prelude::*;
use wire::ws_close::{decode_close, encode_close, is_sendable};
use wire::ws_deflate::{
    DeflateOptions, DeflateParams, Deflater, InflaterPool, accept_extensions, check_agreement, check_extensions,
};
use wire::ws_frame::{
    MAX_HEADER_BYTES, Opcode, RSV1, Role, apply_mask, decode_header, encode_extended_header, encode_frame,
    encode_header,
};
use wire::ws_handshake::{Offer, accept_offer};
use wire::ws_message::{MessageLimits, MessageReader};
use ws_events::{Event, read_inputs};

const LIMITS: MessageLimits = MessageLimits { max_message_bytes: 4096, max_fragments: 8 };

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

/// The mask that the peer of `role` has to use.
fn peer_mask(role: Role, key: [u8; 4]) -> Option<[u8; 4]> {
    (role == Role::Server).then_some(key)
}

/// A message as its sender sees it: an event, and where to cut it into fragments.
fn messages() -> impl Strategy<Value = (Event, Vec<usize>)> {
    let text = "\\PC{0,40}".prop_map(Event::Text);
    let binary = vec(any::<u8>(), 0..600).prop_map(Event::Binary);
    prop_oneof![text, binary, pings()].prop_flat_map(|event| (Just(event), vec(0..64usize, 0..5)))
}

fn pings() -> impl Strategy<Value = Event> {
    (any::<bool>(), vec(any::<u8>(), 0..=125)).prop_map(|(is_ping, payload)| match is_ping {
        true => Event::Ping(payload),
        false => Event::Pong(payload),
    })
}

/// Encodes `event`, fragmented if it may be, with `between` after its first fragment.
fn encode(out: &mut Vec<u8>, event: &Event, cuts: &[usize], mask: Option<[u8; 4]>, between: &[u8]) {
    let (opcode, payload) = match event {
        Event::Text(text) => (Opcode::Text, text.as_bytes()),
        Event::Binary(bytes) => (Opcode::Binary, &bytes[..]),
        Event::Ping(bytes) => return encode_frame(out, Opcode::Ping, bytes, mask),
        Event::Pong(bytes) => return encode_frame(out, Opcode::Pong, bytes, mask),
        Event::Close(code, reason) => return encode_close(out, *code, reason, mask),
        Event::Failed(_) => return,
    };
    let mut rest = payload;
    for (index, &cut) in cuts.iter().enumerate() {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        let opcode = if index == 0 { opcode } else { Opcode::Continuation };
        encode_fragment(out, false, opcode, piece, mask);
        out.extend_from_slice(if index == 0 { between } else { b"" });
        rest = after;
    }
    let opcode = if cuts.is_empty() { opcode } else { Opcode::Continuation };
    encode_fragment(out, true, opcode, rest, mask);
}

fn encode_fragment(out: &mut Vec<u8>, fin: bool, opcode: Opcode, piece: &[u8], mask: Option<[u8; 4]>) {
    encode_header(out, fin, opcode, piece.len() as u64, mask);
    let start = out.len();
    out.extend_from_slice(piece);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// `bytes` cut into pieces of the given sizes, over and over.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.clamp(1, bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn read_whole_and_cut(role: Role, bytes: &[u8], sizes: &[usize]) -> (Vec<Event>, Vec<Event>) {
    let whole = read_inputs(&mut MessageReader::new(role, LIMITS), [bytes]);
    let pieces = read_inputs(&mut MessageReader::new(role, LIMITS), cut(bytes, sizes));
    (whole, pieces)
}

/// Bytes that look like frames often enough to get past the header.
fn frame_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => proptest::sample::select(vec![0x00u8, 0x80, 0x01, 0x81, 0x02, 0x82, 0x88, 0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let second = prop_oneof![8 => 0x80..0x8au8, 1 => any::<u8>()];
    let payload = prop_oneof![vec(any::<u8>(), 4..14), vec(0x20..0x7fu8, 4..14)];
    vec((first, second, payload), 0..12).prop_map(|frames| {
        let mut bytes = Vec::new();
        for (first, second, mut payload) in frames {
            payload[..4].fill(0); // the mask; text stays text
            bytes.extend([first, second]);
            payload.resize(4 + usize::from(second & 0x7f).min(20), b'x');
            bytes.append(&mut payload);
        }
        bytes
    })
}

/// A message that is compressed and cut into fragments; texts that have something to gain from it, too.
#[derive(Clone, Debug)]
struct Squeezed {
    event: Event,
    is_compressed: bool,
    cuts: Vec<usize>,
}

fn squeezed() -> impl Strategy<Value = Squeezed> {
    let text = ("\\PC{0,12}", 0..200usize).prop_map(|(text, times)| Event::Text(text.repeat(times)));
    let binary = vec(any::<u8>(), 0..300).prop_map(Event::Binary);
    (prop_oneof![text, binary], any::<bool>(), vec(0..40usize, 0..4))
        .prop_map(|(event, is_compressed, cuts)| Squeezed { event, is_compressed, cuts })
}

fn deflating_reader(role: Role, keeps_context: bool) -> MessageReader {
    let params = DeflateParams {
        server_no_context_takeover: !keeps_context,
        client_no_context_takeover: !keeps_context,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let limits = MessageLimits { max_message_bytes: 8192, max_fragments: 8 };
    MessageReader::with_deflate(role, limits, &params, InflaterPool::new())
}

fn encode_squeezed(
    out: &mut Vec<u8>,
    message: &Squeezed,
    deflater: &mut Deflater,
    mask: Option<[u8; 4]>,
    between: &[u8],
) {
    let (opcode, payload) = match &message.event {
        Event::Text(text) => (Opcode::Text, text.as_bytes()),
        Event::Binary(bytes) => (Opcode::Binary, &bytes[..]),
        _ => return,
    };
    let mut compressed = Vec::new();
    let mut rest = if message.is_compressed {
        deflater.compress(payload, &mut compressed);
        &compressed[..]
    } else {
        payload
    };
    for index in 0..=message.cuts.len() {
        let cut = message.cuts.get(index).map_or(rest.len(), |&cut| cut.min(rest.len()));
        let (piece, after) = rest.split_at(cut);
        let fin = index == message.cuts.len();
        let (opcode, rsv) = if index == 0 { (opcode, RSV1) } else { (Opcode::Continuation, 0) };
        let rsv = if message.is_compressed { rsv } else { 0 };
        encode_extended_header(out, fin, rsv, opcode, piece.len() as u64, mask);
        let start = out.len();
        out.extend_from_slice(piece);
        if let Some(key) = mask {
            apply_mask(&mut out[start..], key, 0);
        }
        out.extend_from_slice(if fin { b"" } else { between });
        rest = after;
    }
}

/// Deflate blocks of all kinds, whole and broken, in frames with RSV1.
fn deflate_like_bytes() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![
        Just(vec![0x00, 0x00, 0x00, 0xff, 0xff]),
        Just(vec![0x03, 0x00]),
        Just(vec![0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        Just(vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        Just(vec![0xf2, 0x00, 0x11, 0x00, 0x00]),
        Just(vec![0x00, 0x02, 0x00, 0xfd, 0xff, 0xc3, 0xa9]),
        Just(vec![0x00]),
        "[ab]{0,9}".prop_map(|text| {
            let mut out = Vec::new();
            Deflater::new(6, 15).compress(text.repeat(2000).as_bytes(), &mut out);
            out.extend([0x00, 0x00, 0xff, 0xff]);
            out
        }),
        vec(any::<u8>(), 0..6),
    ];
    let first = proptest::sample::select(vec![0xc1u8, 0xc2, 0x41, 0x42, 0x80, 0x00, 0x89, 0x81]);
    vec((first, vec(block, 0..4)), 0..6).prop_map(|frames| {
        let mut bytes = Vec::new();
        for (first, blocks) in frames {
            let mut payload = blocks.concat();
            payload.truncate(125);
            bytes.extend([first, payload.len() as u8]);
            bytes.append(&mut payload);
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_both_roles_and_any_cut(
        role in roles(), key: [u8; 4], sent in vec(messages(), 0..6), ping in pings(), sizes in vec(1..50usize, 1..8),
    ) {
        let mask = peer_mask(role, key);
        let (mut bytes, mut between) = (Vec::new(), Vec::new());
        encode(&mut between, &ping, &[], mask, b"");
        let mut expected = Vec::new();
        for (event, cuts) in &sent {
            encode(&mut bytes, event, cuts, mask, &between);
            if !cuts.is_empty() && matches!(event, Event::Text(_) | Event::Binary(_)) {
                expected.push(ping.clone());
            }
            expected.push(event.clone());
        }
        let (whole, pieces) = read_whole_and_cut(role, &bytes, &sizes);
        prop_assert_eq!(&whole, &expected);
        prop_assert_eq!(&pieces, &expected);
    }

    #[test]
    fn random_bytes_give_the_same_events_however_cut(
        role in roles(), bytes in vec(any::<u8>(), 0..200), sizes in vec(1..20usize, 1..6),
    ) {
        let (whole, pieces) = read_whole_and_cut(role, &bytes, &sizes);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn almost_frames_give_the_same_events_however_cut(bytes in frame_like_bytes(), sizes in vec(1..20usize, 1..6)) {
        let (whole, pieces) = read_whole_and_cut(Role::Server, &bytes, &sizes);
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn compressed_messages_survive_both_roles_and_any_cut(
        role in roles(), key: [u8; 4], sent in vec(squeezed(), 0..6), ping in pings(), sizes in vec(1..50usize, 1..8),
        keeps_context: bool, level in 1..=9u8, bits in 8..=15u8,
    ) {
        let mask = peer_mask(role, key);
        let mut deflater = Deflater::new(level, bits);
        let (mut bytes, mut between, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        encode(&mut between, &ping, &[], mask, b"");
        for message in &sent {
            encode_squeezed(&mut bytes, message, &mut deflater, mask, &between);
            expected.extend(message.cuts.iter().map(|_| ping.clone()));
            expected.push(message.event.clone());
            if !keeps_context {
                deflater.reset();
            }
        }
        for pieces in [vec![&bytes[..]], cut(&bytes, &sizes)] {
            let mut reader = deflating_reader(role, keeps_context);
            prop_assert_eq!(&read_inputs(&mut reader, pieces), &expected);
            prop_assert!(reader.is_empty() && reader.held_bytes() == 0);
        }
    }

    #[test]
    fn damaged_compression_gives_the_same_events_however_cut(
        sent in vec(squeezed(), 1..4), sizes in vec(1..30usize, 1..8), keeps_context: bool,
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Vec::new();
        let mut deflater = Deflater::new(6, 15);
        for message in &sent {
            encode_squeezed(&mut bytes, message, &mut deflater, None, b"");
        }
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let whole = read_inputs(&mut deflating_reader(Role::Client, keeps_context), [&bytes[..]]);
        let pieces = read_inputs(&mut deflating_reader(Role::Client, keeps_context), cut(&bytes, &sizes));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn almost_deflate_gives_the_same_events_however_cut(
        bytes in deflate_like_bytes(), sizes in vec(1..20usize, 1..6), keeps_context: bool,
    ) {
        let whole = read_inputs(&mut deflating_reader(Role::Client, keeps_context), [&bytes[..]]);
        let pieces = read_inputs(&mut deflating_reader(Role::Client, keeps_context), cut(&bytes, &sizes));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn any_extensions_are_answered(
        value in prop_oneof![
            "[a-z;,=\"\\\\ \t0-9-]{0,40}",
            "permessage-deflate(; ?(server|client)_(max_window_bits|no_context_takeover)(=\"?[0-9]{1,2}\"?)?){0,4}",
            "\\PC{0,20}",
        ],
        context_takeover: bool, window_bits in 9..=15u8,
    ) {
        let options = DeflateOptions { context_takeover, window_bits, ..DeflateOptions::default() };
        let values: [&[u8]; 1] = [value.as_bytes()];
        let found = accept_extensions(&values, &options);
        prop_assert_eq!(check_extensions(&values).is_err(), found.is_err());
        if let Ok(Some(agreement)) = found {
            prop_assert!(agreement.params.server_max_window_bits <= window_bits);
            prop_assert_eq!(check_extensions(&[agreement.answer.as_bytes()]), Ok(()));
        }
        let _ = check_agreement(&values, Some(&options));
    }

    #[test]
    fn text_passes_exactly_if_it_is_utf8(
        payload in prop_oneof![vec(any::<u8>(), 0..12), vec(0xc0..=0xf5u8, 0..4), "\\PC{0,9}".prop_map(String::into_bytes)],
        broken in any::<proptest::sample::Index>(), sizes in vec(1..5usize, 1..4), cuts in vec(0..4usize, 0..4),
    ) {
        let mut damaged = payload.clone();
        damaged.truncate(broken.index(payload.len() + 1));
        for payload in [payload, damaged] {
            let mut bytes = Vec::new();
            encode(&mut bytes, &Event::Binary(payload.clone()), &cuts, Some([9, 8, 7, 6]), b"");
            bytes[0] = bytes[0] & 0xf0 | 1;
            let expected = match String::from_utf8(payload) {
                Ok(text) => Event::Text(text),
                Err(_) => Event::Failed(1007),
            };
            let (whole, pieces) = read_whole_and_cut(Role::Server, &bytes, &sizes);
            prop_assert_eq!(&whole, std::slice::from_ref(&expected));
            prop_assert_eq!(&pieces, &[expected]);
        }
    }

    #[test]
    fn headers_survive_both_roles(role in roles(), key: [u8; 4], fin: bool, length in prop_oneof![0..200u64, 0..1u64 << 17, 0..1u64 << 63]) {
        let mut out = Vec::new();
        encode_header(&mut out, fin, Opcode::Binary, length, peer_mask(role, key));
        prop_assert!(out.len() <= MAX_HEADER_BYTES);
        let (used, header) = decode_header(&out, role).unwrap().unwrap();
        prop_assert_eq!(used, out.len());
        prop_assert_eq!((header.fin, header.length, header.mask), (fin, length, peer_mask(role, key)));
    }

    #[test]
    fn mask_equals_the_naive_mask(data in vec(any::<u8>(), 0..300), key: [u8; 4], offset: usize, start in 0..16usize) {
        let start = start.min(data.len()); // words that begin at any address
        let mut masked = data.clone();
        apply_mask(&mut masked[start..], key, offset);
        for (index, (masked, plain)) in masked.iter().zip(&data).enumerate() {
            let expected = match index.checked_sub(start) {
                Some(at) => plain ^ key[(at % 4 + offset % 4) % 4],
                None => *plain,
            };
            prop_assert_eq!(*masked, expected);
        }
    }

    #[test]
    fn masking_in_pieces_equals_masking_at_once(data in vec(any::<u8>(), 0..100), key: [u8; 4], at in any::<proptest::sample::Index>()) {
        let at = at.index(data.len() + 1);
        let (mut once, mut pieces) = (data.clone(), data);
        apply_mask(&mut once, key, 0);
        apply_mask(&mut pieces[..at], key, 0);
        apply_mask(&mut pieces[at..], key, at);
        prop_assert_eq!(once, pieces);
    }

    #[test]
    fn closes_survive_and_are_always_short(code: u16, reason in "\\PC{0,80}") {
        let mut out = Vec::new();
        encode_close(&mut out, code, &reason, None);
        prop_assert!(out.len() <= 127 && out.len() == 2 + usize::from(out[1]));
        let (decoded, cut) = decode_close(&out[2..]).unwrap();
        match is_sendable(code) {
            true => prop_assert!(decoded == code && reason.starts_with(cut) && (cut == reason || cut.len() > 119)),
            false => prop_assert_eq!((decoded, cut), (1005, "")),
        }
    }

    #[test]
    fn any_offer_is_answered(key in vec(any::<u8>(), 0..30), list in vec(any::<u8>(), 0..30), base64 in "[A-Za-z0-9+/]{22}==") {
        for key in [&key[..], base64.as_bytes()] {
            let offer = Offer { version: Some(b"13"), key: Some(key), protocols: &[&list] };
            if let Err(refusal) = accept_offer(&offer) {
                prop_assert_eq!(refusal.status, 400);
            }
        }
    }
}
