//! Answers whose body comes piece by piece, at the pace of the client that reads it (RFC 9112 §6.3, §7.1).
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Turn};
use crate::http::Phase;
use crate::http_answer::Answer;
use crate::http_compress::{Squeeze, choose_for, fields_of};
use crate::mailbox::Kind;
use crate::websocket_send::Outcome;
use wire::http_body::{encode_chunk, encode_last_chunk};
use wire::http_compression::{Changed, Choice};
use wire::http_head::{Content, FieldError, ResponseLine, Version};

/// When so much waits for the client, the next piece waits for it too.
const ENOUGH_BYTES: usize = 64 * 1024;

/// What is known of an answer under way.
pub struct Streaming {
    ending: Ending,
    keep_alive: bool,
    /// Python hears of the end, whoever makes it.
    tells_end: bool,
    /// The body is compressed.
    squeeze: Option<Squeeze>,
    /// Python waits to be told that nothing is queued.
    pub says_drained: bool,
}

/// How the client sees where the body ends.
enum Ending {
    LastChunk,
    /// After this many more bytes.
    Length(u64),
    Connection,
}

/// How an answer began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The body follows.
    Body,
    /// There is none, so it is complete.
    Bodiless,
    /// There is nothing to answer (any more).
    Shut,
}

/// Why a piece of a body is not sent; the connection is cut.
#[derive(Debug)]
pub struct TooMuch;

impl Connection {
    /// Begin an answer; `answer.body` is not looked at. `length`: of the body, if it is known.
    /// `tells_end`: Gone follows, also when Python ends it.
    pub fn begin_stream(
        &mut self,
        answer: &Answer,
        length: Option<u64>,
        tells_end: bool,
        turn: &mut Turn,
    ) -> Result<Begun, FieldError> {
        let Some((head, may_go_on)) = self.unanswered() else { return Ok(Begun::Shut) };
        let has_content = !matches!(answer.status, 100..=199 | 204 | 304);
        let options = self.gzip_options();
        let choice = options.as_ref().map_or(Choice::AsItIs, |options| choose_for(options, &head, answer, length));
        let level = options.filter(|_| choice == Choice::Gzip).map(|options| options.level);
        // How long it will be compressed is not known, whatever is known of it.
        let sent_length = length.filter(|_| level.is_none());
        let content = match sent_length {
            _ if !has_content => Content::None,
            Some(length) => Content::Length(length),
            None => Content::Chunked,
        };
        let mut changed = Changed::default();
        let fields = fields_of(choice, level.is_some(), answer.fields, &mut changed);
        let line = ResponseLine { status: answer.status, reason: answer.reason, version: head.version() };
        let keep_alive = self.append_head(&head, &line, &fields, content, may_go_on && !answer.close, turn)?;
        if !has_content || head.method() == "HEAD" {
            if tells_end {
                self.stage(Kind::Gone, turn);
            }
            self.end_answer(keep_alive, turn);
            return Ok(Begun::Bodiless);
        }
        let ending = match sent_length {
            Some(length) => Ending::Length(length),
            None if head.version() == Version::Http11 => Ending::LastChunk,
            None => Ending::Connection,
        };
        let squeeze = level.map(|level| Squeeze::new(&self.settings.gzippers, level, length));
        let streaming = Streaming { ending, keep_alive, tells_end, squeeze, says_drained: false };
        self.http().enter(Phase::Streaming(streaming), turn.now);
        Ok(Begun::Body)
    }

