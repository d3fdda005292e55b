//! What a connection does while it speaks HTTP: one request at a time, in order (RFC 9112 §9.3).
//!
//! A second request in the same segment waits in the input until the first is answered: a server that looks ahead can be
//! made to run a request of a connection that is already refused.
//!
//! Thread: whoever holds the reactor.

use crate::access;
use crate::connection::{CHOKED_BYTES, Connection, Life, Protocol, Step, Turn};
use crate::http_answer::Answer;
use crate::http_compress::{Compression, Ready};
use crate::http_stream::Streaming;
use crate::inflow::{Inflow, LEFT, STOPPED, TOO_SLOW};
use crate::mailbox::{Body, Kind, Request};
use crate::request_body::Gathering;
use crate::route_table::{Found, Inline, Route, Wants};
use crate::settings::Limits;
use crate::timers::Millis;
use crate::websocket::Accepted;
use std::sync::Arc;
use wire::error::HttpRefusal;
use wire::http_compression::GzipOptions;
use wire::http_cors::{Grant, Preflight};
use wire::http_head::{HeadReader, RequestHead};
use wire::ws_handshake::{Offer, accept_offer};

/// How much of the following requests is read while one is being answered; reading on notices a client that leaves.
pub const PIPELINE_BYTES: usize = 16 * 1024;

pub struct Http {
    reader: HeadReader,
    pub(crate) phase: Phase,
    /// The body of the request that is being answered, where the handler reads it while it comes.
    pub(crate) inflow: Option<Box<Inflow>>,
    /// When the phase began.
    pub(crate) since: Millis,
    /// Of the head that is being read, some bytes are here.
    has_begun: bool,
    is_first: bool,
    /// The request under way wants no body with its answer.
    pub(crate) asks_head: bool,
    /// What the page of the request at hand may do.
    pub(crate) grant: Grant,
    /// How the route of the request at hand compresses.
    pub(crate) gzip: Option<Arc<GzipOptions>>,
}

pub enum Phase {
    Head,
    /// Python decides by the head; the body waits.
    Deciding {
        head: Arc<RequestHead>,
        route: Arc<Route>,
        handshake: Option<Box<Accepted>>,
        is_taken: bool,
    },
    /// The body comes, and may be written to a disk.
    Body(Box<Gathering>),
    /// Python has the request.
    Answering {
        head: Arc<RequestHead>,
        is_taken: bool,
    },
    /// The disk looks for a file.
    Looking {
        head: Arc<RequestHead>,
    },
    /// The body of the answer comes piece by piece.
    Streaming(Streaming),
}

impl Http {
    pub fn new(now: Millis) -> Http {
        Http {
            reader: HeadReader::new(),
            phase: Phase::Head,
            inflow: None,
            since: now,
            has_begun: false,
            is_first: true,
            asks_head: false,
            grant: Grant::Unknown,
            gzip: None,
        }
    }

