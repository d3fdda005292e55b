"""The body of a request, wherever it is: in memory, in a file, or still on its way.

`RequestStream` reads all three. Thread: any, unless a method says otherwise; one reader at a time.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from portico.pull import settle

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from portico._core import Core, Spool

PIECE_BYTES: Final = 256 * 1024
WINDOW_BYTES: Final = 1024 * 1024
_MOST_PER_READ: Final = 1 << 30  # Linux reads no more than 2 GiB at once


class BodyError(Exception):
    """The body of this request will never be whole: its client left, was too slow, sent too much, or no HTTP.

    A handler that lets it pass answers with `status` (400, 408, 413 …) and its text; the connection ends afterwards.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Inflow:
    """A body that comes while its handler runs, and waits for it. `receive` and `receive_soon` are for one reader."""

    __slots__ = ("__weakref__", "_core", "_is_blocking", "_is_over", "_key", "_waiter")

    def __init__(self, core: Core, number: int, body: int) -> None:
        self._core = core
        self._key = (number, body)
        self._is_over = False
        self._is_blocking = False  # some thread waits
        self._waiter: asyncio.Future[None] | None = None

    def receive(self) -> bytes:
        """The next piece, waited for; `b""` at the end. The home thread drives the I/O meanwhile, without callbacks.

        Raises: BodyError; RuntimeError in a coroutine, which would keep its loop waiting.
        """
        if _is_in_coroutine():
            raise RuntimeError(
                "this would block the event loop until the client has sent more; in coroutines use "
                "`async for piece in req.stream`, or `await req.load()` before the whole body is asked for"
            )
        self._is_blocking = True
        try:
            while (piece := self._take(False)) is None:
                self._core.wait_body(*self._key, None)
            return piece
        finally:
            self._is_blocking = False

    async def receive_soon(self) -> bytes:
        """As `receive`, for coroutines. Raises: BodyError; RuntimeError if another task waits already."""
        if self._waiter is not None:
            raise RuntimeError("another task waits for this body; each piece goes to one reader only")
        while True:
            # Made before asking: off the home thread, ARRIVED may come before we wait.
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            try:
                piece = self._take(True)
                if piece is not None:
                    return piece
                await waiter
            finally:
                self._waiter = None

    def arrived(self) -> bool:
        """Let the coroutine that waits look again; False if nobody waits, in another thread either."""
        waiter = self._waiter
        if waiter is not None:
            settle(waiter, None)
        return waiter is not None or self._is_blocking

    def _take(self, says_arrived: bool) -> bytes | None:
        if self._is_over:
            return b""
        piece = self._core.receive(*self._key, says_arrived)
        if isinstance(piece, tuple):
            raise BodyError(*piece)
        self._is_over = piece == b""
        return piece


class SpooledBytes:
    """A body in a file, or a part of one, with the little of `bytes` that readers need; it is never all in memory."""

    __slots__ = ("_end", "_spool", "_start")

    def __init__(self, spool: Spool, start: int, end: int) -> None:
        self._spool = spool
        self._start = start
        self._end = end

    def __len__(self) -> int:
        return self._end - self._start

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(len(self))
        return _read_file(self._spool.fileno(), self._start + start, self._start + end)

    def cut(self, start: int, end: int) -> SpooledBytes:
        """A part of it, which stays in the file."""
        return SpooledBytes(self._spool, self._start + start, self._start + end)

    def startswith(self, prefix: bytes, start: int = 0) -> bool:
        """As of `bytes`."""
        return self[start : start + len(prefix)] == prefix

    def find(self, wanted: bytes, start: int = 0, end: int | None = None) -> int:
        """As of `bytes`: where `wanted` begins, if all of it is between `start` and `end`; else -1."""
        end = len(self) if end is None else min(end, len(self))
        while start + len(wanted) <= end:
            window = self[start : min(start + WINDOW_BYTES, end)]
            at = window.find(wanted)
            if at >= 0:
                return start + at
            start += max(1, len(window) - len(wanted) + 1)
        return -1


Source: TypeAlias = bytes | SpooledBytes | Inflow


class RequestStream(io.BufferedIOBase):
    """`req.stream`: a body as a file. Read it, or go through it in pieces: `for` or `async for piece in req.stream`.

    A piece is what has come, some 256 KiB at most, and no line. A body that is all there can be rewound (`seek(0)`);
    one that comes while its handler runs is read once. Raises: BodyError; RuntimeError as `Inflow.receive`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0
        self._rest = b""  # of the piece that was received last, from `_cut` on
        self._cut = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether it is all there."""
        return not isinstance(self._source, Inflow)

    def tell(self) -> int:
        """How many bytes have been read, or skipped."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Raises: io.UnsupportedOperation if the body is still on its way; ValueError."""
        if isinstance(self._source, Inflow):
            raise io.UnsupportedOperation("this body is read while it comes, and once; it cannot be rewound")
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._source)}
        if whence not in starts or starts[whence] + offset < 0:
            raise ValueError(f"not a position in this stream: seek({offset}, {whence})")
        self._position = starts[whence] + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, or fewer at the end; all that is left if it is negative or None."""
        self._check_open()
        if size is None or size < 0:
            if isinstance(self._source, Inflow):
                return b"".join(self)
            size = max(0, len(self._source) - self._position)
        pieces = []
        while size > 0 and (piece := self.read1(size)):
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        """What is here, at most `size` bytes, waited for if there is nothing; `b""` at the end."""
        self._check_open()
        source = self._source
        if isinstance(source, Inflow):
            if size and not self._rest:
                self._rest = source.receive()
            return self._take(size)
        end = self._position + (PIECE_BYTES if size < 0 else size)
        piece = source[self._position : end]
        self._position += len(piece)
        return piece

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As `read1`, into `buffer`."""
        view = memoryview(buffer).cast("B")
        piece = self.read1(len(view))
        view[: len(piece)] = piece
        return len(piece)

    readinto1 = readinto

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = self.read1()
        if not piece:
            raise StopIteration
        return piece

    def __aiter__(self) -> RequestStream:
        return self

    async def __anext__(self) -> bytes:
        self._check_open()
        if not isinstance(self._source, Inflow):
            piece = self.read1()
        else:
            if not self._rest:
                self._rest = await self._source.receive_soon()
            piece = self._take(-1)
        if not piece:
            raise StopAsyncIteration
        return piece

    def __repr__(self) -> str:
        return f"<RequestStream at {self._position}>"

    def _take(self, size: int) -> bytes:
        rest = self._rest
        end = len(rest) if size < 0 else min(self._cut + size, len(rest))
        piece = rest[self._cut : end]
        self._position += len(piece)
        self._rest, self._cut = (b"", 0) if end == len(rest) else (rest, end)
        return piece

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the stream is closed")


def _read_file(descriptor: int, start: int, end: int) -> bytes:
    pieces = []
    while start < end and (piece := os.pread(descriptor, min(end - start, _MOST_PER_READ), start)):
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _is_in_coroutine() -> bool:
    # In a plain callback of a running loop there is no task; it may block the loop, as all it does blocks it.
    return asyncio._get_running_loop() is not None and asyncio.current_task() is not None
