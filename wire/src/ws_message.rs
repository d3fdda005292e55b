//! Bytes → messages and control frames: the whole incoming half of a WebSocket (RFC 6455 §5.4–5.6, §8.1).
//! It answers nothing: pongs, close replies and time-outs belong to `core`.
//!
//! Thread: any (pure).

use std::borrow::Cow;
use std::ops::{Deref, Range};

use crate::error::WsRefusal;
use crate::ws_close::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR, decode_close};
use crate::ws_frame::{FrameHeader, MAX_HEADER_BYTES, Opcode, Role, apply_mask, decode_header};

/// The least room made when a message has to be kept. The announced length is only a promise: taking memory
/// for it at once would let a 14-byte header cost 16 MiB.
const FIRST_ROOM_BYTES: usize = 16 * 1024;

/// What one peer may make us keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// The longest message, all fragments together; a longer one is refused with 1009.
    pub max_message_bytes: usize,
    /// The most frames in one message, empty ones included; one more is refused with 1008.
    pub max_fragments: u32,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self { max_message_bytes: 16 * 1024 * 1024, max_fragments: 1 << 20 }
    }
}

/// What arrived.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A whole text message: checked, valid UTF-8.
    Text(Payload<'a>),
    /// A whole binary message.
    Binary(Payload<'a>),
    /// At most 125 bytes, to be sent back in a pong.
    Ping(Payload<'a>),
    /// At most 125 bytes.
    Pong(Payload<'a>),
    /// The peer's last frame.
    Close {
        /// 1005 if the frame was empty.
        code: u16,
        /// At most 123 bytes.
        reason: Cow<'a, str>,
    },
}

/// Bytes that lie in the input, or that had to be collected from several inputs.
#[derive(Debug)]
pub enum Payload<'a> {
    /// The whole unfragmented message lay in the input: the common case, no copy.
    Borrowed(&'a [u8]),
    /// Several fragments, or several inputs.
    Owned(Vec<u8>),
}

impl Payload<'_> {
    /// The bytes; copied only if borrowed.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Borrowed(bytes) => bytes.to_vec(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Payload<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The incoming half of one connection.
///
/// ```text
///            header complete                 payload in input: event, no copy
///   Header ──────────────────▶ (checked) ───────────────────────────────────▶ Header
///     ▲                            │ payload not in input, or a fragment
///     │     frame complete         ▼
///     └──────────────────────── Payload            a Close ▶ Closed      an error ▶ Failed
/// ```
/// Nothing leads out of Closed and Failed.
#[derive(Debug)]
pub struct MessageReader {
    role: Role,
    limits: MessageLimits,
    stage: Stage,
    header: HalfHeader,
    /// The message that is begun and not finished, between its fragments too.
    message: Option<Message>,
    /// A control frame cut in two by the end of an input. It has its own place, because it may arrive
    /// between two fragments of `message` (§5.4).
    control: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Header,
    Payload(Frame),
    Closed,
    Failed(WsRefusal),
}

/// A frame whose payload is being taken.
#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    taken: u64,
}

/// An event that does not borrow yet: `Inside` is a range of the input.
enum Found {
    Inside(Opcode, Range<usize>),
    Kept(Opcode, Vec<u8>),
}

impl MessageReader {
    /// A reader for a connection whose handshake is done.
    pub const fn new(role: Role, limits: MessageLimits) -> Self {
        Self { role, limits, stage: Stage::Header, header: HalfHeader::new(), message: None, control: Vec::new() }
    }

    /// Decode from the front of `input`, unmasking in place. Returns the bytes used and what they held.
    ///
    /// `(used, Some(event))`: call again with `&mut input[used..]`.
    /// `(used, None)`: all of `input` is used, half a header or payload is kept inside, more is needed.
    /// Errors carry the close code to send: 1002, 1007, 1008 or 1009; the same error comes again if the
    /// caller reads on. After a Close the rest is thrown away unread (§1.4): `(input.len(), None)` for ever.
    #[inline]
    pub fn read<'a>(&mut self, input: &'a mut [u8]) -> Result<(usize, Option<Incoming<'a>>), WsRefusal> {
        match self.stage {
            Stage::Header | Stage::Payload(_) => {}
            Stage::Closed => return Ok((input.len(), None)),
            Stage::Failed(refusal) => return Err(refusal),
        }
        let result = self.advance(input).and_then(|(used, found)| {
            let event = match found {
                None => None,
                Some(Found::Inside(opcode, range)) => Some(name_event(opcode, Payload::Borrowed(&input[range]))?),
                Some(Found::Kept(opcode, bytes)) => Some(name_event(opcode, Payload::Owned(bytes))?),
            };
            Ok((used, event))
        });
        match &result {
            Ok((_, Some(Incoming::Close { .. }))) => self.end(Stage::Closed),
            Err(refusal) => self.end(Stage::Failed(*refusal)),
            Ok(_) => {}
        }
        result
    }

    /// Whether the reader is between messages: the stream could end here and nothing would be lost.
    pub fn is_empty(&self) -> bool {
        matches!(self.stage, Stage::Header | Stage::Closed) && self.message.is_none() && self.header.length == 0
    }

    /// Whether a Close or an error has ended the reading.
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Closed | Stage::Failed(_))
    }

    /// Bytes of memory held for an unfinished message.
    pub fn held_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |it| it.data.capacity());
        message + self.control.capacity()
    }

    fn end(&mut self, stage: Stage) {
        *self = Self::new(self.role, self.limits); // lets go of the memory too
        self.stage = stage;
    }

    fn advance(&mut self, input: &mut [u8]) -> Result<(usize, Option<Found>), WsRefusal> {
        let mut used = 0;
        loop {
            if let Stage::Header = self.stage {
                let Some((taken, header)) = self.header.read(&input[used..], self.role)? else {
                    return Ok((input.len(), None));
                };
                used += taken;
                self.check_order(&header)?;
                self.check_limits(&header)?;
                if let Some(range) = whole_payload(&header, used..input.len()) {
                    unmask(&mut input[range.clone()], &header, 0);
                    check_whole_text(&header, &input[range.clone()])?;
                    return Ok((range.end, Some(Found::Inside(header.opcode, range))));
                }
                self.begin_frame(header);
            }
            used += self.take_payload(&mut input[used..])?;
            if !self.is_frame_complete() {
                return Ok((used, None));
            }
            if let Some(found) = self.finish_frame()? {
                return Ok((used, Some(found)));
            }
        }
    }

    /// §5.4: fragments of different messages are never interleaved.
    #[inline]
    fn check_order(&self, header: &FrameHeader) -> Result<(), WsRefusal> {
        match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => refuse(PROTOCOL_ERROR, "continuation of no message"),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                refuse(PROTOCOL_ERROR, "new message before the last one was finished")
            }
            _ => Ok(()),
        }
    }

    /// Before any memory is taken, and before the payload is sent: the peer need not waste the line on it.
    #[inline]
    fn check_limits(&self, header: &FrameHeader) -> Result<(), WsRefusal> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let (held, fragments) = match &self.message {
            Some(message) => (message.data.len(), message.fragments),
            None => (0, 0),
        };
        let room = self.limits.max_message_bytes.saturating_sub(held);
        if header.length > room as u64 {
            return refuse(MESSAGE_TOO_BIG, "message is longer than max_message_bytes");
        }
        // Empty fragments are free of bytes and not of work, so bytes alone do not bound a message. 1008 and
        // not 1009, because the same message in fewer pieces would be welcome: it is not too big.
        if header.opcode == Opcode::Continuation && fragments >= self.limits.max_fragments {
            return refuse(POLICY_VIOLATION, "message has more fragments than max_fragments");
        }
        Ok(())
    }

    fn begin_frame(&mut self, header: FrameHeader) {
        if !header.opcode.is_control() {
            let message = self.message.get_or_insert_with(|| Message::new(header.opcode));
            message.fragments += 1;
        }
        self.stage = Stage::Payload(Frame { header, taken: 0 });
    }

    /// Takes what `input` has of the current frame's payload; returns how much that was.
    fn take_payload(&mut self, input: &mut [u8]) -> Result<usize, WsRefusal> {
        let Stage::Payload(frame) = &mut self.stage else {
            return Ok(0);
        };
        let left = frame.header.length - frame.taken;
        let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let piece = &mut input[..here];
        unmask(piece, &frame.header, frame.taken);
        frame.taken += here as u64;
        match &mut self.message {
            Some(message) if !frame.header.opcode.is_control() => {
                message.append(piece, left, frame.header.fin)?;
            }
            _ => self.control.extend_from_slice(piece),
        }
        Ok(here)
    }

    fn is_frame_complete(&self) -> bool {
        matches!(&self.stage, Stage::Payload(frame) if frame.taken == frame.header.length)
    }

    /// Ends the current frame, and its message if that is the last frame.
    fn finish_frame(&mut self) -> Result<Option<Found>, WsRefusal> {
        let Stage::Payload(Frame { header, .. }) = self.stage else {
            return Ok(None);
        };
        self.stage = Stage::Header;
        if header.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return Ok(Some(Found::Kept(header.opcode, payload)));
        }
        match self.message.take_if(|_| header.fin) {
            Some(message) => message.finish().map(Some),
            None => Ok(None),
        }
    }
}

