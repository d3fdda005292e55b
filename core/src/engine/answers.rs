//! Answers to clients of ours in a loop, taken before the loop has its turn.
//!
//! In a loop an answer costs two system calls that wait, the loop's and ours inside it, a sleep, and a turn of the loop
//! for the coroutine that wanted it. Where the last one came at once, and the loop had nothing else to do, it is quicker to
//! look for the next one where it is wanted. `Pace` decides, and sees to it that the loop has its turns.
//!
//! Thread: home.

use super::{Doing, Engine};
use crate::mailbox::{Event, Kind};
use crate::number::Number;
use crate::pace::{BRISK, Moment};
use crate::poller::wait_ready;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// A message that came for somebody who waited for it.
pub struct Answer {
    pub is_text: bool,
    pub data: Vec<u8>,
}

impl Engine {
    /// As `is_answer_near`, for one that `take` is to look for.
    pub fn expects_answer(&self) -> bool {
        let is_near = self.is_answer_near();
        if is_near {
            self.pace.expect_answer();
        }
        is_near
    }

    /// Has a client of ours said something to which the answer is about to come? True once at most.
    pub fn is_answer_near(&self) -> bool {
        if !self.is_home() || self.doing() != Doing::Away {
            return false; // in the middle of a batch, of which that answer is no part
        }
        let Some(mut lease) = self.try_lease() else { return false };
        let has_asked = std::mem::take(&mut lease.has_asked);
        drop(lease);
        let is_near = has_asked && self.pace.is_near(self.now_us());
        if has_asked && !is_near {
            self.leave_to_loop();
        }
        is_near
    }

    /// The next message of `number`, if nothing else comes before it, and it comes soon. Whatever else comes waits in the
    /// mailbox. Never call it attached to the interpreter.
    pub fn look_for(&self, number: Number) -> Option<Answer> {
        let answer = self.look_until(number, Instant::now() + BRISK);
        self.pace.guessed(answer.is_some());
        if answer.is_none() {
            self.leave_to_loop();
        }
        answer
    }

    fn look_until(&self, number: Number, until: Instant) -> Option<Answer> {
        let mut ready = Vec::new();
        while self.mailbox.park() {
            self.set_doing(Doing::Parked);
            while ready.is_empty() && Instant::now() < until {
                let _ = wait_ready(&self.inner, &mut ready, Some(Duration::ZERO));
            }
            self.set_doing(Doing::Away);
            self.seen();
            self.mailbox.unpark();
            self.rouse_watchman(false);
            if ready.is_empty() {
                return None;
            }
            let mut lease = self.try_lease()?;
            lease.turn_with(&mut ready);
            let is_answer = |event: &Event| event.number == number && matches!(event.kind, Kind::Message { .. });
            if lease.staged.first().is_some_and(is_answer)
                && let Kind::Message { is_text, data } = lease.staged.remove(0).kind
            {
                lease.with(number, |connection, turn| {
                    connection.hold(data.len());
                    connection.messages_handled(1, data.len(), turn);
                });
                return Some(Answer { is_text, data });
            }
        }
        None
    }

    /// Whoever waits for an answer leaves the thread to its loop.
    fn leave_to_loop(&self) {
        self.pace.leave(self.now_us(), worked_us);
    }

    /// A batch with events is taken.
    pub(super) fn something_came(&self) {
        self.pace.came(|| Moment { at_us: self.now_us(), worked_us: worked_us(), sleeps: sleeps() });
    }

    fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }
}

/// How much this thread has had of a processor.
fn worked_us() -> u64 {
    let worked = clock_gettime(ClockId::ThreadCPUTime); // what getrusage says is late by a tick
    worked.tv_sec as u64 * 1_000_000 + worked.tv_nsec as u64 / 1_000
}

