//! gzip (RFC 1952): a whole body, or one that comes piece by piece. What is compressed is for `http_compression`.
//!
//! Thread: any; a pool is shared, and locked for moments.

use crate::ws_deflate::{Deflater, TAIL};
use flate2::Crc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Deflate, no name, and no time, which would make the same body differ each second; the system is "unknown".
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty block that ends its stream; what was compressed before it ends on a whole byte.
const END: [u8; 2] = [0x03, 0x00];
const WINDOW_BITS: u8 = 15;

/// How many compressors wait to be borrowed.
const MAX_SPARE: usize = 4;
/// How many bodies under way keep a compressor, 300 KiB each, that remembers the pieces before: event streams last for
/// hours. The pieces of further ones are compressed each by itself, which is worse for short ones and needs no memory.
pub const MAX_KEPT: usize = 64;

/// Compressors to borrow. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct GzipPool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// With the level of each.
    spare: Mutex<Vec<(u8, Deflater)>>,
    kept: AtomicUsize,
}

impl GzipPool {
    /// A pool without compressors: they are made when they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// A whole body. `None`: it would not get smaller. `level`: 1 to 9.
    pub fn compress(&self, level: u8, body: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(body.len() / 4 + 64);
        let mut stream = GzipStream::new(self, level);
        stream.write_alone(body, &mut out);
        stream.finish(&mut out);
        (out.len() < body.len()).then_some(out)
    }

    fn take(&self, level: u8) -> Deflater {
        let mut spare = self.shared.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let found = spare.iter().position(|(other, _)| *other == level).map(|index| spare.swap_remove(index).1);
        drop(spare);
        found.unwrap_or_else(|| Deflater::new(level, WINDOW_BITS))
    }

    fn give_back(&self, level: u8, mut deflater: Deflater) {
        deflater.reset();
        let mut spare = self.shared.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() >= MAX_SPARE {
            spare.remove(0); // perhaps of a level that nobody uses any more
        }
        spare.push((level, deflater));
    }

    /// A compressor to keep, unless too many are kept.
    fn keep(&self, level: u8) -> Option<Deflater> {
        let kept = &self.shared.kept;
        let one_more = |count| (count < MAX_KEPT).then_some(count + 1);
        kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(self.take(level))
    }
}

/// One body, compressed piece by piece. Whatever was written can be read by the client at once.
#[derive(Debug)]
pub struct GzipStream {
    pool: GzipPool,
    level: u8,
    sum: Crc,
    has_begun: bool,
    kept: Option<Deflater>,
}

impl GzipStream {
    /// Nothing is written yet, and no memory taken. `level`: 1 to 9.
    pub fn new(pool: &GzipPool, level: u8) -> Self {
        Self { pool: pool.clone(), level, sum: Crc::new(), has_begun: false, kept: None }
    }

    /// Append what the client needs to read this piece. An empty one appends nothing.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if piece.is_empty() {
            return;
        }
        if self.kept.is_none() {
            self.kept = self.pool.keep(self.level);
        }
        match self.kept.take() {
            None => self.write_alone(piece, out),
            Some(mut deflater) => {
                self.deflate(&mut deflater, piece, out);
                self.kept = Some(deflater);
            }
        }
    }

    /// The same without a look at earlier pieces, by a compressor that is borrowed for this one.
    fn write_alone(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut deflater = self.pool.take(self.level);
        self.deflate(&mut deflater, piece, out);
        self.pool.give_back(self.level, deflater);
    }

    fn deflate(&mut self, deflater: &mut Deflater, piece: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        self.sum.update(piece);
        deflater.compress(piece, out);
        out.extend_from_slice(&TAIL);
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            out.extend_from_slice(&HEADER);
        }
    }

    /// Append the end (RFC 1952 §2.3.1: the sum and the length, modulo 2³², tell the client that it has everything).
    pub fn finish(mut self, out: &mut Vec<u8>) {
        self.begin(out);
        out.extend_from_slice(&END);
        out.extend_from_slice(&self.sum.sum().to_le_bytes());
        out.extend_from_slice(&self.sum.amount().to_le_bytes());
    }
}

impl Drop for GzipStream {
    fn drop(&mut self) {
        if let Some(deflater) = self.kept.take() {
            self.pool.give_back(self.level, deflater);
            self.pool.shared.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
