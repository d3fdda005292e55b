"""A client that sends faster than Python handles: it is not read any more, TCP slows it down, and nothing is lost.

A message counts against the inbox until its callback has returned, its coroutine has ended, or its reader has asked
for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portico import Limits
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve
from .wire_client import (
    BINARY,
    CLOSE,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Frame,
    WebSocketClient,
    close_payload,
    frame,
    wait_until,
)

SIZE = 10_000
# Four messages either way.
BOUNDS = [{"max_inbox_messages": 4}, {"max_inbox_bytes": 4 * SIZE}]
MOST_IN_BUFFERS = 48 << 20  # the system's, both sides of loopback; far less than a server without bounds would take

both_bounds = pytest.mark.parametrize("bounds", BOUNDS, ids=["messages", "bytes"])


def numbered(number: int) -> bytes:
    return b"%08d" % number + bytes(SIZE - 8)


class Flood:
    """Numbered messages, sent from a thread until that blocks; the last one whole."""

    def __init__(self, client: WebSocketClient) -> None:
        self._client = client
        self._is_stopping = threading.Event()
        self.sent_bytes = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        with contextlib.suppress(OSError):  # the test has closed it
            while not self._is_stopping.is_set():
                whole = frame(BINARY, numbered(number))
                self._client.send(whole)
                self.sent_bytes += len(whole)
                number += 1

    def wait_until_blocked(self) -> int:
        """Wait until the client gets no further; how many bytes it got rid of."""
        deadline = time.monotonic() + DEADLINE_S
        before = -1
        while before != self.sent_bytes:
            assert time.monotonic() < deadline and self.sent_bytes < MOST_IN_BUFFERS, "nothing stops this client"
            before = self.sent_bytes
            time.sleep(0.1)
        return before

    def stop(self) -> int:
        """Send no more; how many messages there were. Somebody must be reading by now."""
        self._is_stopping.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return self.sent_bytes // len(frame(BINARY, numbered(0)))


def check_others(live: Live) -> None:
    """A connection beside it works."""
    with live.open("/other") as other:
        for number in range(20):
            other.send_text(f"{number}")
            assert other.receive_text() == f"{number}"
        assert other.close() == (1000, "")


# Python is held


@both_bounds
def test_while_nobody_services_the_client_stands_still(serve: Serve, bounds: dict[str, int]) -> None:
    got: list[int] = []

    def on_ws_open(ws: WebSocket) -> None:
        ws.on_message(lambda _, message: got.append(int(message[:8])))
        ws.on_close(lambda: got.append(-1))

    live = serve({"on_ws_open": on_ws_open}, callbacks="service", limits=Limits(**bounds))
    before = live.server.stats()["messages"]  # this thread's servers share the counters
    with live.open() as client:
        flood = Flood(client)
        flood.wait_until_blocked()
        assert live.server.stats()["messages"] - before == 4
        for taken in (1, 2):  # a little is handled, a little is read
            while len(got) < taken:
                live.server.service(0.05)
            assert live.server.stats()["messages"] - before <= len(got) + 4
        stopping = threading.Thread(target=lambda: ends.put(flood.stop()))
        ends: queue.SimpleQueue[int] = queue.SimpleQueue()
        stopping.start()
        live.service_until(lambda: not stopping.is_alive())
        count = ends.get(timeout=DEADLINE_S)
        client.send_frame(CLOSE, close_payload(1000))
        live.service_until(lambda: got[-1] == -1)
        assert client.receive_end()[0] == 1000
    assert got == [*range(count), -1]


def test_a_held_callback_stops_its_client(serve: Serve) -> None:
    """The home thread itself is inside a callback: the watchman reads, up to the bound."""
    got: list[int] = []
    entered, gate = threading.Event(), threading.Event()

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(_: bool, message: str | bytes) -> None:
            got.append(int(message[:8]))
            entered.set()
            assert gate.wait(DEADLINE_S)

    live = serve({"on_ws_open": on_ws_open}, limits=Limits(max_inbox_messages=4))
    with live.open() as client:
        flood = Flood(client)
        assert entered.wait(DEADLINE_S)
        flood.wait_until_blocked()
        assert got == [0]
        assert live.server.stats()["messages"] <= 5  # four, and one that was let in while the first was handed out
        gate.set()
        count = flood.stop()
        wait_until(lambda: len(got) == count, "all messages")
    assert got == list(range(count))


# Coroutine handlers


class Holder:
    """Every message's handler is a coroutine that waits for a gate."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []
        self.gate = threading.Event()
        self.closes: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def on_ws_open(self, ws: WebSocket) -> None:
        if ws.request.path == "/other":
            ws.on_message(lambda _, message: ws.send(message))
            return

        @ws.on_message
        async def on_message(_: bool, message: str | bytes) -> None:
            number = int(message[:8])
            self.started.append(number)
            while not self.gate.is_set():
                await asyncio.sleep(0.001)
            self.ended.append(number)

        ws.on_close(lambda: self.closes.put(ws.close_code))


