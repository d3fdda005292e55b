//! One socket with its protocol, its outbox and its limits. What it does with HTTP is in `http`, with WebSocket in
//! `websocket`, before its server has agreed to that in `calling`; here is what they share: reading, flushing, deadlines,
//! ending.
//!
//! Thread: whoever holds the reactor.

use crate::access_log::{AccessLog, Room};
use crate::calling::Calling;
use crate::disk::Disk;
use crate::files::{FileCache, How};
use crate::http::Http;
use crate::mailbox::{Event, Failure, Kind, Why};
use crate::number::Number;
use crate::outbox::{FileSlice, Flushed, Outbox};
use crate::outgoing::Compressors;
use crate::poller::{Interest, Poller, Ready};
use crate::reactor::{Counters, Site};
use crate::settings::Settings;
use crate::stream::{Received, Stream};
use crate::timers::{Millis, Timers};
use crate::websocket::WebSocket;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use wire::error::HttpRefusal;

/// A connection reads at most this much before others have their turn: a message of 64 KiB with its header, in one piece.
pub const READ_PER_TURN_BYTES: usize = 64 * 1024 + wire::ws_frame::MAX_HEADER_BYTES;
/// Answers beyond this wait until the client has read some.
pub const CHOKED_BYTES: usize = 64 * 1024;
/// In the middle of a long message: each read lets its sender go on, and waking it costs as much as many copies.
pub const READ_MOST_BYTES: usize = 256 * 1024;
/// A client that takes an answer counts as going on when it took this much within write_timeout_s, so that a little now
/// and then does not keep a connection and what waits for it.
const READ_PROGRESS_BYTES: i64 = 4 * 1024;
/// A read of so much is part of something long, and its next part is microseconds away.
const AMID_BYTES: usize = 32 * 1024;
/// How long what a client still sends is thrown away after the last answer. Closing at once would reset the connection,
/// and the reset can overtake the answer (RFC 9112 §9.6).
const LINGER: Millis = 2_000;
/// Where one disk failure follows the other.
const REPORT_AGAIN: Millis = 1_000;

/// What the reactor lends a connection for one step.
pub struct Turn<'a> {
    /// The next part of a long message is on its way; see `pace`.
    pub is_amid: &'a mut bool,
    /// A client of ours has said something, which is mostly answered at once; see `pace`.
    pub has_asked: &'a mut bool,
    pub now: Millis,
    pub date: &'a [u8; 29],
    pub poller: &'a Poller,
    pub timers: &'a mut Timers,
    pub staged: &'a mut Vec<Event>,
    pub runnable: &'a mut VecDeque<Number>,
    pub dirty: &'a mut Vec<Number>,
    pub site: &'a mut Site,
    pub counters: &'a mut Counters,
    /// Requests whose answer_timeout_s is over.
    pub overdue: &'a mut Vec<Number>,
    pub compressors: &'a mut Compressors,
    pub files: &'a mut FileCache,
    pub disk: &'a Arc<dyn Disk>,
    /// What the last long message was kept in; the next one grows into it.
    pub spare: &'a mut Vec<u8>,
    /// For what is read of files.
    pub scratch: &'a mut Vec<u8>,
    /// For records of the access log.
    pub room: &'a Arc<Room>,
}

