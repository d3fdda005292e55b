"""httpuv's door: `start_server(host, port, app)`, where an app is an object, a mapping or a function.

Translates and checks; serving is the server's business. Thread: the one that starts a server becomes its home.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from portico.access_log import AccessLog
from portico.answer import read_whole
from portico.cors import CorsLike
from portico.home import Callbacks, current_home, require_idle
from portico.proxies import Proxies
from portico.request import Request
from portico.response import Response
from portico.routes import ROUTE_OPTIONS, Deflate, Gzip, Inline, Limits, Route, SlowClient, pop_route_options
from portico.server import Names, Server, check_options, list_servers
from portico.static_paths import StaticPath, static_path
from portico.tls import TlsConfig

logger = logging.getLogger("portico")

InlineAnswers: TypeAlias = "Mapping[str, tuple[str, bytes | str] | Response]"

_CALLABLES = ("call", "on_headers", "on_ws_open")
_MEMBERS = {*_CALLABLES, "static_paths", "static_path_options"}
_NOT_FOUND = (404, [("Content-Type", "text/plain; charset=utf-8")], b"404 Not Found\n")

STATIC_PORT: Final = 7446


def start_server(
    host: str,
    port: int,
    app: object,
    quiet: bool = False,
    *,
    tls: TlsConfig | None = None,
    limits: Limits | None = None,
    callbacks: Callbacks = "auto",
    allowed_origins: Names = None,
    allowed_hosts: Names = None,
    cors: CorsLike = None,
    trusted_proxies: Proxies = None,
    access_log: AccessLog = False,
    replace: bool = False,
    inline: InlineAnswers | None = None,
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    gzip: bool | Gzip = False,
    slow_client: SlowClient = "close",
    stream_body: bool = False,
) -> Server:
    """Start serving `app` on `host:port` and return at once.

    app: an object or mapping with `call(req)` (answers requests; without it they get 404, or 426 where WebSockets are
        served), `on_headers(req)` (runs when the head is there; None goes on, a response answers instead of `call`)
        and `on_ws_open(ws)`; or just a function, which is `call`. What they may return: see `Response`; coroutines
        and futures are awaited. `static_paths` maps URL paths to directories and files that are served without Python
        (see `static_path`), and `static_path_options` is what they inherit; both are read now, and live on as
        `server.static_paths` and `server.static_path_options`. **`on_headers` does not guard static paths**;
        `validation` and `exclude_static_path` do.
    port: 0 lets the system choose; `server.port` and `server.url` tell.
    quiet: no log line about the start. A start that fails still raises.
    tls: `tls_config(server=…)`: https and wss instead of http and ws.
    limits: `Limits(…)` other than the defaults.
    callbacks: where they run: "loop" (the asyncio loop running in this thread), "service" (inside `service()`,
        `serve()`), "thread" (a thread of the server's own) or "auto", the first of these two that fits.
    allowed_origins, allowed_hosts: names besides the server's own that `Origin` and `Host` may carry; `"*"`: any.
    cors: which pages of other origins may read answers: True or "*" (any), a list of origins, or `Cors(…)`; pre-flights
        are answered natively. WebSockets are guarded by `allowed_origins`.
    trusted_proxies: IP addresses and networks of reverse proxies, or "unix" for whoever comes over a unix socket:
        whose X-Forwarded-For, -Proto and -Host become `req.client`, `req.scheme` and `req.host`. None: nobody's.
    access_log: tell the logger `portico.access`, at level INFO, of every request and what became of it: "common",
        "combined" (which is True) or "json". While Python is busy at most 10,000 records wait.
    replace: first stop a server of this process that listens at the same address (for cells that run again).
    inline: answers that never need Python: `{"/path": (content_type, body)}` or `{"/path": Response(…)}`.
    subprotocols: what WebSockets may speak, in the order of preference; `ws.subprotocol` tells what was agreed on.
    requires_subprotocol: refuse WebSockets that offer none of them.
    deflate: compress WebSocket messages where the client agrees; True, or `Deflate(…)` other than the defaults.
    gzip: compress answers where the client takes it; True, or `Gzip(…)` other than the defaults. Not where an answer
        holds a secret beside what a stranger chose (BREACH, see `Gzip`).
    slow_client: what a message does that doesn't fit into `max_outbox_bytes`: "close" the connection with 1013,
        "drop_new" (only this message is lost) or "drop_oldest" (it pushes out older ones).
    stream_body: call `call(req)` when the head is there; it reads the body from `req.stream` while it comes.

    Raises: OSError that names the address and the reason; ValueError; TypeError.
    """
    server = build_server(
        app,
        (host, port),
        inline,
        subprotocols=subprotocols,
        requires_subprotocol=requires_subprotocol,
        deflate=deflate,
        gzip=gzip,
        slow_client=slow_client,
        tls=tls,
        stream_body=stream_body,
        quiet=quiet,
        limits=limits,
        callbacks=callbacks,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        cors=cors,
        trusted_proxies=trusted_proxies,
        access_log=access_log,
        replace=replace,
    )
    return server.start()


def start_pipe_server(
    name: str | os.PathLike[str],
    mask: int | None,
    app: object,
    quiet: bool = False,
    *,
    tls: TlsConfig | None = None,
    limits: Limits | None = None,
    callbacks: Callbacks = "auto",
    allowed_origins: Names = None,
    allowed_hosts: Names = None,
    cors: CorsLike = None,
    trusted_proxies: Proxies = None,
    access_log: AccessLog = False,
    replace: bool = False,
    inline: InlineAnswers | None = None,
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    gzip: bool | Gzip = False,
    slow_client: SlowClient = "close",
    stream_body: bool = False,
) -> Server:
    """Start serving `app` on the unix socket at `name`; otherwise as `start_server`.

    mask: permission bits to take away, as in umask (`0o177`: only the owner may connect); None or negative leaves the
        mode to the process's own umask.
    """
    server = build_server(
        app,
        _read_name(name),
        inline,
        subprotocols=subprotocols,
        requires_subprotocol=requires_subprotocol,
        deflate=deflate,
        gzip=gzip,
        slow_client=slow_client,
        tls=tls,
        stream_body=stream_body,
        quiet=quiet,
        limits=limits,
        callbacks=callbacks,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        cors=cors,
        trusted_proxies=trusted_proxies,
        access_log=access_log,
        mode=_read_mask(mask),
        replace=replace,
    )
    return server.start()


def run_server(host: str, port: int, app: object, quiet: bool = False, **options: Any) -> None:
    """Start a server, serve until `interrupt()` or Ctrl-C, stop it. Options: see `start_server`.

    Raises: what `start_server` raises; RuntimeError in a running loop or a callback.
    """
    check_options("run_server()", options, {"inline", *ROUTE_OPTIONS})
    build_server(app, (host, port), quiet=quiet, **options).serve()


def run_static_server(
    directory: str | os.PathLike[str] = ".",
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    browse: bool = False,
    background: bool = False,
    tls: TlsConfig | None = None,
    access_log: AccessLog = False,
    cors: CorsLike = None,
    **static_options: Any,
) -> Server | None:
    """Serve the files of a directory until `interrupt()` or Ctrl-C, without Python. Prints where.

    port: None is 7446, or a free one if that is taken.
    browse: open it in a browser.
    background: return the running server instead, for a prompt or a notebook.
    tls: `tls_config(server=…)`: https instead of http.
    access_log: as for `start_server`.
    cors: which pages of other origins may read the files; see `start_server`.
    static_options: those of `static_path`: `listing=True`, `symlinks=True`, …

    Raises: OSError that names the directory or the address; what `static_path` raises; RuntimeError in a running loop
    or a callback, unless `background`.
    """
    if not background:
        require_idle("run_static_server()", "run_static_server(…, background=True)")
    site = static_path(directory, **static_options)
    options: dict[str, Any] = {
        "callbacks": "thread" if background else "auto",
        "tls": tls,
        "access_log": access_log,
        "cors": cors,
    }
    server = _start_static(site, host, port, options)
    try:
        print(f"Serving: '{site.path}'")
        print(f"View at: {server.url}", flush=True)
        if browse:
            _browse(server.url)
    except BaseException:
        server.stop()
        raise
    if background:
        return server
    server.serve()
    return None


def stop_server(server: Server) -> None:
    """Stop a server: `server.stop()`. Raises: TypeError."""
    if not isinstance(server, Server):
        raise TypeError(f"stop_server needs a Server, not {type(server).__name__}")
    server.stop()


def stop_all_servers() -> None:
    """Stop every running server of this process."""
    for server in list_servers():
        server.stop()


@runtime_checkable
class Serviced(Protocol):
    """What has callbacks: a server, a client, what another door makes of them."""

    def service(self, timeout: float | None = None) -> int:
        """Run those of its home."""


def service(server: Serviced | float | None = None, timeout: float | None = None) -> int:
    """Run callbacks of this thread, or of the home `server` lives in; return how many ran.

    A lone number is the time-out, in seconds. 0: only what is ready; None: wait until something ran.
    Raises: RuntimeError inside a callback, or on another thread than the server's.
    """
    if isinstance(server, (int, float)) and not isinstance(server, bool):
        if timeout is not None:
            raise TypeError("service(server, timeout): the first argument must be a Server, a Context or None")
        server, timeout = None, server
    if server is None:
        return current_home().service(timeout)
    if not isinstance(server, Serviced):
        raise TypeError(f"service needs a Server, a Context or a number of seconds, not {type(server).__name__}")
    return server.service(timeout)


def fileno() -> int:
    """This thread's descriptor: readable when `service(0)` has something to do. Watch it with any loop, never read it.

    It stays the same for as long as this thread lives, whatever starts and stops meanwhile.
    """
    home = current_home()
    home.touch()
    return home.watched_fileno()


def build_server(
    app: object, address: tuple[str, int] | str, inline: InlineAnswers | None = None, **options: Any
) -> Server:
    """Read an app's members, once, into a server. Options: a `Server`'s, and what a `Route` takes.

    Raises: TypeError, ValueError, OSError.
    """
    for_route = pop_route_options(options)
    gzip = for_route["gzip"]
    if inline is not None and not isinstance(inline, Mapping):
        raise TypeError(f"inline must be a mapping of paths to answers, not {type(inline).__name__} ({inline!r})")
    members = _read_app(app)
    call, on_headers, on_ws_open = (members.get(name) for name in _CALLABLES)
    if call is None and on_ws_open is None:
        call = _not_found
    # An app of nothing but WebSockets may have inline answers to compress.
    for_route["gzip"] = None if inline and not (call or on_headers) else gzip
    routes = [Route(prefix=True, on_head=on_headers, on_request=call, on_open=on_ws_open, **for_route)]
    routes += [
        Route(path=path, inline=_read_inline(path, answer), gzip=gzip) for path, answer in (inline or {}).items()
    ]
    return Server(
        routes,
        address,
        static_paths=members.get("static_paths"),
        static_path_options=members.get("static_path_options"),
        **options,
    )


def _read_app(app: object) -> Mapping[str, Any]:
    members = _read_mapping(app) if isinstance(app, Mapping) else {name: getattr(app, name, None) for name in _MEMBERS}
    for name in _CALLABLES:
        member = members.get(name)
        if member is not None and not callable(member):
            raise TypeError(f"the app's {name} must be callable, not {type(member).__name__}")
    if not any(members.get(name) for name in _CALLABLES):
        if callable(app) and not isinstance(app, type):
            return {**members, "call": app}
        if not members.get("static_paths"):
            raise ValueError(
                "an app is a function of the request, or an object or mapping with at least one of "
                f"call(req), on_headers(req), on_ws_open(ws), static_paths; got {app!r}"
            )
    return members


def _read_mapping(app: Mapping[str, Any]) -> Mapping[str, Any]:
    # A misspelt guard (`onHeaders`) that is silently never called would be a hole.
    unknown = [name for name in app if name not in _MEMBERS]
    if unknown:
        raise ValueError(f"unknown in an app: {', '.join(map(repr, unknown))}; expected {', '.join(sorted(_MEMBERS))}")
    return app


def _not_found(_: Request) -> Response:
    return Response(*_NOT_FOUND)


def _start_static(site: StaticPath, host: str, port: int | None, options: Mapping[str, Any]) -> Server:
    # What falls through is answered natively, too: nothing here ever waits for Python.
    routes = [Route(prefix=True, inline=_NOT_FOUND)]

    def start(port: int) -> Server:
        return Server(routes, (host, port), quiet=True, static_paths={"/": site}, **options).start()

    if port is not None:
        return start(port)
    try:
        return start(STATIC_PORT)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return start(0)


def _browse(url: str) -> None:
    import webbrowser  # takes long to import, and few need it

    try:
        is_open = webbrowser.open(url)
    except Exception as error:
        logger.warning("no browser was opened: %s", error)
    else:
        if not is_open:
            logger.warning("no browser was opened: none was found")


def _read_inline(path: str, answer: tuple[str, bytes | str] | Response) -> Inline:
    if isinstance(answer, Response):
        return read_whole(answer)
    if isinstance(answer, tuple) and len(answer) == 2:
        return read_whole(Response(200, {"Content-Type": answer[0]}, answer[1]))
    raise TypeError(f"inline {path!r}: expected (content_type, body) or a Response, got {type(answer).__name__}")


def _read_name(name: str | os.PathLike[str]) -> str:
    path = os.fspath(name)
    if not isinstance(path, str):
        raise TypeError(f"the name of a pipe server must be a str or a path, not {type(name).__name__}")
    return path


def _read_mask(mask: int | None) -> int | None:
    if mask is None:
        return None
    if isinstance(mask, bool) or not isinstance(mask, int):
        raise TypeError(f"mask must be an int or None, not {type(mask).__name__}")
    return 0o777 & ~mask if mask >= 0 else None
