"""WebSocket conversations with a real server: handshakes, frames good and bad, pings, closings, both queues' bounds."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
import time
from typing import Any

import pytest

import portico
from portico import SendResult
from portico.websocket_connection import WebSocket

from .conftest import Live, Recorder, Serve, Sockets
from .wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Frame,
    Reply,
    close_payload,
    frame,
    frame_head,
    handshake,
)

LIMIT = 4096


def ask(live: Live, data: bytes) -> Reply:
    with live.connect() as client:
        client.send(data)
        return client.receive_reply()


def check_alive(live: Live) -> None:
    """A new connection works."""
    with live.open("/alive") as ws:
        ws.send_text("hello")
        assert ws.receive_text() == "hello"
        assert ws.close() == (1000, "")


# The handshake


def test_handshake(recorder: Live) -> None:
    with recorder.open("/chat?room=1") as ws:
        assert (ws.reply.status, ws.reply["Upgrade"], ws.reply["Connection"]) == (101, "websocket", "Upgrade")
        assert ws.reply["Sec-WebSocket-Extensions"] is None
        assert recorder.app.next() == ("open", "/chat?room=1")
        assert recorder.server.clients == 1
        assert ws.close() == (1000, "")
    assert recorder.app.next() == ("close", (1000, ""))


@pytest.mark.parametrize(
    ("upgrade", "connection"),
    [("WebSocket", "upgrade"), ("h2c, websocket", "keep-alive, Upgrade"), ("websocket", "UPGRADE,keep-alive")],
)
def test_handshake_names_are_lists_in_any_case(recorder: Live, upgrade: str, connection: str) -> None:
    data = handshake().replace(b": websocket", f": {upgrade}".encode())
    assert ask(recorder, data.replace(b"Connection: Upgrade", f"Connection: {connection}".encode())).status == 101


@pytest.mark.parametrize("version", [None, "", "0", "7", "8", "12", "14", "013", "13, 8", "thirteen"])
def test_other_versions_are_told_the_right_one(recorder: Live, version: str | None) -> None:
    reply = ask(recorder, handshake(version=version))
    assert (reply.status, reply["Sec-WebSocket-Version"]) == (426, "13")
    assert recorder.app.drain() == []


def encode(size: int) -> str:
    return base64.b64encode(b"k" * size).decode()


@pytest.mark.parametrize(
    "key", [None, "", "x", encode(15), encode(17), encode(16)[:-1], encode(16) + "=", encode(16) + " x", "!" * 24]
)
def test_bad_key_is_refused(recorder: Live, key: str | None) -> None:
    assert ask(recorder, handshake(key=key)).status == 400
    assert recorder.app.drain() == []


def test_two_keys_are_refused(recorder: Live) -> None:
    assert ask(recorder, handshake("/", f"Sec-WebSocket-Key: {encode(16)}")).status == 400
    assert recorder.app.drain() == []


@pytest.mark.parametrize("protocols", ["chät", "\xff\xfe", "a b", "a, a", "a\x80", '"a"', ",", ""])
def test_bad_subprotocols_are_refused(recorder: Live, protocols: str) -> None:
    # granian took the field's bytes for text and died of those that aren't, with all its connections.
    data = handshake("/", f"Sec-WebSocket-Protocol: {protocols}")
    assert ask(recorder, data).status == 400
    assert recorder.app.drain() == []
    check_alive(recorder)


@pytest.mark.parametrize("filler", [", " * 8190, "," * 16_384, " " * 16_384, "\t" * 16_384, " ," * 8190])
def test_endless_list_of_subprotocols_is_linear(recorder: Live, filler: str) -> None:
    # Node's ws spent quadratic time in a regular expression on this field.
    began = time.monotonic()
    with recorder.open("/", f"Sec-WebSocket-Protocol: a,{filler} b") as ws:
        assert ws.reply["Sec-WebSocket-Protocol"] is None
    assert time.monotonic() - began < 1


def test_thousands_of_subprotocols_are_linear(recorder: Live) -> None:
    names = ", ".join(f"p{index}" for index in range(10_000))
    began = time.monotonic()
    assert ask(recorder, handshake("/", f"Sec-WebSocket-Protocol: {names}")).status == 101
    assert time.monotonic() - began < 1


def test_handshake_by_other_methods_is_a_request(recorder: Live) -> None:
    # RFC 9110 §7.8: a server may ignore Upgrade.
    for method in (b"POST", b"HEAD"):
        with recorder.connect() as client:
            client.send(handshake("/post").replace(b"GET", method, 1))
            assert client.receive_reply(method.decode()).status == 200
    with recorder.connect() as client:
        client.send(handshake("/old").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.receive_reply().status == 200
    assert [call[1] for call in recorder.app.drain()] == ["/post", "/post", "/old"]


@pytest.mark.parametrize("line", ["Content-Length: 7", "Transfer-Encoding: chunked"])
def test_handshake_with_a_body_is_refused(recorder: Live, line: str) -> None:
    # A proxy would take these frames for the body, and whatever is in them for checked.
    with recorder.connect() as client:
        client.send(handshake("/", line) + frame(TEXT, b"x"))
        reply = client.receive_last_reply()
    assert (reply.status, reply.body) == (400, b"400 Bad Request: the handshake of a WebSocket has no body\n")
    assert recorder.app.calls.empty()


def test_handshake_with_a_body_of_nothing_is_one(recorder: Live) -> None:
    with recorder.open("/", "Content-Length: 0") as ws:
        ws.send_text("x")
        assert ws.receive_text() == "x"
        ws.close()


def test_handshake_that_nobody_wants_is_a_request(serve: Serve) -> None:
    assert ask(serve(lambda req: "plain"), handshake()).body == b"plain"


# Origin: any page may open a WebSocket to 127.0.0.1 and no rule of the browser stops it (the hijackings of engineio,
# bokeh, marimo), so the server must.


def test_own_and_absent_origin_may_open(recorder: Live) -> None:
    own = f"localhost:{recorder.server.port}"
    for origin in (f"http://{own}", f"HTTP://{own.upper()}"):
        data = handshake("/", f"Origin: {origin}").replace(b"Host: localhost", f"Host: {own}".encode())
        assert ask(recorder, data).status == 101
    assert ask(recorder, handshake("/", "Origin: http://localhost")).status == 101  # port 80, as Host says
    assert ask(recorder, handshake()).status == 101


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "localhost",
        "http://localhost:81",
        "http://localhost.evil.example",
        "http://evil.example/http://localhost",
        "http://evil.example#localhost",
        "http://localhost@evil.example",
        "http://localhost, http://evil.example",
        "file://",
        "http://127.0.0.1",
        "http://löcalhost",
    ],
)
def test_foreign_origin_may_not_open(recorder: Live, origin: str) -> None:
    reply = ask(recorder, handshake("/", f"Origin: {origin}"))
    assert (reply.status, b"allowed_origins" in reply.body) == (403, True)
    assert recorder.app.drain() == []


def test_second_origin_is_no_way_in(recorder: Live) -> None:
    reply = ask(recorder, handshake("/", "Origin: http://localhost", "Origin: http://evil.example"))
    assert reply.status in (400, 403)
    assert recorder.app.drain() == []


def test_allowed_origins_may_open(serve: Serve) -> None:
    live = serve(Recorder(), allowed_origins=["https://app.example"])
    for origin, status in {
        "https://app.example": 101,
        "https://APP.example": 101,
        "https://app.example.evil.net": 403,  # bokeh compared only the beginning
        "https://xapp.example": 403,
        "http://app.example": 403,
        "https://app.example:444": 403,
        "null": 403,
    }.items():
        assert ask(live, handshake("/", f"Origin: {origin}")).status == status, origin


def test_any_origin_may_open_if_told_so(serve: Serve) -> None:
    live = serve(Recorder(), allowed_origins="*")
    for origin in ("http://evil.example", "null", ""):
        assert ask(live, handshake("/", f"Origin: {origin}")).status == 101


def test_on_headers_guards_handshakes_too(serve: Serve) -> None:
    # In other servers the guard of HTTP requests was passed by asking for a WebSocket.
    opened: list[str] = []

    def on_headers(req: portico.Request) -> dict[str, Any] | None:
        return None if req.headers.get("authorization") == "right" else {"status": 401, "body": "who?"}

    live = serve({"on_headers": on_headers, "on_ws_open": lambda ws: opened.append(ws.request.uri)})
    with live.connect() as client:
        client.send(handshake("/closed"), frame(TEXT, b"hello"))
        reply = client.receive_reply()
        assert (reply.status, reply.body, reply["Upgrade"]) == (401, b"who?", None)
        assert client.receive_last_reply().status == 400  # what follows is not a WebSocket's
    with live.open("/open", "Authorization: right") as ws:
        assert ws.close() == (1000, "")
    assert opened == ["/open"]


@pytest.mark.parametrize("has_guard", [False, True])
def test_frames_behind_the_handshake_are_delivered_in_order(serve: Serve, has_guard: bool) -> None:
    app = Recorder()
    members = {"on_ws_open": app.on_ws_open, **({"on_headers": lambda req: None} if has_guard else {})}
    live = serve(members)
    texts = [frame(TEXT, b"%d" % index) for index in range(5)]
    with live.open("/early", then=b"".join(texts)) as ws:
        assert [ws.receive_text() for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert ws.close() == (1000, "")
    calls = [app.next() for _ in range(7)]
    assert calls == [("open", "/early"), *(("text", str(index)) for index in range(5)), ("close", (1000, ""))]


@pytest.mark.over_tls
def test_whole_conversation_in_one_segment(recorder: Live) -> None:
    with recorder.open("/", then=frame(TEXT, b"a") + frame(PING, b"p") + frame(CLOSE, close_payload(1000))) as ws:
        frames = [ws.receive_frame() for _ in range(3)]
        assert ws.receive_rest() == b""
    assert sorted(frames, key=lambda got: got.opcode) == [
        Frame(TEXT, b"a"),
        Frame(CLOSE, close_payload(1000)),
        Frame(PONG, b"p"),
    ]
    assert frames[-1].opcode == CLOSE
    assert [recorder.app.next()[0] for _ in range(3)] == ["open", "text", "close"]


# Messages

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.over_tls
def test_messages_come_back_as_they_were(recorder: Live, size: int) -> None:
    data = os.urandom(size)
    text = ("é" * (size // 2) + "x" * (size % 2)).encode()
    with recorder.open() as ws:
        ws.send_frame(BINARY, data)
        assert ws.receive_frame() == Frame(BINARY, data)
        ws.send_frame(TEXT, text)
        assert ws.receive_frame() == Frame(TEXT, text)
        ws.close()
    assert recorder.app.next()[0] == "open"
    assert [recorder.app.next(), recorder.app.next()] == [("binary", data), ("text", text.decode())]


def test_fragments_become_one_message(recorder: Live) -> None:
    with recorder.open() as ws:
        ws.send_frame(TEXT, b"Hel", fin=False)
        ws.send_frame(PING, b"between")
        assert ws.receive_frame() == Frame(PONG, b"between")
        ws.send_frame(CONTINUATION, b"", fin=False)
        ws.send_frame(PONG, b"nobody asked")
        ws.send_frame(CONTINUATION, b"lo")
        assert ws.receive_text() == "Hello"
        ws.close()


def test_character_cut_by_fragments_is_whole_again(recorder: Live) -> None:
    data = "a€😀".encode()
    with recorder.open() as ws:
        for index in range(len(data)):
            ws.send_frame(CONTINUATION if index else TEXT, data[index : index + 1], fin=index + 1 == len(data))
        assert ws.receive_text() == "a€😀"
        ws.close()


@pytest.mark.over_tls
def test_frames_byte_by_byte(recorder: Live) -> None:
    with recorder.open() as ws:
        long = os.urandom(200)
        ws.send_bytewise(frame(TEXT, b"Hel", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"lo"))
        assert ws.receive_frame() == Frame(PONG, b"p")
        assert ws.receive_text() == "Hello"
        ws.send_bytewise(frame(BINARY, long) + frame(CLOSE, close_payload(4000, b"slowly")))
        assert ws.receive_frame() == Frame(BINARY, long)
        assert ws.receive_end()[0] == 4000


# What breaks the protocol


def fail(live: Live, data: bytes, code: int) -> None:
    """`data` ends the connection with `code`, in Python too; other connections go on."""
    with live.open("/bad") as ws:
        ws.send(data)
        assert ws.receive_end()[0] == code
    live.app.drain()
    check_alive(live)


BROKEN = {
    "no mask": (frame(TEXT, b"hello", masked=False), 1002),
    "no mask on a ping": (frame(PING, b"", masked=False), 1002),
    **{f"RSV{3 - bit}": (frame(TEXT, b"x", rsv=1 << bit), 1002) for bit in range(3)},
    "RSV1 on a ping": (frame(PING, b"", rsv=4), 1002),
    **{f"opcode {code}": (frame(code, b"x"), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "2 bytes for a length of 125": (frame_head(TEXT, 125, size=2), 1002),
    "8 bytes for a length of 0": (frame_head(TEXT, 0, size=8), 1002),
    "8 bytes for a length of 65535": (frame_head(TEXT, 65535, size=8), 1002),
    "a length of 2^63": (frame_head(BINARY, 1 << 63, size=8), 1002),
    "a fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "a fragmented close": (frame(CLOSE, b"", fin=False), 1002),
    "a ping of 126": (frame(PING, b"x" * 126), 1002),
    "a pong of 126": (frame(PONG, b"x" * 126), 1002),
    "a close of 126": (frame(CLOSE, close_payload(1000, b"x" * 124)), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a continuation after the end": (frame(TEXT, b"a") + frame(CONTINUATION), 1002),
    "a message inside a message": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "half a close code": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close code {code}": (frame(CLOSE, close_payload(code)), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2999, 5000, 65535)
    },
    "a close reason that is not UTF-8": (frame(CLOSE, close_payload(1000, b"\xff")), 1007),
    **{
        f"text {bad!r}": (frame(TEXT, bad), 1007)
        for bad in (b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\x80", b"\xe2\x82")
    },
    "bad UTF-8 in the second fragment": (frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"\xff", fin=False), 1007),
    "a character cut by the end": (frame(TEXT, b"\xe2", fin=False) + frame(CONTINUATION, b"\x82"), 1007),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_broken_frames_end_the_connection(recorder: Live, data: bytes, code: int) -> None:
    with recorder.open("/bad") as ws:
        ws.send(data)
        while (got := ws.receive_frame()).opcode != CLOSE:
            assert got == Frame(TEXT, b"a")
        assert (int.from_bytes(got.payload[:2], "big"), ws.receive_rest()) == (code, b"")
    # `a` of "a continuation after the end" was whole before the mistake.
    calls = [recorder.app.next(), recorder.app.next()]
    if calls[1] == ("text", "a"):
        calls[1] = recorder.app.next()
    assert calls[0] == ("open", "/bad")
    assert calls[1][0] == "close" and calls[1][1][0] == code
    assert recorder.app.drain() == []
    check_alive(recorder)


@pytest.mark.parametrize(
    "name", ["no mask", "opcode 3", "2 bytes for a length of 125", "close code 999", "text b'\\xff'"]
)
def test_broken_frames_end_the_connection_byte_by_byte(recorder: Live, name: str) -> None:
    data, code = BROKEN[name]
    with recorder.open("/bad") as ws:
        ws.send_bytewise(data)
        assert ws.receive_end()[0] == code


def test_nothing_is_delivered_behind_a_mistake(recorder: Live) -> None:
    with recorder.open("/bad") as ws:
        ws.send(frame(TEXT, b"before"), frame(3), frame(TEXT, b"behind"))
        assert ws.receive_text() == "before"
        assert ws.receive_end()[0] == 1002
    assert recorder.app.next() == ("open", "/bad")
    assert recorder.app.next() == ("text", "before")
    assert recorder.app.next()[0] == "close"
    assert recorder.app.drain() == []


def test_broken_text_fails_before_it_is_whole(recorder: Live) -> None:
    # §8.1 lets us wait for the end; a peer that never sends it would then be served for ever.
    with recorder.open("/bad") as ws:
        ws.send(frame(TEXT, b"a\xff" + b"a" * 1000)[:100])
        assert ws.receive_end()[0] == 1007


# Limits of a message


@pytest.fixture
def tight(serve: Serve) -> Live:
    return serve(Recorder(), limits=portico.Limits(max_message_bytes=LIMIT, max_fragments=8))


def test_message_limit_is_exact(tight: Live) -> None:
    # websockets cut a message that was one or two bytes over its limit short, and delivered it.
    for size in (LIMIT - 1, LIMIT):
        with tight.open() as ws:
            ws.send_frame(BINARY, b"x" * size)
            assert len(ws.receive_frame().payload) == size
            ws.send_frame(BINARY, b"x" * (size - 10), fin=False)
            ws.send_frame(CONTINUATION, b"x" * 10)
            assert len(ws.receive_frame().payload) == size
            ws.close()
    fail(tight, frame(BINARY, b"x" * (LIMIT + 1)), 1009)
    fail(tight, frame(TEXT, b"x" * (LIMIT + 1)), 1009)
    fail(tight, frame(BINARY, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x"), 1009)


def test_message_is_refused_by_its_announcement(tight: Live) -> None:
    # aiohttp and eventlet collected a frame of any size before they looked at the limit.
    fail(tight, frame_head(BINARY, LIMIT + 1), 1009)
    fail(tight, frame_head(BINARY, 1 << 40), 1009)
    fail(tight, frame_head(BINARY, (1 << 63) - 1), 1009)
    fail(tight, frame(BINARY, b"x", fin=False) + frame_head(CONTINUATION, LIMIT), 1009)


def test_client_that_goes_on_talking_reads_why(tight: Live) -> None:
    with tight.open() as ws:
        ws.send(frame(BINARY, b"x" * 3_000_000))
        assert ws.receive_end()[0] == 1009


def test_fragments_have_a_limit(tight: Live) -> None:
    # Node's ws let a hundred thousand fragments of one byte hold memory and processor.
    with tight.open() as ws:
        ws.send(frame(BINARY, b"a", fin=False), frame(CONTINUATION, b"", fin=False) * 6, frame(CONTINUATION, b"b"))
        assert ws.receive_frame() == Frame(BINARY, b"ab")
        ws.close()
    fail(tight, frame(BINARY, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * 8, 1008)


def test_a_hundred_thousand_fragments_are_linear(recorder: Live) -> None:
    pieces = frame(CONTINUATION, b"x", fin=False) * 100_000
    began = time.monotonic()
    with recorder.open() as ws:
        ws.send(frame(BINARY, b"", fin=False), pieces, frame(CONTINUATION))
        assert ws.receive_frame() == Frame(BINARY, b"x" * 100_000)
        ws.close()
    assert time.monotonic() - began < 3


# Closing


def test_close_without_a_code_is_told_at_once(recorder: Live) -> None:
    with recorder.open("/empty") as ws:
        assert recorder.app.next() == ("open", "/empty")
        began = time.monotonic()
        ws.send_frame(CLOSE)
        assert ws.receive_end() == (1005, "")
        assert recorder.app.next() == ("close", (1005, ""))
        assert time.monotonic() - began < 1
    check_alive(recorder)
    assert ("close", (1005, "")) not in recorder.app.drain()  # once


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "leaving"), (4001, "bye"), (3000, "x" * 123), (1011, "ä")]
)
@pytest.mark.over_tls
def test_close_of_the_client_reaches_python(recorder: Live, code: int, reason: str) -> None:
    with recorder.open("/closing") as ws:
        assert ws.close(code, reason)[0] == code
    assert [recorder.app.next(), recorder.app.next()] == [("open", "/closing"), ("close", (code, reason))]


def test_close_of_python_reaches_the_client(serve: Serve) -> None:
    app = Sockets()
    live = serve(app)
    with live.open("/a") as ws:
        app.next()
        ours = app.opened["/a"]
        assert ours.close(4001, "bye") is SendResult.SENT
        assert ours.close(4002, "again") is SendResult.CLOSED
        assert not ours.is_open
        assert ws.receive_close() == (4001, "bye")
        assert ours.send("late") is SendResult.CLOSED
        assert ours.ping() is SendResult.CLOSED
        ws.send_frame(CLOSE, close_payload(4001, b"bye"))
        assert ws.receive_rest() == b""
        assert app.next() == ("close", (4001, "bye"))
    assert (ours.close_code, ours.close_reason, live.server.clients) == (4001, "bye", 0)


def test_nothing_is_delivered_after_our_close(serve: Serve) -> None:
    app = Sockets()
    with serve(app).open("/a") as ws:
        app.next()
        app.opened["/a"].close()
        assert ws.receive_close() == (1000, "")
        ws.send_text("late", "later")
        ws.send_frame(PING, b"p")
        ws.send_frame(CLOSE, close_payload(1000))
        rest = ws.receive_rest()
        assert rest in (b"", b"\x8a\x01p")  # a pong is allowed, nothing else
        assert app.next() == ("close", (1000, ""))


def test_nothing_is_delivered_after_the_clients_close(recorder: Live) -> None:
    with recorder.open("/a") as ws:
        ws.send(frame(CLOSE, close_payload(1000)), frame(TEXT, b"late"), frame(PING, b"p"), b"garbage")
        assert ws.receive_end() == (1000, "")
    assert [recorder.app.next(), recorder.app.next()] == [("open", "/a"), ("close", (1000, ""))]
    assert recorder.app.drain() == []


@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.over_tls
def test_lost_connection_is_told_once(recorder: Live, how: str) -> None:
    with recorder.open("/lost") as ws:
        ws.send_text("last words")
        assert ws.receive_text() == "last words"
        if how == "reset":
            ws.reset()
        else:
            ws.end()
            assert ws.receive_rest() == b""
    assert recorder.app.next() == ("open", "/lost")
    assert recorder.app.next() == ("text", "last words")
    assert recorder.app.next() == ("close", (1006, ""))
    check_alive(recorder)
    assert ("close", (1006, "")) not in recorder.app.drain()


@pytest.mark.over_tls
def test_messages_before_a_loss_are_delivered(recorder: Live) -> None:
    with recorder.open("/lost") as ws:
        ws.send_text("a", "b", "c")
        ws.end()
        ws.receive_rest()
    calls = [recorder.app.next() for _ in range(5)]
    assert calls == [("open", "/lost"), ("text", "a"), ("text", "b"), ("text", "c"), ("close", (1006, ""))]


@pytest.mark.over_tls
def test_half_a_message_is_not_delivered(recorder: Live) -> None:
    with recorder.open("/half") as ws:
        ws.send(frame(TEXT, b"never whole")[:-6])
        ws.end()
        ws.receive_rest()
    assert [recorder.app.next(), recorder.app.next()] == [("open", "/half"), ("close", (1006, ""))]


def test_silent_peer_is_not_waited_for(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(close_timeout_s=0.2))
    with live.open("/silent") as ws:
        app.next()
        app.opened["/silent"].close(4000)
        assert ws.receive_close() == (4000, "")
        assert ws.receive_rest() == b""  # and never answer
        assert app.next() == ("close", (1006, ""))
    assert app.recorder.drain() == []


@pytest.mark.over_tls
def test_answer_to_a_close_waits_for_callbacks(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, callbacks="service")
    with live.open() as ws:
        ws.send_text("a")
        ws.send_frame(CLOSE, close_payload(4000))
        assert ws.is_silent(0.1)
        live.service_until(lambda: not app.calls.empty() and not ws.is_silent())
        assert ws.receive_text() == "a"  # sent by the callback, before the close
        assert ws.receive_end()[0] == 4000


def test_answer_to_a_close_does_not_wait_for_ever(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, callbacks="service", limits=portico.Limits(close_timeout_s=0.2))
    with live.open() as ws:
        ws.send_text("a")
        ws.send_frame(CLOSE, close_payload(4000))
        assert ws.receive_end()[0] == 4000
    seen = live.service_to_the_end()
    assert seen == [("open", "/"), ("text", "a"), ("close", (4000, ""))]


# Pings


@pytest.mark.over_tls
def test_pings_are_answered_while_python_is_busy(serve: Serve) -> None:
    live = serve(Recorder(), callbacks="service")  # nobody services
    with live.open() as ws:
        for payload in (b"", b"x", b"y" * 125):
            ws.send_frame(PING, payload)
            assert ws.receive_frame() == Frame(PONG, payload)


def test_server_pings_and_measures(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(ping_interval_s=0.05, pong_timeout_s=5))
    with live.open("/a") as ws:
        app.next()
        assert app.opened["/a"].latency_s is None
        for _ in range(3):
            ping = ws.receive_frame()
            assert ping.opcode == PING
            ws.send_frame(PONG, ping.payload)
        latency = app.opened["/a"].latency_s
        assert latency is not None and 0 < latency < 5
        assert ws.close() == (1000, "")


def test_missing_pong_closes(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, limits=portico.Limits(ping_interval_s=0.1, pong_timeout_s=0.1))
    with live.open("/mute") as ws:
        assert ws.receive_frame().opcode == PING
        assert ws.receive_end()[0] == 1011
    assert app.next() == ("open", "/mute")
    assert app.next() == ("close", (1006, "no pong within pong_timeout_s"))


def test_wrong_pong_is_none(serve: Serve) -> None:
    live = serve(Recorder(), limits=portico.Limits(ping_interval_s=0.1, pong_timeout_s=0.1))
    with live.open() as ws:
        ping = ws.receive_frame()
        ws.send_frame(PONG, ping.payload + b"x")
        ws.send_frame(PONG)
        assert ws.receive_end()[0] == 1011


def test_missing_pong_is_not_held_against_a_paused_peer(serve: Serve) -> None:
    # Its pong waits behind messages that Python has not taken: reading stopped, so it can't be seen.
    app = Recorder()
    limits = portico.Limits(ping_interval_s=0.1, pong_timeout_s=0.1, max_inbox_messages=2)
    live = serve(app, callbacks="service", limits=limits)
    with live.open() as ws:
        ws.send_text(*"abcdefgh")
        ping = ws.receive_frame()
        assert ping.opcode == PING
        ws.send_frame(PONG, ping.payload)
        assert ws.is_silent(0.4)
        gate = threading.Event()

        def talk() -> None:
            texts: list[Frame] = []
            while len(texts) < 8:
                got = ws.receive_frame()
                if got.opcode == PING:
                    ws.send_frame(PONG, got.payload)
                else:
                    texts.append(got)
            assert texts == [Frame(TEXT, text.encode()) for text in "abcdefgh"]
            ws.close()
            gate.set()

        talking = threading.Thread(target=talk)
        talking.start()
        live.service_until(gate.is_set)
        talking.join()


def test_neither_pongs_nor_messages_cost_threads(recorder: Live) -> None:
    # engineio started one for each pong, mesop for each message.
    with recorder.open() as ws:
        before = threading.active_count()
        ws.send(frame(PONG, b"x" * 100) * 50_000, frame(TEXT, b"after") * 100)
        assert [ws.receive_text() for _ in range(100)] == ["after"] * 100
        assert threading.active_count() == before
        ws.close()


def test_ping_flood_costs_bounded_memory(serve: Serve) -> None:
    live = serve(Recorder(), limits=portico.Limits(max_outbox_bytes=64 * 1024))
    flood = frame(PING, b"x" * 125) * 50_000
    with live.open(receive_buffer_bytes=4096) as ws:
        sender = threading.Thread(target=ws.send, args=[flood])
        sender.start()
        check_alive(live)
        # Read on until the answers end: those that found the outbox full were left out.
        ws.socket.settimeout(DEADLINE_S)
        count = 0
        while sender.is_alive() or not ws.is_silent(0.05):
            if not ws.is_silent(0.05):
                assert ws.receive_frame() == Frame(PONG, b"x" * 125)
                count += 1
        sender.join()
        assert 0 < count <= 50_000


# What Python says


def test_send_checks_types(serve: Serve) -> None:
    app = Sockets()
    with serve(app).open("/a") as ws:
        app.next()
        ours: Any = app.opened["/a"]
        for wrong in (3, None, ["x"], object(), 1.5):
            with pytest.raises(TypeError):
                ours.send(wrong)
        for wrong in ("x", 3):
            with pytest.raises(TypeError):
                ours.ping(wrong)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 5000, -1, 1 << 20):
            with pytest.raises((ValueError, OverflowError)):
                ours.close(code)
        with pytest.raises(ValueError):
            ours.close(1000, "x" * 124)
        with pytest.raises(ValueError):
            ours.ping(b"x" * 126)
        assert ours.is_open
        for good in (bytearray(b"a"), memoryview(b"b"), "c", b"d"):
            assert ours.send(good) is SendResult.SENT
        assert [ws.receive_frame().payload for _ in range(4)] == [b"a", b"b", b"c", b"d"]
        ws.close()


def test_send_from_other_threads(serve: Serve) -> None:
    app = Sockets()
    with serve(app).open("/a") as ws:
        app.next()
        ours = app.opened["/a"]

        def talk(name: str) -> None:
            for index in range(100):
                assert ours.send(f"{name}{index}") is SendResult.SENT

        threads = [threading.Thread(target=talk, args=[name]) for name in "abcd"]
        for thread in threads:
            thread.start()
        texts = [ws.receive_text() for _ in range(400)]
        for thread in threads:
            thread.join()
        for name in "abcd":
            assert [text for text in texts if text[0] == name] == [f"{name}{index}" for index in range(100)]
        ws.close()


@pytest.mark.parametrize("where", ["open", "message"])
def test_callback_that_raises_closes_its_connection(serve: Serve, caplog: pytest.LogCaptureFixture, where: str) -> None:
    def on_ws_open(ws: WebSocket) -> None:
        def fail(binary: bool = False, message: object = "") -> None:
            if ws.request.uri == "/bad":
                raise LookupError("secret")
            if message:
                ws.send("fine")

        ws.on_message(fail)
        if where == "open":
            fail()

    live = serve({"on_ws_open": on_ws_open})
    with live.open("/good") as good, live.open("/bad") as bad:
        bad.send_text("x")
        assert bad.receive_close() == (1011, "")
        bad.send_frame(CLOSE, close_payload(1011))
        assert bad.receive_rest() == b""
        good.send_text("x")
        assert good.receive_text() == "fine"
        good.close()
    assert "secret" in caplog.text and f"on_{where} raised" in caplog.text


@pytest.mark.over_tls
def test_broadcast_reaches_all_that_live(serve: Serve) -> None:
    app = Sockets()
    live = serve(app)
    clients = [live.open(f"/{index}") for index in range(10)]
    try:
        for _ in clients:
            app.next()
        clients[3].reset()
        assert app.next() == ("close", (1006, ""))
        large = "ä" * 50_000
        assert live.server.broadcast("hello") == 9
        assert live.server.broadcast(large) == 9
        assert live.server.broadcast(b"bytes") == 9
        for client in clients[:3] + clients[4:]:
            assert [client.receive_text(), client.receive_text()] == ["hello", large]
            assert client.receive_frame() == Frame(BINARY, b"bytes")
    finally:
        for client in clients:
            client.socket.close()


# Bounds


def test_full_inbox_stops_the_reading(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, callbacks="service", limits=portico.Limits(max_inbox_messages=4))
    with live.open() as ws:
        # The system's buffers and ours fill up, then the client gets no further.
        message = frame(BINARY, bytes(1000))
        before = live.server.stats()["messages"]
        sent = 0
        while (more := ws.send_until_full(message, 1 << 26, sent)) > 0:
            sent += more
            assert sent < 1 << 26
            assert live.server.stats()["messages"] - before <= 4
        ws.end()
        whole = sent // len(message)
        seen = live.service_to_the_end()
    assert [kind for kind, _ in seen] == ["open", *["binary"] * whole, "close"]


@pytest.mark.over_tls
def test_full_inbox_keeps_the_order(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, callbacks="service", limits=portico.Limits(max_inbox_messages=4))
    texts = [str(index) for index in range(2000)]
    with live.open() as ws:
        ws.send_text(*texts)
        ws.send_frame(CLOSE, close_payload(4000, b"done"))
        seen = live.service_to_the_end()
        assert [ws.receive_text() for _ in texts] == texts
        assert ws.receive_end()[0] == 4000
    assert seen == [("open", "/"), *(("text", text) for text in texts), ("close", (4000, "done"))]


@pytest.mark.over_tls
def test_full_inbox_of_one_does_not_stop_others(serve: Serve) -> None:
    entered, gate = threading.Event(), threading.Event()

    async def wait() -> None:
        while not gate.is_set():
            await asyncio.sleep(0.001)

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> object:
            if ws.request.uri == "/slow":
                entered.set()
                return wait()
            return ws.send(message) and None

    live = serve({"on_ws_open": on_ws_open}, limits=portico.Limits(max_inbox_messages=2))
    with live.open("/slow") as slow, live.open("/fast") as fast:
        slow.send_text(*"abcdef")
        assert entered.wait(DEADLINE_S)
        for index in range(20):
            fast.send_text(str(index))
            assert fast.receive_text() == str(index)
        assert live.server.stats()["messages"] <= 22  # a coroutine counts until it has finished
        gate.set()
        assert slow.close() == (1000, "")


@pytest.mark.over_tls
def test_full_outbox_refuses_and_closes(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(max_outbox_bytes=100_000))
    with live.open("/slow", receive_buffer_bytes=4096) as ws, live.open("/fast") as other:
        app.next(), app.next()
        ours = app.opened["/slow"]
        sent = 0
        while (result := ours.send(b"x" * 10_000)) is SendResult.SENT:
            sent += 1
            assert ours.buffered_amount < 200_000
            assert sent < 10_000
        assert result is SendResult.FULL
        assert ours.send("more") is SendResult.CLOSED
        assert not ours.is_open
        assert live.server.broadcast("hello") == 1  # the other one goes on
        assert other.receive_text() == "hello"
        # What was taken arrives, and the reason after it.
        for _ in range(sent):
            assert ws.receive_frame() == Frame(BINARY, b"x" * 10_000)
        code, reason = ws.receive_close()
        assert (code, "max_outbox_bytes" in reason) == (1013, True)
        ws.send_frame(CLOSE, close_payload(1013))
        assert ws.receive_rest() == b""
        assert app.next() == ("close", (1013, ""))


def test_reader_that_stands_still_is_told_as_lost(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(write_timeout_s=0.2))
    with live.open("/still", receive_buffer_bytes=4096) as ws:
        app.next()
        assert app.opened["/still"].send(b"x" * 7_000_000) is SendResult.SENT
        assert app.next() == ("close", (1006, ""))
        assert len(ws.receive_rest()) < 7_000_000


# Clients that aren't ours


def test_websockets_client(recorder: Live) -> None:
    from websockets.exceptions import ConnectionClosedOK
    from websockets.sync.client import connect

    url = recorder.server.url.replace("http", "ws") + "/library"
    with connect(url, open_timeout=DEADLINE_S, close_timeout=DEADLINE_S) as ws:
        for message in ("text", b"bytes", "", b"", "ä" * 100_000, os.urandom(1_000_000)):
            ws.send(message)
            assert ws.recv(DEADLINE_S) == message
        ws.send(["in ", "frag", "ments"])
        assert ws.recv(DEADLINE_S) == "in fragments"
        assert ws.ping().wait(DEADLINE_S)
        ws.close(4001, "bye")
        with pytest.raises(ConnectionClosedOK if ws.close_code == 1000 else Exception):
            ws.recv(DEADLINE_S)
        assert ws.close_code == 4001
    while (call := recorder.app.next())[0] != "close":
        pass
    assert call == ("close", (4001, "bye"))


def test_aiohttp_client(recorder: Live) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def talk() -> tuple[list[object], int | None]:
        async with aiohttp.ClientSession(recorder.server.url) as session:
            async with session.ws_connect("/library", compress=15) as ws:
                await ws.send_str("text")
                await ws.send_bytes(b"bytes")
                await ws.ping(b"p")
                answers = [await ws.receive_str(timeout=DEADLINE_S), await ws.receive_bytes(timeout=DEADLINE_S)]
                await ws.close(code=4001, message=b"bye")
            return answers, ws.close_code

    assert asyncio.run(talk()) == (["text", b"bytes"], 4001)
    while (call := recorder.app.next())[0] != "close":
        pass
    assert call == ("close", (4001, "bye"))
