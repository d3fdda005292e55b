"""How long `ws.send` keeps the thread that calls it: `python bench/send_latency.py --seconds 5`.

A thread that is no server's home sends small messages, up to 10,000 a second, first alone, then while another process
opens 200 connections at once, again and again, and sends messages of 16 MiB; then over TLS, alone and while another
process begins 200 handshakes at once, again and again. `send` takes no lock that anybody holds
for long; what remains is waiting for the interpreter, which the home thread needs to hand the large message over.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import subprocess
import sys
import threading
import time
from socket import socket

import raw

import portico

EVERY_S = 0.0001
LARGE_BYTES = 16 << 20


def load(port: str) -> None:
    """The other process: a crowd that comes and goes, and one client that sends much."""
    raw.pin(1)
    address = ("127.0.0.1", int(port))
    sender = raw.open_websocket(address)
    large = b"\x82\xff" + LARGE_BYTES.to_bytes(8, "big") + raw.MASK + bytes(LARGE_BYTES)
    while True:
        crowd = [socket() for _ in range(200)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(address)
        sender.sendall(large)
        raw.receive_until(sender, b"got it")
        for one in crowd:
            one.close()


def shake_hands(port: str) -> None:
    """The other process: 200 clients that say hello at once, wait for what a private key has to sign, and leave."""
    raw.pin(1)
    address = ("127.0.0.1", int(port))
    hello = ssl.MemoryBIO()
    session = raw.careless().wrap_bio(ssl.MemoryBIO(), hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    first = hello.read()
    while True:
        crowd = [raw.connect(address) for _ in range(200)]
        for one in crowd:
            one.sendall(first)
        for one in crowd:
            assert one.recv(1 << 16).startswith(b"\x16")
            one.close()


def listen(address: raw.Address, tls: ssl.SSLContext | None, ready: threading.Event) -> None:
    client = raw.open_websocket(address, tls=tls)
    ready.set()
    client.settimeout(None)
    while client.recv(1 << 16):
        pass


def measure(ws: portico.WebSocket, seconds: float) -> list[float]:
    took = []
    until = time.perf_counter() + seconds
    due = time.perf_counter()
    while due < until:
        began = time.perf_counter()
        assert ws.send("x" * 32) == portico.SendResult.SENT
        ended = time.perf_counter()
        took.append(ended - began)
        due = max(due + EVERY_S, ended)
        time.sleep(due - ended)
    return took


def measure_beside(how: str, tls: portico.TlsConfig | None, seconds: float) -> dict[str, dict[str, float]]:
    """Alone, and then while another process does `how`."""
    sockets: list[portico.WebSocket] = []

    def on_ws_open(ws: portico.WebSocket) -> None:
        sockets.append(ws)
        ws.on_message(lambda binary, message: ws.send("got it"))

    app = {"on_ws_open": on_ws_open}
    with portico.start_server("127.0.0.1", 0, app, True, tls=tls, callbacks="thread") as server:
        ready = threading.Event()
        context = None if tls is None else raw.careless()
        # A thread of this process would wait for the interpreter too; but it only throws away what comes.
        address = ("127.0.0.1", server.port)
        threading.Thread(target=listen, args=(address, context, ready), daemon=True).start()
        ready.wait(raw.DEADLINE_S)
        while not sockets:
            time.sleep(0.001)
        kind = "plain" if tls is None else "TLS"
        results = {f"{kind}, alone": raw.summarise(measure(sockets[0], seconds))}
        accepted = server.stats()["accepted"]
        other = subprocess.Popen([sys.executable, __file__, f"--{how}", str(server.port)])
        try:
            while server.stats()["accepted"] < accepted + 200:
                time.sleep(0.001)
            results[f"{kind}, {how}"] = raw.summarise(measure(sockets[0], seconds))
        finally:
            other.kill()
            other.wait(raw.DEADLINE_S)
        return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--handshakes", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        return load(options.load)
    if options.handshakes:
        return shake_hands(options.handshakes)
    tls = portico.tls_config(server=portico.write_cert("localhost").server)
    results = measure_beside("load", None, options.seconds) | measure_beside("handshakes", tls, options.seconds)
    if options.json:
        print(json.dumps(results, indent=2))
        return None
    for name, result in results.items():
        print(f"{name:16}", "  ".join(f"{key} {value}" for key, value in result.items()))
    return None


if __name__ == "__main__":
    main()
