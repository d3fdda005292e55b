"""How WebSockets end: the closing handshake from both sides, lost peers, a stopping server; and pings that notice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from typing import Any

import pytest

import portico
from portico import SendResult
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve, end
from .process import Program
from .wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Client,
    Frame,
    WebSocketClient,
    close_payload,
    frame,
    request,
    wait_until,
)

SENDABLE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]


class Sockets:
    """An app that hands its sockets to the test and writes down what they hear."""

    def __init__(self) -> None:
        self.opened: queue.SimpleQueue[WebSocket] = queue.SimpleQueue()
        self.calls: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def on_ws_open(self, ws: WebSocket) -> None:
        ws.on_message(lambda binary, message: self.calls.put(("message", message)))
        ws.on_close(lambda: self.calls.put(("close", (ws.close_code, ws.close_reason))))
        self.opened.put(ws)

    def take(self) -> WebSocket:
        """The next socket, waited for."""
        return self.opened.get(timeout=DEADLINE_S)

    def next(self) -> tuple[str, Any]:
        return self.calls.get(timeout=DEADLINE_S)


@pytest.fixture(scope="module")
def shared_sockets() -> Any:
    app = Sockets()
    server = portico.start_server("127.0.0.1", 0, app, True, callbacks="thread")
    yield Live(server, app)
    end(server)


@pytest.fixture
def sockets(shared_sockets: Live) -> Live:
    """A server shared by the tests of this file; its sockets and calls begin with this test's."""
    wait_until_empty(shared_sockets)
    for old in (shared_sockets.app.opened, shared_sockets.app.calls):
        while not old.empty():
            old.get()
    return shared_sockets


def wait_until_empty(live: Live) -> None:
    wait_until(lambda: live.server.clients == 0)


def check_over(live: Live) -> None:
    """No connection is left, and Python has heard nothing more."""
    wait_until_empty(live)
    with live.open() as ws:
        live.app.take()
        assert ws.close() == (1000, "")
    assert live.app.next() == ("close", (1000, ""))
    assert live.app.calls.empty()


# Codes


@pytest.mark.parametrize("code", SENDABLE)
def test_every_code_that_may_be_sent(sockets: Live, code: int) -> None:
    for reason in ("", "für alle", "x" * 123):
        with sockets.open() as ws:
            ours = sockets.app.take()
            assert ours.close(code, reason) is SendResult.SENT
            assert ws.receive_frame() == Frame(CLOSE, close_payload(code, reason.encode()))
            ws.send_frame(CLOSE, close_payload(code, reason.encode()))
            assert ws.receive_rest() == b""
            assert sockets.app.next() == ("close", (code, reason))
            assert (ours.close_code, ours.close_reason, ours.is_open) == (code, reason, False)
        with sockets.open() as ws:
            ours = sockets.app.take()
            assert ours.close_code is None and ours.close_reason == ""
            ws.send_frame(CLOSE, close_payload(code, reason.encode()))
            assert ws.receive_end() == (code, "")
            assert sockets.app.next() == ("close", (code, reason))
            assert (ours.close_code, ours.close_reason, ours.is_open) == (code, reason, False)


def test_codes_and_reasons_that_may_not_be_sent(sockets: Live) -> None:
    with sockets.open() as ws:
        ours: Any = sockets.app.take()
        for code in [*range(-2, 1000), 1004, 1005, 1006, *range(1015, 3000), *range(5000, 5010), 65535, 65536, 1 << 40]:
            with pytest.raises((ValueError, OverflowError)):
                ours.close(code)
        for wrong in (None, True, 1000.0, "1000", b"1000"):
            with pytest.raises(TypeError):
                ours.close(wrong)
        for wrong in (None, 1, b"bye"):
            with pytest.raises(TypeError):
                ours.close(1000, wrong)
        for reason in ("x" * 124, "ä" * 62, "\ud800"):
            with pytest.raises(ValueError):
                ours.close(1000, reason)
        assert ours.is_open and ours.send("still there") is SendResult.SENT
        assert ws.receive_text() == "still there"
        assert ours.close(1000, "ä" * 61 + "x") is SendResult.SENT
        assert ws.receive_close() == (1000, "ä" * 61 + "x")
        ws.send_frame(CLOSE, close_payload(1000))
        assert ws.receive_rest() == b""
    assert sockets.app.next() == ("close", (1000, ""))


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_answer_with_a_code_that_may_not_be_sent(sockets: Live, code: int) -> None:
    # The peer breaks a rule in its answer to our close. There is nothing to answer that with.
    with sockets.open() as ws:
        sockets.app.take().close(4000, "ours")
        assert ws.receive_close() == (4000, "ours")
        ws.send_frame(CLOSE, close_payload(code))
        assert ws.receive_rest() == b""
    kind, (told, _) = sockets.app.next()
    assert (kind, told) == ("close", 1002)


