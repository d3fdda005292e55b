"""The one descriptor that a foreign loop watches: readable for events, and when coroutine handlers can go on.

An epoll over the core's descriptor and, while coroutines are pending, the private loop's and a timer. Thread: home.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
import weakref
from functools import cache

_DAY_S = 86400.0


class Descriptor:
    """Watch `fileno()`, never read it. What is `arm`ed keeps it readable, once due, until `arm` or `disarm`."""

    def __init__(self, source: int) -> None:
        self._source = source
        self.is_muted = False
        self._epoll = select.epoll()
        self._epoll.register(source, select.EPOLLIN)
        self._timer: int | None = None
        self._armed: int | None = None  # the private loop's descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._epoll.fileno()

    def arm(self, source: int, seconds: float | None) -> None:
        """Be readable when `source` is, and in `seconds` (None: never), whatever was armed before. Raises: OSError."""
        if self.is_muted:
            return
        if self._timer is None:
            self._timer = _make_timer()
            self._close_timer = weakref.finalize(self, os.close, self._timer)
            self._epoll.register(self._timer, select.EPOLLIN)
        if self._armed != source:
            self._disarm_source()
            self._epoll.register(source, select.EPOLLIN)
            self._armed = source
        _set_timer(self._timer, seconds)

    def disarm(self) -> None:
        """Only the core counts. To be called before what was armed is closed."""
        if self._armed is not None and self._timer is not None:
            self._disarm_source()
            _set_timer(self._timer, None)

    def mute(self) -> None:
        """Be unreadable, whatever comes, until `unmute`. Idempotent."""
        if not self.is_muted:
            self.is_muted = True
            self.disarm()
            self._epoll.unregister(self._source)

    def unmute(self) -> None:
        """The core counts again; what was armed has to be armed again. Idempotent."""
        if self.is_muted:
            self.is_muted = False
            self._epoll.register(self._source, select.EPOLLIN)

    def close(self) -> None:
        """Close this process's copies, also in a forked child: the parent's set loses nothing by that. Idempotent."""
        self._epoll.close()
        if self._timer is not None:
            self._close_timer()
        self._timer = self._armed = None

    def _disarm_source(self) -> None:
        if self._armed is not None:
            self._epoll.unregister(self._armed)
            self._armed = None


class _Timerspec(ctypes.Structure):
    """`struct itimerspec`: the interval, which is 0 for once, and the time."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "s", "ns")]


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _make_timer() -> int:
    # os.timerfd_create is new in 3.13.
    timer: int = _libc().timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    if timer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return timer


def _set_timer(timer: int, seconds: float | None) -> None:
    """Make `timer` readable in `seconds`, or in a day if that is sooner, and not before; None switches it off."""
    nanoseconds = 0 if seconds is None else max(1, int(min(seconds, _DAY_S) * 1e9))  # the system's own off is 0
    spec = _Timerspec(0, 0, *divmod(nanoseconds, 10**9))
    if _libc().timerfd_settime(timer, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
