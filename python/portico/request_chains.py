"""What becomes of one request that a handler of its path answers, or another one before its body is read.

Thread: home.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from portico.chain import Chain, settle
from portico.events import Events
from portico.path_pattern import BadRequest, PathPattern
from portico.path_table import PathTable, read_inputs, refusal
from portico.response import Response
from portico.unfinished import is_awaitable

if TYPE_CHECKING:
    from portico.request import Request


class RequestChains:
    """Handlers by path and method. `values` are what each of them may name beside what the request gives."""

    __slots__ = ("_events", "_values", "bodies", "heads")

    def __init__(self, events: Events, values: Mapping[str, object]) -> None:
        self._events = events
        self._values = values
        self.heads: PathTable[Chain] = PathTable()
        self.bodies: PathTable[Chain] = PathTable()

    def guard(self, request: Request) -> object:
        """What the handlers of "header" say about a request or a handshake; None: it goes on."""
        for answer in self._events.tell("header", {**self._values, "request": request}).values():
            if answer is not None and answer is not True:
                return refusal(403) if answer is False else answer
        return None

    def answer_head(self, request: Request) -> object:
        """The answer before the body is read; None: it is read."""
        found = self.heads.find(request.method, request.path)
        return None if isinstance(found, Response) else self._run(request, *found)

    def answer(self, request: Request) -> object:
        """The answer, or what it is to be awaited by."""
        found = self.bodies.find(request.method, request.path)
        if isinstance(found, Response):
            return found
        self._events.tell("before-request", {**self._values, "request": request})
        answer = self._run(request, *found)
        return self._settle(request, answer) if is_awaitable(answer) else self._tell_after(request, answer)

    async def _settle(self, request: Request, awaitable: object) -> object:
        return self._tell_after(request, await settle(awaitable))

    def _tell_after(self, request: Request, answer: object) -> object:
        self._events.tell("after-request", {**self._values, "request": request, "response": answer})
        return answer

    def _run(self, request: Request, chain: Chain, pattern: PathPattern, found: Mapping[str, object]) -> object:
        try:
            inputs = read_inputs(request, pattern, found, chain.names)
        except BadRequest as error:
            return refusal(400, str(error))
        values = {**self._values, **inputs}
        result = chain.start(values)
        return _follow(chain, values, result) if chain.steps else result


async def _follow(chain: Chain, values: Mapping[str, object], awaitable: object) -> object:
    result = await settle(awaitable)
    await chain.follow(values, result)
    return result
