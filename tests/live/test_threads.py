"""Any thread may send, publish and stop at any time, and each client hears each thread in order; homes do not mix."""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import portico
from portico.websocket_connection import WebSocket

from .conftest import Live, Serve, Sockets, start
from .wire_client import DEADLINE_S, WebSocketClient, ask, request, wait_until

THREADS = 6
CLIENTS = 4
ROUNDS = 100


class Storm:
    """Threads that say numbered things to everybody, in each way there is, and remember what went wrong."""

    def __init__(self, server: portico.Server, sockets: list[WebSocket]) -> None:
        self.server = server
        self.sockets = sockets
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        try:
            for round in range(ROUNDS):
                for ws in self.sockets:
                    assert ws.send(f"{number} {round}.0") == portico.SendResult.SENT
                assert self.server.broadcast(f"{number} {round}.1") == len(self.sockets)
                assert self.server.publish("all", f"{number} {round}.2") == len(self.sockets)
        except BaseException as error:
            self.errors.append(error)

    def finish(self) -> None:
        for thread in self.threads:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in self.threads)
        assert self.errors == []


def read_storm(client: WebSocketClient) -> dict[str, list[str]]:
    """What one client hears, by the thread that said it."""
    heard: dict[str, list[str]] = collections.defaultdict(list)
    for _ in range(THREADS * ROUNDS * 3):
        thread, what = client.receive_text().split()
        heard[thread].append(what)
    return heard


EXPECTED = {str(number): [f"{round}.{way}" for round in range(ROUNDS) for way in range(3)] for number in range(THREADS)}


@pytest.mark.parametrize("home", ["thread", "service", "loop"])
def test_each_client_hears_each_thread_in_order(home: str) -> None:
    sockets: list[WebSocket] = []

    def on_ws_open(ws: WebSocket) -> None:
        ws.subscribe("all")
        sockets.append(ws)

    def talk(live: Live) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(live.open()) for _ in range(CLIENTS)]
            wait_until(lambda: len(sockets) == CLIENTS, "all are open")
            storm = Storm(live.server, list(sockets))
            for client in clients:
                assert read_storm(client) == EXPECTED
            storm.finish()

    run_in(home, {"on_ws_open": on_ws_open}, talk)


def test_a_callback_and_threads_that_send_to_the_same_client_do_not_mix(serve: Serve) -> None:
    """What a callback sends is corked, what threads send is not: neither tears the other's messages or their order."""
    app = Sockets()
    live = serve(app)
    with live.open() as client:
        ws = app.take()
        ws.subscribe("all")
        storm = Storm(live.server, [ws])
        heard: dict[str, list[str]] = collections.defaultdict(list)
        said = [f"echo {number}" for number in range(ROUNDS)]
        client.send_text(*said)
        for _ in range(ROUNDS * (THREADS * 3 + 1)):
            who, what = client.receive_text().split()
            heard[who].append(what)
        storm.finish()
    assert heard == EXPECTED | {"echo": [str(number) for number in range(ROUNDS)]}


