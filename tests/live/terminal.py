"""Programs on a terminal of their own, for what only happens where somebody types: prompts, Ctrl-C, Ctrl-D.

What is asked about is the screen, as a person would see it. Every wait has a deadline. Thread: the test's own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import pyte

DEADLINE_S = 10.0
ROWS, COLUMNS = 150, 100
CTRL_A, CTRL_C, CTRL_D, TAB, ENTER, UP = "\x01", "\x03", "\x04", "\t", "\r", "\x1b[A"


class Terminal:
    """A program whose stdin, stdout and stderr are a terminal. Leaving the block ends it."""

    def __init__(self, *command: str, prompt: str = ">>> ", environment: Mapping[str, str] | None = None) -> None:
        """`prompt`: how a line begins that waits for typing. Give it a HOME, or it writes into your own history."""
        self.prompt = prompt
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self.resize(ROWS, COLUMNS)
        variables = {**os.environ, "TERM": "linux", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            # Who has no terminal and opens one owns it: its Ctrl-C is for him. The shell does, and becomes the program.
            ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(slave), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**variables, **(environment or {})},
            start_new_session=True,
        )
        self._slave = slave  # kept until the program has opened its own, or reading would be an error

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._let_go()
        os.close(self._master)
        sys.stderr.write("\n".join(["On the screen:", *self.lines(), ""]))  # pytest shows it if the test fails

    # Typing

    def type(self, text: str) -> None:
        """Press keys; wait for nothing."""
        os.write(self._master, text.encode())

    def enter(self, line: str, *, is_pasted: bool = True) -> None:
        """Type a line where the prompt waits, see it appear, press Enter. `is_pasted`: all keys at once."""
        self.wait_for_prompt()
        typed = ""
        for keys in [line] if is_pasted else line:
            typed += keys
            self.type(keys)
            self._wait_for_typed(typed)
        self.type(ENTER)

    def run(self, line: str, *, is_pasted: bool = True) -> list[str]:
        """`enter` it, wait for the next prompt; the lines that have appeared between."""
        self.enter(line, is_pasted=is_pasted)
        self.wait_for_prompt()
        lines = self.lines()[:-1]
        last = max(index for index, shown in enumerate(lines) if shown.endswith(self.prompt + line))
        return [shown for shown in lines[last + 1 :] if shown]

    def resize(self, rows: int, columns: int) -> None:
        """What dragging the corner of a window does."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    # Seeing

    def lines(self) -> list[str]:
        """What is on the screen, down to the cursor or the last line that is not blank."""
        lines = [line.rstrip() for line in self._screen.display]
        last = max([self._screen.cursor.y, *(index for index, line in enumerate(lines) if line)])
        return lines[: last + 1]

    def typed(self) -> str | None:
        """What stands between the prompt and the cursor; None if the cursor is not in such a line."""
        line = self._screen.display[self._screen.cursor.y][: self._screen.cursor.x]
        _, found, typed = line.partition(self.prompt)  # the terminal's own ^C may stand before it
        return typed if found else None

    def attributes(self) -> list[object]:
        """The terminal's modes, as `termios.tcgetattr` has them."""
        return termios.tcgetattr(self._master)

    # Waiting

    def wait_for_prompt(self) -> None:
        """Until the cursor is right behind a prompt."""
        self.wait_until(lambda: self.typed() == "", "a prompt")

    def _wait_for_typed(self, text: str) -> None:
        self.wait_until(lambda: self.typed() == text, f"{text!r} to appear")

    def wait_for_line(self, text: str, times: int = 1) -> None:
        """Until one line on the screen is `text`, or so many are."""
        self.wait_until(lambda: self.lines().count(text) >= times, f"the line {text!r}")

    def wait_until(self, is_so: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Until the screen is as `is_so` wants it."""
        deadline = time.monotonic() + deadline_s
        while not is_so():
            if not self._receive(deadline, what):
                raise EOFError(f"the program ended; waited for {what}")

    def end(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait until the program has ended; its exit code."""
        deadline = time.monotonic() + deadline_s
        self._let_go()
        while self._receive(deadline, "the end"):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _receive(self, deadline: float, what: str) -> bool:
        if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"waited for {what}")
        try:
            data = os.read(self._master, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says when the last program has left the terminal
                raise
            return False
        self._stream.feed(data)
        return bool(data)

    def _let_go(self) -> None:
        slave, self._slave = self._slave, -1
        if slave >= 0:
            os.close(slave)