def test_answer_without_a_code(sockets: Live) -> None:
    with sockets.open() as ws:
        sockets.app.take().close(4000, "ours")
        assert ws.receive_close() == (4000, "ours")
        ws.send_frame(CLOSE)
        assert ws.receive_rest() == b""
    assert sockets.app.next() == ("close", (1005, ""))


def test_close_frame_byte_by_byte(sockets: Live) -> None:
    with sockets.open() as ws:
        sockets.app.take()
        ws.send_bytewise(frame(CLOSE, close_payload(3333, "später".encode())))
        assert ws.receive_end() == (3333, "")
    assert sockets.app.next() == ("close", (3333, "später"))


# Both at once


def test_both_close_at_once(sockets: Live) -> None:
    with sockets.open() as ws:
        ours = sockets.app.take()
        ours.close(4001, "server")
        ws.send_frame(CLOSE, close_payload(4002, b"client"))  # before it has read ours
        assert ws.receive_close() == (4001, "server")
        assert ws.receive_rest() == b""  # and no second one
    assert sockets.app.next() == ("close", (4002, "client"))
    check_over(sockets)


def test_storm_of_closes(sockets: Live) -> None:
    # From several threads, the client and a callback: one close frame, one on_close.
    for index in range(30):
        with sockets.open() as ws:
            ours = sockets.app.take()
            ours.on_message(lambda binary, message, ours=ours: ours.close(4009))  # type: ignore[misc]
            threads = [threading.Thread(target=ours.close, args=[code]) for code in range(4001, 4005)]
            for thread in threads:
                thread.start()
            ws.send(frame(TEXT, b"close"), frame(CLOSE, close_payload(4000)))
            code, _ = ws.receive_close()
            assert 4000 <= code < 4010
            assert ws.receive_rest() == b""
            for thread in threads:
                thread.join()
        kind, payload = sockets.app.next()
        if kind == "message":
            kind, payload = sockets.app.next()
        assert (kind, payload) == ("close", (4000, "")), index
    check_over(sockets)


def test_close_of_a_callback_behind_the_clients_close_is_too_late(serve: Serve) -> None:
    results: queue.SimpleQueue[SendResult] = queue.SimpleQueue()

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> None:
            results.put(ws.close(4002))

        ws.on_close(lambda: results.put(ws.send("too late")))

    live = serve({"on_ws_open": on_ws_open}, callbacks="service")
    with live.open() as ws:
        live.service_until(lambda: live.server.clients == 1)
        ws.send(frame(TEXT, b"x"), frame(CLOSE, close_payload(4001)))
        live.service_until(lambda: results.qsize() == 2)
        # Which of the two closes came first depends on whether the reactor had read the client's.
        assert ws.receive_close()[0] in (4001, 4002)
        assert ws.receive_rest() == b""
    assert [results.get(), results.get()][1] is SendResult.CLOSED


# After our close


def test_what_comes_after_our_close_is_dropped_and_not_answered(sockets: Live) -> None:
    with sockets.open() as ws:
        ours = sockets.app.take()
        ours.close(4000)
        assert sockets.server.broadcast("x") == 0
        wait_until(lambda: (ours.send("x"), ours.ping(), ours.close()) == (SendResult.CLOSED,) * 3)
        ws.send_text("late")
        ws.send_frame(PING, b"are you there?")
        ws.send_frame(BINARY, b"x" * 300_000)
        ws.send_frame(TEXT, b"half", fin=False)
        ws.send_frame(PING, b"between")
        ws.send_frame(CONTINUATION, b"whole")
        ws.send_frame(CLOSE, close_payload(4000))
        assert ws.receive_close() == (4000, "")
        assert ws.receive_rest() == b""  # no pong behind a close
    assert sockets.app.next() == ("close", (4000, ""))


def test_mistake_after_our_close_ends_it(sockets: Live) -> None:
    with sockets.open() as ws:
        sockets.app.take().close(4000)
        ws.send(frame(TEXT, b"unmasked", masked=False))
        assert ws.receive_end() == (4000, "")
    kind, (code, _) = sockets.app.next()
    assert (kind, code) == ("close", 1002)


@pytest.mark.parametrize("how", ["end", "reset"])
def test_peer_that_leaves_instead_of_answering(sockets: Live, how: str) -> None:
    with sockets.open() as ws:
        sockets.app.take().close(4000)
        assert ws.receive_close() == (4000, "")
        if how == "end":
            ws.end()
            assert ws.receive_rest() == b""
        else:
            ws.reset()
    assert sockets.app.next() == ("close", (1006, ""))
    check_over(sockets)


