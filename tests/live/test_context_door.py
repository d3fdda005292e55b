"""The context door on real sockets: what R websockets could do, and what was broken there."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.sync.client

import portico
from portico import (
    Context,
    SendResult,
    create_server,
    daemonize,
    http_response,
    http_vars,
    static_text_service,
    websocket,
    websocket_broadcast,
    websocket_close,
    websocket_write,
)
from portico.doors.context import _unanswered

from .prompt_programs import Prompt
from .wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Client,
    WebSocketClient,
    ask,
    frame,
    handshake,
    request,
    wait_until,
)

Start = Callable[..., "Served"]


class Served:
    """A context whose callbacks write down what they hear."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.heard: list[Any] = []
        context.established = lambda ws: self.heard.append(("open", ws.request.uri))
        context.receive = self.receive
        context.closed = lambda ws: self.heard.append(("closed", ws.close_code, ws.close_reason))
        assert context.port is not None
        self.address = ("127.0.0.1", context.port)

    def receive(self, data: bytes, ws: Any, header: Any) -> None:
        self.heard.append((data, header.opcode))
        websocket_write(data, ws)

    def open(self, target: str = "/", *lines: str, **options: Any) -> WebSocketClient:
        return WebSocketClient(self.address, target, *lines, **options)

    def wait_heard(self, count: int) -> list[Any]:
        wait_until(lambda: len(self.heard) >= count)
        return self.heard


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a context on a thread of its own, or with `callbacks="service"` on this one."""
    contexts: list[Context] = []

    def start(webpage: Any = None, is_binary: bool = False, **options: Any) -> Served:
        options = {"quiet": True, "callbacks": "thread", **options}
        contexts.append(create_server(0, webpage, is_binary, **options))
        return Served(contexts[-1])

    yield start
    for context in contexts:
        websocket_close(context)
        assert context.server is not None
        context.server.wait_closed()


# WebSockets


def test_echo_of_text_and_bytes_by_is_binary(start: Start) -> None:
    with start().open() as text, start(is_binary=True).open() as binary:
        for client, opcode in ((text, TEXT), (binary, BINARY)):
            for sent in (TEXT, BINARY):
                client.send_frame(sent, "Grüße".encode())
                got = client.receive_frame()
                assert (got.opcode, got.payload) == (opcode, "Grüße".encode())


def test_open_knows_path_and_fields_and_may_close(start: Start) -> None:
    served = start()
    seen: list[Any] = []

    def established(ws: Any) -> None:
        seen.append((ws.request.path, ws.request.query["a"], ws.request.headers["authorization"]))
        websocket_close(ws, 4003, "not you")

    served.context.established = established
    with served.open("/path?a=1", "Authorization: Bearer x", then=frame(TEXT, b"for nobody")) as client:
        assert client.receive_close() == (4003, "not you")
        client.send_frame(CLOSE, b"\x0f\xa3")
    assert served.wait_heard(1) == [("closed", 4003, "")]
    assert seen == [("/path", "1", "Bearer x")]


def test_ids_are_distinct_across_servers(start: Start) -> None:
    ids: set[int] = set()
    one, two = start(), start()
    for served in (one, two):
        served.context.established = lambda ws: ids.add(ws.id)
    with one.open("/a"), one.open("/b"), two.open():
        wait_until(lambda: len(ids) == 3)


@pytest.mark.parametrize(
    ("payload", "answer", "heard"),
    [
        (b"", (1005, ""), (1005, "")),
        (b"\x0f\xa1bye", (4001, "bye"), (4001, "bye")),
    ],
)
def test_a_close_frame_is_answered_and_told_once(start: Start, payload: bytes, answer: Any, heard: Any) -> None:
    served = start()
    with served.open() as client:
        client.send_frame(CLOSE, payload)
        assert client.receive_end()[0] == answer[0]
    assert served.wait_heard(2) == [("open", "/"), ("closed", *heard)]


def test_a_reset_is_told_once(start: Start) -> None:
    served = start()
    with served.open() as client:
        served.wait_heard(1)
        client.reset()
        assert served.wait_heard(2)[1] == ("closed", 1006, "")


def test_pings_are_answered_and_fragments_put_together(start: Start) -> None:
    served = start()
    with served.open() as client:
        client.send_frame(PONG, b"unsolicited")
        client.send_frame(TEXT, b"Gr\xc3", fin=False)
        client.send_frame(PING, b"are you there")
        client.send_frame(CONTINUATION, b"\xbc\xc3", fin=False)
        client.send_frame(CONTINUATION, b"\x9fe")
        got = client.receive_frame()
        assert (got.opcode, got.payload) == (PONG, b"are you there")
        assert client.receive_text() == "Grüße"
    assert served.heard[1] == ("Grüße".encode(), 1)


def test_a_peer_that_does_not_answer_pings_is_given_up(start: Start) -> None:
    served = start(limits=portico.Limits(ping_interval_s=0.05, pong_timeout_s=0.05, close_timeout_s=0.1))
    with served.open() as client:
        assert client.receive_frame().opcode == PING
        client.receive_rest()
    assert served.wait_heard(2)[1][0] == "closed"


def test_pages_of_other_origins_are_refused_unless_they_are_named(start: Start) -> None:
    lines = ("Origin: http://elsewhere.example",)
    served = start()
    refusal = ask(served.address, handshake("/", *lines))
    assert refusal.status == 403
    assert b"allowed_origins" in refusal.body
    with start(allowed_origins=["http://elsewhere.example"]).open("/", *lines) as client:
        client.send_text("hello")
        assert client.receive_text() == "hello"
    assert served.heard == []


def test_subprotocols_are_agreed_on_and_not_echoed(start: Start) -> None:
    served = start(subprotocols=["chat", "v2"])
    for offered, agreed in ((("v2, chat"), "chat"), ("other", None), (None, None)):
        lines = [] if offered is None else [f"Sec-WebSocket-Protocol: {offered}"]
        with served.open("/", *lines) as client:
            assert client.reply["Sec-WebSocket-Protocol"] == agreed


def test_deflate_only_where_it_is_enabled(start: Start) -> None:
    message = "the same and the same again " * 1000
    for deflate in (True, False):
        served = start(deflate=deflate)
        assert served.context.url is not None
        url = served.context.url.replace("http", "ws")
        with websockets.sync.client.connect(url, open_timeout=DEADLINE_S) as client:
            assert bool(client.protocol.extensions) == deflate
            client.send(message)
            assert client.recv(timeout=DEADLINE_S) == message


def test_frames_in_the_segment_of_the_handshake_follow_it(start: Start) -> None:
    served = start()
    with served.open("/", then=frame(TEXT, b"first") + frame(TEXT, b"second")) as client:
        assert [client.receive_text(), client.receive_text()] == ["first", "second"]
    assert served.heard[:3] == [("open", "/"), (b"first", 1), (b"second", 1)]


def test_a_callback_that_raises_ends_its_connection_only(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    served = start()
    echo = served.context.receive

    def receive(data: bytes, ws: Any, header: Any) -> None:
        if data == b"fail":
            raise LookupError("secret")
        assert echo is not None
        echo(data, ws, header)

    served.context.receive = receive
    with served.open() as bad, served.open() as good:
        bad.send_text("fail")
        assert bad.receive_close() == (1011, "")
        good.send_text("still there")
        assert good.receive_text() == "still there"
    assert "LookupError" in caplog.text


def test_writing_after_the_end_says_so(start: Start) -> None:
    served = start(callbacks="service")
    seen: list[Any] = []
    served.context.established = seen.append
    with served.open():
        while not seen:
            portico.service(served.context, 0.05)
        assert websocket_write("x", seen[0]) is SendResult.SENT
        websocket_close(seen[0])
        assert websocket_write("x", seen[0]) is SendResult.CLOSED
    while not served.heard:
        portico.service(served.context, 0.05)
    assert websocket_write("x", seen[0]) is SendResult.CLOSED
    assert websocket_close(seen[0]) is SendResult.CLOSED


def test_a_slow_reader_does_not_keep_us(start: Start) -> None:
    limits = portico.Limits(max_outbox_bytes=1 << 20, close_timeout_s=0.2)
    served = start(callbacks="service", is_binary=True, limits=limits)
    seen: list[Any] = []
    served.context.established = seen.append
    with served.open(receive_buffer_bytes=4096):
        while not seen:
            portico.service(served.context, 0.05)
        piece = bytes(1 << 16)
        results = [websocket_write(piece, seen[0]) for _ in range(1600)]  # 100 MiB
        assert results[0] is SendResult.SENT
        assert SendResult.FULL in results
        assert seen[0].buffered_amount <= 1 << 20
        while not served.heard:
            portico.service(served.context, 0.05)
    assert [one[0] for one in served.heard] == ["closed"]


def test_a_broadcast_reaches_who_is_there_and_says_how_many(start: Start) -> None:
    served = start()
    with served.open() as one, served.open() as two:
        with served.open() as dead:
            served.wait_heard(3)
            dead.reset()
            served.wait_heard(4)
        assert websocket_broadcast(b"news", served.context) == 2
        assert [one.receive_text(), two.receive_text()] == ["news", "news"]
    assert served.context.server is not None
    wait_until(lambda: served.context.server.clients == 0)
    assert websocket_broadcast("nobody", served.context) == 0


# HTTP


def test_get_and_post_are_answered_with_what_was_sent(start: Start) -> None:
    def static(socket: int, header: Any) -> None:
        http_response(socket, 201, content=repr(http_vars(socket, header)), headers={"X-Type": header["TYPE"]})

    served = start(static)
    with Client(served.address) as client:
        client.send(request("GET", "/?a=1&b"))
        reply = client.receive_reply()
        assert (reply.status, reply.body, reply["X-Type"]) == (201, b"{'a': '1', 'b': None}", "GET")
        assert (reply.reason, reply["Content-Type"]) == ("Created", "text/html; charset=utf-8")
        form = "Content-Type: application/x-www-form-urlencoded"
        client.send(request("POST", "/", form, "Content-Length: 10", body=b"c=%C3%A9+x"))
        assert client.receive_reply().body == "{'c': 'é x'}".encode()
        client.send(request("HEAD", "/?a=1"))
        reply = client.receive_reply("HEAD")
        assert (reply.status, reply["Content-Length"]) == (201, "10")


def test_later_answers_leave_in_the_order_of_the_requests(start: Start) -> None:
    asked: dict[str, int] = {}
    served = start(lambda socket, header: asked.update({header["RESOURCE"]: socket}))
    with Client(served.address) as client, Client(served.address) as other:
        client.send(request("GET", "/a") + request("GET", "/b"))
        other.send(request("GET", "/c"))
        wait_until(lambda: {"/a", "/c"} <= asked.keys())
        assert http_response(asked["/c"], content="c")
        assert other.receive_reply().body == b"c"
        assert client.is_silent()
        assert http_response(asked["/a"], content="a")
        assert client.receive_reply().body == b"a"
        wait_until(lambda: "/b" in asked)
        assert not http_response(asked["/a"], content="again")
        assert http_response(asked["/b"], content="b")
        assert client.receive_reply().body == b"b"


def test_a_long_answer_arrives_whole(start: Start) -> None:
    served = start(lambda socket, header: http_response(socket, content=bytes(20 << 20)))
    with Client(served.address) as client:
        client.send(request("GET", "/") * 2)
        assert [len(client.receive_reply().body) for _ in range(2)] == [20 << 20] * 2


def assert_forgotten(socket: int) -> None:
    """Soon there is nobody to answer. Until then answers are lost, as they might be on their way."""
    wait_until(lambda: socket not in _unanswered or _unanswered[socket].cancelled())
    assert not http_response(socket)


def test_a_client_that_leaves_is_forgotten(start: Start) -> None:
    asked: list[int] = []
    served = start(lambda socket, header: asked.append(socket))
    with Client(served.address) as client:
        client.send(request("GET", "/"))
        wait_until(lambda: bool(asked))
        client.reset()
    assert_forgotten(asked[0])


def test_stopping_cuts_what_is_not_answered(start: Start) -> None:
    asked: list[int] = []
    served = start(lambda socket, header: asked.append(socket))
    with Client(served.address) as client:
        client.send(request("GET", "/"))
        wait_until(lambda: bool(asked))
        websocket_close(served.context)
        client.receive_rest()
    assert_forgotten(asked[0])


def test_without_a_webpage_a_request_is_a_404_and_a_handshake_is_welcome(start: Start) -> None:
    served = start()
    assert ask(served.address, request("GET", "/")).status == 404
    assert ask(served.address, handshake("/", key="dGhlIHNhbXBsZSBub25jZQ==")).status == 101


# Clients


def test_client_and_server_in_one_thread(start: Start) -> None:
    served = start(callbacks="service", subprotocols=["chat"])
    served.context.established = lambda ws: websocket_write("welcome", ws)
    assert served.context.url is not None and served.context.port is not None
    client = websocket("ws://127.0.0.1", served.context.port, "chat", is_binary=True, headers={"X-A": "b"})
    heard: list[Any] = []
    client.established = lambda ws: heard.append(("open", ws.subprotocol))
    client.receive = lambda data, ws, header: heard.append((data, header.opcode))
    client.closed = lambda ws: heard.append(("closed", ws.close_code))
    websocket_write("hello", client)
    while len(heard) < 3:
        portico.service(client, 1)
    websocket_close(client)
    while len(heard) < 4 or len(served.heard) < 2:
        portico.service(served.context, 1)
    assert heard == [("open", "chat"), (b"welcome", 1), (b"hello", 1), ("closed", 1000)]
    assert served.heard == [(b"hello", 2), ("closed", 1000, "")]


def test_a_client_says_what_went_wrong(start: Start) -> None:
    with pytest.raises(ValueError, match="names no host"):
        websocket("ws://")
    refused = create_server(0, quiet=True)
    websocket_close(refused)
    assert refused.port is not None
    with pytest.raises(ConnectionRefusedError):
        websocket("ws://127.0.0.1", refused.port)
    page = portico.start_server("127.0.0.1", 0, lambda req: portico.Response.text("no", 404), callbacks="thread")
    with pytest.raises(portico.HandshakeRefused) as caught:
        websocket(page.url)
    assert (caught.value.status, caught.value.body) == (404, b"no")
    page.stop()
    page.wait_closed()
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError, match="open_timeout_s"):
        websocket("ws://127.0.0.1", silent.getsockname()[1], open_timeout_s=0.1)


def test_client_and_server_in_one_loop() -> None:
    async def main() -> None:
        context = create_server(0, quiet=True)
        context.receive = lambda data, ws, header: websocket_write(data, ws)
        assert context.url is not None and context.server is not None
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        client = websocket(context.url)
        client.established = lambda ws: websocket_write("hello", ws)
        client.receive = lambda data, ws, header: heard.put_nowait(data)
        assert await asyncio.wait_for(heard.get(), DEADLINE_S) == b"hello"
        websocket_close(client)
        websocket_close(context)
        await context.server.wait_closed()

    asyncio.run(main())


# Where callbacks run


def test_a_daemonized_server_is_at_the_same_port(start: Start) -> None:
    served = start(static_text_service("page"), callbacks="service")
    daemonize(served.context)
    assert served.context.port == served.address[1]
    with served.open() as client:
        client.send_text("hello")
        assert client.receive_text() == "hello"
    with urllib.request.urlopen(f"http://127.0.0.1:{served.context.port}/", timeout=DEADLINE_S) as answer:
        assert answer.read() == b"page"


def test_many_servers_need_one_service(start: Start) -> None:
    contexts = [start(callbacks="service") for _ in range(5)]
    got: list[str] = []

    def talk() -> None:
        for served in contexts:
            with served.open() as client:
                client.send_text("hello")
                got.append(client.receive_text())

    thread = threading.Thread(target=talk)
    thread.start()
    while thread.is_alive():
        portico.service(contexts[0].context, 0.05)
    assert got == ["hello"] * 5


def test_a_prompt_serves_a_context_and_its_callbacks_are_typed(tmp_path: Path) -> None:
    source = """
        from portico import create_server, daemonize, http_response

        def static(socket, header):
            http_response(socket, content=threading.current_thread().name)

        context = create_server(0, static, quiet=True)
        server = context.server
        daemonize(context)
        print("port", context.port, flush=True)
        """
    with Prompt(tmp_path, source) as prompt:
        prompt.wait_for_prompt()
        assert prompt.ask().body == b"MainThread"
        assert prompt.run("context.server is server") == ["True"]
        prompt.run("context.static = lambda socket, header: http_response(socket, content='typed')")
        assert prompt.ask().body == b"typed"
