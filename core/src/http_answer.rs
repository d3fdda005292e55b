//! How a request is answered whole: what a handler says, what this crate says by itself, and what ends the connection.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Turn};
use crate::http::Phase;
use crate::http_compress::{Compression, Prepared, Ready};
use crate::settings::Settings;
use std::borrow::Cow;
use std::sync::Arc;
use wire::error::{HttpRefusal, error_body};
use wire::http_compression::Changed;
use wire::http_head::{Content, FieldError, RequestHead, ResponseLine, Version, encode_response_head};

pub const PLAIN_TEXT: (&str, &str) = ("Content-Type", "text/plain; charset=utf-8");

/// What a handler, or this crate, answers.
pub struct Answer<'a> {
    pub status: u16,
    pub reason: Option<&'a str>,
    pub fields: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    pub close: bool,
}

impl Answer<'_> {
    /// A handler that answers HEAD without a body may say how long the body of GET would be (RFC 9110 §8.6).
    pub fn content_length(&self, method: &str) -> u64 {
        let is_told = method == "HEAD" && self.body.is_empty();
        let told = self.fields.iter().find(|(name, _)| is_told && name.eq_ignore_ascii_case("content-length"));
        told.and_then(|(_, value)| value.parse().ok()).unwrap_or(self.body.len() as u64)
    }
}

impl Connection {
    /// Python's answer. `Ok(false)`: there is nothing to answer (any more).
    pub fn answer(&mut self, answer: &Answer, turn: &mut Turn) -> Result<bool, FieldError> {
        self.answer_with(answer, Ready::Nothing, turn)
    }

    /// The same, if its body has been compressed already.
    pub fn answer_with(&mut self, answer: &Answer, ready: Ready, turn: &mut Turn) -> Result<bool, FieldError> {
        let Some((head, may_go_on)) = self.unanswered() else { return Ok(false) };
        let options = self.gzip_options();
        let compression = options.as_ref().map(|options| Compression { options, ready });
        let keep_alive = self.encode_answer(&head, answer, compression, may_go_on && !answer.close, turn)?;
        self.end_answer(keep_alive, turn);
        Ok(true)
    }

    /// What Python has to answer, and whether the connection may go on afterwards.
    pub(crate) fn unanswered(&self) -> Option<(Arc<RequestHead>, bool)> {
        let Protocol::Http(http) = &self.protocol else { return None };
        if self.life != Life::Open {
            return None;
        }
        // A client that closed its half may have asked for more before.
        let is_last = self.is_at_end && !self.has_input();
        match &http.phase {
            Phase::Deciding { head, .. } => Some((Arc::clone(head), !head.has_body() && !is_last)),
            Phase::Answering { head, .. } => {
                let leaves_body = http.inflow.as_ref().is_some_and(|inflow| !inflow.is_whole());
                Some((Arc::clone(head), !leaves_body && !is_last))
            }
            _ => None,
        }
    }

    /// All of an answer is in the outbox.
    pub(crate) fn end_answer(&mut self, keep_alive: bool, turn: &mut Turn) {
        let http = self.http();
        http.enter(Phase::Head, turn.now);
        http.inflow = None; // what the handler did not read of it, it did not want
        if !keep_alive || turn.site.is_stopping() {
            self.life = Life::Finishing;
        } else if self.has_input() {
            self.make_runnable(turn);
        }
    }

    /// An answer that Python never hears of. A body that was announced is not read: the connection ends instead.
    pub(crate) fn answer_natively(
        &mut self,
        head: &RequestHead,
        status: u16,
        fields: &[(&str, &str)],
        body: &[u8],
        turn: &mut Turn,
    ) {
        let answer = Answer { status, reason: None, fields, body, close: false };
        self.encode_native(head, &answer, None, turn);
    }

    pub(crate) fn encode_native(
        &mut self,
        head: &RequestHead,
        answer: &Answer,
        compression: Option<Compression>,
        turn: &mut Turn,
    ) {
        let keep_alive = !head.has_body();
        if answer.status >= 400 {
            turn.counters.refuse(answer.status);
        }
        // Checked when the route was made; if it should fail all the same, nothing half-written stays.
        if !self.encode_answer(head, answer, compression, keep_alive, turn).unwrap_or(false) {
            self.life = Life::Finishing;
        }
    }