def test_talkative_peer_that_never_answers_our_close(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(close_timeout_s=0.3))
    with live.open() as ws:
        app.take().close(4000)
        assert ws.receive_close() == (4000, "")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < DEADLINE_S:
                ws.send_text("never mind")
                time.sleep(0.001)
        assert 0.2 < time.monotonic() - began < 3
        assert app.next() == ("close", (1006, ""))
    assert app.calls.empty()


def test_close_waits_for_what_was_sent_before_it(serve: Serve) -> None:
    app = Sockets()
    live = serve(app)
    with live.open(receive_buffer_bytes=4096) as ws:
        ours = app.take()
        data = bytes(range(256)) * 20_000
        assert ours.send(data) is SendResult.SENT
        assert ours.send("last words") is SendResult.SENT
        assert ours.close(4000) is SendResult.SENT
        assert ws.receive_frame() == Frame(BINARY, data)
        assert ws.receive_text() == "last words"
        assert ws.receive_close() == (4000, "")
        ws.send_frame(CLOSE, close_payload(4000))
        assert ws.receive_rest() == b""
    assert app.next() == ("close", (4000, ""))


def test_peer_that_is_still_reading_is_waited_for(serve: Serve) -> None:
    # What was sent before the close still leaves, however long the peer takes for it; then the time begins.
    app = Sockets()
    live = serve(app, limits=portico.Limits(close_timeout_s=0.3))
    data = bytes(range(256)) * 32_000
    for does_answer in (True, False):
        with live.open(receive_buffer_bytes=4096) as ws:
            ours = app.take()
            assert ours.send(data) is SendResult.SENT
            assert ours.close(4000) is SendResult.SENT
            began = time.monotonic()
            received = len(ws.receive(10))
            while received < 10 + len(data):
                time.sleep(0.02)
                received += len(ws.receive(min(200_000, 10 + len(data) - received)))
            assert time.monotonic() - began > 0.6
            assert ws.receive_close() == (4000, "")
            if does_answer:
                ws.send_frame(CLOSE, close_payload(4000))
            assert ws.receive_rest() == b""
        assert app.next() == ("close", (4000 if does_answer else 1006, ""))


# Ends that wait


def test_end_is_told_of_a_peer_that_neither_reads_nor_is_read(serve: Serve) -> None:
    # Its messages wait for Python, so nobody reads what it says; and it reads nothing, so write_timeout_s cuts it.
    app = Sockets()
    live = serve(app, callbacks="service", limits=portico.Limits(write_timeout_s=0.2, max_inbox_messages=2))
    with live.open(receive_buffer_bytes=4096) as ws:
        live.service_until(lambda: not app.opened.empty())
        ours = app.take()
        assert ours.subscribe("topic")
        ws.send_text(*"abcdef")
        assert ours.send(bytes(7_000_000)) is SendResult.SENT
        ws_is_cut = time.monotonic() + 0.5
        while time.monotonic() < ws_is_cut:
            time.sleep(0.01)
        live.service_until(lambda: ours.close_code is not None)
        assert ours.close_code == 1006
        assert live.server.topics == {}
    calls = [app.calls.get() for _ in range(app.calls.qsize())]
    assert calls[-1] == ("close", (1006, "")) and calls.count(calls[-1]) == 1


@pytest.mark.parametrize("how", ["on_drain", "drain"])
def test_nothing_is_told_behind_the_end(serve: Serve, caplog: pytest.LogCaptureFixture, how: str) -> None:
    # The client says its close first, and then reads all that was waiting for it.
    app = Sockets()
    calls = app.calls

    def on_ws_open(ws: WebSocket) -> Any:
        app.on_ws_open(ws)
        if how == "on_drain":
            ws.on_drain(lambda: calls.put(("drained", None)))

    live = serve({"on_ws_open": on_ws_open})
    data = bytes(7_000_000)

    async def drain(ws: WebSocket) -> bool:
        return await asyncio.wait_for(ws.drain(), DEADLINE_S)

    with caplog.at_level(logging.ERROR), live.open(receive_buffer_bytes=4096) as ws:
        ours = app.take()
        assert ours.send(data) is SendResult.SENT
        ws.send_frame(CLOSE, close_payload(4000))
        assert app.next() == ("close", (4000, ""))
        if how == "drain":
            assert asyncio.run(drain(ours)) is False
        assert ours.buffered_amount == 0 and not ours.is_open
        assert ws.receive_frame() == Frame(BINARY, data)
        assert ws.receive_end() == (4000, "")
    with live.open() as again:  # callbacks go on
        app.take()
        assert again.close() == (1000, "")
    assert app.next() == ("close", (1000, ""))
    assert app.calls.empty() and not caplog.records


