"""Compressed answers, read back by Python's zlib: whole ones, streams, inline ones; also for who does not take them."""

from __future__ import annotations

import asyncio
import gzip
import random
import subprocess
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

import portico
from portico import Gzip, Response
from portico.request import Request

from .conftest import Live, Serve, end, needs_curl, start
from .wire_client import DEADLINE_S, Client, Reply, request

pytestmark = pytest.mark.over_tls

HTML = {"Content-Type": "text/html; charset=utf-8"}
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
TAKES = "Accept-Encoding: gzip"
PAGE = "<p>Grüße aus Portico</p>\n" * 400
LONG = "".join(f"{number}: {number * number}\n" for number in range(80_000))  # 1.2 MiB
DIGITS = "0123456789" * 300
NOISE = random.Random(1).randbytes(200_000)
INLINE = {"/inline": ("text/css", "a { color: red }\n" * 500), "/inline/short": ("text/css", "a {}")}


def numbers() -> Iterator[str]:
    yield from (f"data: {number}\n\n" for number in range(1000))


def answer(req: Request) -> object:
    """What is asked for by path, alike for GET and HEAD."""
    return {
        "/page": Response(200, HTML, PAGE),
        "/short": Response(200, HTML, "x" * 859),
        "/long": Response(200, HTML, LONG),
        "/json": Response.json({"numbers": [1] * 1000}),
        "/noise": Response(200, HTML, NOISE),
        "/noise/short": Response(200, HTML, NOISE[:2000]),
        "/picture": Response(200, {"Content-Type": "image/png"}, b"\0" * 5000),
        "/untyped": Response(200, None, PAGE),
        "/error": Response(404, HTML, PAGE),
        "/br": Response(200, {**HTML, "Content-Encoding": "br"}, PAGE),
        "/part": Response(206, {**HTML, "Content-Range": "bytes 0-9999/10000"}, PAGE),
        "/final": Response(200, {**HTML, "Cache-Control": "private, no-transform"}, PAGE),
        "/vary": Response(200, {**HTML, "Vary": ["Cookie", "X-A"]}, PAGE),
        "/told": Response(200, {**HTML, "Content-Length": str(len(PAGE.encode()))}, PAGE),
        "/wrong": Response(200, {**HTML, "Content-Length": "5"}, PAGE),
        "/ranges": Response(200, {**HTML, "Accept-Ranges": "bytes"}, PAGE),
        "/stream": Response(200, HTML, iter([PAGE, PAGE, b"", LONG])),
        "/stream/told": Response(200, {**HTML, "Content-Length": "9000"}, iter([DIGITS] * 3)),
        "/stream/short": Response(200, {**HTML, "Content-Length": "9001"}, iter([DIGITS] * 3)),
        "/stream/none": Response(200, HTML, iter(())),
        "/stream/digest": Response(200, {**HTML, "Trailer": "X-Sum"}, iter([PAGE]), trailers={"X-Sum": "1"}),
        "/stream/trailers": Response(200, HTML, iter([PAGE]), trailers={"X-Last": "1"}),
        "/numbers": Response(200, EVENTS, numbers()),
    }[req.path]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    running = start(answer, gzip=True, inline=INLINE)
    yield running
    end(running.server)


def ask(live: Live, target: str, *lines: str, method: str = "GET") -> Reply:
    """As `live.ask`, with a body in chunks put together."""
    with live.connect() as client:
        client.send(request(method, target, *lines))
        reply = client.receive_reply(method)
        if reply["Transfer-Encoding"] != "chunked" or method == "HEAD":
            return reply
        return Reply(reply.version, reply.status, reply.reason, reply.fields, b"".join(receive_chunks(client)))


def receive_chunks(client: Client) -> Iterator[bytes]:
    while size := int(client.receive_until(b"\r\n"), 16):
        chunk = client.receive(size + 2)
        assert chunk.endswith(b"\r\n")
        yield chunk[:-2]
    client.receive_until(b"\r\n")


