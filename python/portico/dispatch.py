"""From a batch to calls: who gets which kind of event. *When* is the pumps' business.

Knows no sockets and no loops: it gets batches, gives commands, and hands unfinished work to the Home. What a request
or a WebSocket does with its events is in `http_dispatch.py` and `websocket_dispatch.py`. Thread: home.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from portico._core import (
    ARRIVED,
    CLOSED,
    CONNECTED,
    DRAINED,
    FAILED,
    GONE,
    HEAD,
    LOGGED,
    OPEN,
    REQUEST,
    STOPPED,
    TROUBLE,
)
from portico.http_dispatch import HttpDispatcher
from portico.lateness import LATE_S
from portico.unfinished import Future, Job, Unfinished
from portico.websocket_dispatch import WebSocketDispatcher

if TYPE_CHECKING:
    from portico._core import Batch, Core, LogParts
    from portico.site import Site

logger = logging.getLogger("portico")


class Dispatcher:
    """Batches into calls. `spawn` and `defer` are what `Unfinished` takes."""

    def __init__(self, core: Core, spawn: Callable[[object], Future], defer: Callable[[Job], None]) -> None:
        self.sites: dict[int, Site] = {}
        self._unfinished = Unfinished(spawn, defer)
        self._http = http = HttpDispatcher(core, self.sites, self._unfinished)
        self._websockets = websockets = WebSocketDispatcher(core, self.sites, self._unfinished)
        self.sockets = websockets.sockets
        self.callers = websockets.callers
        self.was_late = False  # and somebody has been told
        self._handlers: dict[int, Callable[[int, Any], None]] = {  # for all kinds but MESSAGE
            HEAD: http.head,
            REQUEST: http.request,
            ARRIVED: http.arrived,
            GONE: http.gone,
            DRAINED: self._drained,
            OPEN: websockets.open,
            CLOSED: websockets.closed,
            CONNECTED: websockets.connected,
            FAILED: websockets.failed,
            LOGGED: self._logged,
            TROUBLE: self._trouble,
            STOPPED: self._stopped,
        }

    def run(self, batch: Batch) -> int:
        """Handle the events of `batch`; return how many it gave. KeyboardInterrupt and SystemExit pass through."""
        try:
            if not len(batch):
                return 0
            if not self.was_late and batch.waited_s > LATE_S:
                self.warn_late(batch.waited_s)
            self._websockets.handle(batch, self._handlers)
            return batch.ran
        finally:
            # A traceback that somebody keeps (the prompt does) keeps this frame. The batch must not live that long:
            # the events it still holds go back to the mailbox only when it is dropped.
            del batch

    def warn_late(self, waited_s: float) -> None:
        """Tell, once, that events wait for longer than a thread should need. Any thread."""
        if self.was_late:
            return
        self.was_late = True
        logger.warning(
            "events have waited %.1f s for their callbacks. These run when the thread that started the server is idle "
            "in a running asyncio loop or at the prompt, or inside portico.service(), server.serve() or run_server(); "
            "callbacks='thread' runs them on a thread of their own",
            waited_s,
        )

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` was closed under what it had not finished: end that as if the loop had cancelled it."""
        self._http.abandon(loop)
        self._unfinished.abandon(loop)

    def close(self) -> None:
        """No batch will come any more."""
        self._http.close()
        self._handlers.clear()  # methods of this object, which would keep it alive

    def _drained(self, number: int, _: None) -> None:
        if number in self._http.streams:
            self._http.drained(number)
        else:
            self._websockets.drained(number)

    def _logged(self, number: int, parts: LogParts) -> None:
        site = self.sites.get(number)
        if site is None or site.log is None:
            return
        try:
            site.log(parts)
        except Exception:  # a handler or filter of the application's
            logger.exception("the access log raised")

    def log_rest(self, records: Sequence[tuple[int, LogParts]], timeout: float) -> None:
        """Log what no batch brought, as far as that takes no longer than `timeout` seconds. Any thread."""
        deadline = time.monotonic() + timeout
        for index, (number, parts) in enumerate(records):
            if time.monotonic() >= deadline:
                logger.warning("%d records of the access log were lost: the process ends", len(records) - index)
                return
            self._logged(number, parts)

    def _trouble(self, _: int, text: str) -> None:
        logger.error("%s", text)

    def _stopped(self, number: int, _: None) -> None:
        self._unfinished.after_started(partial(self._forget, number))

    def _forget(self, number: int) -> None:
        site = self.sites.pop(number, None)
        if site is not None:
            site.on_stopped()
