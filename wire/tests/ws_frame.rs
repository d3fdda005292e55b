//! Frame headers and masking.

use wire::ws_frame::{
    FrameHeader, MAX_HEADER_BYTES, Opcode, RSV1, Role, apply_mask, decode_extended_header, decode_header, encode_frame,
    encode_header,
};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server says to an unfinished or refused header: `None` for "more", otherwise the code.
fn verdict(input: &[u8], role: Role) -> Result<Option<usize>, u16> {
    match decode_header(input, role) {
        Ok(found) => Ok(found.map(|(used, _)| used)),
        Err(refusal) => {
            assert!(refusal.reason.len() <= 123);
            Err(refusal.code)
        }
    }
}

fn header(length: u64, mask: Option<[u8; 4]>) -> FrameHeader {
    FrameHeader { fin: true, rsv: 0, opcode: Opcode::Binary, mask, length }
}

// RFC 6455 §5.7, the examples.
#[test]
fn the_examples_of_the_rfc_decode() {
    let unmasked = b"\x81\x05Hello";
    let (used, found) = decode_header(unmasked, Role::Client).unwrap().unwrap();
    assert_eq!((used, found.opcode, found.length, found.mask), (2, Opcode::Text, 5, None));

    let mut masked = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let (used, found) = decode_header(&masked, Role::Server).unwrap().unwrap();
    assert_eq!((used, found.length, found.mask), (6, 5, Some(KEY)));
    apply_mask(&mut masked[used..], KEY, 0);
    assert_eq!(&masked[used..], b"Hello");

    let (used, found) = decode_header(b"\x82\x7f\0\0\0\0\0\x01\0\0", Role::Client).unwrap().unwrap();
    assert_eq!((used, found.length), (10, 65536));
}

#[test]
fn the_examples_of_the_rfc_encode() {
    let mut out = Vec::new();
    encode_frame(&mut out, Opcode::Text, b"Hello", None);
    encode_frame(&mut out, Opcode::Text, b"Hello", Some(KEY));
    assert_eq!(out, b"\x81\x05Hello\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    out.clear();
    encode_header(&mut out, false, Opcode::Text, 3, None);
    encode_header(&mut out, true, Opcode::Continuation, 256, None);
    assert_eq!(out, b"\x01\x03\x80\x7e\x01\x00");
}

#[test]
fn every_length_takes_its_shortest_form_and_comes_back() {
    let cases = [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (i64::MAX as u64, 10)];
    for (length, size) in cases {
        for (mask, role) in [(None, Role::Client), (Some(KEY), Role::Server)] {
            let mut out = Vec::new();
            encode_header(&mut out, true, Opcode::Binary, length, mask);
            let size = size + if mask.is_some() { 4 } else { 0 };
            assert!(out.len() == size && size <= MAX_HEADER_BYTES);
            assert_eq!(decode_header(&out, role), Ok(Some((size, header(length, mask)))));
            for cut in 0..size {
                assert_eq!(decode_header(&out[..cut], role), Ok(None), "cut at {cut}");
            }
        }
    }
}

#[test]
fn lengths_in_a_longer_form_than_needed_are_refused() {
    assert_eq!(verdict(b"\x82\x7e\x00\x7d", Role::Client), Err(1002));
    assert_eq!(verdict(b"\x82\x7e\x00\x7e", Role::Client), Ok(Some(4)));
    assert_eq!(verdict(b"\x82\x7f\0\0\0\0\0\0\xff\xff", Role::Client), Err(1002));
    assert_eq!(verdict(b"\x82\x7f\0\0\0\0\0\x01\0\0", Role::Client), Ok(Some(10)));
}

#[test]
fn length_of_two_to_the_63_is_refused() {
    assert_eq!(verdict(b"\x82\x7f\x80\0\0\0\0\0\0\0", Role::Client), Err(1002));
    assert_eq!(verdict(b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", Role::Client), Ok(Some(10)));
}

#[test]
fn reserved_opcodes_are_refused_at_the_first_byte() {
    for bits in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(verdict(&[0x80 | bits], Role::Server), Err(1002));
        assert_eq!(Opcode::from_bits(bits), None);
    }
    for bits in [0, 1, 2, 8, 9, 10] {
        assert_eq!(verdict(&[0x80 | bits], Role::Server), Ok(None));
        assert_eq!(Opcode::from_bits(bits).map(|it| it as u8), Some(bits));
    }
}

#[test]
fn rsv_bits_are_refused_at_the_first_byte() {
    for rsv in 1..8u8 {
        assert_eq!(verdict(&[0x81 | rsv << 4], Role::Server), Err(1002));
    }
}

#[test]
fn an_extension_may_allow_rsv1_on_data_frames_only() {
    let (_, found) = decode_extended_header(&[0xc1, 0], Role::Client, RSV1).unwrap().unwrap();
    assert_eq!(found.rsv, RSV1);
    assert!(decode_extended_header(&[0xe1, 0], Role::Client, RSV1).is_err());
    assert!(decode_extended_header(&[0xc9, 0], Role::Client, RSV1).is_err());
}

#[test]
fn fragmented_control_frames_are_refused() {
    for opcode in [8, 9, 10] {
        assert_eq!(verdict(&[opcode], Role::Server), Err(1002));
    }
}

#[test]
fn control_frames_longer_than_125_bytes_are_refused_at_the_second_byte() {
    for opcode in [0x88, 0x89, 0x8a] {
        assert_eq!(verdict(&[opcode, 125], Role::Client), Ok(Some(2)));
        assert_eq!(verdict(&[opcode, 126], Role::Client), Err(1002));
        assert_eq!(verdict(&[opcode, 127], Role::Client), Err(1002));
    }
}

#[test]
fn the_wrong_masking_is_refused_at_the_second_byte() {
    assert_eq!(verdict(&[0x81, 0x05], Role::Server), Err(1002));
    assert_eq!(verdict(&[0x81, 0x85], Role::Client), Err(1002));
}

#[test]
fn mask_equals_the_naive_mask_at_every_length_and_offset() {
    for length in 0..70 {
        for offset in 0..9 {
            let mut data: Vec<u8> = (0..length).collect();
            apply_mask(&mut data, KEY, offset);
            let naive: Vec<u8> = (0..length).map(|i| i ^ KEY[(usize::from(i) + offset) % 4]).collect();
            assert_eq!(data, naive, "length {length}, offset {offset}");
        }
    }
}

#[test]
fn encoding_appends() {
    let mut out = b"before".to_vec();
    encode_frame(&mut out, Opcode::Pong, b"", None);
    assert_eq!(out, b"before\x8a\x00");
}
