//! Bodies: by length, in chunks, or up to the close (RFC 9112 §6–7), both ways. Not content codings, not where the bytes go.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_encode::{FieldError, check_field, write_field};
use crate::http_fields::{FieldLines, Line, bad_request, expect_lf, value_len, write_block};
use std::io::Write;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body.
    Empty,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The rest of the connection; responses only.
    UntilClose,
}

/// All extensions of one message together. Nobody uses them; they exist in attacks.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;
const MAX_SIZE_DIGITS: u8 = 16;
const MAX_TRAILER_BYTES: usize = 8 * 1024;
const MAX_TRAILERS: usize = 32;

/// What framing may cost beside the body: 16 KiB, and eight bytes for each byte of body. Chunks of one byte cost five and
/// pass, as reading them is linear and they are joined at once; padding around them (zeros, extensions) doesn't.
const FREE_FRAMING_BYTES: u64 = 16 * 1024;
const FRAMING_PER_BODY_BYTE: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Length,
    UntilClose,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Takes the framing off a body. Consumes all it is given up to the body's end and keeps nothing of it but half lines of
/// trailers, so the caller never has to hold leftovers.
#[derive(Clone, Debug)]
pub struct BodyReader {
    part: Part,
    max_body_bytes: u64,
    /// Of the body, or of the current chunk.
    remaining: u64,
    received: u64,
    size_digits: u8,
    framing_bytes: u64,
    extension_bytes: usize,
    trailer_lines: FieldLines,
    /// As received until the body is done, then as `Name:value\r\n` lines.
    trailers: Vec<u8>,
}

impl BodyReader {
    /// A reader at the first byte after the head. 413 at once if the length says the body is over `max_body_bytes`.
    pub fn new(framing: BodyFraming, max_body_bytes: u64) -> Result<Self, HttpRefusal> {
        let (part, remaining) = match framing {
            BodyFraming::Empty | BodyFraming::Length(0) => (Part::Done, 0),
            BodyFraming::Length(length) if length > max_body_bytes => return Err(TOO_LARGE),
            BodyFraming::Length(length) => (Part::Length, length),
            BodyFraming::Chunked => (Part::Size, 0),
            BodyFraming::UntilClose => (Part::UntilClose, max_body_bytes),
        };
        Ok(Self {
            part,
            max_body_bytes,
            remaining,
            received: 0,
            size_digits: 0,
            framing_bytes: 0,
            extension_bytes: 0,
            trailer_lines: FieldLines::new(),
            trailers: Vec::new(),
        })
    }

