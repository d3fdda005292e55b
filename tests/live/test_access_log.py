"""The access log of a real server: every answer and every refusal, once, with what was really sent."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import portico
from portico.home import current_home
from portico.request import Request
from portico.response import Response

from .conftest import Live, Serve
from .process import Program
from .wire_client import DEADLINE_S, Client, ask, handshake, request, wait_until

START = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Log(logging.Handler):
    """Keeps what `portico.access` says."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: queue.SimpleQueue[str] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.put(record.getMessage())

    def next(self) -> dict[str, Any]:
        """The next record, waited for."""
        values: dict[str, Any] = json.loads(self.texts.get(timeout=DEADLINE_S))
        return values

    def next_told(self) -> tuple[str, int, int]:
        """Request line, status and bytes of the next record."""
        found = self.next()
        assert 0 <= found["duration_s"] < DEADLINE_S
        assert found["is_whole"] and "close_code" not in found
        return found["request"], found["status"], found["bytes"]

    @property
    def is_silent(self) -> bool:
        return self.texts.empty()


@pytest.fixture
def log() -> Iterator[Log]:
    logger = logging.getLogger("portico.access")
    handler, before = Log(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def call(req: Request) -> Any:
    match req.path:
        case "/text":
            return "hello"
        case "/fail":
            raise RuntimeError("a handler's own")
        case "/none":
            return Response(204)
        case "/pieces":
            return Response(body=iter([b"one", b"two"]))
        case "/broken":
            return Response(body=break_off())
        case "/large":
            return Response(body=b"x" * 5_000_000)
    return Response(404, body="no")


def break_off() -> Iterator[bytes]:
    yield b"x" * 10
    raise RuntimeError("half-way")


def serve_logged(serve: Serve, tmp_path: Path, **options: Any) -> Live:
    (tmp_path / "a.txt").write_text("0123456789")
    app = {"call": call, "on_ws_open": lambda ws: None, "static_paths": {"/files": tmp_path}}
    options = {"inline": {"/inline": ("text/plain", "inline")}, "access_log": "json", **options}
    return serve(app, **options)


def test_every_kind_of_answer_is_logged_with_what_was_sent(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path)
    for method, target, status, size in (
        ("GET", "/text", 200, 5),
        ("HEAD", "/text", 200, 0),
        ("GET", "/none", 204, 0),
        ("GET", "/nothing", 404, 2),
        ("GET", "/large", 200, 5_000_000),
        ("GET", "/inline", 200, 6),
        ("POST", "/files/a.txt", 405, len("405 Method Not Allowed: a file answers GET and HEAD\n")),
        ("GET", "/files/a.txt", 200, 10),
        ("HEAD", "/files/a.txt", 200, 0),
        ("GET", "/files/b.txt", 404, len("404 Not Found\n")),
        ("GET", "/files/.a", 404, len("404 Not Found\n")),
    ):
        reply = live.ask(method, target)
        assert (reply.status, len(reply.body)) == (status, size), target
        assert log.next_told() == (f"{method} {target} HTTP/1.1", status, size)
    live.ask("GET", "/files/a.txt", "Range: bytes=2-4")
    assert log.next_told() == ("GET /files/a.txt HTTP/1.1", 206, 3)
    etag = live.ask("GET", "/files/a.txt")["ETag"]
    assert log.next_told()[2] == 10
    live.ask("GET", "/files/a.txt", f"If-None-Match: {etag}")
    assert log.next_told() == ("GET /files/a.txt HTTP/1.1", 304, 0)
    assert log.is_silent


def test_streamed_answers_are_logged_when_they_end(serve: Serve, log: Log, tmp_path: Path) -> None:
    go_on = threading.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "one"
        await wait_for(go_on)
        yield "two"

    live = serve({"call": lambda req: Response(body=pieces())}, access_log="json")
    with live.connect() as client:
        client.send(request("GET", "/s"))
        assert client.receive_until(b"3\r\none\r\n")
        assert log.is_silent
        go_on.set()
        assert client.receive_until(b"0\r\n\r\n")
        # With the chunks' own lines.
        assert log.next_told() == ("GET /s HTTP/1.1", 200, len("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"))


async def wait_for(event: threading.Event) -> None:
    await asyncio.get_running_loop().run_in_executor(None, event.wait, DEADLINE_S)


def test_answer_that_breaks_off_is_not_whole(
    serve: Serve, log: Log, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = serve_logged(serve, tmp_path)
    with live.connect() as client:
        client.send(request("GET", "/broken"))
        client.receive_until(b"x" * 10)
        found = log.next()
    assert (found["status"], found["is_whole"]) == (200, False)
    assert 10 <= found["bytes"] <= 16
    live.ask("GET", "/fail")
    assert log.next_told() == ("GET /fail HTTP/1.1", 500, len("500 Internal Server Error\n"))


def test_client_that_leaves_its_answer_is_logged_with_what_it_took(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path)
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/large"))
        client.receive(1000)
        client.reset()
    found = log.next()
    assert (found["status"], found["is_whole"]) == (200, False)
    assert 500 < found["bytes"] < 5_000_000


def test_client_that_leaves_before_its_answer_is_499(serve: Serve, log: Log) -> None:
    asked = threading.Event()

    async def wait(req: Request) -> None:
        asked.set()
        await asyncio.Event().wait()  # until it is cancelled

    live = serve(wait, access_log="json")
    with live.connect() as client:
        client.send(request("GET", "/slow"))
        assert asked.wait(DEADLINE_S)
        client.reset()
        found = log.next()
    assert (found["request"], found["status"], found["bytes"]) == ("GET /slow HTTP/1.1", 499, 0)


def test_pipelined_answers_are_told_apart(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path)
    targets = ["/text", "/files/a.txt", "/inline", "/nothing", "/pieces", "/large", "/text"]
    with live.connect() as client:
        client.send(*(request("GET", target) for target in targets), request("GET", "/text", "Connection: close"))
        client.receive_rest()
    sizes = [5, 10, 6, 2, len("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), 5_000_000, 5, 5]
    told = [log.next_told() for _ in sizes]
    assert [line.split(" ")[1] for line, _, _ in told] == [*targets, "/text"]
    assert [size for _, _, size in told] == sizes
    assert log.is_silent


# Whatever is refused: (what is said, its status, the request line that is logged).
REFUSED: dict[str, tuple[bytes, int, str]] = {
    "a bad line": (b"GET /\x1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "GET /\x1b[31m HTTP/1.1"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", 400, "\x16\x03\x01\x02\x00\x01"),
    "a bad field": (START + b"A : b\r\n\r\n", 400, "GET / HTTP/1.1"),
    "a host of somebody else": (b"GET /h HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "GET /h HTTP/1.1"),
    "half a head": (b"GET /half HT", 408, "GET /half HT"),
    "half a body": (request("POST", "/b", "Content-Length: 10") + b"x", 408, "POST /b HTTP/1.1"),
    "a long body": (request("POST", "/b", "Content-Length: 1001"), 413, "POST /b HTTP/1.1"),
    "a long target": (b"GET /" + b"a" * 2000, 414, "GET /" + "a" * 1019),
    "an expectation": (START + b"Expect: miracles\r\n\r\n", 417, "GET / HTTP/1.1"),
    "a long head": (START + b"A: " + b"b" * 5000, 431, "GET / HTTP/1.1"),
    "a method for proxies": (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 501, "CONNECT a:1 HTTP/1.1"),
    "a version to come": (b"GET / HTTP/3.0\r\n\r\n", 505, "GET / HTTP/3.0"),
    "a WebSocket of a foreign page": (handshake("/w", "Origin: http://evil.example"), 403, "GET /w HTTP/1.1"),
    "a WebSocket version": (handshake("/w", version="8"), 426, "GET /w HTTP/1.1"),
    "a WebSocket without a key": (handshake("/w", key=None), 400, "GET /w HTTP/1.1"),
}


@pytest.fixture(scope="module")
def shared_strict() -> Iterator[Live]:
    limits = portico.Limits(
        max_head_bytes=4096, max_url_bytes=1500, max_body_bytes=1000, head_timeout_s=0.2, body_timeout_s=0.2
    )
    app = {"call": call, "on_ws_open": lambda ws: None}
    server = portico.start_server("127.0.0.1", 0, app, True, callbacks="thread", limits=limits, access_log="json")
    yield Live(server, app)
    server.stop()
    server.wait_closed()


@pytest.mark.parametrize(("data", "status", "line"), REFUSED.values(), ids=REFUSED)
def test_refusal_is_counted_and_logged(shared_strict: Live, log: Log, data: bytes, status: int, line: str) -> None:
    before = shared_strict.server.stats()
    with shared_strict.connect() as client:
        client.send(data)
        reply = client.receive_last_reply()
    assert reply.status == status
    assert log.next_told() == (line, status, len(reply.body))
    assert log.is_silent
    after = shared_strict.server.stats()
    name = f"refused_{status}"
    assert after[name] == before.get(name, 0) + 1
    assert after["refused"] == before["refused"] + 1


def test_refused_connections_are_counted_and_logged(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path, limits=portico.Limits(max_connections=1))
    with live.connect() as first:
        first.send(request("GET", "/text"))
        first.receive_reply()
        assert log.next_told()[1] == 200
        with live.connect() as second:
            reply = second.receive_last_reply()
        assert reply.status == 503
        assert log.next_told() == ("", 503, len(reply.body))
    assert live.server.stats()["refused_503"] == 1


def test_request_that_python_never_takes_is_logged(serve: Serve, log: Log) -> None:
    live = serve(call, callbacks="service", access_log="json", limits=portico.Limits(answer_timeout_s=0.2))
    reply = live.ask("GET", "/text")
    assert reply.status == 503
    live.service_until(lambda: not log.is_silent)
    assert log.next_told() == ("GET /text HTTP/1.1", 503, len(reply.body))


def test_websocket_is_logged_at_its_handshake_and_at_its_end(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path)
    with live.open("/ws") as client:
        assert log.next_told() == ("GET /ws HTTP/1.1", 101, 0)
        live.server.broadcast("hello")
        assert client.receive_text() == "hello"
        assert log.is_silent
        client.close(4001, "bye")
    found = log.next()
    assert (found["request"], found["status"], found["close_code"]) == ("GET /ws HTTP/1.1", 101, 4001)
    assert found["bytes"] == len("hello") + 2 + 4
    with live.open("/lost") as client:
        log.next()
        client.reset()
    assert log.next()["close_code"] == 1006
    with live.open("/rude") as client:
        log.next()
        client.send_frame(3)
        client.receive_end()
    assert log.next()["close_code"] == 1002
    assert live.server.stats()["refused_1002"] == 1


def test_idle_connections_are_not_logged(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path)
    with live.connect():
        pass
    with live.connect() as client:
        client.send(request("GET", "/text"))
        client.receive_reply()
    assert log.next_told()[0] == "GET /text HTTP/1.1"
    live.ask("GET", "/text")
    assert log.next_told()[0] == "GET /text HTTP/1.1"
    assert log.is_silent


def test_log_is_complete_when_the_server_has_stopped(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path, callbacks="service")
    for _ in range(5):
        assert live.ask("GET", "/files/a.txt").status == 200  # the watchman answers
    live.server.stop()
    assert [log.next_told()[2] for _ in range(5)] == [10] * 5


def test_records_wait_while_python_is_busy_and_the_overflow_is_told(serve: Serve, log: Log, tmp_path: Path) -> None:
    live = serve_logged(serve, tmp_path, callbacks="service")
    with live.connect() as client:
        # Nobody takes events now: this thread is the server's.
        for _ in range(105):
            client.send(request("GET", "/inline") * 100)
            for _ in range(100):
                assert client.receive_reply().status == 200
    wait_until(lambda: live.server.stats()["lost_records"] == 500, "500 lost records")
    live.service_until(lambda: log.texts.qsize() == 10_000)
    assert {log.next_told()[0] for _ in range(10_000)} == {"GET /inline HTTP/1.1"}
    live.ask("GET", "/inline")
    live.service_until(lambda: log.texts.qsize() == 2)
    assert log.next() == {"lost": 500}
    assert log.next_told()[0] == "GET /inline HTTP/1.1"


def test_log_costs_no_event_when_it_is_off(serve: Serve, log: Log) -> None:
    live = serve(call, callbacks="service", inline={"/inline": ("text/plain", "inline")})
    for _ in range(3):
        assert live.ask("GET", "/inline").status == 200
    assert len(current_home().core.take(9, 0)) == 0
    assert log.is_silent


@pytest.mark.parametrize(
    ("home", "end"),
    [("service", "pass"), ("service", "os.kill(os.getpid(), signal.SIGINT)"), ("thread", "sys.exit(0)")],
)
def test_records_that_wait_when_the_process_exits_are_logged(home: str, end: str) -> None:
    source = f"""
        import logging
        logging.basicConfig(level=logging.INFO, format="LOG %(message)s")

        def hold(req):
            say("held")
            threading.Event().wait()

        start(hold, {home!r}, access_log="common", inline={{"/inline": ("text/plain", "x")}})
        sys.stdin.readline()
        {end}
    """
    with Program(dedent(source)) as program:
        address = program.address()
        for _ in range(3):
            assert ask(address, request("GET", "/inline")).body == b"x"
        with Client(address) as client:
            client.send(request("GET", "/held"))
            if home == "thread":
                assert program.line() == "held"
            assert ask(address, request("GET", "/inline")).status == 200
            program.tell("end")
            ending = program.end()
    lines = [line for line in ending.errors.splitlines() if line.startswith("LOG ")]
    assert [line.split('"')[1:] for line in lines] == [
        *[["GET /inline HTTP/1.1", " 200 1"]] * 4,
        ["GET /held HTTP/1.1", " 499 0"],
    ]
    assert ending.seconds < DEADLINE_S / 2
