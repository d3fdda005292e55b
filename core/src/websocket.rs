//! What a connection does while it speaks WebSocket (RFC 6455): messages in both directions, pings, the closing handshake.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Step, Turn};
use crate::mailbox::{Event, Kind};
use crate::outbox::Outbox;
use crate::settings::Limits;
use crate::timers::Millis;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::http_head::RequestHead;
use wire::ws_close::{ABNORMAL, GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER, encode_close};
use wire::ws_frame::{Opcode, Role, encode_frame};
use wire::ws_handshake::{Handshake, encode_switching_protocols};
use wire::ws_message::{Incoming, MessageReader, Payload};

/// What became of a command; the seam's SENT, SHUT and FULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    Shut,
    Full,
}

pub struct WebSocket {
    reader: MessageReader,
    phase: Phase,
    inbox: Inbox,
    keep_alive: KeepAlive,
    has_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The peer closed, or broke a rule, after messages that Python has not handled; this code answers when it has.
    Answering {
        code: u16,
        since: Millis,
    },
    /// We closed; the peer has not.
    Asked {
        since: Millis,
    },
    Over,
}

/// Messages that Python has, or has been promised, and is not done with.
#[derive(Default)]
struct Inbox {
    messages: usize,
    bytes: usize,
    /// Callbacks that go on after they returned.
    held: usize,
}

struct KeepAlive {
    next_ping: Option<Millis>,
    /// The ping that waits for its pong; one at a time, Python's or ours.
    awaited: Option<Ping>,
    count: u64,
    /// When a pong came and how long it took, newest last; so that Python can see what went on while it was busy.
    round_trips: VecDeque<(Instant, Duration)>,
}

/// How many of them are kept.
const ROUND_TRIPS: usize = 32;

struct Ping {
    payload: Vec<u8>,
    at: Millis,
    sent: Instant,
}

impl WebSocket {
    fn new(limits: &Limits, now: Millis) -> WebSocket {
        let next_ping = limits.ping_interval.map(|interval| now + interval);
        WebSocket {
            reader: MessageReader::new(Role::Server, limits.message),
            phase: Phase::Open,
            inbox: Inbox::default(),
            keep_alive: KeepAlive { next_ping, awaited: None, count: 0, round_trips: VecDeque::new() },
            has_closed: false,
        }
    }

    /// Python is behind, or what comes is not wanted any more.
    pub fn is_paused(&self, limits: &Limits) -> bool {
        match self.phase {
            Phase::Open => {
                self.inbox.messages + self.inbox.held >= limits.max_inbox_messages
                    || self.inbox.bytes >= limits.max_inbox_bytes
            }
            Phase::Asked { .. } => false,
            Phase::Answering { .. } | Phase::Over => true,
        }
    }

    fn is_behind(&self) -> bool {
        self.inbox.messages + self.inbox.held > 0
    }

    pub fn deadline(&self, limits: &Limits) -> Option<Millis> {
        match self.phase {
            Phase::Open => {
                let pong = self.pong_deadline(limits);
                [self.keep_alive.next_ping, pong].into_iter().flatten().min()
            }
            Phase::Answering { since, .. } | Phase::Asked { since } => Some(since + limits.close_timeout?),
            Phase::Over => None,
        }
    }

    /// While reading waits for Python, a pong can't be seen, and its lack is not the peer's fault.
    fn pong_deadline(&self, limits: &Limits) -> Option<Millis> {
        if self.is_paused(limits) {
            return None;
        }
        Some(self.keep_alive.awaited.as_ref()?.at + limits.pong_timeout?)
    }
}

impl Connection {
    fn websocket(&mut self) -> Option<&mut WebSocket> {
        match &mut self.protocol {
            Protocol::WebSocket(websocket) => Some(websocket),
            Protocol::Http(_) => None,
        }
    }

    /// Bytes waiting in the outbox and the last round trip in seconds, of a WebSocket that can still be sent to.
    pub fn websocket_info(&self) -> Option<(usize, Option<f64>)> {
        match &self.protocol {
            Protocol::WebSocket(websocket) if self.is_open(websocket) => {
                let latency = websocket.keep_alive.round_trips.back().map(|(_, took)| took.as_secs_f64());
                Some((self.outbox.len(), latency))
            }
            _ => None,
        }
    }

    /// The last round trips as (seconds ago, seconds), oldest first.
    pub fn round_trips(&self) -> Vec<(f64, f64)> {
        match &self.protocol {
            Protocol::WebSocket(websocket) => {
                let trips = websocket.keep_alive.round_trips.iter();
                trips.map(|(at, took)| (at.elapsed().as_secs_f64(), took.as_secs_f64())).collect()
            }
            Protocol::Http(_) => Vec::new(),
        }
    }

    /// Accept the handshake: the 101 leaves, Python hears of it.
    pub fn open_websocket(&mut self, head: Arc<RequestHead>, route: usize, handshake: &Handshake, turn: &mut Turn) {
        self.outbox.append(|out| encode_switching_protocols(out, handshake, None, b""));
        self.protocol = Protocol::WebSocket(WebSocket::new(&self.settings.limits, turn.now));
        turn.site.sockets.insert(self.number);
        let request = self.request(&head, route, Vec::new(), true);
        self.stage(Kind::Open(request), turn);
    }

