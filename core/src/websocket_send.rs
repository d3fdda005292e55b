//! What a WebSocket sends: messages, within the bound of its outbox, and what happens to a client that reads too slowly.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Protocol, Turn};
use crate::mailbox::Kind;
use crate::outbox::{Content, Outbox};
use crate::outgoing::{Coding, Compressors, Mask, Outgoing, append_shared, compressed_frame, masked};
use crate::settings::SlowClient;
use crate::websocket::WebSocket;
use wire::ws_close::TRY_AGAIN_LATER;
use wire::ws_deflate::{DeflateOptions, DeflateParams, Deflater};
use wire::ws_frame::{Opcode, Role, encode_frame};

/// What became of a command; the seam's SENT, SHUT and FULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    Shut,
    Full,
}

impl Outcome {
    /// For who does not ask whether the next one should wait.
    pub fn taken(self) -> Outcome {
        if self == Outcome::Full { Outcome::Sent } else { self }
    }
}

/// permessage-deflate as agreed on, for what we send (RFC 7692).
pub struct Compression {
    coding: Coding,
    min_bytes: usize,
    /// Refers to earlier messages, so it is this connection's own.
    keeps_context: bool,
    deflater: Option<Deflater>,
}

impl Compression {
    pub fn new(params: &DeflateParams, options: &DeflateOptions, slow_client: SlowClient, role: Role) -> Compression {
        Compression {
            coding: Coding { level: options.level, window_bits: params.window_bits(role) },
            min_bytes: options.min_bytes,
            // What is taken out of the queue again must not be referred to; nobody has to refer to anything.
            keeps_context: params.keeps_context(role) && slow_client != SlowClient::DropOldest,
            deflater: None,
        }
    }

    /// How this connection would compress a message that it shares with others, or that is long.
    pub fn coding(&self, payload_len: usize) -> Option<Coding> {
        (payload_len >= self.min_bytes).then_some(self.coding)
    }

    fn frame(&mut self, message: &mut Outgoing, mask: Mask, compressors: &mut Compressors) -> Option<Frame> {
        let coding = self.coding(message.payload().len())?;
        if self.keeps_context && message.is_own() {
            let deflater = self.deflater.get_or_insert_with(|| Deflater::new(coding.level, coding.window_bits));
            let frame = compressed_frame(deflater, message.opcode(), message.payload(), mask);
            if frame.is_none() {
                deflater.reset(); // it has seen what the peer will get uncompressed
            }
            return frame.map(Frame::Own);
        }
        let frame = if message.is_own() {
            compressors.frame(coding, message.opcode(), message.payload(), mask).map(Frame::Own)
        } else {
            let frame = message.coded_frame(coding, compressors);
            frame.map(|frame| match mask {
                None => Frame::Shared(frame),
                mask => Frame::Own(masked(&frame, message.opcode(), mask)),
            })
        };
        if let Some(deflater) = &mut self.deflater {
            deflater.reset(); // the peer's window holds a message that it has not seen
        }
        frame
    }
}

enum Frame {
    Plain,
    Own(Vec<u8>),
    Shared(crate::outgoing::SharedFrame),
}

impl Frame {
    fn len(&self, message: &Outgoing) -> usize {
        match self {
            Frame::Plain => message.plain_len(),
            Frame::Own(bytes) => bytes.len(),
            Frame::Shared(bytes) => bytes.len(),
        }
    }

    fn append(self, message: &mut Outgoing, outbox: &mut Outbox, mask: Mask, is_droppable: bool) {
        match self {
            Frame::Plain => message.append_plain(outbox, mask, is_droppable),
            Frame::Own(bytes) if is_droppable => outbox.append_droppable(Content::Own(bytes)),
            Frame::Own(bytes) => outbox.append_owned(bytes),
            Frame::Shared(bytes) => append_shared(outbox, &bytes, is_droppable),
        }
    }
}

impl Connection {
    /// Queue a small uncompressed message that fits, without a look at anything else; false: `send` has to see to it.
    pub fn send_simply(&mut self, message: &mut Outgoing) -> bool {
        let Protocol::WebSocket(websocket) = &self.protocol else { return false };
        let is_simple = self.is_open(websocket)
            && websocket.slow_client != SlowClient::DropOldest
            && websocket.compression.is_none()
            && message.large_payload().is_none()
            && self.has_room(message.plain_len());
        if is_simple {
            let mask = self.mask();
            message.append_plain(&mut self.outbox, mask, false);
        }
        is_simple
    }

