"""The handlers door with real sockets, and with clients that aren't ours: curl, websockets and aiohttp."""

from __future__ import annotations

import asyncio
import json
import queue
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import portico
from portico import (
    Deflate,
    Limits,
    SendResult,
    StreamConnection,
    WebSocket,
    format_sse,
    handler,
    handler_directory,
    handler_file,
    handler_inline,
    handler_redirect,
    handler_stream,
    handler_ws,
    http_server,
)
from portico.routes import Route

from .conftest import Live, end, needs_curl
from .wire_client import BINARY, DEADLINE_S, TEXT, frame, request, wait_until

Serve = Callable[..., Live]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server for one test: `serve(*handlers, callbacks="thread", **options)`."""
    started: list[portico.Server] = []

    def start(*handlers: Route, **options: Any) -> Live:
        options = {"quiet": True, "callbacks": "thread", **options}
        started.append(http_server("http://127.0.0.1:0", handlers, **options).start())
        return Live(started[-1], None)

    yield start
    for server in started:
        end(server)


def curl(*arguments: str) -> str:
    command = ["curl", "--silent", "--show-error", "--max-time", str(DEADLINE_S), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=2 * DEADLINE_S).stdout


def ws_url(live: Live, path: str) -> str:
    return live.server.url.replace("http", "ws") + path


# Requests


@needs_curl
def test_curl_finds_its_way(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    (tmp_path / "index.html").write_text("<p>home")
    live = serve(
        handler("/api", lambda req: {"status": 201, "headers": {"X-Query": req.query_string}, "body": req.method}),
        handler("/api", lambda req: req.body, "POST"),
        handler("/api/users", lambda req: req.path, "*", prefix=True),
        handler("/head", lambda req: "by get"),
        handler_inline("/ping", "pong", "text/plain"),
        handler_directory("/site", tmp_path),
        handler_file("/app", tmp_path / "index.html", prefix=True),
        handler_file("/one", tmp_path / "data.csv"),
        *(handler_redirect(f"/r{status}", "/api?from=there", status) for status in (301, 302, 303, 307, 308)),
    )
    url = live.server.url
    assert curl(f"{url}/api?a=1", "--write-out", "|%{http_code}|%{content_type}|%header{x-query}") == (
        "GET|201|text/plain; charset=utf-8|a=1"
    )
    assert curl(f"{url}/api", "--data", "body") == "body"
    assert curl(f"{url}/api/users/123", "--request", "DELETE") == "/api/users/123"
    assert curl(f"{url}/api", "--request", "PUT", "--write-out", "%{http_code} %header{allow}") == (
        "405 Method Not Allowed\n405 GET, HEAD, POST"
    )
    assert curl(f"{url}/nothing", "--write-out", "%{http_code}") == "404 Not Found\n404"
    assert "content-length: 6" in curl(f"{url}/head", "--head").lower()
    assert curl(f"{url}/ping") == "pong"
    assert curl(f"{url}/site/data.csv", "--write-out", "%{content_type}") == "a,b\ntext/csv"
    assert curl(f"{url}/site/") == "<p>home"
    assert curl(f"{url}/site/data.csv", "--range", "0-0") == "a"
    for path in ("/app", "/app/", "/app/any/route", "/app/../app/x%20y"):
        assert curl(url + path, "--path-as-is", "--write-out", "%{content_type}") == "<p>hometext/html; charset=utf-8"
    assert curl(f"{url}/one") == "a,b\n"
    assert curl(f"{url}/one/below", "--write-out", "%{http_code}") == "404 Not Found\n404"
    for status in (301, 302, 303, 307, 308):
        told = curl(f"{url}/r{status}", "--location", "--write-out", "|%{num_redirects}|%header{x-query}")
        assert told == "GET|1|from=there"
        # 307 and 308 keep the method and the body, the others make it a GET.
        told = curl(f"{url}/r{status}", "--location", "--data", "body")
        assert told == ("body" if status > 303 else "GET")


def test_a_handler_may_read_the_body_while_it_comes(serve: Serve) -> None:
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def call(req: portico.Request) -> str:
        for piece in req.stream:
            heard.put(piece)
        return "heard"

    live = serve(
        handler("/piece", call, "POST", stream_body=True),
        handler("/whole", lambda req: req.body, "POST"),
    )
    with live.connect() as client:
        client.send(request("POST", "/piece", "Content-Length: 6", body=b"one"))
        assert heard.get(timeout=DEADLINE_S) == b"one"
        client.send(b"two" + request("POST", "/whole", "Content-Length: 3", body=b"all"))
        assert heard.get(timeout=DEADLINE_S) == b"two"
        assert [client.receive_reply().body for _ in range(2)] == [b"heard", b"all"]


def test_native_answers_come_while_python_is_held(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("file")
    held, let_go = threading.Event(), threading.Event()

    def hold(req: portico.Request) -> str:
        held.set()
        assert let_go.wait(DEADLINE_S)
        return "done"

    live = serve(
        handler("/hold", hold),
        handler_inline("/inline", "x"),
        handler_redirect("/old", "/new"),
        handler_file("/f", tmp_path / "f"),
        handler_ws("/ws", lambda ws, data: None),
    )
    with live.connect() as holding:
        holding.send(request("GET", "/hold"))
        assert held.wait(DEADLINE_S)
        asked = [live.ask(*what) for what in (("GET", "/inline"), ("POST", "/old"), ("GET", "/f"), ("GET", "/ws"))]
        assert [reply.status for reply in asked] == [200, 302, 200, 426]
        assert live.ask("PUT", "/hold")["Allow"] == "GET, HEAD"
        assert live.ask("GET", "/none").status == 404
        let_go.set()
        assert holding.receive_reply().body == b"done"


def test_an_exact_file_leaves_the_rest_to_others(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("home")
    live = serve(handler_file("/", tmp_path / "index.html"), handler("/", lambda req: "all", "*", prefix=True))
    assert [live.ask("GET", path).body for path in ("/", "/x", "/index.html")] == [b"home", b"all", b"all"]


def test_coroutines_handle_everything_too(serve: Serve) -> None:
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def answer(req: portico.Request) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"status": 202, "body": req.method}

    async def told(*what: Any) -> None:
        await asyncio.sleep(0)
        calls.put(type(what[0]).__name__)

    live = serve(
        handler("/", answer, "*"), handler_ws("/ws", told, told, told), handler_stream("/s", told, told, method="GET")
    )
    reply = live.ask("PUT", "/")
    assert (reply.status, reply["Content-Type"], reply.body) == (202, "text/plain; charset=utf-8", b"PUT")
    with live.open("/ws") as client:
        client.send(frame(BINARY, b"x"))
        client.close()
    assert [calls.get(timeout=DEADLINE_S) for _ in range(3)] == ["WebSocket"] * 3
    with live.connect() as other:
        other.send(request("GET", "/s"))
        assert calls.get(timeout=DEADLINE_S) == "StreamConnection"
    assert calls.get(timeout=DEADLINE_S) == "StreamConnection"


def test_a_stream_may_stop_its_server(serve: Serve) -> None:
    ended = threading.Event()

    def on_request(conn: StreamConnection, req: portico.Request) -> None:
        conn.send("bye")
        live.server.stop()

    live = serve(handler_stream("/", on_request, lambda conn: ended.set()))
    with live.connect() as client:
        client.send(request("GET", "/"))
        live.server.wait_closed()
    assert ended.is_set()


def test_wrong_answers_are_500s_and_the_server_goes_on(serve: Serve) -> None:
    answers = iter([{"status": 404.0}, {"headers": ["a"]}, {"body": 7}, {"headers": {"A": "b\r\nC: d"}}, "fine"])
    live = serve(handler("/", lambda req: next(answers)))
    with live.connect() as client:
        for status in (500, 500, 500, 500, 200):
            client.send(request("GET", "/"))
            assert client.receive_reply().status == status


# Streams


class Streams:
    """Callbacks of a stream that hand over what they get."""

    def __init__(self) -> None:
        self.opened: queue.SimpleQueue[StreamConnection] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[StreamConnection] = queue.SimpleQueue()

    def handler(self, path: str = "/s", **options: Any) -> Route:
        return handler_stream(path, lambda conn, req: self.opened.put(conn), self.ended.put, **options)

    def next(self) -> StreamConnection:
        return self.opened.get(timeout=DEADLINE_S)

    def end(self) -> StreamConnection:
        return self.ended.get(timeout=DEADLINE_S)


def test_pieces_arrive_as_they_are_sent_and_the_end_is_told(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler())
    with live.connect() as client:
        for turn in range(2):  # a second answer on the same connection
            client.send(request("GET", "/s"))
            conn = streams.next()
            conn.set_status(203)
            conn.set_header("X-Turn", str(turn))
            assert client.is_silent()
            assert [conn.send(piece) for piece in ("", b"", "one")] == [SendResult.SENT] * 3
            head = client.receive_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 203 ")
            assert b"Transfer-Encoding: chunked\r\n" in head and b"X-Turn: %d\r\n" % turn in head
            assert client.receive(8) == b"3\r\none\r\n"
            conn.send(b"\x00")
            assert client.receive(6) == b"1\r\n\x00\r\n"
            conn.close()
            assert client.receive(5) == b"0\r\n\r\n"
            assert streams.end() is conn
    assert streams.ended.empty()


def test_a_piece_leaves_before_the_callback_returns(serve: Serve) -> None:
    go_on = threading.Event()

    def on_request(conn: StreamConnection, req: portico.Request) -> None:
        conn.send("working")
        assert go_on.wait(DEADLINE_S)
        conn.close()

    live = serve(handler_stream("/", on_request))
    with live.connect() as client:
        client.send(request("GET", "/"))
        client.receive_until(b"\r\n\r\n")
        assert client.receive(12) == b"7\r\nworking\r\n"
        go_on.set()
        assert client.receive(5) == b"0\r\n\r\n"


@needs_curl
def test_curl_sees_a_stream_to_its_end(serve: Serve) -> None:
    async def count(conn: StreamConnection, req: portico.Request) -> None:
        for number in range(3):
            conn.send(f"{number}\n")
            await asyncio.sleep(0.01)
        conn.close()

    live = serve(handler_stream("/count", count))
    for version in ("--http1.1", "--http1.0"):
        assert curl(f"{live.server.url}/count", "--no-buffer", version) == "0\n1\n2\n"
    assert curl(f"{live.server.url}/count", "--head", "--write-out", "%{http_code}").endswith("200")


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_leaves_ends_its_stream_once(serve: Serve, how: str) -> None:
    streams = Streams()
    live = serve(streams.handler())
    for has_begun in (False, True):
        with live.connect() as client:
            client.send(request("GET", "/s"))
            conn = streams.next()
            if has_begun:
                conn.send("x")
                client.receive_until(b"x\r\n")
            getattr(client, how)()
            assert streams.end() is conn
        assert conn.send("y") is SendResult.CLOSED
        assert conn.close() is SendResult.CLOSED
    live.ask("GET", "/none")
    assert streams.ended.empty()


def test_a_client_that_closed_its_half_before_is_not_left_waiting(serve: Serve) -> None:
    streams = Streams()
    held, go_on = threading.Event(), threading.Event()

    def hold(req: portico.Request) -> str:
        held.set()
        assert go_on.wait(DEADLINE_S)
        return ""

    live = serve(
        handler("/hold", hold),
        handler_stream("/", lambda conn, req: conn.send("one, and never another"), streams.ended.put),
        handler_stream("/whole", lambda conn, req: [conn.send("all"), conn.close()], streams.ended.put),
    )
    with live.connect() as holding, live.connect() as client, live.connect() as other:
        holding.send(request("GET", "/hold"))
        assert held.wait(DEADLINE_S)
        for one, target in ((client, "/"), (other, "/whole")):
            one.send(request("GET", target))
            one.end()
        live.ask("GET", "/none")  # natively, so by now both requests, and both ends, are known
        go_on.set()
        for _ in range(2):
            streams.end()
        with pytest.raises(AssertionError, match=r"was reset; .*another"):  # so that nobody takes it for the whole
            client.receive_rest()
        assert other.receive_rest().endswith(b"all\r\n0\r\n\r\n")
    assert streams.ended.empty()


def test_stopping_ends_streams_once(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler())
    clients = [live.connect() for _ in range(3)]
    for client in clients:
        client.send(request("GET", "/s"))
    conns = [streams.next() for _ in clients]
    conns[0].send("x")
    live.server.stop()
    live.server.wait_closed()
    assert sorted(streams.end().id for _ in conns) == sorted(conn.id for conn in conns)
    assert streams.ended.empty()
    for client in clients:
        client.socket.close()


def test_a_stream_with_grace_may_end_itself(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler())
    with live.connect() as client:
        client.send(request("GET", "/s"))
        conn = streams.next()
        conn.send("x")
        stopping = threading.Thread(target=live.server.stop, args=(DEADLINE_S,))
        stopping.start()
        wait_until(lambda: not live.server.is_running)
        conn.send("last words")
        conn.close()
        stopping.join(DEADLINE_S)
        assert client.receive_rest().endswith(b"last words\r\n0\r\n\r\n")
    assert streams.end() is conn


def test_a_client_that_does_not_read_makes_it_full_and_not_large(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler(), limits=Limits(max_outbox_bytes=256 * 1024))
    drained = threading.Event()
    with live.connect(receive_buffer_bytes=4096) as client:
        client.send(request("GET", "/s"))
        conn = streams.next()
        conn.on_drain(drained.set)
        sent = 0
        while conn.send(b"x" * 10_000) is SendResult.SENT:
            sent += 10_000
            assert sent < 50_000_000, "nothing bounds what is queued"
        assert not drained.is_set()
        assert conn.send(b"y" * 10_000) is SendResult.FULL  # and it stays
        client.receive_until(b"\r\n\r\n")
        got = b""
        while got.count(b"x") < sent:
            got += client.receive_until(b"\r\n")
        assert b"y" not in got
        assert drained.wait(DEADLINE_S)
        assert conn.send(b"z" * 300_000) is SendResult.SENT  # longer than the outbox: alone it may always wait
        conn.close()
        assert client.receive_until(b"\r\n0\r\n\r\n").count(b"z") == 300_000
    assert streams.end() is conn


def test_a_length_is_kept_or_the_answer_cut(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler())
    for body, is_whole in ((b"12345", True), (b"123", False)):
        with live.connect() as client:
            client.send(request("GET", "/s"))
            conn = streams.next()
            conn.set_header("Content-Length", "5")
            conn.send(body)
            assert conn.close() is (SendResult.SENT if is_whole else SendResult.CLOSED)
            if is_whole:
                assert client.receive_reply().body == b"12345"
            assert streams.end() is conn


def test_many_threads_send_to_one_stream(serve: Serve) -> None:
    streams = Streams()
    live = serve(streams.handler())
    with live.connect() as client:
        client.send(request("GET", "/s"))
        conn = streams.next()

        def send(name: int) -> None:
            for _ in range(50):
                assert conn.send(b"%d" % name * 100) is SendResult.SENT

        threads = [threading.Thread(target=send, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        conn.close()
        client.receive_until(b"\r\n\r\n")
        chunks = client.receive_until(b"\r\n0\r\n\r\n").split(b"\r\n")
        assert chunks[0::2] == [b"64"] * 400 + [b"0", b""]
        body = b"".join(chunks[1:-3:2])
    assert sorted(body[at : at + 100] for at in range(0, len(body), 100)) == sorted(
        b"%d" % name * 100 for name in range(8) for _ in range(50)
    )


@needs_curl
def test_event_stream_goes_on_after_the_last_event(serve: Serve) -> None:
    def on_request(conn: StreamConnection, req: portico.Request) -> None:
        conn.set_header("Content-Type", "text/event-stream")
        first = int(req.headers.get("last-event-id", "0")) + 1
        conn.send(format_sse(None, comment="heartbeat"))
        for number in range(first, first + 2):
            conn.send(format_sse(f"number\n{number}", "count", number, 10))
        conn.close()

    live = serve(handler_stream("/events", on_request, method="GET"))
    assert curl(f"{live.server.url}/events", "--header", "Last-Event-ID: 7") == (
        ": heartbeat\n\n"
        "event: count\nid: 8\nretry: 10\ndata: number\ndata: 8\n\n"
        "event: count\nid: 9\nretry: 10\ndata: number\ndata: 9\n\n"
    )


# WebSockets


def test_ids_are_distinct_across_handlers_and_kinds(serve: Serve) -> None:
    streams, ids = Streams(), queue.SimpleQueue[int]()
    live = serve(
        handler_ws("/a", lambda ws, data: None, lambda ws, req: ids.put(ws.id)),
        handler_ws("/b", lambda ws, data: None, lambda ws, req: ids.put(ws.id)),
        streams.handler(),
    )
    with live.open("/a"), live.open("/b"), live.open("/a"), live.connect() as client:
        client.send(request("GET", "/s"))
        found = {ids.get(timeout=DEADLINE_S) for _ in range(3)} | {streams.next().id}
        assert len(found) == 4


def test_websockets_and_aiohttp_echo(serve: Serve) -> None:
    live = serve(
        handler_ws("/binary", lambda ws, data: ws.send(data)),
        handler_ws("/text", lambda ws, data: ws.send(data), textframes=True, deflate=True),
        handler_ws("/both", lambda ws, data: ws.send(data), textframes=None),
    )

    async def talk() -> None:
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(ws_url(live, "/binary")) as ws:
                await ws.send_bytes(b"\xff")
                assert await ws.receive_bytes(timeout=DEADLINE_S) == b"\xff"
            async with session.ws_connect(ws_url(live, "/text"), compress=15) as ws:
                await ws.send_str("é" * 1000)
                assert await ws.receive_str(timeout=DEADLINE_S) == "é" * 1000
            async with session.get(live.server.url + "/text") as answer:
                assert answer.status == 426

    asyncio.run(talk())
    with connect(ws_url(live, "/both")) as ws:
        for message in ("é", b"\xff", "", b""):
            ws.send(message)
            assert ws.recv(DEADLINE_S) == message
    with connect(ws_url(live, "/text")) as ws:
        ws.send("é".encode())  # binary, and UTF-8: delivered as text
        assert ws.recv(DEADLINE_S) == "é"
    with pytest.raises(InvalidStatus) as refused, connect(ws_url(live, "/none")):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(
    ("textframes", "message", "code"),
    [
        (False, frame(TEXT, b"text"), 1003),
        (False, frame(TEXT, b"te", fin=False) + frame(0, b"xt"), 1003),
        (True, frame(BINARY, b"\xff"), 1007),
        (True, frame(BINARY, b"\xc3", fin=False) + frame(0, b"\x28"), 1007),
        (True, frame(BINARY, b"\xed\xa0\x80"), 1007),
        (True, frame(TEXT, b"\xff"), 1007),
        (None, frame(TEXT, b"\xff"), 1007),
    ],
)
def test_frames_of_the_wrong_type_close(serve: Serve, textframes: Any, message: bytes, code: int) -> None:
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    good = frame(TEXT if textframes else BINARY, b"good")
    live = serve(
        handler_ws("/", lambda ws, data: calls.put(data), None, lambda ws: calls.put(ws.close_code), textframes)
    )
    with live.open("/") as client:
        client.send(good, message, frame(TEXT, b"not heard"))
        assert client.receive_close()[0] == code
    assert [calls.get(timeout=DEADLINE_S) for _ in range(2)] == ["good" if textframes else b"good", code]


def test_a_binary_message_in_pieces_is_text_on_a_text_route(serve: Serve) -> None:
    live = serve(handler_ws("/", lambda ws, data: ws.send(data + "!"), textframes=True))
    with live.open("/") as client:
        client.send(frame(BINARY, b"\xc3", fin=False) + frame(0, b"\xa9"))
        assert client.receive_text() == "é!"


def test_a_broadcast_is_to_everybody_what_its_route_says(serve: Serve) -> None:
    opened: queue.SimpleQueue[WebSocket] = queue.SimpleQueue()
    live = serve(
        *(
            handler_ws(path, lambda ws, data: None, lambda ws, req: opened.put(ws), None, textframes, deflate=deflate)
            for path, textframes, deflate in (
                ("/t", True, False),
                ("/b", False, False),
                ("/n", None, False),
                ("/z", True, Deflate(min_bytes=0)),
            )
        )
    )
    server = live.server
    with (
        connect(ws_url(live, "/t")) as text,
        connect(ws_url(live, "/b")) as binary,
        connect(ws_url(live, "/n")) as neither,
        connect(ws_url(live, "/z")) as packed,
    ):
        everybody = (text, binary, neither, packed)
        for _ in everybody:
            opened.get(timeout=DEADLINE_S).subscribe("topic")

        def heard() -> list[Any]:
            return [ws.recv(DEADLINE_S) for ws in everybody]

        for send in (server.broadcast, lambda data: server.publish("topic", data)):
            for size in (1, 100_000):  # long ones are compressed beside the reactor
                told, raw = "é" * size, "é".encode() * size
                assert send(told) == 4
                assert heard() == [told, raw, told, told]
                assert send(raw) == 4
                assert heard() == [told, raw, raw, told]
            assert send(b"\xff") == 2  # no text, so it reaches only those who take bytes
            assert (binary.recv(DEADLINE_S), neither.recv(DEADLINE_S)) == (b"\xff", b"\xff")
        server.broadcast("last")
        assert heard() == ["last", b"last", "last", "last"]


def test_stopping_closes_the_websockets_of_all_handlers_once(serve: Serve) -> None:
    closed: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_close(ws: WebSocket) -> None:
        closed.put((ws.request.path, ws.close_code))

    live = serve(*(handler_ws(path, lambda ws, data: None, None, on_close) for path in ("/a", "/b")))
    with live.open("/a") as one, live.open("/b") as two:
        live.server.stop()
        for client in (one, two):
            assert client.receive_close()[0] == 1001
        live.server.wait_closed()
    assert sorted(closed.get(timeout=DEADLINE_S) for _ in range(2)) == [("/a", 1001), ("/b", 1001)]
    assert closed.empty()


def test_on_open_gets_the_handshake_and_may_refuse(serve: Serve) -> None:
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_open(ws: WebSocket, req: portico.Request) -> None:
        calls.put((req.uri, req.headers["authorization"], req.headers.get_all("x-own")))
        if req.query["let"] != "in":
            ws.close(4401, "who are you?")

    live = serve(
        handler_ws(
            "/ws",
            lambda ws, data: calls.put(data),
            on_open,
            lambda ws: calls.put((ws.close_code, ws.close_reason)),
            textframes=True,
        )
    )
    lines = ("Authorization: me", "X-Own: a", "X-Own: b")
    with live.open("/ws?let=out", *lines, then=frame(TEXT, b"too early")) as client:
        assert client.receive_close() == (4401, "who are you?")
        client.send(frame(8, b"\x11\x31"))
    told = ("/ws?let=out", "me", ["a", "b"])
    assert [calls.get(timeout=DEADLINE_S) for _ in range(2)] == [told, (4401, "")]
    with live.open("/ws?let=in", *lines) as client:
        client.send_text("hello")
        assert client.close(4001, "bye") == (4001, "")
    rest = [calls.get(timeout=DEADLINE_S) for _ in range(3)]
    assert rest == [("/ws?let=in", "me", ["a", "b"]), "hello", (4001, "bye")]


def test_origins_are_each_handlers_own(serve: Serve) -> None:
    live = serve(
        handler_ws("/own", lambda ws, data: None),
        handler_ws("/any", lambda ws, data: None, allowed_origins="*"),
        handler_ws("/one", lambda ws, data: None, allowed_origins=["https://one.example"]),
        allowed_origins=["https://site.example"],
    )

    def answers(origin: str) -> list[int]:
        found = []
        for path in ("/own", "/any", "/one"):
            try:
                with connect(ws_url(live, path), origin=origin):  # type: ignore[arg-type]
                    found.append(101)
            except InvalidStatus as refused:
                found.append(refused.response.status_code)
        return found

    assert answers("https://site.example") == [101, 101, 403]
    assert answers("https://one.example") == [403, 101, 101]
    assert answers("https://evil.example") == [403, 101, 403]
    assert answers("null") == [403, 101, 403]
    assert answers(live.server.url) == [101, 101, 101]


def test_echo_and_chat_of_the_seed_run_as_written(serve: Serve) -> None:
    echo = handler_ws("/ws", lambda ws, data: ws.send(data))

    clients: dict[int, WebSocket] = {}

    def broadcast(ws: WebSocket, data: str) -> None:
        for client in clients.values():
            client.send(data)

    def joined(ws: WebSocket, req: portico.Request) -> None:
        clients[ws.id] = ws

    def left(ws: WebSocket) -> None:
        del clients[ws.id]

    chat = handler_ws("/chat", on_message=broadcast, on_open=joined, on_close=left, textframes=True)
    live = serve(echo, chat)
    with connect(ws_url(live, "/ws")) as ws:
        ws.send(b"hi")
        assert ws.recv(DEADLINE_S) == b"hi"
        ws.send("text")
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(DEADLINE_S)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1003
    with connect(ws_url(live, "/chat")) as one, connect(ws_url(live, "/chat")) as two:
        wait_until(lambda: len(clients) == 2)
        one.send("hello")
        assert (one.recv(DEADLINE_S), two.recv(DEADLINE_S)) == ("hello", "hello")
        two.close()
        wait_until(lambda: len(clients) == 1)
    wait_until(lambda: not clients)


# TLS


@needs_curl
def test_https_wss_and_streams_share_one_port(tmp_path: Path) -> None:
    pair, stranger = portico.write_cert("localhost"), portico.write_cert("localhost")
    (tmp_path / "ca.pem").write_text(pair.client[0])
    (tmp_path / "other.pem").write_text(stranger.client[0])
    (tmp_path / "file").write_text("file")

    def events(conn: StreamConnection, req: portico.Request) -> None:
        conn.set_header("Content-Type", "text/event-stream")
        conn.send(format_sse(req.scheme, id=1))
        conn.close()

    server = http_server(
        "https://127.0.0.1:0",
        [
            handler("/", lambda req: req.scheme),
            handler_redirect("/old", "/"),
            handler_file("/file", tmp_path / "file"),
            handler_stream("/events", events),
            handler_ws("/ws", lambda ws, data: ws.send(data), textframes=True),
        ],
        portico.tls_config(server=pair.server),
        quiet=True,
        callbacks="thread",
    ).start()
    try:
        url = f"https://localhost:{server.port}"
        trust = ("--ipv4", "--cacert", str(tmp_path / "ca.pem"))
        assert curl(f"{url}/old", "--location", *trust) == "https"
        assert curl(f"{url}/file", *trust) == "file"
        assert curl(f"{url}/events", *trust) == "id: 1\ndata: https\n\n"
        with pytest.raises(subprocess.CalledProcessError) as refused:
            curl(f"{url}/", "--ipv4", "--cacert", str(tmp_path / "other.pem"))
        assert refused.value.returncode == 60  # a certificate that nobody vouches for
        assert curl(f"http://127.0.0.1:{server.port}/", "--write-out", "%{http_code}").endswith("400")
        context = ssl.create_default_context(cadata=pair.client[0])
        with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=context, server_hostname="localhost") as ws:
            ws.send("é")
            assert ws.recv(DEADLINE_S) == "é"
    finally:
        end(server)


@needs_curl
def test_clients_show_their_certificate_where_that_is_asked(tmp_path: Path) -> None:
    pair, guest = portico.write_cert("localhost"), portico.write_cert("guest")
    (tmp_path / "ca.pem").write_text(pair.client[0])
    (tmp_path / "guest.pem").write_text("".join(guest.server))
    server = http_server(
        "https://127.0.0.1:0",
        handler("/", lambda req: req.client_cert.common_name if req.client_cert else "nobody"),
        portico.tls_config(server=pair.server, client=guest.client[0], auth=True),
        quiet=True,
        callbacks="thread",
    ).start()
    try:
        asked = (f"https://localhost:{server.port}/", "--ipv4", "--cacert", str(tmp_path / "ca.pem"))
        assert curl(*asked, "--cert", str(tmp_path / "guest.pem")) == "guest"
        with pytest.raises(subprocess.CalledProcessError):
            curl(*asked)
    finally:
        end(server)


def test_a_page_can_ask_json_of_a_handler(serve: Serve) -> None:
    live = serve(handler("/json", lambda req: portico.Response.json({"you": req.json()}), ["POST", "PUT"]))

    async def ask() -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.put(live.server.url + "/json", data=json.dumps({"a": 1})) as answer,
        ):
            return answer.status, answer.content_type, await answer.json()

    assert asyncio.run(ask()) == (200, "application/json", {"you": {"a": 1}})
