"""The pump for a thread whose asyncio loop runs (uvloop and Jupyter too): the loop watches one descriptor.

Thread: home.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

RETRY_S = 0.01
BUDGET_S = 0.0005
MANY = 4
ANSWER_S = 0.00015  # BRISK in core/src/pace.rs, which also sees to it that this ends


class Source(Protocol):
    """Something with a descriptor that is readable when `turn(0)` has something to do."""

    @property
    def is_busy(self) -> bool:
        """Whether a callback is running right now."""

    def fileno(self) -> int:
        """The descriptor."""

    def turn(self, timeout: float | None) -> int:
        """Run one batch of callbacks."""

    def expects_answer(self) -> bool:
        """Whether callbacks have asked somebody something, and the answer is about to come."""


class EventLoopPump:
    """Runs a batch or a few per turn of `loop`; while there is more, the descriptor stays readable."""

    def __init__(self, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        self.loop = loop
        self._source = source
        self._fileno = source.fileno()
        self._is_abandoned = False
        self._watch()

    def renew(self) -> None:
        """Run callbacks in the caller's context from now on: in Jupyter it decides below which cell output appears."""
        self._watch()

    def abandon(self) -> None:
        """In a forked child, whose loop has its epoll set in common with the parent's: never touch either again."""
        self._is_abandoned = True

    def close(self) -> None:
        """Let the loop go. Idempotent."""
        if not self.loop.is_closed():
            self.loop.remove_reader(self._fileno)

    def _watch(self) -> None:
        self.loop.add_reader(self._fileno, self._ready)

    def _ready(self) -> None:
        if self._is_abandoned:
            return
        if self._source.is_busy:
            # Somebody runs a loop inside a callback (nest_asyncio). Callbacks never nest; do not spin meanwhile.
            self.loop.remove_reader(self._fileno)
            self.loop.call_later(RETRY_S, self._watch)
            return
        try:
            # Where many came, more have come meanwhile; and an answer may be about to come. Looking for them costs less
            # than a turn of the loop. Not for long, others live in this loop too.
            deadline = monotonic() + BUDGET_S
            ran = self._source.turn(0)
            while ran >= MANY and monotonic() < deadline:
                ran = self._source.turn(0)
            while ran and self._source.expects_answer():
                ran = self._source.turn(ANSWER_S)
        except Exception:
            self.close()  # the descriptor would stay readable, and the loop would call again and again
            raise


# The loop that runs in this thread right now, or None. Asked with every message: get_running_loop() raises where there
# is none, and the exception costs more than a whole message.
running_loop: Callable[[], asyncio.AbstractEventLoop | None] = asyncio._get_running_loop


def as_future(awaitable: Any, loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """Start an awaitable on `loop`; a `concurrent.futures.Future` counts as one. Raises: TypeError, ValueError."""
    if isinstance(awaitable, concurrent.futures.Future):
        return asyncio.wrap_future(awaitable, loop=loop)
    future: asyncio.Future[Any] = asyncio.ensure_future(awaitable, loop=loop)
    return future
