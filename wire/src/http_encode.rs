//! Heads as bytes (RFC 9112 §3–5), with everything an application supplies checked first, so that no value can end its
//! line and begin a header or a response of its own. Reached through `http_head`.
//!
//! Thread: any (pure).

use crate::http_fields::{is_token, list_members, target_len, value_len};
use crate::http_head::{Version, reason_phrase};
use std::fmt;
use std::io::Write;

/// How much body follows the encoded head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// This many bytes, or what a GET would get if this answers HEAD.
    Length(u64),
    /// Unknown yet: chunks in HTTP/1.1, up to the close of the connection in HTTP/1.0.
    Chunked,
    /// 1xx, 204, 304: neither Content-Length nor a body.
    None,
}

/// The first line of a response, before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLine<'a> {
    /// 100 to 999.
    pub status: u16,
    /// `None`: the registered phrase, or "" if there is none.
    pub reason: Option<&'a str>,
    /// Of the request. The answer always says HTTP/1.1 (RFC 9110 §2.5).
    pub version: Version,
}

/// Why a head can't be sent: a sentence for the application, which supplied it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// Not 100 to 999.
    Status(u16),
    /// A body with a status that never has one.
    ContentForbidden(u16),
    /// A control character in the reason phrase.
    Reason(String),
    /// Not a token.
    Name(String),
    /// A control character in the value of `name`.
    Value {
        /// The field's name.
        name: String,
        /// The value, as given.
        value: String,
    },
    /// A field that is set by the server and was given with another value.
    Conflict {
        /// The field's name.
        name: &'static str,
        /// The value, as given.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A field that may not stand in trailers.
    Trailer(String),
    /// Not a token.
    Method(String),
    /// Empty, or not visible ASCII without `#`.
    Target(String),
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status must be from 100 to 999, not {status}"),
            Self::ContentForbidden(status) => {
                write!(f, "a response with status {status} can't have a body")
            }
            Self::Reason(reason) => {
                write!(f, "reason phrase {reason:?} has a control character")
            }
            Self::Name(name) => write!(f, "header name {name:?} is not a token (letters, digits and !#$%&'*+-.^_`|~)"),
            Self::Value { name, value } => write!(f, "the value of header {name:?} has a control character: {value:?}"),
            Self::Conflict { name, value, expected } => write!(f, "header {name} is {value:?}, expected {expected}"),
            Self::Trailer(name) => write!(f, "header {name:?} may not be sent as a trailer"),
            Self::Method(method) => write!(f, "method {method:?} is not a token"),
            Self::Target(target) => {
                write!(f, "target {target:?} must be visible ASCII without # (percent-encode the rest)")
            }
        }
    }
}

impl std::error::Error for FieldError {}

/// Appends a whole response head and says whether the connection goes on after the body.
///
/// `date` is the IMF-fixdate of now (29 bytes); a Date among `fields` replaces it. Content-Length and Transfer-Encoding among
/// them must say what `content` says. `Connection: close` turns `keep_alive` off, `keep-alive` changes nothing, `upgrade`
/// goes with status 101 only. Interim responses (1xx) get neither Date nor Connection.
/// On error nothing is appended.
pub fn encode_response_head(
    out: &mut Vec<u8>,
    head: &ResponseLine,
    fields: &[(&str, &str)],
    content: Content,
    date: &[u8; 29],
    keep_alive: bool,
) -> Result<bool, FieldError> {
    let begin = out.len();
    let mut encoder = ResponseEncoder {
        out,
        status: head.status,
        content: check_content(head, content)?,
        keep_alive: keep_alive && !ends_with_connection(head, content),
        has_date: false,
    };
    match encoder.encode(head, fields, date) {
        Ok(()) => Ok(encoder.keep_alive),
        Err(error) => {
            out.truncate(begin);
            Err(error)
        }
    }
}

/// RFC 9110 §8.6, §15: 1xx and 204 have neither body nor Content-Length; 304 may tell the length a 200 would have had.
fn check_content(head: &ResponseLine, content: Content) -> Result<Content, FieldError> {
    match (head.status, content) {
        (100..=199 | 204, Content::Length(0)) => Ok(Content::None),
        (100..=199 | 204, Content::Length(_) | Content::Chunked) | (304, Content::Chunked) => {
            Err(FieldError::ContentForbidden(head.status))
        }
        _ => Ok(content),
    }
}

/// HTTP/1.0 knows no chunks: a body of unknown length ends where the connection does.
fn ends_with_connection(head: &ResponseLine, content: Content) -> bool {
    head.version == Version::Http10 && content == Content::Chunked
}

struct ResponseEncoder<'a> {
    out: &'a mut Vec<u8>,
    status: u16,
    content: Content,
    keep_alive: bool,
    has_date: bool,
}

