//! What is written down of requests and answers for the access log. It is made here, so that nothing is missed while
//! Python is busy, and worded in Python.
//!
//! A request is logged when the last byte of its answer has left, or with its connection. Where its answer ends is known
//! as a place in the stream of all bytes that the connection ever sends, so that answers that queue up are told apart.
//!
//! Thread: whoever holds the reactor; a record also home, which drops it.

use crate::connection::{Connection, Turn};
use crate::mailbox::{Event, Kind};
use crate::number::Number;
use crate::timers::Millis;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::http_head::{Content, RequestHead};

/// So many records wait for Python; those that come then are lost, and counted.
const MAX_RECORDS: usize = 10_000;
/// They keep the heads that they are about; so much of them, whichever comes first.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// About what a record takes besides.
const RECORD_COST_BYTES: usize = 256;
/// So much is kept of the first line of what is no request.
const MAX_LINE_BYTES: usize = 1024;
/// nginx's number for a client that left before its answer.
const CLIENT_LEFT: u16 = 499;

/// One line of the log; the payload of the seam's LOGGED.
pub struct Record {
    pub client: Option<SocketAddr>,
    pub asked: Asked,
    pub status: u16,
    /// How much was sent after the head of the answer; of a WebSocket's end, after its handshake.
    pub body_bytes: u64,
    pub began: Duration,
    pub took: Duration,
    /// All of the answer has left.
    pub is_whole: bool,
    /// This is the end of a WebSocket.
    pub close_code: Option<u16>,
    /// How many records before this one found no room.
    pub lost: u64,
    _place: Place,
}

/// What the client said.
#[derive(Clone)]
pub enum Asked {
    Request(Arc<RequestHead>),
    /// What was no request: its first line, as it came.
    Line(Box<[u8]>),
}

impl Asked {
    fn size(&self) -> usize {
        RECORD_COST_BYTES
            + match self {
                Asked::Request(head) => head.size(),
                Asked::Line(line) => line.len(),
            }
    }
}

/// How much room there is for records: as many places are taken as there are records alive.
#[derive(Default)]
pub struct Room {
    records: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicU64,
    lost_for_ever: AtomicU64,
}

struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// A place, and how many found none since the last that did.
    fn enter(self: &Arc<Room>, bytes: usize) -> Option<(Place, u64)> {
        let is_full = self.records.load(Ordering::Relaxed) >= MAX_RECORDS
            || self.bytes.load(Ordering::Relaxed) + bytes > MAX_RECORD_BYTES;
        if is_full {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_for_ever.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Some((Place { room: Arc::clone(self), bytes }, self.lost.swap(0, Ordering::Relaxed)))
    }

    /// How many records were lost since the beginning.
    pub fn lost_for_ever(&self) -> u64 {
        self.lost_for_ever.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.records.fetch_sub(1, Ordering::Relaxed);
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One connection's requests that have not been logged.
#[derive(Default)]
pub struct AccessLog {
    /// The one without an answer.
    pending: Option<Pending>,
    /// Those whose answers have not left, in order.
    answered: VecDeque<Answered>,
    /// What the connection has become.
    websocket: Option<Socket>,
}

struct Pending {
    asked: Asked,
    since: Millis,
}

struct Answered {
    pending: Pending,
    status: u16,
    /// Where its body begins and ends among all bytes of the connection; `None`: it is not known yet.
    from: u64,
    until: Option<u64>,
}

struct Socket {
    pending: Pending,
    from: u64,
    close_code: u16,
}

impl Connection {
    /// A request has come, of which the first byte came at `since`.
    pub fn log_request(&mut self, head: &Arc<RequestHead>, since: Millis) {
        if let Some(log) = &mut self.log {
            log.pending = Some(Pending { asked: Asked::Request(Arc::clone(head)), since });
        }
    }

    /// `input`, since that time, is no request.
    pub fn log_malformed(&mut self, input: &[u8], since: Millis) {
        if let Some(log) = &mut self.log {
            let end = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
            let line = &input[..end.min(MAX_LINE_BYTES)];
            log.pending = Some(Pending { asked: Asked::Line(line.into()), since });
        }
    }

    /// The head of an answer is in the outbox. `has_body`: its content follows.
    pub fn log_answer(&mut self, status: u16, content: Content, has_body: bool, turn: &Turn) {
        let from = self.appended();
        let Some(log) = &mut self.log else { return };
        // Who is refused at the door has said nothing.
        let at_the_door = || Pending { asked: Asked::Line(Box::default()), since: turn.now };
        let pending = log.pending.take().unwrap_or_else(at_the_door);
        let until = match content {
            Content::Length(length) if has_body => Some(from + length),
            Content::Chunked if has_body => None,
            _ => Some(from),
        };
        log.answered.push_back(Answered { pending, status, from, until });
    }

    /// The body of unknown length is complete.
    pub fn log_end_of_body(&mut self) {
        let end = self.appended();
        if let Some(log) = &mut self.log
            && let Some(last) = log.answered.back_mut()
        {
            last.until.get_or_insert(end);
        }
    }

    /// The handshake has been answered.
    pub fn log_websocket(&mut self, turn: &Turn) {
        let from = self.appended();
        let Some(log) = &mut self.log else { return };
        let Some(Pending { asked, since }) = log.pending.take() else { return };
        log.websocket = Some(Socket {
            pending: Pending { asked: asked.clone(), since: turn.now },
            from,
            close_code: wire::ws_close::ABNORMAL,
        });
        log.answered.push_back(Answered { pending: Pending { asked, since }, status: 101, from, until: Some(from) });
    }

    pub fn log_close_code(&mut self, code: u16) {
        if let Some(socket) = self.log.as_mut().and_then(|log| log.websocket.as_mut()) {
            socket.close_code = code;
        }
    }

    /// Log what has left; when the connection is over, also what never will.
    pub fn settle_log(&mut self, turn: &mut Turn) {
        let is_over = self.is_over();
        let (taken, appended) = (self.outbox.taken(), self.appended());
        let Some(log) = &mut self.log else { return };
        let (site, client) = (self.site, self.client);
        while let Some(first) = log.answered.front() {
            let is_whole = first.until.is_some_and(|until| until <= taken);
            if !is_whole && !is_over {
                break;
            }
            let Some(Answered { pending, status, from, until }) = log.answered.pop_front() else { break };
            let body_bytes = until.unwrap_or(appended).min(taken).saturating_sub(from);
            let outcome = Outcome { status, body_bytes, is_whole, close_code: None };
            stage(site, client, pending, outcome, turn);
        }
        if !is_over {
            return;
        }
        if let Some(pending) = log.pending.take() {
            let outcome = Outcome { status: CLIENT_LEFT, body_bytes: 0, is_whole: false, close_code: None };
            stage(site, client, pending, outcome, turn);
        }
        if let Some(Socket { pending, from, close_code }) = log.websocket.take() {
            let body_bytes = taken.saturating_sub(from);
            let outcome = Outcome { status: 101, body_bytes, is_whole: true, close_code: Some(close_code) };
            stage(site, client, pending, outcome, turn);
        }
    }

    /// How many bytes were ever put into the outbox.
    fn appended(&self) -> u64 {
        self.outbox.taken() + self.outbox.len() as u64
    }
}

struct Outcome {
    status: u16,
    body_bytes: u64,
    is_whole: bool,
    close_code: Option<u16>,
}

fn stage(site: Number, client: Option<SocketAddr>, pending: Pending, outcome: Outcome, turn: &mut Turn) {
    let took = Duration::from_millis(turn.now.saturating_sub(pending.since));
    turn.staged.extend(record(turn.room, client, pending.asked, outcome, took).map(|record| Event {
        // The server's number: what is withdrawn or dropped with a connection is not its log.
        number: site,
        at: turn.now,
        kind: Kind::Logged(Box::new(record)),
    }));
}

fn record(
    room: &Arc<Room>,
    client: Option<SocketAddr>,
    asked: Asked,
    outcome: Outcome,
    took: Duration,
) -> Option<Record> {
    let (place, lost) = room.enter(asked.size())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Outcome { status, body_bytes, is_whole, close_code } = outcome;
    let began = now.saturating_sub(took);
    Some(Record { client, asked, status, body_bytes, began, took, is_whole, close_code, lost, _place: place })
}

/// Somebody was answered with `status` who never became a connection.
pub fn turned_away(room: &Arc<Room>, client: Option<SocketAddr>, status: u16, body_bytes: u64) -> Option<Record> {
    let outcome = Outcome { status, body_bytes, is_whole: true, close_code: None };
    record(room, client, Asked::Line(Box::default()), outcome, Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_bounded_in_number_and_size_and_what_is_lost_is_told_once() {
        let room = Arc::new(Room::default());
        let mut places: Vec<Place> = (0..MAX_RECORDS).map(|_| room.enter(1).unwrap().0).collect();
        assert!(room.enter(1).is_none() && room.enter(1).is_none());
        places.pop();
        let (place, lost) = room.enter(1).unwrap();
        assert_eq!(lost, 2);
        drop((place, places));
        let (_all, lost) = room.enter(MAX_RECORD_BYTES).unwrap();
        assert_eq!(lost, 0);
        assert!(room.enter(1).is_none());
        assert_eq!(room.lost_for_ever(), 3);
    }
}