    /// A request is with Python.
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Deciding { .. } | Phase::Answering { .. } | Phase::Streaming(_))
    }

    /// A request is being answered.
    pub fn is_busy(&self) -> bool {
        self.is_waiting() || matches!(self.phase, Phase::Looking { .. })
    }

    /// Whether more should be read now; `waiting` is how much of what was read waits already.
    pub fn wants_read(&self, waiting: usize) -> bool {
        match (&self.inflow, &self.phase) {
            (Some(inflow), _) if !inflow.is_over() => !inflow.is_full(),
            (_, Phase::Body(gathering)) => {
                !gathering.waits_for_disk() || gathering.is_all_here() && waiting < PIPELINE_BYTES
            }
            _ => !self.is_busy() || waiting < PIPELINE_BYTES,
        }
    }

    /// In the middle of a body: each read lets its sender go on.
    pub fn is_mid_body(&self) -> bool {
        matches!(self.phase, Phase::Body(_)) || self.inflow.as_ref().is_some_and(|inflow| !inflow.is_over())
    }

    /// The disk looks for what `head` asks.
    pub fn begin_looking(&mut self, head: &Arc<RequestHead>, now: Millis) {
        self.enter(Phase::Looking { head: Arc::clone(head) }, now);
    }

    /// What the disk has been looking for.
    pub fn end_looking(&mut self, now: Millis) -> Option<Arc<RequestHead>> {
        if !matches!(self.phase, Phase::Looking { .. }) {
            return None;
        }
        match self.enter(Phase::Head, now) {
            Phase::Looking { head } => Some(head),
            _ => None,
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: Millis) -> Phase {
        self.since = now;
        self.has_begun = false;
        self.asks_head &= !matches!(phase, Phase::Head);
        std::mem::replace(&mut self.phase, phase)
    }

    /// The time for the first head begins now.
    pub fn restart(&mut self, now: Millis) {
        self.since = now;
    }

    pub fn deadline(&self, limits: &Limits) -> Option<Millis> {
        let timeout = match &self.phase {
            Phase::Body(gathering) if gathering.waits_for_disk() => limits.answer_timeout,
            Phase::Head if self.has_begun || self.is_first => limits.head_timeout,
            Phase::Head => limits.idle_timeout,
            Phase::Body(_) => limits.body_timeout,
            Phase::Looking { .. } => limits.answer_timeout,
            Phase::Deciding { is_taken, .. } | Phase::Answering { is_taken, .. } if !is_taken => limits.answer_timeout,
            _ => None,
        };
        let inflow = self.inflow.as_ref().and_then(|inflow| inflow.deadline(limits));
        timeout.map(|timeout| self.since + timeout).into_iter().chain(inflow).min()
    }
}

impl Connection {
    pub(crate) fn http(&mut self) -> &mut Http {
        match &mut self.protocol {
            Protocol::Http(http) => http,
            // Callers look at the protocol first; a connection never speaks HTTP again after an upgrade.
            Protocol::WebSocket(_) | Protocol::Calling(_) => unreachable!("no HTTP is served here"),
        }
    }

    pub fn read_http(&mut self, input: &[u8], turn: &mut Turn) -> Step {
        if self.outbox.len() >= CHOKED_BYTES && !self.is_blocked() {
            self.flush(turn);
        }
        self.awaits_room = self.is_choked();
        if self.awaits_room || self.life != Life::Open {
            return Step::STOP;
        }
        let limits = &self.settings.limits;
        let Protocol::Http(http) = &mut self.protocol else { return Step::STOP };
        match &mut http.phase {
            Phase::Head if input.is_empty() => Step::STOP,
            Phase::Head => match http.reader.read_request(input, &limits.head) {
                Ok(Some((used, head))) => {
                    let since = if http.has_begun { http.since } else { turn.now };
                    http.is_first = false;
                    http.asks_head = head.method() == "HEAD";
                    // Also for answers that stay in this phase: the time for heads is over, that between requests begins.
                    http.has_begun = false;
                    http.since = turn.now;
                    let head = Arc::new(head);
                    self.log_request(&head, since);
                    self.begin_request(head, input.len() > used, turn);
                    Step { used, goes_on: true }
                }
                Ok(None) => {
                    http.asks_head = false;
                    if !http.has_begun {
                        http.has_begun = true;
                        http.grant = Grant::Unknown;
                        http.since = turn.now;
                    }
                    Step::STOP
                }
                Err(refusal) => {
                    let since = if http.has_begun { http.since } else { turn.now };
                    http.asks_head = false;
                    http.grant = Grant::Unknown;
                    self.log_malformed(input, since);
                    self.refuse(refusal, &[], turn);
                    Step::STOP
                }
            },
            Phase::Body(_) => self.read_body(input, turn),
            Phase::Answering { .. } | Phase::Streaming(_) => self.read_inflow(input, turn),
            Phase::Deciding { .. } | Phase::Looking { .. } => Step::STOP,
        }
    }

