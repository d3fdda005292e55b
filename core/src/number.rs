//! Numbers for connections and servers: unique in the process, never used again, so that a late event or
//! command can never reach a newer connection (the epoll token's generation, and httpuv's reused handles).
//!
//! Thread: any.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of a connection or a server.
pub type Number = u64;

/// The poller's token for the timer; no connection gets it.
pub const TIMER: Number = 0;
/// The poller's token for the mailbox's alarm.
pub const ALARM: Number = Number::MAX;
/// The poller's token for answers of the disk.
pub const DISK: Number = Number::MAX - 1;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The next number of this process.
pub fn next() -> Number {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Our own consecutive numbers need no hashing against attackers; a multiplication spreads them over the table.
#[derive(Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0.rotate_left(8));
        }
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Values by number.
pub type NumberMap<T> = HashMap<Number, T, BuildHasherDefault<NumberHasher>>;
/// A set of numbers.
pub type NumberSet = HashSet<Number, BuildHasherDefault<NumberHasher>>;
