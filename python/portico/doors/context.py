"""R websockets' door: `create_server(port, webpage)` gives a Context; its callbacks are looked up when the event comes.

A vocabulary over one Route and one Server, or one Client. It keeps no connection: both maps below are weak.
Thread: callbacks run on the home thread; what writes, closes and answers may be called on any.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

from portico.client import Client, connect
from portico.home import can_wait, current_home, require_idle
from portico.request_header import RequestHeader
from portico.response import Response
from portico.response_fields import check_fields, check_status, read_fields
from portico.routes import ROUTE_OPTIONS, Route, pop_route_options
from portico.server import Server, check_options
from portico.websocket_connection import SendResult, WebSocket, as_binary, as_text
from portico.ws_url import with_port

if TYPE_CHECKING:
    from types import TracebackType

    from portico.request import Request

Message: TypeAlias = "str | bytes | bytearray | memoryview"
Webpage: TypeAlias = Callable[[int, RequestHeader], object]

PORT: Final = 7681
HTML: Final = "text/html; charset=utf-8"
CALLBACKS: Final = ("established", "receive", "closed", "static")
NOT_FOUND: Final = Response.text("404 Not Found\n", 404)

# Of which context a WebSocket is, and who waits for the answer to a request.
_contexts: WeakKeyDictionary[WebSocket, Context] = WeakKeyDictionary()
_unanswered: WeakValueDictionary[int, Future[object]] = WeakValueDictionary()
_sockets: Final = itertools.count(1)


class FrameHeader(NamedTuple):
    """What `receive` is told of a message, whose fragments are together and whose compression is undone by then."""

    fin: bool
    rsv1: bool
    rsv2: bool
    rsv3: bool
    opcode: int
    """1: text, 2: binary."""


_TEXT: Final = FrameHeader(True, False, False, False, 1)
_BINARY: Final = FrameHeader(True, False, False, False, 2)


# HTTP


def http_response(
    socket: int, status: int = 200, content_type: str | None = HTML, content: str | bytes = "", headers: object = ()
) -> bool:
    """Answer the request that `static` was told of as `socket`: once, there or later, on any thread.

    headers: a mapping or pairs; a Content-Type among them is in place of `content_type`.
    Returns: False if there is nobody to answer: it has been answered, or the client has left. What is said outside
    callbacks leaves when they are served next. Raises: TypeError; ValueError for what HTTP cannot carry.
    """
    if not isinstance(content, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"content must be str or bytes, not {type(content).__name__}")
    fields = read_fields(headers)
    if content_type is not None and all(name.lower() != "content-type" for name, _ in fields):
        fields = [*read_fields({"Content-Type": content_type}), *fields]
    # Here, where whoever said it can be told.
    return _settle(socket, Response(check_status(status), check_fields(fields), content))


def http_vars(socket: int, header: RequestHeader) -> dict[str, Any] | None:
    """The fields of a request's query, or of the form that a POST has as body; None if there are none.

    Of a repeated name the first counts; `header.request` has them all, in `query` and `form()`. In a query, a name
    without `=` is None; in a form, a file is an `Upload`. Raises: ValueError for a form that is malformed.
    """
    if not isinstance(header, RequestHeader):
        raise TypeError(f"http_vars needs the header that static got, not {type(header).__name__}")
    return header.read_vars() or None


def static_file_service(path: str | os.PathLike[str], content_type: str | None = None) -> Webpage:
    """A `static` that answers every request with a file as it is then, and with 404 while it is gone.

    content_type: None guesses by the name. Raises: OSError if it can't be opened now.
    """
    answer = Response.file(path, content_type=content_type)
    with open(path, "rb"):
        pass
    return lambda socket, header: _settle(socket, answer if os.path.isfile(path) else NOT_FOUND)


def static_text_service(text: str | bytes, content_type: str | None = HTML) -> Webpage:
    """A `static` that answers every request with this text."""
    return lambda socket, header: http_response(socket, content_type=content_type, content=text)


def _settle(socket: int, answer: Response) -> bool:
    future = _unanswered.pop(socket, None)
    try:
        if future is not None:
            future.set_result(answer)
    except InvalidStateError:  # the client has left
        future = None
    return future is not None


def _answer_of(result: object, answer: Future[object]) -> object:
    """The answer, if there is one. True says that none will come, and anything else nothing."""
    if answer.done():
        return answer.result()
    if isinstance(result, (str, bytes, Response)):  # who expects this to be the answer would wait for it for ever
        raise TypeError(f"static answers by http_response(socket, content=…), and returned a {type(result).__name__}")
    return NOT_FOUND if result is True else answer


async def _await_both(result: Any, answer: Future[object]) -> object:
    try:
        found = _answer_of(await result, answer)
        return await asyncio.wrap_future(answer) if found is answer else found
    finally:
        answer.cancel()  # if there is none, the client has left


# Contexts


class Context:
    """A namespace with up to four callbacks, and the server or the client whose events they are for.

    `established(ws)`, `receive(data, ws, header)`, `closed(ws)`, `static(socket, header)`: each may be set, replaced or
    None at any time; the one counts that is there when the event comes. They may be coroutine functions. `is_binary` is
    what `websocket_write` and `websocket_broadcast` send. Other names are yours.
    """

    established: Callable[[WebSocket], object] | None = None
    receive: Callable[[bytes, WebSocket, FrameHeader], object] | None = None
    closed: Callable[[WebSocket], object] | None = None
    static: Webpage | None = None

    def __init__(self, webpage: Webpage | None = None, is_binary: bool = False) -> None:
        self.static = webpage
        self.is_binary = is_binary
        self.server: Server | None = None
        self.client: Client | None = None
        self._options: dict[str, Any] = {}  # the server's

    def __setattr__(self, name: str, value: object) -> None:
        if name in CALLBACKS and value is not None and not callable(value):
            raise TypeError(f"{name} must be callable or None, not {type(value).__name__} ({value!r})")
        if name == "is_binary" and not isinstance(value, bool):
            raise TypeError(f"is_binary must be True or False, not {type(value).__name__} ({value!r})")
        super().__setattr__(name, value)

    @property
    def port(self) -> int | None:
        """Where its server listens; None without one."""
        return None if self.server is None else self.server.port

    @property
    def url(self) -> str | None:
        """Where a browser on this machine finds its server; None without one."""
        return None if self.server is None else self.server.url

    def service(self, timeout: float | None = None) -> int:
        """Run callbacks of this context, and of the others of its thread; see `portico.service`."""
        running = self.server or self.client
        if running is None:
            raise RuntimeError("service(): this context has neither a server nor a client")
        return running.service(timeout)

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.server is not None or self.client is not None:
            websocket_close(self)

    def __repr__(self) -> str:
        return f"<Context {self.server or self.client or 'unbound'}>"

    # Events

    def _opened(self, ws: WebSocket) -> object:
        _contexts[ws] = self
        return None if self.established is None else self.established(ws)

    async def _opened_later(self, opened: Future[None], is_returned: Future[None], ws: WebSocket) -> None:
        """As `_opened`, when `websocket` has returned; messages wait for it."""
        opened.set_result(None)
        await asyncio.wrap_future(is_returned)
        result: Any = self._opened(ws)
        if hasattr(result, "__await__"):
            await result

    def _received(self, ws: WebSocket, message: str | bytes) -> object:
        if self.receive is None:
            return None
        header = _BINARY if isinstance(message, bytes) else _TEXT
        return self.receive(message if isinstance(message, bytes) else message.encode(), ws, header)

    def _ended(self, ws: WebSocket) -> object:
        return None if self.closed is None else self.closed(ws)

    def _asked(self, request: Request) -> object:
        if self.static is None:
            return NOT_FOUND
        socket, answer = next(_sockets), Future[object]()
        _unanswered[socket] = answer
        result = self.static(socket, RequestHeader(request))
        return _await_both(result, answer) if hasattr(result, "__await__") else _answer_of(result, answer)


DEMO_PAGE: Final = static_file_service(Path(__file__).parent.parent / "context.html", HTML)


def create_server(
    port: int = PORT,
    webpage: Webpage | None = DEMO_PAGE,
    is_binary: bool = False,
    *,
    host: str = "127.0.0.1",
    **options: Any,
) -> Context:
    """Start a server on `port` and return its Context. There can be any number of them, each on a port of its own.

    port: 0 lets the system choose; `context.port` and `context.url` tell.
    webpage: `webpage(socket, header)` answers what is no WebSocket, by `http_response`; it becomes `context.static`.
        None: everything is a 404. By default it is a page that talks to this server.
    is_binary: what is written goes out as binary messages, not as text.
    options: as for `start_server`: `subprotocols`, `deflate`, `gzip`, `slow_client`, `tls`, `limits`, `callbacks`, …

    Raises: OSError that names the address and the reason; TypeError, ValueError.
    """
    check_options("create_server()", options, ROUTE_OPTIONS)
    context = Context(webpage, is_binary)
    route = Route(
        prefix=True,
        on_request=context._asked,
        on_open=context._opened,
        on_message=context._received,
        on_close=context._ended,
        **pop_route_options(options),
    )
    context._options = options
    context.server = Server([route], (host, port), **options).start()
    return context


def create_context(
    port: int = PORT, webpage: Webpage | None = DEMO_PAGE, server: bool = True, is_binary: bool = False, **options: Any
) -> Context:
    """As `create_server`; with `server=False` a Context without one, for `websocket(…, context=…)`."""
    if server:
        return create_server(port, webpage, is_binary, **options)
    if options:
        raise TypeError(f"a context without a server has no {', '.join(options)}")
    return Context(webpage, is_binary)


def set_callback(name: str, f: Callable[..., object] | None, context: Context) -> None:
    """From now on `f` is the context's `established`, `receive`, `closed` or `static`; None: there is none."""
    if name not in CALLBACKS:
        raise ValueError(f"a callback is one of {', '.join(CALLBACKS)}; got {name!r}")
    setattr(_check_context(context), name, f)


