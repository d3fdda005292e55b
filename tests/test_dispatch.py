"""Batches, whoever they are for: conversations with a fake core."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import pytest

from conversation import ERROR_500, SITE, run
from portico.home import Home
from portico.routes import Route
from portico.site import Site
from portico.testing import FakeCore


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
