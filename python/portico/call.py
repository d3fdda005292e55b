"""One attempt after the other to open a WebSocket at somebody else's server, until one holds or all have failed.

Knows addresses and errors; the client in front of it knows styles. Thread: home.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from portico._core import WHY_ANSWERED, WHY_CANCELLED, WHY_CERTIFICATE, WHY_ENDED, WHY_SYSTEM, WHY_TIMED_OUT
from portico.headers import Headers

if TYPE_CHECKING:
    from portico._core import Address, Core, FailureParts
    from portico.websocket_connection import WebSocket
    from portico.websocket_dispatch import Caller

# RFC 9110 §15.6 and 429: the server may well say something else in a while.
_PASSING: Final = (429, 500, 502, 503, 504)


class HandshakeError(ConnectionError):
    """The server is there and did not agree to a WebSocket, or not in a way that RFC 6455 allows."""

    def __init__(self, text: str, is_passing: bool = False) -> None:
        super().__init__(text)
        self.is_passing = is_passing
        """Whether asking again in a while is reasonable: after 429 and most of 5xx, and where no answer came at all."""


class CertificateError(ConnectionError):
    """The server's certificate is not to be trusted: not from a CA that counts, for another name, or expired."""


class HandshakeRefused(HandshakeError):
    """The server answered with another status than 101."""

    def __init__(self, status: int, reason: str, headers: Headers, body: bytes) -> None:
        text = f"the server answered {status} {reason}".rstrip() + ", not 101 Switching Protocols"
        super().__init__(text, status in _PASSING)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        """At most 64 KiB of it."""


class Call:
    """Tries `addresses` in order. `on_open` makes the WebSocket, `on_fail` gets the last error; one of them, once."""

    def __init__(
        self,
        core: Core,
        callers: dict[int, Caller],
        addresses: Sequence[Address],
        config: Mapping[str, object],
        on_begin: Callable[[int], None],
        on_open: Callable[[Headers, str | None], WebSocket],
        on_fail: Callable[[Exception], None],
    ) -> None:
        self._core = core
        self._callers = callers
        self._left = list(addresses)
        self._config = config
        self._on_begin = on_begin
        self._on_open = on_open
        self._on_fail = on_fail
        self._address: Address = ""
        self._number = 0
        self._is_cancelled = False

    def begin(self) -> None:
        """Try the next address. Raises: ValueError for what HTTP cannot carry."""
        error: OSError | None = None
        while self._left:
            self._address = self._left.pop(0)
            try:
                self._number = self._core.connect(self._address, self._config)
            except OSError as failed:
                error = self._named(failed.errno or 0)
                continue
            self._callers[self._number] = self
            self._on_begin(self._number)
            return
        self._on_fail(error or OSError("there is no address to connect to"))

    def cancel(self) -> None:
        """Give up; `on_fail` hears of it, or `on_open` if it is too late."""
        self._is_cancelled = True
        self._core.close(self._number, 1000, "")

    def connected(self, fields: bytes, subprotocol: str | None) -> WebSocket:
        """The server has agreed."""
        return self._on_open(Headers(fields), subprotocol)

    def failed(self, failure: FailureParts) -> None:
        """This attempt failed. Another address may still do, unless somebody answered at this one."""
        why = failure[0]
        if self._left and why in (WHY_SYSTEM, WHY_TIMED_OUT) and not self._is_cancelled:
            self.begin()
        else:
            self._on_fail(self._error(failure))

    def _error(self, failure: FailureParts) -> Exception:
        why, errno, text, answer = failure
        if why == WHY_SYSTEM:
            return self._named(errno)
        if why == WHY_TIMED_OUT:
            return TimeoutError(f"{self._where()}: {text}")
        if why == WHY_CANCELLED:
            return ConnectionAbortedError(f"{self._where()}: given up before it was open")
        if why == WHY_ANSWERED and answer is not None:
            status, reason, fields, body = answer
            return HandshakeRefused(status, reason, Headers(fields), body)
        if why == WHY_CERTIFICATE:
            return CertificateError(f"{self._where()}: {text}; tls=tls_config(client=…) says which CA counts")
        return HandshakeError(f"{self._where()}: {text}", why == WHY_ENDED)

    def _named(self, errno: int) -> OSError:
        # OSError makes the right subclass of an errno, ConnectionRefusedError among them.
        return OSError(errno, f"{os.strerror(errno)}: {self._where()}")

    def _where(self) -> str:
        if isinstance(self._address, str):
            return f"unix:{self._address}"
        host, port = self._address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
