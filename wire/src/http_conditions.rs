//! Conditional requests (RFC 9110 §13): whether a client's copy is still good, and whether a change is still wanted.
//! Not where the validators come from.
//!
//! Thread: any (pure).

use std::time::UNIX_EPOCH;

/// What tells the present version of a file from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators<'a> {
    /// As sent: quoted, `W/` before it if weak. Empty: there is none, and no tag equals it.
    pub etag: &'a str,
    /// Seconds since 1970, as sent in `Last-Modified`.
    pub last_modified: u64,
}

/// The conditions of a request, as they came. The two lists hold one value per field line; empty: there is no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// All `If-Match`.
    pub if_match: &'a [&'a [u8]],
    /// All `If-None-Match`.
    pub if_none_match: &'a [&'a [u8]],
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Range`; asked about by [`range_applies`], once [`judge`] said [`Verdict::Go`].
    pub if_range: Option<&'a [u8]>,
}

/// What the conditions make of a request for something that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As if there were none.
    Go,
    /// 304: the client has it already.
    NotModified,
    /// 412: it is not what the client believes it is.
    PreconditionFailed,
}

/// Judges in the order of §13.2.2. Dates count only where the tag beside them is missing, and only if they can be read
/// (§13.1.3, §13.1.4).
pub fn judge(conditions: &Conditions, validators: &Validators, is_get_or_head: bool) -> Verdict {
    if !is_what_was_expected(conditions, validators) {
        return Verdict::PreconditionFailed;
    }
    if conditions.if_none_match.is_empty() {
        return match conditions.if_modified_since.and_then(read_date) {
            Some(date) if is_get_or_head && validators.last_modified <= date => Verdict::NotModified,
            _ => Verdict::Go,
        };
    }
    let ours = Tag::new(validators.etag);
    match any_tag(conditions.if_none_match, |tag| tag.equals_weakly(ours)) {
        Some(false) => Verdict::Go,
        Some(true) if is_get_or_head => Verdict::NotModified,
        // What can't be read is ignored: at worst a client gets what it has. A change, though, might overwrite something.
        None if is_get_or_head => Verdict::Go,
        Some(true) | None => Verdict::PreconditionFailed,
    }
}

fn is_what_was_expected(conditions: &Conditions, validators: &Validators) -> bool {
    if conditions.if_match.is_empty() {
        let date = conditions.if_unmodified_since.and_then(read_date);
        return date.is_none_or(|date| validators.last_modified <= date);
    }
    // What can't be read does not hold: the client wanted nothing unless it is of that version, whichever it meant.
    let ours = Tag::new(validators.etag);
    any_tag(conditions.if_match, |tag| tag.equals_strongly(ours)).unwrap_or(false)
}

/// Whether `Range` counts (§13.1.5). If not, the answer is the whole file: that is never wrong, but parts of two versions
/// are. So the tag must be equal and strong, or the date equal; earlier or later, or unreadable, won't do.
///
/// Without `If-Range` it counts. A file can change twice in one second, which its date does not tell (§8.8.2.2);
/// whether the date is old enough to rely on is for the caller, who has a clock.
pub fn range_applies(if_range: Option<&[u8]>, validators: &Validators) -> bool {
    let Some(value) = if_range else {
        return true;
    };
    match read_tag(value) {
        Some((tag, rest)) => rest.is_empty() && tag.equals_strongly(Tag::new(validators.etag)),
        None => read_date(value) == Some(validators.last_modified),
    }
}

/// Whether `If-None-Match` has the weak form of `etag`, and not `etag` itself: what a client says that got it weakened,
/// because its answer was compressed.
pub fn names_weakly_only(if_none_match: &[&[u8]], etag: &str) -> bool {
    let ours = Tag::new(etag);
    let has =
        |is_weak| any_tag(if_none_match, |tag| tag.is_weak == is_weak && tag.equals_weakly(ours)).unwrap_or(false);
    !ours.is_weak && has(true) && !has(false)
}

/// An entity tag (§8.8.3).
#[derive(Clone, Copy)]
struct Tag<'a> {
    is_weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> Tag<'a> {
    fn new(ours: &'a str) -> Self {
        match ours.strip_prefix("W/") {
            Some(opaque) => Self { is_weak: true, opaque: opaque.as_bytes() },
            None => Self { is_weak: false, opaque: ours.as_bytes() },
        }
    }

    /// §8.8.3.2: the same bytes.
    fn equals_strongly(self, other: Tag) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// §8.8.3.2: as good as the same.
    fn equals_weakly(self, other: Tag) -> bool {
        self.opaque == other.opaque
    }
}

/// Whether `fits` holds for a tag of the list, or the list is `*`. `None` if it is not the grammar, wherever: what is only
/// half understood is not acted on. Several fields are one list; empty elements are skipped (§5.6.1.2).
fn any_tag(values: &[&[u8]], fits: impl Fn(Tag) -> bool) -> Option<bool> {
    if let [b"*"] = values {
        return Some(true);
    }
    let mut found = false;
    for value in values {
        let mut rest = value.trim_ascii_start();
        while let Some((&first, after)) = rest.split_first() {
            if first == b',' {
                rest = after.trim_ascii_start();
                continue;
            }
            let (tag, after) = read_tag(rest)?;
            found |= fits(tag);
            rest = after.trim_ascii_start();
            if !matches!(rest, [] | [b',', ..]) {
                return None;
            }
        }
    }
    Some(found)
}

/// The tag at the front, and what follows it. It may hold commas and obs-text, but no escapes; `w/` is no weak tag (§8.8.3).
fn read_tag(bytes: &[u8]) -> Option<(Tag<'_>, &[u8])> {
    let (is_weak, quoted) = match bytes.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, bytes),
    };
    let content = quoted.strip_prefix(b"\"")?;
    let len = memchr::memchr(b'"', content)?;
    if content[..len].iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return None;
    }
    let (opaque, rest) = quoted.split_at(len + 2);
    Some((Tag { is_weak, opaque }, rest))
}

/// Seconds since 1970, from any of the three forms of §5.6.7.
fn read_date(value: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}
