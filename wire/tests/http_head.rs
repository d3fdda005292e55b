//! Request and response heads: what is read, what is refused with which status, and what is written.

use wire::error::HttpRefusal;
use wire::http_body::BodyFraming;
use wire::http_head::{
    Content, FieldError, HeadLimits, HeadReader, RequestHead, ResponseHead, ResponseLine, Version, encode_request_head,
    encode_response_head, reason_phrase,
};

const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn read_whole(bytes: &[u8]) -> Result<Option<(usize, RequestHead)>, HttpRefusal> {
    HeadReader::new().read_request(bytes, &HeadLimits::default())
}

/// The refusal, and after how many bytes it came.
fn read_bytewise(bytes: &[u8], limits: &HeadLimits) -> Result<usize, (HttpRefusal, usize)> {
    let mut reader = HeadReader::new();
    for end in 1..=bytes.len() {
        match reader.read_request(&bytes[..end], limits) {
            Ok(None) => {}
            Ok(Some((used, _))) => return Ok(used),
            Err(refusal) => return Err((refusal, end)),
        }
    }
    Ok(0)
}

fn request(bytes: &[u8]) -> RequestHead {
    match read_whole(bytes) {
        Ok(Some((used, head))) => {
            assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
            head
        }
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

fn response(bytes: &[u8]) -> ResponseHead {
    let read = HeadReader::new().read_response(bytes, &HeadLimits::default());
    match read {
        Ok(Some((used, head))) => {
            assert_eq!(used, bytes.len());
            head
        }
        other => panic!("{}: {other:?}", bytes.escape_ascii()),
    }
}

/// Whole and byte by byte, the same refusal.
fn assert_refused(bytes: &[u8], status: u16) {
    let refusal = match read_whole(bytes) {
        Err(refusal) => refusal,
        other => panic!("{} gave {other:?}", bytes.escape_ascii()),
    };
    assert_eq!(refusal.status, status, "{}: {refusal:?}", bytes.escape_ascii());
    let bytewise = read_bytewise(bytes, &HeadLimits::default());
    assert_eq!(bytewise.map_err(|(refusal, _)| refusal), Err(refusal), "{}", bytes.escape_ascii());
}

/// A head with this field line besides a good Host.
fn with_line(line: &[u8]) -> Vec<u8> {
    [b"POST /x HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat()
}

#[test]
fn a_request_is_read() {
    let head = request(
        b"GET /a/b%20c?x=1&y=?2 HTTP/1.1\r\nHost: Example.org:8080\r\nX-Empty:\r\nx-two: \t one two\xe9 \t\r\nX-Two:2\r\n\r\n",
    );
    assert_eq!(head.method(), "GET");
    assert_eq!(head.target(), "/a/b%20c?x=1&y=?2");
    assert_eq!(head.path(), "/a/b%20c");
    assert_eq!(head.query(), "x=1&y=?2");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.host(), "Example.org:8080");
    assert_eq!(head.get("x-two"), Some(&b"one two\xe9"[..]));
    assert_eq!(head.get("x-empty"), Some(&b""[..]));
    assert_eq!(head.get("x-none"), None);
    let names: Vec<&str> = head.fields().map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "X-Empty", "x-two", "X-Two"]);
    assert_eq!(head.field_block(), b"Host:Example.org:8080\r\nX-Empty:\r\nx-two:one two\xe9\r\nX-Two:2\r\n");
    assert_eq!(head.framing(), BodyFraming::Empty);
    assert!(head.keep_alive());
    assert!(!head.expects_continue());
    assert!(!head.wants_websocket());
}

#[test]
fn the_body_begins_where_the_head_ends_and_the_reader_goes_on() {
    let bytes = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: b\r\n\r\n";
    let mut reader = HeadReader::new();
    let limits = HeadLimits::default();
    let (used, first) = reader.read_request(bytes, &limits).unwrap().unwrap();
    assert_eq!(first.framing(), BodyFraming::Length(3));
    assert_eq!(&bytes[used..used + 3], b"abc");
    let rest = &bytes[used + 3..];
    let (used, second) = reader.read_request(rest, &limits).unwrap().unwrap();
    assert_eq!((second.path(), second.host()), ("/2", "b"));
    assert_eq!(used, rest.len());
}

