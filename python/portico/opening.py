"""The messages of a WebSocket whose coroutine `on_open` still runs. Thread: home; any for `add`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from portico.pull import byte_size

if TYPE_CHECKING:
    from portico.unfinished import Unfinished
    from portico.websocket_connection import MessageListener, WebSocket


class OpeningCoroutine:
    """Keeps messages, so that none arrives before its listener; until then they count against the inbox.

    It lets go when the coroutine ends, or as soon as it registers a listener: a coroutine that registers one and then
    waits for messages would otherwise wait for ever.
    """

    __slots__ = ("_deliver", "_kept", "_listeners", "_unfinished", "_ws")

    def __init__(
        self, ws: WebSocket, unfinished: Unfinished, deliver: Callable[[int, list[str | bytes]], None]
    ) -> None:
        self._ws = ws
        self._unfinished = unfinished
        self._deliver = deliver
        self._kept: list[str | bytes] = []
        self._listeners = ws._listeners
        ws._listeners = (self._keep,)

    def add(self, listener: MessageListener) -> None:
        """Register a listener for the messages kept back and all that follow."""
        self._listeners += (listener,)
        self._unfinished.soon(self.release)

    def release(self) -> None:
        """Deliver the messages; later calls do nothing."""
        ws = self._ws
        if not ws._has_opened(self):
            return
        ws._listeners = () if ws._is_closing else self._listeners
        try:
            self._deliver(ws.id, self._kept)
        finally:
            for message in self._kept:
                ws._link.core.release(ws.id, byte_size(message))

    def _keep(self, _binary: bool, message: str | bytes) -> None:
        self._kept.append(message)
        self._ws._link.core.hold(self._ws.id, byte_size(message))