def text(reply: Reply) -> str:
    body = gzip.decompress(reply.body) if reply["Content-Encoding"] == "gzip" else reply.body
    return body.decode()


def told(reply: Reply) -> list[tuple[str, str]]:
    return [field for field in reply.fields if field[0] != "Date"]


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/page", PAGE),
        ("/long", LONG),
        ("/error", PAGE),
        ("/told", PAGE),
        ("/inline", INLINE["/inline"][1]),
        ("/stream", PAGE + PAGE + LONG),
        ("/stream/told", DIGITS * 3),
        ("/stream/none", ""),
        ("/stream/trailers", PAGE),
        ("/numbers", "".join(numbers())),
    ],
)
def test_who_takes_gzip_gets_it(live: Live, target: str, body: str) -> None:
    plain, packed = ask(live, target), ask(live, target, TAKES)
    assert (packed["Content-Encoding"], packed["Vary"]) == ("gzip", "Accept-Encoding")
    assert (plain["Content-Encoding"], plain["Vary"]) == (None, "Accept-Encoding")
    assert text(packed) == text(plain) == body
    assert packed.status == plain.status
    if not target.startswith(("/stream", "/numbers")):
        assert packed["Content-Length"] == str(len(packed.body)) and len(packed.body) < len(plain.body) / 2


@pytest.mark.parametrize(
    ("target", "varies"),
    [
        ("/short", False),
        ("/picture", False),
        ("/untyped", False),
        ("/br", False),
        ("/part", False),
        ("/final", False),
        ("/stream/digest", False),
        ("/inline/short", False),
        ("/noise", True),
        ("/noise/short", True),
    ],
)
def test_what_is_left_as_it_is(live: Live, target: str, varies: bool) -> None:
    plain, packed = ask(live, target), ask(live, target, TAKES)
    assert (told(packed), packed.body) == (told(plain), plain.body)
    assert packed["Content-Encoding"] in (None, "br")
    assert packed["Vary"] == ("Accept-Encoding" if varies else None)


@pytest.mark.parametrize(
    "target", ["/page", "/short", "/long", "/noise", "/json", "/vary", "/inline", "/numbers", "/stream/told"]
)
@pytest.mark.parametrize("takes", [(), (TAKES,)])
def test_head_says_what_get_says(live: Live, target: str, takes: tuple[str, ...]) -> None:
    got = ask(live, target, *takes)
    assert told(ask(live, target, *takes, method="HEAD")) == told(got)


def test_head_without_a_body_says_no_length_that_nobody_knows(serve: Serve) -> None:
    live = serve(
        lambda req: Response(200, {**HTML, "Content-Length": "5000"}, b"x" * 5000 * (req.method == "GET")), gzip=True
    )
    got, head = ask(live, "/", TAKES), ask(live, "/", TAKES, method="HEAD")
    assert [field for field in told(got) if field[0] != "Content-Length"] == told(head)
    assert head["Transfer-Encoding"] is None
    assert told(ask(live, "/", method="HEAD")) == told(ask(live, "/"))


def test_own_vary_is_kept(live: Live) -> None:
    for takes in ([], [TAKES]):
        assert ask(live, "/vary", *takes).get_all("Vary") == ["Cookie, X-A, Accept-Encoding"]


def test_compressed_answers_have_no_ranges(live: Live) -> None:
    assert ask(live, "/ranges")["Accept-Ranges"] == "bytes"
    assert ask(live, "/ranges", TAKES)["Accept-Ranges"] is None