    pub fn read_websocket(&mut self, input: &mut [u8], turn: &mut Turn) -> Step {
        let Protocol::WebSocket(websocket) = &mut self.protocol else {
            return Step::STOP;
        };
        if input.is_empty() || websocket.is_paused(&self.settings.limits) {
            return Step::STOP;
        }
        let (used, incoming) = match websocket.reader.read(input) {
            Ok((used, Some(incoming))) => (used, incoming),
            Ok((used, None)) => {
                return Step { used, goes_on: false };
            }
            Err(refusal) => {
                turn.counters.refused += 1;
                self.close_received(refusal.code, refusal.reason, turn);
                return Step::STOP;
            }
        };
        match incoming {
            Incoming::Text(payload) => self.on_message(true, payload, turn),
            Incoming::Binary(payload) => self.on_message(false, payload, turn),
            Incoming::Ping(payload) => {
                // Pings that the peer sends faster than it reads are not answered: the newest pong is enough (§5.5.3).
                if self.outbox.len() < self.settings.limits.max_outbox_bytes {
                    self.outbox.append(|out| encode_frame(out, Opcode::Pong, &payload, None));
                }
            }
            Incoming::Pong(payload) => websocket.on_pong(&payload),
            Incoming::Close { code, reason } => {
                let reason = reason.into_owned();
                self.close_received(code, &reason, turn);
            }
        }
        Step { used, goes_on: true }
    }

    fn on_message(&mut self, is_text: bool, payload: Payload<'_>, turn: &mut Turn) {
        let number = self.number;
        let Some(websocket) = self.websocket() else {
            return;
        };
        if websocket.phase != Phase::Open {
            return; // we closed: as in a browser, what comes then is not delivered
        }
        let data = payload.into_vec();
        websocket.inbox.messages += 1;
        websocket.inbox.bytes += data.len();
        turn.counters.messages += 1;
        turn.staged.push(Event { number, at: turn.now, kind: Kind::Message { is_text, data } });
    }

    /// The peer closed, or broke a rule. Python hears of it after its messages; the peer is answered after their callbacks.
    fn close_received(&mut self, code: u16, reason: &str, turn: &mut Turn) {
        self.stage_closed(code, reason, turn);
        let Some(websocket) = self.websocket() else {
            return;
        };
        match websocket.phase {
            Phase::Open if websocket.is_behind() => websocket.phase = Phase::Answering { code, since: turn.now },
            Phase::Open => self.answer_close(code),
            _ => self.life = Life::Finishing,
        }
        turn.site.sockets.remove(&self.number);
    }

    fn answer_close(&mut self, code: u16) {
        self.outbox.append(|out| encode_close(out, code, "", None));
        if let Some(websocket) = self.websocket() {
            websocket.phase = Phase::Over;
        }
        self.life = Life::Finishing;
    }

    fn stage_closed(&mut self, code: u16, reason: &str, turn: &mut Turn) {
        turn.site.sockets.remove(&self.number);
        if let Some(websocket) = self.websocket()
            && !std::mem::replace(&mut websocket.has_closed, true)
        {
            self.stage(Kind::Closed { code, reason: reason.to_owned() }, turn);
        }
    }

    /// The connection was lost (1006, RFC 6455 §7.1.5).
    pub fn end_websocket(&mut self, turn: &mut Turn) {
        self.stage_closed(ABNORMAL, "", turn);
        self.life = Life::Dead;
    }

    /// Callbacks of this many messages have returned.
    pub fn messages_handled(&mut self, messages: usize, bytes: usize, turn: &mut Turn) {
        self.lighten(turn, |inbox| {
            inbox.messages -= messages.min(inbox.messages);
            inbox.bytes -= bytes.min(inbox.bytes);
        });
    }

    pub fn hold(&mut self) {
        if let Some(websocket) = self.websocket() {
            websocket.inbox.held += 1;
        }
    }

    pub fn release(&mut self, turn: &mut Turn) {
        self.lighten(turn, |inbox| inbox.held = inbox.held.saturating_sub(1));
    }

    /// Python is done with something: answer a close that waited for it, or read on.
    fn lighten(&mut self, turn: &mut Turn, take_off: impl FnOnce(&mut Inbox)) {
        let has_more = self.is_at_end || self.has_input();
        let limits = &self.settings.limits;
        let Protocol::WebSocket(websocket) = &mut self.protocol else { return };
        let was_paused = websocket.is_paused(limits);
        take_off(&mut websocket.inbox);
        let is_paused = websocket.is_paused(limits);
        if was_paused && !is_paused {
            // The watch over the peer goes on from the next ping: the pong to the last one is in what was not read.
            websocket.keep_alive.awaited = None;
        }
        match websocket.phase {
            Phase::Answering { code, .. } if !websocket.is_behind() => self.answer_close(code),
            Phase::Open if !is_paused && has_more => self.make_runnable(turn),
            _ => {}
        }
    }

