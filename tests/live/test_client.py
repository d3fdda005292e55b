"""The client against servers that exist: ours, `websockets`, and one that says whatever a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.server

import portico
from portico import ConnectionClosed, HandshakeError, HandshakeRefused, Limits, SendResult

from .conftest import Live, Serve
from .wire_client import DEADLINE_S, wait_until

Conversation = Callable[[socket.socket], None]


class Echo:
    """Echoes, and tells what its handshakes were."""

    def __init__(self) -> None:
        self.handshakes: queue.Queue[portico.Request] = queue.Queue()

    def call(self, req: portico.Request) -> portico.Response:
        return portico.Response(404, {"Content-Type": "text/plain"}, "nothing but WebSockets\n" * 10)

    def on_ws_open(self, ws: portico.WebSocket) -> None:
        self.handshakes.put(ws.request)
        ws.on_message(lambda binary, message: ws.send(message))


@pytest.fixture(scope="module")
def echo() -> Iterator[Live]:
    app = Echo()
    server = portico.start_server(
        "127.0.0.1", 0, app, quiet=True, callbacks="thread", deflate=True, subprotocols=["v2", "v1"]
    )
    yield Live(server, app)
    server.stop()
    server.wait_closed()


@contextlib.contextmanager
def scripted(*conversations: Conversation) -> Iterator[str]:
    """A server of plain sockets that has one conversation per connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)

        def serve() -> None:
            for conversation in conversations:
                with contextlib.suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(DEADLINE_S)
                        conversation(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    return head


def say(answer: bytes) -> Conversation:
    def conversation(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(answer)

    return conversation


def agree(more: bytes = b"", then: Conversation = lambda connection: None) -> Conversation:
    """Answer the handshake as RFC 6455 wants it, with `more` right behind."""

    def conversation(connection: socket.socket) -> None:
        from .wire_client import GUID, base64, hashlib

        head = read_head(connection).decode()
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + more
        )
        then(connection)

    return conversation


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1_000_000])
def test_messages_of_every_size_come_back(echo: Live, size: int, deflate: bool) -> None:
    data = os.urandom(size // 2) + bytes(size - size // 2)
    text = "ü" * (size // 2)
    with portico.connect(echo.server.url, deflate=deflate) as ws:
        assert ("sec-websocket-extensions" in ws.response_headers) is deflate
        for message in (data, text):
            assert ws.send(message) is SendResult.SENT
            assert ws.recv(DEADLINE_S) == message
    assert ws.close_code == 1000


def test_the_handshake_says_what_was_asked(serve: Serve) -> None:
    echo = serve(Echo(), subprotocols=["v2", "v1"])
    with portico.connect(
        f"{echo.server.url}/chat?a=ü", headers={"Cookie": "a=b", "Origin": echo.server.url}, subprotocols=["v1", "v2"]
    ) as ws:
        request = echo.app.handshakes.get(timeout=DEADLINE_S)
        assert (request.path, request.query["a"], request.cookies) == ("/chat", "ü", {"a": "b"})
        assert ws.subprotocol == "v2"
        assert ws.is_open and ws.latency_s is None
        assert ws.ping(b"x") is SendResult.SENT
        wait_until(lambda: ws.latency_s is not None)


def test_frames_are_masked_and_no_mask_repeats() -> None:
    seen: list[bytes] = []

    def read_frames(connection: socket.socket) -> None:
        for _ in range(100):
            frame = b""
            while len(frame) < 6 + 5:
                frame += connection.recv(6 + 5 - len(frame))
            assert frame[:2] == bytes([0x82, 0x85])
            mask, payload = frame[2:6], frame[6:]
            assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) == b"hello"
            seen.append(mask)

    with scripted(agree(then=read_frames)) as url:
        ws = portico.connect(url)
        for _ in range(100):
            ws.send(b"hello")
        ws.wait_closed(DEADLINE_S)
    assert len(set(seen)) == 100
    assert ws.close_code == 1006


def test_what_comes_right_behind_the_answer_is_not_lost() -> None:
    with scripted(agree(b"\x81\x02hi\x89\x00\x88\x02\x03\xe9")) as url:
        ws = portico.connect(url)
        assert list(ws) == ["hi"]
        assert ws.close_code == 1001


def test_a_server_must_not_mask() -> None:
    with scripted(agree(b"\x81\x82\x00\x00\x00\x00hi", lambda connection: connection.recv(100))) as url:
        ws = portico.connect(url)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(DEADLINE_S)
        assert caught.value.code == 1002


def test_an_answer_in_single_bytes_is_read() -> None:
    def drip(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\nRetry-After: 1\r\n\r\nlater":
            connection.sendall(bytes([byte]))

    with scripted(lambda connection: (read_head(connection), drip(connection))[0]) as url:  # type: ignore[arg-type]
        with pytest.raises(HandshakeRefused) as caught:
            portico.connect(url)
    assert (caught.value.status, caught.value.body, caught.value.headers["retry-after"]) == (503, b"later", "1")
    assert caught.value.is_passing


def test_a_404_is_told_with_its_body(serve: Serve) -> None:
    live = serve(lambda req: portico.Response(404, {"X-A": "b"}, "no such chat\n"))
    with pytest.raises(HandshakeRefused, match="404 Not Found") as caught:
        portico.connect(f"{live.server.url}/chat")
    assert (caught.value.headers["x-a"], caught.value.body) == ("b", b"no such chat\n")


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (SWITCHING + b"Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n", "does not answer our key"),
        (SWITCHING + b"\r\n", "does not answer our key"),
        (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n", "Upgrade"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", "Connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 101 X\r\nA: " + b"b" * 200_000, "max_head_bytes"),
        (b"", "without an answer"),
        (b"HTTP/1.1 101 Swi", "without an answer"),
    ],
)
def test_what_is_no_agreement_is_said(answer: bytes, text: str) -> None:
    with scripted(say(answer)) as url, pytest.raises(HandshakeError, match=text) as caught:
        portico.connect(url)
    assert not isinstance(caught.value, HandshakeRefused)


