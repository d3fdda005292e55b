//! How a static path answers: whether it does, with what status, and with which form of a file (RFC 9110 §12). Which part
//! of it is in `file_answer`.
//!
//! Thread: whoever holds the reactor.

use crate::connection::{Connection, Life, Protocol, Turn};
use crate::file_answer::{FileAnswer, Portion};
use crate::files::{Cached, Entry, File, How, Mount, look_up};
use crate::http::values;
use crate::http_answer::PLAIN_TEXT;
use std::sync::Arc;
use wire::file_path::{PathRefusal, relative_path};
use wire::http_coding::{Coding, choose_coding};
use wire::http_head::RequestHead;

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
        let own: Vec<(&str, &str)> = mount.options.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let answer = FileAnswer { file, form, coding, reason: None, own: &own };
        let portion = answer.portion(head);
        turn.counters.files += u64::from(portion != Portion::Changed);
        // Also when the client has closed its half: more requests of it may be here, and the end comes behind them.
        match self.append_portion(head, &answer, portion, true, turn) {
            Ok(true) => {}
            Ok(false) => self.life = Life::Finishing,
            Err(_) => {
                self.outbox.clear(); // checked when the mount was made
                self.life = Life::Finishing;
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
