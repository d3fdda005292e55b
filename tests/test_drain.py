"""Keeping pace with a slow client: `drain`, `wait_drained` and `on_drain`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from conversation import DEADLINE_S, SITE, run, serve
from portico import WebSocket
from portico.pull import settle
from portico.testing import FakeCore


def opened(core: FakeCore, *, queued: bool = True) -> tuple[Any, WebSocket]:
    """One open socket, with something queued for it or not."""
    sockets: list[WebSocket] = []
    home = serve(on_open=sockets.append)
    number = core.open(SITE)
    if queued:
        core.queued.add(number)
    run(home)
    return home, sockets[0]


# await ws.drain()


def test_drain_with_nothing_queued_is_true_at_once(core: FakeCore) -> None:
    _, ws = opened(core, queued=False)
    with pytest.raises(StopIteration) as finished:
        ws.drain().send(None)  # not even one turn of a loop
    assert finished.value.value is True
    assert ws._extras is None
    assert core.commands == [("drain", ws.id)]


@pytest.mark.parametrize("end", ["drained", "closed"])
def test_every_waiter_is_told(core: FakeCore, end: str) -> None:
    home, ws = opened(core)

    async def main() -> list[bool]:
        waiting = [asyncio.ensure_future(ws.drain()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        getattr(core, end)(ws.id)
        run(home)
        return await asyncio.gather(*waiting)

    assert asyncio.run(main()) == [end == "drained"] * 3
    assert ws._extras is not None and ws._extras.waiters == []


def test_drain_in_a_coroutine_on_the_homes_own_loop(core: FakeCore) -> None:
    log: list[Any] = []

    async def on_open(ws: WebSocket) -> None:
        core.queued.add(ws.id)
        log.append(await ws.drain())
        core.queued.add(ws.id)
        log.append(await ws.drain())

    home = serve(on_open=on_open)
    number = core.open(SITE)
    run(home, lambda: len(core.said("drain")) == 2)
    core.drained(number)
    run(home, lambda: log == [True])
    run(home, lambda: len(core.said("drain")) == 5)
    core.closed(number)
    run(home, lambda: log == [True, False])
    run(home, lambda: not home.dispatcher._unfinished)


def test_cancelled_waiter_is_skipped(core: FakeCore) -> None:
    home, ws = opened(core)

    async def main() -> None:
        leaves, stays = asyncio.ensure_future(ws.drain()), asyncio.ensure_future(ws.drain())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(stays), 0.001)
        leaves.cancel()
        core.drained(ws.id)
        run(home)
        assert await stays is True
        assert leaves.cancelled()

    asyncio.run(main())


def test_waiter_that_is_cancelled_alone_is_forgotten(core: FakeCore) -> None:
    home, ws = opened(core)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.drain(), 0.001)

    asyncio.run(main())
    core.commands.clear()
    core.drained(ws.id)
    run(home)
    assert core.commands == []


def test_drained_of_an_earlier_queue_does_not_count(core: FakeCore) -> None:
    home, ws = opened(core)

    async def main() -> None:
        waiting = asyncio.ensure_future(ws.drain())
        await asyncio.sleep(0)
        core.drained(ws.id)
        core.queued.add(ws.id)  # sent while the event was on its way
        run(home)
        await asyncio.sleep(0)
        assert not waiting.done()
        core.drained(ws.id)
        run(home)
        assert await waiting is True

    asyncio.run(main())


@pytest.mark.parametrize("end", ["drained", "closed"])
def test_drain_on_another_threads_loop(core: FakeCore, end: str) -> None:
    home, ws = opened(core)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(ws.drain())))
    thread.start()
    run(home, lambda: len(core.said("drain")) == 2)
    getattr(core, end)(ws.id)
    run(home)
    thread.join(DEADLINE_S)
    assert found == [end == "drained"]


@pytest.mark.parametrize("end", ["drained", "closed"])
def test_drained_before_there_was_anybody_to_tell(core: FakeCore, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, ws = opened(core)
    drain = core.drain

    def overtaken(number: int) -> bool:
        answer = drain(number)
        if answer:
            getattr(core, end)(number)
            run(home)
        return answer

    monkeypatch.setattr(core, "drain", overtaken)
    assert asyncio.run(asyncio.wait_for(ws.drain(), DEADLINE_S)) is (end == "drained")


def test_loop_that_has_ended_meanwhile_is_nobody() -> None:
    loop = asyncio.new_event_loop()
    waiter = loop.create_future()
    loop.close()
    settle(waiter, True)
    assert not waiter.done()


def test_drain_of_a_closed_socket_is_false(core: FakeCore) -> None:
    home, ws = opened(core)
    core.closed(ws.id)
    assert asyncio.run(ws.drain()) is False  # the event has not been handled yet
    run(home)
    assert asyncio.run(ws.drain()) is False


def test_drain_while_closing_tells_whether_everything_left(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ws = opened(core, queued=False)
    monkeypatch.setattr(core, "info", lambda number: None)  # what a closing connection says
    assert asyncio.run(ws.drain()) is True
    assert core.said("wait_drained") == [(ws.id, 0.0)]
    core.sockets.clear()
    assert asyncio.run(ws.drain()) is False


# ws.wait_drained()


def test_wait_drained_is_the_cores_wait(core: FakeCore) -> None:
    heard: list[Any] = []
    home = serve(on_message=lambda ws, data: heard.append(ws.wait_drained(2)))
    number = core.open(SITE)
    core.queued.add(number)
    core.message(number, "x")
    run(home)
    core.queued.clear()
    core.message(number, "x")
    run(home)
    assert heard == [False, True]
    assert core.said("wait_drained") == [(number, 2.0)] * 2


def test_wait_drained_runs_on_any_thread_without_a_time_out(core: FakeCore) -> None:
    _, ws = opened(core, queued=False)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append((ws.wait_drained(), ws.wait_drained(timeout=0))))
    thread.start()
    thread.join(DEADLINE_S)
    assert found == [(True, True)]
    assert core.said("wait_drained") == [(ws.id, None), (ws.id, 0.0)]
    core.sockets.clear()
    assert ws.wait_drained() is False


@pytest.mark.parametrize("timeout", [-1, -0.1, float("nan"), float("inf"), "1", True, b"", []])
def test_wait_drained_checks_its_timeout(core: FakeCore, timeout: Any) -> None:
    _, ws = opened(core)
    with pytest.raises(ValueError, match="timeout must be a number of seconds, at least 0, or None; got"):
        ws.wait_drained(timeout)
    assert core.commands == []


# ws.on_drain(f)


def test_on_drain_is_called_each_time(core: FakeCore) -> None:
    home, ws = opened(core)
    calls: list[int] = []
    assert core.said("watch_drained") == []
    ws.on_drain(lambda: calls.append(1))
    ws.on_drain(lambda: calls.append(2))
    assert core.said("watch_drained") == [(ws.id,)]
    core.drained(ws.id)
    run(home)
    core.drained(ws.id)
    run(home)
    assert calls == [1, 2, 1, 2]
    assert core.said("drain") == []  # nobody waits, so nothing is asked


def test_drained_that_nobody_listens_to_is_nothing(core: FakeCore) -> None:
    home, ws = opened(core)
    core.drained(ws.id)
    assert run(home) == 1
    assert core.commands == []


def test_failing_drain_listener_closes_after_the_others_ran(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    home, ws = opened(core)

    def fail() -> None:
        raise LookupError

    ws.on_drain(fail)
    ws.on_drain(lambda: ws.send("more"))
    core.drained(ws.id)
    run(home)
    assert core.commands == [("watch_drained", ws.id), ("send", ws.id, "more"), ("close", ws.id, 1011, "")]
    assert [record.getMessage() for record in caplog.records] == [f"on_drain raised; route /, connection {ws.id}"]


def test_coroutine_drain_listener_is_followed(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    home, ws = opened(core)

    @ws.on_drain
    async def fail() -> None:
        await asyncio.sleep(0)
        raise LookupError

    core.drained(ws.id)
    run(home)
    run(home, lambda: core.said("close") == [(ws.id, 1011, "")])
    assert [record.getMessage() for record in caplog.records] == [f"on_drain raised; route /, connection {ws.id}"]


@pytest.mark.parametrize("is_async", [False, True])
def test_on_drain_does_not_overtake_messages(core: FakeCore, is_async: bool) -> None:
    home, ws = opened(core)
    log: list[Any] = []

    async def later(message: Any) -> None:
        log.append(message)

    ws.on_message(lambda binary, message: later(message) if is_async else log.append(message))
    ws.on_drain(lambda: log.append("drained"))
    ws.on_close(lambda: log.append("closed"))
    core.message(ws.id, "a")
    core.drained(ws.id)
    core.message(ws.id, "b")
    core.drained(ws.id)
    core.closed(ws.id)
    run(home, lambda: len(log) == 5)
    assert log[0] == "a" and log[-1] == "closed"
    assert log.index("b") < len(log) - log[::-1].index("drained") - 1
