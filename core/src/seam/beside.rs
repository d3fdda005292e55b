//! What takes long, and is done beside the reactor or in turns with it: compressing, and sending to many.
//!
//! Thread: whichever thread of the interpreter calls; attached to it, except inside `detach`.

use super::Core;
use super::arguments::payload_of;
use crate::http_answer::Answer;
use crate::http_compress::Ready;
use crate::http_stream::TooMuch;
use crate::number::Number;
use crate::outgoing::Outgoing;
use crate::websocket_send::Outcome;
use pyo3::prelude::*;
use std::sync::atomic::Ordering;
use wire::http_head::FieldError;

/// What is compressed beside the reactor and detached from the interpreter: neither should wait for it.
const COMPRESS_ALONE_BYTES: usize = 64 * 1024;
/// A message to more than this many leaves the reactor to others in between.
const AUDIENCE_PER_TURN: usize = 256;

impl Core {
    /// An answer, or a piece of one, that others should not wait for, if it is compressed.
    pub(super) fn squeezes_alone(&self, body: &[u8]) -> bool {
        body.len() > COMPRESS_ALONE_BYTES && self.engine.has_gzip.load(Ordering::Relaxed)
    }

    /// Detached, so it may wait for the reactor, whose holder never waits for us.
    pub(super) fn respond_long(&self, number: Number, answer: &Answer) -> Result<bool, FieldError> {
        let plan = self.engine.lease().with(number, |connection, _| connection.plan_compression(answer)).flatten();
        let ready = match plan {
            Some((pool, level)) => Ready::Made(pool.compress(level, answer.body)),
            None => Ready::Nothing,
        };
        let mut lease = self.engine.lease();
        lease.tick();
        lease.with(number, |connection, turn| connection.answer_with(answer, ready, turn)).unwrap_or(Ok(false))
    }

    /// Detached, in steps: others have the reactor in between.
    pub(super) fn write_long(&self, number: Number, data: &[u8]) -> Option<Result<Outcome, TooMuch>> {
        let mut written = None;
        for step in data.chunks(COMPRESS_ALONE_BYTES) {
            let mut lease = self.engine.lease();
            lease.tick();
            written = lease.with(number, |connection, turn| connection.write_stream(step, turn));
            if !matches!(written, Some(Ok(Outcome::Sent | Outcome::Full))) {
                break;
            }
        }
        written
    }

    /// The same, if there is room for all of it.
    pub(super) fn offer_long(&self, number: Number, data: &[u8]) -> Option<Result<Outcome, TooMuch>> {
        let mut lease = self.engine.lease();
        lease.tick();
        let room = lease.with(number, |connection, turn| connection.room_for_piece(data.len(), turn))?;
        drop(lease);
        match room {
            Outcome::Sent => Some(self.write_long(number, data)?.map(Outcome::taken)),
            no => Some(Ok(no)),
        }
    }

    pub(super) fn compresses_alone(&self, message: &Outgoing) -> bool {
        message.payload().len() > COMPRESS_ALONE_BYTES && self.engine.has_deflate.load(Ordering::Relaxed)
    }

    /// Detached, so it may wait for the reactor, whose holder never waits for us.
    pub(super) fn send_long(&self, number: Number, message: Outgoing) -> Outcome {
        let codings = self.engine.lease().codings(&[number], message.payload().len());
        // Shared by nobody, but made here and not by the connection's own compressor.
        let mut message = if codings.is_empty() { message } else { message.shared() };
        message.prepare(&codings);
        self.engine.lease().send(number, false, &mut message)
    }

    pub(super) fn send_to_many(
        &self,
        py: Python<'_>,
        server: Number,
        topic: Option<&str>,
        data: &Bound<'_, PyAny>,
        exclude: Number,
    ) -> PyResult<usize> {
        let (opcode, payload) = payload_of(data)?;
        let mut message = Outgoing::to_many(opcode, payload);
        if !self.compresses_alone(&message)
            && let Some(mut lease) = self.engine.try_lease()
        {
            let is_corked = lease.is_corking && self.engine.is_home();
            let mut audience = lease.audience(server, topic);
            audience.retain(|number| *number != exclude);
            if is_corked || audience.len() <= AUDIENCE_PER_TURN {
                let others = lease.take_others(&mut audience, opcode);
                return Ok(lease.send_to(&audience, is_corked, &mut message)
                    + lease.send_converted(&others, is_corked, &message));
            }
        }
        // The count is promised, so wait for the reactor, detached: its holder never waits for us.
        Ok(py.detach(|| {
            let mut lease = self.engine.lease();
            let mut audience = lease.audience(server, topic);
            audience.retain(|number| *number != exclude);
            let others = lease.take_others(&mut audience, opcode);
            if self.compresses_alone(&message) {
                let codings = lease.codings(&audience, message.payload().len());
                drop(lease);
                message.prepare(&codings);
                lease = self.engine.lease();
            }
            let mut taken = 0;
            for part in audience.chunks(AUDIENCE_PER_TURN) {
                taken += lease.send_to(part, false, &mut message);
                drop(lease);
                lease = self.engine.lease();
            }
            for part in others.chunks(AUDIENCE_PER_TURN) {
                taken += lease.send_converted(part, false, &message);
                drop(lease);
                lease = self.engine.lease();
            }
            taken
        }))
    }
}
