"""The ways in which a server with two drivers and one mailbox could forget somebody, hold something back or never rest.

Where a test only needs the home thread busy, its callback waits for a gate; where it needs the interpreter held, or
nobody else in the process, it runs a program. A loop that is not awaited is a loop that is busy.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

import pytest

from portico import Limits
from portico.request import Request
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve
from .process import Program
from .wire_client import CLOSE, DEADLINE_S, TEXT, WebSocketClient, close_payload, frame, request, wait_until

PROMPT_S = 2.0  # a watchman that sleeps through its duty is found by a wait this long
NO_PINGS = Limits(ping_interval_s=None)


def wait_for_messages(live: Live, count: int) -> None:
    wait_until(lambda: live.server.stats()["messages"] >= count, f"{count} messages in the mailbox")


# (a) Python goes idle and no packet comes any more


@pytest.mark.parametrize("rounds", [20])
def test_what_came_while_the_loop_was_busy_needs_no_further_packet(serve: Serve, rounds: int) -> None:
    async def main() -> None:
        got: asyncio.Queue[str | bytes] = asyncio.Queue()

        def on_ws_open(ws: WebSocket) -> None:
            ws.on_message(lambda binary, message: got.put_nowait(message))

        live = serve({"on_ws_open": on_ws_open}, callbacks="auto", limits=NO_PINGS)
        with live.open() as client:
            for round in range(rounds):
                client.send_text(str(round))
                wait_for_messages(live, round + 1)  # the loop does not run, so the watchman took it
                assert await asyncio.wait_for(got.get(), PROMPT_S) == str(round)
        live.server.stop()
        await live.server.wait_closed()

    asyncio.run(main())


# (b) Connections that can go on without new bytes


def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    live = serve(lambda req: req.path, limits=Limits(max_inbox_messages=1))
    with live.connect() as client:
        client.send(*(request(target=f"/{number}") for number in range(3)))
        assert [client.receive_reply().body for _ in range(3)] == [b"/0", b"/1", b"/2"]


def test_pipelined_requests_are_answered_in_order_in_service(serve: Serve) -> None:
    asked: list[str] = []

    def call(req: Request) -> str:
        asked.append(req.path)
        return req.path

    live = serve(call, callbacks="service", limits=Limits(max_inbox_messages=1))
    with live.connect() as client:
        client.send(*(request(target=f"/{number}") for number in range(3)))
        live.service_until(lambda: len(asked) == 3)
        assert [client.receive_reply().body for _ in range(3)] == [b"/0", b"/1", b"/2"]


def test_pipelined_requests_are_answered_in_order_in_a_loop(serve: Serve) -> None:
    async def main() -> None:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def call(req: Request) -> str:
            asked.put_nowait(req.path)
            return req.path

        live = serve(call, callbacks="auto", limits=Limits(max_inbox_messages=1))
        with live.connect() as client:
            client.send(*(request(target=f"/{number}") for number in range(3)))
            for number in range(3):
                assert await asyncio.wait_for(asked.get(), PROMPT_S) == f"/{number}"
            replies = await asyncio.to_thread(lambda: [client.receive_reply().body for _ in range(3)])
            assert replies == [b"/0", b"/1", b"/2"]
        live.server.stop()
        await live.server.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("home", ["thread", "service"])
def test_messages_beyond_the_inbox_need_no_further_packet(serve: Serve, home: str) -> None:
    got: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def echo(binary: bool, message: str | bytes) -> None:
            got.append(message)
            ws.send(message)

    live = serve({"on_ws_open": on_ws_open}, callbacks=home, limits=Limits(max_inbox_messages=2))
    texts = [str(number) for number in range(100)]
    with live.open() as client:
        client.send_text(*texts)
        if home == "service":
            live.service_until(lambda: len(got) == 100)
        assert [client.receive_text() for _ in texts] == texts


# (c) Nothing that was sent waits for Python


class Gate:
    """Messages that say how long their callback stays."""

    def __init__(self) -> None:
        self.is_in = threading.Event()
        self._is_open = threading.Event()
        self.sockets: dict[str, WebSocket] = {}

    def on_ws_open(self, ws: WebSocket) -> None:
        self.sockets[ws.request.path] = ws
        ws.on_message(lambda binary, message: self.on_message(ws, str(message)))

    def on_message(self, ws: WebSocket, message: str) -> None:
        match message:
            case "hold":
                self.is_in.set()
                assert self._is_open.wait(DEADLINE_S)
                self.is_in.clear()
                self._is_open.clear()
            case "send, hold":
                ws.send("working")
                self.on_message(ws, "hold")
                ws.send("done")
            case "tell other":
                self.sockets["/other"].send("told")
            case _:
                ws.send(message)

    def open(self) -> None:
        self._is_open.set()


def test_what_a_callback_sends_leaves_before_it_returns(serve: Serve) -> None:
    """Again and again: the watchman must be there each time, also when it was driving just before."""
    gate = Gate()
    live = serve(gate, limits=NO_PINGS)
    with live.open() as client:
        client.socket.settimeout(PROMPT_S)
        for _ in range(100):
            client.send_text("send, hold")
            assert client.receive_text() == "working"
            gate.open()
            assert client.receive_text() == "done"


@pytest.mark.parametrize("first", ["anything", "tell other"])
def test_what_a_callback_sends_leaves_although_another_of_the_batch_holds(serve: Serve, first: str) -> None:
    gate = Gate()
    live = serve(gate, limits=NO_PINGS)
    with live.open() as sender, live.open() as holder, live.open("/other") as other:
        other.send_text("ready")
        assert other.receive_text() == "ready"
        for count in range(2, 62, 3):
            holder.send_text("hold")
            assert gate.is_in.wait(DEADLINE_S)
            gate.is_in.clear()
            sender.send_text(first)
            wait_for_messages(live, count + 1)
            holder.send_text("hold")
            wait_for_messages(live, count + 2)
            gate.open()  # the next batch has both
            assert gate.is_in.wait(DEADLINE_S)
            hearer, text = (other, "told") if first == "tell other" else (sender, first)
            hearer.socket.settimeout(PROMPT_S)
            assert hearer.receive_text() == text
            gate.open()
            wait_until(lambda: not gate.is_in.is_set(), "the second hold ends")


def test_an_answer_leaves_although_another_callback_of_the_batch_holds(serve: Serve) -> None:
    gate = Gate()

    class App:
        on_ws_open = gate.on_ws_open

        def call(self, req: Request) -> str:
            return "answer"

    live = serve(App(), limits=NO_PINGS)
    with live.open() as holder, live.connect() as client:
        holder.send_text("hold")
        assert gate.is_in.wait(DEADLINE_S)
        gate.is_in.clear()
        requests = live.server.stats()["requests"]
        client.send(request())
        wait_until(lambda: live.server.stats()["requests"] > requests, "the request in the mailbox")
        holder.send_text("hold")
        wait_for_messages(live, 2)
        gate.open()
        assert gate.is_in.wait(DEADLINE_S)
        client.socket.settimeout(PROMPT_S)
        assert client.receive_reply().body == b"answer"
        gate.open()


def test_what_a_callback_sends_leaves_before_it_lets_go_of_the_interpreter() -> None:
    source = """
    def on_ws_open(ws):
        @ws.on_message
        def work(binary, message):
            ws.send("working")
            ctypes.PyDLL(None).usleep(1_000_000)
            ws.send("done")

    live({"on_ws_open": on_ws_open}, sys.argv[1])
    """
    for home in ("service", "asyncio", "thread"):
        with Program(source, home) as program, WebSocketClient(program.address()) as client:
            began = time.monotonic()
            client.send_text("work")
            assert client.receive_text() == "working"
            assert time.monotonic() - began < 0.5
            assert client.is_silent()
            assert client.receive_text() == "done"


# (d) A close does not overtake


@pytest.mark.parametrize("home", ["thread", "service", "loop"])
def test_a_close_behind_messages_is_answered_behind_their_echoes(serve: Serve, home: str) -> None:
    got: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def echo(binary: bool, message: str | bytes) -> None:
            got.append(message)
            ws.send(message)

        ws.on_close(lambda: got.append((ws.close_code, ws.close_reason)))

    def talk(client: WebSocketClient) -> None:
        assert [client.receive_text() for _ in texts] == texts
        assert client.receive_end() == (3000, "")

    texts = [str(number) for number in range(5)]
    goodbye = [*(frame(TEXT, text.encode()) for text in texts), frame(CLOSE, close_payload(3000, b"bye"))]
    expected = [*texts, (3000, "bye")]

    async def main() -> None:
        live = serve({"on_ws_open": on_ws_open}, callbacks="loop")
        with live.open() as client:
            client.send(*goodbye)
            await asyncio.wait_for(asyncio.to_thread(talk, client), DEADLINE_S)
        live.server.stop()
        await live.server.wait_closed()

    if home == "loop":
        asyncio.run(main())
    else:
        live = serve({"on_ws_open": on_ws_open}, callbacks=home)
        with live.open() as client:
            client.send(*goodbye)
            if home == "service":
                live.service_until(lambda: len(got) == 6)
            talk(client)
    wait_until(lambda: len(got) == 6, "all six")
    assert got == expected


# (e) A hang-up that cannot be read


@pytest.mark.parametrize("messages", [1, 2, 10, 100_000])
def test_a_reset_while_reading_is_paused_costs_nothing_and_loses_nothing(serve: Serve, messages: int) -> None:
    got: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        ws.on_message(lambda binary, message: got.append(message))
        ws.on_close(lambda: got.append(ws.close_code))

    live = serve({"on_ws_open": on_ws_open}, callbacks="service", limits=Limits(max_inbox_messages=2))
    client = live.open()
    live.service_until(lambda: live.server.clients == 1)
    piece = frame(TEXT, b"x" * 10)
    client.send_until_full(piece, most=messages * len(piece))
    wait_for_messages(live, min(messages, 2))
    client.reset()
    before = os.times()
    time.sleep(1)
    after = os.times()
    assert after.user + after.system - before.user - before.system < 0.2
    live.service_until(lambda: bool(got) and got[-1] == 1006)
    assert got[:-1] == ["x" * 10] * (len(got) - 1)
    assert len(got) - 1 >= min(messages, 2)
    assert live.server.clients == 0


# (f) A thread that sends never waits for the network

LOAD = """
# 200 connects at once, a message of 16 MiB, and a client that only listens.
import socket
from tests.live.wire_client import BINARY, WebSocketClient, frame