/// Where in the input an unfragmented frame's payload lies, if all of it does.
#[inline]
fn whole_payload(header: &FrameHeader, rest: Range<usize>) -> Option<Range<usize>> {
    let is_whole = header.fin && header.opcode != Opcode::Continuation;
    let length = usize::try_from(header.length).ok()?;
    (is_whole && length <= rest.len()).then(|| rest.start..rest.start + length)
}

#[inline]
fn unmask(piece: &mut [u8], header: &FrameHeader, offset: u64) {
    if let Some(mask) = header.mask {
        apply_mask(piece, mask, (offset % 4) as usize);
    }
}

#[inline]
fn check_whole_text(header: &FrameHeader, payload: &[u8]) -> Result<(), WsRefusal> {
    if header.opcode == Opcode::Text && simdutf8::basic::from_utf8(payload).is_err() {
        return refuse(INVALID_PAYLOAD, "text message is not UTF-8");
    }
    Ok(())
}

#[inline]
fn name_event(opcode: Opcode, payload: Payload<'_>) -> Result<Incoming<'_>, WsRefusal> {
    Ok(match opcode {
        Opcode::Text => Incoming::Text(payload),
        Opcode::Binary | Opcode::Continuation => Incoming::Binary(payload),
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        Opcode::Close => name_close(payload)?,
    })
}

fn name_close(payload: Payload<'_>) -> Result<Incoming<'_>, WsRefusal> {
    let (code, reason) = match payload {
        Payload::Borrowed(bytes) => {
            let (code, reason) = decode_close(bytes)?;
            (code, Cow::Borrowed(reason))
        }
        Payload::Owned(bytes) => {
            let (code, reason) = decode_close(&bytes)?;
            (code, Cow::Owned(reason.to_owned()))
        }
    };
    Ok(Incoming::Close { code, reason })
}

#[cold]
fn refuse<T>(code: u16, reason: &'static str) -> Result<T, WsRefusal> {
    Err(WsRefusal { code, reason })
}

/// A header cut in two by the end of an input.
#[derive(Debug)]
struct HalfHeader {
    bytes: [u8; MAX_HEADER_BYTES],
    length: usize,
}

impl HalfHeader {
    const fn new() -> Self {
        Self { bytes: [0; MAX_HEADER_BYTES], length: 0 }
    }

    /// Decodes a header from what is kept and the front of `input`; returns the bytes used of `input`.
    /// `None`: all of `input` is kept.
    #[inline]
    fn read(&mut self, input: &[u8], role: Role) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
        if self.length > 0 {
            return self.read_on(input, role);
        }
        let found = decode_header(input, role)?;
        if found.is_none() {
            // An incomplete header is shorter than the longest one.
            self.bytes[..input.len()].copy_from_slice(input);
            self.length = input.len();
        }
        Ok(found)
    }

    /// Byte by byte: at most 13 times, and it never takes a byte that belongs to the payload.
    #[cold]
    fn read_on(&mut self, input: &[u8], role: Role) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
        for (index, &byte) in input.iter().enumerate() {
            self.bytes[self.length] = byte;
            self.length += 1;
            if let Some((_, header)) = decode_header(&self.bytes[..self.length], role)? {
                self.length = 0;
                return Ok(Some((index + 1, header)));
            }
        }
        Ok(None)
    }
}

