"""Topics on real sockets: who is subscribed, who gets what is published, in what order, from which thread."""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import portico
from portico import Deflate, SendResult, Server
from portico.routes import Route
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve
from .process import Program
from .wire_client import (
    BINARY,
    DEADLINE_S,
    TEXT,
    Client,
    Frame,
    Inflater,
    WebSocketClient,
    close_payload,
    frame,
    request,
    wait_until,
)


class Members:
    """An app whose sockets subscribe to what their query says (`/?topic=a&topic=b`), and to what they hear."""

    def __init__(self) -> None:
        self.opened: queue.SimpleQueue[WebSocket] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def call(self, req: portico.Request) -> str:
        return "request"

    def on_ws_open(self, ws: WebSocket) -> None:
        for topic in ws.request.query.get_all("topic"):
            assert ws.subscribe(topic) is True
        ws.on_close(lambda: self.closed.put(ws.close_code))
        self.opened.put(ws)

    def take(self) -> WebSocket:
        return self.opened.get(timeout=DEADLINE_S)


@pytest.fixture
def live(serve: Serve) -> Live:
    return serve(Members())


@pytest.fixture
def join(live: Live) -> Iterator[Callable[..., tuple[WebSocketClient, WebSocket]]]:
    """Open a connection that is subscribed to these topics: both of its ends."""
    with ExitStack() as stack:

        def join(*topics: str, **options: Any) -> tuple[WebSocketClient, WebSocket]:
            target = "/?" + "&".join(f"topic={topic}" for topic in topics)
            client = stack.enter_context(live.open(target, **options))
            return client, live.app.take()

        yield join


Join = Callable[..., tuple[WebSocketClient, WebSocket]]


def wait_for_topics(server: Server, expected: dict[str, int]) -> None:
    wait_until(lambda: server.topics == expected)


def test_published_messages_reach_members_only(live: Live, join: Join) -> None:
    (a, _), (ab, _), (b, ours_b), (none, _) = join("a"), join("a", "b"), join("b"), join()
    assert live.server.topics == {"a": 2, "b": 2}
    assert live.server.publish("a", "to a") == 2
    assert live.server.publish("b", b"to b") == 2
    assert live.server.publish("b", bytearray(b"array"), exclude=ours_b) == 1
    assert live.server.publish("b", memoryview(b"view")) == 2
    assert live.server.publish("c", "to nobody") == 0
    assert live.server.broadcast("end") == 4
    assert [a.receive_text(), a.receive_text()] == ["to a", "end"]
    assert [ab.receive_frame() for _ in range(5)] == [
        Frame(TEXT, b"to a"),
        Frame(BINARY, b"to b"),
        Frame(BINARY, b"array"),
        Frame(BINARY, b"view"),
        Frame(TEXT, b"end"),
    ]
    assert [b.receive_frame().payload for _ in range(3)] == [b"to b", b"view", b"end"]
    assert none.receive_text() == "end"


def test_subscribing_twice_is_being_there_once(live: Live, join: Join) -> None:
    client, ours = join("a")
    assert ours.subscribe("a") is True and ours.subscribe("a") is True
    assert live.server.topics == {"a": 1}
    assert live.server.publish("a", "once") == 1
    assert ours.unsubscribe("a") is True
    wait_until(lambda: not ours.unsubscribe("a"))
    wait_until(lambda: not ours.unsubscribe("never"))
    assert live.server.topics == {}
    assert live.server.publish("a", "none") == 0
    assert ours.subscribe("a") is True
    assert live.server.publish("a", "again") == 1
    assert [client.receive_text(), client.receive_text()] == ["once", "again"]


NAMES = ["", " ", "ünïcode ☂", "😀", "a/b#c?d", "a\0b", "news", "News", "new" + "s" * 100_000, "\n", "é", "e\u0301"]


def test_any_text_is_a_topic_of_its_own(live: Live, join: Join) -> None:
    client, ours = join()
    for name in NAMES:
        assert ours.subscribe(name)
    assert live.server.topics == dict.fromkeys(NAMES, 1)
    for name in NAMES:
        assert live.server.publish(name, name[:10]) == 1
        assert client.receive_text() == name[:10]
    for name in NAMES:
        assert ours.unsubscribe(name)
    assert live.server.topics == {}