    /// Appends the body bytes in `input` to `out` and returns how many bytes of `input` it used: all of them, unless
    /// the body ended before. Errors: 400, 413 (`max_body_bytes`), 431 (trailers); the connection is to be closed.
    pub fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, HttpRefusal> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            let rest = &input[used..];
            used += match self.part {
                Part::Done => break,
                Part::Length => self.copy(rest, out, Part::Done),
                Part::Data => self.copy(rest, out, Part::DataCr),
                Part::UntilClose => self.copy_rest(rest, out)?,
                Part::Extension => self.read_extension(rest)?,
                Part::Trailers => self.read_trailers(rest)?,
                Part::Size | Part::SizeLf | Part::DataCr | Part::DataLf => self.read_framing(byte)?,
            };
        }
        Ok(used)
    }

    /// Whether the body has ended, trailers included. A body that ends with the connection never says so by itself.
    pub fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Tells that the peer has closed. A body cut short is refused: taking it for complete would let whoever cut the
    /// connection choose what was said.
    pub fn close(&mut self) -> Result<(), HttpRefusal> {
        match self.part {
            Part::Done => Ok(()),
            Part::UntilClose => {
                self.part = Part::Done;
                Ok(())
            }
            _ => bad_request("the connection closed before the end of the body"),
        }
    }

    /// The trailer fields as `Name:value\r\n` lines, once the body is done; never to be mixed with the head's.
    pub fn trailers(&self) -> &[u8] {
        match self.part {
            Part::Done => &self.trailers,
            _ => &[],
        }
    }

    fn copy(&mut self, rest: &[u8], out: &mut Vec<u8>, next: Part) -> usize {
        let count = at_most(self.remaining, rest.len());
        out.extend_from_slice(&rest[..count]);
        self.remaining -= count as u64;
        if self.remaining == 0 {
            self.part = next;
        }
        count
    }

    fn copy_rest(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, HttpRefusal> {
        let count = at_most(self.remaining, rest.len());
        out.extend_from_slice(&rest[..count]);
        self.remaining -= count as u64;
        if count < rest.len() {
            return Err(TOO_LARGE);
        }
        Ok(count)
    }

    /// One byte of a size line, or of the line end behind a chunk.
    fn read_framing(&mut self, byte: u8) -> Result<usize, HttpRefusal> {
        self.count_framing()?;
        match (self.part, byte) {
            (Part::Size, b'\r' | b';') => self.finish_size(byte)?,
            (Part::Size, _) => self.read_digit(byte)?,
            (Part::SizeLf, _) => {
                expect_lf(byte)?;
                self.begin_chunk();
            }
            (Part::DataCr, b'\r') => self.part = Part::DataLf,
            (Part::DataCr, _) => return bad_request("a chunk is longer than its size says"),
            (_, _) => {
                expect_lf(byte)?;
                self.part = Part::Size;
            }
        }
        Ok(1)
    }

    fn count_framing(&mut self) -> Result<(), HttpRefusal> {
        self.framing_bytes += 1;
        let allowed = self.received.saturating_mul(FRAMING_PER_BODY_BYTE);
        if self.framing_bytes > allowed.saturating_add(FREE_FRAMING_BYTES) {
            return bad_request("the chunks of the body are mostly framing");
        }
        Ok(())
    }

    /// RFC 9112 §7.1: hexadecimal digits only; sign, white space and 0x are where lenient readers differ.
    fn read_digit(&mut self, byte: u8) -> Result<(), HttpRefusal> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return bad_request("a chunk size is not a row of hexadecimal digits");
        };
        if self.size_digits == MAX_SIZE_DIGITS {
            return bad_request("a chunk size has more than 16 digits");
        }
        self.size_digits += 1;
        self.remaining = (self.remaining << 4) | u64::from(digit);
        Ok(())
    }

    fn finish_size(&mut self, byte: u8) -> Result<(), HttpRefusal> {
        if self.size_digits == 0 {
            return bad_request("a chunk has no size");
        }
        self.size_digits = 0;
        self.received = match self.received.checked_add(self.remaining) {
            Some(total) if total <= self.max_body_bytes => total,
            _ => return Err(TOO_LARGE),
        };
        self.part = match byte {
            b';' => Part::Extension,
            _ => Part::SizeLf,
        };
        Ok(())
    }

    fn begin_chunk(&mut self) {
        self.part = match self.remaining {
            0 => Part::Trailers,
            _ => Part::Data,
        };
    }

    /// RFC 9112 §7.1.1: extensions we don't know are ignored. Their bytes are still checked, because a bare LF in one ends
    /// the line for a lenient reader and not for a strict one.
    fn read_extension(&mut self, rest: &[u8]) -> Result<usize, HttpRefusal> {
        let allowed = MAX_EXTENSION_BYTES - self.extension_bytes;
        let window = &rest[..rest.len().min(allowed + 1)];
        let count = value_len(window);
        if count > allowed {
            return bad_request("the chunk extensions are longer than 4096 bytes");
        }
        self.extension_bytes += count;
        match window.get(count) {
            None => Ok(count),
            Some(b'\r') => {
                self.part = Part::SizeLf;
                Ok(count + 1)
            }
            Some(_) => bad_request("a chunk extension has a control byte"),
        }
    }

    /// Line by line, so that nothing behind the trailers is copied.
    fn read_trailers(&mut self, rest: &[u8]) -> Result<usize, HttpRefusal> {
        let line_len = memchr::memchr(b'\n', rest).map_or(rest.len(), |lf| lf + 1);
        let allowed = MAX_TRAILER_BYTES - self.trailers.len();
        let count = line_len.min(allowed);
        self.trailers.extend_from_slice(&rest[..count]);
        let line = self.trailer_lines.next(&self.trailers, MAX_TRAILERS, TOO_MANY_TRAILERS)?;
        match line {
            Line::Incomplete if count < line_len => return Err(TRAILERS_TOO_LARGE),
            Line::Incomplete => {}
            Line::Field(field) => check_trailer(field.name.of(&self.trailers))?,
            Line::End => self.finish_trailers(),
        }
        Ok(count)
    }

    fn finish_trailers(&mut self) {
        self.trailers = write_block(&self.trailers, self.trailer_lines.spans());
        self.part = Part::Done;
    }
}

const TOO_LARGE: HttpRefusal = HttpRefusal { status: 413, reason: "the body is larger than max_body_bytes" };

const TOO_MANY_TRAILERS: HttpRefusal = HttpRefusal { status: 431, reason: "more than 32 trailer fields" };

const TRAILERS_TOO_LARGE: HttpRefusal =
    HttpRefusal { status: 431, reason: "the trailer fields are larger than 8192 bytes" };

fn at_most(limit: u64, len: usize) -> usize {
    usize::try_from(limit).map_or(len, |limit| limit.min(len))
}

/// RFC 9110 §6.5.1: what frames or routes a message can't come after it.
fn may_trail(name: &[u8]) -> bool {
    let governing: [&[u8]; 3] = [b"content-length", b"transfer-encoding", b"host"];
    !governing.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

fn check_trailer(name: &[u8]) -> Result<(), HttpRefusal> {
    if may_trail(name) {
        return Ok(());
    }
    bad_request("Content-Length, Transfer-Encoding or Host among the trailers")
}

/// Appends one chunk. Empty data appends nothing: a chunk of size 0 would end the body.
pub fn encode_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    // Writing to a Vec can't fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body. On error nothing is appended.
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: &[(&str, &str)]) -> Result<(), FieldError> {
    for &(name, value) in trailers {
        check_field(name, value)?;
        if !may_trail(name.as_bytes()) {
            return Err(FieldError::Trailer(name.to_owned()));
        }
    }
    out.extend_from_slice(b"0\r\n");
    for &(name, value) in trailers {
        write_field(out, name, value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}
