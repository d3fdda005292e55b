"""What the measurements of latency share: a server in a process of its own, raw sockets, processors, percentiles."""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import subprocess
import sys
import zlib
from collections.abc import Sequence

DEADLINE_S = 30
Address = tuple[str, int]

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uIQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\0\0\0\0"  # as good as any other for a server, and the payload stays readable


def pin(processor: int) -> None:
    """Stay on one processor, where there are several: client and server must not take turns on the same one."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, {processors[processor % len(processors)]})


class ServerProcess:
    """`script --serve ARGUMENTS…`, which says its port on the first line."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen([sys.executable, script, "--serve", *arguments], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.address: Address = ("127.0.0.1", int(self.process.stdout.readline()))

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)


def careless() -> ssl.SSLContext:
    """Believes any certificate: the server is to be measured, not its name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(address: Address, tls: ssl.SSLContext | None = None) -> socket.socket:
    client = socket.create_connection(address, DEADLINE_S)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client if tls is None else tls.wrap_socket(client)


def open_websocket(address: Address, handshake: bytes = HANDSHAKE, tls: ssl.SSLContext | None = None) -> socket.socket:
    client = connect(address, tls)
    client.sendall(handshake)
    reply = receive_until(client, b"\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 101 "), reply
    return client


def echo(client: socket.socket, *, is_compressed: bool = False) -> None:
    """One text message there and back, both compressed (RFC 7692, without context) or neither."""
    text = b"echo " * 200
    payload = text
    if is_compressed:
        compressor = zlib.compressobj(wbits=-15)
        payload = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first = 0xC1 if is_compressed else 0x81
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    client.sendall(bytes([first]) + length + MASK + payload)
    got, short = receive_exactly(client, 2)
    size = short if short < 126 else int.from_bytes(receive_exactly(client, 2), "big")
    answer = receive_exactly(client, size)
    assert got == first, got
    assert (zlib.decompressobj(-15).decompress(answer + b"\0\0\xff\xff") if is_compressed else answer) == text


def receive_exactly(client: socket.socket, size: int) -> bytes:
    data = client.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise EOFError(f"the server ended the connection after {data!r}")
    return data


def receive_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = client.recv(1 << 16)
        if not more:
            raise EOFError(f"the server ended the connection after {data!r}")
        data += more
    return data


def summarise(samples: Sequence[float]) -> dict[str, float]:
    """Seconds in, rounded milliseconds out."""
    ordered = sorted(samples)
    at = {"p50": statistics.median(ordered), "p99": ordered[int(len(ordered) * 0.99)], "max": ordered[-1]}
    return {"count": len(ordered), **{f"{name}_ms": round(value * 1000, 3) for name, value in at.items()}}
