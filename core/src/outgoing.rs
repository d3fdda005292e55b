//! One message on its way out: framed, and compressed, once for whoever gets it.
//!
//! Thread: any; it is made before the reactor is taken, and used by whoever holds it.

use crate::outbox::{COPY_BELOW_BYTES, Content, Outbox};
use std::borrow::Cow;
use std::sync::Arc;
use wire::ws_deflate::Deflater;
use wire::ws_frame::{Opcode, RSV1, apply_mask, encode_extended_header, encode_frame, encode_header};

/// What makes the compressed bytes of a message what they are; connections that agree in it share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    pub level: u8,
    pub window_bits: u8,
}

/// Compressors without memory of earlier messages: one for each coding in use, shared by all its connections. (300 KiB
/// for each connection would be the alternative; uWebSockets calls this SHARED_COMPRESSOR.)
#[derive(Default)]
pub struct Compressors {
    by_coding: Vec<(Coding, Deflater)>,
}

impl Compressors {
    /// The frame of `payload`, or `None` if compression makes it no shorter.
    pub fn frame(&mut self, coding: Coding, opcode: Opcode, payload: &[u8], mask: Mask) -> Option<Vec<u8>> {
        let index = match self.by_coding.iter().position(|(other, _)| *other == coding) {
            Some(index) => index,
            None => {
                self.by_coding.push((coding, Deflater::new(coding.level, coding.window_bits)));
                self.by_coding.len() - 1
            }
        };
        let deflater = &mut self.by_coding[index].1;
        deflater.reset();
        compressed_frame(deflater, opcode, payload, mask)
    }
}

/// `None` if it is no shorter than the payload; the deflater has seen it all the same.
pub fn compressed_frame(deflater: &mut Deflater, opcode: Opcode, payload: &[u8], mask: Mask) -> Option<Vec<u8>> {
    let mut compressed = Vec::with_capacity(payload.len() / 4 + 64);
    deflater.compress(payload, &mut compressed);
    if compressed.len() >= payload.len() {
        return None;
    }
    let mut frame = Vec::with_capacity(compressed.len() + 14);
    append_compressed(&mut frame, opcode, &compressed, mask);
    Some(frame)
}

fn append_compressed(out: &mut Vec<u8>, opcode: Opcode, compressed: &[u8], mask: Mask) {
    encode_extended_header(out, true, RSV1, opcode, compressed.len() as u64, mask);
    let start = out.len();
    out.extend_from_slice(compressed);
    if let Some(key) = mask {
        apply_mask(&mut out[start..], key, 0);
    }
}

/// A shared compressed frame as one client sends it.
pub fn masked(frame: &[u8], opcode: Opcode, mask: Mask) -> Vec<u8> {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    let compressed = frame.get(header..).unwrap_or_default();
    let mut out = Vec::with_capacity(compressed.len() + 14);
    append_compressed(&mut out, opcode, compressed, mask);
    out
}

/// What a client's frame is masked with; `None` for a server, which must not mask (RFC 6455 §5.1).
pub type Mask = Option<[u8; 4]>;

/// A frame that several connections send.
pub type SharedFrame = Arc<[u8]>;

pub struct Outgoing<'a> {
    opcode: Opcode,
    payload: Cow<'a, [u8]>,
    /// Many get it: frames are kept, and not copied where they are large.
    is_shared: bool,
    plain: Option<SharedFrame>,
    /// `None` for a coding in which it gets no shorter.
    coded: Vec<(Coding, Option<SharedFrame>)>,
}

impl<'a> Outgoing<'a> {
    pub fn to_one(opcode: Opcode, payload: Cow<'a, [u8]>) -> Outgoing<'a> {
        Outgoing { opcode, payload, is_shared: false, plain: None, coded: Vec::new() }
    }

    pub fn to_many(opcode: Opcode, payload: Cow<'a, [u8]>) -> Outgoing<'a> {
        Outgoing { is_shared: true, ..Outgoing::to_one(opcode, payload) }
    }

    /// The same for many.
    pub fn shared(self) -> Outgoing<'a> {
        Outgoing { is_shared: true, ..self }
    }

    /// The same for those of the other type; `None`: it can't be text.
    pub fn converted(&self) -> Option<Outgoing<'_>> {
        let payload = Cow::Borrowed(&*self.payload);
        match self.opcode {
            Opcode::Text => Some(Outgoing::to_many(Opcode::Binary, payload)),
            _ => std::str::from_utf8(&payload).is_ok().then(|| Outgoing::to_many(Opcode::Text, payload)),
        }
    }

    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether a connection may use its own compressor for it, which remembers it.
    pub fn is_own(&self) -> bool {
        !self.is_shared
    }