/// Boxed, so that an idle WebSocket does not carry what HTTP needs.
pub enum Protocol {
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
    /// Ours, until the server has agreed to a WebSocket.
    Calling(Box<Calling>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Open,
    /// Ends when the outbox is empty.
    Finishing,
    /// We said our last; what still comes is thrown away until this time.
    Lingering(Millis),
    Dead,
}

/// What became of one step through the input.
pub struct Step {
    pub used: usize,
    /// More of the input can be used now.
    pub goes_on: bool,
}

impl Step {
    pub const STOP: Step = Step { used: 0, goes_on: false };
}

pub struct Connection {
    pub number: Number,
    pub site: Number,
    pub client: Option<SocketAddr>,
    pub settings: Arc<Settings>,
    pub protocol: Protocol,
    pub outbox: Outbox,
    pub life: Life,
    /// The peer has ended its half, or the socket failed.
    pub is_at_end: bool,
    /// In the reactor's list of corked outboxes.
    pub is_dirty: bool,
    /// In the reactor's list of connections that go on without new bytes.
    pub is_runnable: bool,
    /// Requests wait until it is choked no longer.
    pub awaits_room: bool,
    /// `None`: nobody asked for one.
    pub log: Option<Box<AccessLog>>,
    stream: Stream,
    /// Since when TLS has been shaking hands.
    shakes_since: Option<Millis>,
    /// With TLS: the verified certificate of the client, empty if it showed none.
    pub peer_certificate: Option<Arc<[u8]>>,
    /// Received and not used: half a head, or what came while reading was paused.
    pub(crate) input: Vec<u8>,
    interest: Interest,
    /// Left the poller after a hang-up, because at interest 0 it would be reported for ever.
    is_detached: bool,
    filed: Option<Millis>,
    /// Since when the socket takes no bytes.
    blocked_since: Option<Millis>,
    /// What the peer had acknowledged by then.
    acknowledged_then: i64,
    /// Bytes that came, for ever.
    received: u64,
}

impl Connection {
    pub fn new(
        number: Number,
        site: Number,
        stream: Stream,
        client: Option<SocketAddr>,
        settings: Arc<Settings>,
        now: Millis,
    ) -> Connection {
        let log = settings.logs_access.then(Box::default);
        Connection {
            number,
            site,
            client,
            settings,
            protocol: Protocol::Http(Box::new(Http::new(now))),
            outbox: Outbox::default(),
            life: Life::Open,
            is_at_end: false,
            is_dirty: false,
            is_runnable: false,
            awaits_room: false,
            log,
            shakes_since: stream.is_handshaking().then_some(now),
            peer_certificate: None,
            stream,
            input: Vec::new(),
            interest: Interest::READ,
            is_detached: false,
            filed: None,
            blocked_since: None,
            acknowledged_then: 0,
            received: 0,
        }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }
    /// The system took less than we had.
    pub fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }
    /// How many bytes the peer has taken, as far as the system knows; of a unix socket, which counts its own bookkeeping
    /// too, only good for comparing.
    pub fn acknowledged(&self) -> i64 {
        self.stream.taken() as i64 - self.stream.unacknowledged() as i64
    }
    /// So much waits for a peer that doesn't read, or for the disk, that no more requests of it are answered: a few bytes
    /// each would make the outbox grow by a page each.
    pub fn is_choked(&self) -> bool {
        (self.is_blocked() || self.outbox.waits_for_disk()) && self.outbox.len() >= CHOKED_BYTES
    }
    /// Changes while a WebSocket frame goes on arriving, which may be long and holds up the pongs behind it.
    pub fn received_of_frame(&self) -> u64 {
        match &self.protocol {
            Protocol::WebSocket(websocket) if websocket.is_mid_frame() => self.received,
            _ => 0,
        }
    }
    pub fn is_dead(&self) -> bool {
        self.life == Life::Dead
    }
    /// Nothing of this connection concerns its server any more.
    pub fn is_over(&self) -> bool {
        matches!(self.life, Life::Lingering(_) | Life::Dead)
    }

    /// The poller reported it.
    pub fn on_ready(&mut self, ready: Ready, buffer: &mut [u8], turn: &mut Turn) {
        if matches!(self.protocol, Protocol::Calling(_)) && !self.check_call(turn) {
            return;
        }
        if ready.writable {
            self.flush(turn);
        }
        if !ready.readable && !ready.hung_up {
            return;
        }
        if self.wants_read() {
            self.receive(buffer, turn);
        } else if ready.hung_up {
            self.on_hang_up(turn);
        }
    }