def test_many_topics_of_one_connection(live: Live, join: Join) -> None:
    client, ours = join()
    for index in range(5000):
        ours.subscribe(str(index))
    assert len(live.server.topics) == 5000
    assert client.close() == (1000, "")
    wait_for_topics(live.server, {})


def test_types_are_checked(live: Live, join: Join) -> None:
    client, ours = join("a")
    server: Any = live.server
    stranger: Any = ours
    for wrong in (None, 1, b"a", ["a"], ("a",)):
        for call in (stranger.subscribe, stranger.unsubscribe, lambda topic: server.publish(topic, "x")):
            with pytest.raises(TypeError):
                call(wrong)
    for wrong in (None, 1, ["x"], 1.5, object()):
        with pytest.raises(TypeError):
            server.publish("a", wrong)
        with pytest.raises(TypeError):
            server.publish("nobody", wrong)
    for wrong in (1, ours.id, "a", [ours], client):
        with pytest.raises(TypeError):
            server.publish("a", "x", exclude=wrong)
    with pytest.raises(TypeError):
        server.publish("a", "x", ours)  # by name only
    for call in (ours.subscribe, ours.unsubscribe, lambda topic: server.publish(topic, "x")):
        with pytest.raises(UnicodeEncodeError):
            call("\ud800")
    with pytest.raises(UnicodeEncodeError):
        server.publish("a", "\ud800")
    with pytest.raises(AttributeError):
        server.topics = {}
    copy = server.topics
    copy.clear()
    assert live.server.topics == {"a": 1}
    assert live.server.publish("a", "only this") == 1
    assert client.receive_text() == "only this"


def test_excluded_may_be_anybody(live: Live, join: Join) -> None:
    (client, ours), (_, outsider) = join("a"), join()
    assert live.server.publish("a", "1", exclude=outsider) == 1
    assert live.server.publish("a", "2", exclude=ours) == 0
    assert live.server.publish("a", "3", exclude=None) == 1
    gone_client, gone = join("a")
    gone_client.close()
    assert live.app.closed.get(timeout=DEADLINE_S) == 1000
    assert live.server.publish("a", "4", exclude=gone) == 1
    assert [client.receive_text() for _ in range(3)] == ["1", "3", "4"]


@pytest.mark.parametrize("callbacks", ["thread", "service"])
def test_topics_of_two_servers_are_two(serve: Serve, callbacks: str) -> None:
    # With "service" both have one home, and share a reactor.
    first, second = serve(Members(), callbacks=callbacks), serve(Members(), callbacks=callbacks)
    with first.open("/?topic=a") as a, second.open("/?topic=a") as b:
        if callbacks == "service":
            first.service_until(lambda: not first.app.opened.empty() and not second.app.opened.empty())
        ours, others = first.app.take(), second.app.take()
        assert first.server.topics == second.server.topics == {"a": 1}
        assert first.server.publish("a", "first") == 1
        assert second.server.publish("a", "second", exclude=ours) == 1
        assert ours.unsubscribe("a")
        assert (first.server.topics, second.server.topics) == ({}, {"a": 1})
        assert first.server.publish("a", "none") == 0
        assert others.send("end") is SendResult.SENT and ours.send("end") is SendResult.SENT
        assert [a.receive_text(), a.receive_text()] == ["first", "end"]
        assert [b.receive_text(), b.receive_text()] == ["second", "end"]


# How memberships end


@pytest.mark.parametrize("how", ["client", "client says nothing", "mistake", "server", "reset", "end", "callback"])
def test_membership_ends_with_the_connection(live: Live, join: Join, how: str) -> None:
    (client, ours), (other, _) = join("a", "b"), join("a")
    match how:
        case "client":
            assert client.close(4000) == (4000, "")
        case "client says nothing":
            client.send_frame(8)
            client.receive_rest()
        case "mistake":
            client.send_frame(3)
            assert client.receive_end()[0] == 1002
        case "server":
            ours.close()
        case "reset":
            client.reset()
        case "end":
            client.end()
            client.receive_rest()
        case "callback":

            @ours.on_message
            def on_message(binary: bool, message: str | bytes) -> None:
                raise LookupError("on purpose")

            client.send_text("x")
            assert client.receive_close()[0] == 1011
    wait_for_topics(live.server, {"a": 1})  # in the case of "server" before the peer has answered
    wait_until(lambda: not ours.subscribe("a"))
    wait_until(lambda: not ours.unsubscribe("a"))
    assert live.server.publish("a", "still here") == 1
    assert live.server.publish("b", "gone") == 0
    assert other.receive_text() == "still here"