# The server stops


def test_stop_says_goodbye_with_1001(serve: Serve) -> None:
    app = Sockets()
    live = serve(app)
    clients = [live.open(f"/{index}") for index in range(20)]
    try:
        for _ in clients:
            app.take().send("before")
        live.server.stop()
        for client in clients:
            assert client.receive_text() == "before"
            assert client.receive_end() == (1001, "")
        live.server.wait_closed()
        assert [app.calls.get(timeout=1) for _ in clients] == [("close", (1001, ""))] * 20
        assert live.server.clients == 0
    finally:
        for client in clients:
            client.socket.close()


def test_drain_of_a_stop(serve: Serve) -> None:
    """Who reads gets all that was sent, then 1001, and is waited for; who doesn't is cut when the time is over."""
    app = Sockets()
    live = serve(app)
    data = bytes(range(256)) * 20_000
    with live.open("/reader", receive_buffer_bytes=4096) as reader, live.open(receive_buffer_bytes=4096) as still:
        for _ in range(2):
            ours = app.take()
            assert ours.send(data) is SendResult.SENT and ours.send("last") is SendResult.SENT
        began = time.monotonic()
        stopping = threading.Thread(target=live.server.stop, args=[1.0])
        stopping.start()
        assert reader.receive_frame() == Frame(BINARY, data)
        assert reader.receive_text() == "last"
        assert reader.receive_close() == (1001, "")
        reader.send_frame(CLOSE, close_payload(1001))
        assert reader.receive_rest() == b""
        assert app.next() == ("close", (1001, ""))
        assert time.monotonic() - began < 0.9
        assert live.server.state == "stopping"
        live.server.wait_closed()
        assert 0.9 < time.monotonic() - began < 3
        stopping.join()
        assert app.next()[0] == "close"
        assert 0 < len(still.receive_rest()) < len(data)


def test_stop_does_not_wait_when_all_have_answered(serve: Serve) -> None:
    app = Sockets()
    live = serve(app)
    with live.open() as ws:
        app.take()
        began = time.monotonic()
        stopping = threading.Thread(target=live.server.stop, args=[DEADLINE_S])
        stopping.start()
        assert ws.receive_close() == (1001, "")
        ws.send_frame(CLOSE, close_payload(1001))
        assert ws.receive_rest() == b""
        stopping.join()
        live.server.wait_closed()
        assert time.monotonic() - began < 2
    assert app.next() == ("close", (1001, ""))


# Pings


def test_ping_of_python(sockets: Live) -> None:
    with sockets.open() as ws:
        ours = sockets.app.take()
        assert ours.latency_s is None and ours.round_trips == []
        for payload in (b"", b"x", bytes(125), bytearray(b"array"), memoryview(b"view")):
            before = len(ours.round_trips)
            assert ours.ping(payload) is SendResult.SENT
            assert ws.receive_frame() == Frame(PING, bytes(payload))
            ws.send_frame(PONG, b"nobody asked for this")
            ws.send_frame(PONG, bytes(payload)[1:] + b"!")
            ws.send_frame(PING, b"and this is answered")
            assert ws.receive_frame() == Frame(PONG, b"and this is answered")
            assert len(ours.round_trips) == before
            ws.send_frame(PONG, bytes(payload))
            ws.send_frame(PONG, bytes(payload))  # a second time: unsolicited
            ws.send_frame(PING, b"read")
            assert ws.receive_frame() == Frame(PONG, b"read")
            assert len(ours.round_trips) == before + 1
            assert ours.latency_s is not None and 0 < ours.latency_s < DEADLINE_S
            assert ours.latency_s == pytest.approx(ours.round_trips[-1][1])
        ws.send_frame(PONG)
        assert ws.close() == (1000, "")
        assert ours.latency_s is None
    assert sockets.app.next() == ("close", (1000, ""))
    wait_until(lambda: ours.ping() is SendResult.CLOSED)


def test_latency_is_that_of_the_peer(sockets: Live) -> None:
    with sockets.open() as ws:
        ours = sockets.app.take()
        ours.ping(b"slow")
        assert ws.receive_frame() == Frame(PING, b"slow")
        time.sleep(0.1)
        ws.send_frame(PONG, b"slow")
        deadline = time.monotonic() + DEADLINE_S
        while ours.latency_s is None:
            assert time.monotonic() < deadline
        assert 0.1 <= ours.latency_s < 1
        assert ws.close() == (1000, "")
    assert sockets.app.next() == ("close", (1000, ""))