/// How often it has waited for something.
fn sleeps() -> u64 {
    // SAFETY: plain data, of which zeros are a valid value, and which the call fills.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut used);
        used
    };
    used.ru_nvcsw as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calling::Call;
    use crate::mailbox::Mailbox;
    use crate::outgoing::Outgoing;
    use crate::poller::wait_readable;
    use crate::settings::{Settings, WebSocketOptions, test_settings};
    use crate::stream::Stream;
    use crate::websocket_send::Outcome;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use wire::ws_frame::Opcode;
    use wire::ws_handshake::accept_for_key;

    const HELLO: &[u8] = b"\x81\x05hello";

    /// A client of ours whose WebSocket is open, and the server's end of it.
    fn open(engine: &Engine) -> (Number, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let call = Call::new("localhost", "/", &[], WebSocketOptions::default(), None).unwrap();
        let settings = Settings::outbound(test_settings().limits, false);
        let number = engine.lease().call(Stream::new(OwnedFd::from(ours)), call, settings).unwrap();
        engine.arrive();
        engine.take_now(9);
        let mut head = vec![0; 4096];
        let len = theirs.read(&mut head).unwrap();
        let head = String::from_utf8_lossy(&head[..len]);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key:")).unwrap().trim();
        let accept = accept_for_key(key.as_bytes());
        let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
        write!(theirs, "HTTP/1.1 101 Switching Protocols\r\n{fields}").unwrap();
        theirs.write_all(&[&accept[..], b"\r\n\r\n"].concat()).unwrap();
        let events = engine.take_now(9).events;
        assert!(matches!(events[0].kind, Kind::Connected { .. }));
        engine.end_batch(std::iter::empty().collect());
        (number, theirs)
    }

    fn say(engine: &Engine, number: Number) {
        let mut question = Outgoing::to_one(Opcode::Text, b"question"[..].into());
        assert_eq!(engine.lease().send(number, false, &mut question), Outcome::Sent);
    }

    /// What has to be so for anybody to look.
    fn make_near(engine: &Engine) {
        engine.pace.leave(engine.now_us() + 1_000_000, || 0);
        engine.pace.came(|| Moment { at_us: engine.now_us() + 1_000_000, worked_us: 0, sleeps: u64::MAX });
    }

    fn is_signalled(mailbox: &Mailbox) -> bool {
        wait_readable(&[mailbox.descriptor()], Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn only_who_has_said_something_expects_an_answer_and_once() {
        let engine = Engine::new().unwrap();
        let (number, _theirs) = open(&engine);
        make_near(&engine);
        assert!(!engine.is_answer_near());
        say(&engine, number);
        assert!(engine.is_answer_near());
        assert!(!engine.is_answer_near());
    }

    #[test]
    fn an_answer_is_taken_and_held_and_leaves_nothing_to_the_loop() {
        let engine = Engine::new().unwrap();
        let (number, mut theirs) = open(&engine);
        theirs.write_all(HELLO).unwrap();
        let answer = engine.look_for(number).unwrap();
        assert_eq!((answer.is_text, &answer.data[..]), (true, &b"hello"[..]));
        assert!(!is_signalled(&engine.mailbox));
        assert!(engine.take_now(9).events.is_empty());
        assert_eq!(engine.lease().with(number, |connection, _| connection.inbox()), Some((0, 1, 5)));
    }

    #[test]
    fn what_follows_an_answer_waits_in_the_mailbox_and_comes_first() {
        let engine = Engine::new().unwrap();
        let (number, mut theirs) = open(&engine);
        theirs.write_all(&[HELLO, b"\x82\x01x"].concat()).unwrap();
        assert!(engine.look_for(number).is_some());
        assert!(is_signalled(&engine.mailbox));
        theirs.write_all(HELLO).unwrap();
        assert!(engine.look_for(number).is_none());
        let events = engine.take_now(9).events;
        let lengths = events.iter().filter_map(|event| match &event.kind {
            Kind::Message { data, .. } => Some(data.len()),
            _ => None,
        });
        assert_eq!(lengths.collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn what_comes_for_somebody_else_ends_the_search() {
        let engine = Engine::new().unwrap();
        let (number, _theirs) = open(&engine);
        let (other, mut others) = open(&engine);
        others.write_all(HELLO).unwrap();
        assert!(engine.look_for(number).is_none());
        assert!(is_signalled(&engine.mailbox));
        let events = engine.take_now(9).events;
        assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn an_answer_that_does_not_come_is_left_to_the_loop() {
        let engine = Engine::new().unwrap();
        let (number, _theirs) = open(&engine);
        make_near(&engine);
        assert!(engine.look_for(number).is_none());
        say(&engine, number);
        assert!(!engine.is_answer_near());
    }

    #[test]
    fn nobody_looks_in_the_middle_of_a_batch_or_on_another_thread() {
        let engine = Engine::new().unwrap();
        let (number, _theirs) = open(&engine);
        make_near(&engine);
        say(&engine, number);
        engine.leave_home(true);
        assert!(!engine.is_answer_near());
        engine.end_batch(std::iter::empty().collect());
        assert!(!std::thread::scope(|scope| scope.spawn(|| engine.is_answer_near()).join().unwrap()));
        assert!(engine.is_answer_near());
    }
}
