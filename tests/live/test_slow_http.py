"""HTTP clients that are slow on purpose: each holds a connection for as long as it may, and no longer.

A slow loris says a byte of its head, or of its body, or reads a byte of its answer, just often enough not to be idle.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import portico
from portico.request import Request

from .conftest import Live, Serve
from .wire_client import DEADLINE_S, Client, request

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


def drip(client: Client, piece: bytes) -> None:
    """Say `piece` again and again, far more often than any time-out, until the server says something."""
    deadline = time.monotonic() + DEADLINE_S
    while client.is_silent(0.02):
        assert time.monotonic() < deadline, "it could go on for ever"
        client.send(piece)


DRIPS = {
    "a field": (b"GET / HTTP/1.1\r\nA: ", b"b"),
    "many fields": (b"GET / HTTP/1.1\r\n", b"A: b\r\n"),
    "a target": (b"GET /", b"a"),
    "a body": (POST + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n", b"x"),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a chunk extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", b"a"),
}


@pytest.mark.parametrize(("beginning", "piece"), DRIPS.values(), ids=DRIPS)
def test_a_request_that_drips_is_ended(hasty: Live, beginning: bytes, piece: bytes) -> None:
    with hasty.connect() as client:
        client.send(beginning)
        drip(client, piece)
        assert client.receive_last_reply().status == 408
    assert hasty.ask("GET", "/next").body == b"/next"
    assert hasty.app.drain() == [("GET", "/next")]


def test_a_body_that_keeps_coming_is_not_ended(hasty: Live) -> None:
    """Longer than body_timeout_s in all, but never too slow."""
    piece, count = b"x" * 8192, 60
    with hasty.connect() as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % (len(piece) * count))
        for _ in range(count):
            client.send(piece)
            client.is_silent(0.01)
        assert client.receive_reply().body == piece * count


def test_an_answer_that_is_read_in_drops_is_ended(serve: Serve) -> None:
    live = serve(lambda req: b"x" * 20_000_000, limits=portico.Limits(write_timeout_s=0.5, max_connections=1))
    with live.connect(receive_buffer_bytes=2048) as client:
        client.send(request())
        client.receive_until(b"\r\n\r\n")
        deadline = time.monotonic() + DEADLINE_S
        while live.ask("HEAD").status == 503:  # until its place is free
            assert time.monotonic() < deadline, "it could go on for ever"
            assert client.socket.recv(500)  # what is under way may still come
            time.sleep(0.1)  # 5 KB a second


HALVES = {
    "half a head": b"GET / HT",
    "half a body": POST + b"Content-Length: 10\r\n\r\nhello",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
}


@pytest.mark.parametrize("data", HALVES.values(), ids=HALVES)
def test_a_stop_waits_for_half_a_request_as_long_as_it_was_told(serve: Serve, data: bytes) -> None:
    live = serve(lambda req: "x")
    with live.connect() as client, live.connect() as other:
        client.send(data)
        other.send(request())  # answered behind it: the half is there by now
        assert other.receive_reply().status == 200
        live.server.stop(0.2)
        live.server.wait_closed()
        assert b"HTTP/1.1 200" not in client.receive_rest()
    assert live.server.state == "stopped"


def test_a_stop_lets_half_a_request_become_whole(serve: Serve) -> None:
    live = serve(lambda req: req.body)
    with live.connect() as client, live.connect() as other:
        client.send(POST + b"Content-Length: 10\r\n\r\nhello")
        other.send(request())
        assert other.receive_reply().status == 200
        stopping = start_thread(lambda: live.server.stop(DEADLINE_S))
        assert other.receive_rest() == b""  # idle, so ended at once: it is stopping
        client.send(b"world")
        assert client.receive_last_reply().body == b"helloworld"
        stopping.join(DEADLINE_S)
        assert not stopping.is_alive()


def start_thread(job: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=job)
    thread.start()
    return thread


def test_slow_clients_cost_the_others_nothing(serve: Serve) -> None:
    """Two hundred of them, in every way there is, and one that is not slow."""
    live = serve(lambda req: b"x" * 2_000_000 if req.path == "/large" else "quick")
    slow: list[Client] = []
    try:
        for index in range(200):
            client = live.connect(receive_buffer_bytes=4096)
            slow.append(client)
            beginning = [*DRIPS.values()][index % len(DRIPS)][0]
            client.send(request("GET", "/large") if index % 4 == 0 else beginning)
        for _ in range(100):
            assert live.ask().body == b"quick"
    finally:
        for client in slow:
            client.socket.close()


def test_tiny_chunks_cost_no_more_than_their_bytes(serve: Serve) -> None:
    """aiohttp spent its time on chunks of one byte (CVE-2025-69229). Those that are mostly framing are refused."""
    sizes: list[int] = []

    def call(req: Request) -> str:
        sizes.append(len(req.body))
        return str(len(req.body))

    live = serve(call)
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    with live.connect() as client:
        client.send(head, b"1\r\nx\r\n" * 200_000, b"0\r\n\r\n")
        assert client.receive_reply().body == b"200000"
    with live.connect() as client:
        client.send(head)
        piece = b"1;" + b"a" * 100 + b"\r\nx\r\n"
        with contextlib.suppress(ConnectionError):  # it has heard enough
            for _ in range(200):
                client.send(piece * 20)
        assert client.receive_last_reply().status == 400
    assert sizes == [200_000]


def test_a_range_in_other_digits_is_none(serve: Serve, tmp_path: Path) -> None:
    # aiohttp took the digits of every script for numbers (CVE-2025-69225), in ranges, too.
    (tmp_path / "a.txt").write_text("0123456789")
    live = serve({"static_paths": {"/": tmp_path}})
    for value in ("٠-١", "0-١", "+0-1", "0x0-1", "0_0-1", "-0-1", "0-1 2"):
        with live.connect() as client:
            client.send(b"GET /a.txt HTTP/1.1\r\nHost: localhost\r\nRange: bytes=" + value.encode() + b"\r\n\r\n")
            reply = client.receive_reply()
        assert (reply.status, reply.body) == (200, b"0123456789"), value
