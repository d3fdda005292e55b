"""A handler and what follows it: the function itself, the executor it may compute in, and its `then` steps.

Thread: home, but for a function that has an executor.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from portico.by_name import ByName
from portico.executors import ExecutorLike, pool, read_executor
from portico.unfinished import is_awaitable

Steps: TypeAlias = "Callable[..., object] | Sequence[Callable[..., object]] | None"

# What a function on another thread, or in another process, must not touch or cannot have.
_AT_HOME = dict.fromkeys(
    ("server", "request"), "a handler with async_= runs elsewhere, but its then= steps may have it"
)


class Chain:
    """`f` may name what is in `allowed`, with `async_` no `server` and `request`; the steps may also name `result`.

    Raises: TypeError, ValueError.
    """

    __slots__ = ("_executor", "main", "steps")

    def __init__(
        self, f: Callable[..., object], what: str, allowed: Collection[str], async_: ExecutorLike, then: Steps
    ) -> None:
        self._executor = read_executor(async_)
        steps = [then] if callable(then) else list(then or ())
        if self._executor is None:
            self.main = ByName(f, what, allowed)
            if steps:
                raise ValueError(
                    f"{self.main.what}: then= follows what async_= has computed; without it, go on in place"
                )
        else:
            self.main = ByName(f, what, [name for name in allowed if name not in _AT_HOME], _AT_HOME)
            self._check_elsewhere()
        self.steps = tuple(ByName(step, "then step", {*allowed, "result"}) for step in steps)

    def start(self, values: Mapping[str, object]) -> Any:
        """Call the function, or have it called; return its result, or what it is to be awaited by."""
        if self._executor is None:
            return self.main.call(values)
        return pool(self._executor).submit(self.main.f, **self.main.select(values))

    async def follow(self, values: Mapping[str, object], result: object) -> None:
        """Run the steps, each once and in order, each with what the one before it has returned."""
        for step in self.steps:
            result = step.call({**values, "result": result})
            if is_awaitable(result):
                result = await settle(result)

    @property
    def names(self) -> frozenset[str]:
        """What the function and its steps name."""
        return self.main.names.union(*(step.names for step in self.steps)) - {"result"}

    def __str__(self) -> str:
        return self.main.what

    def _check_elsewhere(self) -> None:
        if inspect.iscoroutinefunction(self.main.f):
            raise TypeError(f"{self.main.what}: an async def function needs no async_=, and runs on the home thread")
        is_local = "<" in getattr(self.main.f, "__qualname__", "")
        if is_local and (
            self._executor == "processes" or isinstance(self._executor, concurrent.futures.ProcessPoolExecutor)
        ):
            raise ValueError(
                f"{self.main.what}: another process finds a function by its name; define it at the top of its module"
            )


async def settle(value: Any) -> object:
    """Wait for a coroutine, a future of asyncio's or of an executor, or any other awaitable."""
    return await (asyncio.wrap_future(value) if isinstance(value, concurrent.futures.Future) else value)