def daemonize(context: Context) -> None:
    """Have callbacks run without `service`: in the running loop, at the idle prompt, or else on a thread of their own.

    In a loop and at a prompt that is so anyway. In a script the server moves to that thread; WebSockets that are open
    already end with 1001. Raises: ValueError for a context without a running server; RuntimeError inside a callback.
    """
    server = _check_context(context).server
    if server is None or not server.is_running:
        raise ValueError("daemonize needs a context whose server runs; for a client: websocket(…, callbacks='thread')")
    if not server.is_served:
        require_idle("daemonize()", "create_server(…, callbacks='thread')")
        server.stop()
        options = {**context._options, "callbacks": "thread"}
        context.server = Server(server.handlers, (server.host or "", server.port or 0), **options).start()


# WebSockets


def websocket(
    url: str,
    port: int = 80,
    subprotocol: str | None = None,
    *,
    is_binary: bool = False,
    context: Context | None = None,
    **options: Any,
) -> Context:
    """Connect to somebody else's server, and return the Context whose callbacks hear of it.

    It returns when the connection is open. What the server has sent meanwhile is for the callbacks that are there when
    they are served next. Inside a callback or a running loop it returns at once, and a failure is logged.

    url: as for `connect`. port: if the URL says none. subprotocol: the one that is offered.
    context: one that has its callbacks already: what `create_context(server=False)` made, or one whose client is over.
    options: as for `connect`: `headers`, `deflate`, `tls`, `callbacks`, `open_timeout_s`, … Raises: what it raises.
    """
    context = Context(is_binary=is_binary) if context is None else _check_context(context)
    if context.server is not None or (context.client is not None and context.client.close_code is None):
        raise ValueError(f"{context!r} is taken; websocket() needs one of its own")
    home, waits = current_home(), can_wait()
    opened, is_returned = Future[None](), Future[None]()
    opened.add_done_callback(lambda _: home.wake())  # with callbacks="thread" it comes from there
    client = connect(
        with_port(url, port),
        on_open=partial(context._opened_later, opened, is_returned),
        on_message=context._received,
        on_close=context._ended,
        on_error=opened.set_exception if waits else None,
        subprotocols=[] if subprotocol is None else [subprotocol],
        **options,
    )
    try:
        if waits:
            home.run_until(opened.done, None, "websocket()")
            opened.result()
    except BaseException:
        client.close()
        raise
    finally:
        is_returned.set_result(None)
    context.client = client
    return context


