//! All sockets of one core, driven in short turns by whoever holds it: the home thread while it waits, the watchman
//! while Python is busy. It never waits itself.
//!
//! Thread: whoever holds the reactor (see `engine`).

mod counters;
mod servers;
mod site;

pub use counters::Counters;
pub use site::Site;

use crate::access_log::Room;
use crate::connection::{Connection, Turn};
use crate::disk::{Answers, Disk};
use crate::files::{Entry, FileCache, Mount};
use crate::gate::Gate;
use crate::mailbox::{Event, Mailbox};
use crate::number::{ALARM, DISK, Number, NumberMap, NumberSet, TIMER};
use crate::outgoing::{Coding, Compressors, Outgoing};
use crate::poller::{Poller, Ready};
use crate::timers::{Millis, Timers};
use crate::websocket_send::Outcome;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::file_path::RelativePath;
use wire::ws_frame::Opcode;

/// A turn is short, so that a thread that waits for the reactor waits as long at most.
const TURN: Duration = Duration::from_micros(500);
const RECEIVE_BUFFER_BYTES: usize = crate::connection::READ_MOST_BYTES;

/// The most that is kept for the next long message.
const MAX_SPARE_BYTES: usize = 4 << 20;

pub struct Reactor {
    pub counters: Counters,
    /// What callbacks of the running batch send waits for its end; see `engine`.
    pub is_corking: bool,
    /// The next part of a long message is on its way.
    pub is_amid: bool,
    /// A client of ours has said something.
    pub has_asked: bool,
    pub staged: Vec<Event>,
    poller: Poller,
    timers: Timers,
    /// Boxed: the table keeps room for twice as many.
    connections: NumberMap<Box<Connection>>,
    sites: NumberMap<Site>,
    /// The site of the connections that we open, once there was one.
    outbound: Option<Number>,
    runnable: VecDeque<Number>,
    dirty: Vec<Number>,
    overdue: Vec<Number>,
    compressors: Compressors,
    gate: Arc<Gate>,
    files: FileCache,
    disk: Arc<dyn Disk>,
    answers: Arc<Answers>,
    spare: Vec<u8>,
    scratch: Vec<u8>,
    room: Arc<Room>,
    ready: Vec<Ready>,
    buffer: Box<[u8]>,
    mailbox: Arc<Mailbox>,
    /// Numbers that commands may name, also for threads that can't have the reactor just now.
    live: Arc<Mutex<NumberSet>>,
    /// A descriptor for the day when there are none.
    reserve: Option<OwnedFd>,
    started: Instant,
    now: Millis,
    date: [u8; 29],
    date_until: Millis,
}

impl Reactor {
    pub fn new(
        poller: Poller,
        mailbox: Arc<Mailbox>,
        live: Arc<Mutex<NumberSet>>,
        gate: Arc<Gate>,
        answers: Arc<Answers>,
        disk: Arc<dyn Disk>,
        started: Instant,
    ) -> Reactor {
        let reserve = poller.reserve();
        Reactor {
            counters: Counters::default(),
            is_corking: false,
            is_amid: false,
            has_asked: false,
            staged: Vec::new(),
            poller,
            timers: Timers::default(),
            connections: NumberMap::default(),
            sites: NumberMap::default(),
            outbound: None,
            runnable: VecDeque::new(),
            dirty: Vec::new(),
            overdue: Vec::new(),
            compressors: Compressors::default(),
            gate,
            files: FileCache::default(),
            disk,
            answers,
            spare: Vec::new(),
            scratch: Vec::new(),
            room: Arc::default(),
            ready: Vec::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice(),
            mailbox,
            live,
            reserve,
            started,
            now: 0,
            date: [b' '; 29],
            date_until: 0,
        }
    }

    // ---- time -------------------------------------------------------------------------------------------------------