def test_membership_ends_when_a_slow_client_is_given_up(serve: Serve) -> None:
    live = serve(Members(), limits=portico.Limits(max_outbox_bytes=100_000))
    with live.open("/?topic=a", receive_buffer_bytes=4096) as slow, live.open("/?topic=a") as other:
        ours, _ = live.app.take(), live.app.take()
        count = 0
        while (taken := live.server.publish("a", bytes(20_000))) == 2:
            count += 1
            assert count < 10_000
            assert other.receive_frame().payload == bytes(20_000)
        assert taken == 1  # the slow one didn't
        assert live.server.topics == {"a": 1}
        assert live.server.publish("a", "on") == 1
        wait_until(lambda: not ours.subscribe("a"))
        for _ in range(count):
            assert slow.receive_frame().payload == bytes(20_000)
        assert slow.receive_close()[0] == 1013


def test_dropped_messages_are_not_counted(serve: Serve) -> None:
    live = serve(Members(), limits=portico.Limits(max_outbox_bytes=100_000), slow_client="drop_new")
    with live.open("/?topic=a", receive_buffer_bytes=4096) as slow:
        live.app.take()
        count = 0
        while live.server.publish("a", bytes(20_000)):
            count += 1
            assert count < 10_000
        assert live.server.topics == {"a": 1}  # a member all the same
        assert live.server.stats()["dropped"] == 1
        for _ in range(count):
            assert slow.receive_frame().payload == bytes(20_000)
        deadline = time.monotonic() + DEADLINE_S
        while not live.server.publish("a", "again"):
            assert time.monotonic() < deadline
        assert slow.receive_text() == "again"


def test_membership_ends_when_the_server_stops(serve: Serve) -> None:
    live = serve(Members())
    with live.open("/?topic=a") as client:
        ours = live.app.take()
        live.server.stop()
        live.server.wait_closed()
        assert live.server.topics == {}
        assert live.server.publish("a", "x") == 0
        assert ours.subscribe("a") is False
        assert client.receive_end() == (1001, "")


def test_before_the_start_nobody_listens() -> None:
    server = Server([Route(on_open=lambda ws: None)], ("127.0.0.1", 0))
    assert (server.topics, server.publish("a", "x")) == ({}, 0)


# From where


def test_from_callbacks(serve: Serve) -> None:
    """A room: whoever speaks is heard by the others, and `subscribe` holds from the next line on."""

    def on_ws_open(ws: WebSocket) -> None:
        server.publish("room", "somebody came")
        ws.subscribe("room")
        assert server.publish("room", "you are in") >= 1

        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> None:
            if message == "leave":
                ws.unsubscribe("room")
                ws.send(f"left {server.topics.get('room', 0)}")
            else:
                ws.send(f"heard by {server.publish('room', message, exclude=ws)}")

        @ws.on_close
        def on_close() -> None:
            server.publish("room", f"gone, {server.topics['room']} left")

    live = serve({"on_ws_open": on_ws_open})
    server = live.server
    with live.open() as a:
        assert a.receive_text() == "you are in"
        with live.open() as b:
            assert b.receive_text() == "you are in"
            assert [a.receive_text(), a.receive_text()] == ["somebody came", "you are in"]
            b.send_text("hello")
            assert (b.receive_text(), a.receive_text()) == ("heard by 1", "hello")
            a.send_text("leave", "anybody?")
            assert [a.receive_text(), a.receive_text()] == ["left 1", "heard by 1"]
            assert b.receive_text() == "anybody?"
            with live.open() as c:
                assert c.receive_text() == "you are in"
                assert [b.receive_text(), b.receive_text()] == ["somebody came", "you are in"]
                c.reset()
            assert b.receive_text() == "gone, 1 left"


