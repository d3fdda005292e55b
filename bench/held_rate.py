"""What a held interpreter costs in rate: `python bench/held_rate.py --rounds 3 --hold 3`.

Static files of 1 KiB on 64 connections, and new connections, each for one such file, by `load/`: idle, and while a
callback holds Python in one C call that never lets go. Server on one processor, load on another, in turn within every
round; the ratio of the medians should be at least 0.9.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import raw
from home import serve_at

import portico

ROOT = Path(__file__).resolve().parent.parent
LOAD = ROOT / "target" / "release" / "portico-load"
WORKLOADS = {"static 1 KiB": ("http", 64), "new connections": ("connect", 16)}
HOMES = ("service", "asyncio", "thread")
WARM_UP_S = 0.3  # the load's own
BEFORE_S = 0.2  # until the callback surely holds


def serve(home: str, hold_s: float, directory: str) -> None:
    def hold(req: portico.Request) -> str:
        ctypes.PyDLL(None).usleep(int(hold_s * 1e6))
        return "held"

    def start(callbacks: Any) -> portico.Server:
        app = {"call": hold, "static_paths": {"/files": directory}}
        server = portico.start_server("127.0.0.1", 0, app, callbacks=callbacks)
        print(server.port, flush=True)
        return server

    raw.pin(0)
    logging.getLogger("portico").setLevel(logging.ERROR)  # that nobody services the events is the point here
    serve_at(home, start)


def rate(address: raw.Address, workload: str, seconds: float) -> float:
    mode, connections = WORKLOADS[workload]
    command = [str(LOAD), str(address[1]), mode, str(connections), "1", "8", str(seconds), "/files/1k.bin"]
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert result["errors"] == 0, result
    return float(result["rate"])


def rate_while_held(address: raw.Address, workload: str, hold_s: float) -> float:
    with raw.connect(address) as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        time.sleep(BEFORE_S)
        found = rate(address, workload, hold_s - BEFORE_S - WARM_UP_S - 0.3)
        assert time.monotonic() - began < hold_s, "the callback let go before the load ended: a longer --hold, please"
        raw.receive_until(client, b"held")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hold", type=float, default=3, help="seconds (3)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--homes", default=",".join(HOMES))
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        home, seconds, directory = options.serve
        return serve(home, float(seconds), directory)
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "portico-load"], cwd=ROOT, check=True)
    raw.pin(1)
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "1k.bin").write_bytes(b"x" * 1024)
        for home in options.homes.split(","):
            show(home, options, directory)
    return None


def show(home: str, options: argparse.Namespace, directory: str) -> None:
    with raw.ServerProcess(__file__, home, str(options.hold), directory) as server:
        for workload in WORKLOADS:
            idle, held = [], []
            for _ in range(options.rounds):
                idle.append(rate(server.address, workload, 1.5))
                held.append(rate_while_held(server.address, workload, options.hold))
            before, during = statistics.median(idle), statistics.median(held)
            print(
                f"{home:8} {workload:16} idle {before:9,.0f}/s  held {during:9,.0f}/s  {during / before:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
