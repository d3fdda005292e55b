//! A connection of our own to somebody else's server, until its WebSocket is open (RFC 6455 §4.1).
//!
//! A socket that is still connecting takes no bytes; the handshake waits in the outbox until it does.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Step, Turn};
use crate::mailbox::{Failure, Kind, Why};
use crate::mask_keys::MaskKeys;
use crate::settings::WebSocketOptions;
use crate::timers::Millis;
use crate::websocket::WebSocket;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;
use wire::http_body::BodyReader;
use wire::http_head::{FieldError, HeadReader, ResponseHead, encode_request_head};
use wire::ws_deflate::encode_offer;
use wire::ws_handshake::{Answer, check_answer, encode_key};

/// How much of a refusal's body is kept: enough for an error page, no invitation to send a film.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;
/// RFC 6455 §4.1 asks for one of these each; what an application sets must not speak against them.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
];

pub struct Calling {
    reader: HeadReader,
    key: [u8; 24],
    /// Goes on to the WebSocket.
    masks: Option<Box<MaskKeys>>,
    options: Arc<WebSocketOptions>,
    deadline: Option<Millis>,
    refusal: Option<Refusal>,
}

/// An answer that is not the 101, while its body comes in.
struct Refusal {
    head: Box<ResponseHead>,
    reader: BodyReader,
    body: Vec<u8>,
}

/// What is asked of the server.
pub struct Call {
    request: Vec<u8>,
    calling: Calling,
    timeout: Option<Millis>,
}

impl Call {
    /// `fields` are the application's own; `timeout` is for everything up to the answer. Errors: for what HTTP cannot carry, and for fields that are ours to set.
    pub fn new(
        host: &str,
        target: &str,
        fields: &[(&str, &str)],
        options: WebSocketOptions,
        timeout: Option<Millis>,
    ) -> Result<Call, FieldError> {
        if let Some((name, value)) = fields.iter().find(|(name, _)| OURS.contains(&&name.to_ascii_lowercase()[..])) {
            let name = OURS.iter().find(|ours| name.eq_ignore_ascii_case(ours)).copied().unwrap_or_default();
            let expected = "none: the handshake sets it";
            return Err(FieldError::Conflict { name, value: (*value).to_owned(), expected });
        }
        let mut masks = Box::new(MaskKeys::new());
        let key = encode_key(masks.nonce());
        let (protocols, offer) = (options.subprotocols.join(", "), options.deflate.as_ref().map(encode_offer));
        let mut all = vec![
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", str::from_utf8(&key).unwrap_or_default()),
            ("Sec-WebSocket-Version", "13"),
        ];
        all.extend((!protocols.is_empty()).then_some(("Sec-WebSocket-Protocol", &protocols[..])));
        all.extend(offer.as_deref().map(|offer| ("Sec-WebSocket-Extensions", offer)));
        all.extend_from_slice(fields);
        let mut request = Vec::new();
        encode_request_head(&mut request, "GET", target, &all)?;
        let options = Arc::new(options);
        let calling =
            Calling { reader: HeadReader::new(), key, masks: Some(masks), options, deadline: None, refusal: None };
        Ok(Call { request, calling, timeout })
    }
}

impl Calling {
    pub fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

impl Connection {
    /// Ask for a WebSocket on a socket that may still be connecting.
    pub fn call(&mut self, call: Call, now: Millis) {
        self.outbox.append(|out| out.extend_from_slice(&call.request));
        let deadline = call.timeout.map(|timeout| now.saturating_add(timeout));
        self.protocol = Protocol::Calling(Box::new(Calling { deadline, ..call.calling }));
    }

    pub fn read_answer(&mut self, input: &[u8], turn: &mut Turn) -> Step {
        let limits = &self.settings.limits;
        let Protocol::Calling(calling) = &mut self.protocol else { return Step::STOP };
        if input.is_empty() {
            return Step::STOP;
        }
        if let Some(refusal) = &mut calling.refusal {
            let read = refusal.reader.read(input, &mut refusal.body);
            let is_done = refusal.reader.is_done() || read.is_err();
            if is_done {
                self.call_refused(turn);
            }
            return Step { used: read.unwrap_or(input.len()), goes_on: false };
        }
        match calling.reader.read_response(input, &limits.head) {
            Ok(None) => Step::STOP,
            Ok(Some((used, head))) => {
                self.on_answer(head, turn);
                Step { used, goes_on: true }
            }
            Err(refusal) => {
                self.call_failed(Why::Protocol, refusal.reason, turn);
                Step::STOP
            }
        }
    }