def test_from_coroutines() -> None:
    async def on_ws_open(ws: WebSocket) -> None:
        await asyncio.sleep(0)
        assert ws.subscribe("room")
        ws.send("in")
        async for message in ws:
            await asyncio.sleep(0)
            ws.send(f"heard by {server.publish('room', message, exclude=ws)}")
        assert not ws.subscribe("room")

    def talk() -> None:
        live = Live(server, None)
        with live.open() as a, live.open() as b:
            assert (a.receive_text(), b.receive_text()) == ("in", "in")
            assert server.topics == {"room": 2}
            for index in range(50):
                a.send_text(str(index))
                assert (a.receive_text(), b.receive_text()) == ("heard by 1", str(index))
            assert a.close() == (1000, "")
            b.send_text("x")
            assert b.receive_text() == "heard by 0"
            assert b.close() == (1000, "")

    async def main() -> None:
        nonlocal server
        async with portico.start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, True) as server:
            await asyncio.to_thread(talk)
            assert server.topics == {}

    server: Any = None
    asyncio.run(main())


def test_from_a_thread_while_the_home_is_busy(serve: Serve) -> None:
    entered, gate = threading.Event(), threading.Event()

    class Busy(Members):
        def call(self, req: portico.Request) -> str:
            entered.set()
            gate.wait(DEADLINE_S)
            return "free"

    live = serve(Busy())
    with live.open("/?topic=a") as a, live.open() as b, live.connect() as busy:
        live.app.take()
        ours = live.app.take()
        busy.send(request())
        assert entered.wait(DEADLINE_S)
        try:
            for index in range(20):
                assert ours.subscribe("a") is True
                assert live.server.topics == {"a": 2}
                assert live.server.publish("a", str(index)) == 2
                assert (a.receive_text(), b.receive_text()) == (str(index), str(index))
                assert ours.unsubscribe("a") is True
                assert live.server.topics == {"a": 1}
            assert a.close() == (1000, "")
            assert live.server.topics == {}  # though Python has not heard of the end
            assert live.server.publish("a", "nobody") == 0
        finally:
            gate.set()
        assert busy.receive_reply().body == b"free"


def test_from_a_thread_while_nobody_services(serve: Serve) -> None:
    live = serve(Members(), callbacks="service")
    with live.open() as client:
        live.service_until(lambda: not live.app.opened.empty())
        ours = live.app.take()
        done = threading.Event()

        def talk() -> None:
            ours.subscribe("a")
            for index in range(100):
                assert live.server.publish("a", str(index)) == 1
            done.set()

        thread = threading.Thread(target=talk)
        thread.start()
        assert [client.receive_text() for _ in range(100)] == [str(index) for index in range(100)]
        assert done.wait(DEADLINE_S)
        thread.join()


def test_what_was_published_leaves_while_python_is_held() -> None:
    source = """
    def call(req):
        say(server.publish("a", "before"), server.publish("a", "x" * 100_000))
        ctypes.PyDLL(None).usleep(700_000)
        return "held"

    server = start({"call": call, "on_ws_open": lambda ws: ws.subscribe("a") and None}, "service")
    while True:
        server.service()
    """
    with Program(source) as program:
        address = program.address()
        with WebSocketClient(address) as a, WebSocketClient(address) as b, Client(address) as holder:
            holder.send(request())
            assert program.line() == "2 2"
            began = time.monotonic()
            for client in (a, b):
                assert client.receive_text() == "before"
                assert client.receive_text() == "x" * 100_000
            assert time.monotonic() - began < 0.5
            assert holder.receive_reply().body == b"held"


# To many, and in order


def test_to_three_hundred_from_a_thread(serve: Serve) -> None:
    live = serve(Members(), deflate=Deflate(min_bytes=200))
    with ExitStack() as stack:
        offer = "Sec-WebSocket-Extensions: permessage-deflate"
        clients = [
            stack.enter_context(live.open("/?topic=all", *([offer] if index % 2 else []))) for index in range(300)
        ]
        for _ in clients:
            live.app.take()
        long = os.urandom(60).hex() * 20
        huge = os.urandom(60).hex() * 2000
        messages: list[str | bytes] = ["short", long, b"bytes", huge, os.urandom(1000), long.encode(), "end"]
        results: list[int] = []
        thread = threading.Thread(target=lambda: results.extend(live.server.publish("all", it) for it in messages))
        thread.start()
        for client in clients:
            for message in messages:
                got = client.receive_frame()
                assert got.opcode == (TEXT if isinstance(message, str) else BINARY)
                data = Inflater()(got.payload) if got.rsv else got.payload
                assert data == (message.encode() if isinstance(message, str) else message)
        thread.join()
        assert results == [300] * len(messages)
        assert live.server.topics == {"all": 300}


