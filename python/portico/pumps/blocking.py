"""The pump for a thread without a loop: wait, run what came, until there was something or the time is up.

Thread: home.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Source(Protocol):
    """Something that can run one batch of callbacks."""

    def turn(self, timeout: float | None) -> int:
        """Wait at most `timeout` seconds, run one batch, return how many callbacks ran."""


def service(source: Source, timeout: float | None, is_over: Callable[[], bool]) -> int:
    """Run one batch; return how many callbacks ran. `timeout` 0: only what is ready; None: wait until something ran."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        # One wait may end early with nothing to show: another thread's wake, or I/O that needed no callback.
        ran = source.turn(timeout)
        if ran or is_over():
            return ran
        if deadline is not None:
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                return 0


def serve(source: Source, is_over: Callable[[], bool], timeout: float | None = None) -> bool:
    """Run callbacks until `is_over()`; False if `timeout` seconds passed first. 0 looks once at what is ready."""
    deadline = None if timeout is None else time.monotonic() + timeout
    while not is_over():
        source.turn(timeout)
        if deadline is not None:
            timeout = deadline - time.monotonic()
            if timeout <= 0:
                return is_over()
    return True