    /// Look at the clock; the Date field is made once a second.
    pub fn tick(&mut self) -> Millis {
        self.now = self.started.elapsed().as_millis() as Millis;
        if self.now >= self.date_until {
            let wall = SystemTime::now();
            let past_second = wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
            self.date_until = self.now + 1000 - Millis::from(past_second);
            let text = httpdate::fmt_http_date(wall);
            if let Ok(date) = text.as_bytes().try_into() {
                self.date = date;
            }
        }
        self.now
    }

    // ---- turns ------------------------------------------------------------------------------------------------------

    /// Can connections go on without new bytes?
    pub fn is_runnable(&self) -> bool {
        !self.runnable.is_empty()
    }

    /// Look what is ready and serve it, for at most `TURN`.
    pub fn turn(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.look(&mut ready);
        self.turn_with(&mut ready);
        self.ready = ready;
    }

    /// Serve what was found ready, for at most `TURN`. What somebody else has served meanwhile does no harm.
    pub fn turn_with(&mut self, ready: &mut Vec<Ready>) {
        let begun = Instant::now();
        self.counters.turns += 1;
        self.tick();
        self.go_on(begun);
        let mut steps = self.counters.handshake_steps;
        for (index, item) in ready.drain(..).enumerate() {
            // What is left stays ready: the poller is level-triggered, and reports the others first next time.
            let is_costly =
                std::mem::replace(&mut steps, self.counters.handshake_steps) != self.counters.handshake_steps;
            if (is_costly || index % 8 == 7) && begun.elapsed() > TURN {
                break;
            }
            self.serve(item);
        }
        self.arm();
    }

    /// Set the timer for the earliest deadline.
    pub fn arm(&mut self) {
        self.timers.arm(&self.poller, self.now);
    }

    fn serve(&mut self, ready: Ready) {
        if ready.number == TIMER {
            self.fire();
        } else if ready.number == ALARM {
            // The home thread clears it when it wakes.
        } else if ready.number == DISK {
            for finish in self.answers.take() {
                finish(self);
            }
        } else if self.sites.contains_key(&ready.number) {
            self.accept(ready.number);
        } else {
            let mut buffer = std::mem::take(&mut self.buffer);
            self.with(ready.number, |connection, turn| connection.on_ready(ready, &mut buffer, turn));
            self.keep_buffer(buffer);
        }
    }

    /// Connections that need no new bytes: pipelined requests, an inbox with room again.
    fn go_on(&mut self, begun: Instant) {
        for _ in 0..self.runnable.len() {
            let Some(number) = self.runnable.pop_front() else {
                break;
            };
            let mut buffer = std::mem::take(&mut self.buffer);
            self.with(number, |connection, turn| {
                connection.is_runnable = false;
                connection.go_on(&mut buffer, turn);
            });
            self.keep_buffer(buffer);
            if begun.elapsed() > TURN {
                break;
            }
        }
    }

    /// A connection that panicked took the buffer with it.
    fn keep_buffer(&mut self, buffer: Box<[u8]>) {
        self.buffer = if buffer.is_empty() { vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice() } else { buffer };
    }

    fn fire(&mut self) {
        self.poller.clear_timer();
        for number in self.timers.due(self.now) {
            if self.sites.contains_key(&number) {
                self.on_site_timer(number);
            } else {
                self.with(number, |connection, turn| connection.on_timer(turn));
            }
        }
        for number in std::mem::take(&mut self.overdue) {
            // Not in the mailbox any more: Python has it, and a running handler has no limit.
            if self.mailbox.withdraw(number) {
                self.with(number, |connection, turn| connection.answer_overdue(turn));
            }
        }
    }

