//! One message that is being collected: room for it, its text checked as it comes, and inflated if it is compressed.
//! Which frames belong to it is decided in `ws_message`.
//!
//! Thread: any (pure).

use crate::error::WsRefusal;
use crate::ws_close::{INVALID_PAYLOAD, MESSAGE_TOO_BIG};
use crate::ws_deflate::{Inflater, Step};
use crate::ws_frame::{FrameHeader, Opcode, RSV1};

/// The least room made when a message has to be kept. The announced length is only a promise: taking memory
/// for it at once would let a 14-byte header cost 16 MiB.
const FIRST_ROOM_BYTES: usize = 16 * 1024;

/// What is inflated between two looks at the text and the limits.
const INFLATE_STEP_BYTES: usize = 16 * 1024;

/// A message that is being collected.
#[derive(Debug)]
pub(crate) struct Message {
    pub opcode: Opcode,
    /// What it holds so far, inflated.
    pub data: Vec<u8>,
    /// How much of `data` is known to be UTF-8: all but the up to three bytes of a character whose rest is
    /// still to come. Only for text.
    checked: usize,
    pub fragments: u32,
    /// The payload of its frames so far, the current one's too.
    pub arrived: u64,
    pub is_compressed: bool,
    /// The inflater had no room for all that it could give.
    pub has_more: bool,
}

impl Message {
    pub const fn new(header: &FrameHeader) -> Self {
        Self {
            opcode: header.opcode,
            data: Vec::new(),
            checked: 0,
            fragments: 0,
            arrived: 0,
            is_compressed: header.rsv & RSV1 != 0,
            has_more: false,
        }
    }

    /// Inflates from the front of `piece` as far as `budget` goes; returns how much of it that was.
    pub fn inflate(
        &mut self,
        inflater: &mut Inflater,
        piece: &[u8],
        max_bytes: usize,
        budget: &mut usize,
    ) -> Result<usize, WsRefusal> {
        let mut used = 0;
        let mut step = (4 * piece.len()).clamp(512, INFLATE_STEP_BYTES);
        while *budget > 0 && (used < piece.len() || self.has_more) {
            let start = self.data.len();
            // One byte more than is allowed shows that there is too much.
            let room = step.min(*budget).min((max_bytes - start).saturating_add(1));
            self.make_inflated_room(room, max_bytes);
            self.data.resize(start + room, 0);
            let done = inflater.inflate(&piece[used..], &mut self.data[start..]);
            self.data.truncate(start + done.written);
            self.has_more = done.written == room;
            // In the order in which it would show if the bytes came one by one.
            if self.opcode == Opcode::Text {
                self.check_text()?;
            }
            if self.data.len() > max_bytes {
                return refuse(MESSAGE_TOO_BIG, "message is longer than max_message_bytes once inflated");
            }
            if done.is_corrupt {
                return refuse_corrupt();
            }
            used += done.used;
            *budget = budget.saturating_sub(cost(&done));
            if self.has_more {
                step = (4 * step).min(INFLATE_STEP_BYTES);
            }
        }
        Ok(used)
    }

    /// Like `make_room`, and never for more than the limit and the byte that shows that it is passed.
    fn make_inflated_room(&mut self, room: usize, max_bytes: usize) {
        let length = self.data.len();
        if self.data.capacity() - length < room {
            self.data.reserve_exact(room.max(length).min((max_bytes - length).saturating_add(1)));
        }
    }

    /// Takes a piece that is not compressed; `make_room` has made room for it.
    pub fn append(&mut self, piece: &[u8]) -> Result<(), WsRefusal> {
        self.data.extend_from_slice(piece);
        if self.opcode == Opcode::Text {
            self.check_text()?;
        }
        Ok(())
    }

    /// Room grows with what has arrived, never with what was announced: at least doubled each time, so that
    /// many small pieces stay linear, and exactly to the end where the end is known. `left`: what the frame still had to
    /// bring, `arrived` included.
    pub fn make_room(&mut self, arrived: usize, left: u64, fin: bool) {
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

    /// Go on in `spare` if that saves growing, and is not far too large.
    pub fn lend(&mut self, spare: &mut Vec<u8>, left: u64) {
        let wanted = usize::try_from(left).map_or(usize::MAX, |left| self.data.len().saturating_add(left));
        let is_useful = spare.capacity() > self.data.capacity() && self.data.capacity() < wanted;
        if is_useful && !self.is_compressed && spare.capacity() / 4 <= wanted {
            spare.clear();
            spare.extend_from_slice(&self.data);
            std::mem::swap(&mut self.data, spare);
            spare.clear();
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

    /// The whole message.
    pub fn finish(self) -> Result<Vec<u8>, WsRefusal> {
        if self.opcode == Opcode::Text && self.checked < self.data.len() {
            return refuse(INVALID_PAYLOAD, "text message ends inside a UTF-8 character");
        }
        let mut data = self.data;
        if self.is_compressed && data.capacity() > 2 * data.len() {
            data.shrink_to_fit(); // it may wait in an inbox for long
        }
        Ok(data)
    }
}

/// What a step takes of the budget. Blocks that hold next to nothing take time by their headers, not by what comes out,
/// and a new stream takes half a microsecond: each by what as much time would have inflated.
fn cost(step: &Step) -> usize {
    let ends = if step.ends_stream { 1024 } else { 0 };
    step.written.max(8 * step.used) + ends
}

pub(crate) fn refuse_corrupt<T>() -> Result<T, WsRefusal> {
    refuse(INVALID_PAYLOAD, "compressed message is corrupt")
}

#[cold]
fn refuse<T>(code: u16, reason: &'static str) -> Result<T, WsRefusal> {
    Err(WsRefusal { code, reason })
}
