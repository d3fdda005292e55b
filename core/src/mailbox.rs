//! What waits for Python: events in order, and the signal that there are some.
//!
//! Thread: any. Its lock is held for moments and inside it nothing else is locked.

use crate::access_log::Record;
use crate::number::Number;
use crate::poller::Signal;
use crate::route_table::Route;
use crate::spool::Spooled;
use crate::timers::Millis;
use parking_lot::Mutex;
use rustix::io;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use wire::http_head::{RequestHead, ResponseHead};

/// One event; the constants of the seam with their payloads.
pub struct Event {
    pub number: Number,
    pub at: Millis,
    pub kind: Kind,
}

pub enum Kind {
    Head(Box<Request>),
    Request(Box<Request>),
    Open {
        request: Box<Request>,
        protocol: Option<String>,
    },
    Message {
        is_text: bool,
        data: Vec<u8>,
    },
    Closed {
        code: u16,
        reason: String,
    },
    Gone,
    Stopped,
    Drained,
    /// For the access log; `number` is the server's.
    Logged(Box<Record>),
    Arrived,
    /// For the log; the number is the server's.
    Trouble(String),
    /// A WebSocket that we asked for is open.
    Connected {
        head: Box<ResponseHead>,
        protocol: Option<String>,
    },
    /// It will not be.
    Failed(Box<Failure>),
}

/// Why a WebSocket that we asked for was not opened; the seam's WHY_ constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The system says so; the text of `errno` tells.
    System(i32),
    /// `open_timeout` is over.
    TimedOut,
    /// The server answered, and not with 101.
    Answered,
    /// What it answered is no agreement to our handshake, or no HTTP.
    Protocol,
    /// Python thought better of it.
    Cancelled,
    /// The server's certificate is not to be trusted.
    Certificate,
    /// The server closed the connection before it had answered.
    Ended,
}

pub struct Failure {
    pub why: Why,
    pub text: String,
    /// With as much of the body as is kept.
    pub answer: Option<(Box<ResponseHead>, Vec<u8>)>,
}

/// What a request brings.
pub enum Body {
    Memory(Vec<u8>),
    File(Spooled),
    /// It is on its way; this is its number.
    Coming(Number),
}

impl Body {
    pub const EMPTY: Body = Body::Memory(Vec::new());
}

/// A request as Python gets it.
pub struct Request {
    pub server: Number,
    /// Held until Python has handled the event, see `RouteTable`.
    pub route: Arc<Route>,
    pub head: Arc<RequestHead>,
    pub body: Body,
    /// `None`: over a unix socket.
    pub client: Option<SocketAddr>,
    pub is_websocket: bool,
    /// Over TLS: the client's certificate, verified, as DER; empty if it showed none.
    pub tls: Option<Arc<[u8]>>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    is_signalled: bool,
    is_woken: bool,
    /// The home thread waits on the reactor's descriptor, where it hears the alarm but not the signal.
    is_parked: bool,
    is_alarmed: bool,
}

pub struct Mailbox {
    queue: Mutex<Queue>,
    signal: Signal,
    alarm: Signal,
}

/// What a take found.
pub struct Taken {
    pub events: VecDeque<Event>,
    /// Somebody asked for the wait to end.
    pub is_woken: bool,
}

impl Mailbox {
    pub fn new() -> io::Result<Mailbox> {
        Ok(Mailbox { queue: Mutex::default(), signal: Signal::new()?, alarm: Signal::new()? })
    }

