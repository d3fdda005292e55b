"""Latency while the interpreter is held: `python bench/held.py --hold 3 --rounds 1 --json`.

A callback holds Python in one C call that never lets go, or in a loop that computes; meanwhile another process, on
another processor, asks every 2 ms for something that needs no Python: a pong, a handshake, a fixed answer, the refusal
of a malformed request, a TLS handshake with a fixed answer. The time a probe took counts from the moment it was sent,
connecting included. The server has one processor to itself, which its watchman shares with the loop that computes: its
scheduling is in the figures.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import select
import socket
import time
from collections.abc import Callable

import raw
from home import serve_at

import portico

EVERY_S = 0.002
HOMES = ("service", "asyncio", "thread")
HOWS = ("call", "loop")


# The server


def hold(how: str, seconds: float) -> str:
    if how == "call":
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    else:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
    return "held"


def serve(home: str, how: str, seconds: float) -> None:
    def start(callbacks: str) -> portico.Server:
        app = {"call": lambda req: hold(how, seconds), "on_ws_open": lambda ws: None}
        inline = {"/inline": ("text/plain", b"native")}
        server = portico.start_server("127.0.0.1", 0, app, callbacks=callbacks, inline=inline)  # type: ignore[arg-type]
        pair = portico.write_cert("localhost")
        options = {"tls": portico.tls_config(server=pair.server), "inline": inline, "callbacks": callbacks}
        secure = portico.start_server("127.0.0.1", 0, app, **options)  # type: ignore[arg-type]
        print(server.port, secure.port, sep="\n", flush=True)
        return server

    raw.pin(0)
    logging.getLogger("portico").setLevel(logging.ERROR)  # that nobody services the events is the point here
    serve_at(home, start)


# The probes


class Prober:
    """One long-lived WebSocket and one long-lived HTTP connection; the others are new each time."""

    def __init__(self, address: raw.Address, secure: raw.Address) -> None:
        self.address = address
        self.secure = secure
        self.context = raw.careless()
        self.websocket = raw.open_websocket(address)
        self.http = raw.connect(address)

    def ping(self) -> None:
        self.websocket.sendall(b"\x89\x84" + raw.MASK + b"ping")
        assert raw.receive_until(self.websocket, b"ping") == b"\x8a\x04ping"

    def handshake(self) -> None:
        raw.open_websocket(self.address).close()

    def inline(self) -> None:
        self.http.sendall(b"GET /inline HTTP/1.1\r\nHost: localhost\r\n\r\n")
        raw.receive_until(self.http, b"native")

    def malformed(self) -> None:
        with raw.connect(self.address) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 400 ")

    def tls(self) -> None:
        with raw.connect(self.secure, self.context) as client:
            client.sendall(b"GET /inline HTTP/1.1\r\nHost: localhost\r\n\r\n")
            raw.receive_until(client, b"native")

    def probes(self) -> dict[str, Callable[[], None]]:
        probes = (self.ping, self.handshake, self.inline, self.malformed, self.tls)
        return {probe.__name__: probe for probe in probes}


def measure(home: str, how: str, seconds: float, rounds: int) -> dict[str, list[float]]:
    with raw.ServerProcess(__file__, home, how, str(seconds)) as server:
        assert server.process.stdout is not None
        prober = Prober(server.address, ("127.0.0.1", int(server.process.stdout.readline())))
        took: dict[str, list[float]] = {name: [] for name in prober.probes()}
        for _ in range(rounds):
            with raw.connect(server.address) as holder:
                holder.sendall(b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
                probe_during(holder, prober, took)
                assert raw.receive_until(holder, b"held")
        return took


def probe_during(holder: socket.socket, prober: Prober, took: dict[str, list[float]]) -> None:
    """Probe in turn until `holder` has its answer."""
    due = time.perf_counter()
    while True:
        for name, probe in prober.probes().items():
            began = time.perf_counter()
            probe()
            ended = time.perf_counter()
            if select.select([holder], [], [], 0)[0]:
                return  # the hold was over, perhaps before this one was answered
            took[name].append(ended - began)
            due = max(due + EVERY_S, ended)
            time.sleep(due - ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hold", type=float, default=3.0, help="seconds (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="holds per line (default: %(default)s)")
    parser.add_argument("--homes", default=",".join(HOMES), help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        home, how, seconds = options.serve
        return serve(home, how, float(seconds))
    raw.pin(1)
    results = []
    for home in options.homes.split(","):
        for how in HOWS:
            for probe, samples in measure(home, how, options.hold, options.rounds).items():
                results.append({"home": home, "held_by": how, "probe": probe, **raw.summarise(samples)})
                if not options.json:
                    show(results[-1])
    if options.json:
        print(json.dumps(results, indent=2))
    return None


def show(result: dict[str, object]) -> None:
    print(
        "{home:8} {held_by:5} {probe:10} {count:5} probes  p50 {p50_ms:7.3f} ms  p99 {p99_ms:7.3f} ms  "
        "max {max_ms:7.3f} ms".format(**result),
        flush=True,
    )


if __name__ == "__main__":
    main()
