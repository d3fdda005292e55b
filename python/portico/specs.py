"""Routes and what they carry, in the shapes that cross the seam. Thread: any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from portico._core import (
    FRAMES_BINARY,
    FRAMES_BY_TYPE,
    FRAMES_TEXT,
    SLOW_CLOSE,
    SLOW_DROP_NEW,
    SLOW_DROP_OLDEST,
    WANTS_BODY,
    WANTS_HEAD,
    WANTS_REQUEST,
    WANTS_WEBSOCKET,
)

if TYPE_CHECKING:
    from portico._core import CorsSpec, GzipSpec, RouteSpec, WebSocketSpec
    from portico.cors import Cors
    from portico.routes import Gzip, Route

_SLOW: Final = {"close": SLOW_CLOSE, "drop_new": SLOW_DROP_NEW, "drop_oldest": SLOW_DROP_OLDEST}

_FRAMES: Final[dict[str | None, int]] = {None: FRAMES_BY_TYPE, "text": FRAMES_TEXT, "binary": FRAMES_BINARY}


def route_specs(routes: Mapping[int, Route]) -> list[RouteSpec]:
    """All that are not files."""
    return [_route_spec(number, route) for number, route in routes.items() if route.files is None]


def _route_spec(number: int, route: Route) -> RouteSpec:
    wants = (
        (WANTS_HEAD if route.on_head is not None else 0)
        | (WANTS_REQUEST if route.on_request is not None else 0)
        | (WANTS_WEBSOCKET if route.wants_websocket else 0)
        | (WANTS_BODY if route.stream_body else 0)
    )
    websocket = websocket_spec(route) if route.changes_websockets else None
    gzip = None if route.gzip is None else _gzip_spec(route.gzip)
    return number, route.path, route.prefix, route.methods or (), wants, route.inline, websocket, gzip


def _gzip_spec(gzip: Gzip) -> GzipSpec:
    return gzip.level, gzip.min_bytes, gzip.types


def cors_spec(cors: Cors) -> CorsSpec:
    """Who of other origins may read."""
    # What the native half means by None, any, is "*" to users; their None would be nothing.
    origins, methods, headers = (
        None if names == ("*",) else names for names in (cors.origins, cors.methods, cors.headers)
    )
    return origins, methods, headers, cors.expose, cors.credentials, cors.max_age_s


def websocket_spec(route: Route) -> WebSocketSpec:
    """How its WebSockets differ from plain ones."""
    deflate = route.deflate
    how = None
    if deflate is not None:
        how = (deflate.level, deflate.window_bits, deflate.min_bytes, deflate.context_takeover)
    slow, frames = _SLOW[route.slow_client], _FRAMES[route.frames]
    origins = cast("tuple[str, ...] | None", route.allowed_origins)
    return route.subprotocols, route.requires_subprotocol, how, slow, frames, origins
