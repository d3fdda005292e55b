//! Is the next thing about to come? Then the home thread looks for it a while instead of sleeping, or of leaving the
//! thread to its loop: waking up takes tens of microseconds on a virtual machine, and a turn of a loop as long.
//!
//! Thread: home. It need not always be the same one, so what are plain values here are atomics.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long it looks for the next part of a long message, or the answer to a client of ours.
pub const BRISK: Duration = Duration::from_micros(150);
/// How long answers are looked for without a turn of the loop, where others live, too.
const STINT: Duration = Duration::from_micros(500);
/// A turn of a loop that only waits takes 10 to 25 µs of the processor; whoever sees more than this has company.
const IDLE: Duration = Duration::from_micros(50);
/// How soon it is measured again: what tells how a thread does are system calls.
const REMEASURE: Duration = Duration::from_micros(200);
/// Looking in vain so often in a row is chance. From then on it is done more and more seldom: the other side is far away,
/// or needs the one processor that there is.
const CHANCES: u32 = 3;
const MOST_PASSES: u32 = 256;

/// A time, and what this thread has done until then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    pub at_us: u64,
    /// What it has had of a processor.
    pub worked_us: u64,
    /// How often it has slept.
    pub sleeps: u64,
}

#[derive(Default)]
pub struct Pace {
    /// More is about to come.
    is_brisk: AtomicBool,
    /// An answer was left to the loop, and it is measured how soon it comes.
    is_measuring: AtomicBool,
    left_us: AtomicU64,
    left_worked_us: AtomicU64,
    /// The last answer that was measured came within `BRISK`, and nobody else in the loop wanted the thread meanwhile.
    is_near: AtomicBool,
    /// When it came, and how often the thread had slept by then.
    came_us: AtomicU64,
    came_sleeps: AtomicU64,
    misses: AtomicU32,
    passes: AtomicU32,
}

impl Pace {
    /// More is about to come.
    pub fn expect_more(&self) {
        self.is_brisk.store(true, Ordering::Relaxed);
    }

    /// Is it worth to look for more before sleeping? True once for each `expect_more`.
    pub fn expects_more(&self) -> bool {
        self.is_brisk.swap(false, Ordering::Relaxed) && !self.passes()
    }

    /// Is it worth to look for an answer before the loop has its turn?
    pub fn is_near(&self, now_us: u64) -> bool {
        self.is_near.load(Ordering::Relaxed) && self.since_came(now_us) < STINT && !self.passes()
    }

    fn since_came(&self, now_us: u64) -> Duration {
        Duration::from_micros(now_us.saturating_sub(self.came_us.load(Ordering::Relaxed)))
    }

    /// It was looked for something, and it came meanwhile; or not.
    pub fn looked(&self, came: bool) {
        let misses = if came { 0 } else { self.misses.load(Ordering::Relaxed).saturating_add(1) };
        self.misses.store(misses, Ordering::Relaxed);
        if misses > CHANCES {
            let passes = 1 << (misses - CHANCES).min(MOST_PASSES.ilog2());
            self.passes.store(passes, Ordering::Relaxed);
        }
    }

    fn passes(&self) -> bool {
        let passes = self.passes.load(Ordering::Relaxed);
        self.passes.store(passes.saturating_sub(1), Ordering::Relaxed);
        passes > 0
    }

    /// An answer is left to the loop.
    pub fn leave(&self, now_us: u64, worked_us: impl FnOnce() -> u64) {
        self.is_near.store(false, Ordering::Relaxed);
        if self.since_came(now_us) >= REMEASURE {
            self.left_us.store(now_us, Ordering::Relaxed);
            self.left_worked_us.store(worked_us(), Ordering::Relaxed);
            self.is_measuring.store(true, Ordering::Relaxed);
        }
    }

    /// The loop has had its turn, and something came.
    pub fn came(&self, now: impl FnOnce() -> Moment) {
        if !self.is_measuring.load(Ordering::Relaxed) {
            return;
        }
        self.is_measuring.store(false, Ordering::Relaxed);
        let now = now();
        let waited = Duration::from_micros(now.at_us.saturating_sub(self.left_us.load(Ordering::Relaxed)));
        let worked = Duration::from_micros(now.worked_us.saturating_sub(self.left_worked_us.load(Ordering::Relaxed)));
        let has_slept = self.came_sleeps.swap(now.sleeps, Ordering::Relaxed) != now.sleeps;
        self.is_near.store(waited <= BRISK && worked <= IDLE && has_slept, Ordering::Relaxed);
        self.came_us.store(now.at_us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer is left to the loop at `left_us`.
    fn measure(pace: &Pace, left_us: u64, waited_us: u64, worked_us: u64, has_slept: bool) {
        let sleeps = pace.came_sleeps.load(Ordering::Relaxed) + u64::from(has_slept);
        pace.leave(left_us, || 1_000);
        pace.came(|| Moment { at_us: left_us + waited_us, worked_us: 1_000 + worked_us, sleeps });
    }

    #[test]
    fn an_answer_that_came_soon_in_an_idle_loop_is_near_for_a_stint() {
        let pace = Pace::default();
        assert!(!pace.is_near(0));
        measure(&pace, 10_000, 150, 50, true);
        assert!(pace.is_near(10_150));
        assert!(pace.is_near(10_649));
        assert!(!pace.is_near(10_650));
    }

    #[test]
    fn a_late_answer_is_not_near() {
        let pace = Pace::default();
        measure(&pace, 10_000, 151, 20, true);
        assert!(!pace.is_near(10_151));
    }

    #[test]
    fn a_loop_with_company_has_its_thread_for_itself() {
        let pace = Pace::default();
        measure(&pace, 10_000, 100, 51, true);
        assert!(!pace.is_near(10_100));
        measure(&pace, 20_000, 100, 50, false);
        assert!(!pace.is_near(20_100));
        measure(&pace, 30_000, 100, 50, true);
        assert!(pace.is_near(30_100));
    }

    #[test]
    fn it_is_not_measured_all_the_time() {
        let pace = Pace::default();
        measure(&pace, 10_000, 40, 20, true);
        pace.leave(10_239, || panic!("too soon"));
        pace.came(|| panic!("nothing is measured"));
        assert!(!pace.is_near(10_240));
        measure(&pace, 10_240, 40, 20, true);
        assert!(pace.is_near(10_280));
    }

    #[test]
    fn looking_in_vain_becomes_seldom_until_something_comes() {
        let pace = Pace::default();
        let expects_more = || {
            pace.expect_more();
            pace.expects_more()
        };
        let passed = || (0..).take_while(|_| !expects_more()).count();
        for _ in 0..CHANCES {
            pace.looked(false);
            assert_eq!(passed(), 0);
        }
        for most in [2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
            pace.looked(false);
            assert_eq!(passed(), most);
        }
        pace.looked(true);
        assert_eq!(passed(), 0);
    }
}
