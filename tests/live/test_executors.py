"""Work that runs elsewhere: futures of thread and process pools, and of whoever completes them, as results.

In every home. Clients that leave cancel what they asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from portico.request import Request
from portico.websocket_connection import WebSocket

from .conftest import Live, start
from .test_threads import run_in
from .wire_client import CLOSE, DEADLINE_S, close_payload, wait_until

HOMES = ["thread", "service", "loop"]


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, Executor]]:
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(1, mp_context=spawn) as processes:
        processes.submit(os.getpid).result()
        yield {"thread": threads, "process": processes}


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize(
    ("pool", "how"),
    [*itertools.product(["thread", "process"], ["future", "awaited", "run_in_executor"]), ("thread", "to_thread")],
)
def test_a_request_is_answered_by_a_pool(pools: dict[str, Executor], home: str, pool: str, how: str) -> None:
    executor = pools[pool]

    async def awaited(text: str) -> Any:
        if how == "run_in_executor":
            return await asyncio.get_running_loop().run_in_executor(executor, str.upper, text)
        if how == "to_thread":
            return await asyncio.to_thread(str.upper, text)
        return await asyncio.wrap_future(executor.submit(str.upper, text))

    def call(req: Request) -> Any:
        return executor.submit(str.upper, req.path) if how == "future" else awaited(req.path)

    def talk(live: Live) -> None:
        for _ in range(3):
            assert live.ask(target="/hello").body == b"/HELLO"

    run_in(home, call, talk)


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("pool", ["thread", "process"])
def test_an_exception_in_a_pool_is_a_500(
    pools: dict[str, Executor], home: str, pool: str, caplog: pytest.LogCaptureFixture
) -> None:
    def talk(live: Live) -> None:
        reply = live.ask()
        assert (reply.status, b"invalid literal" in reply.body) == (500, False)

    run_in(home, lambda req: pools[pool].submit(int, "x"), talk)
    [record] = [record for record in caplog.records if record.name == "portico"]
    assert record.exc_info and record.exc_info[0] is ValueError


@pytest.mark.parametrize("home", HOMES)
def test_websocket_callbacks_wait_for_pools(pools: dict[str, Executor], home: str) -> None:
    """`on_open`'s future is over before the first message; a message's is followed, and one that fails closes."""
    log: list[Any] = []
    opened = Future[None]()

    def on_ws_open(ws: WebSocket) -> Any:
        def on_message(binary: bool, message: str | bytes) -> Any:
            log.append(message)
            future = pools["thread"].submit(int, message)
            future.add_done_callback(lambda done: done.exception() or ws.send(str(done.result() + 1)))
            return future

        ws.on_message(on_message)
        ws.on_close(lambda: log.append(ws.close_code))
        return opened

    def talk(live: Live) -> None:
        with live.open() as client:
            client.send_text("1", "2")
            assert client.is_silent() and log == []
            pools["thread"].submit(opened.set_result, None)
            assert {client.receive_text(), client.receive_text()} == {"2", "3"}
            client.send_text("x")
            assert client.receive_close()[0] == 1011
            client.send_frame(CLOSE, close_payload(1011))
        wait_until(lambda: log[-1] == 1011, "the close")

    run_in(home, {"on_ws_open": on_ws_open}, talk)
    assert log == ["1", "2", "x", 1011]


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("how", ["future", "awaited"])
def test_a_future_that_nobody_needs_any_more_is_cancelled(home: str, how: str) -> None:
    futures: list[Future[str]] = []
    cancelled = threading.Event()

    async def wait_for(future: Future[str]) -> str:
        return await asyncio.wrap_future(future)

    def call(req: Request) -> Any:
        if req.path == "/second":
            return "second"
        futures.append(Future())
        futures[-1].add_done_callback(lambda future: future.cancelled() and cancelled.set())
        return futures[-1] if how == "future" else wait_for(futures[-1])

    def talk(live: Live) -> None:
        with live.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: bool(futures), "the handler has begun")
        assert cancelled.wait(DEADLINE_S)
        assert live.ask(target="/second").body == b"second"

    run_in(home, call, talk)


@pytest.mark.parametrize("home", HOMES)
def test_futures_completed_by_any_thread_are_answered_in_any_order(home: str) -> None:
    futures: dict[str, Future[str]] = {}

    def call(req: Request) -> Future[str]:
        return futures.setdefault(req.path, Future())

    def talk(live: Live) -> None:
        clients = {f"/{number}": live.connect() for number in range(6)}
        for path, client in clients.items():
            client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: len(futures) == 6, "all handlers have begun")
        threads = [threading.Thread(target=future.set_result, args=(path,)) for path, future in futures.items()]
        for thread in reversed(threads):
            thread.start()
        for path, client in reversed(clients.items()):
            with client:
                assert client.receive_reply().body == path.encode()
        for thread in threads:
            thread.join()

    run_in(home, call, talk)


def test_a_plain_callback_may_run_a_loop_while_a_coroutine_sleeps() -> None:
    """Neither waits for the other's loop: the sleeper lives in the home's private one, which stands still meanwhile."""
    release: list[asyncio.Event] = []

    async def sleep() -> str:
        release.append(asyncio.Event())
        await release[0].wait()
        return "slept"

    async def briefly() -> str:
        await asyncio.sleep(0.001)
        return "ran"

    async def wake() -> str:
        release[0].set()
        return "woke"

    def call(req: Request) -> Any:
        return {"/sleep": sleep, "/run": lambda: asyncio.run(briefly()), "/wake": wake}[req.path]()

    live = start(call, "service")
    with live.connect() as sleeper:
        sleeper.send(b"GET /sleep HTTP/1.1\r\nHost: localhost\r\n\r\n")
        live.service_until(lambda: bool(release))
        for target, body in (("/run", b"ran"), ("/run", b"ran"), ("/wake", b"woke")):
            answers: list[bytes] = []
            asking = threading.Thread(target=lambda: answers.append(live.ask(target=target).body))  # noqa: B023
            asking.start()
            live.service_until(lambda: bool(answers))  # noqa: B023
            asking.join()
            assert answers == [body]
        live.service_until(lambda: not live.server._home.dispatcher._unfinished)  # type: ignore[union-attr]
        assert sleeper.receive_reply().body == b"slept"
    live.server.stop()


def test_a_future_of_another_loop_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Awaiting it would never end: it says which loop it belongs to, and the client gets a 500."""
    other = asyncio.new_event_loop()
    run_in("service", lambda req: other.create_future(), lambda live: check_500(live))
    other.close()
    assert "loop" in caplog.text


def check_500(live: Live) -> None:
    assert live.ask().status == 500