def websocket_write(data: Message, ws: WebSocket | Context) -> SendResult:
    """Send one message, as text or as binary by the context's `is_binary`, whatever the type of `data`.

    ws: what a callback got, or the context of a client. Returns: SENT, CLOSED or FULL, as `ws.send`. Raises: TypeError;
    ValueError for bytes that are not UTF-8 where text is sent.
    """
    context, ws = _resolve(ws)
    return ws.send(_convert(data, context))


def websocket_broadcast(data: Message, context: Context) -> int:
    """Send one message to every WebSocket of a context; return how many took it. Raises: as `websocket_write`."""
    message = _convert(data, _check_context(context))
    if context.server is not None:
        return context.server.broadcast(message)
    return int(context.client is not None and context.client.send(message) == SendResult.SENT)


def websocket_close(connection: WebSocket | Context, code: int = 1000, reason: str = "") -> SendResult:
    """Begin the closing handshake of a WebSocket or a client; or stop a context's server, as `server.stop`.

    Returns: SENT, or CLOSED if there was nothing left to close. Raises: as `ws.close`.
    """
    if not isinstance(connection, Context) or connection.server is None:
        return _resolve(connection)[1].close(code, reason)
    was_running = connection.server.is_running
    connection.server.stop()
    return SendResult.SENT if was_running else SendResult.CLOSED


def _resolve(ws: WebSocket | Context) -> tuple[Context, WebSocket]:
    if isinstance(ws, Context) and ws.client is not None:
        return ws, ws.client
    context = _contexts.get(ws) if isinstance(ws, WebSocket) else None
    if context is None:
        raise TypeError(f"expected what a context's callback got as ws, or a client's context; got {ws!r}")
    return context, ws  # type: ignore[return-value]


def _check_context(context: object) -> Context:
    if not isinstance(context, Context):
        raise TypeError(f"expected what create_server(…) returns, not {type(context).__name__}")
    return context


def _convert(data: Message, context: Context) -> Message:
    return as_binary(data) if context.is_binary else as_text(data, "which is_binary=True would change")