    /// Readable while the mailbox, or the runnable list when last seen, is not empty.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    /// What wakes a parked home thread; a member of the reactor's poller, where it costs nothing until it is needed.
    pub fn alarm(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// The home thread is about to wait. False: there is something already.
    pub fn park(&self) -> bool {
        let mut queue = self.queue.lock();
        queue.is_parked = !queue.is_signalled;
        queue.is_parked
    }

    /// The home thread has waited.
    pub fn unpark(&self) {
        let mut queue = self.queue.lock();
        queue.is_parked = false;
        if std::mem::take(&mut queue.is_alarmed) {
            self.alarm.clear();
        }
    }

    /// Add events and say so. `more`: connections can go on without new bytes, so somebody must drive.
    pub fn post(&self, staged: &mut Vec<Event>, more: bool) {
        let mut queue = self.queue.lock();
        queue.events.extend(staged.drain(..));
        if more || !queue.events.is_empty() {
            self.signal_once(&mut queue);
        }
    }

    /// Add events and take at most `max_events`. The signal is set when something is left and cleared when nothing is:
    /// events that one thread finds and takes cost no system call.
    pub fn take(&self, staged: &mut Vec<Event>, max_events: usize, more: bool) -> Taken {
        let mut queue = self.queue.lock();
        queue.events.extend(staged.drain(..));
        let events = if queue.events.len() <= max_events {
            std::mem::take(&mut queue.events)
        } else {
            queue.events.drain(..max_events).collect()
        };
        let is_woken = std::mem::take(&mut queue.is_woken);
        if more || !queue.events.is_empty() {
            self.signal_once(&mut queue);
        } else if queue.is_signalled {
            queue.is_signalled = false;
            self.signal.clear();
        }
        Taken { events, is_woken }
    }

    /// When the event that has waited longest came.
    pub fn oldest(&self) -> Option<Millis> {
        self.queue.lock().events.front().map(|event| event.at)
    }

    /// Put events that nobody handled back in front.
    pub fn put_back(&self, mut events: VecDeque<Event>) {
        let mut queue = self.queue.lock();
        events.append(&mut queue.events);
        queue.events = events;
        if !queue.events.is_empty() {
            self.signal_once(&mut queue);
        }
    }

    /// Take the request of `number` away again; false if it has been taken already.
    pub fn withdraw(&self, number: Number) -> bool {
        let mut queue = self.queue.lock();
        let is_there = queue
            .events
            .iter()
            .any(|event| event.number == number && matches!(event.kind, Kind::Head(_) | Kind::Request(_)));
        if is_there {
            queue.events.retain(|event| event.number != number);
        }
        is_there
    }

    /// Nobody will take what is left.
    pub fn empty(&self) -> VecDeque<Event> {
        std::mem::take(&mut self.queue.lock().events)
    }

    /// Make the waiting take, or the next one, return.
    pub fn wake(&self) {
        let mut queue = self.queue.lock();
        queue.is_woken = true;
        self.signal_once(&mut queue);
    }

    /// In a forked child, for ever: what is signalled here would be heard by the parent.
    ///
    /// # Safety
    /// Only where no other thread exists.
    pub unsafe fn fall_silent(&self) {
        if self.queue.is_locked() {
            // SAFETY: the home thread that was about to park is not here; two flags were all that it could change.
            unsafe { self.queue.force_unlock() }
        }
        self.queue.lock().is_signalled = true;
    }

    fn signal_once(&self, queue: &mut Queue) {
        if !queue.is_signalled {
            queue.is_signalled = true;
            self.signal.set();
            if queue.is_parked {
                queue.is_alarmed = true;
                self.alarm.set();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::wait_readable;
    use std::time::Duration;

    fn event(number: Number) -> Event {
        Event { number, at: 0, kind: Kind::Gone }
    }
    fn is_signalled(mailbox: &Mailbox) -> bool {
        wait_readable(&[mailbox.descriptor()], Some(Duration::ZERO)).unwrap() == 1
    }
    fn numbers(taken: &Taken) -> Vec<Number> {
        taken.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn the_signal_stands_until_everything_is_taken() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.post(&mut vec![event(1), event(2), event(3)], false);
        assert!(is_signalled(&mailbox));
        assert_eq!(numbers(&mailbox.take(&mut vec![], 2, false)), [1, 2]);
        assert!(is_signalled(&mailbox));
        assert_eq!(numbers(&mailbox.take(&mut vec![event(4)], 9, false)), [3, 4]);
        assert!(!is_signalled(&mailbox));
    }

    #[test]
    fn runnable_connections_keep_the_signal() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.take(&mut vec![event(1)], 9, true);
        assert!(is_signalled(&mailbox));
        mailbox.take(&mut vec![], 9, false);
        assert!(!is_signalled(&mailbox));
    }

    #[test]
    fn the_oldest_is_the_first_that_nobody_took() {
        let mailbox = Mailbox::new().unwrap();
        assert_eq!(mailbox.oldest(), None);
        let taken = mailbox.take(&mut vec![Event { at: 5, ..event(1) }, Event { at: 7, ..event(2) }], 1, false);
        assert_eq!(mailbox.oldest(), Some(7));
        mailbox.put_back(taken.events);
        assert_eq!(mailbox.oldest(), Some(5));
    }

    #[test]
    fn unhandled_events_come_back_first() {
        let mailbox = Mailbox::new().unwrap();
        let taken = mailbox.take(&mut vec![event(1), event(2)], 9, false);
        mailbox.post(&mut vec![event(3)], false);
        mailbox.put_back(taken.events);
        assert_eq!(numbers(&mailbox.take(&mut vec![], 9, false)), [1, 2, 3]);
    }

    #[test]
    fn a_parked_home_is_alarmed_and_an_absent_one_is_not() {
        let mailbox = Mailbox::new().unwrap();
        let is_alarmed = || wait_readable(&[mailbox.alarm()], Some(Duration::ZERO)).unwrap() == 1;
        mailbox.post(&mut vec![event(1)], false);
        assert!(!is_alarmed());
        assert!(!mailbox.park());
        mailbox.take(&mut vec![], 9, false);
        assert!(mailbox.park());
        mailbox.post(&mut vec![event(2)], false);
        assert!(is_alarmed());
        mailbox.unpark();
        assert!(!is_alarmed());
    }

    #[test]
    fn a_wake_is_seen_once() {
        let mailbox = Mailbox::new().unwrap();
        mailbox.wake();
        assert!(mailbox.take(&mut vec![], 9, false).is_woken);
        assert!(!mailbox.take(&mut vec![], 9, false).is_woken);
    }
}
