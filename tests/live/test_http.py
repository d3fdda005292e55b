"""HTTP/1.x conversations with a real server, as clients that behave have them."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import http.client
import logging
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import portico
from portico.request import Request

from .conftest import Live, Recorder, Serve, needs_curl
from .wire_client import DEADLINE_S, Client, ask, handshake, request

POST_CHUNKED = request("POST", "/", "Transfer-Encoding: chunked")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The connection


def test_connection_is_kept(recorder: Live) -> None:
    with recorder.connect() as client:
        for index in range(3):
            client.send(request("GET", f"/{index}"))
            reply = client.receive_reply()
            assert (reply.version, reply.status, reply.reason, reply.body) == ("HTTP/1.1", 200, "OK", b"/%d" % index)
            assert reply["Connection"] is None


def test_connection_close_is_honoured(recorder: Live) -> None:
    for value in ("close", "Close", "x, close", "keep-alive, close"):
        with recorder.connect() as client:
            client.send(request("GET", "/", f"Connection: {value}"))
            assert client.receive_last_reply().status == 200


def test_http_1_0_closes_unless_asked(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(b"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert client.receive_reply().body == b"/a"
        assert client.receive_rest() == b""
    with recorder.connect() as client:
        for _ in range(2):
            client.send(b"GET /b HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
            reply = client.receive_reply()
            assert (reply.body, (reply["Connection"] or "").lower()) == (b"/b", "keep-alive")


def test_pipelined_requests_are_answered_in_order(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(*(request("GET", f"/{index}") for index in range(3)))
        assert [client.receive_reply().body for _ in range(3)] == [b"/0", b"/1", b"/2"]


def test_slow_first_answer_is_not_overtaken(serve: Serve) -> None:
    # twisted sent pipelined answers in the order in which the handlers finished.
    order: list[str] = []

    async def call(req: Request) -> str:
        order.append(req.uri)
        for _ in range(20 if req.uri == "/slow" else 0):
            await asyncio.sleep(0)
        return req.uri

    live = serve(call)
    with live.connect() as client:
        client.send(*(request("GET", uri) for uri in ("/slow", "/fast", "/slow", "/fast")))
        bodies = [client.receive_reply().body for _ in range(4)]
    assert bodies == [b"/slow", b"/fast", b"/slow", b"/fast"]
    assert order == ["/slow", "/fast", "/slow", "/fast"]


def test_answers_wait_for_a_client_that_does_not_read(serve: Serve) -> None:
    """A few bytes for a page each: without a bound the outbox would grow by gigabytes."""
    live = serve(lambda req: "x", inline={"/page": ("text/plain", b"x" * 15_000)})
    ask_for_page = request("GET", "/page")
    most = 64 << 20
    before = resident_bytes()
    with live.connect(receive_buffer_bytes=4096) as client:
        sent = 0
        client.socket.setblocking(False)
        while sent < most and select.select([], [client.socket], [], 1.0)[1]:
            sent += client.socket.send((ask_for_page * 1000)[sent % len(ask_for_page) :])
        assert sent < most, "it goes on reading requests"
        assert resident_bytes() < before + (64 << 20), "the answers pile up"
        client.socket.settimeout(DEADLINE_S)
        for _ in range(1000):  # far more than were answered before they were read
            assert client.receive_reply().body == b"x" * 15_000
    assert live.ask("GET", "/other").body == b"x"


def test_pipelined_requests_of_all_kinds_are_answered_in_order(serve: Serve) -> None:
    live = serve(lambda req: req.body or req.uri, inline={"/inline": ("text/plain", "inline")})
    with live.connect() as client:
        chunks = POST_CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        length = request("POST", "/", "Content-Length: 3", body=b"def")
        client.send(chunks, request("GET", "/inline"), length, request("GET", "/inline"), request("GET", "/x"))
        bodies = [client.receive_reply().body for _ in range(5)]
    assert bodies == [b"abc", b"inline", b"def", b"inline", b"/x"]


def test_half_closing_client_gets_its_answer(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(request("GET", "/half"))
        client.end()
        assert client.receive_reply().body == b"/half"
        assert client.receive_rest() == b""


def test_half_closing_client_gets_all_its_answers(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(*(request("GET", f"/{index}") for index in range(3)))
        client.end()
        assert [client.receive_reply().body for _ in range(3)] == [b"/0", b"/1", b"/2"]
        assert client.receive_rest() == b""


def test_busy_connection_is_not_idle(serve: Serve) -> None:
    limits = portico.Limits(idle_timeout_s=0.2, head_timeout_s=0.2)
    live = serve(lambda req: "x", limits=limits, inline={"/inline": ("text/plain", "inline")})
    for target in ("/", "/inline"):
        with live.connect() as client:
            began = time.monotonic()
            while time.monotonic() < began + 0.5:
                client.send(request("GET", target))
                assert client.receive_reply().status == 200


def test_idle_time_begins_with_the_answer(serve: Serve) -> None:
    # Also when the head came in two pieces, and the answer needed no Python: the time for heads is over then.
    limits = portico.Limits(idle_timeout_s=5, head_timeout_s=0.2)
    live = serve(lambda req: "x", limits=limits, inline={"/inline": ("text/plain", "inline")})
    for target in ("/", "/inline"):
        with live.connect() as client:
            for _ in range(2):
                whole = request("GET", target)
                client.send(whole[:10])
                assert client.is_silent(0.01)
                client.send(whole[10:])
                assert client.receive_reply().status == 200
                assert client.is_silent(0.3)


# Bodies


def test_chunked_upload_is_byte_exact(recorder: Live) -> None:
    body = os.urandom(300_000)
    sizes = [1, 2, 3, 15, 16, 17, 255, 256, 4095, 65536, 100_000]
    with recorder.connect() as client:
        client.send(POST_CHUNKED)
        start = 0
        while start < len(body):
            piece = body[start : start + sizes[start % len(sizes)]]
            client.send(b"%X;name=value\r\n" % len(piece), piece, b"\r\n")
            start += len(piece)
        client.send(b"0\r\nTrailer: x\r\n\r\n", request("GET", "/next"))
        assert client.receive_reply().body == body
        assert client.receive_reply().body == b"/next"


def test_large_upload_is_byte_exact(recorder: Live) -> None:
    body = os.urandom(5_000_000)
    assert recorder.ask("POST", "/", f"Content-Length: {len(body)}", body=body).body == body


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT", "get", "X-Y!"])
def test_every_method_reaches_the_callback(recorder: Live, method: str) -> None:
    reply = recorder.ask(method, "/", "Content-Length: 4", body=b"body")
    assert (reply["X-Method"], reply.body) == (method, b"body")


def test_options_asterisk_is_below_no_route(recorder: Live) -> None:
    assert recorder.ask("OPTIONS", "*").status == 404


def test_absolute_target(recorder: Live) -> None:
    assert recorder.ask("GET", "http://localhost/a?b").body == b"/a?b"
    assert recorder.ask("GET", "http://localhost").body == b"/"


def test_answer_to_head_has_no_body(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(request("HEAD", "/abc"), request("GET", "/next"))
        reply = client.receive_reply("HEAD")
        assert (reply.status, reply["Content-Length"]) == (200, "4")
        assert client.receive_reply().body == b"/next"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("body", ["", "text"])
def test_answers_without_body(serve: Serve, status: int, body: str) -> None:
    live = serve(lambda req: {"status": status, "body": body} if req.uri == "/" else "next")
    with live.connect() as client:
        client.send(request(), request("GET", "/next"))
        reply = client.receive_reply()
        assert (reply.status, reply["Transfer-Encoding"]) == (status, None)
        if status == 204:
            assert reply["Content-Length"] is None  # RFC 9110 §8.6
        assert client.receive_reply().body == b"next"


def test_empty_answer_says_so(serve: Serve) -> None:
    reply = serve(lambda req: None).ask()
    assert (reply.status, reply["Content-Length"], reply.body) == (200, "0", b"")


def test_large_answer_reaches_a_slow_reader(serve: Serve) -> None:
    body = os.urandom(1_000_000) * 20
    live = serve(lambda req: body if req.uri == "/large" else "small")
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/large"), request("GET", "/small"))
        head = client.receive_until(b"\r\n\r\n")
        assert b"Content-Length: 20000000\r\n" in head
        assert live.ask("GET", "/small").body == b"small"  # others are served meanwhile
        assert client.receive(len(body)) == body
        assert client.receive_reply().body == b"small"


def test_reader_that_stands_still_is_cut(serve: Serve) -> None:
    live = serve(lambda req: b"x" * 20_000_000, limits=portico.Limits(write_timeout_s=0.2, max_connections=1))
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request())
        client.receive(1)
        deadline = time.monotonic() + DEADLINE_S
        while live.ask("HEAD").status == 503:  # until its place is free
            assert time.monotonic() < deadline
        assert len(client.receive_rest()) < 20_000_000


# 100-continue


def test_continue_comes_at_once_without_on_headers(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(request("POST", "/", "Content-Length: 5", "Expect: 100-continue"))
        assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.receive_reply().body == b"hello"


def test_continue_waits_for_on_headers(serve: Serve) -> None:
    silent: list[bool] = []
    with_client: list[Client] = []

    def on_headers(req: Request) -> None:
        silent.append(with_client[0].is_silent())

    live = serve({"on_headers": on_headers, "call": lambda req: req.body})
    with live.connect() as client:
        with_client.append(client)
        client.send(request("POST", "/", "Content-Length: 5", "Expect: 100-continue"))
        assert client.receive_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.receive_reply().body == b"hello"
    assert silent == [True]


def test_continue_is_left_out_when_the_body_is_here(recorder: Live) -> None:
    assert recorder.ask("POST", "/", "Content-Length: 5", "Expect: 100-Continue", body=b"hello").body == b"hello"
    assert recorder.ask("GET", "/no-body", "Expect: 100-continue").body == b"/no-body"


def test_continue_is_not_for_http_1_0(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(b"POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.is_silent(0.05)
        client.send(b"hello")
        assert client.receive_reply().body == b"hello"


def test_on_headers_refuses_an_upload(serve: Serve) -> None:
    bodies: list[bytes] = []

    def on_headers(req: Request) -> dict[str, Any] | None:
        assert req.body == b""
        return {"status": 413, "body": "too much"} if req.method == "POST" else None

    def call(req: Request) -> str:
        bodies.append(req.body)
        return "ok"

    live = serve({"on_headers": on_headers, "call": call})
    for expect in ([], ["Expect: 100-continue"]):
        with live.connect() as client:
            client.send(request("POST", "/", "Content-Length: 1000000", *expect))
            reply = client.receive_last_reply()
            assert (reply.status, reply.body) == (413, b"too much")
    with live.connect() as client:
        client.send(POST_CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
        assert client.receive_last_reply().status == 413
    assert live.ask().body == b"ok"
    assert bodies == [b""]


def test_on_headers_that_raises_is_answered(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def on_headers(req: Request) -> None:
        raise LookupError("secret")

    live = serve({"on_headers": on_headers, "call": lambda req: "never"})
    reply = live.ask("POST", "/", "Content-Length: 5", body=b"hello")
    assert (reply.status, b"secret" in reply.body) == (500, False)
    assert "on_head raised" in caplog.text


# Fields


def test_date_is_now(recorder: Live) -> None:
    date = recorder.ask()["Date"]
    assert date and abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time()) < 60


def test_repeated_fields_both_ways(serve: Serve) -> None:
    seen: list[Any] = []

    def call(req: Request) -> dict[str, Any]:
        seen.append((req.headers.get_all("x-a"), req.headers["X-A"], req.headers["cookie"], dict(req.cookies)))
        return {"headers": {"Set-Cookie": ["a=1", "b=2"], "X-One": "1"}, "body": "x"}

    reply = serve(call).ask("GET", "/", "X-A: 1", "Cookie: a=1", "x-a: 2", "cookie: b=2")
    assert reply.get_all("set-cookie") == ["a=1", "b=2"]
    assert seen == [(["1", "2"], "1, 2", "a=1; b=2", {"a": "1", "b": "2"})]


def test_white_space_around_values_is_not_theirs(serve: Serve) -> None:
    seen: list[Any] = []
    serve(lambda req: seen.append(req.headers["a"])).ask("GET", "/", "A: \t b c \t ")
    assert seen == ["b c"]


def test_long_field_value(serve: Serve) -> None:
    live = serve(lambda req: req.headers["x-long"])
    value = "v" * 80_000
    assert live.ask("GET", "/", f"X-Long: {value}").body == value.encode()


def test_many_long_fields_are_linear(serve: Serve) -> None:
    # tornado joined repeated fields one by one, in quadratic time; so did many with cookies.
    live = serve(lambda req: str(len(req.headers["a"]) + len(req.cookies)))
    began = time.monotonic()
    assert live.ask("GET", "/", *["A: " + "b" * 1000] * 100).status == 200
    assert live.ask("GET", "/", "A: b", "Cookie: " + "a=b; " * 20_000 + '"' * 10_000).status == 200
    assert time.monotonic() - began < 2


def test_long_target_in_three_segments(recorder: Live, serve: Serve) -> None:
    target = "/" + "t" * 20_000
    generous = serve(lambda req: req.uri, limits=portico.Limits(max_url_bytes=32 * 1024))
    data = request("GET", target)
    for live, status in ((recorder, 414), (generous, 200)):
        with live.connect() as client:
            for piece in (data[:7000], data[7000:14_000], data[14_000:]):
                client.send(piece)
                client.is_silent(0.01)
            reply = client.receive_reply()
            assert (reply.status, reply.body == target.encode()) == (status, status == 200)


@pytest.mark.parametrize(
    ("status", "reason"), [(200, "OK"), (404, "Not Found"), (418, ""), (429, "Too Many Requests"), (599, "")]
)
def test_reason_phrases(serve: Serve, status: int, reason: str) -> None:
    # 418 and 599 have no registered phrase; the space before the empty one stays (RFC 9112 §4).
    reply = serve(lambda req: {"status": status}).ask()
    assert (reply.status, reply.reason) == (status, reason)


def test_own_reason_phrase(serve: Serve) -> None:
    assert serve(lambda req: {"status": 299, "reason": "Quite Fine"}).ask().reason == "Quite Fine"


# What apps get wrong


@pytest.mark.parametrize(
    "answer",
    [
        {"headers": {"X-A": "b\r\nSet-Cookie: stolen=1"}},
        {"headers": {"X-A": "b\nc"}},
        {"headers": {"X-A": "b\rc"}},
        {"headers": {"X-A": "b\0c"}},
        {"headers": {"X-A\r\nSet-Cookie: stolen=1": "b"}},
        {"headers": {"X A": "b"}},
        {"headers": {"": "b"}},
        {"reason": "Fine\r\nSet-Cookie: stolen=1"},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"Content-Length": "3"}, "body": "four"},
        {"status": 99},
        {"status": 101},
        {"status": 1000},
    ],
    ids=repr,
)
def test_answer_that_http_cannot_carry(serve: Serve, caplog: pytest.LogCaptureFixture, answer: dict[str, Any]) -> None:
    # Text from a request that an app copies into a header, or a reason phrase, must not become headers or a second
    # answer (response splitting: uvicorn, gunicorn, tornado, aiohttp).
    live = serve(lambda req: answer if req.uri == "/bad" else "fine")
    with live.connect() as client:
        client.send(request("GET", "/bad"), request("GET", "/good"))
        reply = client.receive_reply()
        assert (reply.status, reply["Set-Cookie"], reply["X-A"]) == (500, None, None)
        assert client.receive_reply().body == b"fine"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info and record.exc_info[0] is ValueError


@pytest.mark.parametrize(
    "answer", [3, object(), {"body": 3}, {"headers": {"X-A": 3}}, (200, {}, "x"), {"x"}], ids=range(6)
)
def test_answer_of_a_wrong_type(serve: Serve, caplog: pytest.LogCaptureFixture, answer: object) -> None:
    assert serve(lambda req: answer).ask().status == 500
    assert "TypeError" in caplog.text


def test_handler_that_raises_tells_only_the_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def call(req: Request) -> str:
        if req.uri == "/bad":
            raise LookupError("secret")
        return "fine"

    live = serve(call)
    with live.connect() as client:
        client.send(request("GET", "/bad"), request("GET", "/good"))
        reply = client.receive_reply()
        assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
        assert client.receive_reply().body == b"fine"
    assert "secret" in caplog.text


def test_app_without_call_answers_404(serve: Serve) -> None:
    assert serve({"on_headers": lambda req: None}).ask().status == 404


# Who may ask


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "127.1.2.3", "[::1]:80", "a.localhost"])
def test_loopback_hosts_are_served(recorder: Live, host: str) -> None:
    assert ask(recorder.address, request(host=host)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"])
def test_foreign_hosts_are_refused(recorder: Live, host: str) -> None:
    # DNS rebinding: a page of evil.example, whose name now has our address, would read what we answer.
    for data in (request(host=host), handshake().replace(b"Host: localhost", b"Host: " + host.encode())):
        with recorder.connect() as client:
            client.send(data)
            reply = client.receive_last_reply()
        assert (reply.status, b"allowed_hosts" in reply.body) == (403, True)
    assert recorder.app.drain() == []


def test_allowed_hosts_are_served(serve: Serve) -> None:
    live = serve(lambda req: "x", allowed_hosts=["lab.example"])
    assert ask(live.address, request(host="LAB.example:80")).status == 200
    assert ask(live.address, request(host="lab.example.net")).status == 403
    assert ask(serve(lambda req: "x", allowed_hosts="*").address, request(host="any.example")).status == 200


# Native answers


@pytest.fixture
def inline(serve: Serve) -> Live:
    answers = {
        "/page": ("text/html; charset=utf-8", "<p>"),
        "/gone": portico.Response(410, {"X-A": "b"}, "gone"),
    }
    app = Recorder()
    guarded = {"call": app.call, "on_headers": lambda req: app.calls.put(("on_headers", req.uri))}
    live = serve(guarded, inline=answers)
    live.app = app
    return live


def test_inline_answers_need_no_python(inline: Live) -> None:
    with inline.connect() as client:
        for _ in range(2):
            client.send(request("GET", "/page?x"), request("HEAD", "/page"), request("GET", "/%70age"))
            page = client.receive_reply()
            assert (page.status, page["Content-Type"], page.body) == (200, "text/html; charset=utf-8", b"<p>")
            assert page["Date"]
            head = client.receive_reply("HEAD")
            assert (head.status, head["Content-Length"], head.body) == (200, "3", b"")
            assert client.receive_reply().body == b"<p>"
        client.send(request("GET", "/gone"))
        gone = client.receive_reply()
        assert (gone.status, gone["X-A"], gone.body) == (410, "b", b"gone")
    assert inline.app.drain() == []


def test_inline_answers_only_get_and_head_and_the_rest_is_the_apps(inline: Live) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        with inline.connect() as client:
            client.send(request(method, "/page"), request("GET", "/page"))
            reply = client.receive_reply()
            assert (reply.status, reply["X-Method"], reply.body) == (200, method, b"/page")
            assert client.receive_reply().body == b"<p>"
        assert [inline.app.next() for _ in range(2)] == [("on_headers", "/page"), (method, "/page")]


def test_paths_beside_an_inline_one_go_to_python(inline: Live) -> None:
    for target in ("/pages", "/page/", "/page/x", "/Page", "//page"):
        assert inline.ask("GET", target).body == target.encode()
    assert inline.app.drain()[0] == ("on_headers", "/pages")


# Too many, too late


def test_too_many_connections_are_told(serve: Serve) -> None:
    live = serve(lambda req: "x", limits=portico.Limits(max_connections=2))
    with live.connect() as one:
        with live.connect() as two:
            for client in (one, two):
                client.send(request())
                assert client.receive_reply().status == 200
            with live.connect() as three:
                reply = three.receive_last_reply()
                assert (reply.status, reply["Retry-After"], b"max_connections" in reply.body) == (503, "1", True)
            for client in (one, two):
                client.send(request())
                assert client.receive_reply().status == 200
            two.send(request("GET", "/", "Connection: close"))
            two.receive_last_reply()
        assert live.ask().status == 200


def test_connections_per_address_are_bounded(serve: Serve) -> None:
    live = serve(lambda req: "x", limits=portico.Limits(max_connections_per_address=2))
    host, port = live.address

    def connect(source: str) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection(host, int(port), timeout=DEADLINE_S, source_address=(source, 0))
        client.connect()
        return client

    def is_welcome(client: http.client.HTTPConnection) -> bool:
        client.request("GET", "/")
        with client.getresponse() as answer:
            body = answer.read()
            assert answer.status == 200 or (answer.status == 503 and b"max_connections_per_address" in body)
            return answer.status == 200

    first, second, third, other = (connect(f"127.0.0.{last}") for last in (1, 1, 1, 2))
    with contextlib.closing(second), contextlib.closing(third), contextlib.closing(other):
        assert [is_welcome(client) for client in (first, second, third, other)] == [True, True, False, True]
        first.close()
        deadline = time.monotonic() + DEADLINE_S
        is_in = False
        while not is_in:
            assert time.monotonic() < deadline, "the end of one makes no room for another"
            with contextlib.closing(connect("127.0.0.1")) as again:
                is_in = is_welcome(again)
        assert is_welcome(second)


def test_request_that_nobody_services_is_answered(serve: Serve) -> None:
    calls: list[str] = []

    def call(req: Request) -> str:
        calls.append(req.uri)
        return "x"

    live = serve(call, callbacks="service", limits=portico.Limits(answer_timeout_s=0.2))
    with live.connect() as client:
        client.send(request("GET", "/late"), request("GET", "/behind"))
        reply = client.receive_last_reply()
        assert (reply.status, b"answer_timeout_s" in reply.body) == (503, True)
    with live.connect() as client:
        client.send(request("GET", "/early"))
        live.service_until(lambda: not client.is_silent())
        assert client.receive_reply().body == b"x"
    assert calls == ["/early"]


def test_running_handler_has_no_limit(serve: Serve) -> None:
    gate = threading.Event()

    def call(req: Request) -> str:
        gate.wait(DEADLINE_S)
        return "done"

    live = serve(call, limits=portico.Limits(answer_timeout_s=0.1))
    with live.connect() as client:
        client.send(request())
        assert client.is_silent(0.3)
        gate.set()
        assert client.receive_reply().body == b"done"


def test_native_half_answers_while_python_is_busy(serve: Serve) -> None:
    gate, entered = threading.Event(), threading.Event()

    def call(req: Request) -> str:
        entered.set()
        gate.wait(DEADLINE_S)
        return "done"

    live = serve(call, inline={"/inline": ("text/plain", "inline")})
    with live.connect() as client:
        client.send(request())
        assert entered.wait(DEADLINE_S)
        assert live.ask("GET", "/inline").body == b"inline"
        assert ask(live.address, b"garbage\r\n\r\n").status == 400
        assert client.is_silent()
        gate.set()
        assert client.receive_reply().body == b"done"


# Other ways in


@pytest.fixture
def socket_path() -> Iterator[str]:
    # Not tmp_path: the paths of unix sockets are short.
    with tempfile.TemporaryDirectory() as directory:
        yield str(Path(directory) / "s")


def test_requests_over_a_unix_socket(socket_path: str) -> None:
    app = {"call": lambda req: f"{req.uri} {req.client!r} {req.server}", "on_ws_open": lambda ws: ws.send("hi")}
    with portico.start_pipe_server(socket_path, 0o177, app, quiet=True, callbacks="thread") as server:
        live = Live(server, app)
        assert os.stat(socket_path).st_mode & 0o777 == 0o600
        assert live.ask("GET", "/a").body == f"/a '' {socket_path}".encode()
        assert ask(socket_path, request(host="any.example")).status == 200  # no browser connects to a path
        with live.open() as ws:
            assert ws.receive_text() == "hi"
            assert ws.close() == (1000, "")


@needs_curl
def test_curl(recorder: Live) -> None:
    def curl(*arguments: str, text: str = "") -> str:
        url = f"{recorder.server.url}/curl"
        command = ["curl", "--silent", "--show-error", "--max-time", "10", *arguments, url]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    assert curl() == "/curl"
    assert curl("--http1.0") == "/curl"
    assert curl("--head").startswith("HTTP/1.1 200 OK\n")
    large = "x" * 2_000_000  # large enough for curl to expect 100-continue
    assert curl("--data-binary", "@-", text=large) == large
    assert curl("--header", "Transfer-Encoding: chunked", "--data-binary", "@-", text=large) == large
    assert curl("--upload-file", "-", text="put") == "put"
    assert curl(f"{recorder.server.url}/first") == "/first/curl"


def test_aiohttp_requests(recorder: Live) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def talk() -> list[bytes]:
        async with aiohttp.ClientSession(recorder.server.url) as session:
            answers = await asyncio.gather(*(session.post(f"/{index}", data=b"%d" % index) for index in range(20)))
            return [await answer.read() for answer in answers]

    assert asyncio.run(talk()) == [b"%d" % index for index in range(20)]
