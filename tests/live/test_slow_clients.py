"""Clients that read too slowly, or not at all: what each policy does, what it costs, and how to keep pace with them.

A client is slow here because it does not read, and its window is small. What the system takes beside the outbox is
megabytes, so nothing is full before those are.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import signal
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import portico
from portico import Limits, SendResult
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve
from .process import Program
from .wire_client import (
    BINARY,
    CLOSE,
    DEADLINE_S,
    PING,
    PONG,
    Frame,
    WebSocketClient,
    close_payload,
    frame,
    frame_head,
    wait_until,
)

SENT, CLOSED, FULL = SendResult.SENT, SendResult.CLOSED, SendResult.FULL
POLICIES = ["close", "drop_new", "drop_oldest"]
MUCH = 7_000_000  # more than the system takes
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


class App:
    """Keeps its sockets for the test to use, echoes, and writes down what happens to them."""

    def __init__(self) -> None:
        self.opened: dict[str, WebSocket] = {}
        self.events: queue.SimpleQueue[tuple[str, str, Any]] = queue.SimpleQueue()

    def on_ws_open(self, ws: WebSocket) -> None:
        path = ws.request.path
        self.opened[path] = ws
        ws.on_message(lambda _, message: ws.send(message))
        ws.on_close(lambda: self.events.put(("close", path, ws.close_code)))
        self.events.put(("open", path, None))

    def next(self) -> tuple[str, str, Any]:
        return self.events.get(timeout=DEADLINE_S)

    def open(self, live: Live, path: str, *lines: str, **options: Any) -> tuple[WebSocketClient, WebSocket]:
        """Both ends of a new connection."""
        client = live.open(path, *lines, **options)
        assert self.next() == ("open", path, None)
        return client, self.opened[path]

    def open_slow(self, live: Live, path: str = "/slow", *lines: str) -> tuple[WebSocketClient, WebSocket]:
        return self.open(live, path, *lines, receive_buffer_bytes=4096)


def numbered(number: int, size: int) -> bytes:
    return b"%08d" % number + bytes(size - 8)


def number_of(got: Frame, size: int) -> int:
    """Which one it is; it must be whole."""
    assert (got.opcode, got.fin, len(got.payload)) == (BINARY, True, size)
    assert not any(got.payload[8:])
    return int(got.payload[:8])


def check_works(client: WebSocketClient) -> None:
    client.send_text("still there?")
    assert client.receive_text() == "still there?"


def fill(ours: WebSocket) -> int:
    """Send until the system takes no more; return how many messages of 10,000 bytes that were."""
    count = 0
    while ours.buffered_amount == 0:
        assert ours.send(bytes(10_000)) is SENT
        count += 1
    return count


def swallow(client: WebSocketClient, size: int) -> int:
    """Read binary messages until there were `size` bytes in them; return how many messages."""
    count = 0
    while size > 0:
        got = client.receive_frame()
        assert got.opcode == BINARY
        size -= len(got.payload)
        count += 1
    assert size == 0
    return count


# The policies


@pytest.mark.parametrize("size", [100, 20_000])
def test_close_keeps_what_was_taken_and_says_why(serve: Serve, size: int) -> None:
    app = App()
    live = serve(app, limits=Limits(max_outbox_bytes=100_000))
    client, ours = app.open_slow(live)
    with client:
        taken = 0
        while (result := ours.send(numbered(taken, size))) is SENT:
            taken += 1
            assert ours.buffered_amount <= 100_000
        assert result is FULL
        assert [ours.send(b"more") for _ in range(3)] == [CLOSED] * 3
        assert ours.ping() is CLOSED
        assert ours.close() is CLOSED
        assert not ours.is_open
        assert [number_of(client.receive_frame(), size) for _ in range(taken)] == list(range(taken))
        assert client.receive_close()[0] == 1013
        client.send_frame(CLOSE, close_payload(1013))
        assert client.receive_rest() == b""
    assert app.next() == ("close", "/slow", 1013)
    assert live.server.stats()["dropped"] == 0
    live.server.stop()
    assert app.events.empty()


def test_close_does_not_wait_for_a_reader_that_never_reads(serve: Serve) -> None:
    app = App()
    live = serve(app, limits=Limits(max_outbox_bytes=100_000, close_timeout_s=0.2))
    client, ours = app.open_slow(live)
    with client:
        while ours.send(bytes(10_000)) is SENT:
            pass
        assert app.next() == ("close", "/slow", 1006)
    live.server.stop()
    assert app.events.empty()


@pytest.mark.parametrize("size", [100, 20_000])
def test_drop_new_keeps_the_order_and_the_connection(serve: Serve, size: int) -> None:
    app = App()
    live = serve(app, slow_client="drop_new", limits=Limits(max_outbox_bytes=100_000))
    client, ours = app.open_slow(live)
    with client:
        taken: list[int] = []
        tried = 0
        while tried - len(taken) < 500:
            result = ours.send(numbered(tried, size))
            assert result in (SENT, FULL)
            taken += [tried] if result is SENT else []
            tried += 1
            assert ours.buffered_amount <= 100_000
        assert taken[:100] == list(range(100))
        assert live.server.stats()["dropped"] == tried - len(taken)
        assert ours.is_open
        assert [number_of(client.receive_frame(), size) for _ in taken] == taken
        for later in range(10):  # it has caught up
            assert ours.send(numbered(tried + later, size)) is SENT
            assert number_of(client.receive_frame(), size) == tried + later
        check_works(client)
        assert client.close() == (1000, "")
    assert app.next() == ("close", "/slow", 1000)


@pytest.mark.parametrize("size", [100, 20_000])
def test_drop_oldest_keeps_the_newest_and_counts_the_others(serve: Serve, size: int) -> None:
    app = App()
    live = serve(app, slow_client="drop_oldest", limits=Limits(max_outbox_bytes=100_000))
    client, ours = app.open_slow(live)
    with client:
        sent = 0
        while live.server.stats()["dropped"] < 500:
            assert ours.send(numbered(sent, size)) is SENT
            sent += 1
            assert ours.buffered_amount <= 100_000
        dropped = live.server.stats()["dropped"]
        got = [number_of(client.receive_frame(), size) for _ in range(sent - dropped)]
        assert got == sorted(set(got))
        assert got[-1] == sent - 1
        # One gap only: what had left or begun to leave, and the newest that fit.
        assert sum(second - first > 1 for first, second in itertools.pairwise(got)) == 1
        check_works(client)  # and nothing more was on its way
        assert live.server.stats()["dropped"] == dropped
        assert client.close() == (1000, "")
    assert app.next() == ("close", "/slow", 1000)


def test_drop_oldest_again_and_again(serve: Serve) -> None:
    """A client that reads a little now and then: every message arrives whole, in order, or is counted."""
    app = App()
    live = serve(app, slow_client="drop_oldest", limits=Limits(max_outbox_bytes=20_000))
    client, ours = app.open_slow(live)
    sizes = (8, 100, 5000, 17_000)
    with client:
        filled, sent, got = fill(ours), 0, []
        for _ in range(300):
            for _ in range(10):
                # FULL: what has begun to leave stays, and beside it there is no room for this one.
                assert ours.send(numbered(sent, sizes[sent % 4])) in (SENT, FULL)
                sent += 1
            got.append(client.receive_frame().payload)
        client.send_text("end")
        while got[-1] != b"end":
            got.append(client.receive_frame().payload)
        assert len(got) + live.server.stats()["dropped"] == filled + sent + 1
        numbers = [int(data[:8]) for data in got[:-1] if len(data) != 10_000]
        assert numbers == sorted(set(numbers))
        assert all(len(data) == 10_000 or len(data) == sizes[int(data[:8]) % 4] for data in got[:-1])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_message_larger_than_the_bound_needs_an_empty_outbox(serve: Serve, policy: str) -> None:
    app = App()
    live = serve(app, slow_client=policy, limits=Limits(max_outbox_bytes=10_000))
    client, ours = app.open_slow(live)
    with client:
        assert ours.send(bytes(MUCH)) is SENT
        assert ours.buffered_amount > 10_000
        assert ours.send(b"next") is FULL  # also with drop_oldest: what has begun to leave cannot be taken back
        assert ours.is_open == (policy != "close")
        assert client.receive_frame() == Frame(BINARY, bytes(MUCH))
        if policy == "close":
            assert client.receive_close()[0] == 1013
        else:
            check_works(client)
            assert live.server.stats()["dropped"] == 1


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("policy", ["drop_new", "drop_oldest"])
def test_what_is_dropped_is_not_missed_by_what_is_compressed(serve: Serve, policy: str, takeover: bool) -> None:
    """A message may refer to the ones before it only if the client gets them."""
    app = App()
    deflate = portico.Deflate(min_bytes=10, context_takeover=takeover)
    live = serve(app, slow_client=policy, deflate=deflate, limits=Limits(max_outbox_bytes=50_000))
    client, ours = app.open_slow(live, "/slow", DEFLATE)
    filler = [bytes((seed * 7 + step * step) % 251 for step in range(3000)) for seed in range(16)]
    with client:
        assert ("no_context_takeover" in str(client.reply["Sec-WebSocket-Extensions"])) != takeover
        taken = []
        rounds = 0
        while live.server.stats()["dropped"] < 100:
            data = (
                numbered(rounds, 8)
                + filler[rounds % 16]
                + (rounds * 0x9E3779B97F4A7C15 % (1 << 8000)).to_bytes(1000, "big")
            )
            if ours.send(data) is SENT:
                taken.append(data)
            rounds += 1
        arrive = len(taken) - (live.server.stats()["dropped"] if policy == "drop_oldest" else 0)
        inflater = zlib.decompressobj(-15)
        left = iter(taken)
        for _ in range(arrive):
            got = client.receive_frame()
            assert got.rsv == 4
            inflater = inflater if takeover else zlib.decompressobj(-15)
            data = inflater.decompress(got.payload + b"\x00\x00\xff\xff")
            assert data in left  # in order


# What it costs


BROADCASTS = """
opened = {}

