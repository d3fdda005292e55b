//! What a connection does while it speaks WebSocket (RFC 6455): what arrives, and the closing handshake. What it sends is in
//! `websocket_send`, its pings in `keep_alive`.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Step, Turn};
use crate::keep_alive::KeepAlive;
use crate::mailbox::{Body, Event, Kind, Why};
use crate::mask_keys::MaskKeys;
use crate::route_table::Route;
use crate::settings::{Limits, Settings, SlowClient, WebSocketOptions};
use crate::timers::Millis;
use crate::topics::Topic;
use crate::websocket_send::{Compression, Outcome};
use std::collections::BTreeSet;
use std::sync::Arc;
use wire::error::{HttpRefusal, WsRefusal};
use wire::http_head::RequestHead;
use wire::ws_close::{ABNORMAL, GOING_AWAY, INTERNAL_ERROR, INVALID_PAYLOAD, UNSUPPORTED_DATA, encode_close};
use wire::ws_deflate::{Agreement, DeflateParams, accept_extensions, check_extensions};
use wire::ws_frame::{Opcode, Role, encode_frame};
use wire::ws_handshake::{Handshake, choose_protocol, encode_switching_protocols};
use wire::ws_message::{Incoming, MessageReader, Payload};

/// What somebody who asks how much is queued may take for a slow client; see `websocket_info`.
const MUCH_BYTES: usize = 64 * 1024;

pub struct WebSocket {
    reader: MessageReader,
    pub(crate) phase: Phase,
    inbox: Inbox,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) slow_client: SlowClient,
    pub(crate) compression: Option<Box<Compression>>,
    /// What all messages are, both ways.
    pub(crate) frames: Option<Opcode>,
    /// A client's.
    pub(crate) masks: Option<Box<MaskKeys>>,
    /// Sorted: a client may be let subscribe to very many, and leave them one by one.
    topics: BTreeSet<Topic>,
    /// Something is to be done as soon as the outbox is empty.
    pub(crate) on_empty: OnEmpty,
    has_closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Open,
    /// The peer closed, or broke a rule, after messages that Python has not handled; this code answers when it has.
    Answering {
        code: u16,
        since: Millis,
    },
    /// We closed; the peer has not.
    Asked {
        since: Millis,
        /// What the peer had taken by then.
        acknowledged: i64,
    },
    Over,
}

/// Messages that Python has, or has been promised, and is not done with.
#[derive(Default)]
struct Inbox {
    messages: usize,
    bytes: usize,
    /// Callbacks that go on after they returned; `bytes` has what they work on.
    held: usize,
}

#[derive(Default)]
pub struct OnEmpty {
    /// The pong to the newest of the pings that came while nothing could be sent (§5.5.3 lets us skip the others).
    pub pong: Option<Box<[u8]>>,
    /// Tell Python.
    pub says_drained: bool,
    /// Tell Python whenever the socket had been blocked.
    pub watches: bool,
}

impl OnEmpty {
    pub fn is_needed(&self) -> bool {
        self.says_drained || self.pong.is_some()
    }
}

/// A handshake that we agree with, and to what.
pub struct Accepted {
    handshake: Handshake,
    protocol: Option<String>,
    deflate: Option<Agreement>,
    options: Arc<WebSocketOptions>,
}

impl Accepted {
    /// Settle subprotocol and extensions of a handshake that is valid (§4.2.2).
    pub fn new(
        handshake: Handshake,
        extensions: &[&[u8]],
        options: &Arc<WebSocketOptions>,
    ) -> Result<Accepted, HttpRefusal> {
        let protocol = choose_protocol(&handshake.protocols, &options.subprotocols).map(str::to_owned);
        if protocol.is_none() && options.requires_subprotocol {
            let reason = "this WebSocket needs one of its subprotocols; the option subprotocols lists them";
            return Err(HttpRefusal { status: 400, reason });
        }
        let deflate = match &options.deflate {
            Some(deflate) => accept_extensions(extensions, deflate)?,
            None => {
                check_extensions(extensions)?;
                None
            }
        };
        Ok(Accepted { handshake, protocol, deflate, options: Arc::clone(options) })
    }
}

