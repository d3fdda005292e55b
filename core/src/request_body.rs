//! A request's body that is gathered before its handler is called: in memory, or from `max_body_in_memory_bytes` on in a
//! file (see `spool`). One that the handler reads while it comes is in `inflow`.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Step, Turn};
use crate::http::Phase;
use crate::mailbox::{Body, Kind};
use crate::route_table::{Route, Wants};
use crate::spool::{Spool, Written, refusal_for};
use rustix::io::Errno;
use std::sync::Arc;
use wire::error::HttpRefusal;
use wire::http_body::{BodyFraming, BodyReader};
use wire::http_head::RequestHead;

/// A body counts as going on when this much has come, so that one byte now and then does not keep a connection.
pub const BODY_PROGRESS_BYTES: u64 = 4 * 1024;

/// A body that comes.
pub struct Gathering {
    head: Arc<RequestHead>,
    route: Arc<Route>,
    reader: BodyReader,
    kept: Kept,
    at_last_progress: u64,
}

enum Kept {
    Memory(Vec<u8>),
    File(Spool),
}

impl Gathering {
    /// The client has sent all of it.
    pub fn is_all_here(&self) -> bool {
        self.reader.is_done()
    }

    /// The disk has to catch up before more is read, or before the request can be delivered.
    pub fn waits_for_disk(&self) -> bool {
        match &self.kept {
            Kept::Memory(_) => false,
            Kept::File(spool) => spool.is_full() || self.is_all_here(),
        }
    }

    fn len(&self) -> u64 {
        match &self.kept {
            Kept::Memory(bytes) => bytes.len() as u64,
            Kept::File(spool) => spool.len(),
        }
    }

    fn read(&mut self, input: &[u8], most_in_memory: u64) -> Result<usize, HttpRefusal> {
        let used = match &mut self.kept {
            Kept::Memory(bytes) => self.reader.read(input, bytes)?,
            Kept::File(spool) => self.reader.read(input, spool.pending())?,
        };
        if let Kept::Memory(bytes) = &mut self.kept
            && bytes.len() as u64 > most_in_memory
        {
            self.kept = Kept::File(Spool::new(std::mem::take(bytes)));
        }
        Ok(used)
    }

    /// What the request gets, once all of it is where it belongs.
    fn take(&mut self) -> Option<Body> {
        match &mut self.kept {
            _ if !self.reader.is_done() => None,
            Kept::Memory(bytes) => Some(Body::Memory(std::mem::take(bytes))),
            Kept::File(spool) => spool.take().map(Body::File),
        }
    }
}

