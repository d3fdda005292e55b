"""Throughput beside picows and granian: `python bench/run.py --rounds 3 --seconds 2 --servers a,b --workloads a,b`.

Server on one processor, load on another, servers in turn within every round, medians over the rounds: only ratios
within one run mean something. The peers get a virtual environment of their own; where it cannot be made they are left
out, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS_VENV = ROOT / ".venv-bench-peers"
LOAD = ROOT / "target" / "release" / "portico-load"
TICKS = os.sysconf("SC_CLK_TCK")

Workload = tuple[str, int, int, int, str]  # mode, connections, in flight, bytes, path
WORKLOADS: dict[str, Workload] = {
    "echo-1": ("echo", 1, 1, 32, "/ws"),
    "echo-100": ("echo", 100, 1, 128, "/ws"),
    "echo-100x32": ("echo", 100, 32, 128, "/ws"),
    "broadcast-200": ("broadcast", 200, 8, 128, "/chat"),
    "http-64": ("http", 64, 1, 12, "/"),
}


def command(server: str, port: int) -> list[str]:
    if server == "picows":
        return [str(PEERS_VENV / "bin/python"), str(HERE / "peers/picows_server.py"), str(port)]
    if server == "granian":
        options = [
            "--interface",
            "rsgi",
            "--port",
            str(port),
            "--loop",
            "uvloop",
            "--no-log",
            "--working-dir",
            str(HERE / "peers"),
        ]
        return [str(PEERS_VENV / "bin/granian"), *options, "granian_app:app"]
    return [sys.executable, str(HERE / "server.py"), str(port), server.removeprefix("portico-")]


def can_run(server: str, workload: str) -> bool:
    return not (server == "picows" and workload.startswith("http"))


def set_up(servers: list[str]) -> list[str]:
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "portico-load"], cwd=ROOT, check=True)
    peers = [server for server in servers if not server.startswith("portico-")]
    if peers and not (PEERS_VENV / "bin/granian").exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS_VENV], check=True)
        done = subprocess.run(
            [PEERS_VENV / "bin/pip", "install", "--quiet", "picows", "granian", "uvloop"], check=False
        )
        if done.returncode:
            print(f"cannot install {', '.join(peers)}: left out")
            return [server for server in servers if server not in peers]
    return servers


def pin(cpu: int) -> list[str]:
    return ["taskset", "-c", str(cpu)] if (os.cpu_count() or 1) > 1 else []


def cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += children(int(child))
    return found


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def measure(server: str, workloads: list[str], seconds: float) -> dict[str, dict[str, float]]:
    port = free_port()
    process = subprocess.Popen([*pin(0), *command(server, port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        time.sleep(0.3)
        usable = [name for name in workloads if can_run(server, name)]
        return {name: run_load(WORKLOADS[name], port, process.pid, seconds) for name in usable}
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


def run_load(workload: Workload, port: int, pid: int, seconds: float, *more: str) -> dict[str, float]:
    """What the load tells, and what one operation cost the server `pid` and its children."""
    mode, connections, in_flight, size, path = workload
    arguments = [str(port), mode, str(connections), str(in_flight), str(size), str(seconds), path, *more]
    pids = children(pid)
    before = cpu_s(pids)
    done = subprocess.run([*pin(1), LOAD, *arguments], capture_output=True, check=True, timeout=seconds + 60)
    result: dict[str, float] = json.loads(done.stdout)
    result["cpu_us"] = (cpu_s(pids) - before) / max(result["received"], 1) * 1e6 * seconds / (seconds + 0.3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--servers", default="portico-service,portico-asyncio,portico-uvloop,portico-thread,picows,granian"
    )
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    servers, workloads = set_up(options.servers.split(",")), options.workloads.split(",")
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for server in servers:
            for workload, result in measure(server, workloads, options.seconds).items():
                results.setdefault((workload, server), []).append(result)
    print(
        f"{'workload':14} {'server':16} {'per second':>12} {'p50 µs':>8} {'p99 µs':>8} {'server µs':>10} {'errors':>7}"
    )
    for workload in workloads:
        for server in servers:
            if samples := results.get((workload, server)):
                rate, p50, p99, cpu = (
                    statistics.median(sample[key] for sample in samples)
                    for key in ("rate", "p50_us", "p99_us", "cpu_us")
                )
                errors = sum(sample["errors"] for sample in samples)
                print(f"{workload:14} {server:16} {rate:12,.0f} {p50:8.0f} {p99:8.0f} {cpu:10.2f} {errors:7.0f}")


if __name__ == "__main__":
    main()