address = ("127.0.0.1", int(sys.argv[1]))
listener = WebSocketClient(address, "/listener")

def listen():
    listener.socket.settimeout(None)
    while listener.socket.recv(1 << 16):
        pass

threading.Thread(target=listen, daemon=True).start()
say("listening")
input()
large = frame(BINARY, bytes(16 << 20))
sender = WebSocketClient(address)
for _ in range(3):
    crowd = [socket.socket() for _ in range(200)]
    for one in crowd:
        one.setblocking(False)
        one.connect_ex(address)
    sender.send(large)
    assert sender.receive_text() == str(16 << 20)
    for one in crowd:
        one.close()
say("done")
"""


def test_another_threads_send_does_not_wait_for_a_crowd_or_a_large_message(serve: Serve) -> None:
    listener: list[WebSocket] = []

    def on_ws_open(ws: WebSocket) -> None:
        if ws.request.path == "/listener":
            listener.append(ws)
        ws.on_message(lambda binary, message: ws.send(str(len(message))))

    live = serve({"on_ws_open": on_ws_open}, limits=Limits(max_message_bytes=16 << 20))
    with Program(LOAD, str(live.server.port)) as load:
        assert load.line() == "listening"
        wait_until(lambda: bool(listener), "the listener")
        done = threading.Event()
        waiter = threading.Thread(target=lambda: (load.line(DEADLINE_S), done.set()))
        waiter.start()
        load.tell("go")
        slowest_s, sent = 0.0, 0
        while not done.is_set():
            began = time.perf_counter()
            assert listener[0].send("x" * 32) == 0
            slowest_s = max(slowest_s, time.perf_counter() - began)
            sent += 1
            if sent % 100 == 0:
                time.sleep(0.001)  # the listener keeps up, or its outbox fills
        waiter.join(DEADLINE_S)
        assert sent > 1000
        assert slowest_s < 0.25


# (g) Idle is idle

IDLE = """
def on_ws_open(ws):
    ws.on_message(lambda binary, message: ws.send(message))

live({"on_ws_open": on_ws_open}, sys.argv[1], limits=portico.Limits(ping_interval_s=None))
"""


@pytest.mark.parametrize("home", ["service", "asyncio", "thread"])
def test_an_idle_server_does_not_wake_up(home: str) -> None:
    with Program(IDLE, home) as program:
        address = program.address()
        clients = [WebSocketClient(address) for _ in range(100)]
        for client in clients:
            client.send_text("x")
            assert client.receive_text() == "x"
        wait_until(lambda: is_asleep(program.pid), "all threads asleep")
        before = switches(program.pid)
        assert len(before) >= 2
        time.sleep(3)
        assert switches(program.pid) == before
        for client in clients:
            client.socket.close()


def switches(pid: int) -> dict[str, int]:
    """How often each thread of a process has gone to sleep by itself."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        found[f"{task} {fields['Name'].strip()}"] = int(fields["voluntary_ctxt_switches"])
    return found


def is_asleep(pid: int) -> bool:
    """Nobody has woken up for a while.

    The watchman sees the last traffic off with a few looks at the clock; the watch for lateness, if that woke it, looks
    again a second later.
    """
    before = switches(pid)
    time.sleep(1.1)
    return switches(pid) == before
