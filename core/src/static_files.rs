//! How a static path answers: whether it does, with what status, and which part of which form of a file (RFC 9110 §13, §14).
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Turn};
use crate::files::{Cached, Entry, File, How, Mount, look_up};
use crate::http::{PLAIN_TEXT, values};
use crate::outbox::FileSlice;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use wire::file_path::{PathRefusal, relative_path};
use wire::http_coding::{Coding, choose_coding};
use wire::http_conditions::{Conditions, Validators, Verdict, judge, range_applies};
use wire::http_head::{Content, RequestHead, ResponseLine};
use wire::http_range::{Multipart, Ranges, content_range, parse_ranges, unsatisfied_range};

const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");

impl Connection {
    /// `rest`: what follows the mount in the path.
    pub fn begin_file(
        &mut self,
        head: Arc<RequestHead>,
        mount: &Arc<Mount>,
        rest: &str,
        has_body_bytes: bool,
        turn: &mut Turn,
    ) {
        if mount.root.is_none() {
            return self.begin_routed(head, has_body_bytes, turn); // a hole
        }
        if !is_valid(&head, mount) {
            // Before anything else, and whatever falls through: it guards what is here.
            return self.answer_error(&head, 403, "", &[], turn);
        }
        let refusal = if !matches!(head.method(), "GET" | "HEAD") {
            Some((405, "a file answers GET and HEAD"))
        } else if head.has_body() {
            Some((400, "a request for a file has no body"))
        } else {
            None
        };
        if let Some((status, why)) = refusal {
            return self.refuse_file(head, mount, status, why, has_body_bytes, turn);
        }
        let path = match relative_path(rest, mount.options.allows_dotfiles) {
            Ok(path) => path,
            Err(PathRefusal::Malformed) => {
                return self.refuse_file(head, mount, 400, "no such path can be", has_body_bytes, turn);
            }
            Err(PathRefusal::NotFound) => return self.answer_entry(head, mount, &Entry::NotFound, turn),
        };
        let known = match turn.files.get(mount.id, &path, turn.now) {
            Cached::Fresh(entry) => return self.answer_entry(head, mount, &entry, turn),
            Cached::Stale(entry) => Some(entry),
            Cached::Unknown => None,
        };
        if let Ok(entry) = look_up(mount, &path, How::CachedOnly, known.as_ref()) {
            turn.files.put(mount.id, &path, &entry, turn.now);
            return self.answer_entry(head, mount, &entry, turn);
        }
        self.http().begin_looking(&head, turn.now);
        let (number, mount) = (self.number, Arc::clone(mount));
        turn.disk.submit(Box::new(move || {
            let entry = look_up(&mount, &path, How::Blocking, known.as_ref()).unwrap_or(Entry::Failed);
            Box::new(move |reactor| reactor.file_found(number, &mount, &path, &entry))
        }));
    }

    /// The disk has found it.
    pub fn file_found(&mut self, mount: &Mount, entry: &Entry, turn: &mut Turn) {
        let Some(head) = self.looked(turn) else { return };
        self.answer_entry(head, mount, entry, turn);
        if self.has_input() || self.is_at_end {
            self.make_runnable(turn);
        }
    }

    fn refuse_file(
        &mut self,
        head: Arc<RequestHead>,
        mount: &Mount,
        status: u16,
        why: &str,
        has_body_bytes: bool,
        turn: &mut Turn,
    ) {
        if mount.options.fallthrough {
            return self.begin_routed(head, has_body_bytes, turn);
        }
        let fields = if status == 405 { &[("Allow", "GET, HEAD")][..] } else { &[] };
        self.answer_error(&head, status, why, fields, turn);
    }

    fn answer_entry(&mut self, head: Arc<RequestHead>, mount: &Mount, entry: &Entry, turn: &mut Turn) {
        match entry {
            Entry::File(file) if file.is_index && is_hole(turn, head.path()) => {
                self.refuse_file(head, mount, 404, "", false, turn);
            }
            Entry::File(file) => self.answer_file(&head, mount, file, turn),
            Entry::Listing(page) => self.answer_natively(&head, 200, &[HTML], page, turn),
            Entry::NeedsSlash => {
                let query = if head.query().is_empty() { String::new() } else { format!("?{}", head.query()) };
                let location = format!("{}/{query}", head.path());
                self.answer_natively(
                    &head,
                    301,
                    &[PLAIN_TEXT, ("Location", &location)],
                    b"301 Moved Permanently\n",
                    turn,
                );
            }
            Entry::NotFound => self.refuse_file(head, mount, 404, "", false, turn),
            Entry::Forbidden => self.refuse_file(head, mount, 403, "", false, turn),
            Entry::Failed => self.refuse_file(head, mount, 500, "", false, turn),
        }
    }