def test_interim_answers_are_passed_over() -> None:
    with scripted(say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 403 No\r\n\r\nbecause")) as url:
        with pytest.raises(HandshakeRefused) as caught:
            portico.connect(url)
    assert (caught.value.status, caught.value.body) == (403, b"because")


def test_of_an_endless_refusal_a_part_is_kept() -> None:
    def pour(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 10_000)

    with scripted(pour) as url, pytest.raises(HandshakeRefused) as caught:
        portico.connect(url)
    assert caught.value.status == 200
    assert 0 < len(caught.value.body) <= 64 * 1024


@pytest.mark.parametrize("headers", [{"upgrade": "x"}, {"Host": "other"}, {"A b": "c"}, {"A": "b\r\nC: d"}])
def test_what_http_cannot_carry_is_refused_and_leaves_no_thread(headers: dict[str, str]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="(?i)" + "|".join(headers)):
        portico.connect("ws://127.0.0.1:1/", headers=headers)
    with pytest.raises(ValueError, match="(?i)" + "|".join(headers)):
        portico.connect("ws://127.0.0.1:1/", headers=headers, on_open=print, callbacks="thread")
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_a_port_that_nobody_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=f"127.0.0.1:{port}"):
        portico.connect(f"ws://127.0.0.1:{port}/")
    with pytest.raises(FileNotFoundError, match="unix:/nowhere"):
        portico.connect("unix:/nowhere")


def test_a_name_that_is_none() -> None:
    with pytest.raises(socket.gaierror):
        portico.connect("ws://no-such-host.invalid/")


def test_a_server_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TimeoutError, match="open_timeout_s"):
        portico.connect(f"ws://127.0.0.1:{listener.getsockname()[1]}/", open_timeout_s=0.05)


def test_a_unix_socket(tmp_path: Path) -> None:
    app = Echo()
    server = portico.start_pipe_server(str(tmp_path / "s"), None, app, quiet=True, callbacks="thread")
    with portico.connect(server.url) as ws:
        ws.send("over a file")
        assert ws.recv(DEADLINE_S) == "over a file"
    server.stop()
    server.wait_closed()