    /// Queue a message.
    pub fn send(&mut self, message: &mut Outgoing, turn: &mut Turn) -> Outcome {
        let Protocol::WebSocket(websocket) = &mut self.protocol else { return Outcome::Shut };
        let policy = websocket.slow_client;
        if !self.may_send() {
            return Outcome::Shut;
        }
        let mask = self.mask();
        let frame = self.frame(message, mask, turn);
        let len = frame.len(message);
        if !self.has_room(len) && !self.is_blocked() {
            self.flush(turn); // what callbacks of this batch sent may be all that is in the way
            if !self.may_send() {
                return Outcome::Shut;
            }
        }
        if !self.has_room(len) {
            match policy {
                SlowClient::Close => {
                    // A client this far behind would cost memory for ever; one that comes back finds a live server.
                    return match self.close_asked(TRY_AGAIN_LATER, "max_outbox_bytes reached", turn) {
                        Outcome::Sent => Outcome::Full,
                        closed => closed,
                    };
                }
                SlowClient::DropNew => {
                    turn.counters.dropped += 1;
                    self.forget_context(); // it has seen a message that the peer never gets
                    return Outcome::Full;
                }
                SlowClient::DropOldest => {
                    turn.counters.dropped += self.outbox.drop_oldest(len, self.settings.limits.max_outbox_bytes);
                    if !self.has_room(len) {
                        turn.counters.dropped += 1; // not even alone beside what has begun to leave
                        return Outcome::Full;
                    }
                }
            }
        }
        *turn.has_asked |= mask.is_some();
        match (&frame, message.large_payload()) {
            (Frame::Plain, Some(payload))
                if !self.is_blocked() && policy != SlowClient::DropOldest && mask.is_none() =>
            {
                message.append_header(&mut self.outbox);
                self.flush_with(payload, turn);
            }
            _ => frame.append(message, &mut self.outbox, mask, policy == SlowClient::DropOldest),
        }
        Outcome::Sent
    }

    fn may_send(&self) -> bool {
        matches!(&self.protocol, Protocol::WebSocket(websocket) if self.is_open(websocket))
    }

    /// One message may always wait, however long it is: otherwise it could never be sent.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        self.outbox.is_empty() || self.outbox.cost() + len <= self.settings.limits.max_outbox_bytes
    }

    /// What the next frame is masked with.
    pub(crate) fn mask(&mut self) -> Mask {
        Some(self.websocket()?.masks.as_mut()?.next())
    }

    fn frame(&mut self, message: &mut Outgoing, mask: Mask, turn: &mut Turn) -> Frame {
        let compression = self.websocket().and_then(|websocket| websocket.compression.as_mut());
        compression.and_then(|compression| compression.frame(message, mask, turn.compressors)).unwrap_or(Frame::Plain)
    }

    fn forget_context(&mut self) {
        if let Some(compression) = self.websocket().and_then(|websocket| websocket.compression.as_mut())
            && let Some(deflater) = &mut compression.deflater
        {
            deflater.reset();
        }
    }

    /// What all messages are, if that is fixed.
    pub fn frames(&self) -> Option<Opcode> {
        match &self.protocol {
            Protocol::WebSocket(websocket) => websocket.frames,
            Protocol::Http(_) | Protocol::Calling(_) => None,
        }
    }

    /// How a message of this length would be compressed, if it is.
    pub fn coding(&self, payload_len: usize) -> Option<Coding> {
        match &self.protocol {
            Protocol::WebSocket(websocket) => websocket.compression.as_ref()?.coding(payload_len),
            Protocol::Http(_) | Protocol::Calling(_) => None,
        }
    }

    // ---- an empty outbox --------------------------------------------------------------------------------------------

    /// Say when nothing is queued any more. False: nothing is.
    pub fn drain(&mut self, turn: &mut Turn) -> bool {
        if !self.is_blocked() {
            self.flush(turn); // only corked
        }
        if self.outbox.is_empty() || self.is_over() || self.has_closed() {
            return false; // after its end, nothing more is told of a connection
        }
        self.websocket().map(|websocket| websocket.on_empty.says_drained = true).is_some()
    }

    pub fn watch_drained(&mut self) {
        let is_blocked = self.is_blocked();
        if let Some(websocket) = self.websocket() {
            websocket.on_empty.watches = true;
            websocket.on_empty.says_drained |= is_blocked;
        }
    }

    /// The outbox is empty.
    pub fn on_empty(&mut self, turn: &mut Turn) {
        let can_say_more = self.can_say_more();
        let Some(websocket) = self.websocket() else { return };
        let says_drained = std::mem::take(&mut websocket.on_empty.says_drained);
        if let Some(pong) = websocket.on_empty.pong.take()
            && can_say_more
        {
            let mask = self.mask();
            self.outbox.append(|out| encode_frame(out, Opcode::Pong, &pong, mask));
            self.flush(turn);
        }
        if says_drained && !self.has_closed() {
            self.stage(Kind::Drained, turn);
        }
    }
}

impl WebSocket {
    /// The system takes no more bytes.
    pub fn note_blocked(&mut self) {
        self.on_empty.says_drained |= self.on_empty.watches;
    }
}
