//! The fields that govern the message itself: where its body ends (RFC 9112 §6) and whether the connection goes on (§9).
//! Not reading a body; that is `http_body`.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_fields::{bad_request, is_token, list_members};
use crate::http_head::Version;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
}

/// What the governing fields said so far, gathered line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Control {
    content_length: Option<u64>,
    transfer_coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    websocket: bool,
}

impl Control {
    pub(crate) const fn new() -> Self {
        Self {
            content_length: None,
            transfer_coding: None,
            close: false,
            keep_alive: false,
            upgrade: false,
            websocket: false,
        }
    }

    /// Takes note of one field; most names are told apart by their length alone.
    pub(crate) fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), HttpRefusal> {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.note_upgrade(value),
            10 if name.eq_ignore_ascii_case(b"connection") => self.note_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.note_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                return self.note_coding(value);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_upgrade(&mut self, value: &[u8]) {
        self.websocket |= list_members(value).any(|name| name.eq_ignore_ascii_case(b"websocket"));
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in list_members(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn note_length(&mut self, value: &[u8]) -> Result<(), HttpRefusal> {
        // RFC 9112 §6.3 lets equal repeats pass. A proxy that forwards only one of them may pick by position.
        if self.content_length.is_some() {
            return bad_request("Content-Length is given more than once");
        }
        self.content_length = Some(parse_length(value)?);
        Ok(())
    }

    fn note_coding(&mut self, value: &[u8]) -> Result<(), HttpRefusal> {
        if self.transfer_coding.is_some() {
            return bad_request("Transfer-Encoding is given more than once");
        }
        self.transfer_coding = Some(parse_coding(value)?);
        Ok(())
    }

    /// What can only be judged once all fields are known.
    pub(crate) fn check(&self, version: Version) -> Result<(), HttpRefusal> {
        let Some(coding) = self.transfer_coding else {
            return Ok(());
        };
        // RFC 9112 §6.3: both together is how requests are smuggled. The RFC lets us pick one; a proxy in
        // front may have picked the other.
        if self.content_length.is_some() {
            return bad_request("Content-Length together with Transfer-Encoding");
        }
        if version == Version::Http10 {
            return bad_request("Transfer-Encoding in an HTTP/1.0 message");
        }
        if coding == Coding::Unknown {
            return Err(HttpRefusal { status: 501, reason: "the only transfer coding understood is chunked" });
        }
        Ok(())
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.transfer_coding == Some(Coding::Chunked)
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// RFC 9112 §9.3.
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        match version {
            _ if self.close => false,
            Version::Http11 => true,
            Version::Http10 => self.keep_alive,
        }
    }

    pub(crate) fn offers_websocket(&self) -> bool {
        self.upgrade && self.websocket
    }
}

/// RFC 9110 §8.6: ASCII digits and nothing else, so no sign, space, list, `0x` or Unicode digit.
fn parse_length(value: &[u8]) -> Result<u64, HttpRefusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return bad_request("Content-Length is not a row of digits");
    }
    let length = value.iter().try_fold(0u64, |length, digit| {
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0')).filter(|&length| length <= i64::MAX as u64)
    });
    match length {
        Some(length) => Ok(length),
        None => bad_request("Content-Length is larger than 2^63-1"),
    }
}

/// RFC 9112 §6.1. Lists, parameters and "identity" are where two readers part, so only a lone unknown name
/// gets the polite 501.
fn parse_coding(value: &[u8]) -> Result<Coding, HttpRefusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        Ok(Coding::Chunked)
    } else if is_token(value) && !value.eq_ignore_ascii_case(b"identity") {
        Ok(Coding::Unknown)
    } else {
        bad_request("Transfer-Encoding must be exactly chunked")
    }
}
