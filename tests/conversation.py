"""What tests of callbacks share: one route that is the whole server, and a turn at a time. The core is the fake one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from portico.home import Home, current_home
from portico.routes import Route
from portico.site import Site

DEADLINE_S = 10
SITE = 1000
TEXT = [("Content-Type", "text/plain; charset=utf-8")]
ERROR_500 = (500, None, TEXT, "500 Internal Server Error\n")
ERROR_503 = (503, None, TEXT, "503 Service Unavailable\n")


class Boom(Exception):
    """What callbacks raise here. Its text must never reach a peer."""


def serve(**route: Any) -> Home:
    """Make one route the whole server; return this thread's home."""
    home = current_home()
    home.dispatcher.sites[SITE] = Site({0: Route(prefix=True, **route)}, ("127.0.0.1", 80), lambda: None)
    return home


def run(home: Home, until: Callable[[], bool] | None = None) -> int:
    """Run one batch of callbacks, or as many as it takes; return how many callbacks ran."""
    ran = home.turn(0)
    deadline = time.monotonic() + DEADLINE_S
    while until is not None and not until():
        assert time.monotonic() < deadline
        ran += home.turn(0.01)
    return ran
