"""Callbacks at CPython's own prompts: with readline, without, and the one of 3.13 and later. `input()` is one, too.

All of them call the C function in `PyOS_InputHook` before they wait for a key. Ours waits for the key itself, and runs
callbacks meanwhile. Thread: main.
"""

from __future__ import annotations

import _thread
import ctypes
import itertools
import logging
import select
import signal
import threading
import time
from collections.abc import Iterator

from portico.pumps.guests import Guests
from portico.pumps.line_editor import LineEditor, Printing, current_line_editor
from portico.pumps.prompt import STDIN, Source

logger = logging.getLogger("portico")

# So often we ask the line editor for news, and notice signals that came to another thread.
SLICE_S = 0.25
GUESTS_SLICE_S = 0.01  # Tk's own hook looks every 20 ms
INTERRUPT_DELAY_S = 0.002
INTERRUPT_PAUSE_S = 0.05

_HOOK = ctypes.CFUNCTYPE(ctypes.c_int)

_idle: list[_Hook] = []  # for the next server
_buried: list[_Hook] = []  # below a hook of somebody else, who may call them


class InputHook:
    """A source that lives in the hook, from now until `close`."""

    def __init__(self, source: Source) -> None:
        self._hook: _Hook | None = _idle.pop() if _idle else _Hook()
        self._hook.install(source)

    def close(self) -> None:
        """Put the hook back that was there before, unless somebody has put another over ours. Idempotent."""
        hook, self._hook = self._hook, None
        if hook is not None:
            (_idle if hook.remove() else _buried).append(hook)

    abandon = close


class _Hook:
    """What C calls. Never freed: it may be on the stack when it is removed, or saved by who has put another over it."""

    def __init__(self) -> None:
        self._source: Source | None = None
        self._guests = Guests()
        self._slot = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
        # What is called must not run any Python outside a `try`: that is where a pending Ctrl-C would be raised, into
        # ctypes, which drops it. A generator that resumes inside one is safe; should it end all the same, `chain`
        # makes another.
        calls = itertools.chain.from_iterable(iter(self._calls, None))
        next(calls)
        self._function = _HOOK(calls.__next__)
        self._address = _address_of(self._function)
        self._pause = _address_of(ctypes.pythonapi.Py_IsInitialized)  # a C function that does nothing

    def install(self, source: Source) -> None:
        self._source = source
        self._guests.previous = self._slot.value
        self._slot.value = self._address

    def remove(self) -> bool:
        """Do nothing from now on but what the hook before did; whether that is in its place again."""
        self._source = None
        if self._slot.value not in (self._address, self._pause):
            return False
        self._slot.value = self._guests.previous
        self._guests.leave(self._slot)
        return True

    def _calls(self) -> Iterator[int]:
        """One step per call of the hook."""
        is_interrupted = False
        while True:
            try:
                if is_interrupted:
                    self._repeat_interrupt()
                    is_interrupted = False
                yield 0
                self._call()
            except KeyboardInterrupt:
                is_interrupted = True
            except GeneratorExit:
                return
            except BaseException:
                logger.exception("the prompt could not run callbacks")

    def _call(self) -> None:
        source = self._source
        if source is None or source.is_busy or threading.current_thread() is not threading.main_thread():
            self._guests.call_previous()
            return
        source.touch()
        fileno = source.watched_fileno()
        editor = current_line_editor()
        poll = select.poll()
        poll.register(STDIN, select.POLLIN)
        poll.register(fileno, select.POLLIN)
        has_guests, until = False, 0.0
        while self._source is source and not editor.has_news():
            # Not before every batch: Tk looks with the help of another thread, which may take longer than the batch.
            if not has_guests or until <= time.monotonic():
                has_guests = self._guests.run()
                until = time.monotonic() + (GUESTS_SLICE_S if has_guests else SLICE_S)
            ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
            if fileno in ready:
                self._turn(source, editor)
            if STDIN in ready:
                return

    def _turn(self, source: Source, editor: LineEditor) -> None:
        # A callback that reads a line itself must not come back here.
        is_ours = self._slot.value == self._address
        if is_ours:
            self._slot.value = self._pause
        try:
            with Printing(editor):
                self._run(source)
        finally:
            if is_ours and self._slot.value == self._pause and self._source is not None:
                self._slot.value = self._address

    def _run(self, source: Source) -> None:
        try:
            source.turn(0)
        except KeyboardInterrupt:
            logger.warning("Ctrl-C interrupted a callback", exc_info=True)
            raise
        except SystemExit:
            logger.exception("a callback called sys.exit(), which can't end a prompt")

    def _repeat_interrupt(self) -> None:
        """Make the prompt see the Ctrl-C that came while the hook waited.

        What reads the line can't get an exception from a hook. It has to be interrupted in its own waiting, once the
        hook has returned, and without a hook in Python, which would be where the exception is raised again; unless it
        calls the hook for the next line only, and must then find ours.
        """
        if not callable(signal.getsignal(signal.SIGINT)):
            logger.error("a callback raised KeyboardInterrupt", exc_info=True)
            return
        if self._slot.value == self._address and not current_line_editor().asks_once:
            self._slot.value = self._pause
        _thread.start_new_thread(self._interrupt_again, ())  # Thread.start() would wait, and be interrupted

    def _interrupt_again(self) -> None:
        """Thread: one of its own. A signal that comes too early stays pending; the hook gets it, and we try again."""
        main = threading.main_thread().ident
        assert main is not None
        time.sleep(INTERRUPT_DELAY_S)
        signal.pthread_kill(main, signal.SIGINT)
        time.sleep(INTERRUPT_PAUSE_S)
        if self._slot.value == self._pause and self._source is not None:
            self._slot.value = self._address


def _address_of(function: ctypes._FuncPointer) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value
