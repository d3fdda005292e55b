//! A response's first line and its finished head (RFC 9112 §4), the client's half. Reached as `http_head::ResponseHead`.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_body::BodyFraming;
use crate::http_fields::{FieldSpan, Span, bad_request, expect_lf, value_len, write_block};
use crate::http_framing::Control;
use crate::http_head::{VERSION_NOT_SUPPORTED, Version, read_version};
use crate::http_request::find;
use std::borrow::Cow;
use std::fmt;

#[derive(Clone, Copy, Debug)]
enum Part {
    Version,
    Status,
    AfterStatus,
    Reason,
    EndLf,
}

/// The status line as it comes in.
#[derive(Clone, Debug)]
pub(crate) struct StatusLine {
    position: usize,
    part: Part,
    mark: usize,
    version: Version,
    status: u16,
    reason: Span,
}

impl StatusLine {
    pub(crate) const fn new() -> Self {
        Self { position: 0, part: Part::Version, mark: 0, version: Version::Http11, status: 0, reason: Span::EMPTY }
    }

    /// `Ok(Some(end))`: complete, the fields begin at `end`.
    pub(crate) fn read(&mut self, input: &[u8]) -> Result<Option<usize>, HttpRefusal> {
        while let Some(&byte) = input.get(self.position) {
            match self.part {
                Part::Version => {
                    if !self.read_version(input)? {
                        return Ok(None);
                    }
                }
                Part::Status => self.read_digit(byte)?,
                Part::AfterStatus => self.leave_status(byte)?,
                Part::Reason => self.read_reason(input)?,
                Part::EndLf => {
                    expect_lf(byte)?;
                    return Ok(Some(self.position + 1));
                }
            }
        }
        Ok(None)
    }

    fn advance(&mut self, bytes: usize, next: Part) {
        self.position += bytes;
        self.part = next;
        self.mark = self.position;
    }

    fn read_version(&mut self, input: &[u8]) -> Result<bool, HttpRefusal> {
        let Some(version) = read_version(input)? else {
            return Ok(false);
        };
        match input.get(8) {
            None => Ok(false),
            Some(b' ') => {
                self.version = version.ok_or(VERSION_NOT_SUPPORTED)?;
                self.advance(9, Part::Status);
                Ok(true)
            }
            Some(_) => bad_request("the status line has no space after the HTTP version"),
        }
    }

    fn read_digit(&mut self, byte: u8) -> Result<(), HttpRefusal> {
        let is_first = self.position == self.mark;
        if !byte.is_ascii_digit() || (is_first && byte == b'0') {
            return bad_request("the status is not a number from 100 to 999");
        }
        self.status = self.status * 10 + u16::from(byte - b'0');
        self.position += 1;
        if self.position - self.mark == 3 {
            self.part = Part::AfterStatus;
        }
        Ok(())
    }

    fn leave_status(&mut self, byte: u8) -> Result<(), HttpRefusal> {
        match byte {
            b' ' => self.advance(1, Part::Reason),
            // RFC 9112 §4 wants the space even before an empty reason; many servers leave it out.
            b'\r' => self.advance(1, Part::EndLf),
            _ => return bad_request("the status has more than three digits"),
        }
        Ok(())
    }

    fn read_reason(&mut self, input: &[u8]) -> Result<(), HttpRefusal> {
        self.position += value_len(&input[self.position..]);
        match input.get(self.position) {
            None => Ok(()),
            Some(b'\r') => {
                self.reason = Span::new(self.mark, self.position);
                self.advance(1, Part::EndLf);
                Ok(())
            }
            Some(_) => bad_request("the reason phrase has a control byte"),
        }
    }
}

/// A response's head, checked, in one buffer of its own.
#[derive(Clone)]
pub struct ResponseHead {
    bytes: Box<[u8]>,
    version: Version,
    status: u16,
    reason: Span,
    control: Control,
    fields: Vec<FieldSpan>,
}

impl ResponseHead {
    pub(crate) fn new(
        bytes: &[u8],
        line: &StatusLine,
        fields: Vec<FieldSpan>,
        control: Control,
    ) -> Result<Self, HttpRefusal> {
        control.check(line.version)?;
        Ok(Self {
            bytes: bytes.into(),
            version: line.version,
            status: line.status,
            reason: line.reason,
            control,
            fields,
        })
    }

    /// 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What the server wrote behind the status; for people only (RFC 9112 §4).
    pub fn reason(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.reason.of(&self.bytes))
    }

    /// The version the server speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Names as sent, values without the white space around them, in order, repeats kept.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (field.name.text(&self.bytes), field.value.of(&self.bytes)))
    }

    /// The first value of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        find(&self.bytes, &self.fields, name)
    }

    /// All fields as `Name:value\r\n`.
    pub fn field_block(&self) -> Vec<u8> {
        write_block(&self.bytes, &self.fields)
    }

    /// How the end of the body is found (RFC 9112 §6.3); it depends on what was asked.
    pub fn framing(&self, request_method: &str) -> BodyFraming {
        let never_has_body = matches!(self.status, 100..=199 | 204 | 304);
        if never_has_body || request_method == "HEAD" {
            return BodyFraming::Empty;
        }
        match self.control.content_length() {
            _ if self.control.is_chunked() => BodyFraming::Chunked,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::UntilClose,
        }
    }

    /// Whether the server means to keep the connection (RFC 9112 §9.3). A body that ends with the connection ends it anyway.
    pub fn keep_alive(&self) -> bool {
        self.control.keep_alive(self.version)
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("version", &self.version)
            .field("status", &self.status)
            .field("fields", &self.fields().collect::<Vec<_>>())
            .finish()
    }
}
