//! Frame headers ⇄ bytes, and masking (RFC 6455 §5.2–5.3). What frames mean together is in `ws_message`.
//!
//! Thread: any (pure).

use crate::error::WsRefusal;
use crate::ws_close::PROTOCOL_ERROR;

/// The longest payload of a ping, pong or close (§5.5).
pub const MAX_CONTROL_BYTES: usize = 125;
/// The longest header: two bytes, a 64-bit length, a mask.
pub const MAX_HEADER_BYTES: usize = 14;
/// RSV1 as it appears in [`FrameHeader::rsv`]; permessage-deflate gives it a meaning (RFC 7692 §6).
pub const RSV1: u8 = 0b100;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Who *we* are. A server reads masked frames and writes unmasked ones, a client the reverse (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We accepted the connection.
    Server,
    /// We opened the connection.
    Client,
}

/// What a frame carries (§5.2). The other ten values are reserved and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that an earlier frame began.
    Continuation = 0,
    /// A text message or its first fragment.
    Text = 1,
    /// A binary message or its first fragment.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// Asks for a pong.
    Ping = 9,
    /// Answers a ping, or says unasked that the peer is alive.
    Pong = 10,
}

impl Opcode {
    /// The opcode in the low four bits of a frame's first byte; `None` if reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, ping or pong: short, never fragmented, allowed between fragments (§5.5).
    pub const fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// A frame without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// RSV1, RSV2, RSV3 as the bits 4, 2, 1. Zero unless an extension allowed them.
    pub rsv: u8,
    /// What the payload is.
    pub opcode: Opcode,
    /// Present exactly in frames from a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload, at most 2⁶³−1.
    pub length: u64,
}

/// Decode one frame header from the front of `input`, without extensions: every RSV bit is refused.
///
/// `Ok(None)`: the header (2–14 bytes) is not complete; nothing consumed.
/// `Ok(Some((used, header)))`: the payload begins at `input[used..]`.
/// Errors carry 1002, and come as soon as the offending byte is there.
#[inline]
pub fn decode_header(input: &[u8], role: Role) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
    decode_extended_header(input, role, 0)
}

/// [`decode_header`] for a connection whose extensions gave the bits in `allowed_rsv` a meaning.
///
/// They are allowed on data frames only: an extension may not compress control frames (RFC 7692 §6).
#[inline]
pub fn decode_extended_header(
    input: &[u8],
    role: Role,
    allowed_rsv: u8,
) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    let opcode = check_first_byte(first, allowed_rsv)?;
    let Some(&second) = input.get(1) else {
        return Ok(None);
    };
    check_second_byte(second, role, opcode)?;
    let Some((length_end, length)) = decode_length(input, second & !MASKED)? else {
        return Ok(None);
    };
    let (used, mask) = match role {
        Role::Client => (length_end, None),
        Role::Server => match input.get(length_end..).and_then(|rest| rest.first_chunk()) {
            Some(key) => (length_end + 4, Some(*key)),
            None => return Ok(None),
        },
    };
    let (fin, rsv) = (first & FIN != 0, first >> 4 & 0b111);
    Ok(Some((used, FrameHeader { fin, rsv, opcode, mask, length })))
}

#[inline]
fn check_first_byte(first: u8, allowed_rsv: u8) -> Result<Opcode, WsRefusal> {
    let Some(opcode) = Opcode::from_bits(first & 0x0f) else {
        return refuse("reserved opcode");
    };
    let allowed_rsv = if opcode.is_control() { 0 } else { allowed_rsv };
    if first >> 4 & 0b111 & !allowed_rsv != 0 {
        return refuse("RSV bit set without an extension that defines it");
    }
    if opcode.is_control() && first & FIN == 0 {
        return refuse("fragmented control frame");
    }
    Ok(opcode)
}