    fn answer_file(&mut self, head: &RequestHead, mount: &Mount, file: &Arc<File>, turn: &mut Turn) {
        let (form, coding) = choose_form(head, file);
        let own_tag = mount.options.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("etag"));
        let etag = own_tag.map_or(&form.etag, |(_, value)| value);
        let validators = Validators { etag, last_modified: form.last_modified };
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
        let answer = FileAnswer { file, form, coding, mount };
        let verdict = judge(&conditions, &validators, true);
        if verdict == Verdict::PreconditionFailed {
            return self.answer_error(head, 412, "", &[], turn);
        }
        turn.counters.files += 1;
        if verdict == Verdict::NotModified {
            return self.append_file_head(head, 304, &answer.not_modified(), Content::None, turn);
        }
        let length = form.meta.length;
        // §14.2: Range is for GET. Ranges of an empty file are none: some clients always ask for one.
        let ranges = match only(head, "range") {
            Some(value) if head.method() == "GET" && length > 0 && range_applies(if_range, &validators) => {
                parse_ranges(value, length)
            }
            _ => Ranges::Ignored,
        };
        match ranges {
            Ranges::Ignored => {
                let fields = answer.fields(&file.content_type, None);
                self.append_file_head(head, 200, &fields, Content::Length(length), turn);
                if head.method() != "HEAD" {
                    self.append_range(form, 0, length);
                }
            }
            Ranges::Unsatisfiable => {
                let range = unsatisfied_range(length);
                self.answer_error(head, 416, "", &[("Content-Range", &range)], turn);
            }
            Ranges::Some(ranges) => match ranges[..] {
                [(start, end)] => {
                    let range = content_range(start, end, length);
                    let fields = answer.fields(&file.content_type, Some(&range));
                    self.append_file_head(head, 206, &fields, Content::Length(end - start), turn);
                    self.append_range(form, start, end);
                }
                _ => self.answer_parts(head, &answer, &ranges, turn),
            },
        }
    }

    /// `multipart/byteranges` (§14.6).
    fn answer_parts(&mut self, head: &RequestHead, answer: &FileAnswer, ranges: &[(u64, u64)], turn: &mut Turn) {
        let own_type = answer.mount.options.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = own_type.map_or(&answer.file.content_type, |(_, value)| value);
        let Ok(parts) = Multipart::new(content_type, answer.form.meta.length, boundary()) else {
            return self.answer_error(head, 500, "", &[], turn);
        };
        let multipart = parts.content_type();
        let mut fields = answer.fields(&multipart, None);
        // The mount's own type is that of the parts.
        fields.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        fields.push(("Content-Type", &multipart));
        self.append_file_head(head, 206, &fields, Content::Length(parts.total_length(ranges)), turn);
        for &(start, end) in ranges {
            self.outbox.append(|out| out.extend_from_slice(parts.part_head(start, end).as_bytes()));
            self.append_range(answer.form, start, end);
        }
        self.outbox.append(|out| out.extend_from_slice(parts.closing().as_bytes()));
    }

    fn append_file_head(
        &mut self,
        head: &RequestHead,
        status: u16,
        fields: &[(&str, &str)],
        content: Content,
        turn: &mut Turn,
    ) {
        let line = ResponseLine { status, reason: None, version: head.version() };
        // Also when the client has closed its half: more requests of it may be here, and the end comes behind them.
        match self.append_head(head, &line, fields, content, true, turn) {
            Ok(true) => {}
            Ok(false) => self.life = Life::Finishing,
            Err(_) => {
                self.outbox.clear(); // checked when the mount was made
                self.life = Life::Finishing;
            }
        }
    }

    fn append_range(&mut self, file: &Arc<File>, start: u64, end: u64) {
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

    fn looked(&mut self, turn: &Turn) -> Option<Arc<RequestHead>> {
        match &mut self.protocol {
            Protocol::Http(http) if self.life == Life::Open => http.end_looking(turn.now),
            _ => None,
        }
    }
}

/// Whether the index file of a directory is excluded under its own name.
fn is_hole(turn: &Turn, directory: &str) -> bool {
    let index = format!("{}/index.html", directory.trim_end_matches('/'));
    turn.site.mounts.find(&index).is_some_and(|(mount, _)| mount.root.is_none())
}

/// Whether a request carries what the mount demands.
fn is_valid(head: &RequestHead, mount: &Mount) -> bool {
    let Some((name, wanted)) = &mount.options.validation else { return true };
    let given = values(head, &name.to_ascii_lowercase());
    matches!(given[..], [value] if is_equal(value, wanted))
}

/// In constant time: how long it takes must not tell how much of a guess is right.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| std::hint::black_box(difference | (a ^ b)));
    one.len() == other.len() && difference == 0
}

/// A field that is there once; one that is there twice says nothing.
fn only<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match values(head, name)[..] {
        [value] => Some(value),
        _ => None,
    }
}

