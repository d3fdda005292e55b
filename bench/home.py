"""Where a server's callbacks run, by the name that the benchmarks' options give it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import portico


def serve_at(home: str, start: Callable[[Any], portico.Server]) -> None:
    """Serve what `start(callbacks)` has started, until it is stopped: in "service", "asyncio" or a "thread"."""

    async def serve_in_loop() -> None:
        await start("loop").wait_closed()

    if home == "asyncio":
        asyncio.run(serve_in_loop())
    elif home == "thread":
        start("thread").wait_closed()
    else:
        start("service").serve()
