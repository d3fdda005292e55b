//! Answers that are compressed on their way out, for clients that take it: whole ones, and the pieces of streams.
//!
//! Thread: whoever holds the reactor; what is long is compressed by whoever answers, before taking it.

use crate::connection::{Connection, Protocol};
use crate::http::values;
use crate::http_answer::Answer;
use crate::number::Number;
use crate::outbox::{COPY_BELOW_BYTES, Outbox};
use crate::route_table::{Inline, Route, RouteTable};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use wire::http_compression::{Candidate, Changed, Choice, GzipOptions, Wishes, choose, fields_for};
use wire::http_gzip::{GzipPool, GzipStream};
use wire::http_head::{Content, RequestHead};

/// What has been made of a body already.
pub enum Ready<'a> {
    Nothing,
    /// `None`: compressing makes it no smaller.
    Made(Option<Vec<u8>>),
    Kept(Option<&'a Arc<[u8]>>),
}

/// How one answer may be compressed.
pub struct Compression<'a> {
    pub options: &'a GzipOptions,
    pub ready: Ready<'a>,
}

/// An answer's body as it leaves.
enum Body<'a> {
    Plain(&'a [u8]),
    Made(Vec<u8>),
    Kept(&'a Arc<[u8]>),
    /// Of an answer to HEAD whose handler only says how long it would be: how long it would be compressed, nobody knows.
    Untold,
}

/// A whole answer: what its fields have to say, and what follows them.
pub struct Prepared<'a> {
    choice: Choice,
    body: Body<'a>,
    /// Without compression.
    length: u64,
}

impl<'a> Prepared<'a> {
    pub fn new(
        head: &RequestHead,
        answer: &Answer<'a>,
        compression: Option<Compression<'a>>,
        pool: &GzipPool,
    ) -> Prepared<'a> {
        let length = answer.content_length(head.method());
        let choice = match &compression {
            Some(compression) => choose_for(compression.options, head, answer, Some(length)),
            None => Choice::AsItIs,
        };
        let body = match compression {
            Some(_) if choice == Choice::Gzip && answer.body.is_empty() => Body::Untold,
            // HEAD, too: only the compressed body tells whether GET would get it, and its length (RFC 9110 §9.3.2).
            Some(Compression { options, ready }) if choice == Choice::Gzip => match ready {
                Ready::Nothing => pool.compress(options.level, answer.body).map(Body::Made),
                Ready::Made(made) => made.map(Body::Made),
                Ready::Kept(kept) => kept.map(Body::Kept),
            }
            .unwrap_or(Body::Plain(answer.body)),
            _ => Body::Plain(answer.body),
        };
        Prepared { choice, body, length }
    }

    pub fn fields<'b>(
        &self,
        fields: &'b [(&'b str, &'b str)],
        changed: &'b mut Changed,
    ) -> Cow<'b, [(&'b str, &'b str)]> {
        fields_of(self.choice, !matches!(self.body, Body::Plain(_)), fields, changed)
    }

    pub fn content(&self) -> Content {
        match &self.body {
            Body::Plain(_) => Content::Length(self.length),
            Body::Made(bytes) => Content::Length(bytes.len() as u64),
            Body::Kept(bytes) => Content::Length(bytes.len() as u64),
            Body::Untold => Content::None,
        }
    }

    pub fn append_to(self, outbox: &mut Outbox) {
        match self.body {
            Body::Plain(bytes) if bytes.len() < COPY_BELOW_BYTES => outbox.append(|out| out.extend_from_slice(bytes)),
            Body::Plain(bytes) => outbox.append_owned(bytes.to_vec()),
            Body::Made(bytes) => outbox.append_owned(bytes),
            Body::Kept(bytes) => outbox.append_shared(bytes),
            Body::Untold => {}
        }
    }
}

/// The fields that go with a choice; those of nearly every answer as they are.
pub fn fields_of<'a>(
    choice: Choice,
    is_compressed: bool,
    fields: &'a [(&'a str, &'a str)],
    changed: &'a mut Changed,
) -> Cow<'a, [(&'a str, &'a str)]> {
    match choice {
        Choice::AsItIs => Cow::Borrowed(fields),
        _ => Cow::Owned(fields_for(choice, is_compressed, fields, changed)),
    }
}

/// What becomes of `answer`, whose body has this length, or comes piece by piece (`None`).
pub fn choose_for(options: &GzipOptions, head: &RequestHead, answer: &Answer, length: Option<u64>) -> Choice {
    // A Content-Length that is wrong stays where it is, and is found.
    let is_true = |value: &str| length.is_none_or(|length| value.parse() == Ok(length));
    let mut told = answer.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !told.all(|(_, value)| is_true(value)) {
        return Choice::AsItIs;
    }
    let candidate = Candidate { status: answer.status, fields: answer.fields, length };
    let (accept_encoding, if_none_match) = (values(head, "accept-encoding"), values(head, "if-none-match"));
    choose(options, &candidate, &Wishes { accept_encoding: &accept_encoding, if_none_match: &if_none_match })
}

