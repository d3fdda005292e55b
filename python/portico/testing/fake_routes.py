"""Path and method → route, as the native half finds it (`core/src/route_table.rs`), for a core that has no sockets.

Thread: any (pure).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from portico._core import WANTS_WEBSOCKET

if TYPE_CHECKING:
    from portico._core import RouteSpec


def find_route(routes: Sequence[RouteSpec], target: str, method: str, is_handshake: bool) -> RouteSpec | str | None:
    """The route; or the methods that the path has; or None if it is nobody's."""
    path = unquote(target.partition("?")[0], errors="replace")
    found = _find(routes, path, method, is_handshake)
    if found is None and path.endswith("/") and len(path) > 1 and not path.endswith("//"):
        found = _find(routes, path[:-1], method, is_handshake)
    return found


def _find(routes: Sequence[RouteSpec], path: str, method: str, is_handshake: bool) -> RouteSpec | str | None:
    matching = [route for route in routes if _matches(route, path)]
    # max() takes the first of equals, as the native half does.
    fitting = [(route, fit) for route in matching if (fit := _fit(route, method, is_handshake))]
    if fitting:
        return max(fitting, key=lambda one: (len(_path(one[0])), not one[0][2], one[1]))[0]
    allowed: dict[str, None] = {}
    for route in matching:
        for name in route[3]:
            allowed.update(dict.fromkeys((name, "HEAD") if name == "GET" else (name,)))
    return ", ".join(allowed) or None


def _path(route: RouteSpec) -> str:
    return route[1].rstrip("/") if route[2] else route[1]


def _matches(route: RouteSpec, path: str) -> bool:
    own = _path(route)
    return path == own or (route[2] and path.startswith(own + "/"))


def _fit(route: RouteSpec, method: str, is_handshake: bool) -> int:
    """How well it fits; 0: not at all."""
    methods: Any = route[3]
    if route[4] & WANTS_WEBSOCKET and is_handshake:
        return 5
    if route[4] == WANTS_WEBSOCKET:
        return 1
    if not methods:
        return 2
    if method in methods:
        return 4
    return 3 if method == "HEAD" and "GET" in methods else 0
