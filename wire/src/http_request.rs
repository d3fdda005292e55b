//! A request's first line and its finished head (RFC 9112 §3): method, target, version, Host, Expect.
//! Reached as `http_head::RequestHead`.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_body::BodyFraming;
use crate::http_fields::{FieldSpan, Span, bad_request, expect_lf, target_len, token_len, write_block};
use crate::http_framing::Control;
use crate::http_head::{VERSION_NOT_SUPPORTED, Version, read_version};
use crate::http_target::{Target, is_authority, same_authority, split_target};
use std::fmt;

/// No registered method is longer than 17 bytes (UPDATEREDIRECTREF, IANA).
const MAX_METHOD_BYTES: usize = 32;

#[derive(Clone, Copy, Debug)]
enum Part {
    Start,
    EmptyLineLf,
    MethodStart,
    Method,
    Target,
    Version,
    EndLf,
}

/// The request line as it comes in, and the two fields only requests have.
#[derive(Clone, Debug)]
pub(crate) struct RequestLine {
    position: usize,
    part: Part,
    /// Where the part being read began.
    mark: usize,
    method: Span,
    target: Span,
    version: Version,
    host: Option<Span>,
    expects_continue: bool,
}

impl RequestLine {
    pub(crate) const fn new() -> Self {
        Self {
            position: 0,
            part: Part::Start,
            mark: 0,
            method: Span::EMPTY,
            target: Span::EMPTY,
            version: Version::Http11,
            host: None,
            expects_continue: false,
        }
    }

