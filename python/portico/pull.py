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
    """The messages of one WebSocket that wait for its reader. Made by the first `async for`."""

    __slots__ = ("_core", "_handled_size", "_is_over", "_messages", "_number", "_reader", "_waiter")

    def __init__(self, core: Core, number: int, is_over: bool) -> None:
        self._core = core
        self._number = number
        self._is_over = is_over
        # With their sizes. Only while there are any: an empty deque has 700 bytes, and most readers just wait.
        self._messages: deque[tuple[str | bytes, int]] | None = None
        self._handled_size: int | None = None  # of the message that the reader has and hasn't finished
        self._reader: weakref.ref[Reader] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def put(self, _binary: bool, message: str | bytes) -> None:
        """Take one message. It is held until its reader asks for the one after it."""
        size = byte_size(message)
        self._core.hold(self._number, size)
        if self._messages is None:
            self._messages = deque()
        self._messages.append((message, size))
        self._wake()

    def end(self) -> None:
        """No message will come any more, and the connection's inbox is gone; what waits here can still be read."""
        self._finish()
        for _, size in self._messages or ():
            self._core.release(self._number, size)
        self._is_over = True
        self._wake()

    def read(self) -> Reader:
        """A reader, from the next message on. Raises: RuntimeError while another one is in use."""
        reader = Reader(self)
        self.proceed(reader)
        return reader

    def proceed(self, reader: Reader) -> None:
        """`reader` has handled what it got, and wants more. Raises: RuntimeError while another one is in use."""
        # A loop that was left drops its reader at once, so one that is alive belongs to a loop that goes on.
        current = None if self._reader is None else self._reader()
        if current is not reader:
            if current is not None:
                raise RuntimeError("another `async for` reads this WebSocket; each message goes to one reader only")
            self._reader = weakref.ref(reader)
        self._finish()

    def _finish(self) -> None:
        size, self._handled_size = self._handled_size, None
        if size is not None:
            self._core.release(self._number, size)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has a message, or says that there will be none."""
        return self._messages is not None or self._is_over

    def take(self) -> str | bytes | None:
        """The next message; None if there is none now. Raises: StopAsyncIteration if there will be none."""
        if self._messages is None:
            if self._is_over:
                self._reader = None
                raise StopAsyncIteration
            return None
        message, size = self._messages.popleft()
        if not self._messages:
            self._messages = None
        if not self._is_over:
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

    def _wake(self) -> None:
        if self._waiter is not None:
            settle(self._waiter, None)


class Reader:
    """What `async for` asks for one message after the other."""

    __slots__ = ("__weakref__", "_pull")

    def __init__(self, pull: Pull) -> None:
        self._pull = pull

    def __aiter__(self) -> Reader:
        return self

    async def __anext__(self) -> str | bytes:
        pull = self._pull
        pull.proceed(self)
        while (message := pull.take()) is None:
            await pull.arrival()
        return message
