"""nanonext's door: `http_server(url, handlers)`, and what makes handlers: `handler`, `handler_ws`, `handler_stream`, …

Each makes a `Route`; which of them answers is found natively. Thread: any; callbacks run on the server's home thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portico.answer import PushAnswer, read_whole
from portico.response import Response
from portico.routes import ANY_METHOD, Deflate, Gzip, Route, SlowClient, read_deflate, read_gzip
from portico.server import Names, Server, check_options
from portico.static_paths import static_path

if TYPE_CHECKING:
    from portico.request import Request
    from portico.stream_connection import StreamConnection
    from portico.tls import TlsConfig
    from portico.websocket_connection import WebSocket

_TEXT = "text/plain; charset=utf-8"
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# What ends a line in an event stream (WHATWG HTML §9.2.5).
_LINE_END = re.compile(r"\r\n|\r|\n")


def http_server(
    url: str, handlers: Route | Sequence[Route] = (), tls: TlsConfig | None = None, **options: Any
) -> Server:
    """A server for these handlers. It doesn't listen until `start()`, `with` or `serve()`.

    url: "http://127.0.0.1:8000", "https://…", or "unix:/path"; port 0 lets the system choose, and `server.url` tells.
    handlers: one or several; more come and go with `server.add_handler` and `server.remove_handler`. The longest path
        that takes the method answers; a path without the method is a 405, none at all a 404, both without Python.
    tls: `tls_config(server=…)`, for an https URL: https and wss on one port.
    options: those of `start_server` that aren't about its app: `limits`, `callbacks`, `allowed_hosts`, …

    Raises: TypeError, ValueError, also for two handlers of the same requests, naming both; OSError.
    """
    address, is_secure = _read_url(url)
    if is_secure and tls is None:
        raise ValueError(f"{url!r} needs a certificate: tls=tls_config(server=…)")
    if tls is not None and not is_secure and not isinstance(address, str):
        raise ValueError(f"tls= is for a URL that begins with https:// or wss://; got {url!r}")
    routes = [handlers] if isinstance(handlers, Route) else list(handlers)
    for route in routes:
        if not isinstance(route, Route):
            raise TypeError(f"a handler is made by handler(…), handler_ws(…), …; got {route!r}")
    check_options("http_server()", options)
    return Server(routes, address, tls=tls, **options)


def handler(
    path: str,
    callback: Callable[[Request], object],
    method: str | Sequence[str] = "GET",
    prefix: bool = False,
    *,
    gzip: bool | Gzip = False,
    stream_body: bool = False,
) -> Route:
    """Answer requests for `path` with what `callback(req)` returns; see `Response` for what that can be.

    A body that is a str gets `Content-Type: text/plain; charset=utf-8` if none is said.

    method: one, several, or `"*"` for any. GET answers HEAD, too, without the body.
    prefix: also answer for everything below `path`.
    gzip: compress answers where the client takes it, as in `start_server`.
    stream_body: call it when the head is there; it reads the body from `req.stream` while it comes.
    """
    _check_callable("callback", callback)
    return Route(
        path=path,
        prefix=prefix,
        methods=_read_method(method),
        on_request=callback,
        text_type=_TEXT,
        gzip=read_gzip(gzip),
        stream_body=stream_body,
    )


def handler_ws(
    path: str,
    on_message: Callable[[WebSocket, Any], object],
    on_open: Callable[[WebSocket, Request], object] | None = None,
    on_close: Callable[[WebSocket], object] | None = None,
    textframes: bool | None = False,
    *,
    prefix: bool = False,
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    allowed_origins: Names = None,
    slow_client: SlowClient = "close",
) -> Route:
    """Take WebSockets at `path`: `on_open(ws, req)`, `on_message(ws, data)` for each message, `on_close(ws)`, once.

    `on_open` may refuse with `ws.close(code, reason)`: `on_message` is never called then, `on_close` is, as ever.

    textframes: False: messages are bytes both ways (what is sent as str is encoded), and a client that sends text is
        closed with 1003. True: messages are str both ways; bytes must be UTF-8, else sending raises ValueError, and a
        client is closed with 1007. None: str is text and bytes are binary, both ways.
    allowed_origins: pages of these origins may connect, besides the server's own; `"*"`: any; None: as the server says.
    subprotocols, requires_subprotocol, deflate, slow_client: as in `start_server`.
    """
    _check_callable("on_message", on_message)
    for name, callback in (("on_open", on_open), ("on_close", on_close)):
        if callback is not None:
            _check_callable(name, callback)
    if textframes is not None and not isinstance(textframes, bool):
        raise TypeError(f"textframes must be True, False or None; got {textframes!r}")
    return Route(
        path=path,
        prefix=prefix,
        on_open=None if on_open is None else _with_request(on_open),
        on_message=on_message,
        on_close=on_close,
        frames=None if textframes is None else "text" if textframes else "binary",
        subprotocols=subprotocols,
        requires_subprotocol=requires_subprotocol,
        deflate=read_deflate(deflate),
        allowed_origins=allowed_origins,
        slow_client=slow_client,
    )


def handler_stream(
    path: str,
    on_request: Callable[[StreamConnection, Request], object],
    on_close: Callable[[StreamConnection], object] | None = None,
    method: str | Sequence[str] = "*",
    prefix: bool = False,
    *,
    gzip: bool | Gzip = False,
) -> Route:
    """Answer piece by piece, whenever there is something: `on_request(conn, req)` may keep `conn` and return.

    `conn.send(data)` sends a piece, from any thread, and `conn.close()` ends the answer. `on_close(conn)` is called
    once, when that has happened, when the client has left, or when the server has stopped. `gzip` compresses the pieces
    where the client takes it; each still leaves at once.
    """
    _check_callable("on_request", on_request)
    if on_close is not None:
        _check_callable("on_close", on_close)
    return Route(
        path=path,
        prefix=prefix,
        methods=_read_method(method),
        on_request=partial(PushAnswer, on_request, on_close),
        gzip=read_gzip(gzip),
    )


def handler_file(path: str, file: str | PathLike[str], prefix: bool = False, **options: Any) -> Route:
    """Serve one file, without Python, and as it is at the time. `prefix`: for everything below `path`, too.

    options: those of `static_path`. Raises: OSError if it isn't there; ValueError, TypeError.
    """
    static = static_path(file, **options)
    if not static.is_file:
        raise ValueError(f"handler_file needs a file, which {static.path!r} is not; see handler_directory")
    return Route(path=path, prefix=prefix, files=replace(static, reach="all" if prefix else "exact"))


def handler_directory(path: str, directory: str | PathLike[str], **options: Any) -> Route:
    """Serve the files of a directory below `path`, without Python: conditional requests, ranges, `index.html`, …

    options: those of `static_path`. Raises: OSError if it isn't there; ValueError, TypeError.
    """
    static = static_path(directory, **options)
    if static.is_file:
        raise ValueError(f"handler_directory needs a directory, which {static.path!r} is not; see handler_file")
    return Route(path=path, prefix=True, files=static)


def handler_inline(
    path: str,
    data: str | bytes,
    content_type: str | None = None,
    prefix: bool = False,
    *,
    gzip: bool | Gzip = False,
) -> Route:
    """Answer GET with `data`, without Python. `content_type` None: application/octet-stream. `gzip`: see `handler`."""
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"data must be str or bytes, not {type(data).__name__}")
    if content_type is not None and not isinstance(content_type, str):
        raise TypeError(f"content_type must be a str or None, not {type(content_type).__name__}")
    answer = Response(200, {"Content-Type": content_type or "application/octet-stream"}, data)
    return Route(path=path, prefix=prefix, inline=read_whole(answer), gzip=read_gzip(gzip))


def handler_redirect(path: str, location: str, status: int = 302, prefix: bool = False) -> Route:
    """Send any request for `path` to `location`, without Python: 301, 302, 303, 307 or 308."""
    return Route(path=path, prefix=prefix, methods=ANY_METHOD, inline=read_whole(Response.redirect(location, status)))


def format_sse(
    data: str | None,
    event: str | None = None,
    id: str | int | None = None,
    retry: int | None = None,
    *,
    comment: str | None = None,
) -> str:
    """One server-sent event, for `conn.send`. Browsers call `onmessage`, or the listeners of `event`, with `data`.

    id: what a browser sends as `Last-Event-ID` when it connects again. retry: after how many milliseconds it does.
    comment: nobody sees it; with `data` None it is a heartbeat, which keeps proxies from closing a quiet connection.

    Raises: TypeError; ValueError for line ends where there can be only one line.
    """
    lines = [] if comment is None else [f": {line}" for line in _lines("comment", comment)]
    if event is not None:
        lines.append(f"event: {_one_line('event', event)}")
    if id is not None:
        lines.append(f"id: {_one_line('id', str(id) if type(id) is int else id)}")
    if retry is not None:
        if not isinstance(retry, int) or isinstance(retry, bool) or retry < 0:
            raise ValueError(f"retry must be a whole number of milliseconds, at least 0; got {retry!r}")
        lines.append(f"retry: {retry}")
    if data is not None:
        lines += [f"data: {line}" for line in _lines("data", data)]
    if not lines:
        raise ValueError("an event of nothing: give it data, or a comment")
    return "\n".join(lines) + "\n\n"


def _lines(name: str, text: object) -> list[str]:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}; json.dumps makes one of other values")
    return _LINE_END.split(text)


def _one_line(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    # A line end would begin a field, or an event, of somebody else's making; browsers ignore an id with a NUL.
    if re.search(r"[\r\n\0]", text):
        raise ValueError(f"{name} must have no line ends or NULs; got {text!r}")
    return text


def _with_request(on_open: Callable[[WebSocket, Request], object]) -> Callable[[WebSocket], object]:
    return lambda ws: on_open(ws, ws.request)


def _read_method(method: object) -> Sequence[str]:
    if isinstance(method, str):
        return (method,)
    if method is None or (isinstance(method, Sequence) and not method):
        raise ValueError("method must be one or several, or '*' for any; got none")
    return method  # type: ignore[return-value]  # Route refuses the rest


def _read_url(url: str) -> tuple[tuple[str, int] | str, bool]:
    """The address, and whether TLS is asked for."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    if url.startswith("unix:"):
        return url.removeprefix("unix:"), False
    wanted = "expected http://host:port, like 'http://127.0.0.1:8000', or unix:/path"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{error} in url {url!r}; {wanted}") from None
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
    if parts.scheme not in _PORTS or not host or any(rest):
        raise ValueError(f"a server can't be at url {url!r}; {wanted}")
    return (host, _PORTS[parts.scheme] if port is None else port), parts.scheme in ("https", "wss")


def _check_callable(name: str, callback: object) -> None:
    if not callable(callback):
        raise TypeError(f"{name} must be callable, not {type(callback).__name__} ({callback!r})")
