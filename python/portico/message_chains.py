"""What becomes of one message that several handlers see: each is called, in order, and what it returns is sent back.

A handler that raises is reported, once; the others run, and the connection stays open, as in fiery. Thread: home.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING

from portico.chain import Chain, settle
from portico.events import Events
from portico.path_pattern import PathPattern
from portico.unfinished import is_awaitable

if TYPE_CHECKING:
    from portico.websocket_connection import WebSocket

logger = logging.getLogger("portico")


class MessageChains:
    """Handlers in the order they were added, each for the WebSockets of one path, or for all."""

    __slots__ = ("_chains", "_events")

    def __init__(self, events: Events) -> None:
        self._events = events
        self._chains: tuple[tuple[PathPattern | None, Chain], ...] = ()

    def add(self, pattern: PathPattern | None, chain: Chain) -> None:
        """Raises: ValueError."""
        if pattern is not None and pattern.has_query:
            raise ValueError(f"{pattern.text!r}: messages have no query; the handshake has, see request.query")
        self._chains += ((pattern, chain),)

    def mounts(self) -> set[tuple[str, bool]]:
        """The native routes that find all of these: `(path, prefix)`."""
        return {("/", True) if pattern is None else pattern.mount for pattern, _ in self._chains}

    def reach(self, path: str) -> bool:
        """Whether any may be for WebSockets of the native route at this path, or below it."""
        return any(mount == path or (prefix and _is_below(path, mount)) for mount, prefix in self.mounts())

    def needs_guard(self, mount: tuple[str, bool]) -> bool:
        """Whether that native route finds more than these are for, which `knows` tells apart."""
        takes_all = any(pattern is None for pattern, _ in self._chains)
        return not takes_all and (mount[1] or mount not in self.mounts())

    def knows(self, path: str) -> bool:
        """Whether any is for WebSockets at this path."""
        return any(pattern is None or pattern.match(path) is not None for pattern, _ in self._chains)

    def run(self, ws: WebSocket, values: dict[str, object]) -> Awaitable[None] | None:
        """Give `values["message"]` to all that it is for; what isn't finished then is returned, to be awaited."""
        for replacement in self._events.tell("before-message", values).values():
            if isinstance(replacement, (str, bytes)):
                values["message"] = replacement
        pending: list[tuple[Chain, dict[str, object], object]] = []
        for pattern, chain in self._chains:
            found = {} if pattern is None else pattern.match(ws.request.path)
            if found is None:
                continue
            mine = {**values, **found}
            try:
                result = chain.start(mine)
                if is_awaitable(result):
                    pending.append((chain, mine, result))
                else:
                    self._reply(ws, values, result)
            except Exception as error:
                _report(chain, ws, error)
        if pending:
            return self._finish(ws, values, pending)
        self._events.tell("after-message", values)
        return None

    async def _finish(
        self, ws: WebSocket, values: Mapping[str, object], pending: list[tuple[Chain, dict[str, object], object]]
    ) -> None:
        await asyncio.gather(*(self._finish_one(ws, *one) for one in pending))
        self._events.tell("after-message", values)

    async def _finish_one(self, ws: WebSocket, chain: Chain, values: Mapping[str, object], awaitable: object) -> None:
        try:
            result = await settle(awaitable)
            self._reply(ws, values, result)
            await chain.follow(values, result)
        except Exception as error:
            _report(chain, ws, error)

    def _reply(self, ws: WebSocket, values: Mapping[str, object], result: object) -> None:
        if isinstance(result, (str, bytes)):
            ws.send(result)
            self._events.tell("send", {**values, "message": result})


def _is_below(path: str, mount: str) -> bool:
    return path.startswith(mount.rstrip("/") + "/")


def _report(chain: Chain, ws: WebSocket, error: Exception) -> None:
    logger.error("%s raised; connection %d", chain, ws.id, exc_info=error)
