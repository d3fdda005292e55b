//! Field lines as heads and trailers share them: their bytes (RFC 9110 §5.5–5.6) and their lines (RFC 9112 §5).
//! Not what any field means; that is for `http_framing` and the callers.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;

/// A stretch of the owned head. 32 bits suffice: `HeadReader` never looks at more than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) const EMPTY: Self = Self { start: 0, end: 0 };

    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// For spans whose bytes were checked to be ASCII when they were read.
    pub(crate) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).unwrap_or_default()
    }
}

/// One field line: the name as sent, the value without the white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    pub(crate) name: Span,
    pub(crate) value: Span,
}

/// What the next line turned out to be.
pub(crate) enum Line {
    Incomplete,
    Field(FieldSpan),
    /// The empty line; the section ends at `FieldLines::position`.
    End,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    LineStart,
    Name,
    Value,
    FieldLf,
    EndLf,
}

/// Reads a field section, every byte once, however the bytes are cut. The first byte that can't be right
/// decides, so a refusal never depends on how the bytes were cut either.
#[derive(Clone, Debug)]
pub(crate) struct FieldLines {
    position: usize,
    part: Part,
    name_start: usize,
    value_start: usize,
    spans: Vec<FieldSpan>,
}

impl FieldLines {
    pub(crate) const fn new() -> Self {
        Self { position: 0, part: Part::LineStart, name_start: 0, value_start: 0, spans: Vec::new() }
    }

    pub(crate) fn begin_at(&mut self, position: usize) {
        self.position = position;
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn spans(&self) -> &[FieldSpan] {
        &self.spans
    }

    pub(crate) fn take_spans(&mut self) -> Vec<FieldSpan> {
        std::mem::take(&mut self.spans)
    }

    /// Reads on to the end of the current line.
    pub(crate) fn next(&mut self, input: &[u8], max_fields: usize, too_many: HttpRefusal) -> Result<Line, HttpRefusal> {
        while let Some(&byte) = input.get(self.position) {
            match self.part {
                Part::LineStart if byte == b'\r' => self.advance(1, Part::EndLf),
                Part::LineStart if self.spans.len() >= max_fields => return Err(too_many),
                Part::LineStart => self.begin_name(byte)?,
                Part::Name => self.read_name(input)?,
                Part::Value => self.read_value(input)?,
                Part::FieldLf => {
                    expect_lf(byte)?;
                    return Ok(Line::Field(self.finish_field(input)));
                }
                Part::EndLf => {
                    expect_lf(byte)?;
                    self.advance(1, Part::LineStart);
                    return Ok(Line::End);
                }
            }
        }
        Ok(Line::Incomplete)
    }

    fn advance(&mut self, bytes: usize, next: Part) {
        self.position += bytes;
        self.part = next;
    }

    fn begin_name(&mut self, first: u8) -> Result<(), HttpRefusal> {
        match first {
            // RFC 9112 §5.2: one reader joins the folded line to the one above, another sees a new field.
            b' ' | b'\t' => bad_request("a header line begins with white space (obs-fold)"),
            b':' => bad_request("a header field has an empty name"),
            _ => {
                self.name_start = self.position;
                self.part = Part::Name;
                Ok(())
            }
        }
    }

    fn read_name(&mut self, input: &[u8]) -> Result<(), HttpRefusal> {
        self.position += token_len(&input[self.position..]);
        match input.get(self.position) {
            None => Ok(()),
            Some(b':') => {
                self.advance(1, Part::Value);
                self.value_start = self.position;
                Ok(())
            }
            // RFC 9112 §5.1: "Transfer-Encoding : chunked" means chunked to some and nothing to others.
            Some(b' ' | b'\t') => bad_request("white space in or after a header field name"),
            Some(b'\r' | b'\n') => bad_request("a header line has no colon"),
            Some(_) => bad_request("a header field name has a byte that is not allowed in a token"),
        }
    }

    fn read_value(&mut self, input: &[u8]) -> Result<(), HttpRefusal> {
        self.position += value_len(&input[self.position..]);
        match input.get(self.position) {
            None => Ok(()),
            Some(b'\r') => {
                self.advance(1, Part::FieldLf);
                Ok(())
            }
            Some(b'\n') => bad_request(BARE_LF),
            Some(_) => bad_request("a header field value has a control byte"),
        }
    }

    fn finish_field(&mut self, input: &[u8]) -> FieldSpan {
        let name = Span::new(self.name_start, self.value_start - 1);
        let value_end = self.position - 1;
        // Only SP and HTAB can be trimmed here: every other white space was refused as a control byte.
        let value = &input[self.value_start..value_end];
        let leading = value.len() - value.trim_ascii_start().len();
        let value_start = self.value_start + leading;
        let value_len = value.trim_ascii().len();
        let field = FieldSpan { name, value: Span::new(value_start, value_start + value_len) };
        if self.spans.is_empty() {
            // Browsers send 10 to 16 fields: one allocation for them all.
            self.spans.reserve(16);
        }
        self.spans.push(field);
        self.advance(1, Part::LineStart);
        field
    }
}

const BARE_LF: &str = "a line ends in a bare LF, expected CR LF";
const BARE_CR: &str = "a CR is not followed by LF";

/// RFC 9112 §2.2 lets a reader take a bare LF for a line end. We don't: a proxy in front may not have.
pub(crate) fn expect_lf(byte: u8) -> Result<(), HttpRefusal> {
    if byte == b'\n' { Ok(()) } else { bad_request(BARE_CR) }
}

pub(crate) fn bad_request<T>(reason: &'static str) -> Result<T, HttpRefusal> {
    Err(HttpRefusal { status: 400, reason })
}

/// "Name:value\r\n" per field.
pub(crate) fn write_block(bytes: &[u8], fields: &[FieldSpan]) -> Vec<u8> {
    let mut block = Vec::with_capacity(bytes.len() + fields.len());
    for field in fields {
        block.extend_from_slice(field.name.of(bytes));
        block.push(b':');
        block.extend_from_slice(field.value.of(bytes));
        block.extend_from_slice(b"\r\n");
    }
    block
}

/// The members of a comma-separated list (RFC 9110 §5.6.1), empty ones left out.
pub(crate) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && token_len(bytes) == bytes.len()
}