def test_a_length_that_is_wrong_is_found(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(live, "/wrong", TAKES).status == 500
    with live.connect() as client:
        client.send(request("GET", "/stream/short", TAKES))
        assert b"Content-Encoding: gzip" in client.receive_until(b"\r\n\r\n")
        with pytest.raises((AssertionError, EOFError)):  # cut, before the last chunk
            list(receive_chunks(client))


@pytest.mark.parametrize(
    "value", ["gzip;q=0", "br", "identity", "*;q=0", "gzip;q=0.2, identity;q=0.9", "gzip;q=nan", ""]
)
def test_who_does_not_take_it_does_not_get_it(live: Live, value: str) -> None:
    assert ask(live, "/page", f"Accept-Encoding: {value}")["Content-Encoding"] is None


@pytest.mark.parametrize("value", ["gzip;q=0.1", "x-gzip", "deflate, GZIP", "*", "br, gzip;q=0.5, identity;q=0.1"])
def test_who_takes_it_in_other_words(live: Live, value: str) -> None:
    assert text(ask(live, "/page", f"Accept-Encoding: {value}")) == PAGE
    assert ask(live, "/page", "Accept-Encoding: br", f"accept-encoding: {value}")["Content-Encoding"] == "gzip"


def test_http_1_0_gets_it_up_to_the_end_of_the_connection(live: Live) -> None:
    for target in ("/page", "/numbers"):
        with live.connect() as client:
            client.send(f"GET {target} HTTP/1.0\r\nHost: localhost\r\n{TAKES}\r\n\r\n".encode())
            head, _, body = client.receive_rest().partition(b"\r\n\r\n")
        assert b"\r\nContent-Encoding: gzip" in head and b"Transfer-Encoding" not in head
        assert gzip.decompress(body).decode() == (PAGE if target == "/page" else "".join(numbers()))


def test_nothing_is_compressed_unless_asked_for(serve: Serve) -> None:
    live = serve(answer, inline=INLINE)
    for target in ("/page", "/long", "/inline", "/numbers"):
        reply = ask(live, target, TAKES)
        assert (reply["Content-Encoding"], reply["Vary"]) == (None, None)


def test_level_least_size_and_types(serve: Serve) -> None:
    sizes = {}
    for level in (1, 9):
        live = serve(answer, gzip=Gzip(level=level, min_bytes=5000, types=["image/*", "text/html"]))
        assert ask(live, "/picture", TAKES)["Content-Encoding"] == "gzip"
        assert ask(live, "/json", TAKES)["Content-Encoding"] is None
        assert ask(live, "/noise/short", TAKES)["Vary"] is None
        sizes[level] = len(ask(live, "/long", TAKES).body)
    assert sizes[9] < sizes[1]


# Conditional answers


def versioned(req: Request) -> Response:
    """An app that compares tags as RFC 9110 §13.1.2 wants it."""
    tags = [tag.strip().removeprefix("W/") for tag in req.headers.get("If-None-Match", "").split(",")]
    if '"v1"' in tags:
        return Response(304, {"ETag": '"v1"', "Cache-Control": "max-age=1"})
    return Response(200, {**HTML, "ETag": '"v1"'}, PAGE)


def test_tags_of_compressed_answers_are_weak_and_still_compare(serve: Serve) -> None:
    live = serve(versioned, gzip=True)
    assert ask(live, "/")["ETag"] == '"v1"'
    tag = ask(live, "/", TAKES)["ETag"]
    assert tag == 'W/"v1"'
    for takes, known, repeated in [([TAKES], tag, tag), ([TAKES], '"v1"', '"v1"'), ([], tag, '"v1"')]:
        reply = ask(live, "/", *takes, f"If-None-Match: {known}")
        assert (reply.status, reply["ETag"], reply["Vary"]) == (304, repeated, "Accept-Encoding")
        assert reply["Content-Encoding"] is None


# Streams


def test_every_event_arrives_when_it_is_sent(serve: Serve) -> None:
    go_on = threading.Semaphore(0)

    async def events() -> AsyncIterator[str]:
        for number in range(5):
            yield f"data: {number}\n\n"
            while not go_on.acquire(blocking=False):
                await asyncio.sleep(0.001)

    live = serve(lambda req: Response(200, EVENTS, events()), gzip=True)
    inflate = zlib.decompressobj(31)
    with live.connect() as client:
        client.send(request("GET", "/", TAKES))
        assert b"\r\nContent-Encoding: gzip\r\n" in client.receive_until(b"\r\n\r\n")
        chunks = receive_chunks(client)
        for number in range(5):
            assert inflate.decompress(next(chunks)) == f"data: {number}\n\n".encode()
            assert client.is_silent()
            go_on.release()
        rest = b"".join(chunks)
        assert inflate.decompress(rest) == b"" and inflate.eof


def test_more_streams_than_compressors(serve: Serve) -> None:
    """Some keep one, the rest borrow; nobody can tell, and all are good."""
    is_open = threading.Event()

    async def halves() -> AsyncIterator[str]:
        yield PAGE
        while not is_open.is_set():
            await asyncio.sleep(0.005)
        yield PAGE

    live = serve(lambda req: Response(200, HTML, halves()), gzip=True)
    clients = [live.connect() for _ in range(80)]
    try:
        for client in clients:
            client.send(request("GET", "/", TAKES))
        bodies = []
        for client in clients:
            client.receive_until(b"\r\n\r\n")
            bodies.append(next(receive_chunks(client)))
        is_open.set()
        for client, first in zip(clients, bodies, strict=True):
            assert gzip.decompress(first + b"".join(receive_chunks(client))).decode() == PAGE * 2
    finally:
        for client in clients:
            client.socket.close()


def test_a_slow_reader_slows_a_compressed_stream(serve: Serve) -> None:
    asked = []

    def pieces() -> Iterator[bytes]:
        rng = random.Random(2)
        for number in range(1000):
            asked.append(number)
            yield rng.randbytes(64 * 1024)

    live = serve(lambda req: Response(200, HTML, pieces()), gzip=True)
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/", TAKES))
        client.receive_until(b"\r\n\r\n")
        live.ask("GET", "/other")  # its pieces come too, so the first stream has had its turns
        assert len(asked) < 900


def test_random_bodies_come_back(serve: Serve) -> None:
    rng = random.Random(3)
    words = [rng.randbytes(rng.randrange(1, 30)) for _ in range(50)]

    def bodies() -> list[bytes]:
        return [b"".join(rng.choices(words, k=rng.randrange(1, 4000))) for _ in range(rng.randrange(1, 6))]

    given: dict[str, Any] = {}
    live = serve(lambda req: Response(200, HTML, given["body"]), gzip=Gzip(level=rng.randrange(1, 10), min_bytes=0))
    for _ in range(60):
        pieces = bodies()
        for given["body"] in (b"".join(pieces), iter(pieces)):
            reply = ask(live, "/", TAKES)
            packed = reply["Content-Encoding"] == "gzip"
            assert (gzip.decompress(reply.body) if packed else reply.body) == b"".join(pieces)


# Threads, loops and other clients


def test_long_answers_of_every_home(serve: Serve) -> None:
    live = serve(answer, gzip=True, callbacks="service")
    got = []
    asking = threading.Thread(target=lambda: got.append(ask(live, "/long", TAKES)))
    asking.start()
    live.service_until(lambda: bool(got))
    asking.join()
    assert text(got[0]) == LONG


def test_aiohttp_reads_them_on_a_loop() -> None:
    async def talk() -> None:
        async with portico.start_server("127.0.0.1", 0, answer, quiet=True, gzip=True, inline=INLINE) as server:
            async with aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(DEADLINE_S)) as session:
                for target, body in [("/page", PAGE), ("/long", LONG), ("/inline", INLINE["/inline"][1])] * 2:
                    async with session.get(target) as reply:
                        assert reply.headers["Content-Encoding"] == "gzip"
                        assert await reply.text() == body
                async with session.get("/stream") as reply:
                    assert await reply.text() == PAGE + PAGE + LONG
                async with session.head("/page") as reply:
                    assert reply.headers["Content-Encoding"] == "gzip"

    asyncio.run(talk())


