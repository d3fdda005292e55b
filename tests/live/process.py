"""Python programs in processes of their own, for what needs an interpreter that can be held, killed, forked or ended.

Every wait has a deadline. Thread: the test's own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from .wire_client import Address

DEADLINE_S = 5.0
EXIT_S = 1.0  # a process with a server may take no longer to end

PRELUDE = """
import asyncio, ctypes, os, signal, sys, threading, time
import portico

def say(*words):
    print(*words, flush=True)

def start(app, home, **options):
    callbacks = "thread" if home == "thread" else "auto"
    server = portico.start_server("127.0.0.1", 0, app, True, callbacks=callbacks, **options)
    say("port", server.port)
    return server

def live(app, home, **options):
    if home == "asyncio":
        async def main():
            await start(app, home, **options).wait_closed()
        asyncio.run(main())
    elif home == "thread":
        start(app, home, **options).wait_closed()
    else:
        server = start(app, home, **options)
        while True:
            server.service()
"""


@dataclass(frozen=True)
class Ending:
    """How a program ended: `seconds` counts from the moment the test began to wait for it."""

    code: int
    output: list[str]
    errors: str
    seconds: float


class Program:
    """`PRELUDE` and `source`, running. Leaving the block ends it, and whatever it left behind."""

    def __init__(
        self,
        source: str,
        *arguments: str,
        options: tuple[str, ...] = (),
        script: Path | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`script`: a file to put it in, for what imports its main program again. `environment` is added to ours."""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        text = PRELUDE + textwrap.dedent(source)
        command = [python, *options]
        if script is None:
            command += ["-c", text]
        else:
            script.write_text(text)
            command += [str(script)]
        # A session of its own: a signal to it is none to us, and what outlives it can be found by its group.
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self._buffer = b""

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        if error is not None:
            sys.stderr.write(self.errors())
        self._errors.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def address(self) -> Address:
        """Where its server listens; the next line of its output."""
        word, port = self.line().split()
        assert word == "port"
        return "127.0.0.1", int(port)

    def line(self, deadline_s: float = DEADLINE_S) -> str:
        """The next line of its output."""
        deadline = time.monotonic() + deadline_s
        while b"\n" not in self._buffer:
            if not self._read(deadline):
                raise EOFError(f"the program ended; it had said {self._buffer!r} and on stderr:\n{self.errors()}")
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> None:
        """One line for its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, deadline_s: float = DEADLINE_S) -> Ending:
        """Wait until it has ended, which includes everybody who could still write to its output."""
        began = time.monotonic()
        while self._read(began + deadline_s):
            pass
        code = self.process.wait(max(0.1, began + deadline_s - time.monotonic()))
        seconds = time.monotonic() - began
        while self.is_group_alive():  # multiprocessing's own helpers leave a moment later
            assert time.monotonic() < began + deadline_s, "something outlived the program"
            time.sleep(0.01)
        return Ending(code, self._buffer.decode().splitlines(), self.errors(), seconds)

    def is_group_alive(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of memory that it has; `VmHWM`: the most that it had at any time."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{what}:"):
                return int(line.split()[1]) * 1024
        raise LookupError(what)

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode()

    def wait_for_error(self, text: str) -> None:
        """Until it has said this on stderr."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.errors():
            assert time.monotonic() < deadline, f"{text!r} is not in {self.errors()!r}"
            time.sleep(0.01)

    def _read(self, deadline: float) -> bool:
        stdout = self.process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"the program said {self._buffer!r} and no more; on stderr:\n{self.errors()}")
        data = os.read(stdout.fileno(), 1 << 16)
        self._buffer += data
        return bool(data)


def check_quiet(ending: Ending, code: int = 0, errors: str = "") -> None:
    assert (ending.code, ending.errors) == (code, errors)
    assert ending.seconds < patience_s()


def check_one_traceback(ending: Ending, code: int, last: str) -> None:
    assert ending.code == code
    assert ending.errors.count("Traceback (most recent call last)") == 1, ending.errors
    assert ending.errors.strip().splitlines()[-1].startswith(last), ending.errors
    assert ending.seconds < patience_s()


def patience_s() -> float:
    """A second, on a machine that has a processor for us."""
    return EXIT_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