@pytest.mark.parametrize("has_deflate", [False, True])
def test_order_per_connection(serve: Serve, has_deflate: bool) -> None:
    """What one thread says arrives in the order in which it was said, whichever way and to whomever."""
    live = serve(Members(), deflate=Deflate(min_bytes=100, context_takeover=True) if has_deflate else False)
    offer = ["Sec-WebSocket-Extensions: permessage-deflate"] if has_deflate else []
    with live.open("/?topic=a&topic=b", *offer) as client:
        ours = live.app.take()

        def talk(name: str) -> None:
            rng = random.Random(name)
            for index in range(150):
                text = f"{name} {index} " + "x" * rng.choice([0, 10, 200, 3000, 70_000])
                match rng.randrange(4):
                    case 0:
                        assert ours.send(text) is SendResult.SENT
                    case 1:
                        assert live.server.broadcast(text) == 1
                    case 2:
                        assert live.server.publish("a", text) == 1
                    case 3:
                        assert live.server.publish("b", text) == 1

        threads = [threading.Thread(target=talk, args=[name]) for name in "pqr"]
        for thread in threads:
            thread.start()
        inflate = Inflater(keeps_context=True)
        seen: dict[str, int] = dict.fromkeys("pqr", -1)
        for _ in range(450):
            got = client.receive_frame()
            name, index, _ = (inflate(got.payload) if got.rsv else got.payload).decode().split(" ")
            assert int(index) == seen[name] + 1
            seen[name] += 1
        for thread in threads:
            thread.join()
        assert seen == dict.fromkeys("pqr", 149)


STORM_S = 1.0


@pytest.mark.parametrize("deflate", [False, Deflate(min_bytes=10, context_takeover=True)], ids=["plain", "deflate"])
def test_storm(serve: Serve, deflate: Any) -> None:
    """Everybody comes, goes, subscribes, publishes and closes at once."""
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    is_over = threading.Event()
    sockets: dict[int, WebSocket] = {}

    def on_ws_open(ws: WebSocket) -> None:
        sockets[ws.id] = ws
        ws.subscribe("all")
        ws.on_close(lambda: sockets.pop(ws.id) and None)

        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> None:
            live.server.publish("all", message, exclude=ws)
            if random.random() < 0.1:
                ws.close(4000)

    live = serve({"on_ws_open": on_ws_open}, deflate=deflate)
    offer = ["Sec-WebSocket-Extensions: permessage-deflate"] if deflate else []

    def run(job: Callable[[random.Random], object]) -> None:
        rng = random.Random()
        try:
            while not is_over.is_set():
                job(rng)
        except BaseException as error:
            errors.put(error)
            raise

    def publish(rng: random.Random) -> None:
        data = "x" * rng.choice([1, 100, 1000]) + str(rng.random())
        assert 0 <= live.server.publish(rng.choice(["all", "odd", "nobody"]), data) <= 200
        time.sleep(0.001)

    def fidget(rng: random.Random) -> None:
        for ws in list(sockets.values()):
            match rng.randrange(6):
                case 0:
                    ws.subscribe(rng.choice(["odd", "all", str(rng.randrange(100))]))
                case 1:
                    ws.unsubscribe(rng.choice(["odd", "all"]))
                case 2:
                    ws.send("x" * rng.choice([1, 2000]))
                case 3:
                    if rng.random() < 0.05:
                        ws.close(4001)
                case 4:
                    assert all(count > 0 for count in live.server.topics.values())
                case 5:
                    live.server.publish("all", "from fidget", exclude=ws)
        time.sleep(0.001)

    def visit(rng: random.Random) -> None:
        clients = [live.open("/", *offer) for _ in range(3)]
        for client in clients:
            with client:
                try:
                    client.send_text("hello", "again")
                    match rng.randrange(3):
                        case 0:
                            client.reset()
                        case 1:
                            client.send(frame(8, close_payload(1000)))
                            client.receive_rest()
                except (ConnectionError, AssertionError):
                    pass  # the server was the first to close

    jobs = [publish, publish, fidget, visit, visit, visit]
    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    time.sleep(STORM_S)
    is_over.set()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert errors.empty(), errors.get()
    wait_for_topics(live.server, {})
    deadline = time.monotonic() + DEADLINE_S
    while live.server.clients or sockets:
        assert time.monotonic() < deadline, (live.server.clients, len(sockets))
        time.sleep(0.001)
    assert live.server.stats()["panics"] == 0
    assert live.server.stats()["accepted"] > 20