    /// For a thread that has to leave it to another.
    pub fn into_owned(self) -> Outgoing<'static> {
        Outgoing {
            opcode: self.opcode,
            payload: Cow::Owned(self.payload.into_owned()),
            is_shared: self.is_shared,
            plain: self.plain,
            coded: self.coded,
        }
    }

    /// Compress now, so that it needs no time where others wait.
    pub fn prepare(&mut self, codings: &[Coding]) {
        let mut compressors = Compressors::default();
        for coding in codings {
            self.coded_frame(*coding, &mut compressors);
        }
    }

    /// Bytes on the wire without compression.
    pub fn plain_len(&self) -> usize {
        let header = match self.payload.len() {
            0..126 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        header + self.payload.len()
    }

    /// A payload of our own or the caller's, that one connection sends without compression.
    pub fn large_payload(&self) -> Option<&[u8]> {
        (!self.is_shared && self.payload.len() >= COPY_BELOW_BYTES).then_some(&*self.payload)
    }

    pub fn append_header(&self, outbox: &mut Outbox) {
        let length = self.payload.len() as u64;
        outbox.append(|out| encode_header(out, true, self.opcode, length, None));
    }

    /// Append the uncompressed frame.
    pub fn append_plain(&mut self, outbox: &mut Outbox, mask: Mask, is_droppable: bool) {
        if mask.is_some() {
            self.append_masked(outbox, mask, is_droppable);
        } else if self.is_shared {
            let frame = self.plain_frame();
            append_shared(outbox, frame, is_droppable);
        } else if is_droppable {
            outbox.append_droppable(Content::Own(encode(self.opcode, &self.payload, None)));
        } else if self.payload.len() < COPY_BELOW_BYTES {
            outbox.append(|out| encode_frame(out, self.opcode, &self.payload, None));
        } else {
            self.append_header(outbox);
            outbox.append_owned(std::mem::take(&mut self.payload).into_owned());
        }
    }

    /// A masked frame is nobody else's, and never the caller's own bytes.
    fn append_masked(&self, outbox: &mut Outbox, mask: Mask, is_droppable: bool) {
        if is_droppable {
            outbox.append_droppable(Content::Own(encode(self.opcode, &self.payload, mask)));
        } else if self.payload.len() < COPY_BELOW_BYTES {
            outbox.append(|out| encode_frame(out, self.opcode, &self.payload, mask));
        } else {
            outbox.append_owned(encode(self.opcode, &self.payload, mask));
        }
    }

    fn plain_frame(&mut self) -> &SharedFrame {
        self.plain.get_or_insert_with(|| encode(self.opcode, &self.payload, None).into())
    }

    /// The frame that every connection of this coding can send; `None` if it is no shorter.
    pub fn coded_frame(&mut self, coding: Coding, compressors: &mut Compressors) -> Option<SharedFrame> {
        if let Some((_, frame)) = self.coded.iter().find(|(other, _)| *other == coding) {
            return frame.clone();
        }
        let frame: Option<SharedFrame> = compressors.frame(coding, self.opcode, &self.payload, None).map(Arc::from);
        self.coded.push((coding, frame.clone()));
        frame
    }
}

fn encode(opcode: Opcode, payload: &[u8], mask: Mask) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    encode_frame(&mut frame, opcode, payload, mask);
    frame
}

pub fn append_shared(outbox: &mut Outbox, frame: &SharedFrame, is_droppable: bool) {
    if is_droppable {
        outbox.append_droppable(Content::Shared(Arc::clone(frame)));
    } else {
        outbox.append_shared(frame);
    }
}