@both_bounds
def test_coroutines_that_go_on_stop_their_client(serve: Serve, bounds: dict[str, int]) -> None:
    app = Holder()
    live = serve(app, limits=Limits(**bounds))
    with live.open() as client:
        flood = Flood(client)
        flood.wait_until_blocked()
        assert app.started == [0, 1, 2, 3]
        assert live.server.stats()["messages"] == 4
        check_others(live)
        assert app.started == [0, 1, 2, 3]
        app.gate.set()
        count = flood.stop()
        wait_until(lambda: len(app.ended) == count, "all coroutines")
        assert client.close() == (1000, "")
    assert app.started == list(range(count))
    assert sorted(app.ended) == app.started
    assert app.closes.get(timeout=DEADLINE_S) == 1000


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_coroutines_in_a_loop_stop_their_client(serve: Serve, loop: str) -> None:
    app = Holder()

    async def main() -> None:
        live = serve(app, callbacks="loop", limits=Limits(max_inbox_messages=4))
        client = await asyncio.to_thread(live.open)
        flood = Flood(client)
        await asyncio.to_thread(flood.wait_until_blocked)
        assert app.started == [0, 1, 2, 3]
        await asyncio.to_thread(check_others, live)
        app.gate.set()
        count = await asyncio.to_thread(flood.stop)
        await asyncio.to_thread(wait_until, lambda: len(app.ended) == count, "all coroutines")
        assert app.started == list(range(count))
        client.socket.close()
        live.server.stop()
        await live.server.wait_closed()

    if loop == "asyncio":
        asyncio.run(main())
    else:
        pytest.importorskip("uvloop").run(main())


def test_a_client_that_leaves_while_it_is_stopped_is_heard_to_the_end(serve: Serve) -> None:
    app = Holder()
    live = serve(app, limits=Limits(max_inbox_messages=4))
    with live.open() as client:
        count = 100
        client.send(*(frame(BINARY, numbered(number)) for number in range(count)))
        client.end()
        wait_until(lambda: len(app.started) == 4, "four")
        app.gate.set()
        assert app.closes.get(timeout=DEADLINE_S) == 1006
    assert app.started == list(range(count))


def test_a_client_that_is_stopped_is_not_missed(serve: Serve) -> None:
    """Its pongs lie behind what is not read, and its own pings are answered later."""
    app = Holder()
    limits = Limits(max_inbox_messages=4, ping_interval_s=0.1, pong_timeout_s=0.1)
    live = serve(app, limits=limits)
    with live.open() as client:
        client.send(*(frame(BINARY, numbered(number)) for number in range(8)), frame(PING, b"mine"))
        ping = client.receive_frame()
        assert ping.opcode == PING
        client.send_frame(PONG, ping.payload)
        assert client.is_silent(0.4)  # for four time-outs
        assert app.started == [0, 1, 2, 3]
        app.gate.set()
        seen = []
        while len(seen) < 3 or Frame(PONG, b"mine") not in seen:  # and it goes on after that
            seen.append(client.receive_frame())
            if seen[-1].opcode == PING:
                client.send_frame(PONG, seen[-1].payload)
        assert app.started == list(range(8))
        assert {got.opcode for got in seen} == {PING, PONG}
        client.send_frame(CLOSE, close_payload(1000))
        while (got := client.receive_frame()).opcode == PING:
            pass
        assert got == Frame(CLOSE, close_payload(1000))
    assert app.closes.get(timeout=DEADLINE_S) == 1000


# async for


