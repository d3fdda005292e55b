"""From a WebSocket's events to its callbacks and listeners, in the order open, messages, close. Thread: home."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

from portico._core import MESSAGE
from portico.opening import OpeningCoroutine
from portico.pull import byte_size, settle
from portico.report import LEAVING, is_bug, report_raised
from portico.unfinished import Future, Unfinished, is_awaitable
from portico.websocket_connection import Link, PlainListener, SendResult, WebSocket

if TYPE_CHECKING:
    from portico._core import Core, Event, FailureParts, RequestParts
    from portico.routes import Route
    from portico.site import Site


class Caller(Protocol):
    """Who asked for a WebSocket at another server."""

    def connected(self, fields: bytes, subprotocol: str | None) -> WebSocket:
        """It is open."""

    def failed(self, failure: FailureParts) -> None:
        """It will not be."""


class WebSocketDispatcher:
    """Has the open WebSockets, and calls whoever listens to them."""

    def __init__(self, core: Core, sites: dict[int, Site], unfinished: Unfinished) -> None:
        self.sockets: dict[int, WebSocket] = {}
        self.callers: dict[int, Caller] = {}  # by connection that is not open yet
        self._core = core
        self._sites = sites
        self._unfinished = unfinished

    def handle(self, events: Iterable[Event], others: Mapping[int, Callable[[int, Any], None]]) -> None:
        """Give messages to their listeners, and each other event to whom `others` names for its kind."""
        # The path of every message. Each line here is paid for a million times a second.
        sockets = self.sockets
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
                        except LEAVING:
                            raise
                        except BaseException as error:
                            self._report_socket(number, "on_message", error)
                            failed = True
                    if failed:
                        self._core.close(number, 1011, "")
                        failed = False
                else:
                    others[kind](number, payload)
        finally:
            del events

    def open(self, number: int, payload: tuple[RequestParts, str | None]) -> None:
        """A client has opened one."""
        parts, subprotocol = payload
        site = self._sites[parts[0]]
        link = site.links.get((parts[1], subprotocol)) or self._link(site, parts[1], subprotocol)
        self._welcome(WebSocket(number, link, parts), link)

    def connected(self, number: int, payload: tuple[bytes, str | None]) -> None:
        """One that we asked for is open."""
        ws = self.callers.pop(number).connected(*payload)
        self._welcome(ws, ws._link)

    def failed(self, number: int, failure: FailureParts) -> None:
        """One that we asked for won't be."""
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
            if is_awaitable(result):
                ws._extend().opening = OpeningCoroutine(ws, self._unfinished, self._deliver)
                self._unfinished.start(result, partial(self._opened, ws))
        except LEAVING:
            raise
        except BaseException as error:
            self._end_opening(ws)
            self._fail_socket(number, "on_open", error)

    def _link(self, site: Site, index: int, subprotocol: str | None) -> Link:
        link = site.links[index, subprotocol] = Link(self._core, site.routes[index], site.address, subprotocol)
        return link

    def _opened(self, ws: WebSocket, future: Future) -> None:
        self._end_opening(ws)
        self._ended(ws.id, ws._link.route, "on_open", future)

    def _deliver(self, number: int, messages: list[str | bytes]) -> None:
        self.handle([(MESSAGE, number, message) for message in messages], {})

    def _end_opening(self, ws: WebSocket) -> None:
        extras = ws._extras
        if extras is not None and extras.opening is not None:
            self._unfinished.soon(extras.opening.release)

    def drained(self, number: int) -> None:
        """The peer has taken everything."""
        ws = self.sockets.get(number)
        extras = None if ws is None else ws._extras
        if ws is None or extras is None:
            return
        # More may have been sent since this event was on its way. Asking tells, and asks for the next one.
        if extras.waiters and not self._core.drain(number):
            for waiter in tuple(extras.waiters):
                settle(waiter, True)
        if extras.drainers:
            self._unfinished.after_started(partial(self._run_drainers, ws, extras.drainers))

    def _run_drainers(self, ws: WebSocket, drainers: Iterable[PlainListener]) -> None:
        failed = False
        for listener in drainers:
            try:
                result = listener()
                if result is not None:
                    self._follow(ws.id, "on_drain", result)
            except LEAVING:
                raise
            except BaseException as error:
                self._report_socket(ws.id, "on_drain", error)
                failed = True
        if failed:
            self._core.close(ws.id, 1011, "")

    def closed(self, number: int, payload: tuple[int, str]) -> None:
        """It is over."""
        ws = self.sockets[number]
        ws._end = payload
        if ws._extras is not None:
            for waiter in tuple(ws._extras.waiters or ()):
                settle(waiter, False)
        # A coroutine on_open may well be waiting for just this close, so it is not waited for.
        self._end_opening(ws)
        self._unfinished.after_started(partial(self._run_closers, ws))

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
                except LEAVING:
                    raise
                except BaseException as error:
                    self._report_socket(ws.id, "on_close", error)
        finally:
            self.sockets.pop(ws.id, None)
            ws._forget_listeners()

    def _follow(self, number: int, where: str, result: object, message: str | bytes | None = None) -> None:
        """What a listener returned is ignored, unless it has to be awaited. A message counts until then."""
        if not is_awaitable(result):
            return
        finish = partial(self._ended, number, self._route_of(number), where)
        if message is None:
            self._unfinished.start(result, finish)
            return
        size = byte_size(message)
        self._core.hold(number, size)
        try:
            self._unfinished.start(result, partial(self._handled, number, size, finish))
        except BaseException:
            self._core.release(number, size)
            raise

    def _handled(self, number: int, size: int, finish: Callable[[Future], None], future: Future) -> None:
        try:
            finish(future)
        finally:
            self._core.release(number, size)

    def _ended(self, number: int, route: Route | None, where: str, future: Future) -> None:
        # The WebSocket may be over, and forgotten: a coroutine on_close begins with that.
        if not future.cancelled() and is_bug(error := future.exception()):
            report_raised(route, number, where, error)
            self._core.close(number, 1011, "")

    def _fail_socket(self, number: int, where: str, error: BaseException) -> None:
        self._report_socket(number, where, error)
        self._core.close(number, 1011, "")

    def _report_socket(self, number: int, where: str, error: BaseException) -> None:
        report_raised(self._route_of(number), number, where, error)

    def _route_of(self, number: int) -> Route | None:
        ws = self.sockets.get(number)
        return None if ws is None else ws._link.route
