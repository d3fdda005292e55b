"""Every home in its real host program: `python bench/homes/measure.py --hosts asyncio,Tk --hold 3 --json`.

Which thread runs the callbacks; how long an echo takes when the host has nothing else to do; how long a ping and a new
handshake take while the host computes for seconds, in one C call that holds the interpreter, and in a loop of Python
that shares its only processor with the server; what Ctrl-C does. The host has one processor and who asks has another.
Prints a table in Markdown, as in docs/homes.md. A host that is not installed is a row that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from hosts import HOSTS, Host, Process, display

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import raw

ECHOES = 400
PAUSE_S = 0.003
EVERY_S = 0.004
CTRL_C_AFTER_S = 0.5
PATIENCE_S = 1.5


def say(client: Any, text: str) -> None:
    client.sendall(bytes([0x81, 0x80 | len(text)]) + raw.MASK + text.encode())


def hear(client: Any) -> str:
    first, size = raw.receive_exactly(client, 2)
    assert first == 0x81, first
    return raw.receive_exactly(client, size).decode()


def ask(client: Any, text: str) -> str:
    say(client, text)
    return hear(client)


def echo_ms(client: Any) -> dict[str, float]:
    took = []
    for number in range(ECHOES):
        time.sleep(PAUSE_S)  # so that the host goes idle
        text = f"echo {number}"
        began = time.perf_counter()
        assert ask(client, text) == text
        took.append(time.perf_counter() - began)
    return raw.summarise(took)


def probe(process: Process, how: str, hold_s: float) -> dict[str, dict[str, float]]:
    """Ping and shake hands until the host has computed."""
    address = process.address()
    holder, pinger = raw.open_websocket(address), raw.open_websocket(address)
    assert ask(holder, how) == "computing"
    until = time.monotonic() + hold_s * 0.95
    pings, handshakes = [], []
    while time.monotonic() < until:
        began = time.perf_counter()
        pinger.sendall(b"\x89\x80" + raw.MASK)
        assert raw.receive_exactly(pinger, 2) == b"\x8a\x00"
        ponged = time.perf_counter()
        raw.open_websocket(address).close()
        handshakes.append(time.perf_counter() - ponged)
        pings.append(ponged - began)
        time.sleep(EVERY_S)
    assert hear(holder) == "done"
    holder.close()
    pinger.close()
    return {"ping": raw.summarise(pings), "handshake": raw.summarise(handshakes)}


def ctrl_c(host: Host, when: str) -> str:
    """Press it once, in a host of its own, idle or in the middle of a loop; tell what became of the host."""
    with host.start() as process:
        client = raw.open_websocket(process.address())
        assert ask(client, "hello") == "hello"
        if when == "computing":
            assert ask(client, "loop") == "computing"
        time.sleep(CTRL_C_AFTER_S)
        shown = len(process.output)
        process.press_ctrl_c()
        last = listen(client, process)
        is_asked = not last
        if is_asked:  # it goes on: does it still answer?
            say(client, "still there")
            last = listen(client, process)
        code = process.wait(PATIENCE_S)
        told = process.output[shown:]
    shows = "KeyboardInterrupt" in told
    is_cut = when == "computing" and last in ("still there", "close")
    first = "computes on, then " if last == "done" else "ends the callback, " if is_cut else ""
    if code is not None:
        first = first or ("at the next event " if is_asked else "")
        return f"{first}ends: {'KeyboardInterrupt' if shows else f'exit code {code}'}"
    return first + ("serves on" if last else "does not answer") + (", shows KeyboardInterrupt" if shows else "")


def listen(client: Any, process: Process) -> str:
    """The next thing a host says within its patience: a text, `close`, `end`, or nothing."""
    if process.wait(PATIENCE_S) is not None:
        return "end"
    client.settimeout(float(os.environ["HOLD_S"]))
    try:
        first, size = raw.receive_exactly(client, 2)
        return raw.receive_exactly(client, size).decode("latin-1") if first == 0x81 else "close"
    except TimeoutError:
        return ""
    except (OSError, EOFError):
        return "end"


def measure(host: Host, hold_s: float) -> dict[str, Any]:
    with host.start() as process:
        client = raw.open_websocket(process.address())
        found: dict[str, Any] = {"thread": ask(client, "where"), "echo": echo_ms(client)}
        for how in ("call", "loop"):
            found[how] = probe(process, how, hold_s)
    found["ctrl-c"] = {when: ctrl_c(host, when) for when in ("idle", "computing")}
    return found


def row(name: str, found: dict[str, Any] | str) -> str:
    if isinstance(found, str):
        return f"| {name} | not measured: {found} |" + " |" * (len(COLUMNS) - 2)
    cells = [name, found["thread"], f"{found['echo']['p50_ms']:.2f}"]
    cells += [
        " / ".join(f"{found[how][what]['p99_ms']:.2f}" for what in ("ping", "handshake")) for how in ("call", "loop")
    ]
    cells += [found["ctrl-c"]["idle"], found["ctrl-c"]["computing"]]
    return "| " + " | ".join(cells) + " |"


COLUMNS = (
    "host",
    "callbacks on which thread",
    "echo, idle: p50",
    "one C call: ping / handshake p99",
    "a Python loop: ping / handshake p99",
    "Ctrl-C, idle",
    "Ctrl-C in a callback that computes",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="", help="only those whose name has one of these words")
    parser.add_argument("--hold", type=float, default=3.0, help="how long each host computes (default: %(default)s s)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args()
    os.environ["HOLD_S"] = str(options.hold)
    raw.pin(1)
    words = [word for word in options.hosts.split(",") if word]
    results: dict[str, Any] = {}
    if not options.json:
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    with display():
        for host in HOSTS:
            if words and not any(word in host.name for word in words):
                continue
            results[host.name] = host.missing() or measure(host, options.hold)
            if not options.json:
                print(row(host.name, results[host.name]), flush=True)
    if options.json:
        print(json.dumps(results, indent=2))
    elif measured := [found for found in results.values() if not isinstance(found, str)]:
        longest = max(
            found[how][what]["max_ms"] for found in measured for how in ("call", "loop") for what in found[how]
        )
        echoes = statistics.median(found["echo"]["p50_ms"] for found in measured)
        print(f"\nTimes in ms. The longest of all probes took {longest:.1f}; the median host echoes in {echoes:.2f}.")


if __name__ == "__main__":
    main()
