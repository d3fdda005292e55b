"""Somebody notices when nobody services: once, from whatever thread, also when no callback ever runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import portico
from portico import lateness
from portico.lateness import LateWatch
from portico.testing import FakeCore, number_of

DEADLINE_S = 10
SOON_S = 0.02


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lateness, "LATE_S", SOON_S)


@pytest.fixture
def watch() -> Iterator[LateWatch]:
    watch = LateWatch()
    yield watch
    assert not watch._mailboxes


class Told:
    """What a watch says, waited for."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._heard = threading.Event()

    def __call__(self, waited_s: float) -> None:
        self.waits.append(waited_s)
        self._heard.set()

    def wait(self) -> list[float]:
        assert self._heard.wait(DEADLINE_S)
        return self.waits


def late(core: FakeCore, waited_s: float = 3.0) -> None:
    core.waited_s = waited_s
    core.request(1)


def test_late_mailbox_is_told_of_once(watch: LateWatch) -> None:
    core, told = FakeCore(), Told()
    watch.watch(core, told)  # type: ignore[arg-type]
    late(core)
    assert told.wait() == [3.0]
    assert not watch._mailboxes


@pytest.mark.parametrize("ages", [[0.001, 0.01, 0.5], [0.0, 0.0, 0.5]], ids=["not late yet", "taken in time"])
def test_mailbox_that_is_not_late_is_watched_on(watch: LateWatch, ages: list[float]) -> None:
    core, told = FakeCore(), Told()
    asked: list[float] = []

    def oldest_s() -> float:
        asked.append(ages[len(asked)])
        return asked[-1]

    core.oldest_s = oldest_s  # type: ignore[method-assign]
    watch.watch(core, told)  # type: ignore[arg-type]
    core.request(1)
    assert told.wait() == [0.5]
    assert asked == ages


def test_forgotten_mailbox_is_not_told_of(watch: LateWatch) -> None:
    forgotten, other, told, not_told = FakeCore(), FakeCore(), Told(), Told()
    watch.watch(forgotten, not_told)  # type: ignore[arg-type]
    watch.watch(other, told)  # type: ignore[arg-type]
    watch.forget(forgotten)  # type: ignore[arg-type]
    watch.forget(forgotten)  # type: ignore[arg-type]
    late(forgotten)
    late(other)
    told.wait()
    assert not_told.waits == []


def test_script_that_services_nothing_is_warned(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    server = portico.start_server("127.0.0.1", 0, lambda req: "x", True)
    core.waited_s = 1.5
    core.request(number_of(server))
    deadline = time.monotonic() + DEADLINE_S
    while not caplog.records:
        assert time.monotonic() < deadline
    for _ in range(2):  # and now that it does, not again
        assert portico.service(0) == 1
        core.request(number_of(server))
    [record] = caplog.records
    assert (record.name, record.levelno) == ("portico", logging.WARNING)
    for remedy in ("service()", "serve()", "callbacks='thread'", "asyncio"):
        assert remedy in record.getMessage()


@pytest.mark.parametrize("end", ["stop", "close"])
def test_home_that_ends_is_watched_no_more(core: FakeCore, end: str) -> None:
    server = portico.start_server("127.0.0.1", 0, lambda req: "x", True)
    home: Any = server._home
    assert home._is_watched
    if end == "stop":
        server.stop()
    else:
        home.close()
    assert not home._is_watched
