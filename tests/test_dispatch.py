"""From event to callback to command: conversations with a fake core."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import conversation
from conversation import SITE, run
from portico import Response, SendResult
from portico.dispatch import Site
from portico.home import Home, current_home
from portico.routes import Route
from portico.testing import FakeCore

TEXT = [("Content-Type", "text/plain; charset=utf-8")]
ERROR_500 = (500, None, TEXT, "500 Internal Server Error\n")


class Boom(Exception):
    """What callbacks raise here. Its text must never reach a peer."""


@pytest.fixture
def home(cores: list[FakeCore]) -> Home:
    return current_home()


@pytest.fixture
def serve(home: Home) -> Callable[..., Home]:
    """Make one route the whole server."""
    return conversation.serve


# HTTP


def test_request_is_answered(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_request=lambda req: f"{req.method} {req.path} from {req.server}")
    number = core.request(SITE, "/a")
    assert run(home) == 1
    assert core.said("respond") == [(number, 200, None, TEXT, "GET /a from ('127.0.0.1', 80)", False)]


def test_exception_is_logged_once_and_answered_without_its_text(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def call(req: Any) -> None:
        raise Boom("secret")

    serve(on_request=call)
    number = core.request(SITE)
    second = core.request(SITE)
    assert run(home) == 2
    assert core.said("respond") == [(number, *ERROR_500), (second, *ERROR_500)]
    assert [record.getMessage() for record in caplog.records] == [
        f"on_request raised; route /, connection {number}",
        f"on_request raised; route /, connection {second}",
    ]
    assert caplog.records[0].name == "portico"
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("answer", [7, {"status": 200.0}, Response(200, {"X": 1}), {"a"}])
def test_bad_answer_is_an_exception(home: Home, core: FakeCore, serve: Any, answer: Any) -> None:
    serve(on_request=lambda req: answer)
    number = core.request(SITE)
    run(home)
    assert core.said("respond") == [(number, *ERROR_500)]


def test_head_goes_on_or_is_answered(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_head=lambda req: None if req.path == "/ok" else Response(413), on_request=lambda req: "x")
    good, bad = core.head(SITE, "/ok"), core.head(SITE, "/big")
    run(home)
    assert core.commands == [("proceed", good), ("respond", bad, 413, None, [], b"", False)]


def test_exception_in_head_is_answered_and_does_not_go_on(home: Home, core: FakeCore, serve: Any) -> None:
    def guard(req: Any) -> None:
        raise Boom

    serve(on_head=guard, on_request=lambda req: "x")
    number = core.head(SITE)
    run(home)
    assert core.commands == [("respond", number, *ERROR_500)]


@pytest.mark.parametrize("kind", ["coroutine", "future", "awaitable", "thread"])
def test_unfinished_answers_are_awaited(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return asyncio.sleep(0, "later").__await__()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        make: dict[str, Callable[[], Any]] = {
            "coroutine": lambda: asyncio.sleep(0, "later"),
            "awaitable": Awaitable,
            "thread": lambda: pool.submit(lambda: "later"),
        }

        async def call(req: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "later")
            return future

        serve(on_request=call if kind == "future" else lambda req: make[kind]())
        number = core.request(SITE)
        assert run(home) == 1
        run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(number, 200, None, TEXT, "later", False)]


def test_coroutine_head_goes_on_when_it_has_finished(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_head=lambda req: asyncio.sleep(0), on_request=lambda req: "x")
    number = core.head(SITE)
    run(home, lambda: core.said("proceed") == [(number,)])


def test_exception_in_a_coroutine(home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def call(req: Any) -> None:
        await asyncio.sleep(0)
        raise Boom("secret")

    serve(on_request=call)
    number = core.request(SITE)
    run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(number, *ERROR_500)]
    assert [record.getMessage() for record in caplog.records] == [f"on_request raised; route /, connection {number}"]


def test_client_that_leaves_cancels_its_coroutine(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ended = []

    async def call(req: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(req.path)

    serve(on_request=call)
    number, other = core.request(SITE, "/left"), core.request(SITE, "/stays")
    run(home)
    core.gone(number)
    run(home, lambda: ended == ["/left"])
    assert home.dispatcher._answering.keys() == {other}
    assert caplog.records == []


def test_gone_without_a_coroutine_is_nothing(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_request=lambda req: "x")
    core.gone(core.request(SITE))
    assert run(home) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_through_and_the_rest_waits(home: Home, core: FakeCore, serve: Any, error: Any) -> None:
    def call(req: Any) -> str:
        if req.path == "/stop":
            raise error
        return "x"

    serve(on_request=call)
    first, second = core.request(SITE, "/stop"), core.request(SITE, "/go")
    with pytest.raises(error):
        run(home)
    assert core.said("respond") == [(first, *ERROR_500)]
    assert run(home) == 1
    assert core.said("respond")[1][0] == second


def test_interrupt_that_somebody_keeps_does_not_keep_the_batch(
    home: Home, core: FakeCore, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[Any] = []
    take = core.take

    def watched(max_events: int, timeout: float | None) -> Any:
        batch = take(max_events, timeout)
        batches.append(weakref.ref(batch))
        return batch

    def call(req: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "take", watched)
    serve(on_request=call)
    core.request(SITE)
    core.request(SITE)
    with pytest.raises(KeyboardInterrupt) as kept:
        run(home)
    assert batches[0]() is None, kept


# WebSocket


def test_messages_reach_every_listener_in_order(home: Home, core: FakeCore, serve: Any) -> None:
    heard: list[Any] = []

    def on_open(ws: Any) -> None:
        ws.on_message(lambda binary, message: heard.append((1, binary, message)))
        ws.on_message(lambda binary, message: heard.append((2, binary, message)))

    serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "text")
    core.message(number, b"bytes")
    assert run(home) == 3
    assert heard == [(1, False, "text"), (2, False, "text"), (1, True, b"bytes"), (2, True, b"bytes")]


def test_routes_own_listeners_get_the_socket(home: Home, core: FakeCore, serve: Any) -> None:
    said: list[Any] = []
    serve(
        on_message=lambda ws, data: said.append((ws.id, ws.send(data))),
        on_close=lambda ws: said.append((ws.id, ws.close_code, ws.close_reason)),
    )
    number = core.open(SITE)
    core.message(number, b"x")
    core.closed(number, 4001, "bye")
    run(home)
    assert said == [(number, SendResult.CLOSED), (number, 4001, "bye")]
    assert core.said("send") == [(number, b"x")]


def test_listener_added_during_a_message_hears_the_next_one(home: Home, core: FakeCore, serve: Any) -> None:
    heard: list[Any] = []

    def on_open(ws: Any) -> None:
        def first(binary: bool, message: Any) -> None:
            if message == "one":
                ws.on_message(lambda binary, message: heard.append(message))

        ws.on_message(first)

    serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "one")
    core.message(number, "two")
    run(home)
    assert heard == ["two"]


def test_failing_listener_closes_after_the_others_ran(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(binary: bool, message: Any) -> None:
        raise Boom

    def on_open(ws: Any) -> None:
        ws.on_message(fail)
        ws.on_message(lambda binary, message: ws.send(message))

    serve(on_open=on_open)
    bad, good = core.open(SITE), core.open(SITE)
    core.message(bad, "x")
    run(home)
    assert core.commands == [("send", bad, "x"), ("close", bad, 1011, "")]
    assert [record.getMessage() for record in caplog.records] == [f"on_message raised; route /, connection {bad}"]
    assert good in core.sockets


def test_failing_open_closes_and_still_gets_on_close(home: Home, core: FakeCore, serve: Any) -> None:
    ended: list[Any] = []

    def on_open(ws: Any) -> None:
        ws.on_close(lambda: ended.append(ws.close_code))
        raise Boom

    serve(on_open=on_open)
    number = core.open(SITE)
    run(home)
    assert core.said("close") == [(number, 1011, "")]
    run(home)
    assert ended == [1011]


def test_failing_close_listener_does_not_stop_the_others(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[Any] = []

    def fail() -> None:
        raise Boom

    def on_open(ws: Any) -> None:
        ws.on_close(fail)
        ws.on_close(lambda: ended.append(ws.is_open))

    serve(on_open=on_open)
    number = core.open(SITE)
    core.closed(number)
    run(home)
    assert ended == [False]
    assert [record.getMessage() for record in caplog.records] == [f"on_close raised; route /, connection {number}"]
    assert not home.dispatcher.sockets


def test_what_listeners_return_is_ignored(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_open=lambda ws: 7, on_message=lambda ws, data: "not sent")
    core.message(core.open(SITE), "x")
    run(home)
    assert core.commands == []


def test_coroutine_listeners_start_in_order_before_on_close(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[Any] = []

    def on_open(ws: Any) -> None:
        gate = asyncio.Event()

        async def hear(binary: bool, message: Any) -> None:
            log.append(("start", message))
            await gate.wait()
            log.append(("end", message))

        def close() -> None:
            log.append("close")
            gate.set()

        ws.on_message(hear)
        ws.on_close(close)

    serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "a")
    core.message(number, "b")
    core.closed(number)
    run(home, lambda: len(log) == 5)
    assert log == [("start", "a"), ("start", "b"), "close", ("end", "a"), ("end", "b")]
    run(home, lambda: core.held == {number: 0})


def test_failing_coroutine_listener_closes(home: Home, core: FakeCore, serve: Any) -> None:
    async def hear(ws: Any, data: Any) -> None:
        raise Boom

    serve(on_message=hear)
    number = core.open(SITE)
    core.message(number, "x")
    run(home, lambda: core.said("close") == [(number, 1011, "")])


def test_message_counts_in_bytes_until_its_coroutine_has_finished(home: Home, core: FakeCore, serve: Any) -> None:
    gates: list[asyncio.Event] = []

    async def hear(ws: Any, data: Any) -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()

    serve(on_message=hear)
    number = core.open(SITE)
    for message in (b"12345", "12", "äö€", "", b""):
        core.message(number, message)
    run(home, lambda: len(gates) == 5)
    assert (core.held, core.held_bytes) == ({number: 5}, {number: 5 + 2 + 7})
    for gate in gates:
        home._private.loop.call_soon(gate.set)  # type: ignore[union-attr]
    run(home, lambda: core.held == {number: 0})
    assert core.held_bytes == {number: 0}


def test_only_messages_count(home: Home, core: FakeCore, serve: Any) -> None:
    async def forever(_: Any) -> None:
        await asyncio.Event().wait()

    serve(on_request=forever, on_open=forever, on_close=forever)
    core.request(SITE)
    core.closed(core.open(SITE))
    run(home, lambda: len(home.dispatcher._unfinished) == 3)
    assert core.held == {}  # or a handler that runs as long as the connection would keep its close waiting


def test_size_is_not_asked_for_when_nothing_goes_on(
    home: Home, core: FakeCore, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(message: Any) -> int:
        raise AssertionError

    monkeypatch.setattr("portico.dispatch.byte_size", fail)
    serve(on_message=lambda ws, data: (ws.send(data), "ignored"))
    number = core.open(SITE)
    core.message(number, "x")
    run(home)
    assert core.commands == [("send", number, "x")]


def test_awaitable_that_cannot_start_is_released(home: Home, core: FakeCore, serve: Any) -> None:
    class Broken:
        def __await__(self) -> Any:
            """Never awaited: the loop refuses it."""

    def fail(awaitable: Any) -> Any:
        raise TypeError("not this one")

    home.dispatcher._spawn = fail
    serve(on_message=lambda ws, data: Broken())
    number = core.open(SITE)
    core.message(number, "four")
    run(home)
    assert core.held == core.held_bytes == {number: 0}
    assert core.said("close") == [(number, 1011, "")]


@pytest.mark.parametrize("subprotocol", [None, "chat"])
def test_subprotocol_is_told(home: Home, core: FakeCore, serve: Any, subprotocol: str | None) -> None:
    told: list[Any] = []
    serve(on_open=lambda ws: told.append((ws.subprotocol, ws.request.path, ws.request.server)))
    core.open(SITE, "/a", subprotocol=subprotocol)
    run(home)
    assert told == [(subprotocol, "/a", ("127.0.0.1", 80))]


def test_sockets_of_one_route_and_subprotocol_share_what_they_can(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_message=lambda ws, data: ws.send(f"{ws.subprotocol} {data}"))
    numbers = [core.open(SITE, subprotocol=name) for name in ("a", "b", "a", None)]
    for number in numbers:
        core.message(number, "x")
    run(home)
    assert core.said("send") == list(zip(numbers, ("a x", "b x", "a x", "None x"), strict=True))
    links = [home.dispatcher.sockets[number]._link for number in numbers]
    assert links[0] is links[2] and len(set(map(id, links))) == 3


def test_closed_socket_is_freed_at_once(home: Home, core: FakeCore, serve: Any) -> None:
    sockets: list[Any] = []

    def on_open(ws: Any) -> None:
        sockets.append(weakref.ref(ws))
        ws.on_message(lambda binary, message: ws.send(message))
        ws.on_drain(lambda: ws.send("more"))
        ws.on_close(lambda: ws.close_code)

    serve(on_open=on_open, on_message=lambda ws, data: None, on_close=lambda ws: None)
    gc.disable()
    try:
        core.closed(core.open(SITE))
        run(home)
        assert sockets[0]() is None
    finally:
        gc.enable()


def test_messages_wait_for_a_coroutine_open(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[Any] = []
    gates: list[asyncio.Event] = []

    async def on_open(ws: Any) -> None:
        gates.append(asyncio.Event())
        await gates[0].wait()
        log.append("opened")

    serve(on_open=on_open, on_message=lambda ws, data: log.append(data))
    number = core.open(SITE)
    core.message(number, "a")
    run(home)
    core.message(number, "b")
    run(home)
    assert log == []
    assert core.held == {number: 2}
    assert core.held_bytes == {number: 2}
    home._private.loop.call_soon(gates[0].set)  # type: ignore[union-attr]
    run(home, lambda: log == ["opened", "a", "b"])
    core.message(number, "c")
    run(home, lambda: log[-1] == "c")
    assert core.held == core.held_bytes == {number: 0}
    assert home.dispatcher.sockets[number]._extras is None


def test_coroutine_open_that_waits_for_messages_gets_them(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[Any] = []

    async def on_open(ws: Any) -> None:
        await asyncio.sleep(0)
        queue: asyncio.Queue[Any] = asyncio.Queue()
        ws.on_message(lambda binary, message: queue.put_nowait(message))
        ws.on_close(lambda: queue.put_nowait("closed"))
        while log[-1:] != ["closed"]:
            log.append(await queue.get())

    serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "a")
    run(home, lambda: log == ["a"])
    core.message(number, "b")
    core.closed(number)
    run(home, lambda: log == ["a", "b", "closed"])
    assert core.held == {number: 0}


def test_socket_that_closes_while_opening_gets_its_messages_first(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[Any] = []

    async def on_open(ws: Any) -> None:
        await asyncio.Event().wait()

    serve(on_open=on_open, on_message=lambda ws, data: log.append(data), on_close=lambda ws: log.append("closed"))
    number = core.open(SITE)
    core.message(number, "a")
    core.closed(number)
    run(home, lambda: log == ["a", "closed"])


# Both


def test_stopped_is_told_after_the_last_close(home: Home, core: FakeCore) -> None:
    log: list[Any] = []

    async def hear(ws: Any, data: Any) -> None:
        log.append(data)

    route = Route(on_message=hear, on_close=lambda ws: log.append("closed"))
    home.dispatcher.sites[SITE] = Site({0: route}, "/x", lambda: log.append("stopped"))
    number = core.open(SITE)
    core.message(number, "a")
    run(home, None)
    core.message(number, "b")
    core.stop(SITE, 0)
    run(home, lambda: len(log) == 4)
    assert log == ["a", "b", "closed", "stopped"]
    assert not home.dispatcher.sites


def test_late_thread_is_warned_once(home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    serve(on_request=lambda req: "x")
    core.waited_s = 1.5
    for _ in range(2):
        core.request(SITE)
        run(home)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    for remedy in ("service()", "serve()", "callbacks='thread'", "asyncio"):
        assert remedy in caplog.text