def on_ws_open(ws):
    opened[ws.request.path] = ws
    ws.on_message(lambda binary, message: ws.send(message))
    ws.on_close(lambda: say("closed", ws.request.path, ws.close_code))

limits = portico.Limits(max_outbox_bytes=8 << 20, close_timeout_s=0.3)
server = start({"on_ws_open": on_ws_open}, "thread", slow_client=sys.argv[1], limits=limits)
input()
fast, slow = opened["/fast"], opened["/slow"]
most, took = 0, []
for number in range(100):
    took.append(server.broadcast(bytes([number]) * 1_000_000))
    most = max(most, slow.buffered_amount)
    assert fast.wait_drained(10)
say("queued", most)
say("took", *took)
say("dropped", server.stats()["dropped"])
input()
"""


@pytest.mark.parametrize("policy", POLICIES)
def test_a_stalled_reader_costs_its_outbox_and_nobody_else_anything(policy: str) -> None:
    """100 MB for everybody, of which one reads nothing."""
    with Program(BROADCASTS, policy) as program:
        address = program.address()
        with WebSocketClient(address, "/slow", receive_buffer_bytes=4096), WebSocketClient(address, "/fast") as fast:
            check_works(fast)
            before = program.memory("VmHWM")
            program.tell("go")
            for number in range(100):
                got = fast.receive_frame()
                assert (len(got.payload), got.payload[0], got.payload[-1]) == (1_000_000, number, number)
            check_works(fast)
            lines = [program.line(DEADLINE_S)]
            while not lines[-1].startswith("dropped"):
                lines.append(program.line(DEADLINE_S))
            assert program.memory("VmHWM") - before < (8 << 20) + (16 << 20)
            said = {words[0]: words[1:] for words in (line.split() for line in lines)}
            assert 4_000_000 < int(said["queued"][0]) <= 8 << 20
            took = [int(count) for count in said["took"]]
            dropped = int(said["dropped"][0])
            if policy == "close":
                assert took == sorted(took, reverse=True) and took[-1] == 1
                assert "closed /slow 1006" in (*lines, *([] if "closed" in said else [program.line()]))
            elif policy == "drop_new":
                assert dropped == took.count(1) > 50
            else:
                assert took == [2] * 100
                assert dropped > 50


TINY = """
opened = []
server = start({"on_ws_open": opened.append}, "thread", slow_client="drop_oldest",
               limits=portico.Limits(max_outbox_bytes=1 << 20))