/// The compressed form that the client prefers, or the file as it is.
fn choose_form<'a>(head: &RequestHead, file: &'a Arc<File>) -> (&'a Arc<File>, Option<Coding>) {
    if file.siblings.is_empty() {
        return (file, None);
    }
    let available: Vec<Coding> = file.siblings.iter().map(|(coding, _)| *coding).collect();
    let chosen = choose_coding(&values(head, "accept-encoding"), &available);
    let sibling = file.siblings.iter().find(|(coding, _)| Some(*coding) == chosen);
    sibling.map_or((file, None), |(coding, sibling)| (sibling, Some(*coding)))
}

/// What is said of one file in one answer.
struct FileAnswer<'a> {
    /// A compressed form has the type of what it is a form of.
    file: &'a File,
    form: &'a Arc<File>,
    coding: Option<Coding>,
    mount: &'a Mount,
}

impl FileAnswer<'_> {
    fn fields<'b>(&'b self, content_type: &'b str, range: Option<&'b str>) -> Vec<(&'b str, &'b str)> {
        let mut fields = vec![
            ("Content-Type", content_type),
            ("Last-Modified", &self.form.last_modified_text[..]),
            ("ETag", &self.form.etag[..]),
            ("Accept-Ranges", "bytes"),
        ];
        fields.extend(self.coding.map(|coding| ("Content-Encoding", coding.name())));
        fields.extend((!self.file.siblings.is_empty()).then_some(("Vary", "Accept-Encoding")));
        fields.extend(range.map(|range| ("Content-Range", range)));
        self.add_own(&mut fields, |_| true);
        fields
    }

    /// §15.4.5: what a 304 repeats.
    fn not_modified(&self) -> Vec<(&str, &str)> {
        let mut fields = vec![("Last-Modified", &self.form.last_modified_text[..]), ("ETag", &self.form.etag[..])];
        fields.extend((!self.file.siblings.is_empty()).then_some(("Vary", "Accept-Encoding")));
        const REPEATED: [&str; 5] = ["cache-control", "content-location", "etag", "expires", "vary"];
        self.add_own(&mut fields, |name| REPEATED.iter().any(|other| other.eq_ignore_ascii_case(name)));
        fields
    }

    /// The mount's own fields replace ours of the same name.
    fn add_own<'b>(&'b self, fields: &mut Vec<(&'b str, &'b str)>, is_wanted: impl Fn(&str) -> bool) {
        let own = &self.mount.options.fields;
        // What an answer depends on adds up; the rest can be said only once.
        fields.retain(|(name, _)| *name == "Vary" || !own.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        let wanted = own.iter().filter(|(name, _)| is_wanted(name));
        fields.extend(wanted.map(|(name, value)| (&name[..], &value[..])));
    }
}

/// Hard to guess: the standard library seeds each of its hashers from the system's random numbers, and it needs no crate.
fn boundary() -> u128 {
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::slow::{drive_until, receive, with_slow_disk};
    use crate::files::{MountOptions, Mounts, Root};
    use crate::listen::Listener;
    use crate::route_table::{Inline, Route, RouteTable, Wants};
    use crate::settings::test_settings;
    use std::io::Write;
    use std::net::TcpStream;
    use std::sync::OnceLock;

    #[test]
    fn a_disk_that_hangs_keeps_nobody_else_waiting() {
        let (engine, slow) = with_slow_disk();
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::write(directory.path().join("a.txt"), "a").unwrap();
        let options = MountOptions { listing: true, ..MountOptions::default() }; // a listing always needs the disk
        let root = Root::open(directory.path(), false).unwrap();
        let mounts = Mounts::new(vec![Mount::new("/list", Some(root), options)]);
        let mut route = Route::new("/ping", false, Wants::default());
        let (body, compressed) = (Arc::from(*b"pong"), OnceLock::new());
        route.inline = Some(Inline { status: 200, fields: Vec::new(), body, compressed });
        let (listener, address) = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        engine.lease().add_site(listener, test_settings(), RouteTable::new(vec![route]), mounts, None).unwrap();
        let open = || {
            let client = TcpStream::connect(address).unwrap();
            client.set_nonblocking(true).unwrap();
            client
        };
        let (mut waiting, mut other) = (open(), open());
        let list = b"GET /list/ HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n";
        waiting.write_all(list).unwrap();
        drive_until(&engine, || slow.is_asked());
        for _ in 0..100 {
            other.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            assert!(receive(&engine, &mut other, "pong").starts_with("HTTP/1.1 200 OK\r\n"));
        }
        slow.answer();
        let both = receive(&engine, &mut waiting, "pong");
        assert!(both.contains("<a href=\"./a%2Etxt\">a.txt</a>"), "{both}");
        assert!(both.find("a.txt") < both.find("pong"));
    }
}
