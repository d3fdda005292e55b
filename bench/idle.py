"""What an idle server costs: voluntary context switches of each of its threads, `python bench/idle.py --seconds 10`.

100 WebSockets are open, pings are off, nobody says anything. Every number should be 0.
"""

from __future__ import annotations

import argparse
import json
import os
import time

import raw
from home import serve_at

import portico

CONNECTIONS = 100
SETTLE_S = 2.0


def serve(home: str) -> None:
    def start(callbacks: str) -> portico.Server:
        app = {"on_ws_open": lambda ws: ws.on_message(lambda binary, message: ws.send(message))}
        limits = portico.Limits(ping_interval_s=None)
        server = portico.start_server("127.0.0.1", 0, app, callbacks=callbacks, limits=limits)  # type: ignore[arg-type]
        print(server.port, flush=True)
        return server

    serve_at(home, start)


def switches(pid: int) -> dict[str, int]:
    """How often each thread of a process has gone to sleep by itself, by its name and number."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        found[f"{fields['Name'].strip()} {task}"] = int(fields["voluntary_ctxt_switches"])
    return found


def measure(home: str, seconds: float) -> dict[str, int]:
    with raw.ServerProcess(__file__, home) as server:
        clients = [raw.open_websocket(server.address) for _ in range(CONNECTIONS)]
        for client in clients:
            client.sendall(b"\x81\x84" + raw.MASK + b"echo")
            raw.receive_until(client, b"echo")
        time.sleep(SETTLE_S)  # the watchman sees the last traffic off, and the watch for lateness looks once more
        before = switches(server.process.pid)
        time.sleep(seconds)
        after = switches(server.process.pid)
        return {thread: after[thread] - count for thread, count in before.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--serve", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve[0])
    results = {home: measure(home, options.seconds) for home in ("service", "asyncio", "thread")}
    if options.json:
        print(json.dumps(results, indent=2))
        return None
    for home, threads in results.items():
        told = ", ".join(f"{thread}: {count}" for thread, count in threads.items())
        print(f"{home:8} switches in {options.seconds:g} s: {told}")
    return None


if __name__ == "__main__":
    main()