    fn on_answer(&mut self, head: ResponseHead, turn: &mut Turn) {
        match head.status() {
            101 => self.on_agreement(head, turn),
            100..=199 => {} // RFC 9110 §15.2: interim; the answer follows
            _ => {
                let framing = head.framing("GET");
                let Protocol::Calling(calling) = &mut self.protocol else { return };
                match BodyReader::new(framing, MAX_REFUSAL_BYTES as u64) {
                    Ok(reader) => {
                        let is_done = reader.is_done();
                        calling.refusal = Some(Refusal { head: Box::new(head), reader, body: Vec::new() });
                        if is_done {
                            self.call_refused(turn);
                        }
                    }
                    Err(_) => self.fail_call(Why::Answered, "", Some((Box::new(head), Vec::new())), turn),
                }
            }
        }
    }

    /// The server has switched, if it agrees to what we offered.
    fn on_agreement(&mut self, head: ResponseHead, turn: &mut Turn) {
        let Protocol::Calling(calling) = &mut self.protocol else { return };
        let values = |name: &str| -> Vec<&[u8]> {
            head.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
        };
        let answer = Answer {
            status: head.status(),
            upgrade: &values("upgrade"),
            connection: &values("connection"),
            accept: &values("sec-websocket-accept"),
            extensions: &values("sec-websocket-extensions"),
            protocols: &values("sec-websocket-protocol"),
        };
        let options = Arc::clone(&calling.options);
        let settled = match check_answer(&answer, &calling.key, &options.subprotocols, options.deflate.as_ref()) {
            Ok(settled) => settled,
            Err(refusal) => return self.call_failed(Why::Protocol, refusal.reason(), turn),
        };
        if options.requires_subprotocol && settled.protocol.is_none() {
            return self.call_failed(Why::Protocol, "the server chose none of the subprotocols", turn);
        }
        let masks = calling.masks.take();
        let protocol = settled.protocol.map(str::to_owned);
        let websocket = WebSocket::new(settled.deflate.as_ref(), &options, &self.settings, masks, turn.now);
        self.protocol = Protocol::WebSocket(Box::new(websocket));
        self.stage(Kind::Connected { head: Box::new(head), protocol }, turn);
    }

    /// All of a refusal is here, or all that is kept of it.
    fn call_refused(&mut self, turn: &mut Turn) {
        let Protocol::Calling(calling) = &mut self.protocol else { return };
        let answer = calling.refusal.take().map(|mut refusal| {
            refusal.body.truncate(MAX_REFUSAL_BYTES);
            (refusal.head, refusal.body)
        });
        self.fail_call(Why::Answered, "", answer, turn);
    }

    /// The server has closed, or the connection is lost.
    pub fn end_call(&mut self, turn: &mut Turn) {
        let Protocol::Calling(calling) = &self.protocol else { return };
        if calling.refusal.is_some() {
            self.call_refused(turn);
        } else {
            self.call_failed(Why::Ended, "the server closed the connection without an answer", turn);
        }
    }

    /// The socket, or TLS on it, failed.
    pub fn call_broken(&mut self, error: &io::Error, turn: &mut Turn) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, Errno::from_io_error(error)) {
            (Some(error @ rustls::Error::InvalidCertificate(_)), _) => {
                self.call_failed(Why::Certificate, &error.to_string(), turn);
            }
            (Some(error), _) => self.call_failed(Why::Protocol, &format!("TLS: {error}"), turn),
            (None, Some(errno)) => self.call_lost(errno, turn),
            (None, None) => self.call_failed(Why::Protocol, &error.to_string(), turn),
        }
    }

    /// What the socket has to say of how connecting went. False: it failed, and Python has been told.
    pub fn check_call(&mut self, turn: &mut Turn) -> bool {
        match self.stream().take_error() {
            None => true,
            Some(errno) => {
                self.call_lost(errno, turn);
                false
            }
        }
    }

    fn call_lost(&mut self, errno: Errno, turn: &mut Turn) {
        self.call_failed(Why::System(errno.raw_os_error()), "", turn);
    }

    pub fn call_timed_out(&mut self, turn: &mut Turn) {
        let text = match &self.protocol {
            Protocol::Calling(calling) if calling.refusal.is_some() => return self.call_refused(turn),
            _ if self.is_blocked() => "no connection within open_timeout_s",
            _ => "the server did not answer the handshake within open_timeout_s",
        };
        self.call_failed(Why::TimedOut, text, turn);
    }

    pub fn call_failed(&mut self, why: Why, text: &str, turn: &mut Turn) {
        self.fail_call(why, text, None, turn);
    }

    fn fail_call(&mut self, why: Why, text: &str, answer: Option<(Box<ResponseHead>, Vec<u8>)>, turn: &mut Turn) {
        if self.life == Life::Open {
            self.outbox.clear();
            self.life = Life::Dead;
            self.stage(Kind::Failed(Box::new(Failure { why, text: text.to_owned(), answer })), turn);
        }
    }
}
