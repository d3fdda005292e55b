"""Requests that must be refused: the right status, the end of the connection, nothing in Python, and life goes on.

Each is said to a real server over a real socket; `wire/` has the same grammar without one. Where a case comes from an
attack that worked on another server, it says which.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from portico.request import Request

from .conftest import Live, Serve
from .wire_client import DEADLINE_S, Client, Reply, handshake, request

START = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# What an attacker hides behind a refused request, in the hope that it is taken for the next one.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def refuse(live: Live, data: bytes, status: int) -> None:
    """`data` is answered with `status` and the end; the first call that reaches Python is the next connection's."""
    with live.connect() as client:
        client.send(data)
        check_error(client.receive_last_reply(), status)
    check_next(live)


def check_error(reply: Reply, status: int) -> None:
    """One line of plain text that says what was wrong."""
    assert reply.status == status
    assert reply["Content-Type"] == "text/plain; charset=utf-8"
    assert re.fullmatch(rf"{status} {reply.reason}: \w[^\n]+[^.\n]\n", reply.body.decode()), reply.body


def check_next(live: Live) -> None:
    assert live.ask("GET", "/next").body == b"/next"
    assert live.app.drain() == [("GET", "/next")]


# Lines. A proxy in front may take a bare LF or CR, a folded line or a space for something else than we do; whoever
# finds two readings of one request can hide a second one in it (the smuggling attacks on waitress, aiohttp, gunicorn).