impl WebSocket {
    /// `masks`: of a client; without them it is a server's.
    pub fn new(
        deflate: Option<&DeflateParams>,
        options: &WebSocketOptions,
        settings: &Settings,
        masks: Option<Box<MaskKeys>>,
        now: Millis,
    ) -> WebSocket {
        let limits = &settings.limits;
        let role = if masks.is_some() { Role::Client } else { Role::Server };
        WebSocket {
            reader: match deflate {
                Some(params) => MessageReader::with_deflate(role, limits.message, params, settings.inflaters.clone()),
                None => MessageReader::new(role, limits.message),
            },
            phase: Phase::Open,
            inbox: Inbox::default(),
            keep_alive: KeepAlive::new(limits, now),
            slow_client: options.slow_client,
            compression: deflate
                .zip(options.deflate)
                .map(|(params, deflate)| Box::new(Compression::new(params, &deflate, options.slow_client, role))),
            masks,
            frames: options.frames,
            topics: BTreeSet::new(),
            on_empty: OnEmpty::default(),
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

    /// What has been read gives more without new bytes.
    pub fn has_more(&self) -> bool {
        self.reader.has_more()
    }

    /// Room for the long message that has begun.
    pub fn lend(&mut self, spare: &mut Vec<u8>) {
        self.reader.lend(spare);
    }

    pub fn is_mid_frame(&self) -> bool {
        self.reader.is_mid_frame()
    }

    pub fn deadline(&self, limits: &Limits) -> Option<Millis> {
        match self.phase {
            Phase::Open => self.keep_alive.deadline(limits, self.is_paused(limits)),
            Phase::Answering { since, .. } | Phase::Asked { since, .. } => Some(since + limits.close_timeout?),
            Phase::Over => None,
        }
    }
}

/// Whether a message is delivered as text, where all messages are `frames`.
fn type_of(is_text: bool, payload: &[u8], frames: Option<Opcode>) -> Result<bool, WsRefusal> {
    match frames {
        Some(Opcode::Binary) if is_text => {
            Err(WsRefusal { code: UNSUPPORTED_DATA, reason: "text, where all messages are binary" })
        }
        Some(Opcode::Text) if !is_text && std::str::from_utf8(payload).is_err() => {
            Err(WsRefusal { code: INVALID_PAYLOAD, reason: "binary message that is not UTF-8, where all are text" })
        }
        Some(Opcode::Text) => Ok(true),
        _ => Ok(is_text),
    }
}

impl Connection {
    pub(crate) fn websocket(&mut self) -> Option<&mut WebSocket> {
        match &mut self.protocol {
            Protocol::WebSocket(websocket) => Some(websocket),
            Protocol::Http(_) | Protocol::Calling(_) => None,
        }
    }

    /// Bytes waiting in the outbox and the last round trip in seconds, of a WebSocket that can still be sent to.
    ///
    /// Much that is only corked leaves first: whoever sees a large number may stop sending until told that it has left.
    pub fn websocket_info(&mut self, turn: &mut Turn) -> Option<(usize, Option<f64>)> {
        if self.outbox.len() >= MUCH_BYTES && !self.is_blocked() {
            self.flush(turn);
        }
        match &self.protocol {
            Protocol::WebSocket(websocket) if self.is_open(websocket) => {
                let latency = websocket.keep_alive.latency().map(|took| took.as_secs_f64());
                Some((self.outbox.len(), latency))
            }
            _ => None,
        }
    }

    /// The last round trips as (seconds ago, seconds), oldest first.
    pub fn round_trips(&self) -> Vec<(f64, f64)> {
        match &self.protocol {
            Protocol::WebSocket(websocket) => websocket.keep_alive.round_trips(),
            Protocol::Http(_) | Protocol::Calling(_) => Vec::new(),
        }
    }

    /// Accept the handshake: the 101 leaves, Python hears of it.
    pub fn open_websocket(&mut self, head: Arc<RequestHead>, route: Arc<Route>, accepted: Accepted, turn: &mut Turn) {
        let mut extensions = Vec::new();
        if let Some(agreement) = &accepted.deflate {
            extensions.extend_from_slice(b"Sec-WebSocket-Extensions: ");
            extensions.extend_from_slice(agreement.answer.as_bytes());
            extensions.extend_from_slice(b"\r\n");
        }
        let protocol = accepted.protocol.as_deref();
        self.outbox.append(|out| encode_switching_protocols(out, &accepted.handshake, protocol, &extensions));
        self.log_websocket(turn);
        let params = accepted.deflate.as_ref().map(|agreement| &agreement.params);
        let websocket = WebSocket::new(params, &accepted.options, &self.settings, None, turn.now);
        self.protocol = Protocol::WebSocket(Box::new(websocket));
        turn.site.sockets.insert(self.number);
        let request = self.request(&head, route, Body::EMPTY, true);
        self.stage(Kind::Open { request, protocol: accepted.protocol }, turn);
        // Thousands of clients may say nothing for hours: what the handshake needed is given back.
        self.flush(turn);
        self.outbox.shrink();
    }

    pub fn read_websocket(&mut self, input: &mut [u8], turn: &mut Turn) -> Step {
        let is_blocked = self.is_blocked();
        let Protocol::WebSocket(websocket) = &mut self.protocol else {
            return Step::STOP;
        };
        let has_more = websocket.reader.has_more();
        if input.is_empty() && !has_more || websocket.is_paused(&self.settings.limits) {
            return Step::STOP;
        }
        let available = input.len();
        let (used, incoming) = match websocket.reader.read(input) {
            Ok((used, Some(incoming))) => (used, incoming),
            Ok((used, None)) => {
                if used < available || websocket.reader.has_more() {
                    self.make_runnable(turn); // inflating a long message; others have their turn in between
                }
                return Step { used, goes_on: false };
            }
            Err(refusal) => {
                self.refuse_message(refusal, turn);
                return Step::STOP;
            }
        };
        match incoming {
            Incoming::Text(payload) => self.on_message(true, payload, turn),
            Incoming::Binary(payload) => self.on_message(false, payload, turn),
            Incoming::Ping(_) if websocket.phase != Phase::Open => {} // nothing follows our close
            Incoming::Ping(payload) if is_blocked => websocket.on_empty.pong = Some(payload.into_vec().into()),
            Incoming::Ping(payload) => {
                let mask = websocket.masks.as_mut().map(|masks| masks.next());
                self.outbox.append(|out| encode_frame(out, Opcode::Pong, &payload, mask));
            }
            Incoming::Pong(payload) => websocket.keep_alive.on_pong(&payload),
            Incoming::Close { code, reason } => {
                let reason = reason.into_owned();
                self.close_received(code, &reason, turn);
            }
        }
        Step { used, goes_on: true }
    }

    pub fn refuse_message(&mut self, refusal: WsRefusal, turn: &mut Turn) {
        turn.counters.refuse(refusal.code);
        self.close_received(refusal.code, refusal.reason, turn);
    }

    fn on_message(&mut self, is_text: bool, payload: Payload<'_>, turn: &mut Turn) {
        let number = self.number;
        let Some(websocket) = self.websocket() else {
            return;
        };
        if websocket.phase != Phase::Open {
            return; // we closed: as in a browser, what comes then is not delivered
        }
        let is_text = match type_of(is_text, &payload, websocket.frames) {
            Ok(is_text) => is_text,
            Err(refusal) => return self.refuse_message(refusal, turn),
        };
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
    }

    fn answer_close(&mut self, code: u16) {
        let mask = self.mask();
        self.outbox.append(|out| encode_close(out, code, "", mask));
        if let Some(websocket) = self.websocket() {
            websocket.phase = Phase::Over;
        }
        self.life = Life::Finishing;
    }

    fn stage_closed(&mut self, code: u16, reason: &str, turn: &mut Turn) {
        self.leave_server(turn);
        if let Some(websocket) = self.websocket()
            && !std::mem::replace(&mut websocket.has_closed, true)
        {
            self.log_close_code(code);
            self.stage(Kind::Closed { code, reason: reason.to_owned() }, turn);
        }
    }

    /// Python has been told of the end, which is the last that it hears.
    pub(crate) fn has_closed(&self) -> bool {
        matches!(&self.protocol, Protocol::WebSocket(websocket) if websocket.has_closed)
    }

    /// No broadcast and no topic reaches it any more.
    pub(crate) fn leave_server(&mut self, turn: &mut Turn) {
        let number = self.number;
        turn.site.sockets.remove(&number);
        if let Some(websocket) = self.websocket() {
            for topic in std::mem::take(&mut websocket.topics) {
                turn.site.topics.unsubscribe(number, &topic);
            }
        }
    }

    /// The connection was lost (1006, RFC 6455 §7.1.5).
    pub fn end_websocket(&mut self, turn: &mut Turn) {
        self.stage_closed(ABNORMAL, "", turn);
        if self.stream().is_tls() {
            self.stream_mut().finish(); // whoever closed cleanly below is answered so (RFC 8446 §6.1); frames say what is whole
        }
        self.life = Life::Dead;
    }

    /// Callbacks of this many messages have returned.
    pub fn messages_handled(&mut self, messages: usize, bytes: usize, turn: &mut Turn) {
        self.lighten(turn, |inbox| {
            inbox.messages -= messages.min(inbox.messages);
            inbox.bytes -= bytes.min(inbox.bytes);
        });
    }

    /// A callback returned and goes on with `bytes` of what it got.
    pub fn hold(&mut self, bytes: usize) {
        if let Some(websocket) = self.websocket() {
            websocket.inbox.held += 1;
            websocket.inbox.bytes += bytes;
        }
    }

    pub fn release(&mut self, bytes: usize, turn: &mut Turn) {
        self.lighten(turn, |inbox| {
            inbox.held = inbox.held.saturating_sub(1);
            inbox.bytes -= bytes.min(inbox.bytes);
        });
    }

    /// How many messages wait for their callbacks, how many are held, and how many bytes all of them have.
    #[cfg(test)]
    pub fn inbox(&mut self) -> (usize, usize, usize) {
        self.websocket().map_or((0, 0, 0), |websocket| {
            let Inbox { messages, held, bytes } = websocket.inbox;
            (messages, held, bytes)
        })
    }

    /// Python is done with something: answer a close that waited for it, or read on.
    fn lighten(&mut self, turn: &mut Turn, take_off: impl FnOnce(&mut Inbox)) {
        let has_more = self.is_at_end || self.has_input();
        let limits = &self.settings.limits;
        let Protocol::WebSocket(websocket) = &mut self.protocol else { return };
        let was_paused = websocket.is_paused(limits);
        take_off(&mut websocket.inbox);
        let is_paused = websocket.is_paused(limits);
        let has_more = has_more || websocket.reader.has_more();
        if was_paused && !is_paused {
            websocket.keep_alive.forgive();
        }
        match websocket.phase {
            Phase::Answering { code, .. } if !websocket.is_behind() => self.answer_close(code),
            Phase::Open if !is_paused && has_more => self.make_runnable(turn),
            _ => {}
        }
    }

    /// We have not said our close.
    pub(crate) fn is_open(&self, websocket: &WebSocket) -> bool {
        self.life == Life::Open && matches!(websocket.phase, Phase::Open | Phase::Answering { .. })
    }

    /// Neither side has said its close.
    pub(crate) fn can_say_more(&self) -> bool {
        let Protocol::WebSocket(websocket) = &self.protocol else { return false };
        self.life == Life::Open && websocket.phase == Phase::Open
    }

    /// Begin the closing handshake (§7.1.2).
    pub fn close_asked(&mut self, code: u16, reason: &str, turn: &mut Turn) -> Outcome {
        if matches!(self.protocol, Protocol::Calling(_)) {
            self.call_failed(Why::Cancelled, "", turn);
            return Outcome::Sent;
        }
        if !self.can_say_more() {
            return Outcome::Shut;
        }
        self.leave_server(turn);
        let mask = self.mask();
        self.outbox.append(|out| encode_close(out, code, reason, mask));
        let acknowledged = self.acknowledged();
        if let Some(websocket) = self.websocket() {
            websocket.phase = Phase::Asked { since: turn.now, acknowledged };
        }
        if self.has_input() {
            self.make_runnable(turn); // what waited is dropped, the peer's close may be behind it
        }
        Outcome::Sent
    }

    /// False: it is closing, gone, or no WebSocket.
    pub fn subscribe(&mut self, name: &str, turn: &mut Turn) -> bool {
        if !self.can_say_more() {
            return false;
        }
        if let Some(topic) = turn.site.topics.subscribe(self.number, name)
            && let Some(websocket) = self.websocket()
        {
            websocket.topics.insert(topic);
        }
        true
    }

    /// False: it was no member.
    pub fn unsubscribe(&mut self, name: &str, turn: &mut Turn) -> bool {
        if let Some(websocket) = self.websocket() {
            websocket.topics.remove(name);
        }
        turn.site.topics.unsubscribe(self.number, name)
    }

    pub fn check_websocket_deadlines(&mut self, turn: &mut Turn) {
        let settings = Arc::clone(&self.settings);
        let Some(websocket) = self.websocket() else {
            return;
        };
        let is_due = websocket.deadline(&settings.limits).is_some_and(|deadline| deadline <= turn.now);
        match websocket.phase {
            _ if !is_due => {}
            Phase::Open => {
                let is_deaf = websocket.is_paused(&settings.limits);
                if !self.keep_alive(is_deaf, turn) {
                    self.stage_closed(ABNORMAL, "no pong within pong_timeout_s", turn);
                    self.answer_close(INTERNAL_ERROR);
                }
            }
            Phase::Answering { code, .. } => self.answer_close(code),
            Phase::Asked { acknowledged, .. } => self.wait_on(acknowledged, turn),
            Phase::Over => {}
        }
    }

    /// The peer has had its time to answer our close; but while it still reads what was sent before, it goes on.
    fn wait_on(&mut self, before: i64, turn: &mut Turn) {
        let acknowledged = self.acknowledged();
        let is_behind = !self.outbox.is_empty() || self.stream().unacknowledged() > 0;
        match self.websocket() {
            Some(websocket) if is_behind && acknowledged > before => {
                websocket.phase = Phase::Asked { since: turn.now, acknowledged };
            }
            _ => self.end_websocket(turn),
        }
    }

    pub fn stop_websocket(&mut self, is_cut: bool, turn: &mut Turn) {
        if self.life != Life::Open {
            return;
        }
        if let Protocol::WebSocket(websocket) = &self.protocol
            && let Phase::Answering { code, .. } = websocket.phase
            && is_cut
        {
            self.answer_close(code);
        } else {
            self.close_asked(GOING_AWAY, "", turn);
            if is_cut {
                self.stage_closed(GOING_AWAY, "", turn);
            }
        }
    }
}
