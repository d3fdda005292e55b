"""What callbacks have begun and not ended: awaitables that run, and jobs that must not overtake their first step.

Knows nothing of what they are for; the Home has the loops. Thread: home.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from portico.response import Response

Job: TypeAlias = Callable[[], None]
Future: TypeAlias = "asyncio.Future[Any]"


def is_awaitable(value: object) -> bool:
    """Whether a callback that returned this has not ended."""
    # The types of nearly every answer come first: hasattr() that fails is the slowest question here.
    kind = type(value)
    if kind is Response or kind is str or kind is dict or kind is bytes or value is None:
        return False
    return hasattr(value, "__await__") or isinstance(value, concurrent.futures.Future)


class Unfinished:
    """`spawn` starts an awaitable; `defer` runs a job when all that was spawned has started."""

    def __init__(self, spawn: Callable[[object], Future], defer: Callable[[Job], None]) -> None:
        self._spawn = spawn
        self._defer = defer
        self._finishers: dict[Future, Callable[[Future], None]] = {}  # asyncio itself holds tasks only weakly
        self._queued = 0  # jobs given to `defer` that have not run; a later job must not overtake them

    def __len__(self) -> int:
        """How many awaitables have not ended."""
        return len(self._finishers)

    def start(self, awaitable: object, finish: Callable[[Future], None]) -> Future:
        """Start `awaitable`; `finish` gets it when it is done."""
        future = self._spawn(awaitable)
        self._finishers[future] = finish
        future.add_done_callback(self._finish)
        return future

    def after_started(self, job: Job) -> None:
        """Run `job` now, unless a coroutine may be waiting for its first step: `on_close` must not overtake it."""
        if self._finishers or self._queued:
            self.soon(job)
        else:
            job()

    def soon(self, job: Job) -> None:
        """Run `job` outside any coroutine, when all that was started has had its first step."""
        self._queued += 1
        self._defer(partial(self._run_queued, job))

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` was closed under what it had not finished: end that as if the loop had cancelled it."""
        cancelled = loop.create_future()
        cancelled.cancel()
        for future, finish in list(self._finishers.items()):
            if future.get_loop() is loop:
                del self._finishers[future]
                finish(cancelled)

    def _finish(self, future: Future) -> None:
        finish = self._finishers.pop(future, None)
        if finish is not None:
            finish(future)

    def _run_queued(self, job: Job) -> None:
        self._queued -= 1
        job()
