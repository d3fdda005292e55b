"""Notices that events wait and nobody takes them, which in a script that services nothing no other code of ours would.

One daemon thread for the whole process. It sleeps until a mailbox has something that its home did not find itself, and
then for a second. Thread: any; `tell` runs on that daemon thread.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portico._core import Core

LATE_S: Final = 1.0

# Each mailbox is heard of once and then asked for again: what a busy thread leaves there costs one look a second.
_ONCE = select.EPOLLIN | select.EPOLLONESHOT


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Where events may wait, and whom to tell once they have waited for long."""

    core: Core
    tell: Callable[[float], None]


class LateWatch:
    """Tells, once for each mailbox, that an event has waited for `LATE_S`.

    The kernel's set of descriptors and a dictionary are all that threads share here; `forget` takes no lock, because
    the interpreter may end and freeze the thread that has it.
    """

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._epoll: select.epoll | None = None
        self._mailboxes: dict[int, Mailbox] = {}  # by descriptor

    def watch(self, core: Core, tell: Callable[[float], None]) -> None:
        """Watch this core's mailbox from now on, until it has been late once."""
        with self._starting:
            if self._epoll is None:
                epoll = select.epoll()
                try:
                    threading.Thread(target=self._run, args=(epoll,), name="portico-late", daemon=True).start()
                except RuntimeError:  # the interpreter ends: nobody will wait for long
                    epoll.close()
                    return
                self._epoll = epoll
        fileno = core.mailbox_fileno()
        self._mailboxes[fileno] = Mailbox(core, tell)
        self._epoll.register(fileno, _ONCE)

    def forget(self, core: Core) -> None:
        """Watch this core no more; it may be closed then. Idempotent."""
        for fileno, mailbox in list(self._mailboxes.items()):
            if mailbox.core is core:
                self._drop(fileno)

    def die_in_child(self) -> None:
        """After a fork, in the child: the thread is not here, and the epoll set is the parent's. Nothing else runs."""
        self._starting = threading.Lock()
        self._mailboxes.clear()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def _run(self, epoll: select.epoll) -> None:
        due: dict[int, float] = {}
        while True:
            timeout = max(0.0, min(due.values()) - time.monotonic()) if due else None
            for fileno, _ in epoll.poll(timeout):
                due[fileno] = time.monotonic() + LATE_S
            now = time.monotonic()
            for fileno in [fileno for fileno, at in due.items() if at <= now]:
                due.pop(fileno)
                left_s = self._look(epoll, fileno)
                if left_s is not None:
                    due[fileno] = now + left_s

    def _look(self, epoll: select.epoll, fileno: int) -> float | None:
        """Tell if it is late; otherwise say how long it may still take, or wait for the next event."""
        mailbox = self._mailboxes.get(fileno)
        if mailbox is None:
            return None
        waited_s = mailbox.core.oldest_s()
        if waited_s >= LATE_S:
            self._drop(fileno)
            mailbox.tell(waited_s)
        elif waited_s > 0:
            return LATE_S - waited_s
        else:
            with contextlib.suppress(OSError):  # forgotten meanwhile
                epoll.modify(fileno, _ONCE)
        return None

    def _drop(self, fileno: int) -> None:
        if self._mailboxes.pop(fileno, None) is not None and self._epoll is not None:
            with contextlib.suppress(OSError):  # its core is closed
                self._epoll.unregister(fileno)


late_watch = LateWatch()  # for all homes of the process
