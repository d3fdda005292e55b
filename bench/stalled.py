"""One client of 201 stops reading while a broadcast runs at full speed: `python bench/stalled.py --pairs 7`.

Pairs of runs, with and without the stalled client, in turn. Printed for each slow-client policy: the median of the
others' throughput with the stalled client over that without, and how much larger the server's memory was with it.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import raw

import portico

LOAD = Path(__file__).resolve().parent.parent / "target" / "release" / "portico-load"
RECEIVERS, IN_FLIGHT, SIZE = 200, 8, 128
MAX_OUTBOX_BYTES = 1 << 20
POLICIES = ("close", "drop_new", "drop_oldest")


def serve(policy: str) -> None:
    raw.pin(0)

    def on_ws_open(ws: portico.WebSocket) -> None:
        ws.on_message(lambda binary, message: server.broadcast(message))

    limits = portico.Limits(max_outbox_bytes=MAX_OUTBOX_BYTES, write_timeout_s=None)
    options = {"limits": limits, "slow_client": policy, "quiet": True}
    server = portico.start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, callbacks="service", **options)  # type: ignore[arg-type]
    print(server.port, flush=True)
    server.serve()


def peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def measure(policy: str, is_stalled: bool, seconds: float) -> tuple[float, int]:
    with raw.ServerProcess(__file__, policy) as server:
        stalled: socket.socket | None = None
        if is_stalled:
            stalled = socket.socket()
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # before the connect, or TCP offers more
            stalled.connect(server.address)
            stalled.sendall(raw.HANDSHAKE)
            time.sleep(0.1)
        arguments = [server.address[1], "broadcast", RECEIVERS, IN_FLIGHT, SIZE, seconds, "/"]
        done = subprocess.run(
            ["taskset", "-c", "1", LOAD, *map(str, arguments)], capture_output=True, check=True, timeout=seconds + 30
        )
        peak = peak_kib(server.process.pid)
        if stalled is not None:
            stalled.close()
        return float(json.loads(done.stdout)["rate"]), peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--serve", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve[0])
    root = LOAD.parent.parent.parent
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "portico-load"], cwd=root, check=True)
    for policy in POLICIES:
        ratios, growths = [], []
        for _ in range(options.pairs):
            alone, before = measure(policy, False, options.seconds)
            beside, after = measure(policy, True, options.seconds)
            ratios.append(beside / alone)
            growths.append(after - before)
        print(
            f"{policy:12} others' throughput × {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f}–{max(ratios):.3f}), memory {statistics.median(growths):+,.0f} KiB "
            f"(at most {max(growths):+,} KiB; the outbox holds {MAX_OUTBOX_BYTES >> 10:,} KiB)",
            flush=True,
        )
    return None


if __name__ == "__main__":
    sys.exit(main())