    /// `Ok(Some(end))`: complete, the fields begin at `end`.
    pub(crate) fn read(&mut self, input: &[u8], max_url_bytes: usize) -> Result<Option<usize>, HttpRefusal> {
        while let Some(&byte) = input.get(self.position) {
            match self.part {
                // RFC 9112 §2.2: old clients send an empty line after a body. One is forgiven, more are noise.
                Part::Start if byte == b'\r' => self.advance(1, Part::EmptyLineLf),
                Part::Start => self.part = Part::MethodStart,
                Part::EmptyLineLf => {
                    expect_lf(byte)?;
                    self.advance(1, Part::MethodStart);
                }
                Part::MethodStart => {
                    self.mark = self.position;
                    check_first_byte(byte)?;
                    self.part = Part::Method;
                }
                Part::Method => self.read_method(input)?,
                Part::Target => self.read_target(input, max_url_bytes)?,
                Part::Version => {
                    if !self.read_version(input)? {
                        return Ok(None);
                    }
                }
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

    fn read_method(&mut self, input: &[u8]) -> Result<(), HttpRefusal> {
        let end = input.len().min(self.mark + MAX_METHOD_BYTES + 1);
        self.position += token_len(&input[self.position..end]);
        if self.position - self.mark > MAX_METHOD_BYTES {
            // RFC 9112 §3: 501 for a method longer than any we implement.
            return not_implemented("the method is longer than 32 bytes");
        }
        match input.get(self.position) {
            None => Ok(()),
            Some(b' ') => {
                self.method = Span::new(self.mark, self.position);
                if self.method.of(input) == b"CONNECT" {
                    return not_implemented("CONNECT is for proxies, this is a server");
                }
                self.advance(1, Part::Target);
                Ok(())
            }
            Some(_) => bad_request("the method has a byte that is not allowed in a token"),
        }
    }

    fn read_target(&mut self, input: &[u8], max_url_bytes: usize) -> Result<(), HttpRefusal> {
        let max_end = self.mark.saturating_add(max_url_bytes).saturating_add(1);
        let end = input.len().min(max_end);
        self.position += target_len(&input[self.position..end]);
        if self.position - self.mark > max_url_bytes {
            return Err(HttpRefusal { status: 414, reason: "the request target is longer than max_url_bytes" });
        }
        match input.get(self.position) {
            None => Ok(()),
            Some(b' ') if self.position > self.mark => {
                self.target = Span::new(self.mark, self.position);
                self.advance(1, Part::Version);
                Ok(())
            }
            Some(b' ') => bad_request("the request line has an empty target or two spaces"),
            Some(b'#') => bad_request("the request target has a fragment (#)"),
            Some(b'\r' | b'\n') => bad_request("the request line has no HTTP version"),
            Some(_) => bad_request("the request target has a byte that is not visible ASCII"),
        }
    }

    fn read_version(&mut self, input: &[u8]) -> Result<bool, HttpRefusal> {
        let Some(version) = read_version(&input[self.mark..])? else {
            return Ok(false);
        };
        match input.get(self.mark + 8) {
            None => Ok(false),
            Some(b'\r') => {
                self.version = version.ok_or(VERSION_NOT_SUPPORTED)?;
                self.advance(9, Part::EndLf);
                Ok(true)
            }
            Some(_) => bad_request("something follows the HTTP version on the request line"),
        }
    }

    /// Takes note of the fields only requests have.
    pub(crate) fn note(&mut self, field: FieldSpan, input: &[u8]) -> Result<(), HttpRefusal> {
        let name = field.name.of(input);
        if name.eq_ignore_ascii_case(b"host") {
            return self.note_host(field.value, input);
        }
        if name.eq_ignore_ascii_case(b"expect") {
            // RFC 9110 §10.1.1: the only expectation there is.
            if !field.value.of(input).eq_ignore_ascii_case(b"100-continue") {
                return Err(HttpRefusal { status: 417, reason: "the only expectation understood is 100-continue" });
            }
            self.expects_continue = true;
        }
        Ok(())
    }

    fn note_host(&mut self, value: Span, input: &[u8]) -> Result<(), HttpRefusal> {
        // RFC 9112 §3.2. With two of them the proxy routes by one and the application trusts the other.
        if self.host.is_some() {
            return bad_request("Host is given more than once");
        }
        if !is_authority(value.of(input)) {
            return bad_request("Host is not a host with an optional port");
        }
        self.host = Some(value);
        Ok(())
    }
}

fn check_first_byte(byte: u8) -> Result<(), HttpRefusal> {
    match byte {
        0x16 => bad_request("this looks like TLS, and the port speaks plain HTTP"),
        b'\r' | b'\n' => bad_request("an empty line where a request line belongs"),
        _ if token_len(&[byte]) == 1 => Ok(()),
        _ => bad_request("the first byte can't begin a method"),
    }
}

fn not_implemented<T>(reason: &'static str) -> Result<T, HttpRefusal> {
    Err(HttpRefusal { status: 501, reason })
}

/// A request's head, checked, in one buffer of its own.
#[derive(Clone)]
pub struct RequestHead {
    bytes: Box<[u8]>,
    method: Span,
    target: Span,
    parts: Target,
    version: Version,
    host: Span,
    expects_continue: bool,
    control: Control,
    fields: Vec<FieldSpan>,
}

impl RequestHead {
    pub(crate) fn new(
        bytes: &[u8],
        line: &RequestLine,
        fields: Vec<FieldSpan>,
        control: Control,
    ) -> Result<Self, HttpRefusal> {
        control.check(line.version)?;
        let parts = split_target(bytes, line.target, line.method.of(bytes))?;
        Ok(Self {
            method: line.method,
            target: line.target,
            version: line.version,
            host: choose_host(bytes, line, &parts)?,
            expects_continue: line.expects_continue,
            bytes: bytes.into(),
            parts,
            control,
            fields,
        })
    }

    /// As sent; methods are case-sensitive (RFC 9110 §9.1).
    pub fn method(&self) -> &str {
        self.method.text(&self.bytes)
    }

    /// As sent: visible ASCII, not decoded.
    pub fn target(&self) -> &str {
        self.target.text(&self.bytes)
    }

    /// The target up to `?`, not decoded; of an absolute form the path inside it; `*` for `OPTIONS *`.
    pub fn path(&self) -> &str {
        if self.parts.path.is_empty() {
            return "/";
        }
        self.parts.path.text(&self.bytes)
    }

    /// What follows the first `?`, or "".
    pub fn query(&self) -> &str {
        self.parts.query.text(&self.bytes)
    }

    /// The version the client speaks.
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

    /// The request line as it came, without its end.
    pub fn line(&self) -> Vec<u8> {
        let version = if self.version == Version::Http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        [self.method(), self.target(), version].join(" ").into_bytes()
    }

    /// How many bytes it came in.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All fields as `Name:value\r\n`.
    pub fn field_block(&self) -> Vec<u8> {
        write_block(&self.bytes, &self.fields)
    }

    /// The authority asked for: Host, or the absolute form's, which agrees with it. "" only in HTTP/1.0.
    pub fn host(&self) -> &str {
        self.host.text(&self.bytes)
    }

    /// How the end of the body is found (RFC 9112 §6.3).
    pub fn framing(&self) -> BodyFraming {
        match self.control.content_length() {
            _ if self.control.is_chunked() => BodyFraming::Chunked,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Empty,
        }
    }

    /// Whether anything follows the head that belongs to it. Browsers announce zero bytes with a POST of nothing.
    pub fn has_body(&self) -> bool {
        !matches!(self.framing(), BodyFraming::Empty | BodyFraming::Length(0))
    }

    /// Whether the client would send another request on this connection (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        self.control.keep_alive(self.version)
    }

    /// Whether the client waits for 100 before it sends the body. HTTP/1.0 clients don't (RFC 9110 §10.1.1),
    /// nor does one that has no body to send.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue && self.version == Version::Http11 && self.has_body()
    }

    /// Whether this asks for a WebSocket (RFC 6455 §4.1, items 1, 2, 5 and 6); the handshake itself is not judged.
    pub fn wants_websocket(&self) -> bool {
        self.version == Version::Http11 && self.control.offers_websocket() && self.method.of(&self.bytes) == b"GET"
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method())
            .field("target", &self.target())
            .field("version", &self.version)
            .field("fields", &String::from_utf8_lossy(&self.field_block()))
            .finish()
    }
}

/// RFC 9112 §3.2: HTTP/1.1 needs Host. §3.2.2: an absolute form's authority wins; we also want the two to agree, since
/// whoever reads only the field would see another host.
fn choose_host(bytes: &[u8], line: &RequestLine, parts: &Target) -> Result<Span, HttpRefusal> {
    let Some(host) = line.host else {
        if line.version == Version::Http11 {
            return bad_request("an HTTP/1.1 request needs Host");
        }
        return Ok(parts.authority);
    };
    if parts.authority.is_empty() {
        return Ok(host);
    }
    let authority = parts.authority.of(bytes);
    if !same_authority(authority, host.of(bytes), parts.default_port) {
        return bad_request("Host differs from the authority in the target");
    }
    Ok(parts.authority)
}

pub(crate) fn find<'a>(bytes: &'a [u8], fields: &[FieldSpan], name: &str) -> Option<&'a [u8]> {
    let matches = |field: &&FieldSpan| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
    fields.iter().find(matches).map(|field| field.value.of(bytes))
}