    /// Go on with what is here already.
    pub fn go_on(&mut self, buffer: &mut [u8], turn: &mut Turn) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.advance(&mut input, turn);
        input.drain(..used);
        self.input = input;
        if self.life != Life::Open {
            self.input = Vec::new();
        } else if self.is_at_end && !self.is_paused() && !self.is_digesting() {
            self.on_end(turn);
        } else if (self.is_detached || self.stream.has_end()) && self.wants_read() {
            self.receive(buffer, turn);
        }
    }

    fn receive(&mut self, buffer: &mut [u8], turn: &mut Turn) {
        let most = match &self.protocol {
            Protocol::WebSocket(websocket) if websocket.is_mid_frame() => buffer.len(),
            Protocol::Http(http) if http.is_mid_body() => buffer.len(),
            _ => READ_PER_TURN_BYTES,
        };
        let received = self.stream.receive(&mut buffer[..most], turn.scratch);
        if self.shakes_since.is_some() {
            self.on_handshake_step(turn);
        }
        match received {
            Ok(Received::End) => self.on_end(turn),
            _ if matches!(self.life, Life::Finishing | Life::Lingering(_)) => {} // thrown away
            Ok(Received::NotTls) => self.refuse_plain(turn),
            Ok(Received::Bytes(count)) => {
                self.received += count as u64;
                *turn.is_amid |= count >= AMID_BYTES;
                self.on_bytes(&mut buffer[..count], turn);
                if let Protocol::WebSocket(websocket) = &mut self.protocol
                    && websocket.is_mid_frame()
                {
                    websocket.lend(turn.spare);
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) if matches!(self.protocol, Protocol::Calling(_)) => self.call_broken(&error, turn),
            Err(error) if error.kind() == io::ErrorKind::InvalidData && self.shakes_since.is_some() => {
                self.refuse_handshake(turn);
            }
            Err(_) => self.on_failure(turn),
        }
    }

    /// A part of a handshake has come. It costs as much as hundreds of requests, so the turn looks at the clock.
    fn on_handshake_step(&mut self, turn: &mut Turn) {
        turn.counters.handshake_steps += 1;
        if !self.stream.is_handshaking() {
            self.shakes_since = None;
            self.peer_certificate = self.stream.peer_certificate();
            turn.counters.handshakes += u64::from(self.stream.is_tls());
            if let Protocol::Http(http) = &mut self.protocol {
                http.restart(turn.now);
            }
        }
    }

    /// The alert that says why has been sent; closing over what the client still says could overtake it.
    fn refuse_handshake(&mut self, turn: &mut Turn) {
        turn.counters.failed_handshakes += 1;
        self.stream.end_tls();
        self.shakes_since = None;
        self.outbox.clear();
        self.life = Life::Finishing;
    }

    /// Plain HTTP where TLS is spoken: whoever typed the address should see what is wrong.
    fn refuse_plain(&mut self, turn: &mut Turn) {
        let reason = "This is a TLS port; its addresses begin with https:// or wss://";
        self.refuse(HttpRefusal { status: 400, reason }, &[], turn);
    }

    fn on_bytes(&mut self, bytes: &mut [u8], turn: &mut Turn) {
        if self.input.is_empty() {
            let used = self.advance(bytes, turn);
            if self.life == Life::Open && used < bytes.len() {
                self.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            self.input.extend_from_slice(bytes);
            let mut input = std::mem::take(&mut self.input);
            let used = self.advance(&mut input, turn);
            if self.life == Life::Open {
                input.drain(..used);
                self.input = input;
            }
        }
    }

    /// Use as much of `bytes` as can be used now.
    fn advance(&mut self, bytes: &mut [u8], turn: &mut Turn) -> usize {
        let mut used = 0;
        while self.life == Life::Open {
            let rest = &mut bytes[used..];
            let step = match self.protocol {
                Protocol::Http(_) => self.read_http(rest, turn),
                Protocol::WebSocket(_) => self.read_websocket(rest, turn),
                Protocol::Calling(_) => self.read_answer(rest, turn),
            };
            used += step.used;
            if !step.goes_on {
                break;
            }
        }
        used
    }

    /// The end of the peer's half.
    fn on_end(&mut self, turn: &mut Turn) {
        self.is_at_end = true;
        if self.life != Life::Open {
            self.life = Life::Dead;
            return;
        }
        match self.protocol {
            // The requests before it first; unless it broke, when nobody reads an answer.
            Protocol::Http(_) if self.is_runnable && self.has_input() && !self.is_detached => {}
            Protocol::Http(_) => self.end_http(turn),
            Protocol::WebSocket(_) if self.is_paused() || self.is_digesting() => {} // its messages first
            Protocol::WebSocket(_) => self.end_websocket(turn),
            Protocol::Calling(_) => self.end_call(turn),
        }
    }

    /// The socket is broken: nothing can be sent any more.
    pub fn on_failure(&mut self, turn: &mut Turn) {
        self.outbox.clear();
        self.detach(turn);
        let was_http = matches!(self.protocol, Protocol::Http(_));
        self.on_end(turn);
        if was_http {
            self.life = Life::Dead;
        }
    }

    fn on_hang_up(&mut self, turn: &mut Turn) {
        let has_messages = matches!(self.protocol, Protocol::WebSocket(_)) && (self.is_paused() || self.is_digesting());
        if self.life == Life::Open && has_messages {
            self.detach(turn); // they come before the end; requests that nobody will read an answer to don't
        } else {
            self.on_failure(turn);
        }
    }

    fn detach(&mut self, turn: &mut Turn) {
        if !self.is_detached {
            self.is_detached = true;
            turn.poller.delete(&self.stream);
        }
    }

    /// Send what the socket takes.
    pub fn flush(&mut self, turn: &mut Turn) {
        let flushed = self.outbox.flush(&mut self.stream, turn.scratch);
        self.note_flushed(flushed, turn);
    }

    /// Send what waits, and `payload` behind it.
    pub fn flush_with(&mut self, payload: &[u8], turn: &mut Turn) {
        let flushed = self.outbox.flush_with(&mut self.stream, payload, turn.scratch);
        self.note_flushed(flushed, turn);
    }

    fn note_flushed(&mut self, flushed: io::Result<Flushed>, turn: &mut Turn) {
        match flushed {
            Ok(Flushed::All | Flushed::WaitsForDisk | Flushed::WaitsForPeer) => self.blocked_since = None,
            Ok(Flushed::NeedsDisk(slice)) => {
                self.blocked_since = None;
                self.read_elsewhere(slice, turn);
            }
            Ok(Flushed::Blocked) => {
                self.blocked_since = Some(turn.now);
                self.acknowledged_then = self.acknowledged();
                if let Some(websocket) = self.websocket() {
                    websocket.note_blocked();
                }
            }
            Err(error) if matches!(self.protocol, Protocol::Calling(_)) => self.call_broken(&error, turn),
            Err(_) => self.on_failure(turn),
        }
    }

    /// Read what comes next where waiting is no harm.
    fn read_elsewhere(&self, slice: FileSlice, turn: &Turn) {
        let number = self.number;
        turn.disk.submit(Box::new(move || {
            let mut bytes = vec![0; slice.length];
            let read = slice.file.read_at(slice.start, &mut bytes, How::Blocking);
            bytes.truncate(read.unwrap_or(0));
            Box::new(move |reactor| {
                reactor.with(number, |connection, turn| connection.file_read(bytes, turn));
            })
        }));
    }

    fn file_read(&mut self, bytes: Vec<u8>, turn: &mut Turn) {
        if self.outbox.file_read(bytes).is_err() {
            // Half an answer whose length was promised: only a broken connection says that it is not whole.
            self.on_failure(turn);
            self.life = Life::Dead;
        }
    }

    /// Unless it is blocked, or corked for the end of a batch.
    fn flush_new(&mut self, turn: &mut Turn) {
        let has_unsent = !self.outbox.is_empty() || self.stream.has_unsent();
        if has_unsent && !self.interest.write && !self.is_dirty {
            self.flush(turn);
        }
    }

    /// After every step: send, end, and tell poller and timers what is wanted now.
    pub fn settle(&mut self, turn: &mut Turn) {
        self.flush_new(turn);
        // Here, because any flush may have made room, also one that follows the stop at once.
        if self.awaits_room && !self.is_choked() {
            self.awaits_room = false;
            self.make_runnable(turn);
        }
        if let Protocol::WebSocket(websocket) = &self.protocol
            && websocket.on_empty.is_needed()
            && self.outbox.is_empty()
        {
            self.on_empty(turn);
        }
        if self.outbox.is_empty() && matches!(self.protocol, Protocol::Http(_)) {
            self.stream_is_drained(turn);
        }
        if self.life == Life::Finishing && self.outbox.is_empty() && self.finish(turn) {
            // Who hung up reads no answer, and would never be seen to end.
            let is_gone = self.is_at_end || self.is_detached;
            self.life = if is_gone { Life::Dead } else { Life::Lingering(turn.now + LINGER) };
        }
        if self.log.is_some() {
            self.settle_log(turn);
        }
        if self.life == Life::Dead {
            self.filed = turn.timers.file(self.number, self.filed, None);
            return;
        }
        self.settle_interest(turn);
        let deadline = self.deadline();
        self.filed = turn.timers.file(self.number, self.filed, deadline);
    }

    /// Say the end. False: as soon as the socket can be written to.
    fn finish(&mut self, turn: &Turn) -> bool {
        let is_said = self.stream.finish();
        if !is_said {
            self.blocked_since.get_or_insert(turn.now);
        }
        is_said
    }

    fn settle_interest(&mut self, turn: &mut Turn) {
        let wanted = Interest { read: self.wants_read(), write: self.blocked_since.is_some() };
        if wanted.read && self.life == Life::Open && self.stream.has_end() {
            self.make_runnable(turn); // no new byte will tell of it
        }
        if self.is_detached {
            if wanted.read {
                self.make_runnable(turn);
            }
        } else if wanted != self.interest {
            self.interest = wanted;
            if turn.poller.modify(&self.stream, self.number, wanted).is_err() {
                self.life = Life::Dead;
            }
        }
    }

    pub fn make_runnable(&mut self, turn: &mut Turn) {
        if !self.is_runnable {
            self.is_runnable = true;
            turn.runnable.push_back(self.number);
        }
    }

    fn wants_read(&self) -> bool {
        match self.life {
            Life::Open => !self.is_at_end && !self.is_paused() && !self.is_digesting(),
            Life::Finishing | Life::Dead => false,
            Life::Lingering(_) => true,
        }
    }

    /// Reading waits for Python.
    fn is_paused(&self) -> bool {
        match &self.protocol {
            Protocol::Http(http) => !http.wants_read(self.input.len()) || self.is_choked(),
            Protocol::WebSocket(websocket) => websocket.is_paused(&self.settings.limits),
            Protocol::Calling(_) => false,
        }
    }

    /// What has been read is still being worked on, in turns with other connections.
    fn is_digesting(&self) -> bool {
        let Protocol::WebSocket(websocket) = &self.protocol else { return false };
        self.is_runnable && (self.has_input() || websocket.has_more())
    }

    /// The timer found it filed; `at` is no longer where it is filed.
    pub fn on_timer(&mut self, turn: &mut Turn) {
        self.filed = None;
        if let Life::Lingering(until) = self.life {
            if until <= turn.now {
                self.life = Life::Dead;
            }
            return;
        }
        if matches!(self.protocol, Protocol::Calling(_)) {
            return self.call_timed_out(turn);
        }
        if self.handshake_deadline().is_some_and(|deadline| deadline <= turn.now) {
            turn.counters.failed_handshakes += 1;
            self.life = Life::Dead;
            return;
        }
        if self.write_deadline().is_some_and(|deadline| deadline <= turn.now) && !self.is_read_slowly(turn) {
            self.on_failure(turn);
            if matches!(self.protocol, Protocol::WebSocket(_)) {
                self.end_websocket(turn); // though its messages wait for Python, which a failure would wait for
            }
            self.life = Life::Dead;
            return;
        }
        match self.protocol {
            Protocol::Http(_) => self.check_http_deadline(turn),
            Protocol::WebSocket(_) => self.check_websocket_deadlines(turn),
            Protocol::Calling(_) => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        let own = match (&self.life, &self.protocol) {
            (Life::Lingering(until), _) => Some(*until),
            // It bounds handshake and writing, too.
            (Life::Open, Protocol::Calling(calling)) => return calling.deadline(),
            (Life::Open, _) if self.shakes_since.is_some() => self.handshake_deadline(),
            (Life::Open, Protocol::Http(http)) => http.deadline(&self.settings.limits),
            (Life::Open, Protocol::WebSocket(websocket)) => websocket.deadline(&self.settings.limits),
            _ => None,
        };
        [own, self.write_deadline()].into_iter().flatten().min()
    }

    fn handshake_deadline(&self) -> Option<Millis> {
        Some(self.shakes_since? + self.settings.limits.handshake_timeout?)
    }

    fn write_deadline(&self) -> Option<Millis> {
        Some(self.blocked_since? + self.settings.limits.write_timeout?)
    }

    /// The system asks for more only when much of its buffer is free. A peer that takes a little now and then is alive, and
    /// its time begins again.
    fn is_read_slowly(&mut self, turn: &Turn) -> bool {
        let acknowledged = self.acknowledged();
        let least = match self.protocol {
            Protocol::Http(_) => READ_PROGRESS_BYTES,
            Protocol::WebSocket(_) | Protocol::Calling(_) => 1, // however slow: it is also asked for pongs
        };
        let is_so = acknowledged - self.acknowledged_then >= least;
        if is_so {
            self.blocked_since = Some(turn.now);
            self.acknowledged_then = acknowledged;
        }
        is_so
    }

    /// The server stops: end politely. `is_cut`: whatever is unfinished ends now.
    pub fn stop(&mut self, is_cut: bool, turn: &mut Turn) {
        match self.protocol {
            Protocol::Http(_) => self.stop_http(is_cut, turn),
            Protocol::WebSocket(_) => self.stop_websocket(is_cut, turn),
            Protocol::Calling(_) => self.call_failed(Why::Cancelled, "", turn),
        }
        if is_cut && !self.is_over() {
            self.flush(turn);
            if !self.outbox.is_empty() {
                self.stream.give_up_sending(); // what is cut must not end as if it were whole
            }
            self.outbox.clear();
            if self.life != Life::Dead {
                self.life = Life::Finishing;
            }
        }
    }

    /// After a bug: tell Python, say nothing to the peer, end.
    pub fn give_up(&mut self, turn: &mut Turn) {
        self.filed = turn.timers.file(self.number, self.filed, None);
        self.life = Life::Dead;
        self.leave_server(turn);
        self.settle_log(turn);
        let last = match self.protocol {
            Protocol::Http(_) => Kind::Gone,
            Protocol::WebSocket(_) => Kind::Closed { code: 1011, reason: String::new() },
            Protocol::Calling(_) => {
                Kind::Failed(Box::new(Failure { why: Why::Cancelled, text: String::new(), answer: None }))
            }
        };
        self.stage(last, turn);
    }

    /// Tell Python of a failure that no callback of its will hear of; once a second is enough.
    pub fn report(&self, text: String, turn: &mut Turn) {
        if turn.now >= turn.site.silent_until {
            turn.site.silent_until = turn.now + REPORT_AGAIN;
            turn.staged.push(Event { number: self.site, at: turn.now, kind: Kind::Trouble(text) });
        }
    }

    /// Tell Python of this connection.
    pub fn stage(&self, kind: Kind, turn: &mut Turn) {
        turn.staged.push(Event { number: self.number, at: turn.now, kind });
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
