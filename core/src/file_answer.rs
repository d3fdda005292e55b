//! How a file is answered with: whether it is sent, and which part of it (RFC 9110 §13, §14); for static paths and for
//! files that a handler names.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Turn};
use crate::files::File;
use crate::http::values;
use crate::http_answer::{Answer, PLAIN_TEXT};
use crate::outbox::FileSlice;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use wire::error::error_body;
use wire::http_coding::Coding;
use wire::http_conditions::{Conditions, Validators, Verdict, judge, range_applies};
use wire::http_head::{Content, FieldError, RequestHead, ResponseLine};
use wire::http_range::{Multipart, Ranges, content_range, parse_ranges, unsatisfied_range};

/// What is said of one file in one answer.
pub struct FileAnswer<'a> {
    /// A compressed form has the type of what it is a form of.
    pub file: &'a File,
    pub form: &'a Arc<File>,
    pub coding: Option<Coding>,
    /// With 200; `None` is the usual one.
    pub reason: Option<&'a str>,
    /// Fields that whoever serves it has chosen. They replace ours of the same name.
    pub own: &'a [(&'a str, &'a str)],
}

/// What a request gets of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Portion {
    All,
    /// 304
    Nothing,
    /// 412: it is not what the client believes it is.
    Changed,
    /// 206: start and exclusive end of each.
    Parts(Vec<(u64, u64)>),
    /// 416
    Beyond,
}

impl Connection {
    /// Answer with the beginning of an open file. `modified`, in seconds since 1970 and nanoseconds: then with that part
    /// of it that is asked for, if its status is 200.
    pub fn answer_file_of(
        &mut self,
        answer: &Answer,
        descriptor: OwnedFd,
        length: u64,
        modified: Option<(i64, u32)>,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        let Some((head, may_go_on)) = self.unanswered() else { return Ok(false) };
        let keep_alive = may_go_on && !answer.close;
        let file = Arc::new(File::nameless(descriptor, length, modified.unwrap_or_default()));
        let is_asked = answer.status == 200 && matches!(head.method(), "GET" | "HEAD");
        let keep_alive = if modified.is_some() && is_asked {
            let own = answer.fields;
            let answer = FileAnswer { file: &file, form: &file, coding: None, reason: answer.reason, own };
            self.append_portion(&head, &answer, answer.portion(&head), keep_alive, turn)?
        } else {
            self.append_whole(&head, answer, &file, keep_alive, turn)?
        };
        self.end_answer(keep_alive, turn);
        Ok(true)
    }

    fn append_whole(
        &mut self,
        head: &RequestHead,
        answer: &Answer,
        file: &Arc<File>,
        keep_alive: bool,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        let has_content = !matches!(answer.status, 100..=199 | 204 | 304);
        let content = if has_content { Content::Length(file.meta.length) } else { Content::None };
        let line = ResponseLine { status: answer.status, reason: answer.reason, version: head.version() };
        let keep_alive = self.append_head(head, &line, answer.fields, content, keep_alive, turn)?;
        if has_content && head.method() != "HEAD" {
            self.append_part(file, 0, file.meta.length);
        }
        Ok(keep_alive)
    }

    /// False: the connection has to end behind it. On error nothing is appended.
    pub(crate) fn append_portion(
        &mut self,
        head: &RequestHead,
        answer: &FileAnswer,
        portion: Portion,
        keep_alive: bool,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        let (form, length) = (answer.form, answer.form.meta.length);
        let line = |status, reason| ResponseLine { status, reason, version: head.version() };
        match portion {
            Portion::All => {
                let (line, fields) = (line(200, answer.reason), answer.fields(&[]));
                let goes_on = self.append_head(head, &line, &fields, Content::Length(length), keep_alive, turn)?;
                if head.method() != "HEAD" {
                    self.append_part(form, 0, length);
                }
                Ok(goes_on)
            }
            Portion::Nothing => {
                self.append_head(head, &line(304, None), &answer.not_modified(), Content::None, keep_alive, turn)
            }
            Portion::Changed => self.append_refusal(head, 412, &[], keep_alive, turn),
            Portion::Beyond => {
                let range = unsatisfied_range(length);
                self.append_refusal(head, 416, &[("Content-Range", &range)], keep_alive, turn)
            }
            Portion::Parts(ranges) => match ranges[..] {
                [(start, end)] => {
                    let range = content_range(start, end, length);
                    let fields = answer.fields(&[("Content-Range", &range)]);
                    let content = Content::Length(end - start);
                    let goes_on = self.append_head(head, &line(206, None), &fields, content, keep_alive, turn)?;
                    self.append_part(form, start, end);
                    Ok(goes_on)
                }
                _ => self.append_parts(head, answer, &ranges, keep_alive, turn),
            },
        }
    }

    /// `multipart/byteranges` (§14.6).
    fn append_parts(
        &mut self,
        head: &RequestHead,
        answer: &FileAnswer,
        ranges: &[(u64, u64)],
        keep_alive: bool,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        let content_type = answer.own_field("content-type").unwrap_or(&answer.file.content_type);
        let parts = Multipart::new(content_type, answer.form.meta.length, boundary())?;
        let multipart = parts.content_type();
        let fields = answer.fields(&[("Content-Type", &multipart)]); // the file's own type is that of the parts
        let line = ResponseLine { status: 206, reason: None, version: head.version() };
        let content = Content::Length(parts.total_length(ranges));
        let goes_on = self.append_head(head, &line, &fields, content, keep_alive, turn)?;
        for &(start, end) in ranges {
            self.outbox.append(|out| out.extend_from_slice(parts.part_head(start, end).as_bytes()));
            self.append_part(answer.form, start, end);
        }
        self.outbox.append(|out| out.extend_from_slice(parts.closing().as_bytes()));
        Ok(goes_on)
    }

