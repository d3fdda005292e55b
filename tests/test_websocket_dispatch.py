"""WebSockets and who listens to them: conversations with a fake core."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from conversation import SITE, Boom, run
from portico import SendResult
from portico.home import Home
from portico.testing import FakeCore


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


@pytest.mark.parametrize("where", ["on_open", "on_drain", "on_close"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_through_and_close_nothing(
    home: Home, core: FakeCore, serve: Any, where: str, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise error

    sockets: list[Any] = []
    serve(on_open=fail if where == "on_open" else sockets.append, on_close=fail if where == "on_close" else None)
    number = core.open(SITE)
    if where != "on_open":
        run(home)
    if where == "on_drain":
        sockets[0].on_drain(fail)
        core.drained(number)
    elif where == "on_close":
        core.closed(number)
    with pytest.raises(error):
        run(home)
    assert core.said("close") == caplog.records == []


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

    monkeypatch.setattr("portico.websocket_dispatch.byte_size", fail)
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

    home.dispatcher._unfinished._spawn = fail
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
