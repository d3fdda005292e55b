"""A client that comes back: one WebSocket after the other, with pauses that grow while the server stays away.

Thread: the client's home.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

from portico.call import CertificateError, HandshakeError
from portico.client import Client, connect
from portico.home import current_home

_CALLBACKS = {"callbacks", "on_close", "on_error", "on_message", "on_open"}


class Reconnect:
    """`for ws in reconnect(url)` or `async for ws in reconnect(url)`: see `reconnect`."""

    def __init__(self, url: str, least_s: float, most_s: float, options: dict[str, Any]) -> None:
        self._url = url
        self._least_s = least_s
        self._most_s = most_s
        self._options = options

    def __iter__(self) -> Iterator[Client]:
        pauses = _Pauses(self._least_s, self._most_s)
        while True:
            try:
                client = connect(self._url, **self._options)
            except OSError as error:
                _raise_if_final(error)
            else:
                pauses.opened()
                with client:
                    yield client
            pause_s = pauses.next_s()
            if pause_s:
                current_home().run_until(lambda: False, pause_s, "reconnect()")

    async def __aiter__(self) -> AsyncIterator[Client]:
        pauses = _Pauses(self._least_s, self._most_s)
        while True:
            try:
                client = await connect(self._url, **self._options)
            except OSError as error:
                _raise_if_final(error)
            else:
                pauses.opened()
                async with client:
                    yield client
            pause_s = pauses.next_s()
            if pause_s:
                await asyncio.sleep(pause_s)


class _Pauses:
    """How long to wait before each attempt. A round that ends as soon as it began counts as an attempt that failed."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._pause_s = least_s
        self._opened_at: float | None = None

    def opened(self) -> None:
        self._opened_at = monotonic()

    def next_s(self) -> float:
        """The pause that is due now; 0 after a round that held."""
        opened_at, self._opened_at = self._opened_at, None
        if opened_at is not None and monotonic() - opened_at >= self._least_s:
            self._pause_s = self._least_s
            return 0.0
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, self._most_s)
        return _jitter(pause_s)


def reconnect(url: str, *, min_delay_s: float = 0.5, max_delay_s: float = 30.0, **options: Any) -> Reconnect:
    """Connect to `url` again and again: each round of a `for` or `async for` gets an open client, closed at its end.

    The first attempt is made at once. After one that failed, or a round that lasted less than `min_delay_s`, comes a
    pause of `min_delay_s`, twice as long after each further one, `max_delay_s` at most, each shortened by up to a half
    at random, so that clients of a server that restarts don't all come back together (RFC 6455 §7.2.3). Leave with
    `break`. `options` are those of `connect`, but for callbacks.

    Raises: ValueError; what won't go away by waiting: CertificateError, and HandshakeError unless its `is_passing`.
    """
    for name, value in (("min_delay_s", min_delay_s), ("max_delay_s", max_delay_s)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number of seconds; got {value!r}")
    if min_delay_s > max_delay_s:
        raise ValueError(f"min_delay_s ({min_delay_s}) must not be longer than max_delay_s ({max_delay_s})")
    if callbacks := _CALLBACKS & options.keys():
        raise ValueError(
            f"reconnect() makes rounds of a loop, which has no use for callbacks: {', '.join(sorted(callbacks))}"
        )
    return Reconnect(url, min_delay_s, max_delay_s, options)


def _raise_if_final(error: OSError) -> None:
    if isinstance(error, CertificateError) or (isinstance(error, HandshakeError) and not error.is_passing):
        raise error


def _jitter(pause_s: float) -> float:
    return pause_s * (0.5 + random.random() / 2)
