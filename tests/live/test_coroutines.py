"""The same coroutine handlers in every home there is for them: asyncio, uvloop, trio, anyio, a script, a thread."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import uvloop

import portico
from portico.request import Request
from portico.websocket_connection import WebSocket

from .conftest import Live, end
from .wire_client import CLOSE, DEADLINE_S, close_payload, request

Talk = Callable[[Live], None]


class Coroutines:
    """Every handler is a coroutine that waits; `calls` tells what ran, in order."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def next(self) -> Any:
        return self.calls.get(timeout=DEADLINE_S)

    async def on_headers(self, req: Request) -> dict[str, Any] | None:
        await asyncio.sleep(0.001)
        if req.path == "/refused":
            return {"status": 403, "body": "no"}
        if req.path == "/stuck-head":
            await self.forever("head")
        return None

    async def call(self, req: Request) -> Any:
        await asyncio.sleep(0.001)
        if req.path == "/boom":
            raise ValueError("boom")
        if req.path == "/stuck":
            await self.forever("call")
        if req.path == "/stream":
            return self.pieces()
        return req.path + (req.text() or "")

    async def pieces(self) -> Any:
        try:
            for number in range(10_000):
                yield f"{number}\n"
                await asyncio.sleep(0.001)
        finally:
            self.calls.put("stream closed")

    async def forever(self, where: str) -> None:
        try:
            self.calls.put(f"{where} waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.calls.put(f"{where} cancelled")
            raise

    async def on_ws_open(self, ws: WebSocket) -> None:
        await asyncio.sleep(0.001)
        self.calls.put("open")

        async def hear(binary: bool, message: str | bytes) -> None:
            self.calls.put(message)
            await asyncio.sleep(0.001)
            if message == "boom":
                raise ValueError("boom")
            ws.send(message)

        async def closed() -> None:
            await asyncio.sleep(0.001)
            self.calls.put(("closed", ws.close_code))

        ws.on_message(hear)
        ws.on_close(closed)


def in_asyncio(run: Callable[[Any], Any], app: Any, talk: Talk) -> None:
    async def main() -> None:
        async with portico.start_server("127.0.0.1", 0, app, True) as server:
            await asyncio.wait_for(asyncio.to_thread(talk, Live(server, app)), DEADLINE_S * 2)
        assert server.state == "stopped"

    run(main())


def in_foreign_loop(library: Any, run: Callable[..., Any], app: Any, talk: Talk) -> None:
    """A loop that knows the descriptor and nothing else."""

    async def watch() -> None:
        while True:
            await library.wait_readable(portico.fileno())
            portico.service(0)

    async def main() -> None:
        with portico.start_server("127.0.0.1", 0, app, True) as server:
            async with library.open_group() as group:
                group.start_soon(watch)
                await library.run_in_thread(talk, Live(server, app))
                group.cancel_scope.cancel()
        assert server.state == "stopped"

    run(main)


class Trio:
    wait_readable = staticmethod(trio.lowlevel.wait_readable)
    open_group = staticmethod(trio.open_nursery)
    run_in_thread = staticmethod(trio.to_thread.run_sync)


class AnyIO:
    wait_readable = staticmethod(anyio.wait_readable)
    open_group = staticmethod(anyio.create_task_group)
    run_in_thread = staticmethod(anyio.to_thread.run_sync)


def in_script(app: Any, talk: Talk) -> None:
    live = Live(portico.start_server("127.0.0.1", 0, app, True), app)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(talk, live)
        live.service_until(done.done)
        done.result()
    end(live.server)


def in_thread(app: Any, talk: Talk) -> None:
    live = Live(portico.start_server("127.0.0.1", 0, app, True, callbacks="thread"), app)
    talk(live)
    end(live.server)


HOMES: list[Any] = [
    pytest.param(partial(in_asyncio, asyncio.run), id="asyncio"),
    pytest.param(partial(in_asyncio, uvloop.run), id="uvloop"),
    pytest.param(partial(in_asyncio, lambda main: anyio.run(lambda: main)), id="anyio-asyncio"),
    pytest.param(partial(in_foreign_loop, Trio, trio.run), id="trio"),
    pytest.param(partial(in_foreign_loop, AnyIO, partial(anyio.run, backend="trio")), id="anyio-trio"),
    pytest.param(in_script, id="service"),
    pytest.param(in_thread, id="thread"),
]
Home = Callable[[Any, Talk], None]


@pytest.mark.parametrize("home", HOMES)
def test_every_handler_may_be_a_coroutine(home: Home) -> None:
    app = Coroutines()

    def talk(live: Live) -> None:
        assert live.ask("GET", "/path").body == b"/path"
        assert live.ask("POST", "/path", "Content-Length: 4", body=b"body").body == b"/pathbody"
        assert live.ask("GET", "/refused").status == 403
        with live.open() as ws:
            ws.send_text("one", "two")
            assert [ws.receive_text(), ws.receive_text()] == ["one", "two"]
            ws.close()
        assert [app.next() for _ in range(4)] == ["open", "one", "two", ("closed", 1000)]

    home(app, talk)
    assert app.calls.empty()


@pytest.mark.parametrize("home", HOMES)
def test_client_that_leaves_cancels_its_coroutines(home: Home) -> None:
    app = Coroutines()

    def talk(live: Live) -> None:
        for where, target in (("call", "/stuck"), ("head", "/stuck-head")):
            with live.connect() as client:
                client.send(request("GET", target))
                assert app.next() == f"{where} waits"
            assert app.next() == f"{where} cancelled"
        with live.connect() as client:
            client.send(request("GET", "/stream"))
            client.receive_until(b"1\n")
        assert app.next() == "stream closed"
        assert live.ask("GET", "/after").body == b"/after"

    home(app, talk)


@pytest.mark.parametrize("home", HOMES)
def test_coroutine_that_raises_is_answered_and_reported(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    app = Coroutines()

    def talk(live: Live) -> None:
        assert live.ask("GET", "/boom").status == 500
        with live.open() as ws:
            ws.send_text("boom")
            assert ws.receive_close() == (1011, "")
            ws.send_frame(CLOSE, close_payload(1011))
        assert [app.next() for _ in range(3)] == ["open", "boom", ("closed", 1011)]

    home(app, talk)
    reports = [record for record in caplog.records if record.exc_info]
    assert [str(record.exc_info[1]) for record in reports if record.exc_info] == ["boom", "boom"]