LINES = {
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "bare LF after a field": (START + b"A: b\nC: d\r\n\r\n", 400),
    "bare LF at the end": (START + b"\n" + SMUGGLED, 400),
    "bare CR in the request line": (b"GET / HTTP/1.1\rHost: localhost\r\n\r\n", 400),
    "bare CR in a value": (START + b"A: b\rTransfer-Encoding: chunked\r\n\r\n", 400),
    "bare CR at the end": (START + b"\r" + SMUGGLED, 400),
    "CR CR LF": (START + b"A: b\r\r\n\r\n", 400),
    "obs-fold with a space": (START + b"A: b\r\n c\r\n\r\n", 400),
    "obs-fold with a tab": (START + b"A: b\r\n\tc\r\n\r\n", 400),
    "folded first field": (b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    "space before the colon": (START + b"A : b\r\n\r\n", 400),
    "tab before the colon": (START + b"A\t: b\r\n\r\n", 400),
    "space before the colon of a framing field": (POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    "space inside a name": (START + b"A B: c\r\n\r\n", 400),
    "empty name": (START + b": b\r\n\r\n", 400),
    "no colon": (START + b"nonsense\r\n\r\n", 400),
    "NUL in a name": (START + b"A\0: b\r\n\r\n", 400),
    "NUL in a value": (START + b"A: b\0c\r\n\r\n", 400),
    "NUL in the method": (b"G\0ET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    # waitress and gunicorn trimmed vertical tabs like spaces: "\x0bchunked" was chunked to one reader only.
    "vertical tab in a value": (START + b"A: \x0bb\r\n\r\n", 400),
    "form feed in a value": (START + b"A: b\x0c\r\n\r\n", 400),
    "DEL in a value": (START + b"A: b\x7f\r\n\r\n", 400),
    "bell in a value": (START + b"A: \x07\r\n\r\n", 400),
    # uvicorn wrote the target as it came into its log: escape sequences then speak to the terminal that shows it.
    "escape in the target": (b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a name beyond ASCII": (START + "Ä: b\r\n\r\n".encode(), 400),
    "a name with a separator": (START + b"A(b): c\r\n\r\n", 400),
    "two empty lines in front": (b"\r\n\r\n" + START + b"\r\n", 400),
    "white space in front": (b" " + START + b"\r\n", 400),
    "two spaces after the method": (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "two spaces after the target": (b"GET /  HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "tab instead of a space": (b"GET\t/\tHTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "something after the version": (b"GET / HTTP/1.1 x\r\nHost: localhost\r\n\r\n", 400),
    "lower-case version": (b"GET / http/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a fragment in the target": (b"GET /#a HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a target beyond ASCII": ("GET /ä HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), 400),
    "a target without a slash": (b"GET index.html HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a target of another scheme": (b"GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "an asterisk that is not for OPTIONS": (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a separator in the method": (b"GE(T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "a method longer than any": (b"A" * 100 + b" / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
    "CONNECT": (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n", 501),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: localhost\r\n\r\n", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9\r\n\r\n", 505),
    "HTTP/11": (b"GET / HTTP/11\r\nHost: localhost\r\n\r\n", 400),
    "an unknown expectation": (POST + b"Content-Length: 1\r\nExpect: 200-ok\r\n\r\nx", 417),
    "two expectations": (POST + b"Content-Length: 1\r\nExpect: 100-continue, x\r\n\r\nx", 417),
}


@pytest.mark.parametrize(("data", "status"), LINES.values(), ids=LINES)
def test_malformed_head_is_refused(recorder: Live, data: bytes, status: int) -> None:
    refuse(recorder, data, status)


# Host. An absent or second one lets proxy and app route by different names; aiohttp and starlette took bad ones, and
# built URLs from them whose path was the attacker's choice.

HOSTS = {
    "none": b"",
    "empty": b"Host:\r\n",
    "two": b"Host: localhost\r\nHost: evil.example\r\n",
    "two equal ones": b"Host: localhost\r\nHost: localhost\r\n",
    "a slash": b"Host: localhost/x\r\n",
    "a user": b"Host: localhost@evil.example\r\n",
    "a query": b"Host: localhost?x\r\n",
    "a fragment": b"Host: localhost#x\r\n",
    "a backslash": b"Host: localhost\\x\r\n",
    "a space": b"Host: local host\r\n",
    "a list": b"Host: localhost, evil.example\r\n",
    "a percent escape": b"Host: localhost%2fx\r\n",
    "an empty port": b"Host: localhost:\r\n",
    "a port with a sign": b"Host: localhost:+80\r\n",
    "a port that is too large": b"Host: localhost:65536\r\n",
    "two ports": b"Host: localhost:80:80\r\n",
    "no name": b"Host: :80\r\n",
    "an open bracket": b"Host: [::1\r\n",
    "not an IPv6 address": b"Host: [localhost]\r\n",
    # aiohttp read other scripts' digits as numbers, in ports too.
    "a port of Arabic digits": "Host: localhost:٨٠\r\n".encode(),
    "a name beyond ASCII": "Host: löcalhost\r\n".encode(),
}


@pytest.mark.parametrize("field", HOSTS.values(), ids=HOSTS)
def test_bad_host_is_refused(recorder: Live, field: bytes) -> None:
    refuse(recorder, b"GET / HTTP/1.1\r\n" + field + b"\r\n", 400)


def test_absolute_target_must_agree_with_host(recorder: Live) -> None:
    refuse(recorder, b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400)
    refuse(recorder, b"GET http://localhost@evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400)


# Where the body ends. aiohttp, waitress, gunicorn, twisted and h11 each took one of these for a number or a coding that
# a proxy read otherwise, and answered the rest of the body as a request of its own.

LENGTHS = {
    "plus": b"+5",
    "minus": b"-5",
    "a space inside": b"5 0",
    "a list": b"5, 5",
    "hexadecimal": b"0x5",
    "an underscore": b"5_0",
    "a point": b"5.0",
    "an exponent": b"5e0",
    "empty": b"",
    "a quoted number": b'"5"',
    "Arabic digits": "٥".encode(),
    "superscript": "²".encode(),
    "a vertical tab": b"\x0b5",
    "2^63": b"9223372036854775808",
    "2^64+5": b"18446744073709551621",
    "a hundred digits": b"9" * 100,
}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_bad_content_length_is_refused(recorder: Live, length: bytes) -> None:
    refuse(recorder, POST + b"Content-Length: " + length + b"\r\n\r\nhello" + SMUGGLED, 400)


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_second_content_length_is_refused(recorder: Live, second: bytes) -> None:
    refuse(recorder, POST + b"Content-Length: 5\r\nContent-Length: " + second + b"\r\n\r\nhello" + SMUGGLED, 400)


CODINGS = {
    "another coding": (b"Transfer-Encoding: gzip\r\n", 501),
    "an unknown coding": (b"Transfer-Encoding: xchunked\r\n", 501),
    "identity": (b"Transfer-Encoding: identity\r\n", 400),
    "chunked last": (b"Transfer-Encoding: gzip, chunked\r\n", 400),
    "chunked first": (b"Transfer-Encoding: chunked, identity\r\n", 400),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked\r\n", 400),
    "two fields": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    "two different fields": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
    "a vertical tab": (b"Transfer-Encoding: \x0bchunked\r\n", 400),
    "a parameter": (b"Transfer-Encoding: chunked;q=1\r\n", 400),
    "quoted": (b'Transfer-Encoding: "chunked"\r\n', 400),
    "empty": (b"Transfer-Encoding:\r\n", 400),
    "a comma": (b"Transfer-Encoding: ,chunked\r\n", 400),
    "with a length after it": (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    "with a length before it": (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
    "with a length of 0": (b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
    "another coding with a length": (b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", 400),
}


@pytest.mark.parametrize(("fields", "status"), CODINGS.values(), ids=CODINGS)
def test_transfer_encoding_other_than_chunked_is_refused(recorder: Live, fields: bytes, status: int) -> None:
    refuse(recorder, POST + fields + b"\r\n5\r\nhello\r\n0\r\n\r\n" + SMUGGLED, status)


def test_transfer_encoding_in_http_1_0_is_refused(recorder: Live) -> None:
    head = b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    refuse(recorder, head + b"5\r\nhello\r\n0\r\n\r\n", 400)


CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "not a number": b"x\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "a space in front": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "a tab behind": b"5\t\r\nhello\r\n0\r\n\r\n",
    "Arabic digits": "٥\r\nhello\r\n0\r\n\r\n".encode(),
    "17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    # aiohttp's Python parser and h11 did not look at what ends a chunk: data behind it was read as the next size.
    "a chunk longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "bare LF after a chunk": b"5\r\nhello\n0\r\n\r\n",
    "bare CR after a chunk": b"5\r\nhello\r0\r\n\r\n",
    "other bytes instead of CR LF": b"5\r\nhelloxx0\r\n\r\n",
    # A line feed in an extension ends the line for one reader and not for the other (aiohttp, gunicorn).
    "bare LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;\0\r\nhello\r\n0\r\n\r\n",
    "long extensions": b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    "long extensions in pieces": b"".join(b"1;" + b"a" * 50 + b"\r\nx\r\n" for _ in range(200)) + b"0\r\n\r\n",
    # Padding that costs the sender little and the receiver work (aiohttp's tiny chunks).
    "mostly framing": b"".join(b"0000000000000001;aaa\r\nx\r\n" for _ in range(3000)) + b"0\r\n\r\n",
    "a trailer without a colon": b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "bare LF in a trailer": b"0\r\nA: b\n\r\n\r\n",
    "a space before a trailer's colon": b"0\r\nA : b\r\n\r\n",
    # A trailer that reframes the message would undo everything decided by its head.
    "Content-Length as a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "Transfer-Encoding as a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "Host as a trailer": b"0\r\nHost: evil.example\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_malformed_chunks_are_refused(recorder: Live, chunks: bytes) -> None:
    refuse(recorder, CHUNKED + chunks + SMUGGLED, 400)


def test_unbounded_trailers_are_refused(recorder: Live) -> None:
    # aiohttp counted neither the bytes nor the fields of the trailer section.
    refuse(recorder, CHUNKED + b"0\r\n" + b"".join(b"A%d: b\r\n" % index for index in range(100)) + b"\r\n", 431)
    refuse(recorder, CHUNKED + b"0\r\nA: " + b"b" * 10_000 + b"\r\n\r\n", 431)


def test_body_that_is_cut_short_is_not_a_request(recorder: Live) -> None:
    # Taking what has come for the whole lets whoever cuts the connection choose what was said (h11, aiohttp).
    short = POST + b"Content-Length: 10\r\n\r\nhello"
    for data in (short, CHUNKED + b"5\r\nhello\r\n", CHUNKED + b"5\r\nhello\r\n0\r\n"):
        with recorder.connect() as client:
            client.send(data)
            client.end()
            assert client.receive_rest() == b""
    check_next(recorder)


# Sizes. Checked against what has arrived, before it is complete, however it arrives.


def test_oversize_head_is_refused(small: Live) -> None:
    refuse(small, START + b"A: " + b"b" * 5000 + b"\r\n\r\n", 431)
    refuse(small, START + b"A: " + b"b" * 5000, 431)
    refuse(small, START + b"A" * 5000, 431)


def test_too_many_fields_are_refused(small: Live) -> None:
    # Node's ws crashed when there were more header fields than it counts.
    refuse(small, START + b"".join(b"A%d: b\r\n" % index for index in range(20)) + b"\r\n", 431)
    lines = (f"A{index}: b" for index in range(30))
    refuse(small, handshake("/", *lines), 431)


def test_oversize_handshake_is_refused(small: Live) -> None:
    # tungstenite searched an endless handshake from its beginning with every segment.
    refuse(small, handshake("/", "A: " + "b" * 10_000)[:-4], 431)


def test_head_limit_holds_over_many_segments(small: Live) -> None:
    # aiohttp measured each segment alone: a head in small ones had no limit.
    with small.connect() as client:
        client.send(START)
        for index in range(500):
            try:
                client.send(b"A%d: %s\r\n" % (index % 10, b"b" * 500))
            except ConnectionError:
                break
        assert client.receive_last_reply().status == 431
    check_next(small)


def test_oversize_target_is_refused(small: Live) -> None:
    refuse(small, b"GET /" + b"a" * 1024 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414)
    refuse(small, b"GET /" + b"a" * 1100, 414)


def test_target_at_its_limit_is_served(small: Live) -> None:
    assert small.ask("GET", "/" + "a" * 1023).status == 200


def test_oversize_body_is_refused(small: Live) -> None:
    # Refused by the announcement: not a byte of it need come.
    refuse(small, POST + b"Content-Length: 1001\r\n\r\n", 413)
    refuse(small, POST + b"Content-Length: 9223372036854775807\r\n\r\n", 413)
    refuse(small, POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413)
    refuse(small, CHUNKED + b"3e9\r\n", 413)
    refuse(small, CHUNKED + b"ffffffffffffffff\r\n", 413)
    refuse(small, CHUNKED + (b"64\r\n" + b"x" * 100 + b"\r\n") * 11, 413)


def test_body_at_its_limit_is_served(small: Live) -> None:
    body = b"x" * 1000
    assert small.ask("POST", "/", "Content-Length: 1000", body=body).body == body
    with small.connect() as client:
        client.send(CHUNKED, (b"64\r\n" + b"x" * 100 + b"\r\n") * 10, b"0\r\n\r\n")
        assert client.receive_reply().body == body


# Time. A client that says half a request must not keep its connection for ever (slow loris).

UNFINISHED = {
    "half a request line": b"GET / HT",
    "half a field": START + b"A: b",
    "no empty line": START,
    "half a body": POST + b"Content-Length: 10\r\n\r\nhello",
    "no body": POST + b"Content-Length: 10\r\n\r\n",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "half a trailer": CHUNKED + b"0\r\nA: b",
    "half a handshake": handshake()[:-2],
}


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
def test_unfinished_request_times_out(hasty: Live, data: bytes) -> None:
    refuse(hasty, data, 408)


def test_silent_connection_is_closed_without_an_answer(hasty: Live) -> None:
    with hasty.connect() as client:
        assert client.receive_rest() == b""
    check_next(hasty)


def test_idle_connection_is_closed_after_its_answer(hasty: Live) -> None:
    with hasty.connect() as client:
        client.send(request())
        assert client.receive_reply().status == 200
        assert client.receive_rest() == b""


def test_head_timeout_is_not_renewed_by_more_bytes(hasty: Live) -> None:
    with hasty.connect() as client:
        began = time.monotonic()
        client.send(b"GET / HTTP/1.1\r\nA: ")
        while client.is_silent(0.02):
            assert time.monotonic() < began + DEADLINE_S
            client.send(b"b")
        assert time.monotonic() - began < 2
        assert client.receive_last_reply().status == 408
    check_next(hasty)


# How the bytes arrive must not matter.

BYTEWISE = {
    name: cases[name]
    for cases, names in (
        (LINES, ["bare LF after a field", "obs-fold with a space", "space before the colon", "NUL in a value"]),
        (CODINGS, ["with a length before it", "chunked first"]),
    )
    for name in names
} | {f"chunk: {name}": (CHUNKED + CHUNKS[name], 400) for name in ("0x", "bare LF in an extension", "a folded trailer")}


@pytest.mark.parametrize(("data", "status"), BYTEWISE.values(), ids=BYTEWISE)
def test_malformed_request_is_refused_byte_by_byte(recorder: Live, data: bytes, status: int) -> None:
    with recorder.connect() as client:
        client.send_bytewise(data)
        assert client.receive_last_reply().status == status
    check_next(recorder)


def test_oversize_head_is_refused_byte_by_byte(small: Live) -> None:
    with small.connect() as client:
        client.send_bytewise(START + b"A: " + b"b" * 5000)
        assert client.receive_last_reply().status == 431
    check_next(small)


def test_good_request_is_served_byte_by_byte(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send_bytewise(CHUNKED + b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n" + request("GET", "/second"))
        assert [client.receive_reply().body, client.receive_reply().body] == [b"hello", b"/second"]


# Behind a good request.


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"\0" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x81\x85abcdhello", b" " + SMUGGLED]
)
def test_good_request_before_garbage_is_answered_first(recorder: Live, garbage: bytes) -> None:
    with recorder.connect() as client:
        client.send(request("GET", "/good"), garbage)
        assert client.receive_reply().body == b"/good"
        assert client.receive_last_reply().status == 400
    assert recorder.app.drain() == [("GET", "/good")]
    check_next(recorder)


def test_nothing_is_run_behind_a_refused_request(recorder: Live) -> None:
    # waitress's I/O thread read ahead: the request behind a refused one was handled although the channel was closed.
    refuse(recorder, START + b"A : b\r\n\r\n" + SMUGGLED * 10, 400)


def test_nothing_is_run_behind_connection_close(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(request("GET", "/last", "Connection: close"), SMUGGLED)
        assert client.receive_last_reply().body == b"/last"
    assert recorder.app.drain() == [("GET", "/last")]


def test_nothing_is_run_behind_an_unread_body(serve: Serve) -> None:
    # The body of a request that is answered by its head alone must not be taken for the next request.
    calls = []

    def call(req: Request) -> str:
        calls.append(req.uri)
        return "called"

    live = serve({"on_headers": lambda req: "early" if req.uri == "/early" else None, "call": call})
    with live.connect() as client:
        client.send(request("POST", "/early", f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED))
        assert client.receive_last_reply().body == b"early"
    assert live.ask("GET", "/next").body == b"called"
    assert calls == ["/next"]


@pytest.mark.parametrize("target", ["/early", "/inline", "/gone"])
def test_a_body_of_nothing_costs_no_connection(serve: Serve, target: str) -> None:
    # Browsers say Content-Length: 0 with each POST that has no body; nothing is left unread behind it.
    app = {
        "on_headers": lambda req: "early" if req.uri == "/early" else None,
        "static_paths": {"/gone": Path(__file__).parent},
    }
    live = serve(app, inline={"/inline": ("text/plain", "native")})
    with live.connect() as client:
        client.send(request("GET", target, "Content-Length: 0") * 2)
        first, second = client.receive_reply(), client.receive_reply()
    assert (first["Connection"], first.status, first.body) == (None, second.status, second.body)


def test_pipeline_is_not_read_without_end(serve: Serve) -> None:
    # aiohttp queued every request that came while its handler was busy, without a limit.
    live = serve(lambda req: "x", callbacks="service")
    before = live.server.stats()["requests"]
    with live.connect() as client:
        client.send(request())
        assert client.send_until_full(request("GET", "/more")) < 64 << 20
        client.reset()
        with live.connect() as other:
            other.send(b"garbage\r\n\r\n")
            assert other.receive_reply().status == 400  # by now the reset has been seen, too
    # The one that was in Python's hands is run; of those that were read ahead none is: their client has left.
    live.service_until(lambda: live.server.service(0) == 0)
    assert live.server.stats()["requests"] - before == 1


def test_stopped_server_leaves_no_work_behind(serve: Serve) -> None:
    live = serve(lambda req: "x", callbacks="service")
    with live.connect() as client:
        client.send(request())
        client.send_until_full(request("GET", "/more"))
        client.reset()
        live.server.stop()
    other = serve(lambda req: "x", callbacks="service")  # in the same home
    with other.connect() as client:
        client.send(b"garbage\r\n\r\n")
        assert client.receive_reply().status == 400
        before = other.server.stats()["turns"]
        assert not client.is_silent(0.1)
        assert other.server.stats()["turns"] - before < 100


# Clients that leave.


def leave_at(live: Live, state: str) -> Client:
    client = live.connect()
    if state == "half a head":
        client.send(START)
    elif state == "half a body":
        client.send(POST + b"Content-Length: 10\r\n\r\nhello")
    elif state == "a whole request":
        client.send(request())
    elif state == "a handshake":
        client.send(handshake())
    elif state == "a refused request":
        client.send(b"garbage\r\n\r\n")
        client.receive_reply()
    elif state == "an idle connection":
        client.send(request())
        client.receive_reply()
    return client


STATES = ["nothing said", "half a head", "half a body", "a whole request", "a handshake", "a refused request"]


@pytest.mark.parametrize("state", [*STATES, "an idle connection"])
@pytest.mark.parametrize("how", ["reset", "end"])
def test_client_that_leaves_disturbs_nobody(recorder: Live, state: str, how: str) -> None:
    # A reset at the wrong moment ended waitress's only I/O thread.
    for _ in range(5):
        with leave_at(recorder, state) as client:
            if how == "reset":
                client.reset()
            else:
                client.end()
    assert recorder.ask("GET", "/next").body == b"/next"


def test_half_closed_connection_costs_no_turns(serve: Serve) -> None:
    # waitress kept a processor busy with connections whose client had closed its half: they stay readable for ever.
    live = serve(lambda req: "late", callbacks="service")
    with live.connect() as client, live.connect() as paused:
        client.send(request())
        client.end()
        paused.send(request())
        paused.send_until_full(request())
        paused.end()
        with live.connect() as other:
            other.send(b"garbage\r\n\r\n")
            assert other.receive_reply().status == 400  # by now the watchman has seen all of it
        before = live.server.stats()["turns"]
        assert client.is_silent(0.3)
        assert live.server.stats()["turns"] - before < 30
        live.service_until(lambda: not client.is_silent())
        assert client.receive_last_reply().body == b"late"


def test_refused_client_that_goes_on_talking_reads_the_answer(small: Live) -> None:
    # Closing at once would send a reset, and a reset can overtake the answer (RFC 9112 §9.6).
    with small.connect() as client:
        client.send(POST + b"Content-Length: 100000\r\n\r\n")
        client.send(b"x" * 100_000)
        assert client.receive_last_reply().status == 413
    check_next(small)


def test_slow_handshake_header_list_is_linear(recorder: Live) -> None:
    # Node's ws spent quadratic time in a regular expression on the blanks of this field.
    for filler in (", " * 8000, " " * 16_000, "," * 16_000, "a " * 8000):
        began = time.monotonic()
        refuse(recorder, handshake("/", "Sec-WebSocket-Protocol: a" + filler + "\x7f"), 400)
        assert time.monotonic() - began < 1


def test_requests_from_many_clients_are_not_mixed(recorder: Live) -> None:
    # Django's channels mixed the scopes of requests that ran at the same time.
    clients = [recorder.connect() for _ in range(30)]
    try:
        for index, client in enumerate(clients):
            body = b"%d" % index * 1000
            client.send(request("POST", f"/{index}", f"Content-Length: {len(body)}"), body[:500])
        for index, client in enumerate(clients):
            client.send((b"%d" % index * 1000)[500:])
        for index, client in enumerate(clients):
            assert client.receive_reply().body == b"%d" % index * 1000
    finally:
        for client in clients:
            client.socket.close()


def test_refusal_names_the_option_that_changes_it(small: Live) -> None:
    for data, option in (
        (POST + b"Content-Length: 1001\r\n\r\n", b"max_body_bytes"),
        (START + b"A: " + b"b" * 5000, b"max_head_bytes"),
        (b"GET /" + b"a" * 1100, b"max_url_bytes"),
    ):
        with small.connect() as client:
            client.send(data)
            reply = client.receive_last_reply()
        assert option in reply.body
        assert reply["Content-Type"] == "text/plain; charset=utf-8"


def test_refusal_of_head_has_no_body(small: Live) -> None:
    for data, status in (
        (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n", 413),
    ):
        with small.connect() as client:
            client.send(data)
            reply = client.receive_last_reply("HEAD")  # which also sees that nothing follows
        assert reply.status == status and int(reply["Content-Length"] or 0) > 20
    # Nor does it stick: what is wrong with the next request is said.
    with small.connect() as client:
        client.send(request("HEAD", "/"), b"GET\r\n")
        assert client.receive_reply("HEAD").status == 200
        check_error(client.receive_last_reply(), 400)
