"""A TLS client whose records can be cut anywhere, and which can close half of a connection; `ssl.SSLSocket` can't.

Thread: the test's own.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

CERTIFICATES = Path(__file__).parent.parent / "certificates"


class TlsAddress(tuple[str, int]):
    """`(host, port)` where TLS is spoken; `Client` and its kin shake hands there."""

    __slots__ = ()


def trusting(*authorities: str) -> ssl.SSLContext:
    """A context that believes these certificates (PEM) and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in authorities:
        context.load_verify_locations(cadata=authority)
    return context


def careless() -> ssl.SSLContext:
    """A context that believes anybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsSocket:
    """What the tests' clients need of a socket, over TLS."""

    def __init__(self, below: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._unsent = b""
        self._ready = b""
        self._do(self.tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        self.below.sendall(self.encrypt(data))

    def send(self, data: bytes) -> int:
        """At most one record. Non-blocking: BlockingIOError until all of it has left; then say the same again."""
        piece = data[: 16 * 1024]
        if not self._unsent:
            self._unsent = self.encrypt(piece)
        while self._unsent:
            self._unsent = self._unsent[self.below.send(self._unsent) :]
        return len(piece)

    def encrypt(self, data: bytes) -> bytes:
        """The records with `data`, not sent."""
        if data:
            self.tls.write(data)
        return self._outgoing.read()

    def recv(self, count: int) -> bytes:
        """As of a socket; an end without close_notify is `ssl.SSLEOFError`."""
        ready, self._ready = self._ready[:count], self._ready[count:]
        if ready:
            return ready
        try:
            data: bytes = self._do(self.tls.read, count)
        except ssl.SSLZeroReturnError:
            return b""
        return data

    def is_silent(self, seconds: float) -> bool:
        """Nothing but TLS's own business has come, such as tickets, and nothing else comes within `seconds`."""
        timeout = self.below.gettimeout()
        self.below.settimeout(max(seconds, 0.001))
        try:
            self._ready += self.recv(1 << 16)
        except TimeoutError:
            return True
        finally:
            self.below.settimeout(timeout)
        return False

    def shutdown(self, how: int) -> None:
        """Say close_notify; what the other side says is still heard."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.below.sendall(self._outgoing.read())

    def _do(self, act: Any, *arguments: Any) -> Any:
        while True:
            try:
                result = act(*arguments)
                break
            except ssl.SSLWantReadError:
                self.below.sendall(self._outgoing.read())
                data = self.below.recv(1 << 16)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.below.sendall(self._outgoing.read())  # the alert
                raise
        self.below.sendall(self._outgoing.read())
        return result

    def fileno(self) -> int:
        return self.below.fileno()

    def settimeout(self, seconds: float | None) -> None:
        self.below.settimeout(seconds)

    def setblocking(self, is_blocking: bool) -> None:
        self.below.setblocking(is_blocking)

    def setsockopt(self, *arguments: Any) -> None:
        self.below.setsockopt(*arguments)

    def getsockname(self) -> Any:
        return self.below.getsockname()

    def close(self) -> None:
        self.below.close()