    /// A head is complete: answer it here, or find out who will.
    fn begin_request(&mut self, head: Arc<RequestHead>, has_body_bytes: bool, turn: &mut Turn) {
        turn.counters.requests += 1;
        self.http().grant = Grant::Unknown;
        if let Some(hosts) = &self.settings.allowed_hosts
            && !access::is_host_allowed(head.host(), hosts)
        {
            let reason = "this server does not answer to that Host; the option allowed_hosts names the ones it does";
            return self.refuse(HttpRefusal { status: 403, reason }, &[], turn);
        }
        if self.settings.cors.is_some() && !head.wants_websocket() && self.begin_cors(&head, turn) {
            return;
        }
        let mounts = Arc::clone(&turn.site.mounts);
        let routes = Arc::clone(&turn.site.routes);
        if !head.wants_websocket()
            && let Some((mount, rest)) = mounts.find(head.path())
            && match routes.find(head.path(), head.method(), false) {
                Found::Route(route) => mount.rank() > route.rank(head.method()),
                Found::Methods(_) | Found::Nobody => true,
            }
        {
            let rest = rest.to_owned();
            return self.begin_file(head, mount, &rest, has_body_bytes, turn);
        }
        self.begin_routed(head, has_body_bytes, turn);
    }

    /// Find out what a page of another origin may do. True: that was all the request asked.
    fn begin_cors(&mut self, head: &RequestHead, turn: &mut Turn) -> bool {
        let settings = Arc::clone(&self.settings);
        let Some(cors) = &settings.cors else { return false };
        let grant = cors.judge(&values(head, "origin"));
        self.http().grant = grant;
        let Some(preflight) = Preflight::read(head.method(), |name| values(head, name)) else { return false };
        match cors.answer_preflight(grant, &preflight) {
            Some(fields) => {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
                self.answer_natively(head, 204, &fields, b"", turn);
            }
            None => {
                let why = "pages of that Origin may not use this server; the option cors names those that may";
                self.answer_error(head, 403, why, &[], turn);
            }
        }
        true
    }

    /// No static path is responsible.
    pub(crate) fn begin_routed(&mut self, head: Arc<RequestHead>, has_body_bytes: bool, turn: &mut Turn) {
        let routes = Arc::clone(&turn.site.routes);
        let route = match routes.find(head.path(), head.method(), head.wants_websocket()) {
            Found::Route(route) => route,
            Found::Methods(allow) => return self.answer_error(&head, 405, "", &[("Allow", &allow)], turn),
            Found::Nobody => return self.answer_error(&head, 404, "", &[], turn),
        };
        if let Some(inline) = &route.inline {
            return self.answer_inline(&head, route, inline, turn);
        }
        if head.wants_websocket() && route.wants.has(Wants::WEBSOCKET) {
            return self.begin_handshake(&head, route, turn);
        }
        if !route.wants.has(Wants::REQUEST) && !route.wants.has(Wants::HEAD) {
            return self.answer_without_handler(&head, route.wants, turn);
        }
        self.http().gzip = route.gzip.clone();
        if route.wants.has(Wants::HEAD) {
            self.ask(head, Arc::clone(route), None, turn);
        } else {
            self.begin_body(head, Arc::clone(route), has_body_bytes, turn);
        }
    }

    fn answer_without_handler(&mut self, head: &RequestHead, wants: Wants, turn: &mut Turn) {
        if wants.has(Wants::WEBSOCKET) {
            self.answer_error(head, 426, "this is a WebSocket", &[("Upgrade", "websocket")], turn);
        } else {
            self.answer_error(head, 404, "", &[], turn);
        }
    }

    fn answer_inline(&mut self, head: &RequestHead, route: &Route, inline: &Inline, turn: &mut Turn) {
        let fields: Vec<(&str, &str)> = inline.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let answer = Answer { status: inline.status, reason: None, fields: &fields, body: &inline.body, close: false };
        let ready = Ready::Kept(inline.compressed.get().and_then(Option::as_ref));
        let compression = route.gzip.as_ref().map(|options| Compression { options, ready });
        self.encode_native(head, &answer, compression, turn);
    }

