"""The prompt of Python 3.13 and later, called PyREPL. It has no public interface; what is missing is done without.

Thread: main.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import termios
from types import FrameType
from typing import Any

from portico.pumps.prompt import STDIN

PROMPTS = ("ps1", "ps2", "ps3", "ps4")


def is_called_by_pyrepl() -> bool:
    """Whether its reader is in the middle of a line, in this thread."""
    # Not always directly: another hook may stand between. While other code runs, the reader doesn't.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "_pyrepl.reader":
            return True
        frame = frame.f_back
    return False


class PyRepl:
    """A `LineEditor`."""

    asks_once = False

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self._console = reader.console
        self._attributes: list[Any] | None = None
        self._prompts: dict[str, Any] = {}

    def has_news(self) -> bool:
        # It reads ahead: keys in its own buffer don't make stdin readable. Nor does a resized window.
        with contextlib.suppress(AttributeError, TypeError):
            return bool(self._console.wait(0))
        return False

    def begin_callbacks(self) -> None:
        # It clears OPOST, so that a bare \n would leave the column as it is.
        self._attributes = termios.tcgetattr(STDIN)
        cooked = list(self._attributes)
        cooked[1] |= termios.OPOST | termios.ONLCR
        termios.tcsetattr(STDIN, termios.TCSANOW, cooked)
        # `input()` would set its prompt, and read into the very line that is being typed.
        with contextlib.suppress(AttributeError):
            self._prompts = {name: getattr(self._reader, name) for name in PROMPTS}
            self._reader.readline = functools.partial(_read_unless_reading, self._reader)

    def end_callbacks(self) -> None:
        with contextlib.suppress(AttributeError):
            del self._reader.readline
        for name, value in self._prompts.items():
            setattr(self._reader, name, value)
        if self._attributes is not None:
            termios.tcsetattr(STDIN, termios.TCSANOW, self._attributes)

    def erase(self) -> None:
        with contextlib.suppress(AttributeError):
            _, row = self._reader.cxy
            offset = _private(self._console, "offset") or 0
            up = b"\x1b[%dA" % (row - offset) if row > offset else b""
            os.write(1, up + b"\r\x1b[J")

    def redraw(self) -> None:
        with contextlib.suppress(AttributeError):
            console = self._console
            console.screen = []
            _set_private(console, "posxy", (0, 0))
            _set_private(console, "offset", 0)
            cache = getattr(self._reader, "last_refresh_cache", None)
            if cache is not None:
                cache.invalidated = True
            self._reader.refresh()


def _read_unless_reading(reader: Any, *arguments: Any, **options: Any) -> Any:
    """In the place of `reader.readline`. Should a Ctrl-C leave it there, or another thread call it, it does no harm."""
    if is_called_by_pyrepl():
        raise RuntimeError("can't re-enter readline")  # what CPython says at its other prompts
    return type(reader).readline(reader, *arguments, **options)


def _names(attribute: str) -> tuple[str, str]:
    return attribute, f"_UnixConsole__{attribute}"  # public in later versions


def _private(console: Any, attribute: str) -> Any:
    return next((getattr(console, name) for name in _names(attribute) if hasattr(console, name)), None)


def _set_private(console: Any, attribute: str, value: object) -> None:
    for name in _names(attribute):
        if hasattr(console, name):
            setattr(console, name, value)
