"""What callbacks print at a prompt goes above the line that is being typed, which is shown again below it.

That takes the help of whoever shows that line: readline, the prompt of Python 3.13 and later, or nobody. Thread: main.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
from types import TracebackType
from typing import Any, Protocol, TextIO

from portico.pumps.prompt import STDIN
from portico.pumps.pyrepl import PyRepl, is_called_by_pyrepl


class LineEditor(Protocol):
    """Whoever shows the line that is being typed."""

    @property
    def asks_once(self) -> bool:
        """Whether it calls the input hook once for each line, and not again while it waits for keys."""

    def has_news(self) -> bool:
        """Whether it has something to do although no key waits in stdin."""

    def begin_callbacks(self) -> None:
        """Make the terminal fit for ordinary output. From now on, to read another line is a RuntimeError."""

    def end_callbacks(self) -> None:
        """Make everything as it was before `begin_callbacks`."""

    def erase(self) -> None:
        """Take the line off the screen; the cursor is in the first column then."""

    def redraw(self) -> None:
        """Show it again, below whatever was printed; the cursor is in the first column."""


def current_line_editor() -> LineEditor:
    """The one that called the input hook."""
    pyrepl = sys.modules.get("_pyrepl.readline")
    if pyrepl is not None and is_called_by_pyrepl():
        return PyRepl(pyrepl._get_reader())
    # Without a terminal for its output, Python doesn't use readline.
    if "readline" in sys.modules and os.isatty(1):
        return Readline()
    return Plain()


class Plain:
    """The terminal itself edits the line, and shows it only once."""

    asks_once = True

    def has_news(self) -> bool:
        return False

    def begin_callbacks(self) -> None:
        pass  # CPython itself refuses to read another line

    def end_callbacks(self) -> None:
        pass

    def erase(self) -> None:
        os.write(1, b"\n")

    def redraw(self) -> None:
        pass


class Readline(Plain):
    """GNU readline, or libedit under its name."""

    asks_once = False

    def __init__(self) -> None:
        self._size = _window_size()

    def has_news(self) -> bool:
        return _window_size() != self._size

    def erase(self) -> None:
        library = _readline_library()
        if hasattr(library, "rl_clear_visible_line"):  # GNU readline 7 and later
            library.rl_clear_visible_line()
            _flush_c_streams()
        else:
            os.write(1, b"\r\x1b[K")

    def redraw(self) -> None:
        library = _readline_library()
        library.rl_on_new_line()
        library.rl_redisplay()
        _flush_c_streams()


def _window_size() -> os.terminal_size | None:
    with contextlib.suppress(OSError):
        return os.get_terminal_size(STDIN)
    return None


@functools.cache
def _readline_library() -> ctypes.CDLL:
    import readline

    return ctypes.CDLL(readline.__file__)  # symbols of the libraries it is linked with count as its own


def _flush_c_streams() -> None:
    ctypes.CDLL(None).fflush(None)


class Printing:
    """A `with` block whose prints, if any, find the line that is being typed erased, and after which it is redrawn.

    Only what goes through `sys.stdout` and `sys.stderr` is seen. They stay the objects they are, because loggers keep
    them; their `write` is covered meanwhile.
    """

    def __init__(self, editor: LineEditor) -> None:
        self._editor = editor
        self._covered: list[TextIO] = []
        self._last = ""

    def __enter__(self) -> None:
        self._editor.begin_callbacks()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # None, or something that isn't a file at all
                if stream.isatty() and "write" not in vars(stream):
                    stream.write = functools.partial(self._write, stream.write)  # type: ignore[method-assign]
                    self._covered.append(stream)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            for stream in self._covered:
                del stream.write
            if self._last:
                for stream in self._covered:
                    stream.flush()
                if self._last != "\n":
                    os.write(1, b"\n")
        finally:
            self._editor.end_callbacks()
        if self._last:
            self._editor.redraw()

    def _write(self, write: Any, text: str) -> int:
        if text and threading.current_thread() is threading.main_thread():
            if not self._last:
                self._editor.erase()
            self._last = text[-1:]
        return int(write(text))
