"""What the runners share: the echo servers and clients, what a case came to, and how a run is told.

Imports nothing of Portico: the servers and clients are processes of their own.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / "build" / "conform"
"""Everything made here goes there; git ignores it."""

PUMPS = ("service", "asyncio", "uvloop", "thread")
STYLES = ("blocking", "asyncio", "uvloop", "callbacks")
"""The styles of the client."""
FULL = ("service", "blocking")
"""The pump and the style that hear every case also in a short run."""
LONG_GROUPS = ("12", "13")
"""The case groups the others are spared in a short run: compression, two hundred thousand messages."""
CASES, SHORT_CASES = 517, 301

GOOD = ("OK", "INFORMATIONAL")


@dataclass(frozen=True)
class Result:
    """What one case came to. `close` judges how the connection ended; both use Autobahn's words."""

    case: str
    behavior: str
    close: str
    expected: str = ""
    came: str = ""

    @property
    def is_good(self) -> bool:
        return self.behavior in GOOD and self.close in GOOD


@contextlib.contextmanager
def echo_server(pump: str) -> Iterator[int]:
    """Run an echo server on that pump and yield its port. Raises: RuntimeError where it does not start, or not last."""
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / f"server-{pump}.log"
    command = [sys.executable, str(HERE / "echo_server.py"), pump]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise RuntimeError(f"the echo server on {pump} did not start: see {log}")
            yield int(port)
            if process.poll() is not None:
                raise RuntimeError(f"the echo server on {pump} ended with {process.returncode}: see {log}")
        finally:
            process.kill()
    if log.stat().st_size:
        print(f"{pump}: the server had something to say: see {log}")


def run_echo_client(style: str, server: str, time_limit_s: float) -> None:
    """Run an echo client through all that `server` asks. Raises: RuntimeError where it did not come to its end."""
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / f"client-{style}.log"
    command = [sys.executable, str(HERE / "echo_client.py"), style, server]
    try:
        with log.open("wb") as output:
            subprocess.run(command, stdin=subprocess.DEVNULL, stderr=output, timeout=time_limit_s, check=True)
    except subprocess.SubprocessError as error:
        raise RuntimeError(f"{error}: see {log}") from None
    if log.stat().st_size:
        print(f"{style}: the client had something to say: see {log}")


def sort_key(case: str) -> list[int]:
    return [int(number) for number in case.split(".")]


def describe(full: bool) -> str:
    if full:
        return "every case on every pump and in every style"
    groups = " and ".join(f"{group}.*" for group in LONG_GROUPS)
    return f"every case on {' and '.join(FULL)}; all but {groups} on the others"


def run_each(run: Callable[[str, bool], bool], full: bool, names: Sequence[str]) -> bool:
    """One pump or style after the other, so that none is slowed by another. Whether all is well."""
    outcomes = []
    for name in names:
        try:
            outcomes.append(run(name, full or name in FULL))
        except RuntimeError as error:
            print(f"{name:9} NO RESULT: {error}", flush=True)
            outcomes.append(False)
    return all(outcomes)


def report(name: str, results: Sequence[Result], wanted: int, started: float) -> bool:
    """Print one line for a pump or style and one per case that is not as it should be. Whether all is well."""
    results = sorted(results, key=lambda result: sort_key(result.case))
    bad = [result for result in results if not result.is_good]
    count = f"{len(results)} cases" if len(results) == wanted else f"{len(results)} cases INSTEAD OF {wanted}"
    behaviors, closes = _count([r.behavior for r in results]), _count([r.close for r in results])
    print(f"{name:9} {count} in {time.monotonic() - started:.0f} s: {behaviors}; closing: {closes}")
    for result in bad:
        print(f"  {name} {result.case} {result.behavior}, closing {result.close}: ", end="")
        print(f"expected: {result.expected} | came: {result.came}")
    sys.stdout.flush()
    return not bad and len(results) == wanted


def _count(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())
