//! permessage-deflate (RFC 7692): messages compressed and inflated. Its negotiation is in `ws_extensions`; which frames
//! are compressed, and how much may come out of them, is in `ws_message`.
//!
//! Thread: any (pure).

use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::ws_frame::RSV1;

pub use crate::ws_extensions::{
    Agreement, DeflateOptions, DeflateParams, accept_extensions, check_agreement, check_extensions, encode_offer,
};

/// The end of every message, which is not sent (§7.2.1): an empty block that fills up the last byte.
pub(crate) const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// What a compressor makes of nothing (§7.2.3.6): an empty block that is not compressed, less the tail.
const EMPTY: u8 = 0x00;
/// An empty block that ends its stream.
const END: [u8; 2] = [0x03, 0x00];

/// How many inflaters wait to be borrowed. More are made when that many messages are under way at once, and freed.
const MAX_SPARE: usize = 4;

/// Compresses the messages of one direction, one after the other.
#[derive(Debug)]
pub struct Deflater {
    stream: Compress,
}

impl Deflater {
    /// `level`: 1 to 9. `window_bits`: 8 to 15; 8 makes 9.
    ///
    /// zlib has no window of 256 bytes. It needs none: it never reaches further back than its window less the longest
    /// match and a few bytes (`MAX_DIST`), which is 250 of 512.
    pub fn new(level: u8, window_bits: u8) -> Self {
        let level = Compression::new(u32::from(level.clamp(1, 9)));
        Self { stream: Compress::new_with_window_bits(level, false, window_bits.clamp(9, 15)) }
    }

    /// Append the payload of one message, to be sent with RSV1 in its first frame.
    ///
    /// Without [`reset`](Self::reset) the next message refers back to this one.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        if payload.is_empty() {
            // Two flushes in a row make the compressor say nothing at all.
            out.push(EMPTY);
            return;
        }
        let mut rest = payload;
        loop {
            // Enough for any small message at once. A large one takes room as it needs it, because it may shrink a lot.
            out.reserve((rest.len() + rest.len() / 8).min(64 * 1024) + 64);
            let before = self.stream.total_in();
            let status = self.stream.compress_vec(rest, out, FlushCompress::Sync);
            debug_assert!(status.is_ok(), "a compressor takes any bytes");
            rest = &rest[(self.stream.total_in() - before) as usize..];
            if out.len() < out.capacity() || status.is_err() {
                break; // room is left, so all is said
            }
        }
        debug_assert!(rest.is_empty() && out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
    }

    /// Forget the messages so far: the next one refers back to none of them.
    pub fn reset(&mut self) {
        self.stream.reset();
    }
}

/// How far one step came.
pub(crate) struct Step {
    pub used: usize,
    /// Counts even if the step ended at corrupt data: what came out before it came out.
    pub written: usize,
    pub is_corrupt: bool,
    pub ends_stream: bool,
}

/// Inflates the messages of one direction.
///
/// Its window is always the largest, so one inflater serves any agreement, and a stream that reaches further back than
/// agreed inflates the same however it is cut. (zlib-rs takes the memory for the largest anyway.)
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Decompress,
    /// Nothing was read since a message or a stream ended.
    is_at_start: bool,
}

impl Inflater {
    fn new() -> Box<Self> {
        Box::new(Self { stream: Decompress::new(false), is_at_start: true })
    }

    fn reset(&mut self) {
        self.stream.reset(false);
        self.is_at_start = true;
    }

    /// Inflates from the front of `input` into `out`. All is out if all of `input` is used and `out` is not full.
    pub fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Step {
        let (used, written) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, out, FlushDecompress::None);
        let used = (self.stream.total_in() - used) as usize;
        let written = (self.stream.total_out() - written) as usize;
        let (mut is_corrupt, mut ends_stream) = (false, false);
        match status {
            // §7.2.3.4: a sender may end its stream inside a message. What follows is a new stream, which
            // cannot refer back to this one.
            Ok(Status::StreamEnd) => {
                ends_stream = true;
                self.reset();
            }
            // Room, data and no progress cannot be; were it so, it must not become an endless loop.
            Ok(Status::BufError) => is_corrupt = !input.is_empty() && !out.is_empty(),
            Ok(Status::Ok) => self.is_at_start &= used == 0,
            Err(_) => is_corrupt = true,
        }
        Step { used, written, is_corrupt, ends_stream }
    }

    /// Ends a message whose payload is all inflated; whether it was whole.
    ///
    /// The tail completes an empty block, and so gives no output. If it does, or if no new block can begin after it,
    /// the data was cut off. The second is tried only where the stream is not needed any more.
    fn finish(&mut self, keeps_context: bool) -> bool {
        let is_whole =
            self.is_at_start || self.takes_silently(&TAIL, false) && (keeps_context || self.takes_silently(&END, true));
        self.is_at_start = true;
        is_whole
    }

    fn takes_silently(&mut self, input: &[u8], ends_stream: bool) -> bool {
        let step = self.inflate(input, &mut [0]);
        step.used == input.len() && step.written == 0 && !step.is_corrupt && step.ends_stream == ends_stream
    }
}

/// Inflaters that connections without context borrow for one message each. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InflaterPool {
    #[expect(clippy::vec_box, reason = "they are lent and given back as they are")]
    spare: Arc<Mutex<Vec<Box<Inflater>>>>,
}

impl InflaterPool {
    /// A pool without inflaters: they are made when they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    fn take(&self) -> Box<Inflater> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(Inflater::new)
    }

    fn give_back(&self, mut inflater: Box<Inflater>) {
        inflater.reset();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(inflater);
        }
    }
}

/// Where one reader finds an inflater.
#[derive(Debug)]
pub(crate) enum Inflation {
    /// Nothing was agreed on.
    Off,
    /// Borrowed at the first byte of a message, given back at its end.
    Pooled { pool: InflaterPool, loan: Option<Box<Inflater>> },
    /// Made at the first byte of the first message, and kept: it remembers.
    Own(Option<Box<Inflater>>),
}

impl Inflation {
    /// `None` if nothing was agreed on.
    pub fn inflater(&mut self) -> Option<&mut Inflater> {
        match self {
            Self::Off => None,
            Self::Pooled { pool, loan } => Some(loan.get_or_insert_with(|| pool.take())),
            Self::Own(inflater) => Some(inflater.get_or_insert_with(Inflater::new)),
        }
    }

    /// The RSV bits that a frame may have.
    #[inline]
    pub const fn rsv(&self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Pooled { .. } | Self::Own(_) => RSV1,
        }
    }

    /// Ends a message whose payload is all inflated; whether it was whole.
    pub fn finish_message(&mut self) -> bool {
        match self {
            Self::Off => true,
            Self::Own(inflater) => inflater.as_mut().is_none_or(|it| it.finish(true)),
            Self::Pooled { loan, .. } => {
                let is_whole = loan.as_mut().is_none_or(|it| it.finish(false));
                self.end_loan();
                is_whole
            }
        }
    }

    fn end_loan(&mut self) {
        if let Self::Pooled { pool, loan } = self
            && let Some(inflater) = loan.take()
        {
            pool.give_back(inflater);
        }
    }
}

impl Drop for Inflation {
    fn drop(&mut self) {
        self.end_loan();
    }
}