    /// As `answer_natively`, with the body that every error of ours has. `why` may be empty.
    pub(crate) fn answer_error(
        &mut self,
        head: &RequestHead,
        status: u16,
        why: &str,
        more_fields: &[(&str, &str)],
        turn: &mut Turn,
    ) {
        let fields: Vec<(&str, &str)> = [PLAIN_TEXT].iter().chain(more_fields).copied().collect();
        self.answer_natively(head, status, &fields, error_body(status, why).as_bytes(), turn);
    }

    pub(crate) fn encode_answer(
        &mut self,
        head: &RequestHead,
        answer: &Answer,
        compression: Option<Compression>,
        keep_alive: bool,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        let has_content = !matches!(answer.status, 100..=199 | 204 | 304);
        let prepared = Prepared::new(head, answer, compression, &self.settings.gzippers);
        let mut changed = Changed::default();
        let fields = prepared.fields(answer.fields, &mut changed);
        let content = if has_content { prepared.content() } else { Content::None };
        let line = ResponseLine { status: answer.status, reason: answer.reason, version: head.version() };
        let keep_alive = self.append_head(head, &line, &fields, content, keep_alive, turn)?;
        if has_content && head.method() != "HEAD" {
            prepared.append_to(&mut self.outbox);
        }
        Ok(keep_alive)
    }

    /// Everything before the body, which the caller appends. False: the connection has to end behind it.
    pub(crate) fn append_head(
        &mut self,
        head: &RequestHead,
        line: &ResponseLine,
        fields: &[(&str, &str)],
        content: Content,
        keep_alive: bool,
        turn: &Turn,
    ) -> Result<bool, FieldError> {
        let keep_alive = keep_alive && head.keep_alive() && !turn.site.is_stopping();
        let mut vary = String::new();
        let fields = granted(&self.settings, &self.protocol, fields, &mut vary);
        let goes_on =
            self.outbox.append(|out| encode_response_head(out, line, &fields, content, turn.date, keep_alive))?;
        self.log_answer(line.status, content, head.method() != "HEAD", turn);
        Ok(goes_on)
    }

    /// Answer an error and end the connection: where the next request begins is no longer agreed on.
    pub fn refuse(&mut self, refusal: HttpRefusal, more_fields: &[(&str, &str)], turn: &mut Turn) {
        turn.counters.refuse(refusal.status);
        let asks_head = matches!(&self.protocol, Protocol::Http(http) if http.asks_head);
        let body = error_body(refusal.status, refusal.reason);
        let fields: Vec<(&str, &str)> = [PLAIN_TEXT].iter().chain(more_fields).copied().collect();
        let line = ResponseLine { status: refusal.status, reason: None, version: Version::Http11 };
        let mut vary = String::new();
        let fields = granted(&self.settings, &self.protocol, &fields, &mut vary);
        let content = Content::Length(body.len() as u64);
        let encoded = self.outbox.append(|out| encode_response_head(out, &line, &fields, content, turn.date, false));
        self.log_answer(refusal.status, content, !asks_head, turn);
        if encoded.is_ok() && !asks_head {
            self.outbox.append(|out| out.extend_from_slice(body.as_bytes()));
        }
        self.life = Life::Finishing;
    }
}

/// The fields of an answer, and those that let a page of another origin read it.
fn granted<'a>(
    settings: &'a Settings,
    protocol: &Protocol,
    fields: &'a [(&'a str, &'a str)],
    vary: &'a mut String,
) -> Cow<'a, [(&'a str, &'a str)]> {
    let (Some(cors), Protocol::Http(http)) = (&settings.cors, protocol) else { return Cow::Borrowed(fields) };
    let mut fields = fields.to_vec();
    cors.add_fields(http.grant, &mut fields, vary);
    Cow::Owned(fields)
}