def test_limits_hold_for_what_servers_send(echo: Live) -> None:
    with portico.connect(echo.server.url, limits=Limits(max_message_bytes=100)) as ws:
        ws.send("x" * 101)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(DEADLINE_S)
        assert caught.value.code == 1009


def test_a_bound_that_is_never_reached(echo: Live) -> None:
    with portico.connect(echo.server.url, open_timeout_s=1e300) as ws:
        assert ws.is_open


@pytest.mark.parametrize(
    ("more", "end"),
    [
        (b"\x88\x00", (1005, "")),
        (b"\x88\x05\x0f\xa1bye", (4001, "bye")),
        (b"\x81\x02hi\x88\x05\x0f\xa1bye", (4001, "bye")),
    ],
)
def test_how_the_server_ended_it(more: bytes, end: tuple[int, str]) -> None:
    ends: list[Any] = []
    answers: list[bytes] = []

    def hear(connection: socket.socket) -> None:
        answers.append(connection.recv(100, socket.MSG_WAITALL))

    with scripted(agree(more, hear)) as url:
        ws = portico.connect(url, on_close=lambda ws: ends.append((ws.close_code, ws.close_reason)))
        assert ws.wait_closed(DEADLINE_S)
    assert ends == [end]
    (answer,) = answers  # masked, with the same code, and the end of the connection behind it
    code = bytes(a ^ b for a, b in zip(answer[6:], answer[2:], strict=False))
    assert (answer[:2], code) == ((b"\x88\x80", b"") if end[0] == 1005 else (b"\x88\x82", b"\x0f\xa1"))


def test_a_reset_is_told_once() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(6 + 1, socket.MSG_WAITALL)  # one that comes before the 101 is read would be no WebSocket's end
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with scripted(agree(then=reset)) as url:
        ends: list[int | None] = []
        ws = portico.connect(
            url, on_open=lambda ws: ws.send("x") and None, on_close=lambda ws: ends.append(ws.close_code)
        )
        assert ws.wait_closed(DEADLINE_S)
        portico.service(0)
    assert ends == [1006]
    assert ws.send("late") is ws.close() is ws.ping() is SendResult.CLOSED


def test_a_ping_is_answered_with_what_it_had_and_a_pong_is_not() -> None:
    answers: list[bytes] = []

    def hear(connection: socket.socket) -> None:
        answer = connection.recv(6 + 4, socket.MSG_WAITALL)
        answers.append(answer[:2] + bytes(byte ^ answer[2 + at % 4] for at, byte in enumerate(answer[6:])))

    with scripted(agree(b"\x8a\x05never\x89\x04here", hear)) as url:
        assert list(portico.connect(url)) == []
    assert answers == [b"\x8a\x84here"]


def test_a_callback_that_raises_ends_its_own_client(echo: Live, caplog: pytest.LogCaptureFixture) -> None:
    with portico.connect(echo.server.url) as other:
        ws = portico.connect(
            echo.server.url, on_open=lambda ws: ws.send("x") and None, on_message=lambda ws, message: 1 / 0
        )
        assert ws.wait_closed(DEADLINE_S)
        assert ws.close_code == 1011
        assert "ZeroDivisionError" in caplog.text
        other.send("still here")
        assert other.recv(DEADLINE_S) == "still here"
        for wrong in (1, {}, None):
            with pytest.raises(TypeError):
                other.send(wrong)  # type: ignore[arg-type]