class Puller:
    """Reads with `async for`, one message for each permission."""

    def __init__(self) -> None:
        self.permissions = threading.Semaphore(0)
        self.got: list[int | str] = []
        self.sockets: list[WebSocket] = []

    async def on_ws_open(self, ws: WebSocket) -> None:
        if ws.request.path == "/other":
            async for message in ws:
                ws.send(message)
            return
        self.sockets.append(ws)
        reader = aiter(ws)
        while True:
            await self.permitted()
            try:
                message = await anext(reader)
            except StopAsyncIteration:
                self.got.append(f"end {ws.close_code}")
                return
            self.got.append(int(message[:8]))

    async def permitted(self) -> None:
        while not self.permissions.acquire(blocking=False):
            await asyncio.sleep(0.001)


@both_bounds
@pytest.mark.parametrize("home", ["thread", "loop"])
def test_a_reader_that_does_not_ask_stops_its_client(serve: Serve, bounds: dict[str, int], home: str) -> None:
    app = Puller()
    most = 4
    before = 0  # a thread's servers share the counters

    def check(live: Live) -> None:
        nonlocal before
        before = live.server.stats()["messages"]
        with live.open() as client:
            flood = Flood(client)
            flood.wait_until_blocked()
            assert live.server.stats()["messages"] - before == most and app.got == []
            check_others(live)
            for asked in range(1, 6):
                app.permissions.release()
                wait_until(lambda asked=asked: len(app.got) == asked, "what was asked for")  # type: ignore[misc]
                # The last one is in hand, so it counts with those that wait.
                wait_until(lambda asked=asked: messages(live) == asked + most - 1, "more is read")  # type: ignore[misc]
            time.sleep(0.05)
            assert messages(live) == 5 + most - 1
            app.permissions.release(1 << 20)
            count = flood.stop()
            wait_until(lambda: len(app.got) == count, "all messages")
            assert client.close() == (1000, "")
        wait_until(lambda: app.got[-1] == "end 1000", "the end")
        assert app.got[:-1] == list(range(count))

    def messages(live: Live) -> int:
        return live.server.stats()["messages"] - before - 20  # those of check_others

    async def main() -> None:
        live = serve(app, callbacks="loop", limits=Limits(**bounds))
        await asyncio.to_thread(check, live)
        live.server.stop()
        await live.server.wait_closed()

    if home == "loop":
        asyncio.run(main())
    else:
        check(serve(app, limits=Limits(**bounds)))


@both_bounds
def test_a_slow_body_stops_its_client(serve: Serve, bounds: dict[str, int]) -> None:
    got: list[int] = []
    gate = threading.Event()

    async def on_ws_open(ws: WebSocket) -> None:
        async for message in ws:
            got.append(int(message[:8]))
            while not gate.is_set():
                await asyncio.sleep(0.001)
        got.append(ws.close_code or 0)

    live = serve({"on_ws_open": on_ws_open}, limits=Limits(**bounds))
    with live.open() as client:
        flood = Flood(client)
        flood.wait_until_blocked()
        assert got == [0]
        assert live.server.stats()["messages"] == 4
        gate.set()
        count = flood.stop()
        assert client.close() == (1000, "")
    wait_until(lambda: got[-1] == 1000, "the end")
    assert got[:-1] == list(range(count))


