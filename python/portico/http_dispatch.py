"""From an HTTP event to `on_head` or `on_request`, and from what that returns to the answer. Thread: home."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from portico.answer import FileAnswer, PushAnswer, StreamAnswer, normalise, with_text_type
from portico.body import BodyError, Inflow, SpooledBytes
from portico.pull import cancel
from portico.report import LEAVING, is_bug, report_raised
from portico.request import Request
from portico.stream import AwaitedStream, IteratedStream, UnderWay
from portico.stream_connection import StreamConnection
from portico.unfinished import Future, Unfinished, is_awaitable

if TYPE_CHECKING:
    from portico._core import BodyParts, Core, RequestParts
    from portico.request import Parts
    from portico.routes import Route
    from portico.site import Site

_PLAIN = [("Content-Type", "text/plain; charset=utf-8")]


class HttpDispatcher:
    """Every request gets one answer, whatever its callback does."""

    def __init__(self, core: Core, sites: dict[int, Site], unfinished: Unfinished) -> None:
        self.streams: dict[int, UnderWay] = {}  # by connection: the answer under way
        self._core = core
        self._respond = core.respond
        self._sites = sites
        self._unfinished = unfinished
        self._answering: dict[int, Future] = {}  # by connection: the unfinished answer that GONE cancels
        # By connection: the body that comes, for as long as somebody holds its request.
        self._inflows: WeakValueDictionary[int, Inflow] = WeakValueDictionary()

    def head(self, number: int, parts: RequestParts) -> None:
        """A head has come, and whoever wants to decide by it."""
        site = self._sites[parts[0]]
        route = site.routes[parts[1]]
        assert route.on_head is not None
        try:
            self._answer(number, route, route.on_head(Request(parts, site.address)), True)
        except LEAVING:
            self._leave(number)
            raise
        except BaseException as error:
            self._fail(number, route, "on_head", error)

    def request(self, number: int, parts: BodyParts) -> None:
        """A request has come, with its body or the beginning of it."""
        site = self._sites[parts[0]]
        route = site.routes[parts[1]]
        # The way of nearly every request.
        readable: Any = parts if parts[6].__class__ is bytes else self._read_body(number, parts)
        try:
            self._answer(number, route, route.on_request(Request(readable, site.address)), False)  # type: ignore[misc]
        except LEAVING:
            self._leave(number)
            raise
        except BaseException as error:
            self._fail(number, route, "on_request", error)

    def _read_body(self, number: int, parts: BodyParts) -> Parts:
        source: bytes | SpooledBytes | Inflow
        body = parts[6]
        if isinstance(body, int):
            source = self._inflows[number] = Inflow(self._core, number, body)
        else:
            source = body if isinstance(body, bytes) else SpooledBytes(body, 0, len(body))
        return *parts[:6], source, *parts[7:]

    def arrived(self, number: int, _: None) -> None:
        """There is more of the body, or will be none."""
        inflow = self._inflows.get(number)
        if inflow is not None:
            inflow.arrived()

    def _answer(self, number: int, route: Route, result: object, is_head: bool, is_late: bool = False) -> None:
        if is_head and result is None:
            self._core.proceed(number)
        elif is_awaitable(result):
            finish = partial(self._answered, number, route, is_head)
            self._answering[number] = self._unfinished.start(result, finish)
        else:
            answer = normalise(result)
            if isinstance(answer, tuple):
                if route.text_type is not None:
                    answer = with_text_type(answer, route.text_type)
                self._respond(number, *answer)
            elif isinstance(answer, FileAnswer):
                self._send_file(number, answer)
            elif isinstance(answer, PushAnswer):
                self._push(number, route, answer)
            else:
                self._stream(number, route, _where(is_head), answer, is_late)

    def _answered(self, number: int, route: Route, is_head: bool, future: Future) -> None:
        if self._answering.get(number) is future:
            del self._answering[number]
        try:
            self._answer(number, route, future.result(), is_head, True)
        except asyncio.CancelledError:
            # The client left (then nobody hears this) or the loop is being closed under the handler.
            self._apologise(number, 503)
        except LEAVING:  # the loop has raised it already
            self._leave(number)
        except BaseException as error:
            self._fail(number, route, _where(is_head), error)

    def gone(self, number: int, _: None) -> None:
        """The client has left before its answer was whole."""
        future = self._answering.pop(number, None)
        inflow = self._inflows.get(number)
        # Who waits for more of the body is told why none comes, which is clearer than being cancelled.
        is_told = inflow is not None and inflow.arrived()
        if future is not None and not is_told:
            cancel(future)
        stream = self.streams.get(number)
        if stream is not None:
            stream.gone()
            if isinstance(stream, StreamConnection) and not stream.has_begun:
                self._apologise(number, 503)  # it may have closed only its half, and wait

    def _send_file(self, number: int, answer: FileAnswer) -> None:
        descriptor, size, modified_ns = answer.open()
        said = (answer.status, answer.reason, answer.fields)
        try:
            self._core.respond_file(number, *said, descriptor, size, modified_ns=modified_ns)
        finally:
            os.close(descriptor)

    def _stream(self, number: int, route: Route, where: str, answer: StreamAnswer, is_late: bool) -> None:
        report = partial(report_raised, route, number, where)
        if isinstance(answer.source, AsyncIterable):
            awaited = AwaitedStream(self._core, number, answer, self.streams, report)
            awaited.task = self._unfinished.start(awaited.run(), partial(self._streamed, number, route, where, awaited))
            return
        stream = IteratedStream(self._core, number, answer, self.streams, report)
        if is_late:
            # As any plain callback it runs outside the loop that had the coroutine, and may interrupt the program.
            self._unfinished.soon(partial(self._start_stream, number, route, where, stream))
        else:
            stream.start()

    def _start_stream(self, number: int, route: Route, where: str, stream: IteratedStream) -> None:
        try:
            if stream.is_over:
                self._apologise(number, 503)
            else:
                stream.start()
        except LEAVING:
            self._apologise(number, 500)
            raise
        except BaseException as error:
            self._fail(number, route, where, error)

    def _streamed(self, number: int, route: Route, where: str, stream: AwaitedStream, future: Future) -> None:
        error = None if future.cancelled() else future.exception()
        if stream.has_begun:
            if is_bug(error):
                report_raised(route, number, where, error)
        elif is_bug(error):
            self._fail(number, route, where, error)
        else:  # as in `_answered`
            self._apologise(number, 503 if error is None else 500)

    def _push(self, number: int, route: Route, answer: PushAnswer) -> None:
        conn = StreamConnection(self._core, number, answer.request, partial(self._pushed, number, route, answer))
        self.streams[number] = conn
        try:
            result = answer.on_request(conn, answer.request)
            if is_awaitable(result):
                conn.task = self._unfinished.start(result, partial(self._push_ended, number, route, conn))
        except LEAVING:
            raise
        except BaseException as error:
            self._fail_push(number, route, conn, error)

    def _push_ended(self, number: int, route: Route, conn: StreamConnection, future: Future) -> None:
        if future.cancelled():
            self._end_push(number, conn, 503)  # unless the client has left: the loop is being closed under it
        elif is_bug(error := future.exception()):
            self._fail_push(number, route, conn, error)
        elif error is not None:
            self._end_push(number, conn, 500)

    def _fail_push(self, number: int, route: Route, conn: StreamConnection, error: BaseException) -> None:
        report_raised(route, number, "on_request", error)
        self._end_push(number, conn, 500)

    def _end_push(self, number: int, conn: StreamConnection, status: int) -> None:
        conn.abort()
        if not conn.has_begun:
            conn.gone()
            self._apologise(number, status)

    def _pushed(self, number: int, route: Route, answer: PushAnswer, conn: StreamConnection) -> None:
        """A pushed answer is over."""
        if self.streams.get(number) is conn:
            del self.streams[number]
        if answer.on_close is not None:
            self._unfinished.after_started(partial(self._run_push_closer, number, route, answer.on_close, conn))

    def _run_push_closer(
        self, number: int, route: Route, on_close: Callable[[StreamConnection], object], conn: StreamConnection
    ) -> None:
        try:
            result = on_close(conn)
            if is_awaitable(result):
                self._unfinished.start(result, partial(self._push_closer_ended, number, route))
        except LEAVING:
            raise
        except BaseException as error:
            report_raised(route, number, "on_close", error)

    def _push_closer_ended(self, number: int, route: Route, future: Future) -> None:
        if not future.cancelled() and is_bug(error := future.exception()):
            report_raised(route, number, "on_close", error)

    def _fail(self, number: int, route: Route, where: str, error: BaseException) -> None:
        report_raised(route, number, where, error)
        if isinstance(error, BodyError):
            self._core.respond(number, error.status, None, _PLAIN, f"{error}\n")
        else:
            self._apologise(number, 500)

    def _leave(self, number: int) -> None:
        """A callback has left the program, or `service()`, instead of answering."""
        stream = self.streams.get(number)
        if isinstance(stream, StreamConnection):
            # What it has ended may have been followed by another request, which this is no answer to.
            self._end_push(number, stream, 500)
        else:
            self._apologise(number, 500)

    def _apologise(self, number: int, status: int) -> None:
        # Never the exception's text: it belongs to the log, not to the peer (CWE-209).
        text = "500 Internal Server Error\n" if status == 500 else "503 Service Unavailable\n"
        self._core.respond(number, status, None, _PLAIN, text)

    def drained(self, number: int) -> None:
        """The client has taken all that the answer under way has given."""
        try:
            self.streams[number].drained()
        except LEAVING:
            raise
        except BaseException as error:  # only a listener of `on_drain` may raise
            report_raised(None, number, "on_drain", error)

    def close(self) -> None:
        """No event will come any more."""
        for stream in list(self.streams.values()):
            stream.gone()

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` was closed under the answers it had not finished."""
        for stream in list(self.streams.values()):
            if isinstance(stream, AwaitedStream) and stream.task is not None and stream.task.get_loop() is loop:
                stream.abandon()
        for number, future in list(self._answering.items()):
            if future.get_loop() is loop:
                del self._answering[number]


def _where(is_head: bool) -> str:
    return "on_head" if is_head else "on_request"