@needs_curl
def test_curl_reads_them(live: Live) -> None:
    for target, body in [("/page", PAGE), ("/long", LONG), ("/stream", PAGE + PAGE + LONG), ("/noise/short", None)]:
        command = ["curl", "--silent", "--fail", "--compressed", "--max-time", str(DEADLINE_S)]
        seen = subprocess.run([*command, f"{live.server.url}{target}"], stdout=subprocess.PIPE, check=True).stdout
        assert seen == (NOISE[:2000] if body is None else body.encode())


def test_pipelined_answers_keep_their_order(live: Live) -> None:
    with live.connect() as client:
        client.send(*(request("GET", target, TAKES) for target in ("/page", "/inline", "/short", "/page")))
        seen = [text(client.receive_reply()) for _ in range(4)]
    assert seen == [PAGE, INLINE["/inline"][1], "x" * 859, PAGE]


def test_handlers_say_it_one_by_one() -> None:
    connections = []

    def push(conn: portico.StreamConnection, req: Request) -> None:
        connections.append(conn)
        conn.set_header("Content-Type", "text/plain")
        for piece in (PAGE, LONG, "", PAGE):
            assert conn.send(piece) == 0
        conn.close()

    handlers = [
        portico.handler("/packed", lambda req: PAGE, gzip=True),
        portico.handler("/plain", lambda req: PAGE),
        portico.handler_stream("/stream", push, gzip=Gzip(level=1)),
        portico.handler_inline("/inline", PAGE, "text/html", gzip=True),
    ]
    with portico.http_server("http://127.0.0.1:0", handlers, quiet=True, callbacks="thread") as server:
        live = Live(server, None)
        for target, body in [("/packed", PAGE), ("/stream", PAGE + LONG + PAGE), ("/inline", PAGE)]:
            packed, plain = ask(live, target, TAKES), ask(live, target)
            assert (packed["Content-Encoding"], plain["Content-Encoding"]) == ("gzip", None)
            assert text(packed) == text(plain) == body
        assert (ask(live, "/plain", TAKES)["Content-Encoding"], ask(live, "/plain", TAKES)["Vary"]) == (None, None)
    server.wait_closed()


