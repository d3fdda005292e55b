//! `portico-load PORT echo|broadcast|http|connect|handshake CONNECTIONS IN_FLIGHT BYTES SECONDS PATH [tls]`: one thread,
//! every byte checked; `handshake` has a thread for each connection, and nothing but connects.
//!
//! Prints one line of JSON: messages (deliveries, responses) per second, latency percentiles in µs, errors.
//! A message carries the time it was sent at, so any client of a broadcast can tell how old it is.

mod handshakes;
mod link;

use link::Link;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustls::ClientConfig;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::http_body::{BodyFraming, BodyReader};
use wire::http_head::{HeadLimits, HeadReader};
use wire::ws_frame::{Opcode, Role, encode_frame};
use wire::ws_handshake::{check_accept, encode_key};
use wire::ws_message::{Incoming, MessageLimits, MessageReader};

const WARM_UP: Duration = Duration::from_millis(300);
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
const STAMP_BYTES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Echo,
    Broadcast,
    Http,
    Handshake,
    /// HTTP, on a new connection each time.
    Connect,
}

struct Plan {
    port: u16,
    mode: Mode,
    connections: usize,
    in_flight: usize,
    bytes: usize,
    seconds: f64,
    path: String,
    tls: Option<Arc<ClientConfig>>,
}

struct Client {
    link: Link,
    reader: Reader,
    out: Vec<u8>,
    waits_to_write: bool,
    is_answered: bool,
}

enum Reader {
    WebSocket(MessageReader),
    Http { head: HeadReader, input: Vec<u8>, sent: Instant },
}

#[derive(Default)]
struct Tally {
    received: u64,
    errors: u64,
    latencies_us: Vec<u32>,
}

fn main() {
    let plan = Plan::from_arguments();
    if plan.mode == Mode::Handshake {
        return handshakes::run(&plan);
    }
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    let started = Instant::now();
    let mut clients: Vec<Client> = (0..plan.connections).map(|_| plan.connect()).collect();
    for (index, client) in clients.iter().enumerate() {
        client.link.stream.set_nonblocking(true).expect("non-blocking");
        epoll::add(&epoll, &client.link.stream, EventData::new_u64(index as u64), EventFlags::IN).expect("epoll");
    }
    // In a broadcast, one client talks and all listen.
    let talkers = if plan.mode == Mode::Broadcast { 1 } else { clients.len() };
    for client in &mut clients[..talkers] {
        for _ in 0..plan.in_flight {
            plan.say(client, started);
        }
        client.flush(&epoll, 0);
    }

    let mut tally = Tally::default();
    let mut buffer = vec![0; 256 * 1024];
    let mut events = Vec::with_capacity(256);
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(plan.seconds);
    let mut has_begun = false;
    while Instant::now() < end {
        if !has_begun && Instant::now() >= begin {
            has_begun = true;
            tally = Tally { errors: tally.errors, ..Tally::default() };
        }
        events.clear();
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        let _ = epoll::wait(&epoll, spare_capacity(&mut events), Some(&timeout));
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            let index = data.u64() as usize;
            let client = &mut clients[index];
            let may_say = index < talkers;
            if flags.contains(EventFlags::IN) && !plan.listen(client, &mut buffer, &mut tally, may_say, started) {
                tally.errors += 1;
                let _ = epoll::delete(&epoll, &client.link.stream);
                continue;
            }
            if plan.mode == Mode::Connect && client.is_answered {
                let _ = epoll::delete(&epoll, &client.link.stream);
                *client = plan.connect();
                client.link.stream.set_nonblocking(true).expect("non-blocking");
                epoll::add(&epoll, &client.link.stream, EventData::new_u64(index as u64), EventFlags::IN)
                    .expect("epoll");
                plan.say(client, started);
            }
            client.flush(&epoll, index as u64);
        }
    }
    plan.report(&mut tally, begin.elapsed().as_secs_f64());
}

impl Plan {
    fn from_arguments() -> Plan {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [port, mode, connections, in_flight, bytes, seconds, path, options @ ..] = &arguments[..] else {
            panic!(
                "usage: portico-load PORT echo|broadcast|http|connect|handshake CONNECTIONS IN_FLIGHT BYTES SECONDS PATH [tls]"
            );
        };
        let mode = match &mode[..] {
            "echo" => Mode::Echo,
            "broadcast" => Mode::Broadcast,
            "http" => Mode::Http,
            "handshake" => Mode::Handshake,
            "connect" => Mode::Connect,
            other => panic!("unknown mode {other}"),
        };
        Plan {
            port: port.parse().expect("PORT"),
            mode,
            connections: connections.parse().expect("CONNECTIONS"),
            in_flight: in_flight.parse().expect("IN_FLIGHT"),
            bytes: bytes.parse::<usize>().expect("BYTES").max(STAMP_BYTES),
            seconds: seconds.parse().expect("SECONDS"),
            path: path.clone(),
            tls: options.iter().any(|option| option == "tls").then(link::config),
        }
    }

    fn connect(&self) -> Client {
        let mut link = Link::connect(self.port, self.tls.as_ref()).expect("connect");
        let reader = if matches!(self.mode, Mode::Http | Mode::Connect) {
            Reader::Http { head: HeadReader::new(), input: Vec::new(), sent: Instant::now() }
        } else {
            self.shake_hands(&mut link);
            let limits = MessageLimits { max_message_bytes: 1 << 26, max_fragments: 1 << 20 };
            Reader::WebSocket(MessageReader::new(Role::Client, limits))
        };
        Client { link, reader, out: Vec::new(), waits_to_write: false, is_answered: false }
    }