#[test]
fn one_empty_line_before_a_request_is_forgiven() {
    assert_eq!(request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").method(), "GET");
}

#[test]
fn target_forms() {
    let table: &[(&[u8], &str, &str, &str)] = &[
        (b"GET / HTTP/1.1\r\nHost: a", "/", "", "a"),
        (b"GET /? HTTP/1.1\r\nHost: a", "/", "", "a"),
        (b"GET //b/c HTTP/1.1\r\nHost: a", "//b/c", "", "a"),
        (b"GET /http://b/ HTTP/1.1\r\nHost: a", "/http://b/", "", "a"),
        (b"GET http://a/b?c HTTP/1.1\r\nHost: a", "/b", "c", "a"),
        (b"GET http://a?c HTTP/1.1\r\nHost: a", "/", "c", "a"),
        (b"GET http://a HTTP/1.1\r\nHost: a", "/", "", "a"),
        (b"GET HTTP://A:80/b HTTP/1.1\r\nHost: a", "/b", "", "A:80"),
        (b"GET wss://a:443/ HTTP/1.1\r\nHost: a", "/", "", "a:443"),
        (b"GET ws://[::1]:8080/x HTTP/1.1\r\nHost: [::1]:8080", "/x", "", "[::1]:8080"),
        (b"GET https://a/ HTTP/1.0", "/", "", "a"),
        (b"GET / HTTP/1.0", "/", "", ""),
        (b"OPTIONS * HTTP/1.1\r\nHost: a", "*", "", "a"),
    ];
    for (bytes, path, query, host) in table {
        let head = request(&[bytes, &b"\r\n\r\n"[..]].concat());
        assert_eq!((head.path(), head.query(), head.host()), (*path, *query, *host));
    }
}

#[test]
fn bad_lines_are_refused() {
    let table: &[(u16, &[u8])] = &[
        // Line ends and folding.
        (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        (400, b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n\tfolded\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        // The request line.
        (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
        (400, b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\r\nHost: a\r\n\r\n"),
        (400, b"GET\r\nHost: a\r\n\r\n"),
        (400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"G\xc3\x89T / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"{\"json\": 1}"),
        (501, b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (501, b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
        // Targets.
        (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"OPTIONS *?a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http:///b HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
        // Versions.
        (505, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        (505, b"GET / HTTP/3.1\r\nHost: a\r\n\r\n"),
        (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/+.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1,1\r\nHost: a\r\n\r\n"),
        (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / ICY/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.\xd9\xa1\r\nHost: a\r\n\r\n"),
    ];
    for (status, bytes) in table {
        assert_refused(bytes, *status);
    }
}

#[test]
fn bad_fields_are_refused() {
    let table: &[(u16, &[u8])] = &[
        // Names.
        (400, b"X : a"),
        (400, b"X\t: a"),
        (400, b"X Y: a"),
        (400, b": a"),
        (400, b"no colon"),
        (400, b"nocolon"),
        (400, b"X\x00: a"),
        (400, b"X\x0b: a"),
        (400, b"\xe9: a"),
        (400, b"X(: a"),
        (400, b"X\n: a"),
        (400, b"X\r: a"),
        (400, b"\x00"),
        // Values.
        (400, b"X: \x00"),
        (400, b"X: a\x00b"),
        (400, b"X: \x0b"),
        (400, b"X: \x0c"),
        (400, b"X: \x1b[31m"),
        (400, b"X: \x7f"),
        (400, b"X: a\nY: b"),
        (400, b"X: a\rY: b"),
        // Content-Length.
        (400, b"Content-Length:"),
        (400, b"Content-Length: +5"),
        (400, b"Content-Length: -5"),
        (400, b"Content-Length: 0x5"),
        (400, b"Content-Length: 5_0"),
        (400, b"Content-Length: 5 0"),
        (400, b"Content-Length: 5.0"),
        (400, b"Content-Length: 5a"),
        (400, b"Content-Length: 5,5"),
        (400, b"Content-Length: 5, 6"),
        (400, b"Content-Length: \"5\""),
        (400, b"Content-Length: \xd9\xa5"),
        (400, b"Content-Length: \xb2"),
        (400, b"Content-Length: 9223372036854775808"),
        (400, b"Content-Length: 18446744073709551616"),
        (400, b"Content-Length: 99999999999999999999999999999999999999999"),
        (400, b"Content-Length: 5\r\nContent-Length: 5"),
        (400, b"Content-Length: 5\r\ncontent-length: 6"),
        // Transfer-Encoding.
        (501, b"Transfer-Encoding: gzip"),
        (501, b"Transfer-Encoding: xchunked"),
        (501, b"Transfer-Encoding: chunked2"),
        (400, b"Transfer-Encoding:"),
        (400, b"Transfer-Encoding: identity"),
        (400, b"Transfer-Encoding: Identity"),
        (400, b"Transfer-Encoding: chunked, identity"),
        (400, b"Transfer-Encoding: identity, chunked"),
        (400, b"Transfer-Encoding: gzip, chunked"),
        (400, b"Transfer-Encoding: chunked, chunked"),
        (400, b"Transfer-Encoding: chunked,"),
        (400, b"Transfer-Encoding: ,chunked"),
        (400, b"Transfer-Encoding: chunked;q=1"),
        (400, b"Transfer-Encoding: \"chunked\""),
        (400, b"Transfer-Encoding: \x0bchunked"),
        (400, b"Transfer-Encoding: chunked\x00"),
        (400, b"Transfer-Encoding: chunked\x0c"),
        (400, b"Transfer-Encoding: chun\xe9ked"),
        (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        (400, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        (400, b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
        (400, b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
        (400, b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
        (400, b"Content-Length: 0\r\nTransfer-Encoding: gzip"),
        // Expect.
        (417, b"Expect: 200-ok"),
        (417, b"Expect:"),
        (417, b"Expect: 100-continue, 100-continue"),
        (417, b"Expect: 100-continue\r\nExpect: other"),
        // A second Host.
        (400, b"Host: a"),
        (400, b"hOST: b"),
    ];
    for (status, line) in table {
        assert_refused(&with_line(line), *status);
    }
    assert_refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    assert_refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", 400);
}

#[test]
fn bad_hosts_are_refused() {
    assert_refused(b"GET / HTTP/1.1\r\n\r\n", 400);
    assert_refused(b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", 400);
    assert_refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    let hosts = [
        "",
        "a/b",
        "a/",
        "u@a",
        "a?b",
        "a#b",
        "a b",
        "a,b",
        "a\\b",
        "a%2fb",
        "http://a",
        "a:",
        "a:b",
        "a:-1",
        "a:+80",
        "a:80:80",
        "a:65536",
        "a:99999999999999999999",
        "a:8o",
        ":80",
        "[]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:",
        "[::1]:b",
        "[fe80::1%25eth0]",
        "[::g]",
        "[127.0.0.1]",
        "]",
        "[",
        "b\u{fc}cher",
        "a\u{661}",
        "\"a\"",
        "a;b",
        "<a>",
        "a'b",
    ];
    for host in hosts {
        for version in ["1.0", "1.1"] {
            assert_refused(format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n").as_bytes(), 400);
        }
    }
}

#[test]
fn good_hosts_pass() {
    let hosts = [
        "a",
        "A.b-c.example",
        "xn--bcher-kva",
        "my_host",
        "localhost:0",
        "a:80",
        "a:65535",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "a.",
        "~user",
    ];
    for host in hosts {
        let head = request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(head.host(), host);
    }
}

#[test]
fn framing_is_read() {
    let table: &[(&[u8], BodyFraming)] = &[
        (b"Content-Length: 0", BodyFraming::Length(0)),
        (b"content-LENGTH:\t005 ", BodyFraming::Length(5)),
        (b"Content-Length: 9223372036854775807", BodyFraming::Length(i64::MAX as u64)),
        (b"Transfer-Encoding: chunked", BodyFraming::Chunked),
        (b"TRANSFER-encoding: \t CHUNKED\t", BodyFraming::Chunked),
        (b"X-Content-Length: 5", BodyFraming::Empty),
    ];
    for (line, framing) in table {
        let head = request(&with_line(line));
        assert_eq!(head.framing(), *framing);
        assert_eq!(head.has_body(), !matches!(framing, BodyFraming::Empty | BodyFraming::Length(0)));
    }
}

#[test]
fn garbage_is_refused_at_its_first_byte() {
    let table: &[(&[u8], usize)] = &[
        (b"\x16\x03\x01", 1),
        (b"\x00", 1),
        (b"\n", 1),
        (b"\r\r", 2),
        (b"\r\n\r", 3),
        (b"GET /\x00", 6),
        (b"GET / HTTQ", 10),
        (b"GET / HTTP/1.1\n", 15),
        (b"PRI * HTTP/2.0\r", 15),
        (b"GET / HTTP/1.1\r\n ", 17),
        (b"GET / HTTP/1.1\r\nA ", 18),
        (b"GET / HTTP/1.1\r\nA: \x00", 20),
        (b"GET / HTTP/1.1\r\nA: b\n", 21),
        (b"CONNECT ", 8),
    ];
    for (bytes, expected) in table {
        match read_bytewise(bytes, &HeadLimits::default()) {
            Err((_, came_at)) => assert_eq!(came_at, *expected, "{}", bytes.escape_ascii()),
            Ok(_) => panic!("{} passed", bytes.escape_ascii()),
        }
    }
}

fn long_target(len: usize) -> Vec<u8> {
    let target = "/".repeat(len);
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn limits_hold_to_the_byte_however_the_head_arrives() {
    let limits = HeadLimits { max_head_bytes: 200, max_headers: 3, max_url_bytes: 50 };
    let padded = |len: usize| {
        let start = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
        let padding = vec![b'x'; len - start.len() - 4];
        [start, padding, b"\r\n\r\n".to_vec()].concat()
    };
    let fields = |count: usize| {
        let more = "X: y\r\n".repeat(count - 1);
        format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n").into_bytes()
    };
    let table = [
        (long_target(50), None),
        (long_target(51), Some((414, "max_url_bytes"))),
        (padded(200), None),
        (padded(201), Some((431, "max_head_bytes"))),
        (fields(3), None),
        (fields(4), Some((431, "max_headers"))),
        // A limit passed by bytes that are not complete yet.
        (long_target(51)[..4 + 51].to_vec(), Some((414, "max_url_bytes"))),
        (padded(250)[..201].to_vec(), Some((431, "max_head_bytes"))),
        (fields(4)[..fields(3).len() - 1].to_vec(), Some((431, "max_headers"))),
    ];
    for (bytes, expected) in table {
        let whole = HeadReader::new().read_request(&bytes, &limits).map(|_| ());
        let bytewise = read_bytewise(&bytes, &limits).map(|_| ()).map_err(|(refusal, _)| refusal);
        assert_eq!(whole, bytewise);
        match expected {
            None => assert_eq!(whole, Ok(())),
            Some((status, option)) => {
                let refusal = whole.unwrap_err();
                assert_eq!(refusal.status, status);
                assert!(refusal.reason.contains(option), "{}", refusal.reason);
            }
        }
    }
}

#[test]
fn what_follows_a_head_does_not_count_against_it() {
    let limits = HeadLimits { max_head_bytes: 40, max_headers: 1, max_url_bytes: 5 };
    let bytes = [&b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &[0; 1000]].concat();
    assert_eq!(HeadReader::new().read_request(&bytes, &limits).unwrap().unwrap().0, 28);
}

#[test]
fn default_limits_pass_what_they_promise() {
    assert_eq!(request(&long_target(16 * 1024)).target().len(), 16 * 1024);
    assert_refused(&long_target(16 * 1024 + 1), 414);
    let fields: String = (1..128).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let head = request(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    assert_eq!(head.fields().count(), 128);
    assert_refused(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}Y: z\r\n\r\n").as_bytes(), 431);
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let table = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:,,\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ];
    for (version, line, expected) in table {
        let head = request(format!("GET / HTTP/{version}\r\nHost: a\r\n{line}\r\n").as_bytes());
        assert_eq!(head.keep_alive(), expected, "{version} {line}");
    }
}

#[test]
fn continue_is_expected_by_http11_with_a_body() {
    let table = [
        ("1.1", "Expect: 100-Continue\r\nContent-Length: 1\r\n", true),
        ("1.1", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", true),
        ("1.1", "Expect: 100-continue\r\n", false),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", false),
        ("1.1", "Content-Length: 1\r\n", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", false),
    ];
    for (version, lines, expected) in table {
        let head = request(format!("PUT / HTTP/{version}\r\nHost: a\r\n{lines}\r\n").as_bytes());
        assert_eq!(head.expects_continue(), expected, "{version} {lines}");
    }
}

#[test]
fn a_websocket_is_wanted_only_by_the_whole_phrase() {
    let table = [
        ("GET / HTTP/1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", true),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", true),
        ("GET / HTTP/1.1", "Connection: upgrade\r\n", false),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgraded\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websockets\r\n", false),
        ("POST / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
        ("GET / HTTP/1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
    ];
    for (line, fields, expected) in table {
        let head = request(format!("{line}\r\nHost: a\r\n{fields}\r\n").as_bytes());
        assert_eq!(head.wants_websocket(), expected, "{line} {fields}");
    }
}

#[test]
fn many_equal_fields_are_read_in_linear_time_and_kept_apart() {
    let line = format!("Cookie: {}\r\n", "a=b; ".repeat(200));
    let head = request(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", line.repeat(100)).as_bytes());
    assert_eq!(head.fields().filter(|(name, _)| *name == "Cookie").count(), 100);
}

#[test]
fn a_response_is_read() {
    let head = response(b"HTTP/1.1 404 N\xc3\xb6 Way\r\nContent-Length: 2\r\nX: y\r\n\r\n");
    assert_eq!((head.status(), &*head.reason(), head.version()), (404, "N\u{f6} Way", Version::Http11));
    assert_eq!(head.get("x"), Some(&b"y"[..]));
    assert_eq!(head.fields().count(), 2);
    assert_eq!(head.framing("GET"), BodyFraming::Length(2));
    assert_eq!(head.framing("HEAD"), BodyFraming::Empty);
    assert!(head.keep_alive());
    assert_eq!(response(b"HTTP/1.0 200 \r\n\r\n").reason(), "");
    assert_eq!(response(b"HTTP/1.0 200\r\n\r\n").framing("GET"), BodyFraming::UntilClose);
    assert!(!response(b"HTTP/1.0 200\r\n\r\n").keep_alive());
    for status in ["101", "204", "304"] {
        let head = response(format!("HTTP/1.1 {status} X\r\nContent-Length: 9\r\n\r\n").as_bytes());
        assert_eq!(head.framing("GET"), BodyFraming::Empty);
    }
    let chunked = response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
    assert_eq!(chunked.framing("POST"), BodyFraming::Chunked);
}

#[test]
fn bad_responses_are_refused() {
    let table: &[(u16, &[u8])] = &[
        (400, b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        (400, b"HTTP/1.1  200 OK\r\n\r\n"),
        (400, b"HTTP/1.1 20 OK\r\n\r\n"),
        (400, b"HTTP/1.1 2000 OK\r\n\r\n"),
        (400, b"HTTP/1.1 099 OK\r\n\r\n"),
        (400, b"HTTP/1.1 +20 OK\r\n\r\n"),
        (400, b"HTTP/1.1 200 O\x00K\r\n\r\n"),
        (400, b"HTTP/1.1 200 OK\n\r\n"),
        (400, b"HTTP/1.1 200 OK\rX\r\n"),
        (400, b"ICY 200 OK\r\n\r\n"),
        (505, b"HTTP/2.0 200 OK\r\n\r\n"),
        (400, b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n"),
        (400, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
        (400, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (501, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ];
    for (status, bytes) in table {
        let whole = HeadReader::new().read_response(bytes, &HeadLimits::default());
        assert_eq!(whole.unwrap_err().status, *status, "{}", bytes.escape_ascii());
        let mut reader = HeadReader::new();
        let bytewise =
            (1..=bytes.len()).find_map(|end| reader.read_response(&bytes[..end], &HeadLimits::default()).err());
        assert_eq!(bytewise.unwrap().status, *status);
    }
}

fn line(status: u16) -> ResponseLine<'static> {
    ResponseLine { status, reason: None, version: Version::Http11 }
}

fn encode(
    head: &ResponseLine,
    fields: &[(&str, &str)],
    content: Content,
    keep_alive: bool,
) -> Result<(String, bool), FieldError> {
    let mut out = b"before".to_vec();
    let goes_on = encode_response_head(&mut out, head, fields, content, DATE, keep_alive);
    let text = String::from_utf8(out.split_off(6)).unwrap();
    assert_eq!(out, b"before");
    if goes_on.is_err() {
        assert_eq!(text, "", "nothing is appended on error");
    }
    goes_on.map(|goes_on| (text, goes_on))
}

#[test]
fn a_response_head_is_written() {
    let (text, goes_on) = encode(&line(200), &[("X-A", "b")], Content::Length(12), true).unwrap();
    assert_eq!(text, "HTTP/1.1 200 OK\r\nX-A: b\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 12\r\n\r\n");
    assert!(goes_on);
}

#[test]
fn content_decides_the_framing_fields() {
    let has = |text: &str, name: &str| text.contains(name);
    let (text, _) = encode(&line(200), &[], Content::Chunked, true).unwrap();
    assert!(has(&text, "Transfer-Encoding: chunked\r\n") && !has(&text, "Content-Length"));
    for status in [204, 304, 101] {
        let (text, _) = encode(&line(status), &[], Content::None, true).unwrap();
        assert!(!has(&text, "Transfer-Encoding") && !has(&text, "Content-Length"));
    }
    let (text, _) = encode(&line(204), &[], Content::Length(0), true).unwrap();
    assert!(!has(&text, "Content-Length"));
    let (text, _) = encode(&line(304), &[], Content::Length(7), true).unwrap();
    assert!(has(&text, "Content-Length: 7\r\n"));
    for (status, content) in
        [(204, Content::Length(1)), (101, Content::Length(1)), (204, Content::Chunked), (304, Content::Chunked)]
    {
        let refused = encode(&line(status), &[], content, true);
        assert_eq!(refused, Err(FieldError::ContentForbidden(status)));
    }
}

#[test]
fn connection_is_said_when_it_must_be() {
    let http10 = ResponseLine { version: Version::Http10, ..line(200) };
    let length = Content::Length(1);
    let table = [
        (line(200), "", length, true, "", true),
        (line(200), "", length, false, "Connection: close\r\n", false),
        (line(200), "close", length, true, "Connection: close\r\n", false),
        (line(200), "Keep-Alive", length, true, "", true),
        (line(200), "keep-alive", length, false, "Connection: close\r\n", false),
        (http10, "", length, true, "Connection: keep-alive\r\n", true),
        (http10, "", length, false, "Connection: close\r\n", false),
        (http10, "", Content::Chunked, true, "Connection: close\r\n", false),
        (line(100), "", Content::None, false, "", false),
        (line(101), "Upgrade", Content::None, true, "Connection: Upgrade\r\n", true),
    ];
    for (head, given, content, keep_alive, expected, goes_on) in table {
        let field = [("connection", given)];
        let fields = if given.is_empty() { &[][..] } else { &field[..] };
        let (text, said) = encode(&head, fields, content, keep_alive).unwrap();
        let lines = text.to_lowercase();
        let found: String = lines.split_inclusive("\r\n").filter(|l| l.starts_with("connection")).collect();
        assert_eq!(found, expected.to_lowercase());
        assert_eq!(said, goes_on);
    }
    let (text, _) = encode(&http10, &[], Content::Chunked, true).unwrap();
    assert!(!text.contains("Transfer-Encoding"));
}

#[test]
fn a_date_of_the_application_replaces_ours() {
    let (text, _) = encode(&line(200), &[("DATE", "today")], Content::Length(0), true).unwrap();
    assert!(text.contains("DATE: today\r\n") && !text.contains("1994"));
}

#[test]
fn framing_fields_of_the_application_must_agree() {
    let ok = |fields: &[(&str, &str)], content| encode(&line(200), fields, content, true).unwrap().0;
    let text = ok(&[("content-length", "12")], Content::Length(12));
    assert_eq!(text.to_lowercase().matches("content-length").count(), 1);
    let text = ok(&[("transfer-encoding", "Chunked")], Content::Chunked);
    assert_eq!(text.to_lowercase().matches("transfer-encoding").count(), 1);
    let refused = [
        ("Content-Length", "13", Content::Length(12)),
        ("Content-Length", "+12", Content::Length(12)),
        ("Content-Length", "12, 12", Content::Length(12)),
        ("Content-Length", "12", Content::Chunked),
        ("Content-Length", "0", Content::None),
        ("Transfer-Encoding", "chunked", Content::Length(12)),
        ("Transfer-Encoding", "gzip, chunked", Content::Chunked),
        ("Connection", "Upgrade", Content::Length(12)),
        ("Connection", "X-A", Content::Length(12)),
    ];
    for (name, value, content) in refused {
        let error = encode(&line(200), &[(name, value)], content, true).unwrap_err();
        assert!(matches!(error, FieldError::Conflict { .. }), "{name}: {value}");
        assert!(error.to_string().contains(value), "{error}");
    }
}

#[test]
fn a_response_cannot_be_split() {
    let bad_values = ["a\r\nX: y", "a\nb", "a\rb", "a\0b", "a\x0bb", "\x7f", "\x1b[0m"];
    for value in bad_values {
        let error = encode(&line(200), &[("X", value)], Content::Length(0), true).unwrap_err();
        assert!(matches!(error, FieldError::Value { .. }));
        assert!(!error.to_string().contains(['\r', '\n', '\0', '\x1b']), "{error}");
        let head = ResponseLine { reason: Some(value), ..line(200) };
        assert_eq!(encode(&head, &[], Content::Length(0), true), Err(FieldError::Reason(value.into())));
    }
    for name in ["", "X Y", "X:", "X\r\nY", "X\n", "\u{e9}", "X\0", " X"] {
        let refused = encode(&line(200), &[("A", "b"), (name, "v")], Content::Length(0), true);
        assert_eq!(refused, Err(FieldError::Name(name.into())));
    }
    for status in [0, 99, 1000, 65535] {
        assert_eq!(encode(&line(status), &[], Content::Length(0), true), Err(FieldError::Status(status)));
    }
}

#[test]
fn a_reason_may_be_chosen_left_out_or_empty() {
    let first_line = |reason, status| {
        let head = ResponseLine { reason, ..line(status) };
        let (text, _) = encode(&head, &[], Content::Length(0), true).unwrap();
        text.split("\r\n").next().unwrap().to_owned()
    };
    assert_eq!(first_line(None, 418), "HTTP/1.1 418 ");
    assert_eq!(first_line(None, 431), "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(first_line(Some(""), 200), "HTTP/1.1 200 ");
    assert_eq!(first_line(Some("Fine\tby me"), 999), "HTTP/1.1 999 Fine\tby me");
}

#[test]
fn phrases_are_the_registered_ones() {
    let table = [
        (308, "Permanent Redirect"),
        (413, "Content Too Large"),
        (421, "Misdirected Request"),
        (422, "Unprocessable Content"),
        (425, "Too Early"),
        (426, "Upgrade Required"),
        (428, "Precondition Required"),
        (429, "Too Many Requests"),
        (451, "Unavailable For Legal Reasons"),
        (511, "Network Authentication Required"),
        (299, ""),
        (999, ""),
    ];
    for (status, phrase) in table {
        assert_eq!(reason_phrase(status), phrase);
    }
}

#[test]
fn a_request_head_is_written() {
    let mut out = Vec::new();
    encode_request_head(&mut out, "GET", "/a?b", &[("Host", "a"), ("X", "")]).unwrap();
    assert_eq!(out, b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n");
    for (method, target, name, value) in [
        ("", "/", "X", "y"),
        ("G T", "/", "X", "y"),
        ("GET\r\n", "/", "X", "y"),
        ("GET", "", "X", "y"),
        ("GET", "/ b", "X", "y"),
        ("GET", "/#b", "X", "y"),
        ("GET", "/\r\n", "X", "y"),
        ("GET", "/\u{e9}", "X", "y"),
        ("GET", "/", "X:", "y"),
        ("GET", "/", "X", "y\r\nZ: z"),
    ] {
        let mut out = b"before".to_vec();
        let error = encode_request_head(&mut out, method, target, &[(name, value)]).unwrap_err();
        assert!(!error.to_string().contains(['\r', '\n']), "{error}");
        assert_eq!(out, b"before");
    }
}
