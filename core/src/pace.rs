//! Is the next thing about to come? Then the home thread looks for it a while instead of sleeping, or of leaving the
//! thread to its loop: waking up takes tens of microseconds on a virtual machine, and a turn of a loop as long. Whoever
//! looks for as long as a sleep costs, and then sleeps, pays at most twice what one who knew the future would.
//!
//! Thread: home. It need not always be the same one, so what are plain values here are atomics.

use crate::number::Number;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// How long it looks for the next part of a long message, or the answer to a client of ours.
pub const BRISK: Duration = Duration::from_micros(150);
/// How long it looks where one peer has said one thing after the other: as long as a sleep costs.
const DENSE: Duration = Duration::from_micros(50);
/// A wait that is over so soon, a wake-up included, was hardly one.
const SHORT: Duration = Duration::from_micros(75);
/// After so many batches with one event of this peer each. Where many talk, who sleeps finds more at once, and each costs
/// less.
const ALONE: u32 = 4;
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

/// How long to look before sleeping.
pub struct Look {
    pub most: Duration,
    /// Whether it is a guess, that may prove wrong again and again.
    is_guess: bool,
}

#[derive(Default)]
pub struct Pace {
    /// The next part of a long message is on its way.
    is_amid: AtomicBool,
    /// A client of ours has said something.
    has_asked: AtomicBool,
    /// The last wait was short.
    was_short: AtomicBool,
    /// How many batches in a row had one event, and of whom.
    alone: AtomicU32,
    peer: AtomicU64,
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
    /// The next part of a long message is on its way.
    pub fn expect_more(&self) {
        self.is_amid.store(true, Ordering::Relaxed);
    }

    /// A client of ours has said something.
    pub fn expect_answer(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// How long to look before sleeping; once for what is expected.
    pub fn look(&self) -> Look {
        let is_amid = self.is_amid.swap(false, Ordering::Relaxed);
        let has_asked = self.has_asked.swap(false, Ordering::Relaxed);
        let is_dense = self.was_short.load(Ordering::Relaxed) && self.alone.load(Ordering::Relaxed) >= ALONE;
        let most = match is_amid || has_asked {
            true => BRISK,
            false if is_dense => DENSE,
            false => Duration::ZERO,
        };
        let is_guess = !is_amid && !most.is_zero();
        if is_guess && self.passes() {
            return Look { most: Duration::ZERO, is_guess: false };
        }
        Look { most, is_guess }
    }

    /// The home thread has looked, and something came meanwhile or not.
    pub fn looked(&self, look: &Look, came: bool) {
        if look.is_guess {
            self.guessed(came);
        }
    }

    /// The home thread has waited for so long, looking and sleeping.
    pub fn waited(&self, waited: Duration) {
        self.was_short.store(waited <= SHORT, Ordering::Relaxed);
    }

    /// Something came; `peer`: one event, of this one.
    pub fn took(&self, peer: Option<Number>) {
        let before = self.peer.swap(peer.unwrap_or_default(), Ordering::Relaxed);
        let is_same = peer == Some(before);
        let alone = if is_same { self.alone.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.alone.store(alone, Ordering::Relaxed);
    }

    /// Is it worth to look for an answer before the loop has its turn?
    pub fn is_near(&self, now_us: u64) -> bool {
        self.is_near.load(Ordering::Relaxed) && self.since_came(now_us) < STINT && !self.passes()
    }

    fn since_came(&self, now_us: u64) -> Duration {
        Duration::from_micros(now_us.saturating_sub(self.came_us.load(Ordering::Relaxed)))
    }

    /// It was looked for something, and it came meanwhile; or not.
    pub fn guessed(&self, came: bool) {
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
        let asks = || {
            pace.expect_answer();
            pace.look()
        };
        let passed = || (0..).take_while(|_| asks().most.is_zero()).count();
        for _ in 0..CHANCES {
            pace.looked(&asks(), false);
            assert_eq!(passed(), 0);
        }
        for most in [2, 4, 8, 16, 32, 64, 128, 256, 256, 256] {
            pace.guessed(false);
            assert_eq!(passed(), most);
        }
        pace.looked(&asks(), true);
        assert_eq!(passed(), 0);
    }

    #[test]
    fn the_next_part_of_a_long_message_is_no_guess() {
        let pace = Pace::default();
        for _ in 0..20 {
            pace.expect_more();
            let look = pace.look();
            assert_eq!(look.most, BRISK);
            pace.looked(&look, false);
        }
        assert_eq!(pace.look().most, Duration::ZERO);
    }

    #[test]
    fn where_one_peer_says_one_thing_after_the_other_it_looks_as_long_as_a_sleep_costs() {
        let pace = Pace::default();
        let look_after = |waited, peer| {
            pace.waited(waited);
            pace.took(peer);
            pace.look().most
        };
        for _ in 0..ALONE {
            assert_eq!(look_after(SHORT, Some(7)), Duration::ZERO);
        }
        assert_eq!(look_after(SHORT, Some(7)), DENSE);
        assert_eq!(look_after(SHORT + Duration::from_micros(1), Some(7)), Duration::ZERO);
        assert_eq!(look_after(SHORT, Some(7)), DENSE);
        assert_eq!(look_after(SHORT, None), Duration::ZERO);
        for _ in 0..ALONE {
            assert_eq!(look_after(SHORT, Some(7)), Duration::ZERO);
        }
        assert_eq!(look_after(SHORT, Some(8)), Duration::ZERO);
    }
}
