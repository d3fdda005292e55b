"""`async for message in ws`: at the reader's pace, in order, and nothing left over."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from conversation import SITE, run, serve
from portico import WebSocket
from portico.home import Home, current_home
from portico.testing import FakeCore

pytestmark = pytest.mark.usefixtures("core")


def call_soon(home: Home, job: Callable[[], object]) -> None:
    home._private.loop.call_soon(job)  # type: ignore[union-attr]


class Readers:
    """A coroutine `on_open` that reads, and waits at its gate after each message; `log` is what came of it."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.gates: list[asyncio.Event] = []

    async def read(self, ws: WebSocket) -> None:
        async for message in ws:
            self.log.append(message)
            self.gates.append(asyncio.Event())
            await self.gates[-1].wait()
        self.log.append("end")


async def read_all(ws: WebSocket, log: list[Any]) -> None:
    async for message in ws:
        log += [message]
    log += ["end"]


def test_messages_are_read_in_order_until_the_end(core: FakeCore) -> None:
    log: list[Any] = []
    home = serve(on_open=lambda ws: read_all(ws, log))
    number = core.open(SITE)
    for message in ("a", b"b", ""):
        core.message(number, message)
    run(home, lambda: log == ["a", b"b", ""])
    core.message(number, "c")
    core.closed(number)
    run(home, lambda: log == ["a", b"b", "", "c", "end"])
    run(home, lambda: core.held == core.held_bytes == {number: 0})
    assert core.said("close") == []


def test_message_counts_until_the_next_one_is_asked_for(core: FakeCore) -> None:
    readers = Readers()
    home = serve(on_open=readers.read)
    number = core.open(SITE)
    run(home)
    for message in ("12345", "äö", b"1234567"):
        core.message(number, message)
    run(home, lambda: readers.log == ["12345"])
    run(home)
    assert (core.held, core.held_bytes) == ({number: 3}, {number: 5 + 4 + 7})
    call_soon(home, readers.gates[0].set)
    run(home, lambda: len(readers.log) == 2)
    assert (core.held, core.held_bytes) == ({number: 2}, {number: 4 + 7})
    call_soon(home, readers.gates[1].set)
    run(home, lambda: len(readers.log) == 3)
    assert (core.held, core.held_bytes) == ({number: 1}, {number: 7})
    call_soon(home, readers.gates[2].set)
    run(home, lambda: core.held_bytes == {number: 0})
    assert core.held == {number: 0}


def test_a_close_waits_until_the_reader_is_through(core: FakeCore) -> None:
    readers = Readers()
    ended: list[Any] = []
    home = serve(on_open=readers.read, on_close=lambda ws: ended.append(dict(core.held_bytes)))
    number = core.open(SITE)
    for message in ("aa", "bb", "cc"):
        core.message(number, message)
    core.closed(number)
    run(home, lambda: ended != [])
    assert ended == [{number: 6}]
    while "end" not in readers.log:
        for gate in readers.gates:
            call_soon(home, gate.set)
        run(home)
    assert readers.log == ["aa", "bb", "cc", "end"]
    run(home, lambda: core.held == core.held_bytes == {number: 0})


def test_a_close_does_not_wait_for_a_reader_that_has_left(core: FakeCore) -> None:
    log: list[Any] = []

    async def read_one(ws: WebSocket) -> None:
        async for message in ws:
            log.append(message)
            break
        ws.on_close(lambda: log.append(dict(core.held_bytes)))

    home = serve(on_open=read_one)
    number = core.open(SITE)
    for message in ("aa", "bb"):
        core.message(number, message)
    run(home, lambda: log == ["aa"])
    assert core.held_bytes == {number: 4}
    core.closed(number)
    run(home, lambda: log == ["aa", {number: 0}])
    assert core.held == {number: 0}


def test_messages_before_the_first_iteration_are_not_lost(core: FakeCore) -> None:
    log: list[Any] = []
    gates: list[asyncio.Event] = []

    async def on_open(ws: WebSocket) -> None:
        gates.append(asyncio.Event())
        await gates[0].wait()
        await read_all(ws, log)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "a")
    run(home)
    core.message(number, "é")
    run(home)
    assert (log, core.held, core.held_bytes) == ([], {number: 2}, {number: 3})
    call_soon(home, gates[0].set)
    core.message(number, "c")
    run(home, lambda: log == ["a", "é", "c"])
    core.closed(number)
    run(home, lambda: log[-1] == "end")
    run(home, lambda: core.held == core.held_bytes == {number: 0})