/// Compress inline answers, once for all who take it; what `former` has under the same number is taken from there.
///
/// Takes its time: not with the reactor.
pub fn compress_inline(routes: &RouteTable, former: Option<&RouteTable>) {
    let known: HashMap<Number, &Route> =
        former.into_iter().flat_map(RouteTable::iter).map(|it| (it.number, it)).collect();
    for route in routes.iter() {
        let (Some(options), Some(inline)) = (&route.gzip, &route.inline) else { continue };
        let known = known.get(&route.number).and_then(|route| route.inline.as_ref()?.compressed.get());
        inline.compressed.get_or_init(|| match known {
            Some(compressed) => compressed.clone(),
            None => compress_one(options, inline),
        });
    }
}

fn compress_one(options: &GzipOptions, inline: &Inline) -> Option<Arc<[u8]>> {
    let fields: Vec<(&str, &str)> = inline.fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let candidate = Candidate { status: inline.status, fields: &fields, length: Some(inline.body.len() as u64) };
    let takes_gzip = Wishes { accept_encoding: &[b"gzip"], if_none_match: &[] };
    if choose(options, &candidate, &takes_gzip) != Choice::Gzip {
        return None;
    }
    GzipPool::new().compress(options.level, &inline.body).map(Arc::from)
}

/// The body of a stream on its way through the compressor.
pub struct Squeeze {
    stream: GzipStream,
    /// How much of what the application announced is still to come.
    left: Option<u64>,
}

impl Squeeze {
    pub fn new(pool: &GzipPool, level: u8, length: Option<u64>) -> Squeeze {
        Squeeze { stream: GzipStream::new(pool, level), left: length }
    }

    /// What the client gets for `piece`; `None`: that is more than was announced.
    pub fn write(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(piece.len() as u64)?;
        }
        let mut out = Vec::new();
        self.stream.write(piece, &mut out);
        Some(out)
    }

    /// Less has come than was announced.
    pub fn is_short(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }

    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.stream.finish(&mut out);
        out
    }
}

impl Connection {
    /// How answers to the request at hand may be compressed.
    pub fn gzip_options(&self) -> Option<Arc<GzipOptions>> {
        match &self.protocol {
            Protocol::Http(http) => http.gzip.clone(),
            Protocol::WebSocket(_) | Protocol::Calling(_) => None,
        }
    }

    /// For a body that is compressed before the reactor is taken: whether, with what, and at which level.
    pub fn plan_compression(&self, answer: &Answer) -> Option<(GzipPool, u8)> {
        let (head, _) = self.unanswered()?;
        let options = self.gzip_options()?;
        let choice = choose_for(&options, &head, answer, Some(answer.content_length(head.method())));
        (choice == Choice::Gzip).then(|| (self.settings.gzippers.clone(), options.level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route_table::Wants;
    use std::sync::OnceLock;

    fn table(numbers: &[Number], min_bytes: u64) -> RouteTable {
        let options = Arc::new(GzipOptions { level: 6, min_bytes, types: vec!["text/*".to_owned()] });
        let route = |number: &Number| {
            let mut route = Route::new("/", true, Wants::default());
            let fields = vec![("Content-Type".to_owned(), "text/css".to_owned())];
            let (body, compressed) = (Arc::from(b"a { color: red } ".repeat(100)), OnceLock::new());
            route.number = *number;
            route.inline = Some(Inline { status: 200, fields, body, compressed });
            route.gzip = Some(Arc::clone(&options));
            route
        };
        RouteTable::new(numbers.iter().map(route).collect())
    }

    fn compressed(table: &RouteTable) -> Vec<Option<Arc<[u8]>>> {
        table.iter().map(|route| route.inline.as_ref().unwrap().compressed.get().unwrap().clone()).collect()
    }

    #[test]
    fn inline_answers_are_compressed_once() {
        let first = table(&[1, 2], 100);
        compress_inline(&first, None);
        let before = compressed(&first);
        assert!(before.iter().flatten().all(|bytes| bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 100));
        let second = table(&[2, 3], 100);
        compress_inline(&second, Some(&first));
        let after = compressed(&second);
        assert!(Arc::ptr_eq(after[0].as_ref().unwrap(), before[1].as_ref().unwrap()));
        assert_eq!(after[0], after[1]);
    }

    #[test]
    fn what_is_too_short_stays_so() {
        let short = table(&[1], 10_000);
        compress_inline(&short, None);
        assert_eq!(compressed(&short), [None]);
    }
}