    fn begin_handshake(&mut self, head: &Arc<RequestHead>, route: &Arc<Route>, turn: &mut Turn) {
        let is_tls = self.stream().is_tls();
        let origins = match &route.websocket.allowed_origins {
            Some(any) if any.iter().any(|origin| origin == "*") => None,
            Some(own) => Some(own),
            None => self.settings.allowed_origins.as_ref(),
        };
        if let Some(origins) = origins
            && !head
                .fields()
                .filter(|(name, _)| name.eq_ignore_ascii_case("origin"))
                .all(|(_, origin)| access::is_origin_allowed(origin, head.host(), origins, is_tls))
        {
            let reason =
                "pages of that Origin may not open WebSockets here; the option allowed_origins names those that may";
            return self.refuse(HttpRefusal { status: 403, reason }, &[], turn);
        }
        // Where the frames begin is not agreed on: a proxy takes for the body what would be read as frames here.
        if head.has_body() {
            let reason = "the handshake of a WebSocket has no body";
            return self.refuse(HttpRefusal { status: 400, reason }, &[], turn);
        }
        let protocols = values(head, "sec-websocket-protocol");
        if head.fields().filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).count() > 1 {
            let reason = "Sec-WebSocket-Key must be given once";
            return self.refuse(HttpRefusal { status: 400, reason }, &[], turn);
        }
        let offer = Offer {
            version: head.get("sec-websocket-version"),
            key: head.get("sec-websocket-key"),
            protocols: &protocols,
        };
        let extensions = values(head, "sec-websocket-extensions");
        let accepted =
            accept_offer(&offer).and_then(|handshake| Accepted::new(handshake, &extensions, &route.websocket));
        match accepted {
            // RFC 6455 §4.4: name the version that would be accepted.
            Err(refusal) if refusal.status == 426 => {
                self.refuse(refusal, &[("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket")], turn)
            }
            Err(refusal) => self.refuse(refusal, &[], turn),
            Ok(accepted) if route.wants.has(Wants::HEAD) => {
                self.ask(Arc::clone(head), Arc::clone(route), Some(accepted), turn);
            }
            Ok(accepted) => self.open_websocket(Arc::clone(head), Arc::clone(route), accepted, turn),
        }
    }

    /// Let Python decide by the head.
    fn ask(&mut self, head: Arc<RequestHead>, route: Arc<Route>, handshake: Option<Accepted>, turn: &mut Turn) {
        let handshake = handshake.map(Box::new);
        let request = self.request(&head, Arc::clone(&route), Body::EMPTY, handshake.is_some());
        self.stage(Kind::Head(request), turn);
        self.http().enter(Phase::Deciding { head, route, handshake, is_taken: false }, turn.now);
    }

    /// Python let the request pass. False: there is nothing to decide.
    pub fn proceed(&mut self, turn: &mut Turn) -> bool {
        let Protocol::Http(http) = &mut self.protocol else {
            return false;
        };
        if !matches!(http.phase, Phase::Deciding { .. }) || self.life != Life::Open {
            return false;
        }
        let Phase::Deciding { head, route, handshake, .. } = http.enter(Phase::Head, turn.now) else {
            return false;
        };
        match handshake {
            Some(accepted) => self.open_websocket(head, route, *accepted, turn),
            None if !route.wants.has(Wants::REQUEST) => {
                self.answer_error(&head, 404, "", &[], turn);
            }
            None => {
                let has_body_bytes = self.has_input();
                self.begin_body(head, route, has_body_bytes, turn);
            }
        }
        self.make_runnable(turn);
        true
    }

    pub fn request(&self, head: &Arc<RequestHead>, route: Arc<Route>, body: Body, is_websocket: bool) -> Box<Request> {
        let head = Arc::clone(head);
        Box::new(Request {
            server: self.site,
            route,
            head,
            body,
            client: self.client,
            is_websocket,
            tls: self.peer_certificate.clone(),
        })
    }

    /// The client sends nothing more.
    pub fn end_http(&mut self, turn: &mut Turn) {
        self.fail_inflow(LEFT, turn);
        let is_with_disk = match &self.http().phase {
            Phase::Looking { .. } => true,
            Phase::Body(gathering) => gathering.is_all_here(),
            _ => false,
        };
        if is_with_disk {
            // It may only have closed its half; the answer is the last.
        } else if matches!(self.http().phase, Phase::Streaming(_)) {
            // Nobody waits for the rest of a stream at half a connection; and an event stream would never learn of it.
            self.stage(Kind::Gone, turn);
            self.life = Life::Dead;
        } else if self.http().is_waiting() {
            // It may only have closed its half and wait for the answer, which is still sent; a coroutine is cancelled.
            self.stage(Kind::Gone, turn);
        } else {
            // Between requests, or a body that is not whole and so never was a request (RFC 9112 §8).
            // TLS has to say that this is the end (RFC 8446 §6.1).
            let is_said = self.outbox.is_empty() && !self.stream().is_tls();
            self.life = if is_said { Life::Dead } else { Life::Finishing };
        }
    }

    pub fn check_http_deadline(&mut self, turn: &mut Turn) {
        if self.life != Life::Open {
            return;
        }
        let settings = Arc::clone(&self.settings);
        let inflow = self.http().inflow.as_ref().and_then(|inflow| inflow.deadline(&settings.limits));
        if inflow.is_some_and(|deadline| deadline <= turn.now) {
            self.fail_inflow(TOO_SLOW, turn);
        }
        let http = self.http();
        if http.deadline(&settings.limits).is_none_or(|deadline| deadline > turn.now) {
            return;
        }
        match &mut http.phase {
            Phase::Head if !http.has_begun => self.life = Life::Finishing,
            Phase::Head => {
                let since = http.since;
                let begun = std::mem::take(&mut self.input);
                self.log_malformed(&begun, since);
                let reason = "the request head did not arrive within head_timeout_s";
                self.refuse(HttpRefusal { status: 408, reason }, &[], turn);
            }
            Phase::Body(gathering) if gathering.waits_for_disk() => {
                let reason = "the disk did not take the request body within answer_timeout_s";
                self.refuse(HttpRefusal { status: 503, reason }, &[], turn);
            }
            Phase::Body(_) => {
                let reason = "the request body stood still for body_timeout_s";
                self.refuse(HttpRefusal { status: 408, reason }, &[], turn);
            }
            Phase::Streaming(_) => {} // write_timeout_s looks after it
            Phase::Looking { .. } => {
                let reason = "the disk did not answer within answer_timeout_s";
                self.refuse(HttpRefusal { status: 503, reason }, &[], turn);
            }
            Phase::Deciding { is_taken, .. } | Phase::Answering { is_taken, .. } => {
                *is_taken = true;
                turn.overdue.push(self.number);
            }
        }
    }

    /// Nobody took the request from the mailbox in time, and now nobody will.
    pub fn answer_overdue(&mut self, turn: &mut Turn) {
        let reason = "the program that serves this did not get to it within answer_timeout_s";
        self.refuse(HttpRefusal { status: 503, reason }, &[], turn);
    }

    pub fn stop_http(&mut self, is_cut: bool, turn: &mut Turn) {
        if self.life != Life::Open {
            return;
        }
        if self.http().is_waiting() {
            if is_cut {
                self.fail_inflow(STOPPED, turn);
                if matches!(self.http().phase, Phase::Streaming(_)) {
                    self.stream_mut().reset_on_close(); // half an answer must not look whole
                }
                self.stage(Kind::Gone, turn);
            }
        } else if is_cut || matches!(self.http().phase, Phase::Head) && !self.http().has_begun {
            self.life = Life::Finishing;
        }
    }
}

/// All values of a field, in order.
pub fn values<'a>(head: &'a RequestHead, name: &str) -> Vec<&'a [u8]> {
    head.fields().filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}