def test_reading_that_begins_after_the_close_gets_what_was_kept(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        closed = asyncio.Event()
        ws.on_close(closed.set)
        await closed.wait()
        await read_all(ws, log)

    async def late(ws: WebSocket) -> None:
        while ws.close_code is None:
            await asyncio.sleep(0)
        await read_all(ws, log)

    home = serve(on_open=late)
    number = core.open(SITE)
    run(home)
    core.message(number, "kept")
    core.closed(number)
    run(home, lambda: log == ["kept", "end"])
    log.clear()

    serve(on_open=on_open)
    other = core.open(SITE)
    run(home)
    core.message(other, "nobody hears this")  # it was given to the listeners there were when the connection ended
    core.closed(other)
    run(home, lambda: log == ["end"])
    run(home, lambda: core.held == core.held_bytes == {number: 0, other: 0})


def test_plain_open_may_start_reading(core: FakeCore) -> None:
    log: list[Any] = []

    async def main() -> None:
        tasks: list[Any] = []

        def on_open(ws: WebSocket) -> None:
            reader = aiter_(ws)
            tasks.append(asyncio.ensure_future(read_from(reader)))

        async def read_from(reader: Any) -> None:
            async for message in reader:
                log.extend([message])

        home = serve(on_open=on_open)
        number = core.open(SITE)
        core.message(number, "at once")
        core.closed(number)
        run(home)
        await tasks[0]

    asyncio.run(main())
    assert log == ["at once"]


def aiter_(ws: WebSocket) -> Any:
    return ws.__aiter__()  # the built-in is newer than the oldest Python here


def test_listeners_hear_every_message_too(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        ws.on_message(lambda binary, message: log.append(("before", message)))
        reader = aiter_(ws)
        ws.on_message(lambda binary, message: log.append(("after", message)))
        async for message in reader:
            log.extend([("read", message)])

    home = serve(on_open=on_open, on_message=lambda ws, data: log.append(("route", data)))
    number = core.open(SITE)
    core.message(number, "a")
    run(home, lambda: len(log) == 4)
    assert log == [("route", "a"), ("before", "a"), ("after", "a"), ("read", "a")]


def test_second_loop_goes_on_where_the_first_stopped(core: FakeCore) -> None:
    log: list[Any] = []
    gates: list[asyncio.Event] = []

    async def on_open(ws: WebSocket) -> None:
        async for message in ws:
            log.append(message)
            if message == "b":
                break
        gates.append(asyncio.Event())
        await gates[0].wait()
        await read_all(ws, log)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    for message in ("a", "b", "c"):
        core.message(number, message)
    run(home, lambda: gates != [])
    core.message(number, "d")
    run(home)
    # Nobody has asked for the one after "b", so it still counts, and so do the two that wait.
    assert (log, core.held_bytes) == (["a", "b"], {number: 3})
    call_soon(home, gates[0].set)
    run(home, lambda: log == ["a", "b", "c", "d"])
    assert core.held_bytes == {number: 0}


@pytest.mark.parametrize("leave", ["break", "return", "raise"])
def test_loop_that_was_left_lets_another_one_begin(core: FakeCore, leave: str) -> None:
    log: list[Any] = []

    async def first(ws: WebSocket) -> None:
        async for message in ws:
            log.append(message)
            if leave == "break":
                break
            if leave == "return":
                return
            raise LookupError

    async def on_open(ws: WebSocket) -> None:
        kept: Any = None
        try:
            await first(ws)
        except LookupError as error:
            kept = error  # and with it the frame of the loop
        await read_all(ws, log)
        assert (kept is not None) is (leave == "raise")

    home = serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "a")
    core.message(number, "b")
    core.closed(number)
    run(home, lambda: log == ["a", "b", "end"])


def test_two_loops_at_once_are_refused(core: FakeCore) -> None:
    readers = Readers()
    errors: list[str] = []
    sockets: list[WebSocket] = []

    async def on_open(ws: WebSocket) -> None:
        sockets.append(ws)
        await readers.read(ws)

    home = serve(on_open=on_open)
    number = core.open(SITE)

    def second() -> None:
        with pytest.raises(RuntimeError, match="another `async for` reads this WebSocket") as caught:
            aiter_(sockets[0])
        errors.append(str(caught.value))

    run(home, lambda: sockets != [])
    second()  # while the first one waits
    core.message(number, "a")
    run(home, lambda: readers.log == ["a"])
    second()  # while its body runs
    call_soon(home, readers.gates[0].set)
    core.message(number, "b")
    run(home, lambda: readers.log == ["a", "b"])
    assert len(errors) == 2
    assert core.said("close") == []


def test_one_reader_for_two_tasks_is_refused(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        reader = aiter_(ws)
        first = asyncio.ensure_future(reader.__anext__())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task waits"):
            await reader.__anext__()
        log.append(await first)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    run(home)
    core.message(number, "a")
    run(home, lambda: log == ["a"])


def test_cancelled_reader_loses_no_message(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        early = asyncio.ensure_future(aiter_(ws).__anext__())
        await asyncio.sleep(0)
        early.cancel()
        await asyncio.wait([early])  # which keeps its traceback, and with it the reader
        task = asyncio.ensure_future(aiter_(ws).__anext__())
        ws.on_message(lambda binary, message: task.cancel())  # in the very turn in which its message came
        await asyncio.wait([task])
        log.append(task.cancelled())
        await read_all(ws, log)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    for _ in range(5):
        run(home)
    core.message(number, "a")
    run(home, lambda: log == [True, "a"])
    core.closed(number)
    run(home, lambda: log == [True, "a", "end"])


def test_reader_goes_on_after_a_time_out(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        reader = aiter_(ws)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.__anext__(), 0.001)
        log.append("time-out")
        async for message in reader:
            log.extend([message])

    home = serve(on_open=on_open)
    number = core.open(SITE)
    run(home, lambda: log == ["time-out"])
    core.message(number, "a")
    run(home, lambda: log == ["time-out", "a"])


def test_another_loop_begins_where_the_time_out_is_handled(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        try:
            await asyncio.wait_for(read_all(ws, log), 0.001)
        except asyncio.TimeoutError:
            log.append("time-out")
            await read_all(ws, log)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    run(home, lambda: log == ["time-out"])
    core.message(number, "a")
    core.closed(number)
    run(home, lambda: log == ["time-out", "a", "end"])


def test_error_in_the_loop_closes(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    async def on_open(ws: WebSocket) -> None:
        async for message in ws:
            raise ValueError(message)

    home = serve(on_open=on_open)
    number = core.open(SITE)
    core.message(number, "x")
    core.message(number, "never read")
    run(home, lambda: core.said("close") == [(number, 1011, "")])
    run(home, lambda: not home.dispatcher.sockets)
    assert [record.getMessage() for record in caplog.records] == [f"on_open raised; route /, connection {number}"]
    assert core.held == core.held_bytes == {number: 0}


def test_closed_socket_ends_a_new_loop_at_once(core: FakeCore) -> None:
    sockets: list[WebSocket] = []
    log: list[Any] = []
    home = serve(on_open=sockets.append)
    core.closed(core.open(SITE))
    run(home)
    for _ in range(2):
        asyncio.run(asyncio.wait_for(read_all(sockets[0], log), 10))
    assert log == ["end", "end"]
    assert core.held == {}


def test_reading_in_a_running_loop(core: FakeCore) -> None:
    log: list[Any] = []

    async def main() -> None:
        home = serve(on_open=lambda ws: read_all(ws, log))
        number = core.open(SITE)
        core.message(number, "a")
        while log != ["a"]:
            home.turn(0)
            await asyncio.sleep(0)
        core.message(number, "b")
        core.closed(number)
        while log != ["a", "b", "end"]:
            home.turn(0)
            await asyncio.sleep(0)
        assert core.held_bytes == {number: 0}

    asyncio.run(main())


def test_nothing_keeps_a_read_socket_alive(core: FakeCore) -> None:
    sockets: list[Any] = []
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        sockets.append(weakref.ref(ws))
        await read_all(ws, log)

    home = serve(on_open=on_open)
    run(home)
    gc.collect()
    gc.disable()
    try:
        number = core.open(SITE)
        core.message(number, "a")
        run(home, lambda: log == ["a"])
        core.closed(number)
        run(home, lambda: log == ["a", "end"])
        run(home, lambda: not home.dispatcher._unfinished)
        assert sockets[0]() is None
    finally:
        gc.enable()


def test_waiting_reader_has_no_queue(core: FakeCore) -> None:
    log: list[Any] = []
    home = serve(on_open=lambda ws: read_all(ws, log))
    number = core.open(SITE)
    core.message(number, "a")
    run(home, lambda: log == ["a"])
    extras = current_home().dispatcher.sockets[number]._extras
    assert extras is not None and extras.pull is not None
    assert extras.pull._others is extras.waiters is extras.opening is None