def test_pings_between_fragments_both_ways(sockets: Live) -> None:
    with sockets.open() as ws:
        ours = sockets.app.take()
        ws.send_frame(TEXT, b"Hel", fin=False)
        ours.ping(b"ours")
        assert ws.receive_frame() == Frame(PING, b"ours")
        ws.send_frame(PONG, b"ours")
        ws.send_frame(PING, b"theirs")
        assert ws.receive_frame() == Frame(PONG, b"theirs")
        ws.send_frame(CONTINUATION, b"lo")
        assert sockets.app.next() == ("message", "Hello")
        assert ours.latency_s is not None
        assert ws.close() == (1000, "")
    assert sockets.app.next() == ("close", (1000, ""))


def test_peer_that_answers_is_never_closed(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(ping_interval_s=0.02, pong_timeout_s=0.5))
    with live.open() as ws:
        ours = app.take()
        payloads = set()
        for _ in range(40):
            ping = ws.receive_frame()
            assert ping.opcode == PING
            payloads.add(ping.payload)
            ws.send_frame(PONG, ping.payload)
        assert len(payloads) == 40
        assert 20 < len(ours.round_trips) <= 32
        ages = [age for age, _ in ours.round_trips]
        assert ages == sorted(ages, reverse=True)
        ws.send_frame(CLOSE, close_payload(1000))
        while ws.receive_frame().opcode == PING:
            pass
    assert app.next() == ("close", (1000, ""))


def test_missing_pong_to_pythons_ping_closes_too(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, limits=portico.Limits(ping_interval_s=None, pong_timeout_s=0.2))
    with live.open() as ws:
        ours = app.take()
        assert ws.is_silent(0.3)  # nothing is asked, so nothing is missing
        ours.ping(b"?")
        assert ws.receive_frame() == Frame(PING, b"?")
        assert ws.receive_end()[0] == 1011
    assert app.next() == ("close", (1006, "no pong within pong_timeout_s"))


def test_pings_go_on_where_no_pong_is_missed(serve: Serve) -> None:
    # They keep proxies from closing a connection over which nobody says anything.
    app = Sockets()
    live = serve(app, limits=portico.Limits(ping_interval_s=0.02, pong_timeout_s=None))
    with live.open() as ws:
        assert [ws.receive_frame().opcode for _ in range(3)] == [PING] * 3
        ours = app.take()
        while ours.latency_s is None:
            ws.send_frame(PONG, ws.receive_frame().payload)


HELD_S = 1.2

HELD = f"""
class App:
    def call(self, req):
        say("holding")
        ctypes.PyDLL(None).usleep({int(HELD_S * 1e6)})
        say("held")
        return "held"

    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: say(ws.request.path, len(ws.round_trips)))
        ws.on_close(lambda: say(ws.request.path, ws.close_code, ws.close_reason))

live(App(), sys.argv[1], limits=portico.Limits(ping_interval_s=0.1, pong_timeout_s=0.3))
"""


@pytest.mark.parametrize("home", ["service", "asyncio", "thread"])
def test_keep_alive_while_python_is_held(home: str) -> None:
    with Program(HELD, home) as program:
        address = program.address()
        with (
            Client(address) as holder,
            WebSocketClient(address, "/lively") as lively,
            WebSocketClient(address, "/mute") as mute,
        ):
            holder.send(request())
            assert program.line() == "holding"
            began = time.monotonic()
            # Pings come at their interval, and the one who is silent is closed, all without Python.
            count = 0
            mute_until = None
            while time.monotonic() - began < HELD_S - 0.3:
                ping = lively.receive_frame()
                assert ping.opcode == PING
                lively.send_frame(PONG, ping.payload)
                count += 1
                if mute_until is None and not mute.is_silent() and time.monotonic() - began > 0.6:
                    assert mute.receive_frame().opcode == PING
                    while (got := mute.receive_frame()).opcode == PING:
                        pass
                    assert (got.opcode, got.payload[:2]) == (CLOSE, close_payload(1011))
                    assert mute.receive_rest() == b""
                    mute_until = time.monotonic()
            assert holder.is_silent()
            assert mute_until is not None and mute_until - began < HELD_S
            assert 5 <= count <= 15
            assert holder.receive_reply().body == b"held"
            assert program.line() == "held"
            assert program.line() == "/mute 1006 no pong within pong_timeout_s"
            lively.send_text("how many?")
            path, trips = program.line().split()
            assert path == "/lively" and int(trips) >= count - 1
