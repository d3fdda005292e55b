"""Answers whose bodies come piece by piece, and files in answers, to readers that are fast, slow or gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portico import Response
from portico.request import Request

from .conftest import Serve
from .wire_client import DEADLINE_S, Client, request, wait_until

PIECE = b"0123456789abcdef" * 4096  # 64 KiB


def sync_pieces(count: int) -> Iterator[bytes]:
    yield from (PIECE for _ in range(count))


async def async_pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


def receive_chunks(client: Client) -> bytes:
    """A body in chunks, without trailers."""
    body = bytearray()
    while size := int(client.receive_until(b"\r\n"), 16):
        body += client.receive(size)
        assert client.receive(2) == b"\r\n"
    assert client.receive(2) == b"\r\n"
    return bytes(body)


both_kinds = pytest.mark.parametrize("pieces", [sync_pieces, async_pieces])


@both_kinds
@pytest.mark.parametrize("home", ["thread", "service"])
@pytest.mark.over_tls
def test_pieces_arrive_as_chunks(serve: Serve, pieces: Callable[[int], Any], home: str) -> None:
    live = serve(lambda req: Response(200, {"X-Kind": "stream"}, pieces(50)), callbacks=home)
    with live.connect() as client:
        for _ in range(2):  # the connection is kept
            client.send(request("GET", "/"))
            if home == "service":
                live.server.service(DEADLINE_S)
                client.socket.setblocking(False)
                received = bytearray()
                while not received.endswith(b"\r\n0\r\n\r\n"):
                    live.server.service(0.01)
                    try:
                        received += client.socket.recv(1 << 20)
                    except BlockingIOError:
                        continue
                assert received.count(b"10000\r\n" + PIECE) == 50
                continue
            head = client.receive_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nX-Kind: stream\r\n" in head and b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert receive_chunks(client) == PIECE * 50


@both_kinds
def test_pieces_with_a_length(serve: Serve, pieces: Callable[[int], Any]) -> None:
    length = {"Content-Length": str(3 * len(PIECE))}
    live = serve(lambda req: Response(200, length, pieces(3)))
    reply = live.ask()
    assert (reply["Content-Length"], reply["Transfer-Encoding"]) == (str(3 * len(PIECE)), None)
    assert reply.body == PIECE * 3
    assert live.ask("HEAD").body == b""


@both_kinds
def test_the_iterator_waits_for_its_reader(serve: Serve, pieces: Callable[[int], Any]) -> None:
    made = [0]

    def count(pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            made[0] += 1
            yield piece

    async def count_async(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            made[0] += 1
            yield piece

    counted = count if pieces is sync_pieces else count_async
    live = serve(lambda req: counted(pieces(2000)) if req.path == "/long" else "short")
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/long"))
        wait_until(lambda: made[0] > 0, "it begins")
        seen = -1
        while seen != made[0]:  # until nothing moves while others are answered
            seen = made[0]
            for _ in range(50):
                assert live.ask("GET", "/short").body == b"short"
        assert made[0] < 400  # what the system's buffers hold, and not 125 MiB
        client.receive_until(b"\r\n\r\n")
        assert receive_chunks(client) == PIECE * 2000
    assert made[0] == 2000


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_that_fails_is_seen_to_be_broken(
    serve: Serve, version: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Iterator[str]:
        yield "half"
        raise LookupError("the other half")

    async def fail_async() -> AsyncIterator[str]:
        yield "half"
        raise LookupError("the other half")

    live = serve(lambda req: fail() if kind == "sync" else fail_async())
    with live.connect() as client:
        client.send(f"GET / HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        is_reset = False
        while not is_reset:
            try:
                more = client.socket.recv(4096)
                assert more, "an orderly end"
                received += more
            except ConnectionResetError:
                is_reset = True
        assert not received.endswith(b"0\r\n\r\n")
    wait_until(lambda: bool(caplog.records), "it is reported")
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["on_request raised"]


@both_kinds
def test_http_1_0_gets_pieces_until_the_end(serve: Serve, pieces: Callable[[int], Any]) -> None:
    live = serve(lambda req: pieces(3))
    with live.connect() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        received = b""
        while more := client.socket.recv(1 << 16):
            received += more
        assert received.endswith(b"\r\n\r\n" + PIECE * 3)
        assert b"Transfer-Encoding" not in received


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_that_leaves_ends_the_iterator(serve: Serve, kind: str) -> None:
    ended: list[str] = []

    def forever() -> Iterator[bytes]:
        try:
            while True:
                yield PIECE
        finally:
            ended.append("sync")

    async def forever_async() -> AsyncIterator[bytes]:
        try:
            while True:
                yield PIECE
                await asyncio.sleep(0)
        finally:
            ended.append("async")

    live = serve(lambda req: forever() if kind == "sync" else forever_async())
    with live.connect() as client:
        client.send(request("GET", "/"))
        assert client.socket.recv(1000)
    wait_until(lambda: ended == [kind], "the iterator is closed")


def test_trailers(serve: Serve) -> None:
    live = serve(lambda req: Response(200, (), sync_pieces(1), trailers=lambda: {"X-Sum": "42"}))
    with live.connect() as client:
        client.send(request("GET", "/", "Connection: close"))
        received = b""
        while more := client.socket.recv(1 << 16):
            received += more
    assert received.endswith(PIECE + b"\r\n0\r\nX-Sum: 42\r\n\r\n")


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_a_file(serve: Serve, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file.bin"
    content = os.urandom(size)

    def call(req: Request) -> Any:
        path.write_bytes(content)
        return {"body": {"file": str(path), "owned": req.path == "/owned"}}

    live = serve(call)
    for target in ("/", "/owned"):
        reply = live.ask("GET", target)
        assert (reply.status, reply["Content-Length"], reply.body == content) == (200, str(size), True)
        assert path.exists() == (target == "/")
    assert live.ask("HEAD")["Content-Length"] == str(size)


def test_a_file_that_shrinks_breaks_its_connection_only(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(50_000_000))
    live = serve(lambda req: {"body": {"file": path}} if req.path == "/file" else "alive")
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/file"))
        received = len(client.socket.recv(1000))
        os.truncate(path, 1000)
        try:
            while more := client.socket.recv(1 << 16):
                received += len(more)
        except ConnectionError:
            pass
        assert received < 50_000_000
    assert live.ask("GET", "/other").body == b"alive"


@pytest.mark.parametrize("name", ["missing", "directory", "socket"])
def test_what_is_no_file_is_a_500(serve: Serve, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / name
    if name == "directory":
        path.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    if name == "socket":
        listener.bind(str(path))
    with listener:
        live = serve(lambda req: {"body": {"file": path}})
        reply = live.ask()
        assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
    assert len(caplog.records) == 1
