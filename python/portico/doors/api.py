"""plumber2's door: `api()`, `api_message(api, handler)`, `@api.get("/path/<name:type>")`, events, route files.

Each handler gets the arguments it names. Translates and checks; serving is the server's business. Thread: any to build
an Api, home for what its handlers do; `send`, `log` and `stop`: any.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any, Final, TypeVar

from portico.answer import read_whole
from portico.chain import Chain, Steps
from portico.doors.annotations import read_route_files
from portico.events import MESSAGE, Events
from portico.executors import ExecutorLike
from portico.home import can_wait, require_idle
from portico.message_chains import MessageChains
from portico.path_pattern import PathPattern
from portico.path_table import Entry, refusal
from portico.request import Request
from portico.request_chains import RequestChains
from portico.response import Response
from portico.routes import ROUTE_OPTIONS, Route, check_clashes, pop_route_options
from portico.server import Server, check_options
from portico.static_paths import exclude_static_path, static_path
from portico.websocket_connection import SendResult, WebSocket

logger = logging.getLogger("portico.api")

F = TypeVar("F", bound=Callable[..., Any])

_HEAD: Final = ("request", "server", "query")
_REQUEST: Final = (*_HEAD, "body")


def api(*route_files: str | os.PathLike[str], host: str = "127.0.0.1", port: int = 8080, **options: Any) -> Api:
    """A new Api, with the handlers of annotated `route_files`; a directory stands for the `*.py` in it, by name.

    options: those of `start_server` that aren't about its app: `limits`, `callbacks`, `deflate`, `gzip`, …

    Raises: TypeError, ValueError; for a route file `RouteFileError`, naming file and line.
    """
    made = Api(host, port, **options)
    for call in read_route_files(route_files):
        call(made)
    return made


def api_message(api: Api, handler: Callable[..., object], async_: ExecutorLike = None, then: Steps = None) -> Api:
    """`api.add_message(handler, async_, then)`, as plumber2 spells it. Raises: TypeError, ValueError."""
    return api.add_message(handler, async_, then)


class Api:
    """Handlers of messages, requests and events, that may run as a server, stop, and run again."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        check_options("api()", options, ROUTE_OPTIONS)
        self._of_websockets = pop_route_options(options)
        names = {"gzip", "stream_body"} & self._of_websockets.keys()
        self._of_requests = {name: self._of_websockets.pop(name) for name in names}
        self._address, self._options = (host, port), options
        self._events = Events()
        self._messages = MessageChains(self._events)
        self._requests = RequestChains(self._events, {"server": self})
        self._redirects: list[Route] = []
        self._static_paths: dict[str, Any] = {}
        self._server: Server | None = None
        self._make_server()  # refuses wrong options here, where they are said

    # Messages

    def add_message(
        self,
        handler: Callable[..., object],
        async_: ExecutorLike = None,
        then: Steps = None,
        *,
        path: str | None = None,
    ) -> Api:
        """Call `handler` for each message, after those added before. A str or bytes that it returns is sent back.

        It may name `message`, `server` (this Api), `client_id` (a str, the connection's) and `request`, the handshake;
        it may be a coroutine function, or return an awaitable.

        async_: compute in an executor: True or "threads", "processes", or one of your own; without `server`, `request`.
        then: a function, or several, that run on the home thread once that is done and its result sent. Each may also
            name `result`, what the one before it has returned. What they return is not sent.
        path: only for WebSockets at this path, whose parameters it may name, too. None: all.

        Raises: TypeError, ValueError.
        """
        pattern = None if path is None else PathPattern(path)
        allowed = MESSAGE if pattern is None else pattern.names_with(MESSAGE)
        self._messages.add(pattern, Chain(handler, "message handler", allowed, async_, then))
        return self._renew()

    def message(
        self, handler: Any = None, *, async_: ExecutorLike = None, then: Steps = None, path: str | None = None
    ) -> Any:
        """`@api.message`, or `@api.message(async_=True, …)`: `add_message` of the function below it."""
        if handler is not None:
            self.add_message(handler, async_, then, path=path)
            return handler
        return lambda f: self.message(f, async_=async_, then=then, path=path)

    def send(self, message: str | bytes, id: str | Iterable[str] | None = None) -> int:
        """Send to one client, to several, or to all; return how many took it. Any thread. Raises: TypeError."""
        server = self._server
        if server is None:
            return 0
        if id is None:
            count = server.broadcast(message)
        else:
            found = [server.websocket(int(one)) for one in ([id] if isinstance(id, str) else id) if one.isdecimal()]
            count = sum(ws.send(message) == SendResult.SENT for ws in found if ws is not None)
        self._tell("send", client_id=id, message=message)
        return count

    # Requests

    def add_route(
        self,
        methods: Iterable[str],
        path: str,
        handler: Callable[..., object],
        async_: ExecutorLike = None,
        then: Steps = None,
        *,
        header: bool = False,
    ) -> Api:
        """Answer requests with what `handler` returns; see `Response` for what that can be.

        path: see `PathPattern`: `/users/<id:int>?<page:int=1>`. The handler may name its parameters, and `request`,
            `server` (this Api), `query` and `body`: the value of JSON, a `Form`, text, bytes, or None.
        async_, then: as in `add_message`; the answer leaves when the last step is done.
        header: run before the body is read; None goes on, anything else is the answer.

        Raises: TypeError, ValueError, also for two handlers of the same requests.
        """
        pattern = PathPattern(path)
        allowed = pattern.names_with(_HEAD if header else _REQUEST)
        chain = Chain(handler, "header handler" if header else "request handler", allowed, async_, then)
        table = self._requests.heads if header else self._requests.bodies
        before = table.entries
        table.add(Entry(pattern, tuple(methods), chain))
        return self._renew(lambda: setattr(table, "entries", before))

    def _add(self, method: str, path: str, handler: Callable[..., object], *rest: Any, **options: Any) -> Api:
        return self.add_route((method,), path, handler, *rest, **options)

    def _decorate(self, method: str, path: str, **options: Any) -> Callable[[F], F]:
        def add(f: F) -> F:
            self.add_route((method,), path, f, **options)
            return f

        return add

    add_get, get = partialmethod(_add, "GET"), partialmethod(_decorate, "GET")
    add_head, head = partialmethod(_add, "HEAD"), partialmethod(_decorate, "HEAD")
    add_post, post = partialmethod(_add, "POST"), partialmethod(_decorate, "POST")
    add_put, put = partialmethod(_add, "PUT"), partialmethod(_decorate, "PUT")
    add_delete, delete = partialmethod(_add, "DELETE"), partialmethod(_decorate, "DELETE")
    add_patch, patch = partialmethod(_add, "PATCH"), partialmethod(_decorate, "PATCH")
    add_options, options = partialmethod(_add, "OPTIONS"), partialmethod(_decorate, "OPTIONS")
    add_any, any = partialmethod(_add, "*"), partialmethod(_decorate, "*")

    def statics(self, at: str, path: str | os.PathLike[str], *, except_: Iterable[str] = (), **options: Any) -> Api:
        """Serve files below `at` without Python, but not what is below one of `except_`; options: `static_path`'s."""
        paths = {at: static_path(path, **options), **{one: exclude_static_path() for one in except_}}
        if self._server is not None:
            self._server.static_paths.update(paths)
        self._static_paths.update(paths)
        return self

    def redirect(self, method: str, from_: str, to: str, permanent: bool = True) -> Api:
        """Send requests for `from_` to `to`, with 308, or 307 if it is not for good. Both may have `<name>` parameters;
        without, Python isn't needed. `method` may be "any". Raises: TypeError, ValueError.
        """
        status, method = (308 if permanent else 307), "*" if method == "any" else method.upper()
        answer = Response.redirect(to, status)
        pattern = PathPattern(from_)
        pattern.check_fill(to)
        if pattern.names:
            return self._add(method, from_, lambda request: Response.redirect(pattern.fill(to, request.path), status))
        self._redirects.append(Route(path=from_, methods=(method,), inline=read_whole(answer)))
        return self._renew(self._redirects.pop)

    # Events

    def on(self, event: str, handler: Callable[..., object] | None = None, id: str | None = None) -> Any:
        """Call `handler` at each `event`: one of `portico.events.EVENTS`, or your own. Return its id, for `off`.

        Without a handler it is a decorator.

        "header": what it returns answers instead, False with 403; None and True go on. "before-message": a str or bytes
        replaces the message. Otherwise what it returns is ignored. Raises: TypeError, ValueError.
        """
        if handler is None:
            return lambda f: (self.on(event, f, id), f)[1]
        name = self._events.on(event, handler, id)
        self._renew()
        return name

    def off(self, id: str) -> None:
        """Never call the event handler with this id again. Raises: KeyError."""
        self._events.off(id)
        self._renew()

    def trigger(self, event: str, **arguments: object) -> dict[str, object]:
        """Tell of an event of your own; return what its handlers returned, by id. Raises: ValueError."""
        return self._events.trigger(event, {**arguments, "server": self})

    def _tell(self, event: str, **values: object) -> dict[str, object]:
        return self._events.tell(event, {**values, "server": self})

    def log(self, event: str, message: object, level: int = logging.INFO) -> None:
        """A line on the logger `portico.api`. Any thread."""
        logger.log(level, "%s: %s", event, message, extra={"event": event})

    # Life

    @property
    def url(self) -> str | None:
        """Where it is found; None unless it runs."""
        return None if self._server is None else self._server.url

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self._server is not None and self._server.is_running

    def run(self, block: bool | None = None) -> Api:
        """Start to serve; and unless this is a prompt, or a running loop, go on until `stop` or Ctrl-C.

        Raises: OSError that names the address; RuntimeError if it runs already, or inside a callback.
        """
        if self._server is not None:
            raise RuntimeError(f"this api runs already, at {self.url}")
        if block is None:
            block = can_wait() and not (hasattr(sys, "ps1") or sys.flags.interactive)
        if block:
            require_idle("run()", "run(block=False)")
        server = self._server = self._make_server()
        try:
            server.start()
        except BaseException:
            self._server = None
            raise
        self._tell("start")
        if block and self._server is server:  # nobody has stopped it at the start
            server.serve()
        return self

    def stop(self, timeout: float = 0.0) -> None:
        """`server.stop(timeout)`; it may run again. Any thread."""
        if self._server is not None:
            self._server.stop(timeout)

    def __enter__(self) -> Api:
        return self.run(block=False)

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Api {self.url or 'that does not run'}>"

    def _make_server(self) -> Server:
        paths = self._static_paths or None
        return Server(self._routes(), self._address, static_paths=paths, on_end=self._ended, **self._options)

    def _ended(self) -> None:
        self._server = None
        self._tell("end")

    def _renew(self, undo: Callable[[], object] = lambda: None) -> Api:
        try:
            routes = self._routes()
            check_clashes(routes)
            if self._server is not None:
                self._server.replace_handlers(*routes)
        except BaseException:
            undo()
            raise
        return self

    def _routes(self) -> list[Route]:
        requests, messages = self._requests.bodies.mounts(), self._messages.mounts()
        if requests and ("/", True) in messages:
            requests["/", True] = ("*",)  # or what nobody answers would be told that it could be a WebSocket
        return self._redirects + [
            self._route(*mount, requests.get(mount), mount in messages or self._messages.reach(mount[0]))
            for mount in dict.fromkeys((*requests, *messages))
        ]

    def _route(self, path: str, prefix: bool, methods: tuple[str, ...] | None, takes_websockets: bool) -> Route:
        for_websockets: dict[str, Any] = {
            "on_open": self._opened,
            "on_message": self._message,
            "on_close": self._closed,
        }
        has_guard = self._requests.heads.entries or self._events.has("header")
        return Route(
            path=path,
            prefix=prefix,
            methods=methods,
            on_head=self._head
            if has_guard or (takes_websockets and self._messages.needs_guard((path, prefix)))
            else None,
            on_request=None if methods is None else self._requests.answer,
            **({} if methods is None else self._of_requests),
            **({**for_websockets, **self._of_websockets} if takes_websockets else {}),
        )

    # What the server calls

    def _head(self, request: Request) -> object:
        answer = self._requests.guard(request)
        if answer is not None or not request.is_websocket:
            return self._requests.answer_head(request) if answer is None else answer
        return None if self._messages.knows(request.path) else refusal(404)

    def _opened(self, ws: WebSocket) -> None:
        self._tell("websocket-opened", client_id=str(ws.id), request=ws.request)

    def _closed(self, ws: WebSocket) -> None:
        self._tell("websocket-closed", client_id=str(ws.id), request=ws.request)

    def _message(self, ws: WebSocket, message: object) -> object:
        names = {"message": message, "client_id": str(ws.id), "request": ws.request, "server": self}
        return self._messages.run(ws, names)
