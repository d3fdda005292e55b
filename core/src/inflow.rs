//! A request's body that its handler reads while it comes, at the handler's pace: what it has not asked for yet is bounded,
//! and beyond that the socket is not read. The answer may begin, and even end, before the body does.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Protocol, Step, Turn};
use crate::http::Phase;
use crate::mailbox::{Body, Kind};
use crate::number::{self, Number};
use crate::request_body::BODY_PROGRESS_BYTES;
use crate::route_table::Route;
use crate::settings::Limits;
use crate::timers::Millis;
use std::sync::Arc;
use wire::error::HttpRefusal;
use wire::http_body::BodyReader;
use wire::http_head::RequestHead;

/// While so much waits for the handler, its connection is not read.
const AHEAD_BYTES: usize = 256 * 1024;

pub const LEFT: HttpRefusal = HttpRefusal { status: 400, reason: "the client left before the end of the request body" };
pub const OVER: HttpRefusal =
    HttpRefusal { status: 400, reason: "the request has been answered, or its client is gone" };
pub const STOPPED: HttpRefusal =
    HttpRefusal { status: 503, reason: "the server stopped before the end of the request body" };
pub const TOO_SLOW: HttpRefusal =
    HttpRefusal { status: 408, reason: "the request body stood still for body_timeout_s" };

pub struct Inflow {
    /// Of this body; a late command must not read the next one of the connection.
    number: Number,
    reader: BodyReader,
    /// What has come and was not taken.
    waiting: Vec<u8>,
    received: u64,
    at_last_progress: u64,
    since: Millis,
    /// The client sends nothing before it is told to go on (RFC 9110 §10.1.1).
    awaits_continue: bool,
    /// Python waits to be told that there is something to take.
    says_arrived: bool,
    failure: Option<HttpRefusal>,
}

/// What there is for a handler.
pub enum Taken {
    Bytes(Vec<u8>),
    End,
    Nothing,
    /// It will never be whole.
    Failed(HttpRefusal),
}

impl Inflow {
    /// Nothing more will come.
    pub fn is_over(&self) -> bool {
        self.reader.is_done() || self.failure.is_some()
    }

    /// All of it has come, so the next request can follow it.
    pub fn is_whole(&self) -> bool {
        self.reader.is_done()
    }

    /// The handler has to catch up first.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= AHEAD_BYTES
    }

    /// The client has no time to lose only while it is being read, and knows that it may send.
    pub fn deadline(&self, limits: &Limits) -> Option<Millis> {
        let is_its_turn = !self.is_over() && !self.is_full() && !self.awaits_continue;
        limits.body_timeout.filter(|_| is_its_turn).map(|timeout| self.since + timeout)
    }

    fn has_news(&self) -> bool {
        !self.waiting.is_empty() || self.is_over()
    }

    fn read(&mut self, input: &[u8], now: Millis) -> usize {
        let before = self.waiting.len();
        match self.reader.read(input, &mut self.waiting) {
            Ok(used) => {
                self.received += (self.waiting.len() - before) as u64;
                if self.received >= self.at_last_progress + BODY_PROGRESS_BYTES {
                    self.at_last_progress = self.received;
                    self.since = now;
                }
                used
            }
            Err(refusal) => {
                self.fail(refusal);
                input.len() // where the next request would begin is no longer agreed on
            }
        }
    }

    fn fail(&mut self, refusal: HttpRefusal) {
        if !self.is_over() {
            self.failure = Some(refusal);
            self.waiting = Vec::new();
        }
    }
}

impl Connection {
    /// The handler gets the request now, and the body when it asks.
    pub(crate) fn begin_inflow(
        &mut self,
        head: Arc<RequestHead>,
        route: Arc<Route>,
        reader: BodyReader,
        awaits_continue: bool,
        turn: &mut Turn,
    ) {
        let number = number::next();
        let inflow = Inflow {
            number,
            reader,
            waiting: Vec::new(),
            received: 0,
            at_last_progress: 0,
            since: turn.now,
            awaits_continue,
            says_arrived: false,
            failure: None,
        };
        let request = self.request(&head, route, Body::Coming(number), false);
        self.stage(Kind::Request(request), turn);
        let http = self.http();
        http.enter(Phase::Answering { head, is_taken: false }, turn.now);
        http.inflow = Some(Box::new(inflow));
    }

    /// More of it is here.
    pub(crate) fn read_inflow(&mut self, input: &[u8], turn: &mut Turn) -> Step {
        let now = turn.now;
        let Some(inflow) = self.inflow() else { return Step::STOP };
        if inflow.is_over() || inflow.is_full() || input.is_empty() {
            return Step::STOP;
        }
        let used = inflow.read(input, now);
        self.tell_arrived(turn);
        Step { used, goes_on: false }
    }

    /// What there is of body `number`. With `says_arrived`, ARRIVED follows when there is something and now is nothing.
    pub fn take_inflow(&mut self, number: Number, says_arrived: bool, turn: &mut Turn) -> Taken {
        let now = turn.now;
        let is_unanswered =
            matches!(&self.protocol, Protocol::Http(http) if !matches!(http.phase, Phase::Streaming(_)));
        let Some(inflow) = self.inflow().filter(|inflow| inflow.number == number) else {
            return Taken::Failed(OVER);
        };
        if let Some(refusal) = inflow.failure {
            return Taken::Failed(refusal);
        }
        if !inflow.waiting.is_empty() {
            if inflow.is_full() {
                inflow.since = now;
            }
            let bytes = std::mem::take(&mut inflow.waiting);
            if self.has_input() || self.is_at_end {
                self.make_runnable(turn);
            }
            return Taken::Bytes(bytes);
        }
        if inflow.is_over() {
            return Taken::End;
        }
        inflow.says_arrived = says_arrived;
        if std::mem::take(&mut inflow.awaits_continue) {
            inflow.since = now;
            if is_unanswered {
                self.outbox.append(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
                self.is_dirty = false;
            }
        }
        Taken::Nothing
    }

    /// Whether `take_inflow` has an answer for whoever waits.
    pub fn has_news(&mut self, number: Number) -> bool {
        self.inflow().is_none_or(|inflow| inflow.number != number || inflow.has_news())
    }

    /// A body is on its way to a handler, so somebody may wait for it.
    pub fn has_inflow(&self) -> bool {
        matches!(&self.protocol, Protocol::Http(http) if http.inflow.is_some())
    }

    /// It will never be whole.
    pub(crate) fn fail_inflow(&mut self, refusal: HttpRefusal, turn: &mut Turn) {
        if let Some(inflow) = self.inflow() {
            inflow.fail(refusal);
            self.tell_arrived(turn);
        }
    }

    fn tell_arrived(&mut self, turn: &mut Turn) {
        if let Some(inflow) = self.inflow()
            && inflow.has_news()
            && std::mem::take(&mut inflow.says_arrived)
        {
            self.stage(Kind::Arrived, turn);
        }
    }

    fn inflow(&mut self) -> Option<&mut Inflow> {
        match &mut self.protocol {
            Protocol::Http(http) => http.inflow.as_deref_mut(),
            Protocol::WebSocket(_) | Protocol::Calling(_) => None,
        }
    }
}
