"""Where coroutine handlers live on a thread that has no running loop: a loop that runs only while they are pending.

Plain callbacks run outside it, so they may call `asyncio.run` themselves. Thread: home.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from portico.pumps.event_loop import as_future


class PrivateLoop:
    """Made at the first coroutine, closed on request. Every method but `close` returns with the loop not running."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._selector: _Selector | None = None
        self._pending: set[asyncio.Future[Any]] = set()
        self._finished = 0

    @property
    def is_needed(self) -> bool:
        """Whether anything started here has not been accounted for."""
        return bool(self._pending or self._finished)

    @property
    def is_pending(self) -> bool:
        """Whether anything started here still runs."""
        return bool(self._pending)

    def spawn(self, awaitable: object) -> asyncio.Future[Any]:
        """Start `awaitable`; it takes its first step in the next `step` or `wait`."""
        if self.loop is None:
            # Not what a loop policy would make: policies are deprecated, and may name the loop of a GUI.
            self._selector = _Selector()
            self.loop = asyncio.SelectorEventLoop(self._selector)
        future = as_future(awaitable, self.loop)
        self._pending.add(future)
        future.add_done_callback(self._finish)
        return future

    def step(self) -> None:
        """Run whatever is ready, without waiting."""
        if self.loop is not None:
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def fileno(self) -> int:
        """Readable when something that a coroutine waits for has come. -1: there is no loop."""
        return -1 if self._selector is None else self._selector.fileno()

    def patience_s(self) -> float | None:
        """As `step`, and tell when the next one has something to do: in so many seconds; None: not by itself."""
        loop, selector = self.loop, self._selector
        if loop is None or selector is None:
            return None
        selector.on_select = loop.stop
        try:
            loop.run_forever()
        finally:
            selector.on_select = None
        return selector.patience_s

    def wait(self, fileno: int, timeout: float | None) -> None:
        """Run until `fileno` is readable, something finished, or `timeout` seconds have passed."""
        loop = self.loop
        if loop is None:
            return
        loop.add_reader(fileno, loop.stop)
        timer = None if timeout is None else loop.call_later(timeout, loop.stop)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(fileno)
            if timer is not None:
                timer.cancel()

    def take_finished(self) -> int:
        """How many have finished since the last time this was asked."""
        finished, self._finished = self._finished, 0
        return finished

    def close(self) -> None:
        """Cancel what is pending and close the loop. Idempotent."""
        loop, self.loop, self._selector = self.loop, None, None
        if loop is None or loop.is_running():
            return
        for future in self._pending:
            future.cancel()
        # Two turns: one to throw CancelledError into the coroutines, one for their done callbacks.
        for _ in range(2):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        self._pending.clear()

    def _finish(self, future: asyncio.Future[Any]) -> None:
        self._pending.discard(future)
        self._finished += 1
        if self.loop is not None:
            self.loop.stop()


class _Selector(selectors.DefaultSelector):
    """While it has an `on_select`, it doesn't wait, but writes down for how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.on_select: Callable[[], None] | None = None
        self.patience_s: float | None = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.on_select is None:
            return super().select(timeout)
        self.on_select()
        ready = super().select(0)
        self.patience_s = 0.0 if ready else timeout
        return ready