impl ResponseEncoder<'_> {
    fn encode(&mut self, head: &ResponseLine, fields: &[(&str, &str)], date: &[u8; 29]) -> Result<(), FieldError> {
        self.write_status_line(head)?;
        for &(name, value) in fields {
            check_field(name, value)?;
            if self.goes_out(name, value)? {
                write_field(self.out, name, value.as_bytes());
            }
        }
        self.write_own_fields(head.version, date);
        Ok(())
    }

    fn write_status_line(&mut self, head: &ResponseLine) -> Result<(), FieldError> {
        if !(100..=999).contains(&head.status) {
            return Err(FieldError::Status(head.status));
        }
        let reason = head.reason.unwrap_or_else(|| reason_phrase(head.status));
        if value_len(reason.as_bytes()) < reason.len() {
            return Err(FieldError::Reason(reason.to_owned()));
        }
        self.out.extend_from_slice(b"HTTP/1.1 ");
        write_decimal(self.out, u64::from(head.status));
        self.out.push(b' ');
        self.out.extend_from_slice(reason.as_bytes());
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Whether a field of the application is sent as it stands; those that say what we say are left to us.
    fn goes_out(&mut self, name: &str, value: &str) -> Result<bool, FieldError> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("date") => {
                self.has_date = true;
                Ok(true)
            }
            10 if name.eq_ignore_ascii_case("connection") => self.heed_connection(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.check_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.check_coding(value),
            _ => Ok(true),
        }
    }

    fn heed_connection(&mut self, value: &str) -> Result<bool, FieldError> {
        for option in list_members(value.as_bytes()) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = false;
            } else if option.eq_ignore_ascii_case(b"upgrade") && self.status == 101 {
                return Ok(true);
            } else if !option.eq_ignore_ascii_case(b"keep-alive") {
                return Err(conflict("Connection", value, "close or keep-alive"));
            }
        }
        Ok(false)
    }

    fn check_length(&self, value: &str) -> Result<bool, FieldError> {
        let expected = match self.content {
            Content::Length(length) if value.parse() == Ok(length) && !value.starts_with('+') => {
                return Ok(false);
            }
            Content::Length(_) => "the length of the body (leave it out, it is added)",
            Content::Chunked => "none: the body's length is not known yet",
            Content::None => "none: this response has no body",
        };
        Err(conflict("Content-Length", value, expected))
    }

    fn check_coding(&self, value: &str) -> Result<bool, FieldError> {
        if self.content == Content::Chunked && value.eq_ignore_ascii_case("chunked") {
            return Ok(false);
        }
        let expected = "none: the server adds it when it sends chunks";
        Err(conflict("Transfer-Encoding", value, expected))
    }

    fn write_own_fields(&mut self, version: Version, date: &[u8; 29]) {
        if self.status >= 200 {
            if !self.has_date {
                write_field(self.out, "Date", date);
            }
            if !self.keep_alive {
                write_field(self.out, "Connection", b"close");
            } else if version == Version::Http10 {
                write_field(self.out, "Connection", b"keep-alive");
            }
        }
        match self.content {
            Content::Length(length) => {
                self.out.extend_from_slice(b"Content-Length: ");
                write_decimal(self.out, length);
                self.out.extend_from_slice(b"\r\n");
            }
            Content::Chunked if version == Version::Http11 => {
                write_field(self.out, "Transfer-Encoding", b"chunked");
            }
            Content::Chunked | Content::None => {}
        }
        self.out.extend_from_slice(b"\r\n");
    }
}

fn conflict(name: &'static str, value: &str, expected: &'static str) -> FieldError {
    FieldError::Conflict { name, value: value.to_owned(), expected }
}

/// Appends a whole request head. The caller chooses the fields, Host and framing included.
/// On error nothing is appended.
pub fn encode_request_head(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
) -> Result<(), FieldError> {
    if !is_token(method.as_bytes()) {
        return Err(FieldError::Method(method.to_owned()));
    }
    if target.is_empty() || target_len(target.as_bytes()) < target.len() {
        return Err(FieldError::Target(target.to_owned()));
    }
    for &(name, value) in fields {
        check_field(name, value)?;
    }
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for &(name, value) in fields {
        write_field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The same grammar as for what we read: a name is a token, a value holds no CR, LF, NUL or other control but HTAB.
pub(crate) fn check_field(name: &str, value: &str) -> Result<(), FieldError> {
    if !is_token(name.as_bytes()) {
        return Err(FieldError::Name(name.to_owned()));
    }
    if value_len(value.as_bytes()) < value.len() {
        return Err(FieldError::Value { name: name.to_owned(), value: value.to_owned() });
    }
    Ok(())
}

pub(crate) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_decimal(out: &mut Vec<u8>, number: u64) {
    // Writing to a Vec can't fail.
    let _ = write!(out, "{number}");
}