    fn append_refusal(
        &mut self,
        head: &RequestHead,
        status: u16,
        more_fields: &[(&str, &str)],
        keep_alive: bool,
        turn: &mut Turn,
    ) -> Result<bool, FieldError> {
        turn.counters.refuse(status);
        let fields: Vec<(&str, &str)> = [PLAIN_TEXT].iter().chain(more_fields).copied().collect();
        let body = error_body(status, "");
        let answer = Answer { status, reason: None, fields: &fields, body: body.as_bytes(), close: false };
        self.encode_answer(head, &answer, None, keep_alive, turn)
    }

    fn append_part(&mut self, file: &Arc<File>, start: u64, end: u64) {
        match file.memory() {
            Some(bytes) if start == 0 && end == bytes.len() as u64 => self.outbox.append_shared(bytes),
            Some(bytes) => {
                let part = bytes.get(start as usize..end as usize).unwrap_or_default();
                self.outbox.append(|out| out.extend_from_slice(part));
            }
            None => {
                let length = (end - start) as usize;
                self.outbox.append_file(FileSlice { file: Arc::clone(file), start, length });
            }
        }
    }
}

impl FileAnswer<'_> {
    /// What a GET or HEAD gets of it.
    pub fn portion(&self, head: &RequestHead) -> Portion {
        // Who says another date than the file's is taken at his word; what is no date never fits.
        let last_modified = match self.own_field("last-modified").map(httpdate::parse_http_date) {
            None => self.form.last_modified,
            Some(date) => date.ok().and_then(since_1970).unwrap_or(u64::MAX),
        };
        let validators = Validators { etag: self.own_field("etag").unwrap_or(&self.form.etag), last_modified };
        let (if_match, if_none_match) = (values(head, "if-match"), values(head, "if-none-match"));
        // Two of them are no promise about what the client has; as one that can't be read, they get it the whole file.
        let if_range = match values(head, "if-range")[..] {
            [] => None,
            [value] => Some(value),
            _ => Some(&b""[..]),
        };
        let conditions = Conditions {
            if_match: &if_match,
            if_none_match: &if_none_match,
            if_modified_since: only(head, "if-modified-since"),
            if_unmodified_since: only(head, "if-unmodified-since"),
            if_range,
        };
        match judge(&conditions, &validators, true) {
            Verdict::PreconditionFailed => return Portion::Changed,
            Verdict::NotModified => return Portion::Nothing,
            Verdict::Go => {}
        }
        let length = self.form.meta.length;
        // §14.2: Range is for GET. Ranges of an empty file are none: some clients always ask for one.
        match only(head, "range") {
            Some(value) if head.method() == "GET" && length > 0 && range_applies(if_range, &validators) => {
                match parse_ranges(value, length) {
                    Ranges::Ignored => Portion::All,
                    Ranges::Unsatisfiable => Portion::Beyond,
                    Ranges::Some(ranges) => Portion::Parts(ranges),
                }
            }
            _ => Portion::All,
        }
    }

    fn own_field(&self, wanted: &str) -> Option<&str> {
        self.own.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
    }

    /// `of_part`: what is said of a part, also in place of what whoever serves it says of the whole.
    fn fields<'b>(&'b self, of_part: &[(&'b str, &'b str)]) -> Vec<(&'b str, &'b str)> {
        let mut fields = Vec::new();
        if !self.file.content_type.is_empty() {
            fields.push(("Content-Type", &self.file.content_type[..]));
        }
        fields.push(("Last-Modified", &self.form.last_modified_text[..]));
        fields.push(("ETag", &self.form.etag[..]));
        fields.push(("Accept-Ranges", "bytes"));
        fields.extend(self.coding.map(|coding| ("Content-Encoding", coding.name())));
        fields.extend((!self.file.siblings.is_empty()).then_some(("Vary", "Accept-Encoding")));
        self.add_own(&mut fields, |_| true);
        if !of_part.is_empty() {
            let is_of_whole = |name: &str| {
                name.eq_ignore_ascii_case("content-length")
                    || of_part.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
            };
            fields.retain(|(name, _)| !is_of_whole(name));
            fields.extend(of_part);
        }
        fields
    }

    /// §15.4.5: what a 304 repeats; and what is no part of what was stored.
    fn not_modified(&self) -> Vec<(&str, &str)> {
        let mut fields = vec![("Last-Modified", &self.form.last_modified_text[..]), ("ETag", &self.form.etag[..])];
        fields.extend((!self.file.siblings.is_empty()).then_some(("Vary", "Accept-Encoding")));
        const REPEATED: [&str; 7] =
            ["cache-control", "content-location", "etag", "expires", "last-modified", "set-cookie", "vary"];
        self.add_own(&mut fields, |name| REPEATED.iter().any(|other| other.eq_ignore_ascii_case(name)));
        fields
    }

    fn add_own<'b>(&'b self, fields: &mut Vec<(&'b str, &'b str)>, is_wanted: impl Fn(&str) -> bool) {
        // What an answer depends on adds up; the rest can be said only once.
        fields
            .retain(|(name, _)| *name == "Vary" || !self.own.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        fields.extend(self.own.iter().filter(|(name, _)| is_wanted(name)));
    }
}

fn since_1970(date: std::time::SystemTime) -> Option<u64> {
    Some(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
}

/// A field that is there once; one that is there twice says nothing.
fn only<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match values(head, name)[..] {
        [value] => Some(value),
        _ => None,
    }
}

/// Hard to guess: the standard library seeds each of its hashers from the system's random numbers, and it needs no crate.
fn boundary() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}
