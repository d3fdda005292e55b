"""`stream_body=True`: the handler runs when the head is there and reads the body while it comes, at its own pace."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import portico
from portico import BodyError, Limits, Request

from .conftest import Live, Serve
from .process import Program
from .wire_client import DEADLINE_S, Client, request, wait_until

CHUNKED = "Transfer-Encoding: chunked"
MUCH = 8_000_000  # more than all buffers on the way hold


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class App:
    """Reads in the way that the path names, and writes down what it gets."""

    def __init__(self) -> None:
        self.seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.may_read = threading.Event()
        self.may_read.set()

    def call(self, req: Request) -> Any:
        self.seen.put(("called", req.path))
        return getattr(self, req.path.strip("/").replace("-", "_"))(req)

    def note(self, error: BaseException) -> None:
        self.seen.put((type(error).__name__, getattr(error, "status", 0), str(error)))

    def plain(self, req: Request) -> str:
        size = 0
        try:
            for piece in req.stream:
                self.seen.put(piece)
                size += len(piece)
        except BodyError as error:
            self.note(error)
            raise
        return f"{size} bytes"

    async def coroutine(self, req: Request) -> str:
        size = 0
        try:
            async for piece in req.stream:
                self.seen.put(piece)
                size += len(piece)
        except BaseException as error:
            self.note(error)
            raise
        return f"{size} bytes"

    async def executor(self, req: Request) -> str:
        return await asyncio.to_thread(self.plain, req)

    def generator(self, req: Request) -> Iterator[bytes]:
        return (piece.swapcase() for piece in req.stream)

    async def async_generator(self, req: Request) -> AsyncIterator[bytes]:
        async for piece in req.stream:
            yield piece.swapcase()

    def unread(self, req: Request) -> str:
        return "unread"

    def first(self, req: Request) -> bytes:
        return req.stream.read(3)

    def later(self, req: Request) -> str:
        """Keeps the stream beyond its answer."""
        self.seen.put(req.stream)
        return "answered"

    async def sleeper(self, req: Request) -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            self.note(error)
            raise

    async def loaded(self, req: Request) -> Any:
        await req.load()
        return str(sum(req.json()))

    async def when_told(self, req: Request) -> str:
        await asyncio.to_thread(self.may_read.wait, DEADLINE_S)
        return await self.coroutine(req)

    def next(self) -> Any:
        return self.seen.get(timeout=DEADLINE_S)


class AsyncHome:
    """A server on an asyncio loop in a thread of its own."""

    def __init__(self, app: App, limits: Limits) -> None:
        self.loop = asyncio.new_event_loop()
        self.started: queue.SimpleQueue[portico.Server] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=(self.run(app, limits),))
        self.thread.start()
        self.server = self.started.get(timeout=DEADLINE_S)

    async def run(self, app: App, limits: Limits) -> None:
        server = portico.start_server("127.0.0.1", 0, app, quiet=True, limits=limits, stream_body=True)
        self.started.put(server)
        await server.wait_closed()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(DEADLINE_S)
        self.loop.close()


@pytest.fixture(params=["thread", "asyncio"])
def live(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Live]:
    app, limits = App(), Limits(body_timeout_s=0.4, max_body_bytes=16 << 20)
    if request.param == "thread":
        yield serve(app, limits=limits, stream_body=True)
        return
    home = AsyncHome(app, limits)
    yield Live(home.server, app)
    home.stop()


READERS = ["plain", "coroutine", "executor"]


@pytest.mark.parametrize("reader", READERS)
def test_each_piece_is_read_when_it_comes(live: Live, reader: str) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", CHUNKED))
        assert live.app.next() == ("called", f"/{reader}")
        for piece in (b"one", b"two", b"three"):
            client.send(chunk(piece))
            assert live.app.next() == piece
        client.send(b"0\r\n\r\n", request("GET", "/unread"))
        assert client.receive_reply().body == b"11 bytes"
        assert client.receive_reply().body == b"unread"


@pytest.mark.parametrize("reader", READERS)
def test_much_is_read_whole(live: Live, reader: str) -> None:
    with live.connect() as client:
        sender = threading.Thread(
            target=client.send, args=(request("POST", f"/{reader}", f"Content-Length: {MUCH}"), bytes(MUCH))
        )
        sender.start()
        assert client.receive_reply().body == f"{MUCH} bytes".encode()
        sender.join(DEADLINE_S)


@pytest.mark.parametrize("reader", ["generator", "async-generator"])
def test_an_answer_is_made_while_the_body_comes(live: Live, reader: str) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", CHUNKED), chunk(b"one"))
        assert client.receive_until(b"3\r\nONE\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        client.send(chunk(b"Two"))
        assert client.receive_until(b"\r\n") + client.receive_until(b"\r\n") == b"3\r\ntWO\r\n"
        client.send(b"0\r\n\r\n")
        assert client.receive_until(b"0\r\n\r\n") == b"0\r\n\r\n"


def test_much_is_echoed_at_the_pace_of_both(live: Live) -> None:
    with live.connect() as client:
        head = request("POST", "/generator", f"Content-Length: {MUCH}")
        sender = threading.Thread(target=client.send, args=(head, b"a" * MUCH))
        sender.start()
        assert client.receive_until(b"\r\n\r\n")
        received = 0
        while size := int(client.receive_until(b"\r\n"), 16):
            assert client.receive(size + 2) == b"A" * size + b"\r\n"
            received += size
        sender.join(DEADLINE_S)
        assert received == MUCH


def test_who_does_not_read_stops_the_client(live: Live) -> None:
    live.app.may_read.clear()
    with live.connect() as client:
        client.send(request("POST", "/when-told", f"Content-Length: {MUCH}"))
        assert live.app.next() == ("called", "/when-told")
        sent = client.send_until_full(bytes(1 << 20), most=MUCH)
        assert sent < MUCH
        client.is_silent(0.6)  # body_timeout_s is the client's time, and it has done its part
        live.app.may_read.set()
        client.send(bytes(MUCH - sent))
        assert client.receive_reply().body == f"{MUCH} bytes".encode()


def test_load_waits_for_the_whole(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/loaded", "Content-Length: 5"), b"[1,")
        assert live.app.next() == ("called", "/loaded")
        client.send(b"2]")
        assert client.receive_reply().body == b"3"


def test_no_body_is_an_empty_stream(live: Live) -> None:
    with live.connect() as client:
        for method in ("GET", "POST"):
            client.send(request(method, "/plain"))
            assert client.receive_reply().body == b"0 bytes"


# Who is told to go on, and what becomes of what nobody reads


@pytest.mark.parametrize("reader", READERS)
def test_continue_is_sent_when_the_handler_reads(live: Live, reader: str) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", "Content-Length: 2", "Expect: 100-continue"))
        assert client.receive_reply().status == 100
        client.send(b"ab")
        assert client.receive_reply().body == b"2 bytes"


def test_no_continue_without_a_reader(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/unread", "Content-Length: 2", "Expect: 100-continue"))
        reply = client.receive_last_reply()
        assert (reply.status, reply.body) == (200, b"unread")


def test_waiting_for_continue_is_not_standing_still(live: Live) -> None:
    live.app.may_read.clear()
    with live.connect() as client:
        client.send(request("POST", "/when-told", "Content-Length: 2", "Expect: 100-continue"))
        assert client.is_silent(0.6)
        live.app.may_read.set()
        assert client.receive_reply().status == 100
        client.send(b"ab")
        assert client.receive_reply().body == b"2 bytes"


def test_an_answer_before_the_end_of_the_body_is_the_last(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/unread", "Content-Length: 10"), b"12345")
        assert client.receive_last_reply().body == b"unread"
    with live.connect() as client:
        client.send(request("POST", "/first", "Content-Length: 10"), b"12345")
        assert client.receive_last_reply().body == b"123"


def test_a_body_that_is_all_here_need_not_be_read(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/unread", "Content-Length: 5", body=b"12345"), request("GET", "/unread"))
        assert client.receive_reply().body == b"unread"
        assert client.receive_reply().body == b"unread"


def test_a_stream_ends_with_its_answer(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/later", "Content-Length: 5", body=b"12345"))
        assert client.receive_reply().body == b"answered"
        assert live.app.next() == ("called", "/later")
        stream = live.app.next()
        client.send(request("POST", "/plain", CHUNKED), chunk(b"not yours"))
        assert live.app.next() == ("called", "/plain")
        with pytest.raises(BodyError, match="answered"):
            stream.read()
        assert live.app.next() == b"not yours"
        client.send(b"0\r\n\r\n")
        assert client.receive_reply().body == b"9 bytes"


# Bodies without an end


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("leave", ["end", "close", "reset"])
def test_a_client_that_leaves_is_an_error(live: Live, reader: str, leave: str) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", "Content-Length: 10"), b"half")
        assert [live.app.next() for _ in range(2)] == [("called", f"/{reader}"), b"half"]
        if leave == "end":
            client.end()
        elif leave == "close":
            client.socket.close()
        else:
            client.reset()
        name, status, text = live.app.next()
        assert (name, status) == ("BodyError", 400)
        assert "client" in text
        if leave == "end":
            # Between two reads, a coroutine whose thread reads is cancelled as any other.
            assert client.receive_last_reply().status in ((400, 503) if reader == "executor" else (400,))
    assert live.ask("GET", "/unread").body == b"unread"


def test_a_handler_that_does_not_read_is_cancelled(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/sleeper", "Content-Length: 10"), b"half")
        assert live.app.next() == ("called", "/sleeper")
        client.reset()
        assert live.app.next()[0] == "CancelledError"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("rest", "status"),
    [(chunk(bytes(1 << 20)) * 17, 413), (b"no size\r\n", 400), (b"", 408)],
)
def test_limits_end_it(live: Live, reader: str, rest: bytes, status: int) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", CHUNKED), chunk(b"begun"), rest)
        reply = client.receive_reply()
        assert (reply.status, reply["Connection"]) == (status, "close")
        seen = live.app.next()
        while not isinstance(seen, tuple) or seen[0] == "called":
            seen = live.app.next()
        assert seen[:2] == ("BodyError", status)
        assert f"{seen[2]}\n".encode() == reply.body


def test_an_announced_length_over_the_limit_never_gets_there(live: Live) -> None:
    for expect in ([], ["Expect: 100-continue"]):
        with live.connect() as client:
            client.send(request("POST", "/plain", f"Content-Length: {17 << 20}", *expect))
            assert client.receive_last_reply().status == 413
    assert live.app.seen.empty()


@pytest.mark.parametrize("reader", READERS)
def test_stopping_the_server_ends_it(live: Live, reader: str) -> None:
    with live.connect() as client:
        client.send(request("POST", f"/{reader}", "Content-Length: 10"), b"half")
        assert [live.app.next() for _ in range(2)] == [("called", f"/{reader}"), b"half"]
        live.server.stop()
        name, status, text = live.app.next()
        if name == "BodyError":
            # A thread that looks up late finds the whole connection gone.
            assert (status, "server stopped" in text) == (503, True) or (status, reader) == (400, "executor")
        else:  # the home ends with its server, and cancels what it has
            assert (name, reader) == ("CancelledError", "coroutine")


# With other parts


def test_on_headers_decides_first(serve: Serve) -> None:
    class Guarded(App):
        def on_headers(self, req: Request) -> Any:
            self.seen.put(("head", req.path))
            return None if req.headers.get("x-key") == "1" else portico.Response(401)

    live = serve(Guarded(), stream_body=True)
    with live.connect() as client:
        client.send(request("POST", "/plain", "Content-Length: 4", "X-Key: 1"), b"ab")
        assert [live.app.next() for _ in range(3)] == [("head", "/plain"), ("called", "/plain"), b"ab"]
        client.send(b"cd")
        assert client.receive_reply().body == b"4 bytes"
    with live.connect() as client:
        client.send(request("POST", "/plain", "Content-Length: 4"), b"ab")
        assert client.receive_last_reply().status == 401


def test_no_callback_runs_while_a_plain_handler_reads(serve: Serve) -> None:
    live = serve(App(), callbacks="service", stream_body=True)

    def talk() -> None:
        with live.connect() as client, live.connect() as other:
            client.send(request("POST", "/plain", CHUNKED), chunk(b"one"))
            replies.append(live.app.next())
            replies.append(live.app.next())
            other.send(request("GET", "/unread"))
            wait_until(lambda: live.server.stats()["requests"] == before + 2)  # the I/O goes on
            replies.append(live.app.seen.empty())
            client.send(chunk(b"two"), b"0\r\n\r\n")
            replies.append(client.receive_reply().body)
            replies.append(other.receive_reply().body)

    replies: list[Any] = []
    before = live.server.stats()["requests"]  # of this thread's home, whatever it had to do before
    thread = threading.Thread(target=talk)
    thread.start()
    live.service_until(lambda: len(replies) == 5 or not thread.is_alive())
    thread.join(DEADLINE_S)
    assert replies == [("called", "/plain"), b"one", True, b"6 bytes", b"unread"]


INTERRUPTED = """
def call(req):
    try:
        return req.stream.read()
    except KeyboardInterrupt:
        say("interrupted")
        raise

server = start(call, "service", stream_body=True)
try:
    while True:
        server.service()
except KeyboardInterrupt:
    say("out")
"""


def test_ctrl_c_ends_the_waiting() -> None:
    with Program(INTERRUPTED) as program, Client(program.address()) as client:
        client.send(request("POST", "/", "Content-Length: 10", "Expect: 100-continue"))
        assert client.receive_reply().status == 100
        program.send_signal(signal.SIGINT)
        assert [program.line(), program.line()] == ["interrupted", "out"]
