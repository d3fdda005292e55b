"""A client that can say anything: HTTP and WebSocket byte by byte, right or wrong. Every wait has a deadline.

Not a conforming client, which would refuse to say most of what these tests say. Thread: the test's own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import select
import socket
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from .tls_client import TlsAddress, TlsSocket, careless

DEADLINE_S = 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = base64.b64encode(b"sixteen bytes..!").decode()

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

Address = tuple[str, int] | str
AnyClient = TypeVar("AnyClient", bound="Client")


def wait_until(is_so: Callable[[], bool], what: str = "what was waited for") -> None:
    """For what another thread or process does; there is no event to wait for.

    Also for what a thread is told while another has the reactor: that is a guess, and certain a moment later.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.001)


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        found = self.get_all(name)
        return found[0] if found else None

    def get_all(self, name: str) -> list[str]:
        return [value for other, value in self.fields if other.lower() == name.lower()]


@dataclass(frozen=True)
class Frame:
    """One WebSocket frame."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def request(method: str = "GET", target: str = "/", *lines: str, host: str = "localhost", body: bytes = b"") -> bytes:
    """A request; `lines` are more header lines. Content-Length is the test's to say."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def handshake(target: str = "/", *lines: str, key: str | None = KEY, version: str | None = "13") -> bytes:
    """A WebSocket handshake; None leaves that line out."""
    own = ["Upgrade: websocket", "Connection: Upgrade"]
    own += [f"Sec-WebSocket-Key: {key}"] if key is not None else []
    own += [f"Sec-WebSocket-Version: {version}"] if version is not None else []
    return request("GET", target, *own, *lines)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """One frame with its length in the shortest form."""
    return frame_head(opcode, len(payload), fin=fin, rsv=rsv, masked=masked) + (_mask(payload) if masked else payload)


def frame_head(
    opcode: int, length: int, *, fin: bool = True, rsv: int = 0, masked: bool = True, size: int | None = None
) -> bytes:
    """Everything before the payload. `size`: how many bytes the length takes, 0, 2 or 8; None: the least."""
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    mask_bit = 0x80 if masked else 0
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    short = {0: length, 2: 126, 8: 127}[size]
    long = length.to_bytes(size, "big") if size else b""
    return bytes([first, mask_bit | short]) + long + (_MASK if masked else b"")


_MASK = b"\x01\x80\xfe\x5a"


