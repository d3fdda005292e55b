//! Where threads wait for outboxes to become empty.
//!
//! Thread: any.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Default)]
pub struct Gate {
    waiting: AtomicUsize,
    opened: Mutex<u64>,
    changed: Condvar,
}

/// Somebody who is going to wait. From here on nothing that opens the gate is missed.
pub struct Waiter<'a> {
    gate: &'a Gate,
    seen: u64,
}

impl Gate {
    /// Let everybody who waits look again. Costs nothing when nobody does.
    pub fn open(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            *self.opened.lock() += 1;
            self.changed.notify_all();
        }
    }

    pub fn enter(&self) -> Waiter<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiter { gate: self, seen: *self.opened.lock() }
    }
}

impl Waiter<'_> {
    /// Until the gate opens, or has opened since the last wait.
    pub fn wait(&mut self, timeout: Duration) {
        let mut opened = self.gate.opened.lock();
        if *opened == self.seen {
            self.gate.changed.wait_for(&mut opened, timeout);
        }
        self.seen = *opened;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn what_happens_between_looking_and_waiting_is_not_missed() {
        let gate = Gate::default();
        let mut waiter = gate.enter();
        gate.open();
        let begun = Instant::now();
        waiter.wait(Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::scope(|scope| {
            scope.spawn(|| gate.open());
            waiter.wait(Duration::from_secs(60));
        });
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
