//! Request and response heads: a start line and its fields (RFC 9112 §2–5), found in a growing buffer and turned into
//! values; and back. Bodies are `http_body`'s; what to answer is nobody's here.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_fields::{FieldLines, Line, bad_request};
use crate::http_framing::Control;
use crate::http_request::RequestLine;
use crate::http_response::StatusLine;

pub use crate::http_encode::{Content, FieldError, ResponseLine, encode_request_head, encode_response_head};
pub use crate::http_request::RequestHead;
pub use crate::http_response::ResponseHead;
pub use crate::http_status::reason_phrase;

/// The two versions spoken; all others are refused with 505.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// How large a head may grow. Checked against what has arrived, not against what is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Start line and fields with all line ends.
    pub max_head_bytes: usize,
    /// Field lines.
    pub max_headers: usize,
    /// The request target.
    pub max_url_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_head_bytes: 128 * 1024, max_headers: 128, max_url_bytes: 16 * 1024 }
    }
}

/// Finds and checks the head at the front of a buffer that grows between calls.
///
/// Every byte is looked at once, so a head that arrives byte by byte costs no more than one that arrives whole; and the
/// first byte that can't be right decides, so no refusal depends on how the bytes were cut.
#[derive(Clone, Debug)]
pub struct HeadReader {
    request_line: RequestLine,
    status_line: StatusLine,
    in_fields: bool,
    fields: FieldLines,
    control: Control,
}

impl Default for HeadReader {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadReader {
    /// A reader at the beginning of a head.
    pub const fn new() -> Self {
        Self {
            request_line: RequestLine::new(),
            status_line: StatusLine::new(),
            in_fields: false,
            fields: FieldLines::new(),
            control: Control::new(),
        }
    }

    /// Looks for a request head at the front of `input`, which is everything since the last message ended.
    ///
    /// `Ok(None)`: not complete; call again with the same bytes and more.
    /// `Ok(Some((used, head)))`: the body begins at `input[used..]`, and the reader is ready for the next head.
    /// Errors: 400, 414 (`max_url_bytes`), 417, 431 (`max_head_bytes`, `max_headers`), 501, 505; the connection is to be closed.
    pub fn read_request(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(usize, RequestHead)>, HttpRefusal> {
        let window = window(input, limits);
        if self.request_is_complete(window, limits)? {
            let used = self.fields.position();
            let head = RequestHead::new(&window[..used], &self.request_line, self.fields.take_spans(), self.control)?;
            *self = Self::new();
            return Ok(Some((used, head)));
        }
        check_head_size(input, window)
    }

    fn request_is_complete(&mut self, window: &[u8], limits: &HeadLimits) -> Result<bool, HttpRefusal> {
        if !self.in_fields {
            let Some(end) = self.request_line.read(window, limits.max_url_bytes)? else {
                return Ok(false);
            };
            self.begin_fields(end);
        }
        loop {
            match self.fields.next(window, limits.max_headers, TOO_MANY_FIELDS)? {
                Line::Incomplete => return Ok(false),
                Line::End => return Ok(true),
                Line::Field(field) => {
                    self.request_line.note(field, window)?;
                    self.control.note(field.name.of(window), field.value.of(window))?;
                }
            }
        }
    }

    /// Looks for a response head at the front of `input`; otherwise like [`HeadReader::read_request`]. A refusal's status
    /// is what a server would have said; a client only reports the reason.
    pub fn read_response(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<(usize, ResponseHead)>, HttpRefusal> {
        let window = window(input, limits);
        if self.response_is_complete(window, limits)? {
            let used = self.fields.position();
            let head = ResponseHead::new(&window[..used], &self.status_line, self.fields.take_spans(), self.control)?;
            *self = Self::new();
            return Ok(Some((used, head)));
        }
        check_head_size(input, window)
    }

    fn response_is_complete(&mut self, window: &[u8], limits: &HeadLimits) -> Result<bool, HttpRefusal> {
        if !self.in_fields {
            let Some(end) = self.status_line.read(window)? else {
                return Ok(false);
            };
            self.begin_fields(end);
        }
        loop {
            match self.fields.next(window, limits.max_headers, TOO_MANY_FIELDS)? {
                Line::Incomplete => return Ok(false),
                Line::End => return Ok(true),
                Line::Field(field) => self.control.note(field.name.of(window), field.value.of(window))?,
            }
        }
    }

    fn begin_fields(&mut self, position: usize) {
        self.fields.begin_at(position);
        self.in_fields = true;
    }
}

const TOO_MANY_FIELDS: HttpRefusal = HttpRefusal { status: 431, reason: "more header fields than max_headers" };

/// The part of `input` a head may occupy: what lies behind it is not even looked at.
fn window<'a>(input: &'a [u8], limits: &HeadLimits) -> &'a [u8] {
    let max = limits.max_head_bytes.min(u32::MAX as usize);
    &input[..input.len().min(max)]
}

fn check_head_size<T>(input: &[u8], window: &[u8]) -> Result<Option<T>, HttpRefusal> {
    if input.len() > window.len() {
        return Err(HttpRefusal { status: 431, reason: "the head is larger than max_head_bytes" });
    }
    Ok(None)
}

/// Reads the eight bytes of `HTTP/d.d` as they come. `Ok(None)`: some are missing.
///
/// `Ok(Some(None))`: well-formed, but a version not spoken here.
pub(crate) fn read_version(bytes: &[u8]) -> Result<Option<Option<Version>>, HttpRefusal> {
    for (&byte, expected) in bytes.iter().zip(b"HTTP/d.d") {
        let fits = match expected {
            b'd' => byte.is_ascii_digit(),
            _ => byte == *expected,
        };
        if !fits {
            return bad_request("the start line has no HTTP/1.1 where it belongs");
        }
    }
    Ok(bytes.first_chunk::<8>().map(|version| match version {
        b"HTTP/1.0" => Some(Version::Http10),
        b"HTTP/1.1" => Some(Version::Http11),
        _ => None,
    }))
}

pub(crate) const VERSION_NOT_SUPPORTED: HttpRefusal =
    HttpRefusal { status: 505, reason: "the versions spoken here are HTTP/1.0 and HTTP/1.1" };