def test_reconnect_comes_through_a_restart() -> None:
    started: queue.Queue[portico.Server] = queue.Queue()

    def start(port: int) -> None:
        app = {"on_ws_open": lambda ws: ws.send("news") and None}
        started.put(portico.start_server("127.0.0.1", port, app, quiet=True, callbacks="thread"))

    start(0)
    port = started.queue[0].port
    ends: list[int | None] = []
    for ws in portico.reconnect(f"ws://127.0.0.1:{port}/", min_delay_s=0.01, max_delay_s=0.02):
        assert ws.recv(DEADLINE_S) == "news"
        server = started.get(timeout=DEADLINE_S)
        server.stop()
        assert list(ws) == []
        ends.append(ws.close_code)
        server.wait_closed()
        if len(ends) == 2:
            break
        threading.Timer(0.1, start, (port,)).start()  # meanwhile attempts find nobody
    assert ends == [1001, 1001]


HELD = """
import ctypes, portico, sys
limits = portico.Limits(ping_interval_s=0.05, pong_timeout_s=0.2)
with portico.connect(sys.argv[1], limits=limits) as ws:
    ctypes.PyDLL(None).usleep(1_000_000)
    assert list(ws) == []
    print(ws.close_code, ws.close_reason)
"""


def test_a_held_client_keeps_the_connection_and_notices_a_dead_server() -> None:
    heard: list[tuple[int, bytes]] = []

    def answer_three(connection: socket.socket) -> None:
        while True:
            head = connection.recv(6, socket.MSG_WAITALL)
            if not head:
                break
            payload = connection.recv(head[1] & 0x7F, socket.MSG_WAITALL)
            heard.append((head[0] & 0x0F, bytes(byte ^ head[2 + at % 4] for at, byte in enumerate(payload))))
            if len(heard) <= 3:
                connection.sendall(bytes([0x8A, len(payload)]) + heard[-1][1])

    with scripted(agree(then=answer_three)) as url:
        done = subprocess.run(
            [sys.executable, "-c", HELD, url], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.startswith("1006 no pong within"), done
    assert [opcode for opcode, _ in heard] == [9, 9, 9, 9, 8]
    assert heard[-1][1] == b"\x03\xf3"


def test_a_server_that_reads_nothing_makes_send_say_so() -> None:
    done = threading.Event()
    with scripted(agree(then=lambda connection: done.wait(DEADLINE_S) and None)) as url:
        ws = portico.connect(url, limits=Limits(max_outbox_bytes=100_000))
        results = {ws.send(bytes(50_000)) for _ in range(400)}
        assert results == {SendResult.SENT, SendResult.FULL}
        assert ws.buffered_amount <= 100_000 + 50_020
        assert ws.is_open
        done.set()
        ws.wait_closed(DEADLINE_S)


def test_a_client_and_its_server_in_one_thread(serve: Serve) -> None:
    live = serve(Echo(), callbacks="service")
    with portico.connect(live.server.url) as ws:
        ws.send("to myself")
        assert ws.recv(DEADLINE_S) == "to myself"
    assert ws.close_code == 1000


@pytest.mark.parametrize("home", ["service", "loop", "thread"])
def test_callbacks_in_every_home(echo: Live, home: str) -> None:
    log: queue.Queue[Any] = queue.Queue()

    def connect() -> portico.Client:
        return portico.connect(
            echo.server.url.replace("127.0.0.1", "localhost"),
            on_open=lambda ws: log.put(("open", threading.current_thread().name, ws.send("x"))),
            on_message=lambda ws, message: (log.put(message), ws.close(3000, "enough")),
            on_close=lambda ws: log.put((ws.close_code, ws.close_reason)),
            callbacks="thread" if home == "thread" else "auto",
        )

    if home == "loop":

        async def main() -> None:
            connect()
            while log.qsize() < 3:
                await asyncio.sleep(0.001)

        asyncio.run(main())
    else:
        connect()
        while home == "service" and log.qsize() < 3:
            portico.service(0.05)
    thread = "portico" if home == "thread" else threading.current_thread().name
    calls = [log.get(timeout=DEADLINE_S) for _ in range(3)]
    assert calls[:2] == [("open", thread, SendResult.SENT), "x"]
    assert calls[2][0] == 3000


def run_on_asyncio(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, DEADLINE_S))


def run_on_uvloop(main: Coroutine[Any, Any, None]) -> None:
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(asyncio.wait_for(main, DEADLINE_S))


