"""From event to callback to answer: what happens, one function per kind of event. *When* is the pumps' business.

Knows no sockets and no loops: it gets batches, gives commands, and hands unfinished work to the Home. Thread: home.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from weakref import WeakValueDictionary

from portico._core import (
    ARRIVED,
    CLOSED,
    CONNECTED,
    DRAINED,
    FAILED,
    GONE,
    HEAD,
    LOGGED,
    MESSAGE,
    OPEN,
    REQUEST,
    STOPPED,
    TROUBLE,
)
from portico.body import BodyError, Inflow, SpooledBytes
from portico.lateness import LATE_S
from portico.pull import byte_size, cancel, settle
from portico.request import Request
from portico.response import FileAnswer, PushAnswer, Response, StreamAnswer, normalise, with_text_type
from portico.stream import AwaitedStream, IteratedStream, UnderWay
from portico.stream_connection import StreamConnection
from portico.websocket_connection import Link, MessageListener, PlainListener, SendResult, WebSocket

if TYPE_CHECKING:
    from portico._core import Address, Batch, BodyParts, Core, Event, FailureParts, LogParts, RequestParts
    from portico.proxies import ProxiedAddress
    from portico.request import Parts
    from portico.routes import Route

logger = logging.getLogger("portico")

Job: TypeAlias = Callable[[], None]
Future: TypeAlias = "asyncio.Future[Any]"

_PLAIN = [("Content-Type", "text/plain; charset=utf-8")]


@dataclass(slots=True)
class Site:
    """What the dispatcher must know of one server. Another thread may replace its routes, never change them."""

    routes: Mapping[int, Route]  # by what events call them
    address: Address | ProxiedAddress
    on_stopped: Job
    log: Callable[[LogParts], None] | None = None
    links: dict[tuple[int, str | None], Link] = field(default_factory=dict)  # by route and subprotocol

    def set_routes(self, routes: Mapping[int, Route]) -> None:
        """Know these and no others. Any thread."""
        self.routes = routes
        self.links = {key: link for key, link in list(self.links.items()) if key[0] in routes}


class Caller(Protocol):
    """Who asked for a WebSocket at another server."""

    def connected(self, fields: bytes, subprotocol: str | None) -> WebSocket:
        """It is open."""

    def failed(self, failure: FailureParts) -> None:
        """It will not be."""


class Dispatcher:
    """Batches into calls. `spawn` starts an awaitable; `defer` runs a job when all that was spawned has started."""

    def __init__(self, core: Core, spawn: Callable[[object], Future], defer: Callable[[Job], None]) -> None:
        self.sites: dict[int, Site] = {}
        self.sockets: dict[int, WebSocket] = {}
        self.callers: dict[int, Caller] = {}  # by connection that is not open yet
        self._core = core
        self._respond = core.respond
        self._spawn = spawn
        self._defer = defer
        self._answering: dict[int, Future] = {}  # by connection: the unfinished answer that GONE cancels
        self._streams: dict[int, UnderWay] = {}  # by connection: the answer under way
        # By connection: the body that comes, for as long as somebody holds its request.
        self._inflows: WeakValueDictionary[int, Inflow] = WeakValueDictionary()
        self._unfinished: dict[Future, Callable[[Future], None]] = {}  # asyncio itself holds tasks only weakly
        self._queued = 0  # jobs given to `defer` that have not run; a later job must not overtake them
        self.was_late = False  # and somebody has been told
        handlers: dict[int, Callable[[int, Any], None]] = {
            HEAD: self._head,
            REQUEST: self._request,
            OPEN: self._open,
            CLOSED: self._closed,
            GONE: self._gone,
            STOPPED: self._stopped,
            DRAINED: self._drained,
            LOGGED: self._logged,
            ARRIVED: self._arrived,
            TROUBLE: self._trouble,
            CONNECTED: self._connected,
            FAILED: self._failed,
        }
        self._handlers = handlers

    def run(self, batch: Batch) -> int:
        """Handle the events of `batch`; return how many it gave. KeyboardInterrupt and SystemExit pass through."""
        try:
            if not len(batch):
                return 0
            if not self.was_late and batch.waited_s > LATE_S:
                self.warn_late(batch.waited_s)
            self._handle(batch)
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

    def close(self) -> None:
        """No batch will come any more."""
        for stream in list(self._streams.values()):
            stream.gone()
        self._handlers.clear()  # methods of this object, which would keep it alive

    def _handle(self, events: Iterable[Event]) -> None:
        # The path of every message. Each line here is paid for a million times a second.
        sockets = self.sockets
        handlers = self._handlers
        failed = False
        try:
            for kind, number, payload in events:
                if kind == MESSAGE:
                    binary = payload.__class__ is bytes
                    for listener in sockets[number]._listeners:
                        try:
                            result = listener(binary, payload)  # type: ignore[arg-type]
                            # What `lambda binary, message: ws.send(…)` returns must not cost a question.
                            if result is not None and result.__class__ is not SendResult:
                                self._follow(number, "on_message", result, payload)  # type: ignore[arg-type]
                        except Exception as error:
                            self._report_socket(number, "on_message", error)
                            failed = True
                    if failed:
                        self._core.close(number, 1011, "")
                        failed = False
                else:
                    handlers[kind](number, payload)
        finally:
            del events

    # HTTP

    def _head(self, number: int, parts: RequestParts) -> None:
        site = self.sites[parts[0]]
        route = site.routes[parts[1]]
        assert route.on_head is not None
        try:
            self._answer(number, route, route.on_head(Request(parts, site.address)), True)
        except Exception as error:
            self._fail(number, route, "on_head", error)
        except BaseException:
            self._apologise(number, 500)
            raise

    def _request(self, number: int, parts: BodyParts) -> None:
        site = self.sites[parts[0]]
        route = site.routes[parts[1]]
        # The way of nearly every request.
        readable: Any = parts if parts[6].__class__ is bytes else self._read_body(number, parts)
        try:
            self._answer(number, route, route.on_request(Request(readable, site.address)), False)  # type: ignore[misc]
        except Exception as error:
            self._fail(number, route, "on_request", error)
        except BaseException:
            self._apologise(number, 500)
            raise

    def _read_body(self, number: int, parts: BodyParts) -> Parts:
        source: bytes | SpooledBytes | Inflow
        body = parts[6]
        if isinstance(body, int):
            source = self._inflows[number] = Inflow(self._core, number, body)
        else:
            source = body if isinstance(body, bytes) else SpooledBytes(body, 0, len(body))
        return *parts[:6], source, *parts[7:]

    def _arrived(self, number: int, _: None) -> None:
        inflow = self._inflows.get(number)
        if inflow is not None:
            inflow.arrived()

    def _answer(self, number: int, route: Route, result: object, is_head: bool, is_late: bool = False) -> None:
        if is_head and result is None:
            self._core.proceed(number)
        elif _is_awaitable(result):
            finish = partial(self._answered, number, route, is_head)
            self._answering[number] = self._later(result, finish)
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
        except Exception as error:
            self._fail(number, route, _where(is_head), error)
        except BaseException:  # the loop has raised it already
            self._apologise(number, 500)

    def _gone(self, number: int, _: None) -> None:
        future = self._answering.pop(number, None)
        inflow = self._inflows.get(number)
        # Who waits for more of the body is told why none comes, which is clearer than being cancelled.
        is_told = inflow is not None and inflow.arrived()
        if future is not None and not is_told:
            cancel(future)
        stream = self._streams.get(number)
        if stream is not None:
            stream.gone()
            if isinstance(stream, StreamConnection) and not stream.has_begun:
                self._apologise(number, 503)  # it may have closed only its half, and wait

    def _send_file(self, number: int, answer: FileAnswer) -> None:
        descriptor, size = answer.open()
        try:
            self._core.respond_file(number, answer.status, answer.reason, answer.fields, descriptor, size)
        finally:
            os.close(descriptor)

    def _stream(self, number: int, route: Route, where: str, answer: StreamAnswer, is_late: bool) -> None:
        report = partial(_report, route, number, where)
        if isinstance(answer.source, AsyncIterable):
            awaited = AwaitedStream(self._core, number, answer, self._streams, report)
            awaited.task = self._later(awaited.run(), partial(self._streamed, number, route, where, awaited))
            return
        stream = IteratedStream(self._core, number, answer, self._streams, report)
        if is_late:
            # As any plain callback it runs outside the loop that had the coroutine, and may interrupt the program.
            self._soon(partial(self._start_stream, number, route, where, stream))
        else:
            stream.start()

    def _start_stream(self, number: int, route: Route, where: str, stream: IteratedStream) -> None:
        try:
            if stream.is_over:
                self._apologise(number, 503)
            else:
                stream.start()
        except Exception as error:
            self._fail(number, route, where, error)
        except BaseException:
            self._apologise(number, 500)
            raise

    def _streamed(self, number: int, route: Route, where: str, stream: AwaitedStream, future: Future) -> None:
        error = None if future.cancelled() else future.exception()
        if stream.has_begun:
            if isinstance(error, Exception):
                _report(route, number, where, error)
        elif isinstance(error, Exception):
            self._fail(number, route, where, error)
        else:  # as in `_answered`
            self._apologise(number, 503 if error is None else 500)

    def _push(self, number: int, route: Route, answer: PushAnswer) -> None:
        conn = StreamConnection(self._core, number, answer.request, partial(self._pushed, number, route, answer))
        self._streams[number] = conn
        try:
            result = answer.on_request(conn, answer.request)
            if _is_awaitable(result):
                conn.task = self._later(result, partial(self._push_ended, number, route, conn))
        except Exception as error:
            self._fail_push(number, route, conn, error)
        except BaseException:
            self._end_push(number, conn, 500)
            raise

    def _push_ended(self, number: int, route: Route, conn: StreamConnection, future: Future) -> None:
        if future.cancelled():
            self._end_push(number, conn, 503)  # unless the client has left: the loop is being closed under it
        elif isinstance(error := future.exception(), Exception):
            self._fail_push(number, route, conn, error)
        elif error is not None:
            self._end_push(number, conn, 500)

    def _fail_push(self, number: int, route: Route, conn: StreamConnection, error: Exception) -> None:
        _report(route, number, "on_request", error)
        self._end_push(number, conn, 500)

    def _end_push(self, number: int, conn: StreamConnection, status: int) -> None:
        conn.abort()
        if not conn.has_begun:
            conn.gone()
            self._apologise(number, status)

    def _pushed(self, number: int, route: Route, answer: PushAnswer, conn: StreamConnection) -> None:
        """A pushed answer is over."""
        if self._streams.get(number) is conn:
            del self._streams[number]
        if answer.on_close is not None:
            self._after_started(partial(self._run_push_closer, number, route, answer.on_close, conn))

    def _run_push_closer(
        self, number: int, route: Route, on_close: Callable[[StreamConnection], object], conn: StreamConnection
    ) -> None:
        try:
            result = on_close(conn)
            if _is_awaitable(result):
                self._later(result, partial(self._push_closer_ended, number, route))
        except Exception as error:
            _report(route, number, "on_close", error)

    def _push_closer_ended(self, number: int, route: Route, future: Future) -> None:
        if not future.cancelled() and isinstance(error := future.exception(), Exception):
            _report(route, number, "on_close", error)

    def _fail(self, number: int, route: Route, where: str, error: Exception) -> None:
        _report(route, number, where, error)
        if isinstance(error, BodyError):
            self._core.respond(number, error.status, None, _PLAIN, f"{error}\n")
        else:
            self._apologise(number, 500)

    def _apologise(self, number: int, status: int) -> None:
        # Never the exception's text: it belongs to the log, not to the peer (CWE-209).
        text = "500 Internal Server Error\n" if status == 500 else "503 Service Unavailable\n"
        self._core.respond(number, status, None, _PLAIN, text)

    # WebSocket

    def _open(self, number: int, payload: tuple[RequestParts, str | None]) -> None:
        parts, subprotocol = payload
        site = self.sites[parts[0]]
        link = site.links.get((parts[1], subprotocol)) or self._link(site, parts[1], subprotocol)
        self._welcome(WebSocket(number, link, parts), link)

    def _connected(self, number: int, payload: tuple[bytes, str | None]) -> None:
        ws = self.callers.pop(number).connected(*payload)
        self._welcome(ws, ws._link)

    def _failed(self, number: int, failure: FailureParts) -> None:
        self.callers.pop(number).failed(failure)

    def _welcome(self, ws: WebSocket, link: Link) -> None:
        number = ws.id
        self.sockets[number] = ws
        if link.listener is not None:
            ws._listeners = (MethodType(link.listener, ws), *ws._listeners)
        if link.route.on_open is None:
            return
        try:
            result = link.route.on_open(ws)
            if ws._is_closing:
                ws._listeners = ()  # refused: what the client has sent already is for nobody
            if _is_awaitable(result):
                ws._extend().opening = _Opening(ws, self)
                self._later(result, partial(self._opened, ws))
        except Exception as error:
            self._end_opening(ws)
            self._fail_socket(number, "on_open", error)

    def _link(self, site: Site, index: int, subprotocol: str | None) -> Link:
        link = site.links[index, subprotocol] = Link(self._core, site.routes[index], site.address, subprotocol)
        return link

    def _opened(self, ws: WebSocket, future: Future) -> None:
        self._end_opening(ws)
        self._ended(ws.id, "on_open", future)

    def _end_opening(self, ws: WebSocket) -> None:
        extras = ws._extras
        if extras is not None and extras.opening is not None:
            self._soon(extras.opening.release)

    def _drained(self, number: int, _: None) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            try:
                stream.drained()
            except Exception as error:  # only a listener of `on_drain` may raise
                _report(None, number, "on_drain", error)
            return
        ws = self.sockets.get(number)
        extras = None if ws is None else ws._extras
        if ws is None or extras is None:
            return
        # More may have been sent since this event was on its way. Asking tells, and asks for the next one.
        if extras.waiters and not self._core.drain(number):
            for waiter in tuple(extras.waiters):
                settle(waiter, True)
        if extras.drainers:
            self._after_started(partial(self._run_drainers, ws, extras.drainers))

    def _run_drainers(self, ws: WebSocket, drainers: Iterable[PlainListener]) -> None:
        failed = False
        for listener in drainers:
            try:
                result = listener()
                if result is not None:
                    self._follow(ws.id, "on_drain", result)
            except Exception as error:
                self._report_socket(ws.id, "on_drain", error)
                failed = True
        if failed:
            self._core.close(ws.id, 1011, "")

    def _closed(self, number: int, payload: tuple[int, str]) -> None:
        ws = self.sockets[number]
        ws._end = payload
        if ws._extras is not None:
            for waiter in tuple(ws._extras.waiters or ()):
                settle(waiter, False)
        # A coroutine on_open may well be waiting for just this close, so it is not waited for.
        self._end_opening(ws)
        self._after_started(partial(self._run_closers, ws))

    def _run_closers(self, ws: WebSocket) -> None:
        on_close = ws._link.route.on_close
        first: tuple[PlainListener, ...] = () if on_close is None else (partial(on_close, ws),)
        try:
            if ws._extras is not None and ws._extras.pull is not None:
                ws._extras.pull.end()
            for listener in first + ws._closers:
                try:
                    result = listener()
                    if result is not None:
                        self._follow(ws.id, "on_close", result)
                except Exception as error:
                    self._report_socket(ws.id, "on_close", error)
        finally:
            self.sockets.pop(ws.id, None)
            ws._forget_listeners()

    def _follow(self, number: int, where: str, result: object, message: str | bytes | None = None) -> None:
        """What a listener returned is ignored, unless it has to be awaited. A message counts until then."""
        if not _is_awaitable(result):
            return
        finish = partial(self._ended, number, where)
        if message is None:
            self._later(result, finish)
            return
        size = byte_size(message)
        self._core.hold(number, size)
        try:
            self._later(result, partial(self._handled, number, size, finish))
        except BaseException:
            self._core.release(number, size)
            raise

    def _handled(self, number: int, size: int, finish: Callable[[Future], None], future: Future) -> None:
        try:
            finish(future)
        finally:
            self._core.release(number, size)

    def _ended(self, number: int, where: str, future: Future) -> None:
        if not future.cancelled():
            error = future.exception()
            if isinstance(error, Exception):
                self._fail_socket(number, where, error)

    def _fail_socket(self, number: int, where: str, error: Exception) -> None:
        self._report_socket(number, where, error)
        self._core.close(number, 1011, "")

    def _report_socket(self, number: int, where: str, error: Exception) -> None:
        ws = self.sockets.get(number)
        _report(ws._link.route if ws else None, number, where, error)

    # Both

    def _trouble(self, _: int, text: str) -> None:
        logger.error("%s", text)

    def _stopped(self, number: int, _: None) -> None:
        self._after_started(partial(self._forget, number))

    def _logged(self, number: int, parts: LogParts) -> None:
        site = self.sites.get(number)
        if site is None or site.log is None:
            return
        try:
            site.log(parts)
        except Exception:  # a handler or filter of the application's
            logger.exception("the access log raised")

    def _forget(self, number: int) -> None:
        site = self.sites.pop(number, None)
        if site is not None:
            site.on_stopped()

    def _after_started(self, job: Job) -> None:
        """Run `job` now, unless a coroutine may be waiting for its first step: `on_close` must not overtake it."""
        if self._unfinished or self._queued:
            self._soon(job)
        else:
            job()

    def _soon(self, job: Job) -> None:
        self._queued += 1
        self._defer(partial(self._run_queued, job))

    def _run_queued(self, job: Job) -> None:
        self._queued -= 1
        job()

    def _later(self, awaitable: object, finish: Callable[[Future], None]) -> Future:
        """Start `awaitable`; `finish` gets it when it is done."""
        future = self._spawn(awaitable)
        self._unfinished[future] = finish
        future.add_done_callback(self._finish)
        return future

    def _finish(self, future: Future) -> None:
        finish = self._unfinished.pop(future, None)
        if finish is not None:
            finish(future)

    def abandon(self, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` was closed under what it had not finished: end that as if the loop had cancelled it."""
        for stream in list(self._streams.values()):
            if isinstance(stream, AwaitedStream) and stream.task is not None and stream.task.get_loop() is loop:
                stream.abandon()
        for number, future in list(self._answering.items()):
            if future.get_loop() is loop:
                del self._answering[number]
        cancelled = loop.create_future()
        cancelled.cancel()
        for future, finish in list(self._unfinished.items()):
            if future.get_loop() is loop:
                del self._unfinished[future]
                finish(cancelled)