def _mask(payload: bytes) -> bytes:
    size = len(payload)
    key = (_MASK * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


_TAIL = b"\x00\x00\xff\xff"


class Compressor:
    """permessage-deflate (RFC 7692), what a client says. `keeps_context`: messages refer to earlier ones."""

    def __init__(self, window_bits: int = 15, *, keeps_context: bool = False, level: int = 6) -> None:
        self._options = (level, zlib.DEFLATED, -window_bits)
        self._keeps_context = keeps_context
        self._stream = zlib.compressobj(*self._options)

    def __call__(self, data: bytes) -> bytes:
        """The payload of one message."""
        if not self._keeps_context:
            self._stream = zlib.compressobj(*self._options)
        payload = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        assert payload.endswith(_TAIL)
        return payload[: -len(_TAIL)]


class Inflater:
    """permessage-deflate, what a client hears. It fails for a message that reaches further back than was agreed on."""

    def __init__(self, window_bits: int = 15, *, keeps_context: bool = False) -> None:
        self._window_bits = window_bits
        self._keeps_context = keeps_context
        self._stream = zlib.decompressobj(-window_bits)

    def __call__(self, payload: bytes, step: int = 1 << 20) -> bytes:
        """One message. In small steps only the window is there to copy from, and not what has just been inflated."""
        if not self._keeps_context:
            self._stream = zlib.decompressobj(-self._window_bits)
        rest = payload + _TAIL
        pieces = []
        while rest:
            pieces.append(self._stream.decompress(rest, step))
            rest = self._stream.unconsumed_tail
        while piece := self._stream.decompress(b"", step):
            pieces.append(piece)
        return b"".join(pieces)


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


class Client:
    """One connection. Its methods raise TimeoutError where a server keeps it waiting."""

    def __init__(self, address: Address, *, receive_buffer_bytes: int | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket: Any = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:  # before connect: it decides the window the peer is told
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(DEADLINE_S)
        self.socket.connect(address)
        if not isinstance(address, str):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(address, TlsAddress):
            self.socket = TlsSocket(self.socket, careless())
        self._buffer = bytearray()

    def __enter__(self: AnyClient) -> AnyClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    # Saying

    def send(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def send_bytewise(self, data: bytes) -> None:
        """Each byte in a segment of its own. A server that has heard enough may hang up in between."""
        with contextlib.suppress(ConnectionError):
            for byte in data:
                self.socket.send(bytes([byte]))

    def send_until_full(self, piece: bytes, most: int = 1 << 30, before: int = 0) -> int:
        """Send `piece` again and again until the system takes no more; return how many bytes it took.

        `before`: how many of these bytes were sent before.
        """
        self.socket.setblocking(False)
        sent = 0
        try:
            while sent < most:
                sent += self.socket.send(piece[(before + sent) % len(piece) :])
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(DEADLINE_S)
        return sent

    def end(self) -> None:
        """Close our half."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave without a word: the server sees RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # Listening

    def receive(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        return self._take(count)

    def receive_until(self, end: bytes) -> bytes:
        start = 0
        while (at := self._buffer.find(end, start)) < 0:
            start = max(0, len(self._buffer) - len(end))
            self._fill()
        return self._take(at + len(end))

    def receive_rest(self) -> bytes:
        """Everything up to the server's end of the connection, which must come."""
        with contextlib.suppress(EOFError):
            while True:
                self._fill()
        return self._take(len(self._buffer))

    def receive_reply(self, method: str = "GET") -> Reply:
        """One answer. `method` is what was asked: an answer to HEAD has no body."""
        head = self.receive_until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        version, status, reason = first.split(" ", 2)
        fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        bare = Reply(version, int(status), reason, fields, b"")
        length = bare["Content-Length"]
        has_body = length is not None and method != "HEAD" and not (bare.status < 200 or bare.status in (204, 304))
        return Reply(version, int(status), reason, fields, self.receive(int(length)) if has_body and length else b"")

    def receive_last_reply(self, method: str = "GET") -> Reply:
        """One answer, after which the server ends the connection without another word."""
        reply = self.receive_reply(method)
        assert reply["Connection"] == "close"
        assert self.receive_rest() == b""
        return reply

    def is_silent(self, seconds: float = 0.0) -> bool:
        """Nothing has come, and nothing comes within `seconds`."""
        if isinstance(self.socket, TlsSocket):
            return not self._buffer and self.socket.is_silent(seconds)
        return not self._buffer and not select.select([self.socket], [], [], seconds)[0]

    def _fill(self) -> None:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError as error:
            raise AssertionError(f"the connection was reset; before that came {bytes(self._buffer)!r}") from error
        if not data:
            raise EOFError(f"the server ended the connection after {bytes(self._buffer)!r}")
        self._buffer += data

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def ask(address: Address, data: bytes, method: str = "GET") -> Reply:
    """One request on a connection of its own."""
    with Client(address) as client:
        client.send(data)
        return client.receive_reply(method)


class WebSocketClient(Client):
    """One WebSocket connection, its handshake done."""

    def __init__(
        self,
        address: Address,
        target: str = "/",
        *lines: str,
        then: bytes = b"",
        receive_buffer_bytes: int | None = None,
    ) -> None:
        super().__init__(address, receive_buffer_bytes=receive_buffer_bytes)
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(handshake(target, *lines, key=key), then)  # `then` leaves in the same segment
        try:
            self.reply = self.receive_reply()
            assert self.reply.status == 101, self.reply
            accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
            assert self.reply["Sec-WebSocket-Accept"] == accept
        except BaseException:
            self.socket.close()
            raise

    def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.send(frame(opcode, payload, **options))

    def send_text(self, *texts: str) -> None:
        self.send(*(frame(TEXT, text.encode()) for text in texts))

    def receive_frame(self) -> Frame:
        first, second = self.receive(2)
        assert not second & 0x80, "a server must not mask its frames"
        length = second & 0x7F
        if length > 125:
            length = int.from_bytes(self.receive(2 if length == 126 else 8), "big")
        return Frame(first & 0x0F, self.receive(length), bool(first & 0x80), first >> 4 & 7)

    def receive_text(self) -> str:
        got = self.receive_frame()
        assert got.opcode == TEXT and got.fin and not got.rsv, got
        return got.payload.decode()

    def receive_close(self) -> tuple[int, str]:
        """The next frame, which must be a close; 1005 if it carries no code."""
        got = self.receive_frame()
        assert got.opcode == CLOSE, got
        if not got.payload:
            return 1005, ""
        return int.from_bytes(got.payload[:2], "big"), got.payload[2:].decode()

    def receive_end(self) -> tuple[int, str]:
        """The next frame is a close, and the connection ends after it."""
        closing = self.receive_close()
        assert self.receive_rest() == b""
        return closing

    def close(self, code: int = 1000, reason: str = "") -> tuple[int, str]:
        """Say goodbye and hear the answer."""
        self.send_frame(CLOSE, close_payload(code, reason.encode()))
        return self.receive_end()