    /// Open for messages of ours, with room for more.
    pub fn takes_messages(&self) -> bool {
        let Protocol::WebSocket(websocket) = &self.protocol else { return false };
        self.is_open(websocket) && self.outbox.len() < self.settings.limits.max_outbox_bytes
    }

    /// We have not said our close.
    fn is_open(&self, websocket: &WebSocket) -> bool {
        self.life == Life::Open && matches!(websocket.phase, Phase::Open | Phase::Answering { .. })
    }

    /// Queue a message: `write` appends its frame.
    pub fn send(&mut self, turn: &mut Turn, write: impl FnOnce(&mut Outbox)) -> Outcome {
        if self.takes_messages() {
            write(&mut self.outbox);
            return Outcome::Sent;
        }
        // A client this far behind would cost memory for ever; one that comes back finds a live server.
        match self.close_asked(TRY_AGAIN_LATER, "max_outbox_bytes reached", turn) {
            Outcome::Sent => Outcome::Full,
            closed => closed,
        }
    }

    /// Send a ping now; its pong tells the latency, unless an earlier one is still awaited.
    pub fn ping(&mut self, payload: &[u8], turn: &mut Turn) -> Outcome {
        let is_full = self.outbox.len() >= self.settings.limits.max_outbox_bytes;
        let is_open = self.life == Life::Open;
        match self.websocket() {
            Some(websocket) if is_open && websocket.phase == Phase::Open && is_full => Outcome::Full,
            Some(websocket) if is_open && websocket.phase == Phase::Open => {
                websocket.keep_alive.awaited.get_or_insert_with(|| Ping::new(payload, turn.now));
                self.outbox.append(|out| encode_frame(out, Opcode::Ping, payload, None));
                Outcome::Sent
            }
            _ => Outcome::Shut,
        }
    }

    /// Begin the closing handshake (§7.1.2).
    pub fn close_asked(&mut self, code: u16, reason: &str, turn: &mut Turn) -> Outcome {
        let Some(websocket) = self.websocket() else {
            return Outcome::Shut;
        };
        if websocket.phase != Phase::Open {
            return Outcome::Shut;
        }
        websocket.phase = Phase::Asked { since: turn.now };
        turn.site.sockets.remove(&self.number);
        self.outbox.append(|out| encode_close(out, code, reason, None));
        if self.has_input() {
            self.make_runnable(turn); // what waited is dropped, the peer's close may be behind it
        }
        Outcome::Sent
    }

    pub fn check_websocket_deadlines(&mut self, turn: &mut Turn) {
        let settings = Arc::clone(&self.settings);
        let Some(websocket) = self.websocket() else {
            return;
        };
        let is_due = |deadline: Option<Millis>| deadline.is_some_and(|deadline| deadline <= turn.now);
        match websocket.phase {
            Phase::Open if is_due(websocket.pong_deadline(&settings.limits)) => {
                self.stage_closed(ABNORMAL, "no pong within pong_timeout_s", turn);
                self.answer_close(INTERNAL_ERROR);
            }
            Phase::Open if is_due(websocket.keep_alive.next_ping) => self.keep_alive(turn),
            Phase::Answering { code, .. } if is_due(websocket.deadline(&settings.limits)) => self.answer_close(code),
            Phase::Asked { .. } if is_due(websocket.deadline(&settings.limits)) => self.end_websocket(turn),
            _ => {}
        }
    }

    /// Send the next ping, unless the last one is still under way.
    fn keep_alive(&mut self, turn: &mut Turn) {
        let interval = self.settings.limits.ping_interval;
        let can_send = self.outbox.is_empty();
        let Some(websocket) = self.websocket() else { return };
        let keep_alive = &mut websocket.keep_alive;
        keep_alive.next_ping = interval.map(|interval| turn.now + interval);
        if keep_alive.awaited.is_none() && can_send {
            keep_alive.count += 1;
            let payload = keep_alive.count.to_be_bytes();
            self.ping(&payload, turn);
        }
    }

    pub fn stop_websocket(&mut self, is_cut: bool, turn: &mut Turn) {
        if self.life == Life::Open {
            self.close_asked(GOING_AWAY, "", turn);
            if is_cut {
                self.stage_closed(GOING_AWAY, "", turn);
            }
        }
    }
}

impl WebSocket {
    fn on_pong(&mut self, payload: &[u8]) {
        if let Some(ping) = self.keep_alive.awaited.take_if(|ping| ping.payload == payload) {
            let trips = &mut self.keep_alive.round_trips;
            if trips.len() == ROUND_TRIPS {
                trips.pop_front();
            }
            trips.push_back((Instant::now(), ping.sent.elapsed()));
        }
    }
}

impl Ping {
    fn new(payload: &[u8], now: Millis) -> Ping {
        Ping { payload: payload.to_vec(), at: now, sent: Instant::now() }
    }
}