@pytest.mark.parametrize("home", ["thread", "service", "loop"])
def test_threads_that_stop_a_server_while_others_send(home: str) -> None:
    sockets: list[WebSocket] = []
    closed: list[int] = []
    errors: list[BaseException] = []

    def on_ws_open(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.on_close(lambda: closed.append(ws.id))

    def talk(live: Live) -> None:
        begun = threading.Barrier(THREADS)

        def send() -> None:
            begun.wait(DEADLINE_S)
            while not live.server._closed.is_set():
                for ws in sockets:
                    assert ws.send("x") in (portico.SendResult.SENT, portico.SendResult.CLOSED)
                live.server.broadcast("x")

        def stop() -> None:
            begun.wait(DEADLINE_S)
            live.server.stop()

        def guard(job: Callable[[], None]) -> None:
            try:
                job()
            except BaseException as error:
                errors.append(error)

        with ExitStack() as stack:
            clients = [stack.enter_context(live.open()) for _ in range(CLIENTS)]
            wait_until(lambda: len(sockets) == CLIENTS, "all are open")
            jobs = [send, stop] * (THREADS // 2)
            threads = [threading.Thread(target=guard, args=(job,)) for job in jobs]
            for thread in threads:
                thread.start()
            for client in clients:
                while (heard := client.receive_frame()).opcode == 1:
                    pass
                assert heard.payload[:2] == (1001).to_bytes(2, "big")
            for thread in threads:
                thread.join(DEADLINE_S)
                assert not thread.is_alive()

    run_in(home, {"on_ws_open": on_ws_open}, talk)
    assert errors == []
    assert sorted(closed) == sorted(ws.id for ws in sockets)


def test_many_homes_in_one_process() -> None:
    """Servers of two threads that service, one loop in a thread and two threads of their own: each runs its own."""

    def app(req: Any) -> str:
        return threading.current_thread().name

    servers: dict[str, portico.Server] = {}
    ready = threading.Barrier(4)
    over = threading.Event()

    def service() -> None:
        with start(app, "service").server as server:
            servers[threading.current_thread().name] = server
            ready.wait(DEADLINE_S)
            while not over.is_set():
                server.service(0.01)

    async def serve_in_loop() -> None:
        async with start(app, "loop").server as server:
            servers[threading.current_thread().name] = server
            await asyncio.to_thread(ready.wait, DEADLINE_S)
            while not over.is_set():
                await asyncio.sleep(0.01)

    threads = [threading.Thread(target=service, name=f"home {number}") for number in range(2)]
    threads.append(threading.Thread(target=lambda: asyncio.run(serve_in_loop()), name="loop"))
    for thread in threads:
        thread.start()
    own = [start(app, "thread"), start(app, "thread")]
    ready.wait(DEADLINE_S)
    try:
        for _ in range(20):
            for name, server in servers.items():
                assert Live(server, app).ask().body == name.encode()
            for live in own:
                assert live.ask().body == b"portico"
        assert len({id(live.server._home) for live in own}) == 2
        assert len(servers) == 3
    finally:
        over.set()
        for thread in threads:
            thread.join(DEADLINE_S)
        for live in own:
            live.server.stop()
            live.server.wait_closed()
    assert all(server.state == "stopped" for server in servers.values())


def test_a_home_in_a_loop_is_not_serviced_by_another_thread() -> None:
    async def main() -> None:
        async with start(lambda req: "x", "loop").server as server:
            for wrong in (lambda: server.service(0), lambda: portico.service(server, 0)):
                with pytest.raises(RuntimeError, match="belong to thread"):
                    await asyncio.to_thread(wrong)
            assert await asyncio.to_thread(ask, ("127.0.0.1", server.port or 0), request())

    asyncio.run(main())


@pytest.mark.parametrize("callbacks", ["loop", "auto"])
@pytest.mark.parametrize("heir", ["service", "loop"])
def test_a_home_whose_thread_and_loop_have_ended_is_adopted(callbacks: str, heir: str) -> None:
    """By the first who calls `service(server)`: a plain thread, or one with a loop, which serves it from then on."""
    started: list[Live] = []

    async def app(req: Any) -> str:
        await asyncio.sleep(0.001)
        return threading.current_thread().name

    async def begin() -> None:
        started.append(start(app, callbacks))

    thread = threading.Thread(target=lambda: asyncio.run(begin()))
    thread.start()
    thread.join(DEADLINE_S)
    [live] = started

    async def adopt() -> None:
        portico.service(live.server, 0)
        for _ in range(3):
            assert (await asyncio.to_thread(live.ask)).body == b"MainThread"
        live.server.stop()
        await live.server.wait_closed()

    if heir == "loop":
        asyncio.run(adopt())
    else:
        replies: list[bytes] = []
        asking = threading.Thread(target=lambda: replies.append(live.ask().body))
        asking.start()
        live.service_until(lambda: bool(replies))
        asking.join(DEADLINE_S)
        assert replies == [b"MainThread"]
        live.server.stop()
    assert live.server.state == "stopped"


def run_in(home: str, app: Any, talk: Callable[[Live], None]) -> None:
    """Talk to a server on another thread while this one, or the server's own, runs the callbacks."""
    live: Live
    failed: list[BaseException] = []
    over = threading.Event()

    def guarded() -> None:
        try:
            talk(live)
        except BaseException as error:
            failed.append(error)
        over.set()

    async def in_loop() -> None:
        nonlocal live
        live = start(app, "loop")
        await asyncio.to_thread(guarded)
        live.server.stop()
        await live.server.wait_closed()

    if home == "loop":
        asyncio.run(in_loop())
    else:
        live = start(app, home)
        talker = threading.Thread(target=guarded)
        talker.start()
        while home == "service" and not over.is_set():
            live.server.service(0.05)
        talker.join(DEADLINE_S)
        live.server.stop()
        live.server.wait_closed()
    if failed:
        raise failed[0]