    /// Do something with one connection; afterwards send, end and register as it wishes. `None`: there is no such.
    ///
    /// A panic in here is a bug; it costs that connection and nothing else.
    pub fn with<R>(&mut self, number: Number, act: impl FnOnce(&mut Connection, &mut Turn) -> R) -> Option<R> {
        let connection = self.connections.get_mut(&number)?;
        let site = self.sites.get_mut(&connection.site)?;
        let mut turn = Turn {
            is_amid: &mut self.is_amid,
            has_asked: &mut self.has_asked,
            now: self.now,
            date: &self.date,
            poller: &self.poller,
            timers: &mut self.timers,
            staged: &mut self.staged,
            runnable: &mut self.runnable,
            dirty: &mut self.dirty,
            overdue: &mut self.overdue,
            compressors: &mut self.compressors,
            files: &mut self.files,
            disk: &self.disk,
            spare: &mut self.spare,
            scratch: &mut self.scratch,
            room: &self.room,
            site,
            counters: &mut self.counters,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let result = act(connection, &mut turn);
            connection.settle(&mut turn);
            result
        }));
        if outcome.is_err() {
            turn.counters.panics += 1;
            connection.give_up(&mut turn);
        }
        if connection.outbox.is_empty() || connection.is_over() || connection.has_inflow() {
            self.gate.open();
        }
        if connection.is_over() {
            self.retire(number);
        }
        outcome.ok()
    }

    /// Forget a connection that is dead; one that lingers no longer counts.
    fn retire(&mut self, number: Number) {
        let Some(connection) = self.connections.get(&number) else {
            return;
        };
        let (site_number, client) = (connection.site, connection.client);
        if connection.is_dead() {
            connection.stream().cut();
            self.poller.delete(connection.stream());
            self.connections.remove(&number);
            self.live.lock().remove(&number);
        }
        if let Some(site) = self.sites.get_mut(&site_number) {
            site.sockets.remove(&number);
            site.let_out(number, client);
        }
        self.end_site_if_done(site_number);
    }

    // ---- files and logs ---------------------------------------------------------------------------------------------

    /// How many records of the access log found no room.
    pub fn lost_records(&self) -> u64 {
        self.room.lost_for_ever()
    }

    /// A mount is gone: the files kept open for it must pin neither their disk space nor their file system.
    fn forget_files(&mut self) {
        self.files = FileCache::default();
    }

    /// The disk has found what a connection asked for.
    pub fn file_found(&mut self, number: Number, mount: &Arc<Mount>, path: &RelativePath, entry: &Entry) {
        self.tick();
        self.files.put(mount.id, path, entry, self.now);
        self.with(number, |connection, turn| connection.file_found(mount, entry, turn));
    }

    // ---- commands ---------------------------------------------------------------------------------------------------

    /// Queue one message for a WebSocket. `is_corked`: it leaves when its batch says so, and until then nothing is to settle.
    pub fn send(&mut self, number: Number, is_corked: bool, message: &mut Outgoing) -> Outcome {
        if is_corked
            && let Some(connection) = self.connections.get_mut(&number)
            && connection.send_simply(message)
        {
            if !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(number);
            }
            self.has_asked |= self.outbound == Some(connection.site);
            return Outcome::Sent;
        }
        self.tick();
        let sent = self.with_cork(number, is_corked, |connection, turn| connection.send(message, turn));
        sent.unwrap_or(Outcome::Shut)
    }

    /// Queue one message for everybody in `audience`; returns how many took it.
    pub fn send_to(&mut self, audience: &[Number], is_corked: bool, message: &mut Outgoing) -> usize {
        let taken = audience.iter().filter(|number| self.send(**number, is_corked, message) == Outcome::Sent);
        taken.count()
    }

    /// As `send_to`, for those whom `take_others` gave.
    pub fn send_converted(&mut self, others: &[Number], is_corked: bool, message: &Outgoing) -> usize {
        if others.is_empty() {
            return 0;
        }
        message.converted().map_or(0, |mut converted| self.send_to(others, is_corked, &mut converted))
    }

    /// Takes those out of `audience` whose messages are all of the other type than `opcode`.
    pub fn take_others(&self, audience: &mut Vec<Number>, opcode: Opcode) -> Vec<Number> {
        let is_other = |number: &Number| {
            let frames = self.connections.get(number).and_then(|connection| connection.frames());
            frames.is_some_and(|frames| frames != opcode)
        };
        if !audience.iter().any(is_other) {
            return Vec::new();
        }
        let (others, rest) = audience.drain(..).partition(is_other);
        *audience = rest;
        others
    }

    /// Every open WebSocket of a server, or the members of a topic.
    pub fn audience(&self, site: Number, topic: Option<&str>) -> Vec<Number> {
        match (self.sites.get(&site), topic) {
            (Some(site), None) => site.sockets.iter().copied().collect(),
            (Some(site), Some(topic)) => site.topics.members(topic).collect(),
            (None, _) => Vec::new(),
        }
    }

    /// The ways in which a message of this length will have to be compressed for `audience`.
    pub fn codings(&self, audience: &[Number], payload_len: usize) -> Vec<Coding> {
        let mut codings = Vec::new();
        for connection in audience.iter().filter_map(|number| self.connections.get(number)) {
            if let Some(coding) = connection.coding(payload_len)
                && !codings.contains(&coding)
            {
                codings.push(coding);
            }
        }
        codings
    }

    /// Bytes waiting for a peer to read them; what is corked leaves first. `None`: the connection is over.
    pub fn unsent(&mut self, number: Number) -> Option<usize> {
        let unsent = self.with(number, |connection, _| {
            connection.is_dirty = false;
            (!connection.is_over()).then_some(())
        });
        unsent.flatten()?;
        Some(self.connections.get(&number)?.outbox.len())
    }

    /// Whether whoever waits for body `body` of a connection may stop waiting.
    pub fn has_news(&mut self, number: Number, body: Number) -> bool {
        self.with(number, |connection, _| connection.has_news(body)).unwrap_or(true)
    }

    /// Cork what `act` appends to the outbox of `number`, as `send` does.
    pub fn with_cork<R>(
        &mut self,
        number: Number,
        is_corked: bool,
        act: impl FnOnce(&mut Connection, &mut Turn) -> R,
    ) -> Option<R> {
        self.with(number, |connection, turn| {
            if is_corked && !connection.is_dirty {
                connection.is_dirty = true;
                turn.dirty.push(number);
            }
            act(connection, turn)
        })
    }

    /// The callbacks of this many messages of one connection have returned: what they sent to it leaves.
    pub fn messages_handled(&mut self, number: Number, messages: usize, bytes: usize) {
        self.with(number, |connection, turn| {
            connection.is_dirty = false;
            connection.messages_handled(messages, bytes, turn);
        });
    }

    /// A long message has been handed on; what it was kept in is free.
    pub fn keep_spare(&mut self, spare: Vec<u8>) {
        if spare.capacity() > self.spare.capacity() && spare.capacity() <= MAX_SPARE_BYTES {
            self.spare = spare;
        }
    }

    /// Everything corked leaves.
    pub fn uncork(&mut self) {
        self.is_corking = false;
        if self.dirty.is_empty() {
            return;
        }
        self.tick();
        for number in std::mem::take(&mut self.dirty) {
            self.with(number, |connection, _| connection.is_dirty = false);
        }
    }

    // ---- the end ----------------------------------------------------------------------------------------------------

    /// Cut everything, at exit.
    pub fn cut_all(&mut self) {
        let sites: Vec<Number> = self.sites.keys().copied().collect();
        for number in sites {
            self.stop(number, Duration::ZERO);
        }
        self.drop_descriptors(true);
    }

    /// Close every descriptor. A forked child (`is_owner` false) does so without a word to the peers, and leaves the
    /// socket files and the shared epoll set alone.
    pub fn drop_descriptors(&mut self, is_owner: bool) {
        for site in self.sites.values_mut() {
            if let (Some(listener), false) = (&mut site.listener, is_owner) {
                listener.forget_file();
            }
        }
        if is_owner {
            for connection in self.connections.values() {
                connection.stream().cut();
            }
        }
        self.answers.end(is_owner);
        self.connections.clear();
        self.sites.clear();
        self.runnable.clear();
        self.dirty.clear();
        if !is_owner {
            self.staged.clear(); // the owner has records of the access log to make of them
        }
        self.live.lock().clear();
    }
}