    /// Send a piece now. `Full`: it was taken, and the next one should wait.
    pub fn write_stream(&mut self, data: &[u8], turn: &mut Turn) -> Result<Outcome, TooMuch> {
        let Some(streaming) = self.streaming() else { return Ok(Outcome::Shut) };
        let mut squeezed = None;
        if let Some(squeeze) = &mut streaming.squeeze {
            squeezed = squeeze.write(data);
            if squeezed.is_none() {
                self.abort_stream(turn);
                return Err(TooMuch);
            }
        }
        let data = squeezed.as_deref().unwrap_or(data);
        let Some(streaming) = self.streaming() else { return Ok(Outcome::Shut) };
        match &mut streaming.ending {
            Ending::LastChunk => self.outbox.append(|out| encode_chunk(out, data)),
            Ending::Connection => self.outbox.append(|out| out.extend_from_slice(data)),
            Ending::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(less) => {
                    *left = less;
                    self.outbox.append(|out| out.extend_from_slice(data));
                }
                None => {
                    self.abort_stream(turn);
                    return Err(TooMuch);
                }
            },
        }
        if self.outbox.len() < ENOUGH_BYTES {
            return Ok(Outcome::Sent);
        }
        if !self.is_blocked() {
            self.flush(turn);
        }
        Ok(if self.outbox.is_empty() { Outcome::Sent } else { Outcome::Full })
    }

    /// Send a piece now if it fits into max_outbox_bytes with what is queued, or if nothing is. `Full`: it was not taken.
    pub fn offer_stream(&mut self, data: &[u8], turn: &mut Turn) -> Result<Outcome, TooMuch> {
        match self.room_for_piece(data.len(), turn) {
            Outcome::Sent => self.write_stream(data, turn).map(Outcome::taken),
            no => Ok(no),
        }
    }

    /// Whether a piece of this size would be taken when it is offered: `Sent` if so.
    pub fn room_for_piece(&mut self, size: usize, turn: &mut Turn) -> Outcome {
        if self.streaming().is_none() {
            return Outcome::Shut;
        }
        if !self.has_room(size) && !self.is_blocked() {
            self.flush(turn);
        }
        if self.has_room(size) { Outcome::Sent } else { Outcome::Full }
    }

    /// Say when nothing is queued any more, which may be now.
    pub fn resume_stream(&mut self) {
        if let Some(streaming) = self.streaming() {
            streaming.says_drained = true;
        }
    }

    /// The outbox is empty.
    pub fn stream_is_drained(&mut self, turn: &mut Turn) {
        if let Some(streaming) = self.streaming()
            && std::mem::take(&mut streaming.says_drained)
        {
            self.stage(Kind::Drained, turn);
        }
    }

    /// The body is complete. `Ok(false)`: it is not as long as was announced, or nobody is there any more.
    pub fn finish_stream(&mut self, trailers: &[(&str, &str)], turn: &mut Turn) -> Result<bool, FieldError> {
        let Some(streaming) = self.streaming() else { return Ok(false) };
        let (keep_alive, tells_end) = (streaming.keep_alive, streaming.tells_end);
        if streaming.squeeze.as_ref().is_some_and(Squeeze::is_short) {
            self.abort_stream(turn);
            return Ok(false);
        }
        let mut last_chunk = Vec::new();
        if let Ending::LastChunk = streaming.ending {
            encode_last_chunk(&mut last_chunk, trailers)?;
        }
        let end = streaming.squeeze.take().map(Squeeze::finish).unwrap_or_default();
        match streaming.ending {
            Ending::LastChunk => self.outbox.append(|out| {
                encode_chunk(out, &end);
                out.extend_from_slice(&last_chunk);
            }),
            Ending::Connection => self.outbox.append(|out| out.extend_from_slice(&end)),
            Ending::Length(left) if left > 0 => {
                self.abort_stream(turn);
                return Ok(false);
            }
            Ending::Length(_) => {}
        }
        self.log_end_of_body();
        if tells_end {
            self.stage(Kind::Gone, turn); // before the next request can come
        }
        self.end_answer(keep_alive, turn);
        Ok(true)
    }

    /// End the connection so that nobody takes what was sent for the whole. A reset, because without chunks and length an
    /// orderly end means just that.
    pub fn abort_stream(&mut self, turn: &mut Turn) {
        let Some(streaming) = self.streaming() else { return };
        if streaming.tells_end {
            self.stage(Kind::Gone, turn);
        }
        self.flush(turn);
        self.http().enter(Phase::Head, turn.now);
        self.stream_mut().reset_on_close();
        self.outbox.clear();
        self.life = Life::Dead;
    }

    fn streaming(&mut self) -> Option<&mut Streaming> {
        match &mut self.protocol {
            Protocol::Http(http) if self.life == Life::Open => match &mut http.phase {
                Phase::Streaming(streaming) => Some(streaming),
                _ => None,
            },
            _ => None,
        }
    }
}
