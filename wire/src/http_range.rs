//! Which bytes of a file a client asks for (`Range`, RFC 9110 §14), and how the answer names them: `Content-Range`, and the
//! parts of multipart/byteranges. Not whether the range still applies; that is `http_conditions::range_applies`.
//!
//! Thread: any (pure).

use crate::http_fields::{list_members, value_len};
use crate::http_head::FieldError;

/// More than this is an attack or a mistake: each range costs a part (the "Apache killer", CVE-2011-3192, asked for 1300).
pub const MAX_RANGES: usize = 16;

/// What a part costs beside its bytes (§15.3.7.2): a smaller gap is cheaper to send than to leave out.
const PART_OVERHEAD: u64 = 80;

/// What a `Range` field means for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Another unit, bad grammar, or more than [`MAX_RANGES`]: answer 200 with the whole file, as if it were not there (§14.2).
    Ignored,
    /// Nothing of it is in the file: 416, with [`unsatisfied_range`].
    Unsatisfiable,
    /// Start and exclusive end of each: at least one, never empty, at least 80 bytes apart. One alone is an ordinary 206, even
    /// if the client asked for several; more are a [`Multipart`].
    Some(Vec<(u64, u64)>),
}

/// Reads the value of `Range` for a file of `length` bytes. Ranges that overlap or nearly touch become one, which stands
/// where the first of them was asked for; otherwise the client's order is kept (§15.3.7.2).
///
/// The field is not a list: two of them are best treated as none.
pub fn parse_ranges(value: &[u8], length: u64) -> Ranges {
    match read_set(value, length) {
        None => Ranges::Ignored,
        Some(ranges) if ranges.is_empty() => Ranges::Unsatisfiable,
        Some(ranges) => Ranges::Some(ranges),
    }
}

fn read_set(value: &[u8], length: u64) -> Option<Vec<(u64, u64)>> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut ranges = Vec::new();
    let mut asked = 0;
    for spec in list_members(set) {
        let (start, end) = read_spec(spec, length)?;
        asked += 1;
        if asked > MAX_RANGES {
            return None;
        }
        if start < end {
            add(&mut ranges, (start, end));
        }
    }
    (asked > 0).then_some(ranges)
}

/// `None` for bad grammar. A range outside the file comes out empty.
fn read_spec(spec: &[u8], length: u64) -> Option<(u64, u64)> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        return Some((length.saturating_sub(read_number(last)?), length));
    }
    let first = read_number(first)?;
    let last = if last.is_empty() { u64::MAX } else { read_number(last)? };
    (first <= last).then(|| (first.min(length), last.saturating_add(1).min(length)))
}

/// Saturates: what is beyond u64 is beyond every file.
fn read_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append = |number: u64, digit: &u8| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, append))
}

/// What has grown may now touch another one, hence the loop; with at most [`MAX_RANGES`] it is short.
fn add(ranges: &mut Vec<(u64, u64)>, mut new: (u64, u64)) {
    let mut place = ranges.len();
    while let Some(index) = ranges.iter().position(|&old| are_near(old, new)) {
        let old = ranges.remove(index);
        new = (old.0.min(new.0), old.1.max(new.1));
        place = place.min(index);
    }
    ranges.insert(place, new);
}

fn are_near(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 < b.1.saturating_add(PART_OVERHEAD) && b.0 < a.1.saturating_add(PART_OVERHEAD)
}

/// The value of `Content-Range` beside the bytes from `start` to `end_exclusive` (not empty) of `length`.
pub fn content_range(start: u64, end_exclusive: u64, length: u64) -> String {
    format!("bytes {start}-{}/{length}", end_exclusive.saturating_sub(1))
}

/// The value of `Content-Range` in a 416 (§15.5.17).
pub fn unsatisfied_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// A body of several ranges (§14.6): for each of them [`part_head`](Self::part_head) and its bytes, then
/// [`closing`](Self::closing). The response's own head has no `Content-Range`.
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: String,
    content_type: String,
    length: u64,
}

impl Multipart {
    /// `content_type` and `length` are those of the whole file; an empty `content_type` is left out.
    ///
    /// `random` becomes the boundary. It must be hard to guess: who can foresee it can write a file that forges parts.
    ///
    /// Errors: [`FieldError::Value`] for a control character in `content_type`.
    pub fn new(content_type: &str, length: u64, random: u128) -> Result<Self, FieldError> {
        if value_len(content_type.as_bytes()) != content_type.len() {
            return Err(FieldError::Value { name: "Content-Type".to_owned(), value: content_type.to_owned() });
        }
        Ok(Self { boundary: format!("{random:032x}"), content_type: content_type.to_owned(), length })
    }

    /// The value of `Content-Type` in the response's head.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// What stands before the bytes of a range. The line end in front closes the part before; §14.6 allows it at the first too.
    pub fn part_head(&self, start: u64, end_exclusive: u64) -> String {
        let mut head = format!("\r\n--{}\r\n", self.boundary);
        if !self.content_type.is_empty() {
            head += &format!("Content-Type: {}\r\n", self.content_type);
        }
        head += &format!("Content-Range: {}\r\n\r\n", content_range(start, end_exclusive, self.length));
        head
    }

    /// What stands after the last range.
    pub fn closing(&self) -> String {
        format!("\r\n--{}--\r\n", self.boundary)
    }

    /// How long the whole body will be: the response's `Content-Length`.
    pub fn total_length(&self, ranges: &[(u64, u64)]) -> u64 {
        let part = |&(start, end): &(u64, u64)| (end.saturating_sub(start), self.part_head(start, end).len() as u64);
        ranges.iter().map(part).fold(self.closing().len() as u64, |total, (content, head)| {
            total.saturating_add(head).saturating_add(content)
        })
    }
}
