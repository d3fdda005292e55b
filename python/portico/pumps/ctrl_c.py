"""Ctrl-C in a callback, where it is a key, and where a signal only tells a loop: it interrupts, and no handler changes.

While a callback runs, the terminal makes a signal of the key, and the signal's number goes into a pipe of ours instead
of the loop's. A thread that sleeps there raises KeyboardInterrupt in the main one. Thread: main, but for `_watch`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

from portico.pumps.prompt import STDIN

# Who presses Ctrl-C sooner has not seen that anything hangs, and means the line that is being typed.
HANGS_AFTER_S = 0.1
# The first push may come just before a system call that waits for ever.
PUSHES = 3
PUSH_EVERY_S = 0.05

# An object of our own, because ctypes.pythonapi's is everybody's.
_set_exception = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class CtrlC:
    """Lets Ctrl-C interrupt what it runs, until `close`. Not if the program ignored SIGINT when this was made."""

    def __init__(self, press: Callable[[], None]) -> None:
        """`press`: called where Ctrl-C was for the line that is being typed."""
        self._press = press
        self._is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup = -1  # the loop's descriptor, while ours is in its place
        self._lock = threading.Lock()  # for what follows; never held while anything waits
        self._is_armed = False  # whether the thread may raise
        self._is_pressed = False  # and nobody has been told yet
        self._others = bytearray()  # signals that the loop has yet to hear of
        self._is_running = False
        self._began = 0.0
        self._is_pushed = False
        self._is_over = False
        threading.Thread(target=self._watch, name="portico-ctrl-c", daemon=True).start()

    def run(self, job: Callable[[], object]) -> None:
        """Call `job`. Raises: KeyboardInterrupt, and what `job` raises."""
        if self._is_ignored:
            job()
            return
        keys = termios.tcgetattr(STDIN)
        self._wakeup = signal.set_wakeup_fd(self._writer)
        self._is_running = True
        self._began = time.monotonic()
        try:
            termios.tcsetattr(STDIN, termios.TCSANOW, _with_ctrl_c(keys))
            self._is_armed = True
            job()
        finally:
            # No `with`: leaving one runs Python, which might be interrupted before it gets here.
            try:
                self._is_armed = False
                self._settle()
            except KeyboardInterrupt:  # there is nothing left to interrupt
                self._settle()
            try:
                termios.tcsetattr(STDIN, termios.TCSANOW, keys)
            finally:
                self._hand_back()

    def close(self) -> None:
        """End the thread; a job that runs ends first. Idempotent."""
        self._is_over = True
        if not self._is_running and self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def abandon(self) -> None:
        """As `close`, in a forked child, where there is no thread, and where signals are not the parent's."""
        self._lock = threading.Lock()
        self._is_armed = False
        if self._is_running:
            self._wakeup = -1
            signal.set_wakeup_fd(-1)
        if self._writer >= 0:
            os.close(self._reader)
            self._reader = -1
        self.close()

    def _settle(self) -> None:
        """Return when the thread raises nothing any more. Raises: KeyboardInterrupt, if it has just done so."""
        with self._lock:
            pass
        _set_exception(_main_thread_id(), ctypes.py_object())

    def _hand_back(self) -> None:
        """The loop hears of signals again, also of those that came meanwhile."""
        self._is_running = False
        if self._is_pushed:
            self._is_pushed = False
            signal.siginterrupt(signal.SIGWINCH, False)
        signal.set_wakeup_fd(self._wakeup)
        with self._lock:
            self._read(self._reader)
            others, is_pressed = bytes(set(self._others)), self._is_pressed
            self._others.clear()
            self._is_pressed = False
        if others and self._wakeup >= 0:
            with contextlib.suppress(BlockingIOError):  # the loop has enough to read
                os.write(self._wakeup, others)
        if is_pressed and time.monotonic() - self._began < HANGS_AFTER_S:
            self._press()
        if self._is_over:
            self.close()

    def _read(self, reader: int) -> bool:
        """Take what is in the pipe, with the lock held; False at its end."""
        if reader < 0:
            return False
        try:
            numbers = os.read(reader, 512)
        except BlockingIOError:
            return True
        self._is_pressed |= signal.SIGINT in numbers
        self._others += numbers.replace(bytes([signal.SIGINT]), b"")
        return bool(numbers)

    def _watch(self) -> None:
        """Thread: its own."""
        reader = self._reader
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        is_open = True
        while is_open:
            poll.poll()
            with self._lock:
                is_open = self._read(reader)
                is_pressed = self._is_armed and self._is_pressed
            if is_pressed:
                self._interrupt()
        os.close(reader)

    def _interrupt(self) -> None:
        """Raise it where Python runs, and push what waits in a system call, so that it sees that. Thread: `_watch`'s.

        What pushes is a signal, if it has a handler in Python. The window's size, which the loop looks for, is always
        right to look at. The loop lets system calls go on after signals, those that wait for a lock or a socket, too:
        this one must not, until the job has ended.
        """
        time.sleep(max(0.0, self._began + HANGS_AFTER_S - time.monotonic()))
        with self._lock:
            if not (self._is_armed and self._is_pressed):
                return
            self._is_pressed = False
            _set_exception(_main_thread_id(), KeyboardInterrupt)
        for _ in range(PUSHES):
            with self._lock:
                if not (self._is_armed and callable(signal.getsignal(signal.SIGWINCH))):
                    return
                self._is_pushed = True
                signal.siginterrupt(signal.SIGWINCH, True)
                signal.pthread_kill(_main_thread_id(), signal.SIGWINCH)
            time.sleep(PUSH_EVERY_S)


def _with_ctrl_c(keys: list[Any]) -> list[Any]:
    """Terminal modes in which Ctrl-C, and no other key, is a signal, and takes nothing away that was typed before."""
    changed = [*keys[:6], list(keys[6])]
    changed[3] |= termios.ISIG | termios.NOFLSH
    for key in (termios.VQUIT, termios.VSUSP):
        changed[6][key] = b"\0"
    return changed


def _main_thread_id() -> int:
    ident = threading.main_thread().ident
    assert ident is not None
    return ident