#[inline]
fn check_second_byte(second: u8, role: Role, opcode: Opcode) -> Result<(), WsRefusal> {
    // §5.1. The mask keeps a hostile page from writing bytes of its choice through a proxy that mistakes
    // them for HTTP (§10.3), so an unmasked client frame is fatal, not a curiosity.
    match (role, second & MASKED != 0) {
        (Role::Server, false) => return refuse("frame from a client without a mask"),
        (Role::Client, true) => return refuse("frame from a server with a mask"),
        _ => {}
    }
    if opcode.is_control() && usize::from(second & !MASKED) > MAX_CONTROL_BYTES {
        return refuse("control frame longer than 125 bytes");
    }
    Ok(())
}

/// Where the length ends, and the length. §5.2: "the minimal number of bytes MUST be used", and the most
/// significant bit of the 64-bit form must be 0.
#[inline]
fn decode_length(input: &[u8], short: u8) -> Result<Option<(usize, u64)>, WsRefusal> {
    match short {
        126 => {
            let Some(bytes) = input[2..].first_chunk() else {
                return Ok(None);
            };
            let length = u16::from_be_bytes(*bytes);
            if length < 126 {
                return refuse("length not in its shortest form");
            }
            Ok(Some((4, u64::from(length))))
        }
        127 => {
            let Some(bytes) = input[2..].first_chunk() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*bytes);
            if length <= u64::from(u16::MAX) {
                return refuse("length not in its shortest form");
            }
            if length > i64::MAX as u64 {
                return refuse("length with its highest bit set");
            }
            Ok(Some((10, length)))
        }
        short => Ok(Some((2, u64::from(short)))),
    }
}

#[cold]
fn refuse<T>(reason: &'static str) -> Result<T, WsRefusal> {
    Err(WsRefusal { code: PROTOCOL_ERROR, reason })
}

/// Append a frame header with the RSV bits clear and the length in its shortest form.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, fin: bool, opcode: Opcode, length: u64, mask: Option<[u8; 4]>) {
    encode_extended_header(out, fin, 0, opcode, length, mask);
}

/// [`encode_header`] with the bits in `rsv`, say [`RSV1`] for the first frame of a compressed message.
#[inline]
pub fn encode_extended_header(
    out: &mut Vec<u8>,
    fin: bool,
    rsv: u8,
    opcode: Opcode,
    length: u64,
    mask: Option<[u8; 4]>,
) {
    let first = opcode as u8 | (rsv & 0b111) << 4 | if fin { FIN } else { 0 };
    let masked = if mask.is_some() { MASKED } else { 0 };
    match length {
        0..126 => out.extend_from_slice(&[first, masked | length as u8]),
        126..=0xffff => {
            let [a, b] = (length as u16).to_be_bytes();
            out.extend_from_slice(&[first, masked | 126, a, b]);
        }
        _ => {
            let [a, b, c, d, e, f, g, h] = length.to_be_bytes();
            out.extend_from_slice(&[first, masked | 127, a, b, c, d, e, f, g, h]);
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
}

/// Append a whole unfragmented frame.
///
/// A client passes a fresh, unpredictable `mask` for every frame (§5.3); a server passes `None`.
#[inline]
pub fn encode_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(MAX_HEADER_BYTES + payload.len());
    encode_header(out, true, opcode, payload.len() as u64, mask);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// Mask or unmask (it is the same) `data`, which begins `offset` bytes into its frame's payload.
///
/// Whole 64-bit words in a loop without branches: the compiler turns it into SSE2 or NEON, so no unsafe
/// code is needed.
#[inline]
pub fn apply_mask(data: &mut [u8], mask: [u8; 4], offset: usize) {
    let key = rotate_mask(mask, offset);
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

/// The mask as seen from `offset`: byte i of the payload is XORed with byte i mod 4 (§5.3).
#[inline]
fn rotate_mask(mut mask: [u8; 4], offset: usize) -> [u8; 4] {
    mask.rotate_left(offset % 4);
    mask
}
