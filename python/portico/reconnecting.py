"""A client that comes back: one WebSocket after the other, with pauses that grow while the server stays away.

Thread: the client's home.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

from portico.call import HandshakeError, HandshakeRefused
from portico.client import Client, connect
from portico.home import current_home


class Reconnect:
    """`for ws in reconnect(url)` or `async for ws in reconnect(url)`: see `reconnect`."""

    def __init__(self, url: str, least_s: float, most_s: float, options: dict[str, Any]) -> None:
        self._url = url
        self._least_s = least_s
        self._most_s = most_s
        self._options = options

    def __iter__(self) -> Iterator[Client]:
        pause_s = self._least_s
        while True:
            try:
                client = connect(self._url, **self._options)
            except OSError as error:
                _raise_if_final(error)
                current_home().run_until(lambda: False, _jitter(pause_s), "reconnect()")
                pause_s = min(2 * pause_s, self._most_s)
                continue
            pause_s = self._least_s
            with client:
                yield client

    async def __aiter__(self) -> AsyncIterator[Client]:
        pause_s = self._least_s
        while True:
            try:
                client = await connect(self._url, **self._options)
            except OSError as error:
                _raise_if_final(error)
                await asyncio.sleep(_jitter(pause_s))
                pause_s = min(2 * pause_s, self._most_s)
                continue
            pause_s = self._least_s
            async with client:
                yield client


def reconnect(url: str, *, min_delay_s: float = 0.5, max_delay_s: float = 30.0, **options: Any) -> Reconnect:
    """Connect to `url` again and again: each round of a `for` or `async for` gets an open client, closed at its end.

    The first attempt is made at once. After one that failed comes a pause of `min_delay_s`, twice as long after each
    further one, `max_delay_s` at most, each shortened by up to a half at random, so that clients of a server that
    restarts don't all come back together (RFC 6455 §7.2.3). Leave with `break`. `options` are those of `connect`.

    Raises: ValueError; what won't go away by waiting: HandshakeRefused but for 429, 500 and 502 to 504, HandshakeError.
    """
    for name, value in (("min_delay_s", min_delay_s), ("max_delay_s", max_delay_s)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number of seconds; got {value!r}")
    if min_delay_s > max_delay_s:
        raise ValueError(f"min_delay_s ({min_delay_s}) must not be longer than max_delay_s ({max_delay_s})")
    return Reconnect(url, min_delay_s, max_delay_s, options)


def _raise_if_final(error: OSError) -> None:
    if isinstance(error, HandshakeRefused):
        if not error.is_passing:
            raise error
    elif isinstance(error, HandshakeError):
        raise error


def _jitter(pause_s: float) -> float:
    return pause_s * (0.5 + random.random() / 2)
