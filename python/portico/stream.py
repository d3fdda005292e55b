"""Sends one answer piece by piece: the app is asked for the next piece when the client has taken those before.

Decides nothing about exceptions but whether the client may take what it has for the whole. Thread: home.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol, cast

from portico._core import FULL, SENT, SHUT
from portico.pull import byte_size, cancel, settle
from portico.report import LEAVING
from portico.response_fields import read_fields

if TYPE_CHECKING:
    from portico._core import Core
    from portico.answer import StreamAnswer

# An iterator that is never done must not keep everybody else waiting.
BUDGET_S: Final = 0.005

Report = Callable[[BaseException], None]


class UnderWay(Protocol):
    """An answer under way, as far as the dispatcher is concerned."""

    def drained(self) -> None:
        """The client has taken everything."""

    def gone(self) -> None:
        """The client has left."""


class Stream:
    """An answer under way, until it has ended in `finish` or `abort`; neither is said twice.

    The next request of the same connection may come at once after that, so a stream that is over never speaks again.
    """

    def __init__(
        self, core: Core, number: int, answer: StreamAnswer, under_way: dict[int, UnderWay], report: Report
    ) -> None:
        self.has_begun = False
        self.is_over = False
        self._core = core
        self._number = number
        self._answer = answer
        self._under_way = under_way
        self._report = report
        self._left = answer.length
        under_way[number] = self

    def drained(self) -> None:
        """The client has taken everything."""
        raise NotImplementedError

    def gone(self) -> None:
        """The client has left."""
        raise NotImplementedError

    def _begin(self) -> bool:
        """Send the head. False: no body is wanted. Raises: ValueError; nothing was sent then."""
        answer = self._answer
        begun = self._core.begin(self._number, answer.status, answer.reason, answer.fields, answer.length)
        self.has_begun = True
        if begun != SENT:
            self._end()
        return begun == SENT

    def _write(self, piece: object) -> int:
        # The core refuses what is no piece.
        taken = self._core.write(self._number, cast(bytes, piece))
        if self._left is not None:
            self._left -= byte_size(piece) if isinstance(piece, (str, bytes)) else memoryview(cast(bytes, piece)).nbytes
        if taken == SHUT:
            self._end()
        return taken

    def _finish(self) -> None:
        given = self._answer.trailers
        trailers = read_fields(given()) if callable(given) else given
        is_whole = self._core.finish(self._number, trailers)
        self._end()
        if not is_whole and self._left:
            raise ValueError(f"the body ended {self._left} bytes before its Content-Length ({self._answer.length})")

    def _abort(self) -> None:
        if self.has_begun and not self.is_over:
            self._core.abort(self._number)
        self._end()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            del self._under_way[self._number]


class IteratedStream(Stream):
    """One whose pieces come from an iterator, which is advanced between other events."""

    def __init__(
        self, core: Core, number: int, answer: StreamAnswer, under_way: dict[int, UnderWay], report: Report
    ) -> None:
        super().__init__(core, number, answer, under_way, report)
        self._source = cast("Iterable[object]", answer.source)
        self._iterator: Iterator[object] | None = None
        self._pieces: Iterator[object] = iter(())

    def start(self) -> None:
        """Send the head and the first pieces.

        Raises: what the iterator raises before its first piece, and ValueError for the head; nothing was sent then.
        """
        try:
            self._iterator = iter(self._source)
            for first in self._iterator:
                check_piece(first)
                self._pieces = chain((first,), self._iterator)
                break
            if self._begin():
                self.drained()
        finally:
            if not self.has_begun:
                self._end()
            self._close_if_over()

    def drained(self) -> None:
        """Go on until the client is slow, or it is the others' turn."""
        deadline = monotonic() + BUDGET_S
        try:
            for piece in self._pieces:
                taken = self._write(piece)
                if taken == SHUT:
                    return
                if taken == FULL or monotonic() >= deadline:
                    self._core.resume(self._number)
                    return
            self._finish()
        except LEAVING:
            self._abort()
            raise
        except BaseException as error:
            self._abort()
            self._report(error)
        finally:
            self._close_if_over()

    def gone(self) -> None:
        """The client has left: end the iterator."""
        self._abort()  # it may have closed only its half and wait for the rest, which won't come
        self._close_if_over()

    def _close_if_over(self) -> None:
        if not self.is_over:
            return
        iterator, self._iterator, self._pieces = self._iterator, None, iter(())
        for one in _distinct(iterator, self._source):
            try:
                close = getattr(one, "close", None)
                if close is not None:
                    close()
            except LEAVING:
                raise
            except BaseException as error:
                self._report(error)
        self._source = ()


class AwaitedStream(Stream):
    """One whose pieces come from an async iterator: `run` is a task of its own."""

    def __init__(
        self, core: Core, number: int, answer: StreamAnswer, under_way: dict[int, UnderWay], report: Report
    ) -> None:
        super().__init__(core, number, answer, under_way, report)
        self.task: asyncio.Future[None] | None = None
        self._has_started = False
        self._waiter: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Send everything. Raises: what the iterator raises; `has_begun` tells whether something was sent before."""
        self._has_started = True
        source = cast("AsyncIterable[object]", self._answer.source)
        iterator: AsyncIterator[object] | None = None
        try:
            if not self.is_over:
                iterator = aiter(source)
                await self._send(iterator)
        finally:
            self._abort()
            await self._close(iterator, source)

    async def _send(self, iterator: AsyncIterator[object]) -> None:
        since = monotonic()
        async for piece in iterator:
            if self.is_over:
                return  # it was cancelled, and goes on all the same
            if not self.has_begun:
                check_piece(piece)
                if not self._begin():
                    return
            taken = self._write(piece)
            if taken == SHUT:
                return
            if taken == FULL:
                await self._room()
                since = monotonic()
            elif monotonic() - since >= BUDGET_S:
                await asyncio.sleep(0)
                since = monotonic()
        if not self.is_over and (self.has_begun or self._begin()):
            self._finish()

    async def _room(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self._core.resume(self._number)
        try:
            await waiter
        finally:
            self._waiter = None

    def drained(self) -> None:
        """The client has taken everything: let the task go on."""
        if self._waiter is not None:
            settle(self._waiter, None)

    def gone(self) -> None:
        """The client has left: cancel the task, or let it close what it has not begun to read."""
        self._abort()
        if self._has_started and self.task is not None:
            cancel(self.task)

    def abandon(self) -> None:
        """The task's loop is closed; nobody will go on."""
        self._abort()
        self.task = None

    async def _close(self, iterator: object, source: object) -> None:
        for one in _distinct(iterator, source):
            try:
                close = getattr(one, "aclose", None)
                if close is not None:
                    await close()
            except Exception as error:
                self._report(error)


def check_piece(piece: object) -> None:
    """Raises: TypeError."""
    if not isinstance(piece, (str, bytes, bytearray, memoryview)):
        try:
            memoryview(piece).release()  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(f"a piece of a body must be str or bytes, not {type(piece).__name__} ({piece!r})") from None


def _distinct(iterator: object, source: object) -> Iterable[object]:
    return (source,) if iterator is source or iterator is None else (iterator, source)