@pytest.mark.parametrize("as_piece", [False, True])
def test_long_bodies_hold_nobody_up(serve: Serve, as_piece: bool) -> None:
    """Whole and in one piece: others are answered natively while Python's thread compresses."""
    body = LONG * 2
    begun = threading.Event()

    def call(req: Request) -> Response:
        begun.set()
        return Response(200, HTML, iter([body]) if as_piece else body)

    live = serve(call, gzip=Gzip(level=9), inline=INLINE)
    with live.connect() as client:
        client.send(request("GET", "/", TAKES))
        assert begun.wait(DEADLINE_S)
        assert ask(live, "/inline", TAKES)["Content-Encoding"] == "gzip"
        if as_piece:
            client.receive_until(b"\r\n\r\n")
            assert gzip.decompress(b"".join(receive_chunks(client))).decode() == body
        else:
            assert client.is_silent(), "the other one waited"
            assert text(client.receive_reply()) == body


def test_inline_answers_stay_compressed_while_handlers_come_and_go() -> None:
    first = portico.handler_inline("/first", PAGE, "text/html", gzip=True)
    second = portico.handler_inline("/second", PAGE, "text/html", gzip=Gzip(level=1))
    with portico.http_server("http://127.0.0.1:0", first, quiet=True, callbacks="thread") as server:
        live = Live(server, None)
        for change in (lambda: None, lambda: server.add_handler(second), lambda: server.remove_handler(second)):
            change()
            assert text(ask(live, "/first", TAKES)) == PAGE
            assert ask(live, "/first", TAKES)["Content-Encoding"] == "gzip"
            there = second in server.handlers
            assert ask(live, "/second", TAKES)["Content-Encoding"] == ("gzip" if there else None)
    server.wait_closed()
