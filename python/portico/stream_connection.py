"""What `handler_stream` hands to its callbacks: an answer that the app sends when it has something to say.

Nothing waits here: a piece is taken or it isn't. Thread: any for whatever sends; what the client does is told on the
home thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from portico._core import FULL, SENT
from portico.pull import cancel, settle
from portico.response_fields import check_fields, check_status, read_fields, read_length
from portico.websocket_connection import RESULTS, AnyPlainListener, PlainListener, SendResult

if TYPE_CHECKING:
    from portico._core import Core
    from portico.request import Request
    from portico.response_fields import FieldList


class StreamConnection:
    """One answer under way. `send` and `close` never block, and never raise for what the client does.

    The answer ends with `close()`, not with the callback; whoever keeps this object may send, from any thread. When it
    has ended, a coroutine callback that still runs is cancelled, unless it was the one that closed it.
    """

    def __init__(self, core: Core, number: int, request: Request, on_over: Callable[[StreamConnection], None]) -> None:
        self._core = core
        self._number = number
        self._id = core.new_number()
        self._request = request
        self._on_over = on_over
        self._status = 200
        self._fields: FieldList = []
        self._has_begun = False
        self._is_closed = False  # by the app
        self._is_complete = False  # with its head: what HEAD asks for has no body; or the client has left
        self._is_over = False
        self._closes_itself = False  # the coroutine has closed it, and may have more to do
        self._drainers: tuple[PlainListener, ...] = ()
        self._waiters: list[asyncio.Future[bool]] = []
        # The connection's number is the next answer's as soon as this one has ended, so nothing is sent beside the end.
        # Reentrant: signal handlers may send, too.
        self._lock = threading.RLock()
        self.task: asyncio.Future[object] | None = None

    @property
    def id(self) -> int:
        """A number of its own: no other stream or WebSocket of the process has it, or will have it."""
        return self._id

    @property
    def request(self) -> Request:
        """What was asked."""
        return self._request

    @property
    def is_open(self) -> bool:
        """Whether something can still be sent."""
        return not (self._is_closed or self._is_complete or self._is_over)

    # Sending

    def set_status(self, code: int) -> None:
        """The status of the answer, in place of 200. Raises: TypeError, ValueError; RuntimeError after `send`."""
        code = check_status(code)
        with self._lock:
            self._check_not_begun("set_status()")
            self._status = code

    def set_header(self, name: str, value: str | list[str]) -> None:
        """One header of the answer, in place of what it was; a list repeats it. Raises: as `set_status`."""
        fields = check_fields(read_fields([(name, value)]))
        with self._lock:
            self._check_not_begun("set_header()")
            others = [field for field in self._fields if field[0].lower() != name.lower()]
            self._fields = others + fields

    def send(self, data: str | bytes | bytearray | memoryview) -> SendResult:
        """Send a piece now; with the first one go status and headers. `str` is sent as UTF-8.

        Returns: SENT; FULL if it doesn't fit into `max_outbox_bytes` with what is queued: it was not taken, see `drain`
        and `on_drain`; CLOSED after `close()`, or if the client has left. Raises: TypeError; ValueError for headers
        that HTTP cannot carry.
        """
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"data must be str or bytes, not {type(data).__name__} ({data!r})")
        with self._lock:
            if self._is_closed or not self._begin():
                return SendResult.CLOSED
            taken = self._core.offer(self._number, data)
            if taken == FULL and self._drainers:
                self._core.resume(self._number)
        return RESULTS[taken]

    def close(self) -> SendResult:
        """End the answer: the client has all of it. Returns: SENT, or CLOSED if it was over before."""
        with self._lock:
            if not self.is_open:
                return SendResult.CLOSED
            goes_on = self._begin()
            self._is_closed = True
            self._closes_itself = self.task is not None and self.task is _current_task()
            is_whole = goes_on and self._core.finish(self._number, ())
        return SendResult.SENT if is_whole else SendResult.CLOSED

    async def drain(self) -> bool:
        """Wait until nothing is queued for the client any more. True; False if the answer ended first."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            if not self.is_open:
                return False
            if not self._has_begun:
                return True
            self._waiters.append(waiter)
            self._core.resume(self._number)
        try:
            return await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def on_drain(self, f: AnyPlainListener) -> AnyPlainListener:
        """Call `f()` each time that a piece was FULL and everything has left: go on sending."""
        if not callable(f):
            raise TypeError(f"on_drain needs a function without arguments, not {type(f).__name__}")
        self._drainers += (f,)
        return f

    def __repr__(self) -> str:
        state = "over" if self._is_over else "closed" if self._is_closed else "open"
        return f"<StreamConnection {self._id} {self._request.uri} {state}>"

    # What the dispatcher tells

    def drained(self) -> None:
        """The client has taken everything."""
        self._settle_waiters(True)
        for listener in self._drainers:
            listener()

    def gone(self) -> None:
        """The answer is over: the client left, or has all of it."""
        with self._lock:
            if self._is_over:
                return
            self._abort()  # it may have closed only its half, and wait for the rest, which won't come
            self._is_over = True
        self._settle_waiters(False)
        if self.task is not None and not self._closes_itself:
            cancel(self.task)
        self._drainers = ()
        self._on_over(self)

    @property
    def has_begun(self) -> bool:
        """Whether the client has been told the status."""
        return self._has_begun

    def abort(self) -> None:
        """End what has begun so that the client sees that it is not whole."""
        with self._lock:
            self._abort()

    def _abort(self) -> None:
        if self._has_begun and self.is_open:
            self._core.abort(self._number)
            self._is_complete = True

    def _begin(self) -> bool:
        """Send the head, once. False: nothing more can be sent."""
        if not self._has_begun and not self._is_over:
            length = read_length(self._fields)
            begun = self._core.begin(self._number, self._status, None, self._fields, length, tells_end=True)
            self._has_begun = True
            self._is_complete = begun != SENT
        return self.is_open

    def _check_not_begun(self, what: str) -> None:
        if self._has_begun:
            raise RuntimeError(f"{what} after the headers have been sent, which the first send() does")

    def _settle_waiters(self, result: bool) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            settle(waiter, result)


def _current_task() -> object:
    # current_task() raises where no loop runs.
    return None if asyncio._get_running_loop() is None else asyncio.current_task()
