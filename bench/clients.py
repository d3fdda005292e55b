"""Round trips of clients: `python bench/clients.py --websockets-python …/python --picows-python …/python`.

Each client in turn, in a process and with a Python of its own, echoes 32 bytes over one connection with one and the
same server; rounds interleave, medians count. Server and client have a processor each. `--realtime` (root) lets both
run before everybody else's processes, on a machine that is shared. The server only knows these 32 bytes, and costs as
little as it can, so that the figures tell of the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import raw

PAYLOAD = bytes(32)
CLOSE = b"\x88\x02\x03\xe8"
WARM_UP = 500
CHECK_EVERY = 100
"""How many round trips pass between two looks at the clock."""


class Count:
    """Counts round trips until the time is over; the first ones are for warming up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.done = -WARM_UP
        self.began = self.ended = self.cpu_began = self.cpu_ended = 0.0

    def goes_on(self, message: object) -> bool:
        """One more round trip has brought `message`. Every one is looked at."""
        if message != PAYLOAD:
            raise AssertionError(f"not what was sent: {message!r}")
        self.done += 1
        if self.done % CHECK_EVERY:
            return True
        if self.done == 0:
            self.began, self.cpu_began = time.perf_counter(), time.process_time()
        self.ended, self.cpu_ended = time.perf_counter(), time.process_time()
        return self.done <= 0 or self.ended - self.began < self.seconds

    def report(self) -> dict[str, float]:
        took, cpu = self.ended - self.began, self.cpu_ended - self.cpu_began
        return {"per_second": self.done / took, "cpu_us": cpu / self.done * 1e6}


# The clients


def portico_blocking(url: str, count: Count) -> None:
    import portico

    with portico.connect(url) as ws:
        ws.send(PAYLOAD)
        while count.goes_on(ws.recv()):
            ws.send(PAYLOAD)


async def portico_asyncio(url: str, count: Count) -> None:
    import portico

    async with portico.connect(url) as ws:
        ws.send(PAYLOAD)
        async for message in ws:
            if not count.goes_on(message):
                break
            ws.send(PAYLOAD)


async def portico_callbacks(url: str, count: Count) -> None:
    import portico

    over = asyncio.Event()
    portico.connect(
        url,
        on_open=lambda ws: ws.send(PAYLOAD) and None,
        on_message=lambda ws, message: ws.send(PAYLOAD) if count.goes_on(message) else ws.close(),
        on_close=lambda ws: over.set(),
    )
    await over.wait()


def websockets_sync(url: str, count: Count) -> None:
    from websockets.sync.client import connect

    with connect(url, compression=None, proxy=None) as ws:
        ws.send(PAYLOAD)
        while count.goes_on(ws.recv()):
            ws.send(PAYLOAD)


async def websockets_asyncio(url: str, count: Count) -> None:
    from websockets.asyncio.client import connect

    async with connect(url, compression=None, proxy=None) as ws:
        await ws.send(PAYLOAD)
        async for message in ws:
            if not count.goes_on(message):
                break
            await ws.send(PAYLOAD)


async def picows_asyncio(url: str, count: Count) -> None:
    from picows import WSListener, WSMsgType, ws_connect

    class Echo(WSListener):  # type: ignore[misc]
        def on_ws_connected(self, transport: Any) -> None:
            transport.send(WSMsgType.BINARY, PAYLOAD)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            if frame.msg_type == WSMsgType.BINARY:
                if count.goes_on(frame.get_payload_as_bytes()):
                    transport.send(WSMsgType.BINARY, PAYLOAD)
                else:
                    transport.disconnect()

    transport, _ = await ws_connect(Echo, url)
    await transport.wait_disconnected()


def on_asyncio(client: Callable[..., Any]) -> Callable[[str, Count], None]:
    return lambda url, count: asyncio.run(client(url, count))


def on_uvloop(client: Callable[..., Any]) -> Callable[[str, Count], None]:
    def run(url: str, count: Count) -> None:
        import uvloop

        uvloop.run(client(url, count))

    return run


