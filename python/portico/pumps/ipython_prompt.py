"""Callbacks at IPython's prompt on a terminal, which is an asyncio program of its own: a new loop for every prompt.

Ours is one more descriptor in that loop. So `%gui` stays free for Tk, Qt and the others, whose loops IPython lets run
only until something in its own is ready. Thread: main.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

from portico.pumps.ctrl_c import CtrlC
from portico.pumps.prompt import Source

logger = logging.getLogger("portico")

RETRY_S = 0.01


class IPythonPrompt:
    """Joins the loop of every prompt when it begins, until `close`."""

    def __init__(self, source: Source, shell: Any) -> None:
        self._source = source
        self._shell = shell
        self._fileno = source.watched_fileno()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ctrl_c = CtrlC(self._press_ctrl_c)
        self._started = shell.pt_app.app.on_reset
        self._started += self._join

    def close(self) -> None:
        """Leave the loop, and don't join the next."""
        self._started -= self._join
        self._ctrl_c.close()
        self._leave()

    def abandon(self) -> None:
        """As `close`, in a forked child, which must not touch a loop that it has in common with its parent."""
        self._loop = self._timer = None
        self._ctrl_c.abandon()
        self.close()

    def _join(self, _: object) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._shell.active_eventloop == "asyncio":
            self._source.touch()  # `%gui asyncio`: the prompt is a guest in the loop that coroutines in cells have
        elif loop is not self._loop:
            self._leave()
            self._loop = loop
            self._watch()

    def _leave(self) -> None:
        loop, self._loop = self._loop, None
        if self._timer is not None:
            self._timer.cancel()
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._fileno)

    def _watch(self) -> None:
        assert self._loop is not None
        self._loop.add_reader(self._fileno, self._run)

    def _run(self) -> None:
        assert self._loop is not None
        if self._source.is_busy:  # a callback runs a prompt of its own; don't spin meanwhile
            self._loop.remove_reader(self._fileno)
            self._timer = self._loop.call_later(RETRY_S, self._watch)
            return
        try:
            with _outside_loop(self._loop):
                self._ctrl_c.run(partial(self._source.turn, 0))
        except KeyboardInterrupt:
            logger.warning("Ctrl-C interrupted a callback", exc_info=True)
        except SystemExit:
            logger.exception("a callback called sys.exit(), which can't end a prompt")
        except BaseException:
            logger.exception("the prompt could not run callbacks")

    def _press_ctrl_c(self) -> None:
        """Give the key to the prompt."""
        if self._loop is not None:
            self._loop.call_soon(_press_ctrl_c, self._shell.pt_app.app)


def _press_ctrl_c(app: Any) -> None:
    from prompt_toolkit.key_binding.key_processor import KeyPress
    from prompt_toolkit.keys import Keys

    if app.is_running:
        app.key_processor.feed(KeyPress(Keys.ControlC))
        app.key_processor.process_keys()


@contextlib.contextmanager
def _outside_loop(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Callbacks don't belong to the prompt's loop: they may run one of their own."""
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