Run = Callable[[Coroutine[Any, Any, None]], None]
LOOPS = pytest.mark.parametrize("run", [run_on_asyncio, run_on_uvloop])


class Chatty:
    """Answers every message with itself, and every tenth with more than was asked for."""

    def on_ws_open(self, ws: portico.WebSocket) -> None:
        def answer(binary: bool, message: str | bytes) -> None:
            ws.send(message)
            for number in range(3 if int(message) % 10 == 0 else 0):
                ws.send(f"{message}.{number}")

        ws.on_message(answer)


@pytest.fixture
def chatty() -> Iterator[str]:
    server = portico.start_server("127.0.0.1", 0, Chatty(), quiet=True, callbacks="thread")
    yield server.url
    server.stop()
    server.wait_closed()


@LOOPS
def test_messages_keep_their_order_however_they_are_found(chatty: str, run: Run) -> None:
    """Some are looked for where they are wanted, others come in batches of the loop's turns."""

    async def main() -> None:
        expected = [text for n in range(2_000) for text in (f"{n}", *(f"{n}.{i}" for i in range(3) if n % 10 == 0))]
        got: list[str | bytes] = []
        async with portico.connect(chatty, limits=Limits(max_inbox_messages=2)) as ws:
            ws.send("0")
            async for message in ws:
                got.append(message)
                if len(got) == len(expected):
                    break
                if "." not in str(message):
                    ws.send(str(int(message) + 1))
        assert got == expected

    run(main())


@LOOPS
@pytest.mark.parametrize("style", ["async for", "callbacks"])
def test_a_client_that_is_always_answered_leaves_the_loop_its_turns(echo: Live, run: Run, style: str) -> None:
    async def main() -> None:
        over = asyncio.Event()

        async def neighbour() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            over.set()

        def again(ws: portico.Client, message: str | bytes) -> None:
            ws.close() if over.is_set() else ws.send(message)

        task = None
        if style == "callbacks":
            closed = asyncio.Event()
            portico.connect(
                echo.server.url,
                on_open=lambda ws: ws.send("x") and None,
                on_message=again,
                on_close=lambda ws: closed.set(),
            )
            task = asyncio.create_task(neighbour())
            await closed.wait()
        else:
            async with portico.connect(echo.server.url) as ws:
                ws.send("x")
                async for message in ws:
                    task = task or asyncio.create_task(neighbour())
                    again(ws, message)
        assert task is not None
        await task

    run(main())


@LOOPS
def test_a_reader_that_is_cancelled_between_answers_reads_on(echo: Live, run: Run) -> None:
    async def main() -> None:
        async with portico.connect(echo.server.url) as ws:
            for number in range(300):
                ws.send(f"{number}")
                if number % 3 == 0:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(ws.receive(), 0)
                        continue
                assert await ws.receive() == f"{number}"

    run(main())