    fn shake_hands(&self, link: &mut Link) {
        let key = encode_key(*b"portico-load-key");
        let key = std::str::from_utf8(&key).expect("base64");
        let mut out = Vec::new();
        write!(
            out,
            "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n",
            self.path, self.port
        )
        .expect("memory");
        link.send(&mut out).expect("handshake");
        let mut input = Vec::new();
        let mut byte = [0];
        while !input.ends_with(b"\r\n\r\n") {
            match link.read(&mut byte) {
                Ok(1) => input.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {} // tickets
                end => panic!("no 101: {end:?}"),
            }
        }
        let head = HeadReader::new().read_response(&input, &HeadLimits::default()).expect("a head").expect("whole").1;
        assert_eq!(head.status(), 101);
        assert!(check_accept(key.as_bytes(), head.get("sec-websocket-accept").unwrap_or_default()));
    }

    /// Send one more.
    fn say(&self, client: &mut Client, started: Instant) {
        match &mut client.reader {
            Reader::WebSocket(_) => {
                let mut payload = vec![b'x'; self.bytes];
                payload[..STAMP_BYTES].copy_from_slice(&(started.elapsed().as_nanos() as u64).to_be_bytes());
                encode_frame(&mut client.out, Opcode::Binary, &payload, Some(MASK));
            }
            Reader::Http { sent, .. } => {
                *sent = Instant::now();
                let close = if self.mode == Mode::Connect { "Connection: close\r\n" } else { "" };
                write!(client.out, "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{close}\r\n", self.path, self.port)
                    .expect("memory");
            }
        }
    }

    /// Read what came; for everything that is complete, say something new. False: the connection is over, or wrong.
    fn listen(
        &self,
        client: &mut Client,
        buffer: &mut [u8],
        tally: &mut Tally,
        may_say: bool,
        started: Instant,
    ) -> bool {
        let count = match client.link.read(buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        };
        let mut complete = 0;
        match &mut client.reader {
            Reader::WebSocket(reader) => {
                let mut rest = &mut buffer[..count];
                loop {
                    let Ok((used, incoming)) = reader.read(rest) else { return false };
                    match incoming {
                        None => break,
                        Some(Incoming::Binary(payload)) => {
                            let (stamp, filling) = payload.split_at(STAMP_BYTES);
                            if payload.len() != self.bytes || filling.iter().any(|byte| *byte != b'x') {
                                return false;
                            }
                            let sent = u64::from_be_bytes(stamp.try_into().unwrap_or_default());
                            tally.add((started.elapsed().as_nanos() as u64).saturating_sub(sent) / 1000);
                            complete += 1;
                        }
                        Some(Incoming::Ping(payload)) => {
                            encode_frame(&mut client.out, Opcode::Pong, &payload, Some(MASK));
                        }
                        Some(_) => return false,
                    }
                    rest = &mut rest[used..];
                }
            }
            Reader::Http { head, input, sent } => {
                input.extend_from_slice(&buffer[..count]);
                let Ok(found) = head.read_response(input, &HeadLimits::default()) else { return false };
                if let Some((used, response)) = found {
                    let BodyFraming::Length(length) = response.framing("GET") else { return false };
                    let mut body = Vec::new();
                    let Ok(mut reader) = BodyReader::new(BodyFraming::Length(length), 1 << 30) else { return false };
                    let Ok(body_used) = reader.read(&input[used..], &mut body) else { return false };
                    if !reader.is_done() && input.len() == used + body_used {
                        return true; // the rest is under way
                    }
                    if response.status() != 200 || input.len() != used + body_used {
                        return false;
                    }
                    input.clear();
                    tally.add(sent.elapsed().as_micros() as u64);
                    complete += 1;
                }
            }
        }
        client.is_answered = complete > 0;
        let goes_on = may_say && self.mode != Mode::Connect;
        for _ in 0..if goes_on { complete } else { 0 } {
            self.say(client, started);
        }
        true
    }

    fn report(&self, tally: &mut Tally, seconds: f64) {
        tally.latencies_us.sort_unstable();
        let percentile = |share: f64| {
            let index = (tally.latencies_us.len() as f64 * share) as usize;
            tally.latencies_us.get(index).copied().unwrap_or_default()
        };
        println!(
            "{{\"rate\": {:.1}, \"p50_us\": {}, \"p99_us\": {}, \"received\": {}, \"errors\": {}}}",
            tally.received as f64 / seconds,
            percentile(0.5),
            percentile(0.99),
            tally.received,
            tally.errors
        );
    }
}

impl Tally {
    fn add(&mut self, latency_us: u64) {
        self.received += 1;
        // One in eight is plenty for a percentile, and keeps the generator out of its own way.
        if self.received.is_multiple_of(8) {
            self.latencies_us.push(latency_us.min(u64::from(u32::MAX)) as u32);
        }
    }
}

impl Client {
    fn flush(&mut self, epoll: &std::os::fd::OwnedFd, index: u64) {
        let _ = self.link.send(&mut self.out); // what is wrong shows when reading
        let waits = !self.out.is_empty() || self.link.has_unsent();
        if waits != self.waits_to_write {
            self.waits_to_write = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let _ = epoll::modify(epoll, &self.link.stream, EventData::new_u64(index), flags);
        }
    }
}