CLIENTS: dict[str, Callable[[str, Count], None]] = {
    "portico, blocking": portico_blocking,
    "portico, asyncio": on_asyncio(portico_asyncio),
    "portico, uvloop": on_uvloop(portico_asyncio),
    "portico, callbacks on uvloop": on_uvloop(portico_callbacks),
    "websockets, sync": websockets_sync,
    "websockets, asyncio": on_asyncio(websockets_asyncio),
    "websockets, uvloop": on_uvloop(websockets_asyncio),
    "picows, uvloop": on_uvloop(picows_asyncio),
}
TARGETS = [
    ("portico, blocking", "websockets, sync", 1.5),
    ("portico, blocking", "picows, uvloop", 1.0),
    ("portico, asyncio", "websockets, asyncio", 1.5),
    ("portico, uvloop", "websockets, uvloop", 1.5),
    ("portico, uvloop", "picows, uvloop", 1.0),
    ("portico, callbacks on uvloop", "picows, uvloop", 1.0),
]


# A run


def claim(processor: int, realtime: bool) -> None:
    raw.pin(processor)
    if realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))


def play(name: str, python: str, url: str, seconds: float, realtime: bool) -> dict[str, float]:
    command = [python, __file__, "--client", name, "--url", url, "--seconds", str(seconds)]
    out = subprocess.run(
        [*command, *["--realtime"] * realtime], stdout=subprocess.PIPE, timeout=60 + seconds, check=True
    )
    return json.loads(out.stdout)  # type: ignore[no-any-return]


def agree(head: bytes) -> bytes:
    """The answer to a handshake (RFC 6455 §4.2.2)."""
    key = next(line.split()[1] for line in head.splitlines() if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
    return b"HTTP/1.1 101 Switching Protocols\r\n" + fields + b"\r\n\r\n"


def serve(realtime: bool) -> None:
    """One connection after the other: the handshake, then 32 bytes back for each frame with 32 bytes."""
    claim(0, realtime)
    request, answer = bytearray(2 + 4 + len(PAYLOAD)), bytes([0x82, len(PAYLOAD)]) + PAYLOAD
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection = listener.accept()[0]
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                head = raw.receive_until(connection, b"\r\n\r\n")
                connection.sendall(agree(head))
                # On loopback a frame comes whole; what has another length is the client's close.
                while connection.recv_into(request) == len(request):
                    connection.send(answer)
                connection.send(CLOSE)


def main(options: argparse.Namespace) -> None:
    names = options.clients.split(";") if options.clients else list(CLIENTS)
    pythons = {"websockets": options.websockets_python, "picows": options.picows_python}
    for peer, python in pythons.items():
        if subprocess.run([python, "-c", f"import {peer}, uvloop"], stderr=subprocess.DEVNULL, check=False).returncode:
            print(f"{python} has no {peer} and uvloop, which are left out; --{peer}-python names one that has")
            names = [name for name in names if not name.startswith(peer)]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with raw.ServerProcess(__file__, *["--realtime"] * options.realtime) as server:
        url = "ws://{}:{}/".format(*server.address)
        for _ in range(options.rounds):
            for name in names:
                python = pythons.get(name.split(",")[0], sys.executable)
                found[name].append(play(name, python, url, options.seconds, options.realtime))
    rates = {name: statistics.median(run["per_second"] for run in runs) for name, runs in found.items()}
    for name, rate in rates.items():
        cpu = statistics.median(run["cpu_us"] for run in found[name])
        print(f"{name:30} {rate:9,.0f} round trips/s, {1e6 / rate:6.1f} µs each; {cpu:5.1f} µs CPU of the client")
    for ours, theirs, least in TARGETS:
        if ours in rates and theirs in rates:
            ratios = [
                mine["per_second"] / yours["per_second"] for mine, yours in zip(found[ours], found[theirs], strict=True)
            ]
            ratio = statistics.median(ratios)
            print(f"{ours} ÷ {theirs}: {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}; wanted {least})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--clients", help="only these, with ; between them")
    parser.add_argument("--websockets-python", default=sys.executable)
    parser.add_argument("--picows-python", default=sys.executable)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.realtime)
    elif options.client:
        claim(1, options.realtime)
        count = Count(options.seconds)
        CLIENTS[options.client](options.url, count)
        print(json.dumps(count.report()))
    else:
        main(options)
