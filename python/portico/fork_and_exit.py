"""What becomes of the homes of a process when it forks, and when it exits.

Thread: whichever forks; the main one at exit; any for the rest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from portico.lateness import late_watch

if TYPE_CHECKING:
    from portico.home import Home

EXIT_S = 1.0

_homes: weakref.WeakSet[Home] = weakref.WeakSet()
_lock = threading.Lock()  # held across a fork
_is_watching = False
_forking: list[Home] = []


def watch_process(home: Home) -> None:
    """Tell `home` when the process forks or exits, for as long as somebody holds it."""
    global _is_watching
    with _lock:
        _homes.add(home)
        if not _is_watching:
            _is_watching = True
            os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
            atexit.register(_at_exit)


def every_home() -> list[Home]:
    """All that are watched, in no order."""
    # Without the lock: a signal handler that interrupts may have come while this very thread holds it.
    while True:
        try:
            return list(_homes)
        except RuntimeError:  # another thread has made one meanwhile
            continue


def _before_fork() -> None:
    _lock.acquire()
    _forking[:] = [home for home in _homes if home.is_alive]
    for home in _forking:
        home.core.before_fork()


def _after_in_parent() -> None:
    for home in _forking:
        home.core.after_fork_in_parent()
    _forking.clear()
    _lock.release()


def _after_in_child() -> None:
    late_watch.die_in_child()
    for home in _forking:
        home.die_in_child()
    _forking.clear()
    _lock.release()


def _at_exit() -> None:
    """Give every thread of ours the rest of one second, then cut what is left."""
    deadline = time.monotonic() + EXIT_S
    for home in every_home():
        home.is_exiting = True
    threads = [home for home in every_home() if home.has_own_thread and home.is_alive]
    for home in threads:
        home.leave()
    for home in threads:
        with contextlib.suppress(RuntimeError):  # a daemon thread is just about to start it
            home.thread.join(max(0.0, deadline - time.monotonic()))
    for other in every_home():
        other.is_exiting = True  # those that have come meanwhile, too
        other.close()
