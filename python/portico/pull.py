"""Messages on request: what `async for message in ws` reads from, and how the home thread wakes a coroutine that waits.

Messages count against the inbox while they wait here, so a slow reader slows its client down. Thread: home, except
where a function says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from portico._core import Core

T = TypeVar("T")


def byte_size(message: str | bytes) -> int:
    """How many bytes a message had on its way, and counts against the inbox. Any thread."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())


def settle(waiter: asyncio.Future[T], result: T) -> None:
    """Give a waiting coroutine its result, whichever loop it lives in. Any thread."""
    loop = waiter.get_loop()
    if loop is asyncio._get_running_loop():
        _settle_here(waiter, result)
    else:
        with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle_here, waiter, result)


def cancel(future: asyncio.Future[Any]) -> None:
    """Cancel it, unless its loop is closed: nothing in there will ever go on, and asyncio would raise."""
    if not future.get_loop().is_closed():
        future.cancel()


def _settle_here(waiter: asyncio.Future[T], result: T) -> None:
    if not waiter.done():
        waiter.set_result(result)


class Pull:
    """The messages of one WebSocket that wait for its reader. Made by the first `async for`, or for a client."""

    __slots__ = (
        "_core",
        "_counts",
        "_first",
        "_handled_size",
        "_is_awaited",
        "_is_over",
        "_number",
        "_others",
        "_reader",
        "_waiter",
        "is_ready",
    )

    def __init__(self, core: Core, number: int, is_over: bool, *, is_awaited: bool = False) -> None:
        self._core = core
        self._number = number
        self._is_over = is_over
        self._is_awaited = is_awaited  # somebody will read, though nobody does yet
        self._counts = not is_over  # what is taken counts against the inbox until it is finished
        # Messages with their sizes. The deque only while it is needed: it has 700 bytes, and most readers just wait.
        self._first: tuple[str | bytes, int] | None = None
        self._others: deque[tuple[str | bytes, int]] | None = None
        self._handled_size: int | None = None  # of the message that the reader has and hasn't finished
        self._reader: weakref.ref[Reader] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_ready = is_over
        """Whether `take` has a message, or says that there will be none."""

    def put(self, _binary: bool, message: str | bytes) -> None:
        """Take one message. It is held until its reader asks for the one after it."""
        size = byte_size(message)
        self._core.hold(self._number, size)
        if self._first is None:
            self._first = (message, size)
        elif self._others is None:
            self._others = deque(((message, size),))
        else:
            self._others.append((message, size))
        self.is_ready = True
        if self._waiter is not None:
            settle(self._waiter, None)

    def end(self) -> None:
        """No message will come any more; what waits here can still be read.

        And answered: a close of the peer's, or of our own for what it did wrong, waits until the reader is through. If
        nobody reads any more, it waits no longer.
        """
        self._is_over = self.is_ready = True
        if not self._is_awaited and (self._reader is None or self._reader() is None):
            self._finish()
            self._counts = False
            if self._first is not None:
                for _, size in (self._first, *(self._others or ())):
                    self._core.release(self._number, size)
        if self._waiter is not None:
            settle(self._waiter, None)

    def read(self) -> Reader:
        """A reader, from the next message on. Raises: RuntimeError while another one is in use."""
        reader = Reader(self)
        self.proceed(reader)
        return reader

    def proceed(self, reader: Reader) -> None:
        """`reader` has handled what it got, and wants more. Raises: RuntimeError while another one is in use."""
        self._admit(reader)
        if self._handled_size is not None:
            self._finish()

    def advance(self, reader: Reader) -> str | bytes | None:
        """As `proceed`, and the next message; None if there is none yet. Raises: also StopAsyncIteration.

        For a client's reader this includes an answer that comes at once, which the loop need not wake it for.
        """
        if self.is_ready or not self._is_awaited:
            self.proceed(reader)
            return self.take() if self.is_ready else None
        self._admit(reader)
        message = self._core.answer(self._number, self._handled_size)
        self._handled_size = None if message is None else byte_size(message)
        return message

    def _admit(self, reader: Reader) -> None:
        # A loop that was left drops its reader at once, so one that is alive belongs to a loop that goes on.
        current = None if self._reader is None else self._reader()
        if current is not reader:
            if current is not None:
                raise RuntimeError("another `async for` reads this WebSocket; each message goes to one reader only")
            self._reader = weakref.ref(reader)

    def _finish(self) -> None:
        size, self._handled_size = self._handled_size, None
        if size is not None:
            self._core.release(self._number, size)

    def take(self) -> str | bytes | None:
        """The next message; None if there is none now. Raises: StopAsyncIteration if there will be none."""
        if self._first is None:
            if self._is_over:
                self._reader = None
                raise StopAsyncIteration
            return None
        message, size = self._first
        if self._others is None:
            self._first = None
            self.is_ready = self._is_over
        else:
            self._first = self._others.popleft()
            self._others = self._others or None
        if self._counts:
            self._handled_size = size
        return message

    async def arrival(self) -> None:
        """Wait for a message, or for the end. Raises: RuntimeError if another task does already."""
        if self._waiter is not None:
            raise RuntimeError("another task waits for this WebSocket's next message; each goes to one reader only")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except BaseException:
            self._reader = None  # its loop has ended, but this traceback would keep it alive
            raise
        finally:
            self._waiter = None


class Reader:
    """What `async for` asks for one message after the other."""

    __slots__ = ("__weakref__", "_pull")

    def __init__(self, pull: Pull) -> None:
        self._pull = pull

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> str | bytes:
        pull = self._pull
        message = pull.advance(self)
        while message is None:
            await pull.arrival()
            message = pull.take()
        return message
