"""TLS beside uvicorn: `python bench/tls.py --rounds 3 --seconds 2 --servers a,b --workloads a,b`.

Both with the same ECDSA P-256 certificate, TLS 1.3, no resumption. As in `run.py`: server on one processor, load on
another, servers in turn within every round, medians over the rounds. A handshake counts when the client has the
server's tickets; clients verify nothing, so that it is the server that is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import HERE, PEERS_VENV, ROOT, free_port, pin, run_load, wait_until_listening

import portico

WORKLOADS = {  # mode, connections, in flight, bytes, path
    "echo-100": ("echo", 100, 1, 128, "/ws"),
    "echo-100x32": ("echo", 100, 32, 128, "/ws"),
    "http-64": ("http", 64, 1, 12, "/"),
    "handshakes": ("handshake", 16, 1, 0, "/"),
}
PACKAGES = ["uvicorn", "uvloop", "httptools", "websockets"]


def set_up(servers: list[str]) -> list[str]:
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "portico-load"], cwd=ROOT, check=True)
    if "uvicorn" in servers and not (PEERS_VENV / "bin/uvicorn").exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS_VENV], check=True)
        done = subprocess.run([PEERS_VENV / "bin/pip", "install", "--quiet", *PACKAGES], check=False)
        if done.returncode:
            print("cannot install uvicorn: left out")
            servers.remove("uvicorn")
    return servers


def command(server: str, port: int, pair: tuple[str, str]) -> list[str]:
    if server == "uvicorn":
        options = ["--port", str(port), "--loop", "uvloop", "--http", "httptools", "--log-level", "error"]
        options += ["--ssl-certfile", pair[0], "--ssl-keyfile", pair[1], "--ws-per-message-deflate", "false"]
        return [str(PEERS_VENV / "bin/uvicorn"), *options, "--app-dir", str(HERE / "peers"), "uvicorn_app:app"]
    return [sys.executable, str(HERE / "server.py"), str(port), server.removeprefix("portico-")]


def measure(server: str, workloads: list[str], seconds: float, pair: tuple[str, str]) -> dict[str, dict[str, float]]:
    port = free_port()
    environment = os.environ | {"BENCH_CERT": ":".join(pair)}
    process = subprocess.Popen([*pin(0), *command(server, port, pair)], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_until_listening(port, process)
        time.sleep(0.5)
        return {name: run_load(WORKLOADS[name], port, process.pid, seconds, "tls") for name in workloads}
    finally:
        process.terminate()
        process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="portico-service,portico-asyncio,portico-uvloop,uvicorn")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    options = parser.parse_args()
    servers, workloads = set_up(options.servers.split(",")), options.workloads.split(",")
    results: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        pair = (str(Path(directory) / "cert.pem"), str(Path(directory) / "key.pem"))
        for path, text in zip(pair, portico.write_cert("localhost").server, strict=True):
            Path(path).write_text(text)
        for _ in range(options.rounds):
            for server in servers:
                for workload, result in measure(server, workloads, options.seconds, pair).items():
                    results.setdefault((workload, server), []).append(result)
    print(
        f"{'workload':12} {'server':16} {'per second':>12} {'p50 µs':>8} {'p99 µs':>8} {'server µs':>10} {'errors':>7}"
    )
    for workload in workloads:
        for server in servers:
            samples = results[workload, server]
            rate, p50, p99, cpu = (
                statistics.median(sample[key] for sample in samples) for key in ("rate", "p50_us", "p99_us", "cpu_us")
            )
            errors = sum(sample["errors"] for sample in samples)
            print(f"{workload:12} {server:16} {rate:12,.0f} {p50:8.0f} {p99:8.0f} {cpu:10.2f} {errors:7.0f}")


if __name__ == "__main__":
    main()
