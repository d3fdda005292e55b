//! Pings at an interval, the pongs they get, and what follows when one is missing (RFC 6455 §5.5.2, §5.5.3).
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Turn};
use crate::settings::Limits;
use crate::timers::Millis;
use crate::websocket_send::Outcome;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::ws_frame::{Opcode, encode_frame};

/// How many round trips are kept.
const ROUND_TRIPS: usize = 32;

pub struct KeepAlive {
    next_ping: Option<Millis>,
    /// The ping that waits for its pong; one at a time, Python's or ours.
    awaited: Option<Box<Ping>>,
    count: u64,
    /// When a pong came and how long it took, newest last; so that Python can see what went on while it was busy.
    round_trips: VecDeque<(Instant, Duration)>,
}

struct Ping {
    payload: Vec<u8>,
    sent: Instant,
    /// When the wait for the pong began, or began again.
    since: Millis,
    /// What the peer had acknowledged by then.
    acknowledged: i64,
    /// What it had sent of a frame by then, as the reactor counts.
    received: u64,
}

impl KeepAlive {
    pub fn new(limits: &Limits, now: Millis) -> KeepAlive {
        let next_ping = limits.ping_interval.map(|interval| now + interval);
        KeepAlive { next_ping, awaited: None, count: 0, round_trips: VecDeque::new() }
    }

    /// `is_deaf`: we don't read just now, so no pong can be seen, and its lack is not the peer's fault.
    pub fn deadline(&self, limits: &Limits, is_deaf: bool) -> Option<Millis> {
        let pong = if is_deaf { None } else { self.pong_deadline(limits) };
        [self.next_ping, pong].into_iter().flatten().min()
    }

    fn pong_deadline(&self, limits: &Limits) -> Option<Millis> {
        Some(self.awaited.as_ref()?.since + limits.pong_timeout?)
    }

    /// The watch over the peer goes on from the next ping: the pong to the last one is in what was not read.
    pub fn forgive(&mut self) {
        self.awaited = None;
    }

    pub fn on_pong(&mut self, payload: &[u8]) {
        if let Some(ping) = self.awaited.take_if(|ping| ping.payload == payload) {
            if self.round_trips.len() == ROUND_TRIPS {
                self.round_trips.pop_front();
            }
            self.round_trips.push_back((Instant::now(), ping.sent.elapsed()));
        }
    }

    pub fn latency(&self) -> Option<Duration> {
        self.round_trips.back().map(|(_, took)| *took)
    }

    /// The last round trips as (seconds ago, seconds), oldest first.
    pub fn round_trips(&self) -> Vec<(f64, f64)> {
        let trips = self.round_trips.iter();
        trips.map(|(at, took)| (at.elapsed().as_secs_f64(), took.as_secs_f64())).collect()
    }
}

impl Connection {
    /// Send a ping now; its pong tells the latency, unless an earlier one is still awaited.
    pub fn ping(&mut self, payload: &[u8], turn: &mut Turn) -> Outcome {
        if !self.can_say_more() {
            return Outcome::Shut;
        }
        if self.outbox.len() >= self.settings.limits.max_outbox_bytes {
            return Outcome::Full;
        }
        let mask = self.mask();
        self.outbox.append(|out| encode_frame(out, Opcode::Ping, payload, mask));
        let (acknowledged, received) = self.progress();
        let Some(websocket) = self.websocket() else { return Outcome::Shut };
        websocket.keep_alive.awaited.get_or_insert_with(|| {
            let payload = payload.to_vec();
            Box::new(Ping { payload, sent: Instant::now(), since: turn.now, acknowledged, received })
        });
        Outcome::Sent
    }

    /// What tells a peer that is slow from one that is gone.
    fn progress(&self) -> (i64, u64) {
        (self.acknowledged(), self.received_of_frame())
    }

    /// The next ping is due, or a pong. False: the peer is gone.
    pub fn keep_alive(&mut self, is_deaf: bool, turn: &mut Turn) -> bool {
        let (acknowledged, received) = self.progress();
        let limits = self.settings.limits.clone();
        let has_outbox = !self.outbox.is_empty();
        let Some(websocket) = self.websocket() else { return true };
        let keep_alive = &mut websocket.keep_alive;
        let is_due = |deadline: Option<Millis>| deadline.is_some_and(|deadline| deadline <= turn.now);
        if !is_deaf && is_due(keep_alive.pong_deadline(&limits)) {
            let Some(ping) = &mut keep_alive.awaited else { return true };
            // Our ping may still be behind what a slow peer has to read, or its pong behind a long frame that it sends.
            // While either goes on, the peer is alive; a client that is only slow is the outbox's business.
            let goes_on = acknowledged > ping.acknowledged || received != ping.received;
            if !goes_on {
                return false;
            }
            ping.since = turn.now;
            ping.acknowledged = acknowledged;
            ping.received = received;
        }
        if is_due(keep_alive.next_ping) {
            keep_alive.next_ping = limits.ping_interval.map(|interval| turn.now + interval);
            if limits.pong_timeout.is_none() {
                keep_alive.awaited = None; // nobody minds that it is missing; proxies mind when nothing is said
            }
            if keep_alive.awaited.is_none() && !has_outbox {
                keep_alive.count += 1;
                let payload = keep_alive.count.to_be_bytes();
                self.outbox.shrink(); // it has been quiet for a while
                self.ping(&payload, turn);
            }
        }
        true
    }
}