class _Opening:
    """Keeps the messages of a socket whose coroutine `on_open` still runs, so that none arrives before its listener.

    It lets go when the coroutine ends, or as soon as it registers a listener: a coroutine that registers one and then
    waits for messages would otherwise wait for ever.
    """

    __slots__ = ("_dispatcher", "_kept", "_listeners", "_ws")

    def __init__(self, ws: WebSocket, dispatcher: Dispatcher) -> None:
        self._ws = ws
        self._dispatcher = dispatcher
        self._kept: list[str | bytes] = []
        self._listeners = ws._listeners
        ws._listeners = (self._keep,)

    def add(self, listener: MessageListener) -> None:
        self._listeners += (listener,)
        self._dispatcher._soon(self.release)

    def release(self) -> None:
        if not self._ws._has_opened(self):
            return
        self._ws._listeners = () if self._ws._is_closing else self._listeners
        number, core = self._ws.id, self._dispatcher._core
        try:
            self._dispatcher._handle([(MESSAGE, number, message) for message in self._kept])
        finally:
            for message in self._kept:
                core.release(number, byte_size(message))

    def _keep(self, _binary: bool, message: str | bytes) -> None:
        self._kept.append(message)
        self._dispatcher._core.hold(self._ws.id, byte_size(message))


def _where(is_head: bool) -> str:
    return "on_head" if is_head else "on_request"


def _is_awaitable(value: object) -> bool:
    # The types of nearly every answer come first: hasattr() that fails is the slowest question here.
    kind = type(value)
    if kind is Response or kind is str or kind is dict or kind is bytes or value is None:
        return False
    return hasattr(value, "__await__") or isinstance(value, concurrent.futures.Future)


def _report(route: Route | None, number: int, where: str, error: Exception) -> None:
    path = route.path if route is not None else "?"
    if isinstance(error, BodyError):  # the client's doing, and no bug
        logger.info("%s was given up; route %s, connection %d: %s", where, path, number, error)
        return
    logger.error("%s raised; route %s, connection %d", where, path, number, exc_info=error)
