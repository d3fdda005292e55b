//! Heads and bodies under random bytes, cuts and values: no cut changes what is read or refused, nothing panics, what is
//! written reads back the same, and time grows with the bytes and not with the cuts.

use proptest::collection::vec;
use proptest::prelude::*;
use std::time::{Duration, Instant};
use wire::error::HttpRefusal;
use wire::http_body::{BodyFraming, BodyReader, encode_chunk, encode_last_chunk};
use wire::http_head::{
    Content, HeadLimits, HeadReader, ResponseLine, Version, encode_request_head, encode_response_head,
};

const LIMITS: HeadLimits = HeadLimits { max_head_bytes: 300, max_headers: 6, max_url_bytes: 40 };
const MAX_BODY: u64 = 64;

/// Everything a connection's bytes say: the messages one after another, then why it ended.
#[derive(Debug, PartialEq)]
struct Said {
    messages: Vec<Message>,
    refusal: Option<HttpRefusal>,
}

#[derive(Debug, Default, PartialEq)]
struct Message {
    line: String,
    fields: Vec<u8>,
    body: Vec<u8>,
    trailers: Vec<u8>,
}

/// A connection in small: heads and bodies in turn, from a buffer that grows piece by piece.
struct Conversation {
    buffer: Vec<u8>,
    head: HeadReader,
    body: Option<BodyReader>,
    content: Vec<u8>,
    said: Said,
}

impl Conversation {
    fn new() -> Self {
        Self {
            buffer: Vec::new(),
            head: HeadReader::new(),
            body: None,
            content: Vec::new(),
            said: Said { messages: Vec::new(), refusal: None },
        }
    }

    fn receive(&mut self, piece: &[u8]) -> Result<(), HttpRefusal> {
        self.buffer.extend_from_slice(piece);
        loop {
            if let Some(body) = &mut self.body {
                let used = body.read(&self.buffer, &mut self.content)?;
                self.buffer.drain(..used);
                if !body.is_done() {
                    return Ok(());
                }
                let message = self.said.messages.last_mut().unwrap();
                message.body = std::mem::take(&mut self.content);
                message.trailers = body.trailers().to_vec();
                self.body = None;
            }
            let Some((used, head)) = self.head.read_request(&self.buffer, &LIMITS)? else {
                return Ok(());
            };
            self.buffer.drain(..used);
            let line = format!("{} {} {:?} {}", head.method(), head.target(), head.version(), head.host());
            self.said.messages.push(Message { line, fields: head.field_block(), ..Message::default() });
            self.body = Some(BodyReader::new(head.framing(), MAX_BODY)?);
        }
    }
}

fn converse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Said {
    let mut conversation = Conversation::new();
    for piece in pieces {
        if let Err(refusal) = conversation.receive(piece) {
            conversation.said.refusal = Some(refusal);
            break;
        }
    }
    conversation.said
}

/// Cuts `bytes` at sizes taken in turn from `sizes`.
fn cut<'a>(mut bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().copied().cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(1).min(bytes.len());
        let (piece, rest) = bytes.split_at(size);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Pieces of messages, good and bad, so that random rows of them reach deep into the grammar.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST /a?b HTTP/1.1\r\n",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET http://a/ HTTP/1.0\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"Host: a\r\n",
        b"Host: b:1\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 65\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
        b"Expect: x\r\n",
        b"Connection: close\r\n",
        b"X: \t y \r\n",
        b"X:\xe9\r\n",
        b"X : y\r\n",
        b" folded\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"1;e=f\r\nx\r\n",
        b"0\r\n\r\n",
        b"0\r\n",
        b"Sum: 1\r\n",
        b"41\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b":",
        b"G",
        b"/",
        b"a-name-that-goes-on-for-quite-a-while-to-meet-the-limits",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ];
    prop_oneof![
        20 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..8),
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}".prop_map(|name| format!("x-{name}"))
}

fn value() -> impl Strategy<Value = String> {
    "([!-~\u{e4}\u{20ac}]([ -~\t\u{e4}]{0,20}[!-~])?)?"
}

fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (&**name, &**value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(fragments in vec(fragment(), 0..14), sizes in vec(1usize..40, 1..6)) {
        let bytes = fragments.concat();
        let whole = converse(std::iter::once(&bytes[..]));
        prop_assert_eq!(&whole, &converse(cut(&bytes, &sizes)));
        prop_assert_eq!(&whole, &converse(bytes.chunks(1)));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), max in any::<u64>()) {
        let _ = HeadReader::new().read_request(&bytes, &LIMITS);
        let _ = HeadReader::new().read_response(&bytes, &LIMITS);
        for framing in [BodyFraming::Chunked, BodyFraming::UntilClose, BodyFraming::Length(max)] {
            if let Ok(mut reader) = BodyReader::new(framing, max) {
                let _ = reader.read(&bytes, &mut Vec::new());
            }
        }
    }

    #[test]
    fn response_cuts_change_nothing(
        bytes in "HTTP/1\\.[012] [0-9]{2,4}( [ -~]{0,5})?\r\n(X: [ -~]{0,9}\r\n|Content-Length: [0-9]{0,2}\r\n){0,8}(\r\n)?",
        size in 1usize..9,
    ) {
        let bytes = bytes.as_bytes();
        let read_until = |ends: &mut dyn Iterator<Item = usize>| {
            let mut reader = HeadReader::new();
            ends.map(|end| reader.read_response(&bytes[..end], &LIMITS).map_err(|refusal| refusal.status))
                .find(|read| !matches!(read, Ok(None)))
                .map(|read| read.map(|read| read.map(|(used, head)| (used, format!("{head:?}")))))
        };
        let whole = read_until(&mut std::iter::once(bytes.len()));
        let ends = (size..bytes.len()).step_by(size).chain([bytes.len()]);
        prop_assert_eq!(whole, read_until(&mut ends.into_iter()));
    }

    #[test]
    fn requests_read_back_as_written(
        method in "[A-Z]{1,10}",
        path in "/[!-\"$->@-~]{0,20}",
        query in "[!-\"$-~]{0,10}",
        fields in vec((name(), value()), 0..4),
    ) {
        prop_assume!(method != "CONNECT");
        let mut sent = borrowed(&fields);
        sent.push(("Host", "a:1"));
        let mut out = Vec::new();
        encode_request_head(&mut out, &method, &format!("{path}?{query}"), &sent).unwrap();
        let (used, head) = HeadReader::new().read_request(&out, &HeadLimits::default()).unwrap().unwrap();
        prop_assert_eq!(used, out.len());
        prop_assert_eq!((head.method(), head.path(), head.query()), (&*method, &*path, &*query));
        let read: Vec<_> = head.fields().collect();
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn responses_read_back_as_written(
        status in 200u16..=999,
        reason in proptest::option::of("[ -~]{0,12}"),
        fields in vec((name(), value()), 0..4),
        length in any::<u32>(),
        keep_alive in any::<bool>(),
    ) {
        prop_assume!(status != 204 && status != 304);
        let line = ResponseLine { status, reason: reason.as_deref(), version: Version::Http11 };
        let mut out = Vec::new();
        let content = Content::Length(length.into());
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        encode_response_head(&mut out, &line, &borrowed(&fields), content, date, keep_alive).unwrap();
        let (used, head) = HeadReader::new().read_response(&out, &HeadLimits::default()).unwrap().unwrap();
        prop_assert_eq!(used, out.len());
        prop_assert_eq!((head.status(), head.keep_alive()), (status, keep_alive));
        prop_assert_eq!(head.framing("GET"), BodyFraming::Length(length.into()));
        for ((name, value), (read_name, read_value)) in fields.iter().zip(head.fields()) {
            prop_assert_eq!((&**name, value.as_bytes()), (read_name, read_value));
        }
    }

    #[test]
    fn whatever_is_accepted_for_writing_is_one_head(name in ".{0,6}", value in ".{0,12}", reason in ".{0,8}") {
        let line = ResponseLine { status: 200, reason: Some(&reason), version: Version::Http11 };
        let mut out = Vec::new();
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        if encode_response_head(&mut out, &line, &[(&name, &value)], Content::Length(1), date, true).is_ok() {
            let (used, head) = HeadReader::new().read_response(&out, &HeadLimits::default()).unwrap().unwrap();
            prop_assert_eq!(used, out.len());
            prop_assert!(head.fields().count() <= 3);
        }
    }

    #[test]
    fn chunks_read_back_as_written(
        pieces in vec(vec(any::<u8>(), 0..50), 0..8),
        trailers in vec((name(), value()), 0..3),
        sizes in vec(1usize..30, 1..4),
    ) {
        let mut out = Vec::new();
        for piece in &pieces {
            encode_chunk(&mut out, piece);
        }
        encode_last_chunk(&mut out, &borrowed(&trailers)).unwrap();
        let mut reader = BodyReader::new(BodyFraming::Chunked, 1 << 20).unwrap();
        let mut body = Vec::new();
        for piece in cut(&out, &sizes) {
            prop_assert!(!reader.is_done());
            prop_assert_eq!(reader.read(piece, &mut body), Ok(piece.len()));
        }
        prop_assert!(reader.is_done());
        prop_assert_eq!(body, pieces.concat());
        let expected: String = trailers.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        prop_assert_eq!(reader.trailers(), expected.as_bytes());
    }
}

fn large_head(fields: usize) -> Vec<u8> {
    let line = format!("X: {}\r\n", "y".repeat(1000));
    format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line.repeat(fields)).into_bytes()
}

/// Four times the bytes, arriving one by one, cost about four times as much; a reader that starts over would need sixteen.
#[test]
fn byte_by_byte_delivery_is_linear() {
    let fastest = |bytes: &[u8]| (0..7).map(|_| time_bytewise(bytes)).min();
    let (small, large) = (fastest(&large_head(25)), fastest(&large_head(100)));
    assert!(large.unwrap() < small.unwrap() * 9, "{small:?} {large:?}");
}

fn time_bytewise(bytes: &[u8]) -> Duration {
    let limits = HeadLimits::default();
    let started = Instant::now();
    let mut reader = HeadReader::new();
    let complete = (1..=bytes.len()).find_map(|end| reader.read_request(&bytes[..end], &limits).unwrap());
    assert_eq!(complete.unwrap().0, bytes.len());
    started.elapsed()
}