def test_the_websockets_server_agrees() -> None:
    async def answer(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with websockets.asyncio.server.serve(answer, "127.0.0.1", 0, subprotocols=["chat"]) as server:  # type: ignore[list-item]
            port = server.sockets[0].getsockname()[1]
            async with portico.connect(f"ws://127.0.0.1:{port}/", subprotocols=["chat"], deflate=True) as ws:
                assert ws.subprotocol == "chat"
                assert "permessage-deflate" in ws.response_headers["sec-websocket-extensions"]
                for message in ("text", b"\x00bytes", "long " * 10_000, os.urandom(200_000)):
                    ws.send(message)
                    assert await ws.receive() == message
            assert ws.close_code == 1000

    asyncio.run(main())


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_clients_cost_no_thread_and_one_descriptor_each(echo: Live) -> None:
    async def main() -> None:
        first = portico.connect(echo.server.url)
        await first
        threads, descriptors = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
        clients = await asyncio.gather(*(_open(echo.server.url) for _ in range(1000)))
        assert len(os.listdir("/proc/self/task")) == threads
        # Both ends live in this process, and what lingered before may have ended.
        assert len(os.listdir("/proc/self/fd")) - descriptors <= 2 * len(clients)
        for client in clients:
            client.send("all together")
        assert {await client.receive() for client in clients} == {"all together"}
        for client in [first, *clients]:
            client.close()
        for client in clients:
            assert [message async for message in client] == []

    async def _open(url: str) -> portico.Client:
        return await portico.connect(url)

    asyncio.run(main())


# TLS


@pytest.fixture(scope="module")
def pair() -> portico.CertPair:
    return portico.write_cert(["127.0.0.1", "localhost"])


@pytest.fixture(scope="module")
def secure(pair: portico.CertPair) -> Iterator[Live]:
    config = portico.tls_config(server=pair.server)
    server = portico.start_server("127.0.0.1", 0, Echo(), quiet=True, callbacks="thread", deflate=True, tls=config)
    yield Live(server, server)
    server.stop()
    server.wait_closed()


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", [0, 100, 70_000, 3_000_000])
def test_messages_come_back_over_tls(secure: Live, pair: portico.CertPair, size: int, deflate: bool) -> None:
    message = os.urandom(size)
    with portico.connect(secure.server.url, tls=portico.tls_config(client=pair.client), deflate=deflate) as ws:
        ws.send(message)
        assert ws.recv(DEADLINE_S) == message
    assert ws.close_code == 1000


def test_a_certificate_nobody_vouches_for_is_refused(secure: Live) -> None:
    with pytest.raises(portico.CertificateError, match=r"tls_config\(client=…\)"):
        portico.connect(secure.server.url)


def test_a_certificate_for_another_name_is_refused(pair: portico.CertPair) -> None:
    trust = portico.tls_config(client=pair.client)
    other = portico.start_server(
        "127.0.0.2", 0, Echo(), quiet=True, callbacks="thread", tls=portico.tls_config(server=pair.server)
    )
    try:
        with pytest.raises(portico.CertificateError, match="not valid for name"):
            portico.connect(other.url, tls=trust)
        with portico.connect(other.url, tls=portico.tls_config(auth=False)) as ws:
            assert ws.is_open
    finally:
        other.stop()
        other.wait_closed()


def test_a_plain_server_speaks_no_tls(echo: Live) -> None:
    with pytest.raises(HandshakeError, match="TLS"):
        portico.connect(echo.server.url.replace("http", "wss"), tls=portico.tls_config(auth=False))


def test_a_tls_server_tells_a_plain_client(secure: Live) -> None:
    with pytest.raises(HandshakeRefused, match="400") as caught:
        portico.connect(secure.server.url.replace("https", "ws"))
    assert b"wss://" in caught.value.body


def test_tls_is_for_secure_urls(echo: Live) -> None:
    with pytest.raises(ValueError, match="wss://"):
        portico.connect(echo.server.url, tls=portico.tls_config(auth=False))


def test_a_client_shows_its_certificate(pair: portico.CertPair) -> None:
    mine = portico.write_cert("me")
    app = Echo()
    server = portico.start_server(
        "127.0.0.1",
        0,
        app,
        quiet=True,
        callbacks="thread",
        tls=portico.tls_config(server=pair.server, client=mine.client, auth=True),
    )
    try:
        with portico.connect(server.url, tls=portico.tls_config(client=pair.client, server=mine.server)) as ws:
            ws.send("hi")
            assert ws.recv(DEADLINE_S) == "hi"
            shown = app.handshakes.get(timeout=DEADLINE_S).client_cert
            assert shown is not None and shown.common_name == "me"
        with pytest.raises(HandshakeError, match="TLS"):
            portico.connect(server.url, tls=portico.tls_config(client=pair.client))
    finally:
        server.stop()
        server.wait_closed()


def test_an_asyncio_client_over_tls(secure: Live, pair: portico.CertPair) -> None:
    async def main() -> None:
        async with portico.connect(secure.server.url, tls=portico.tls_config(client=pair.client)) as ws:
            ws.send("hi")
            assert await ws.receive() == "hi"

    asyncio.run(main())