impl Connection {
    pub(crate) fn begin_body(
        &mut self,
        head: Arc<RequestHead>,
        route: Arc<Route>,
        has_body_bytes: bool,
        turn: &mut Turn,
    ) {
        let framing = head.framing();
        let reader = match BodyReader::new(framing, self.settings.limits.max_body_bytes) {
            Ok(reader) => reader,
            Err(refusal) => return self.refuse(refusal, &[], turn),
        };
        // RFC 9110 §10.1.1: not needed once the body is on its way.
        let awaits_continue = head.expects_continue() && !has_body_bytes;
        if !reader.is_done() && route.wants.has(Wants::BODY) {
            return self.begin_inflow(head, route, reader, awaits_continue, turn);
        }
        if awaits_continue {
            self.outbox.append(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        let is_long = matches!(framing, BodyFraming::Length(length) if length > self.most_in_memory());
        let kept = if is_long { Kept::File(Spool::default()) } else { Kept::Memory(Vec::new()) };
        let gathering = Gathering { head, route, reader, kept, at_last_progress: 0 };
        self.http().enter(Phase::Body(Box::new(gathering)), turn.now);
        self.deliver(turn);
    }

    pub(crate) fn read_body(&mut self, input: &[u8], turn: &mut Turn) -> Step {
        let most_in_memory = self.most_in_memory();
        let Some(gathering) = self.gathering() else { return Step::STOP };
        if gathering.waits_for_disk() {
            return Step::STOP;
        }
        let used = match gathering.read(input, most_in_memory) {
            Ok(used) => used,
            Err(refusal) => {
                self.refuse(refusal, &[], turn);
                return Step::STOP;
            }
        };
        let has_gone_on = gathering.len() >= gathering.at_last_progress + BODY_PROGRESS_BYTES;
        if has_gone_on {
            gathering.at_last_progress = gathering.len();
        }
        let is_done = gathering.is_all_here();
        self.write_body(turn);
        // From here on it may be the disk's time that passes.
        if has_gone_on || is_done {
            self.http().since = turn.now;
        }
        self.deliver(turn);
        Step { used, goes_on: is_done }
    }

    /// All is here, and where it belongs: the request goes to Python.
    fn deliver(&mut self, turn: &mut Turn) {
        let Some(gathering) = self.gathering() else { return };
        let Some(body) = gathering.take() else { return };
        let (head, route) = (Arc::clone(&gathering.head), Arc::clone(&gathering.route));
        let request = self.request(&head, route, body, false);
        self.stage(Kind::Request(request), turn);
        self.http().enter(Phase::Answering { head, is_taken: false }, turn.now);
    }

    /// Give the disk what it can have.
    fn write_body(&mut self, turn: &mut Turn) {
        let settings = Arc::clone(&self.settings);
        let Some(gathering) = self.gathering() else { return };
        let is_last = gathering.is_all_here();
        let Kept::File(spool) = &mut gathering.kept else { return };
        let Some(piece) = spool.next_piece(&settings.spool_directory, is_last) else { return };
        let number = self.number;
        turn.disk.submit(Box::new(move || {
            let written = piece.write();
            Box::new(move |reactor| {
                reactor.tick();
                reactor.with(number, |connection, turn| connection.body_written(written, turn));
            })
        }));
    }

    fn body_written(&mut self, written: Result<Option<Written>, Errno>, turn: &mut Turn) {
        // A refusal (a time-out) may have come first.
        let Some(gathering) = self.gathering() else { return };
        match (written, &mut gathering.kept) {
            (Ok(Some(written)), Kept::File(spool)) => spool.written(written),
            (Err(errno), _) => {
                self.report(
                    format!(
                        "a request body could not be written to {}: {errno}",
                        self.settings.spool_directory.display()
                    ),
                    turn,
                );
                return self.refuse(refusal_for(errno), &[], turn);
            }
            _ => return,
        }
        self.http().since = turn.now;
        self.write_body(turn);
        self.deliver(turn);
        if self.has_input() || self.is_at_end {
            self.make_runnable(turn);
        }
    }

    fn gathering(&mut self) -> Option<&mut Gathering> {
        match &mut self.protocol {
            Protocol::Http(http) if self.life == Life::Open => match &mut http.phase {
                Phase::Body(gathering) => Some(gathering),
                _ => None,
            },
            _ => None,
        }
    }

    fn most_in_memory(&self) -> u64 {
        self.settings.limits.max_body_in_memory_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::slow::{drive_until, receive, with_slow_disk};
    use crate::engine::Engine;
    use crate::files::Mounts;
    use crate::listen::Listener;
    use crate::number::Number;
    use crate::route_table::{Inline, Route, RouteTable};
    use crate::settings::{Settings, test_settings};
    use std::io::{ErrorKind, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::path::PathBuf;
    use std::sync::OnceLock;

    fn serve(engine: &Engine, settings: Settings) -> (Number, SocketAddr) {
        let mut ping = Route::new("/ping", false, Wants::default());
        let (body, compressed) = (Arc::from(*b"pong"), OnceLock::new());
        ping.inline = Some(Inline { status: 200, fields: Vec::new(), body, compressed });
        let routes = RouteTable::new(vec![Route::new("/", true, Wants::REQUEST), ping]);
        let (listener, address) = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let site = engine.lease().add_site(listener, settings, routes, Mounts::default(), None).unwrap();
        (site, address)
    }

    fn open(address: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(address).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// Send until the server reads no more, as far as one can tell; how much that was.
    fn send_until_full(engine: &Engine, client: &mut TcpStream, most: usize) -> usize {
        let piece = vec![b'x'; 1 << 16];
        let (mut sent, mut quiet) = (0, 0);
        while sent < most && quiet < 1000 {
            match client.write(&piece[..piece.len().min(most - sent)]) {
                Ok(count) => (sent, quiet) = (sent + count, 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            quiet += 1;
            engine.drive();
        }
        sent
    }

    #[test]
    fn a_disk_that_hangs_stops_its_client_and_nobody_else() {
        const LENGTH: usize = 24 << 20;
        let (engine, slow) = with_slow_disk();
        let directory = tempfile::TempDir::new().unwrap();
        let mut settings = test_settings();
        settings.limits.max_body_bytes = LENGTH as u64;
        settings.spool_directory = directory.path().to_owned();
        let (_, address) = serve(&engine, settings);
        let (mut client, mut other) = (open(address), open(address));
        write!(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
        let mut sent = send_until_full(&engine, &mut client, LENGTH);
        assert!(sent < LENGTH, "all of it was read");
        assert!(slow.is_asked());
        other.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        receive(&engine, &mut other, "pong");
        drive_until(&engine, || {
            slow.answer();
            sent += send_until_full(&engine, &mut client, LENGTH - sent);
            sent == LENGTH
        });
        let mut request = None;
        drive_until(&engine, || {
            slow.answer();
            request = engine.take_now(9).events.pop_front();
            request.is_some()
        });
        let Some(Kind::Request(request)) = request.map(|event| event.kind) else { panic!("no request") };
        let Body::File(spooled) = request.body else { panic!("no file") };
        assert_eq!(spooled.length, LENGTH as u64);
    }

    #[test]
    fn a_disk_that_fails_is_answered_and_reported_once() {
        let (engine, slow) = with_slow_disk();
        let settings = Settings { spool_directory: PathBuf::from("/nowhere"), ..test_settings() };
        let (site, address) = serve(&engine, settings);
        for _ in 0..2 {
            let mut client = open(address);
            let body = "x".repeat(100_000);
            write!(client, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{body}").unwrap();
            drive_until(&engine, || slow.is_asked());
            slow.answer();
            let answer = receive(&engine, &mut client, "body\n");
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        }
        let events = engine.take_now(9).events;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].number, site);
        assert!(matches!(&events[0].kind, Kind::Trouble(text) if text.contains("/nowhere")));
    }

    #[test]
    fn a_disk_that_never_answers_is_503() {
        let (engine, slow) = with_slow_disk();
        let mut settings = test_settings();
        settings.limits.max_body_in_memory_bytes = 100;
        settings.limits.answer_timeout = Some(50);
        settings.limits.body_timeout = Some(1); // of the client, which has done its part
        let (_, address) = serve(&engine, settings);
        let mut client = open(address);
        let body = "x".repeat(1000);
        let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{body}");
        client.write_all(request.as_bytes()).unwrap();
        let answer = receive(&engine, &mut client, "answer_timeout_s\n");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        slow.answer(); // too late, and no harm
        engine.drive();
        assert!(engine.take_now(9).events.is_empty());
    }
}
