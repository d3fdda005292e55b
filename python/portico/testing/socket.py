"""The client's end of a WebSocket without sockets. Thread: that of its TestClient."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from portico._core import FRAMES_BINARY, FRAMES_TEXT
from portico.client import ConnectionClosed

if TYPE_CHECKING:
    from portico.testing.client import TestClient


class TestSocket:
    """One WebSocket of a TestClient; `with` closes it."""

    __test__ = False

    def __init__(self, client: TestClient, number: int, subprotocol: str | None, frames: int) -> None:
        self.subprotocol = subprotocol
        self.id = number
        """The same as `ws.id` in the app; an Api's `client_id` is this as a str."""
        self._client = client
        self._frames = frames

    def send(self, data: str | bytes) -> None:
        """Send one message and run what is ready. Raises: TypeError; ConnectionClosed."""
        if not isinstance(data, (str, bytes)):
            raise TypeError(f"a message must be str or bytes, not {type(data).__name__}")
        self._require_open()
        core = self._client.core
        if self._frames == FRAMES_BINARY and isinstance(data, str):
            core.close(self.id, 1003, "")
        elif self._frames == FRAMES_TEXT and isinstance(data, bytes):
            try:
                core.message(self.id, data.decode())
            except UnicodeDecodeError:
                core.close(self.id, 1007, "")
        else:
            core.message(self.id, data)
        self._client.run()

    def receive(self) -> str | bytes:
        """The next message; waits for it. Raises: ConnectionClosed if none will come; TimeoutError."""
        received: deque[str | bytes] = self._client.core.received[self.id]
        self._client._wait(lambda: True if received or self.close_code is not None else None, "no message came")
        if not received:
            self._require_open()
        return received.popleft()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close from this side, if it is open; the app's `on_close` has run. Raises: TimeoutError."""
        if self.close_code is None:
            self._client.core.closed(self.id, code, reason)
            self._client.run()

    @property
    def close_code(self) -> int | None:
        """How it was closed, by either side; None while it is open."""
        end = self._client.core.ends.get(self.id)
        return None if end is None else end[0]

    @property
    def close_reason(self) -> str:
        """The text that came with it."""
        end = self._client.core.ends.get(self.id)
        return "" if end is None else end[1]

    def __enter__(self) -> TestSocket:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client._home is not None:
            self.close()

    def _require_open(self) -> None:
        end = self._client.core.ends.get(self.id)
        if end is not None:
            raise ConnectionClosed(*end)