/// A message that is being collected.
#[derive(Debug)]
struct Message {
    opcode: Opcode,
    data: Vec<u8>,
    /// How much of `data` is known to be UTF-8: all but the up to three bytes of a character whose rest is
    /// still to come. Only for text.
    checked: usize,
    fragments: u32,
}

impl Message {
    const fn new(opcode: Opcode) -> Self {
        Self { opcode, data: Vec::new(), checked: 0, fragments: 0 }
    }

    /// `left`: what the frame still had to bring, `piece` included.
    fn append(&mut self, piece: &[u8], left: u64, fin: bool) -> Result<(), WsRefusal> {
        self.make_room(piece.len(), left, fin);
        self.data.extend_from_slice(piece);
        if self.opcode == Opcode::Text {
            self.check_text()?;
        }
        Ok(())
    }

    /// Room grows with what has arrived, never with what was announced: at least doubled each time, so that
    /// many small pieces stay linear, and exactly to the end where the end is known.
    fn make_room(&mut self, arrived: usize, left: u64, fin: bool) {
        if self.data.capacity() - self.data.len() >= arrived {
            return;
        }
        let ahead = arrived.max(self.data.len()).max(FIRST_ROOM_BYTES);
        let ahead = usize::try_from(left).map_or(ahead, |left| ahead.min(left));
        if fin {
            self.data.reserve_exact(ahead);
        } else {
            self.data.reserve(ahead);
        }
    }

    /// §8.1, at once and not at the end: otherwise one bad byte could be followed by 16 MiB that we read in vain.
    fn check_text(&mut self) -> Result<(), WsRefusal> {
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return refuse(INVALID_PAYLOAD, "text message is not UTF-8"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Found, WsRefusal> {
        if self.opcode == Opcode::Text && self.checked < self.data.len() {
            return refuse(INVALID_PAYLOAD, "text message ends inside a UTF-8 character");
        }
        Ok(Found::Kept(self.opcode, self.data))
    }
}