/// How many bytes at the front belong to a token.
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !TOKEN[byte as usize]).unwrap_or(bytes.len())
}

/// How many bytes at the front may stand in a field value: HTAB, SP, visible ASCII and obs-text (RFC 9110 §5.5).
pub(crate) fn value_len(bytes: &[u8]) -> usize {
    let mut count = 0;
    loop {
        count += leading(&bytes[count..], |word| below(word, b' ') | equal(word, 0x7f));
        if bytes.get(count) != Some(&b'\t') {
            return count;
        }
        count += 1;
    }
}

/// How many bytes at the front are visible ASCII other than `#`: all a request target may hold.
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    leading(bytes, |word| below(word, b'!') | equal(word, 0x7f) | equal(word, b'#') | (word & HIGH_BITS))
}

// Eight bytes at a time in one u64, first byte lowest. A test answers with the high bit of every byte it finds; borrows
// travel upwards only, so the lowest of these bits is right, and it is the only one looked at.
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

fn below(word: u64, byte: u8) -> u64 {
    word.wrapping_sub(LOW_BITS * u64::from(byte)) & !word & HIGH_BITS
}

fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (LOW_BITS * u64::from(byte)), 1)
}

/// Counts the bytes before the first one that `stops` finds.
#[inline(always)]
fn leading(bytes: &[u8], stops: impl Fn(u64) -> u64) -> usize {
    let mut count = 0;
    while let Some(word) = bytes[count..].first_chunk::<8>() {
        let found = stops(u64::from_le_bytes(*word));
        if found != 0 {
            return count + found.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let tail = &bytes[count..];
    let mut word = [b'a'; 8];
    word[..tail.len()].copy_from_slice(tail);
    let found = stops(u64::from_le_bytes(word));
    count + tail.len().min(found.trailing_zeros() as usize / 8)
}
