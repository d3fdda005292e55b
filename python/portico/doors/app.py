"""httpuv's door: `start_server(host, port, app)`, where an app is an object, a mapping or a function.

Translates and checks; serving is the server's business. Thread: the one that starts a server becomes its home.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from portico.home import Callbacks, current_home
from portico.request import Request
from portico.response import Response, normalise
from portico.routes import Deflate, Inline, Limits, Route, SlowClient
from portico.server import Names, Server, list_servers

InlineAnswers: TypeAlias = "Mapping[str, tuple[str, bytes | str] | Response]"

_CALLABLES = ("call", "on_headers", "on_ws_open")
_ROUTE_OPTIONS = {"inline", "subprotocols", "requires_subprotocol", "deflate", "slow_client"}
_MEMBERS = {*_CALLABLES, "static_paths", "static_path_options"}


def start_server(
    host: str,
    port: int,
    app: object,
    quiet: bool = False,
    *,
    limits: Limits | None = None,
    callbacks: Callbacks = "auto",
    allowed_origins: Names = None,
    allowed_hosts: Names = None,
    replace: bool = False,
    inline: InlineAnswers | None = None,
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    slow_client: SlowClient = "close",
) -> Server:
    """Start serving `app` on `host:port` and return at once.

    app: an object or mapping with `call(req)` (answers requests; without it they get 404, or 426 where WebSockets are
        served), `on_headers(req)` (runs when the head is there; None goes on, a response answers instead of `call`)
        and `on_ws_open(ws)`; or just a function, which is `call`. What they may return: see `Response`; coroutines
        and futures are awaited.
    port: 0 lets the system choose; `server.port` and `server.url` tell.
    quiet: no log line about the start. A start that fails still raises.
    limits: `Limits(…)` other than the defaults.
    callbacks: where they run: "loop" (the asyncio loop running in this thread), "service" (inside `service()`,
        `serve()`), "thread" (a thread of the server's own) or "auto", the first of these two that fits.
    allowed_origins, allowed_hosts: names besides the server's own that `Origin` and `Host` may carry; `"*"`: any.
    replace: first stop a server of this process that listens at the same address (for cells that run again).
    inline: answers that never need Python: `{"/path": (content_type, body)}` or `{"/path": Response(…)}`.
    subprotocols: what WebSockets may speak, in the order of preference; `ws.subprotocol` tells what was agreed on.
    requires_subprotocol: refuse WebSockets that offer none of them.
    deflate: compress WebSocket messages where the client agrees; True, or `Deflate(…)` other than the defaults.
    slow_client: what a message does that doesn't fit into `max_outbox_bytes`: "close" the connection with 1013,
        "drop_new" (only this message is lost) or "drop_oldest" (it pushes out older ones).

    Raises: OSError that names the address and the reason; ValueError; TypeError.
    """
    server = Server(
        build_routes(
            app,
            inline,
            subprotocols=subprotocols,
            requires_subprotocol=requires_subprotocol,
            deflate=deflate,
            slow_client=slow_client,
        ),
        (host, port),
        quiet=quiet,
        limits=limits,
        callbacks=callbacks,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        replace=replace,
    )
    return server.start()


def start_pipe_server(
    name: str | os.PathLike[str],
    mask: int | None,
    app: object,
    quiet: bool = False,
    *,
    limits: Limits | None = None,
    callbacks: Callbacks = "auto",
    allowed_origins: Names = None,
    allowed_hosts: Names = None,
    replace: bool = False,
    inline: InlineAnswers | None = None,
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    slow_client: SlowClient = "close",
) -> Server:
    """Start serving `app` on the unix socket at `name`; otherwise as `start_server`.

    mask: permission bits to take away, as in umask (`0o177`: only the owner may connect); None or negative leaves the
        mode to the process's own umask.
    """
    server = Server(
        build_routes(
            app,
            inline,
            subprotocols=subprotocols,
            requires_subprotocol=requires_subprotocol,
            deflate=deflate,
            slow_client=slow_client,
        ),
        _read_name(name),
        quiet=quiet,
        limits=limits,
        callbacks=callbacks,
        allowed_origins=allowed_origins,
        allowed_hosts=allowed_hosts,
        mode=_read_mask(mask),
        replace=replace,
    )
    return server.start()


def run_server(host: str, port: int, app: object, quiet: bool = False, **options: Any) -> None:
    """Start a server, serve until `interrupt()` or Ctrl-C, stop it. Options: see `start_server`.

    Raises: what `start_server` raises; RuntimeError in a running loop or a callback.
    """
    for_routes = {name: options.pop(name) for name in _ROUTE_OPTIONS & options.keys()}
    Server(build_routes(app, **for_routes), (host, port), quiet=quiet, **options).serve()


def stop_server(server: Server) -> None:
    """Stop a server: `server.stop()`. Raises: TypeError."""
    if not isinstance(server, Server):
        raise TypeError(f"stop_server needs a Server, not {type(server).__name__}")
    server.stop()


def stop_all_servers() -> None:
    """Stop every running server of this process."""
    for server in list_servers():
        server.stop()


def service(server: Server | float | None = None, timeout: float | None = None) -> int:
    """Run callbacks of this thread, or of the home `server` lives in; return how many ran.

    A lone number is the time-out, in seconds. 0: only what is ready; None: wait until something ran.
    Raises: RuntimeError inside a callback, or on another thread than the server's.
    """
    if isinstance(server, (int, float)) and not isinstance(server, bool):
        if timeout is not None:
            raise TypeError("service(server, timeout): the first argument must be a Server or None")
        server, timeout = None, server
    if server is None:
        return current_home().service(timeout)
    if not isinstance(server, Server):
        raise TypeError(f"service needs a Server or a number of seconds, not {type(server).__name__}")
    return server.service(timeout)


def fileno() -> int:
    """This thread's descriptor: readable when `service(timeout=0)` has something to do. Watch it with any loop."""
    home = current_home()
    home.touch()
    return home.fileno()


def build_routes(
    app: object, inline: InlineAnswers | None = None, *, deflate: bool | Deflate = False, **options: Any
) -> list[Route]:
    """Read an app's members, once, into routes. Options: what a `Route` takes. Raises: TypeError, ValueError."""
    call, on_headers, on_ws_open = _read_app(app)
    if call is None and on_ws_open is None:
        call = _not_found
    options["deflate"] = _read_deflate(deflate)
    routes = [Route(prefix=True, on_head=on_headers, on_request=call, on_open=on_ws_open, **options)]
    routes += [Route(path=path, inline=_read_inline(path, answer)) for path, answer in (inline or {}).items()]
    return routes


def _read_app(app: object) -> list[Callable[[Any], object] | None]:
    members = _read_mapping(app) if isinstance(app, Mapping) else {name: getattr(app, name, None) for name in _MEMBERS}
    for name in ("static_paths", "static_path_options"):
        if members.get(name):
            raise ValueError(f"the app has {name}, but static paths are not available yet; leave it out or empty")
    found = [members.get(name) for name in _CALLABLES]
    for name, member in zip(_CALLABLES, found, strict=True):
        if member is not None and not callable(member):
            raise TypeError(f"the app's {name} must be callable, not {type(member).__name__}")
    if not any(found):
        if not callable(app) or isinstance(app, type):
            raise ValueError(
                "an app is a function of the request, or an object or mapping with at least one of "
                f"call(req), on_headers(req), on_ws_open(ws); got {app!r}"
            )
        return [app, None, None]
    return found


def _read_mapping(app: Mapping[str, Any]) -> Mapping[str, Any]:
    # A misspelt guard (`onHeaders`) that is silently never called would be a hole.
    unknown = [name for name in app if name not in _MEMBERS]
    if unknown:
        raise ValueError(f"unknown in an app: {', '.join(map(repr, unknown))}; expected {', '.join(sorted(_MEMBERS))}")
    return app


def _not_found(_: Request) -> Response:
    return Response(404, {"Content-Type": "text/plain; charset=utf-8"}, "404 Not Found\n")


def _read_deflate(deflate: object) -> Deflate | None:
    if isinstance(deflate, bool):
        return Deflate() if deflate else None
    if not isinstance(deflate, Deflate):
        raise TypeError(f"deflate must be True, False or portico.Deflate(…); got {deflate!r}")
    return deflate


def _read_inline(path: str, answer: tuple[str, bytes | str] | Response) -> Inline:
    if isinstance(answer, Response):
        status, _, fields, body, _ = normalise(answer)
    elif isinstance(answer, tuple) and len(answer) == 2:
        status, _, fields, body, _ = normalise(Response(200, {"Content-Type": answer[0]}, answer[1]))
    else:
        raise TypeError(f"inline {path!r}: expected (content_type, body) or a Response, got {type(answer).__name__}")
    return status, fields, body.encode() if isinstance(body, str) else body


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
