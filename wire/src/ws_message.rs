//! Bytes → messages and control frames: the whole incoming half of a WebSocket (RFC 6455 §5.4–5.6, §8.1), and the rules
//! for compressed messages (RFC 7692 §6). It answers nothing: pongs, close replies and time-outs belong to `core`.
//!
//! Thread: any (pure).

use std::borrow::Cow;
use std::ops::{Deref, Range};

use crate::error::WsRefusal;
use crate::ws_assembly::{Message, refuse_corrupt};
use crate::ws_close::{INVALID_PAYLOAD, MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR, decode_close};
use crate::ws_deflate::{DeflateParams, Inflater, InflaterPool, Inflation};
use crate::ws_frame::{FrameHeader, MAX_HEADER_BYTES, Opcode, Role, apply_mask, decode_extended_header};

/// What one call of [`MessageReader::read`] inflates at most, so that a message of a few kilobytes that inflates to
/// megabytes does not keep a thread from its other connections. Less, if it comes out of data that takes longer.
pub const INFLATE_PER_CALL_BYTES: usize = 256 * 1024;

/// What is unmasked before it is inflated. What did not get its turn is masked again.
const INFLATE_PIECE_BYTES: usize = 16 * 1024;
/// A long payload is unmasked and copied block by block, so that the copy finds in the nearest cache what was unmasked.
const UNMASK_BLOCK_BYTES: usize = 16 * 1024;

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
    /// The message that is begun and not finished, between its fragments too. Boxed, because most connections have none
    /// most of the time.
    message: Option<Box<Message>>,
    inflation: Inflation,
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
        Self {
            role,
            limits,
            stage: Stage::Header,
            header: HalfHeader::new(),
            message: None,
            inflation: Inflation::Off,
            control: Vec::new(),
        }
    }

    /// A reader for a connection that agreed on permessage-deflate. Without context it owns no inflater between
    /// messages.
    pub fn with_deflate(role: Role, limits: MessageLimits, params: &DeflateParams, pool: InflaterPool) -> Self {
        let sender = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let inflation = match params.keeps_context(sender) {
            true => Inflation::Own(None),
            false => Inflation::Pooled { pool, loan: None },
        };
        Self { inflation, ..Self::new(role, limits) }
    }

    /// Decode from the front of `input`, unmasking in place. Returns the bytes used and what they held.
    ///
    /// `(used, Some(event))`: call again with `&mut input[used..]`.
    /// `(used, None)`: all of `input` is used, half a header or payload is kept inside, more is needed. Only with
    /// compression it may also mean that up to [`INFLATE_PER_CALL_BYTES`] were inflated and there is more to do: then
    /// `used` is less than all, or [`has_more`](Self::has_more), and the caller calls again with the rest, even if that
    /// is empty.
    /// Errors carry the close code to send: 1002, 1007, 1008 or 1009; the same error comes again if the
    /// caller reads on. After a Close the rest is thrown away unread (§1.4): `(input.len(), None)` for ever.
    #[inline]
    pub fn read<'a>(&mut self, input: &'a mut [u8]) -> Result<(usize, Option<Incoming<'a>>), WsRefusal> {
        match self.stage {
            Stage::Header | Stage::Payload(_) => {}
            Stage::Closed => return Ok((input.len(), None)),
            Stage::Failed(refusal) => return Err(refusal),
        }
        let (used, found) = match self.advance(input) {
            Ok((used, Some(found))) => (used, found),
            Ok((used, None)) => return Ok((used, None)),
            Err(refusal) => return self.fail(refusal),
        };
        let (opcode, payload) = match found {
            Found::Inside(opcode, range) => (opcode, Payload::Borrowed(&input[range])),
            Found::Kept(opcode, bytes) => (opcode, Payload::Owned(bytes)),
        };
        match name_event(opcode, payload) {
            Ok(event) => {
                if opcode == Opcode::Close {
                    self.end(Stage::Closed);
                }
                Ok((used, Some(event)))
            }
            Err(refusal) => self.fail(refusal),
        }
    }

    /// Let the long message that has begun go on in `spare`, an empty buffer with more room; what it had is in `spare` then.
    ///
    /// A message of megabytes would otherwise grow into memory that the system has to find and clear each time.
    pub fn lend(&mut self, spare: &mut Vec<u8>) {
        let Stage::Payload(frame) = &self.stage else { return };
        let left = frame.header.length - frame.taken;
        if let Some(message) = &mut self.message
            && !frame.header.opcode.is_control()
        {
            message.lend(spare, left);
        }
    }

    /// Whether there is something to inflate that needs no more input: call [`read`](Self::read) again.
    pub fn has_more(&self) -> bool {
        self.message.as_ref().is_some_and(|it| it.has_more)
    }

    /// Whether a frame's payload has begun and is not complete: until then not even a pong can come.
    pub fn is_mid_frame(&self) -> bool {
        matches!(&self.stage, Stage::Payload(frame) if frame.taken < frame.header.length)
    }

    /// Whether the reader is between messages: the stream could end here and nothing would be lost.
    pub fn is_empty(&self) -> bool {
        matches!(self.stage, Stage::Header | Stage::Closed) && self.message.is_none() && self.header.length == 0
    }

    /// Whether a Close or an error has ended the reading.
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Closed | Stage::Failed(_))
    }

    /// Bytes of memory held for an unfinished message, without the inflater that it may have borrowed.
    pub fn held_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, |it| it.data.capacity());
        message + self.control.capacity()
    }

    #[cold]
    fn fail<T>(&mut self, refusal: WsRefusal) -> Result<T, WsRefusal> {
        self.end(Stage::Failed(refusal));
        Err(refusal)
    }

    fn end(&mut self, stage: Stage) {
        *self = Self::new(self.role, self.limits); // lets go of the memory too
        self.stage = stage;
    }

    fn advance(&mut self, input: &mut [u8]) -> Result<(usize, Option<Found>), WsRefusal> {
        let mut used = 0;
        let mut budget = INFLATE_PER_CALL_BYTES;
        loop {
            if let Stage::Header = self.stage {
                let Some((taken, header)) = self.header.read(&input[used..], self.role, self.inflation.rsv())? else {
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
            used += self.take_payload(&mut input[used..], &mut budget)?;
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
            (Opcode::Continuation, _) if header.rsv != 0 => {
                refuse(PROTOCOL_ERROR, "RSV1 in a frame that begins no message") // RFC 7692 §6.1
            }
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
        let (arrived, fragments, is_compressed) = match &self.message {
            Some(message) => (message.arrived, message.fragments, message.is_compressed),
            None => (0, 0, header.rsv != 0),
        };
        let mut max = self.limits.max_message_bytes as u64;
        let mut reason = "message is longer than max_message_bytes";
        if is_compressed {
            // What nothing comes out of costs work all the same. A compressor makes a message longer by less than this.
            max = max.saturating_add(max / 8 + 1024);
            reason = "compressed message is longer than max_message_bytes allows";
        }
        if header.length > max.saturating_sub(arrived) {
            return refuse(MESSAGE_TOO_BIG, reason);
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
            let message = self.message.get_or_insert_with(|| Box::new(Message::new(&header)));
            message.fragments += 1;
            message.arrived += header.length; // no overflow: the limits were checked
        }
        self.stage = Stage::Payload(Frame { header, taken: 0 });
    }

    /// Takes what `input` has of the current frame's payload; returns how much that was.
    #[inline(never)] // keeps the way of whole frames short
    fn take_payload(&mut self, input: &mut [u8], budget: &mut usize) -> Result<usize, WsRefusal> {
        let Stage::Payload(frame) = &mut self.stage else {
            return Ok(0);
        };
        let left = frame.header.length - frame.taken;
        let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let piece = &mut input[..here];
        let mut message = self.message.as_deref_mut().filter(|_| !frame.header.opcode.is_control());
        if let Some(message) = &mut message
            && message.is_compressed
        {
            let inflater = self.inflation.inflater();
            return inflate_payload(frame, message, inflater, piece, self.limits.max_message_bytes, budget);
        }
        if let Some(message) = &mut message {
            message.make_room(here, left, frame.header.fin);
        }
        for block in piece.chunks_mut(UNMASK_BLOCK_BYTES) {
            unmask(block, &frame.header, frame.taken);
            match &mut message {
                Some(message) => message.append(block)?,
                None => self.control.extend_from_slice(block),
            }
            frame.taken += block.len() as u64;
        }
        Ok(here)
    }

    fn is_frame_complete(&self) -> bool {
        matches!(&self.stage, Stage::Payload(frame) if frame.taken == frame.header.length) && !self.has_more()
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
            Some(message) => {
                if message.is_compressed && !self.inflation.finish_message() {
                    return refuse_corrupt();
                }
                let opcode = message.opcode;
                message.finish().map(|data| Some(Found::Kept(opcode, data)))
            }
            None => Ok(None),
        }
    }
}

/// Inflates what `payload` has of the current frame, as far as `budget` goes; returns how much of `payload` that was.
#[inline(never)]
fn inflate_payload(
    frame: &mut Frame,
    message: &mut Message,
    inflater: Option<&mut Inflater>,
    payload: &mut [u8],
    max_bytes: usize,
    budget: &mut usize,
) -> Result<usize, WsRefusal> {
    let Some(inflater) = inflater else {
        return refuse(PROTOCOL_ERROR, "compressed message without an agreement"); // the header was refused before
    };
    let mut used = 0;
    while used < payload.len() || message.has_more {
        let rest = payload.len() - used;
        let piece = &mut payload[used..][..rest.min(INFLATE_PIECE_BYTES)];
        unmask(piece, &frame.header, frame.taken);
        let taken = message.inflate(inflater, piece, max_bytes, budget)?;
        unmask(&mut piece[taken..], &frame.header, frame.taken + taken as u64);
        frame.taken += taken as u64;
        used += taken;
        if *budget == 0 {
            break;
        }
    }
    Ok(used)
}

/// Where in the input an unfragmented frame's payload lies, if all of it does and it is not compressed.
#[inline]
fn whole_payload(header: &FrameHeader, rest: Range<usize>) -> Option<Range<usize>> {
    let is_whole = header.fin && header.opcode != Opcode::Continuation && header.rsv == 0;
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
    length: u8,
}

impl HalfHeader {
    const fn new() -> Self {
        Self { bytes: [0; MAX_HEADER_BYTES], length: 0 }
    }

    /// Decodes a header from what is kept and the front of `input`; returns the bytes used of `input`.
    /// `None`: all of `input` is kept.
    #[inline]
    fn read(&mut self, input: &[u8], role: Role, rsv: u8) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
        if self.length > 0 {
            return self.read_on(input, role, rsv);
        }
        let found = decode_extended_header(input, role, rsv)?;
        if found.is_none() {
            // An incomplete header is shorter than the longest one.
            self.bytes[..input.len()].copy_from_slice(input);
            self.length = input.len() as u8;
        }
        Ok(found)
    }

    /// Byte by byte: at most 13 times, and it never takes a byte that belongs to the payload.
    #[cold]
    fn read_on(&mut self, input: &[u8], role: Role, rsv: u8) -> Result<Option<(usize, FrameHeader)>, WsRefusal> {
        for (index, &byte) in input.iter().enumerate() {
            let length = usize::from(self.length);
            self.bytes[length] = byte;
            self.length += 1;
            if let Some((_, header)) = decode_extended_header(&self.bytes[..=length], role, rsv)? {
                self.length = 0;
                return Ok(Some((index + 1, header)));
            }
        }
        Ok(None)
    }
}