input()
while not opened:
    time.sleep(0.001)
slow = opened[0]
while slow.buffered_amount == 0:
    slow.send(bytes(10_000))
for _ in range(400_000):
    slow.send(b"x")
say(server.stats()["dropped"])
input()
"""


def test_messages_of_one_byte_cost_no_more_than_the_bound() -> None:
    # Each one has a place of its own, so that it can be dropped; that place counts.
    with Program(TINY) as program, WebSocketClient(program.address(), receive_buffer_bytes=4096):
        before = program.memory("VmHWM")
        program.tell("go")
        assert int(program.line(DEADLINE_S)) > 300_000
        assert program.memory("VmHWM") - before < 8 << 20


def test_others_go_on_beside_a_stalled_reader(serve: Serve) -> None:
    app = App()
    live = serve(app, slow_client="drop_new", limits=Limits(max_outbox_bytes=100_000))
    slow, ours = app.open_slow(live)
    others = [app.open(live, f"/{index}")[0] for index in range(5)]
    try:
        while ours.send(bytes(50_000)) is SENT:
            pass
        for number in range(100):
            assert ours.send(bytes(50_000)) is FULL
            for other in others:
                other.send_text(f"{number}")
            assert [other.receive_text() for other in others] == [f"{number}"] * 5
        assert live.server.broadcast(bytes(60_000)) == 5
        assert [len(other.receive_frame().payload) for other in others] == [60_000] * 5
    finally:
        for client in (slow, *others):
            client.socket.close()


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_full_before_the_system_has_refused(serve: Serve, policy: str) -> None:
    """What a callback sends is corked. That it adds up to more than the bound is no fault of the client."""

    def on_ws_open(ws: WebSocket) -> None:
        ws.on_message(lambda _, message: results.extend(ws.send(numbered(number, 3000)) for number in range(30)))

    results: list[SendResult] = []
    live = serve({"on_ws_open": on_ws_open}, slow_client=policy, limits=Limits(max_outbox_bytes=5000))
    with live.open() as client:
        client.send_text("go")
        assert [number_of(client.receive_frame(), 3000) for _ in range(30)] == list(range(30))
        assert results == [SENT] * 30
        assert live.server.stats()["dropped"] == 0


def test_broadcast_tells_how_many_took_it(serve: Serve) -> None:
    app = App()
    live = serve(app, slow_client="drop_new", limits=Limits(max_outbox_bytes=100_000))
    clients = [app.open(live, f"/{index}")[0] for index in range(8)]
    slow, ours = app.open_slow(live)
    dead, _ = app.open(live, "/dead")
    try:
        while ours.send(bytes(10_000)) is SENT:
            pass
        dead.reset()
        assert app.next() == ("close", "/dead", 1006)
        assert live.server.broadcast(b"x" * 10_000) == 8
        assert [client.receive_frame() for client in clients] == [Frame(BINARY, b"x" * 10_000)] * 8
    finally:
        for client in (slow, *clients):
            client.socket.close()


def test_broadcast_beside_one_that_just_died(serve: Serve) -> None:
    """Nobody has noticed yet, so it may be counted; the others get it all the same."""
    app = App()
    live = serve(app)
    clients = [app.open(live, f"/{index}")[0] for index in range(8)]
    try:
        clients[3].reset()
        assert live.server.broadcast("hello") in (7, 8)
        assert app.next() == ("close", "/3", 1006)
        assert live.server.broadcast("again") == 7
        for client in clients[:3] + clients[4:]:
            assert [client.receive_text(), client.receive_text()] == ["hello", "again"]
    finally:
        for client in clients:
            client.socket.close()


# Dead or only slow


def test_a_peer_that_takes_nothing_is_ended_once(serve: Serve) -> None:
    app = App()
    live = serve(app, limits=Limits(write_timeout_s=0.2))
    client, ours = app.open_slow(live)
    with client:
        assert ours.send(bytes(MUCH)) is SENT
        assert app.next() == ("close", "/slow", 1006)
        assert ours.send(b"x") is CLOSED
        assert (ours.close_code, ours.buffered_amount, live.server.clients) == (1006, 0, 0)
    live.server.stop()
    assert app.events.empty()


def test_a_peer_that_takes_a_little_is_not_ended(serve: Serve) -> None:
    """The system asks for more only when a megabyte is free; until then nothing is written, and all is well."""
    app = App()
    live = serve(app, limits=Limits(write_timeout_s=0.3))
    client, ours = app.open(live, "/slow", receive_buffer_bytes=16_384)
    with client:
        assert ours.send(bytes(MUCH)) is SENT
        client.receive(10)
        began, got = time.monotonic(), 0
        while time.monotonic() - began < 1.2:
            got += len(client.receive(8192))
            time.sleep(0.01)
        assert ours.is_open
        assert client.receive(MUCH - got) == bytes(MUCH - got)
        check_works(client)


HASTY = Limits(ping_interval_s=0.2, pong_timeout_s=0.3, max_outbox_bytes=64 << 20)


def receive_and_answer(client: WebSocketClient) -> Frame:
    """The next frame that is no ping; pings are answered."""
    while (got := client.receive_frame()).opcode == PING:
        client.send_frame(PONG, got.payload)
    return got


@pytest.mark.parametrize("more", [False, True])
def test_a_ping_behind_much_to_read_is_waited_for(serve: Serve, more: bool) -> None:
    """`more`: we go on sending, and what the client has before it never gets less."""
    app = App()
    live = serve(app, limits=HASTY)
    client, ours = app.open_slow(live)
    with client:
        sent = 0
        for _ in range(120):
            assert ours.send(bytes(10_000)) is SENT
            sent += 1
        assert ours.buffered_amount == 0  # the system has it all, so a ping is sent behind it
        time.sleep(0.3)
        began, got = time.monotonic(), 0
        while got < 100:  # a second and more
            assert receive_and_answer(client) == Frame(BINARY, bytes(10_000))
            got += 1
            time.sleep(0.01)
            for _ in range(2 if more else 0):
                assert ours.send(bytes(10_000)) is SENT
                sent += 1
        assert time.monotonic() - began > 0.6
        while got < sent:
            assert receive_and_answer(client) == Frame(BINARY, bytes(10_000))
            got += 1
        client.send_frame(CLOSE, close_payload(1000))
        assert receive_and_answer(client) == Frame(CLOSE, close_payload(1000))
    assert app.next() == ("close", "/slow", 1000)


def test_a_pong_behind_a_long_frame_is_waited_for(serve: Serve) -> None:
    app = App()
    live = serve(app, limits=HASTY)
    client, _ = app.open(live, "/talker")
    with client:
        whole = frame(BINARY, bytes(100_000))
        for start in range(0, len(whole), 1000):
            client.send(whole[start : start + 1000])
            time.sleep(0.01)
        assert receive_and_answer(client) == Frame(BINARY, bytes(100_000))
        client.send_text("still there?")
        assert receive_and_answer(client).payload == b"still there?"


@pytest.mark.parametrize("half", ["nothing", "a frame begun"])
def test_a_peer_that_does_nothing_is_ended(serve: Serve, half: str) -> None:
    app = App()
    live = serve(app, limits=HASTY)
    client, _ = app.open(live, "/mute")
    with client:
        if half != "nothing":
            client.send(frame_head(BINARY, 1000), b"x")
        assert client.receive_frame().opcode == PING
        assert client.receive_end()[0] == 1011
    assert app.next() == ("close", "/mute", 1006)


# on_drain


def test_on_drain_tells_of_every_time_that_a_client_has_caught_up(serve: Serve) -> None:
    app = App()
    live = serve(app)
    client, ours = app.open_slow(live)
    ours.on_drain(lambda: app.events.put(("drained", "/slow", ours.buffered_amount)))
    with client:
        for _ in range(3):
            ours.send(bytes(MUCH))
            assert ours.buffered_amount > 0
            assert app.events.empty()
            assert len(client.receive_frame().payload) == MUCH
            assert app.next() == ("drained", "/slow", 0)
        for _ in range(20):  # these don't keep anybody waiting
            assert ours.send(bytes(10_000)) is SENT
            client.receive_frame()
        check_works(client)
        assert app.events.empty()
        assert client.close() == (1000, "")
    assert app.next() == ("close", "/slow", 1000)


def test_on_drain_registered_while_the_client_is_behind(serve: Serve) -> None:
    app = App()
    live = serve(app)
    client, ours = app.open_slow(live)
    with client:
        ours.send(bytes(MUCH))
        ours.on_drain(lambda: app.events.put(("drained", "/slow", 1)))
        ours.on_drain(lambda: app.events.put(("drained", "/slow", 2)))
        client.receive_frame()
        assert [app.next()[2], app.next()[2]] == [1, 2]


def test_on_drain_goes_on_with_a_long_list(serve: Serve) -> None:
    """The example of the manual, with a client that is slow."""

    def on_ws_open(ws: WebSocket) -> None:
        numbers = iter(range(5000))

        @ws.on_drain
        def go_on() -> None:
            nonlocal calls
            calls += 1
            for number in numbers:
                assert ws.send(numbered(number, 2000)) is SENT
                if ws.buffered_amount > 65_536 and not ws.wait_drained(0):
                    return

        go_on()

    calls = 0
    live = serve({"on_ws_open": on_ws_open}, limits=Limits(max_outbox_bytes=100_000))
    with live.open(receive_buffer_bytes=4096) as client:
        assert [number_of(client.receive_frame(), 2000) for _ in range(5000)] == list(range(5000))
    assert calls > 1


@pytest.mark.parametrize("waits", ["listener", "waiter"])
def test_a_peer_that_closes_while_it_is_behind_does_not_end_the_home(serve: Serve, waits: str) -> None:
    """It has closed, and reads all the same: its outbox becomes empty after Python has heard the last of it."""
    app = App()
    live = serve(app)
    client, ours = app.open_slow(live)
    with client:
        ours.on_drain(lambda: app.events.put(("drained", "/slow", None)))
        ours.send(bytes(MUCH))
        client.send_frame(CLOSE, close_payload(4000))
        assert app.next() == ("close", "/slow", 4000)
        assert len(client.receive_frame().payload) == MUCH
        assert client.receive_end()[0] == 4000
    with live.open("/next") as other:
        check_works(other)
    assert app.next() == ("open", "/next", None)


# await ws.drain()


def produce(app: App, ends: queue.SimpleQueue[Any], chunk: bytes, count: int) -> Callable[[WebSocket], Any]:
    async def on_ws_open(ws: WebSocket) -> None:
        most, waited = 0, 0
        for _ in range(count):
            assert ws.send(chunk) is SENT
            most = max(most, ws.buffered_amount)
            if ws.buffered_amount > 256 * 1024:
                assert await ws.drain()
                assert ws.buffered_amount == 0
                waited += 1
        ends.put((most, waited, await ws.drain()))

    return on_ws_open


@pytest.mark.parametrize("home", ["asyncio", "uvloop", "service", "thread"])
def test_a_producer_that_drains_keeps_little_in_memory(serve: Serve, home: str) -> None:
    """50 MB for a client that takes them bit by bit."""
    chunk, count = bytes(65_536), 800
    ends: queue.SimpleQueue[Any] = queue.SimpleQueue()
    app = {"on_ws_open": produce(App(), ends, chunk, count)}

    def read(live: Live) -> int:
        with live.open(receive_buffer_bytes=65_536) as client:
            return swallow(client, len(chunk) * count)

    async def main() -> None:
        live = serve(app, callbacks="loop")
        assert await asyncio.to_thread(read, live) == count
        live.server.stop()
        await live.server.wait_closed()

    if home == "asyncio":
        asyncio.run(main())
    elif home == "uvloop":
        pytest.importorskip("uvloop").run(main())
    else:
        live = serve(app, callbacks=home)
        if home == "thread":
            assert read(live) == count
        else:
            reading = threading.Thread(target=read, args=[live])
            reading.start()
            live.service_until(lambda: not ends.empty() and not reading.is_alive())
            reading.join()
    most, waited, last = ends.get(timeout=DEADLINE_S)
    assert most <= 256 * 1024 + len(chunk) + 10
    assert waited > 0
    assert last is True


@pytest.mark.parametrize("how", ["reset", "end", "close"])
def test_drain_is_false_when_the_client_leaves(serve: Serve, how: str) -> None:
    async def on_ws_open(ws: WebSocket) -> None:
        ws.send(bytes(MUCH))
        first, second = asyncio.ensure_future(ws.drain()), asyncio.ensure_future(ws.drain())
        await asyncio.sleep(0)
        ends.put("waits")
        ends.put([await first, await second, await ws.drain()])

    ends: queue.SimpleQueue[Any] = queue.SimpleQueue()
    live = serve({"on_ws_open": on_ws_open})
    with live.open(receive_buffer_bytes=4096) as client:
        assert ends.get(timeout=DEADLINE_S) == "waits"
        if how == "reset":
            client.reset()
        elif how == "end":
            client.end()
        else:
            client.send_frame(CLOSE, close_payload(1000))
        assert ends.get(timeout=DEADLINE_S) == [False, False, False]


def test_drain_in_another_threads_loop(serve: Serve) -> None:
    app = App()
    live = serve(app)
    client, ours = app.open_slow(live)

    async def main() -> list[bool]:
        ours.send(bytes(MUCH))
        waiting = [asyncio.ensure_future(ours.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        reading = asyncio.create_task(asyncio.to_thread(client.receive_frame))
        results = await asyncio.wait_for(asyncio.gather(*waiting), DEADLINE_S)
        await reading
        return [*results, await ours.drain()]

    with client:
        assert asyncio.run(main()) == [True] * 4


def test_drain_that_is_cancelled_leaves_the_others(serve: Serve) -> None:
    app = App()
    live = serve(app)
    client, ours = app.open_slow(live)

    async def main() -> bool:
        ours.send(bytes(MUCH))
        impatient, patient = asyncio.ensure_future(ours.drain()), asyncio.ensure_future(ours.drain())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(impatient, 0.05)
        reading = asyncio.create_task(asyncio.to_thread(client.receive_frame))
        result = await asyncio.wait_for(patient, DEADLINE_S)
        await reading
        return result

    with client:
        assert asyncio.run(main()) is True


# ws.wait_drained()


def test_wait_drained_in_a_callback_drives_the_io(serve: Serve) -> None:
    """Of its own connection and of others, and no callback runs meanwhile."""
    calls: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(_: bool, message: str | bytes) -> None:
            if message == "much":
                calls.append("begin")
                ws.send(bytes(MUCH))
                calls.append(ws.wait_drained(DEADLINE_S))
            else:
                calls.append(message)

    def read() -> None:
        pinged.send_frame(PING, b"x")
        assert pinged.receive_frame() == Frame(PONG, b"x")
        pinged.send_text("later")
        assert len(client.receive_frame().payload) == MUCH
        is_read.set()

    is_read = threading.Event()
    live = serve({"on_ws_open": on_ws_open}, callbacks="service")
    with live.open(receive_buffer_bytes=4096) as client, live.open("/pinged") as pinged:
        live.service_until(lambda: live.server.clients == 2)
        client.send_text("much")
        reading = threading.Thread(target=read)
        reading.start()
        live.service_until(lambda: len(calls) == 3 and is_read.is_set())
        reading.join()
    assert calls == ["begin", True, "later"]


@pytest.mark.parametrize("home", ["idle", "held"])
def test_wait_drained_on_another_thread(serve: Serve, home: str) -> None:
    app = App()
    live = serve(app)
    is_held, gate = threading.Event(), threading.Event()
    client, ours = app.open_slow(live)
    holder, other = app.open(live, "/holder")

    @other.on_message
    def hold(_: bool, __: str | bytes) -> None:
        is_held.set()
        gate.wait(DEADLINE_S)

    with client, holder:
        if home == "held":
            holder.send_text("hold")
            assert is_held.wait(DEADLINE_S)
        assert ours.wait_drained(0) is True  # nothing is queued
        ours.send(bytes(MUCH))
        assert ours.wait_drained(0) is False
        began = time.monotonic()
        assert ours.wait_drained(0.2) is False
        assert 0.2 <= time.monotonic() - began < DEADLINE_S
        reading = threading.Thread(target=client.receive_frame)
        reading.start()
        assert ours.wait_drained() is True
        assert ours.buffered_amount == 0
        reading.join()
        gate.set()


@pytest.mark.parametrize("where", ["callback", "thread"])
@pytest.mark.parametrize("how", ["reset", "end"])
def test_wait_drained_is_false_when_the_client_leaves(serve: Serve, where: str, how: str) -> None:
    results: list[bool] = []
    sockets: list[WebSocket] = []

    def on_ws_open(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.send(bytes(MUCH))
        if where == "callback":
            results.append(ws.wait_drained(DEADLINE_S))

    live = serve({"on_ws_open": on_ws_open})
    with live.open(receive_buffer_bytes=4096) as client:
        wait_until(lambda: bool(sockets) and sockets[0].buffered_amount > 0, "something queued")
        leaving = threading.Thread(target=client.reset if how == "reset" else client.end)
        leaving.start()
        if where == "thread":
            results.append(sockets[0].wait_drained(DEADLINE_S))
        leaving.join()
        wait_until(lambda: bool(results), "the callback returns")
    assert results == [False]
    wait_until(lambda: sockets[0].close_code == 1006, "the close")


INTERRUPTED = """
def on_ws_open(ws):
    ws.send(bytes(7_000_000))
    try:
        say("waits")
        ws.wait_drained()
    except KeyboardInterrupt:
        say("interrupted")
        raise

server = start({"on_ws_open": on_ws_open}, "service")
try:
    while True:
        server.service()
except KeyboardInterrupt:
    say("ended")
"""


def test_wait_drained_lets_ctrl_c_through() -> None:
    with Program(INTERRUPTED) as program, WebSocketClient(program.address(), receive_buffer_bytes=4096):
        assert program.line() == "waits"
        program.send_signal(signal.SIGINT)
        assert [program.line(), program.line()] == ["interrupted", "ended"]
        assert program.end().code == 0


def test_wait_drained_waits_for_what_is_only_corked(serve: Serve) -> None:
    results: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        ws.send("first")
        results.append((ws.wait_drained(0), ws.buffered_amount))
        ws.send("second")

    live = serve({"on_ws_open": on_ws_open})
    with live.open() as client:
        assert [client.receive_text(), client.receive_text()] == ["first", "second"]
    assert results == [(True, 0)]
