//! Deadlines of connections and listeners behind one timer descriptor.
//!
//! A deadline that moves later stays where it is filed and is looked at again when it fires: traffic only writes a
//! number into its connection. The timer is set again only for an earlier deadline, or disarmed when none is left, so
//! an idle process is not woken.
//!
//! Thread: whoever holds the reactor.

use crate::number::Number;
use crate::poller::Poller;
use std::collections::BTreeSet;
use std::time::Duration;

/// Milliseconds on the reactor's monotonic clock.
pub type Millis = u64;

#[derive(Default)]
pub struct Timers {
    filed: BTreeSet<(Millis, Number)>,
    armed: Option<Millis>,
    /// The earliest deadline may not be what the timer is set for.
    is_stale: bool,
}

impl Timers {
    /// File `number` under `wanted`, given that it is filed under `current`; returns where it is filed now.
    pub fn file(&mut self, number: Number, current: Option<Millis>, wanted: Option<Millis>) -> Option<Millis> {
        match (current, wanted) {
            (None, None) => None,
            (Some(filed), Some(wanted)) if filed <= wanted => Some(filed),
            _ => {
                self.is_stale = true;
                if let Some(filed) = current {
                    self.filed.remove(&(filed, number));
                }
                if let Some(wanted) = wanted {
                    self.filed.insert((wanted, number));
                }
                wanted
            }
        }
    }

    /// Take the numbers that are filed up to `now`.
    pub fn due(&mut self, now: Millis) -> Vec<Number> {
        self.armed = None;
        self.is_stale = true;
        let mut due = Vec::new();
        while let Some(&(at, number)) = self.filed.first() {
            if at > now {
                break;
            }
            self.filed.pop_first();
            due.push(number);
        }
        due
    }

    /// Set the timer for the earliest deadline, if that is not what it waits for already.
    pub fn arm(&mut self, poller: &Poller, now: Millis) {
        if !std::mem::replace(&mut self.is_stale, false) {
            return;
        }
        match (self.filed.first(), self.armed) {
            (None, None) => {}
            (None, Some(_)) => {
                poller.set_timer(None);
                self.armed = None;
            }
            (Some(&(at, _)), armed) if armed.is_none_or(|armed| at < armed) => {
                poller.set_timer(Some(Duration::from_millis(at.saturating_sub(now))));
                self.armed = Some(at);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_deadline_stays_filed() {
        let mut timers = Timers::default();
        let filed = timers.file(7, None, Some(100));
        assert_eq!(timers.file(7, filed, Some(500)), Some(100));
        assert!(timers.due(99).is_empty());
        assert_eq!(timers.due(100), [7]);
    }

    #[test]
    fn an_earlier_deadline_moves() {
        let mut timers = Timers::default();
        let filed = timers.file(7, None, Some(500));
        assert_eq!(timers.file(7, filed, Some(100)), Some(100));
        assert_eq!(timers.due(600), [7]);
        assert!(timers.due(600).is_empty());
    }

    #[test]
    fn a_dropped_deadline_is_gone() {
        let mut timers = Timers::default();
        let filed = timers.file(7, None, Some(500));
        assert_eq!(timers.file(7, filed, None), None);
        assert!(timers.due(1000).is_empty());
    }
}