class Loops:
    """Runs one test's coroutine as `on_ws_open`, and has what came of it."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.closes: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def on_ws_open(self, ws: WebSocket) -> None:
        ws.on_close(lambda: self.closes.put(ws.close_code))
        try:
            self.results.put(await self._run(ws))
        except BaseException as error:
            self.results.put(error)

    def result(self) -> Any:
        result = self.results.get(timeout=DEADLINE_S)
        if isinstance(result, BaseException):
            raise result
        return result


async def take(ws: WebSocket, count: int) -> list[str | bytes]:
    got: list[str | bytes] = []
    async for message in ws:
        got.append(message)
        if len(got) == count:
            break
    return got


def test_a_second_loop_goes_on_where_the_first_stopped(serve: Serve) -> None:
    async def run(ws: WebSocket) -> Any:
        return [await take(ws, 3), await take(ws, 1), await take(ws, 1000)]

    app = Loops(run)
    live = serve(app, limits=Limits(max_inbox_messages=1))
    texts = [f"{number}" for number in range(50)]
    with live.open() as client:
        client.send_text(*texts)
        client.send_frame(CLOSE, close_payload(4000))
        assert app.result() == [texts[:3], texts[3:4], texts[4:]]
        assert client.receive_end()[0] == 4000
    assert app.closes.get(timeout=DEADLINE_S) == 4000


def test_a_loop_that_is_left_for_ever_stops_its_client(serve: Serve) -> None:
    app = Loops(lambda ws: take(ws, 2))
    live = serve(app, limits=Limits(max_inbox_messages=4))
    with live.open() as client:
        flood = Flood(client)
        assert len(app.result()) == 2
        flood.wait_until_blocked()
        # Those two; the second one still counts, because nobody has asked for another.
        assert live.server.stats()["messages"] == 5
        client.socket.shutdown(socket.SHUT_RDWR)  # ends the flood


def test_two_loops_at_once_are_an_error(serve: Serve) -> None:
    async def run(ws: WebSocket) -> Any:
        first = asyncio.ensure_future(take(ws, 3))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another"):
            await take(ws, 1)
        ws.send("go on")
        return await first, await take(ws, 1)

    app = Loops(run)
    live = serve(app)
    with live.open() as client:
        assert client.receive_text() == "go on"
        client.send_text(*"abcd")
        assert app.result() == (["a", "b", "c"], ["d"])


@pytest.mark.parametrize("how", ["client closes", "server closes", "reset", "1002"])
def test_a_loop_that_waits_ends_with_the_connection(serve: Serve, how: str) -> None:
    codes = {"client closes": 4000, "server closes": 4001, "reset": 1006, "1002": 1002}

    async def run(ws: WebSocket) -> Any:
        got = []
        async for message in ws:
            got.append(message)
            if how == "server closes":
                ws.close(4001)
        async for message in ws:
            raise AssertionError(message)
        return got, ws.close_code, ws.is_open

    app = Loops(run)
    live = serve(app)
    with live.open() as client:
        client.send_text("only")
        if how == "client closes":
            client.send_frame(CLOSE, close_payload(4000))
        elif how == "reset":
            wait_until(lambda: live.server.stats()["messages"] == 1, "the message")
            client.reset()
        elif how == "1002":
            client.send_frame(3)
        else:
            assert client.receive_close() == (4001, "")
            client.send_frame(CLOSE, close_payload(4001))
        assert app.result() == (["only"], codes[how], False)
    assert app.closes.get(timeout=DEADLINE_S) == codes[how]


def test_what_came_before_the_close_is_still_read(serve: Serve) -> None:
    """The reader is busy with the first message; the connection is over before it asks for the others."""
    gate = threading.Event()

    async def run(ws: WebSocket) -> Any:
        got: list[Any] = []
        async for message in ws:
            got.append((message, ws.close_code))
            ws.send("busy")
            while not gate.is_set():
                await asyncio.sleep(0.001)
        return got

    app = Loops(run)
    live = serve(app, limits=Limits(close_timeout_s=0.2))
    with live.open() as client:
        client.send_text("a")
        assert client.receive_text() == "busy"
        client.send_text("b", "c")
        client.send_frame(CLOSE, close_payload(4000))
        assert app.closes.get(timeout=DEADLINE_S) == 4000
        assert client.receive_end()[0] == 4000  # after close_timeout_s: the coroutine could have said something yet
        gate.set()
        assert app.result() == [("a", None), ("b", 4000), ("c", 4000)]


def test_pings_are_answered_while_a_loop_waits(serve: Serve) -> None:
    app = Loops(lambda ws: take(ws, 100))
    live = serve(app, limits=Limits(ping_interval_s=0.05, pong_timeout_s=0.1))
    with live.open() as client:
        for _ in range(5):
            ping = client.receive_frame()
            assert ping.opcode == PING
            client.send_frame(PONG, ping.payload)
        client.send(frame(TEXT, b"a"), frame(CLOSE, close_payload(1000)))
        assert app.result() == ["a"]


def test_a_generator_over_a_loop_leaves_nothing_behind(serve: Serve) -> None:
    """A generator that wraps the loop and is dropped in the middle."""

    async def upper(ws: WebSocket) -> AsyncIterator[str]:
        async for message in ws:
            yield str(message).upper()

    async def run(ws: WebSocket) -> Any:
        generator = upper(ws)
        got = [await anext(generator), await anext(generator)]
        await generator.aclose()  # type: ignore[attr-defined]
        return got, await take(ws, 1)

    app = Loops(run)
    live = serve(app, limits=Limits(max_inbox_messages=1))
    with live.open() as client:
        client.send_text(*"abc")
        assert app.result() == (["A", "B"], ["c"])
