"""Where functions compute that should not keep the home thread: a pool of threads or processes, or anybody's executor.

The pools are made when first needed, one of each kind for the process, which waits for them when it exits.
Thread: any.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Literal, TypeAlias

ExecutorLike: TypeAlias = "bool | Literal['threads', 'processes'] | Executor | None"

_lock = threading.Lock()
_pools: dict[str, Executor] = {}


# Both take long to import, and few need them.
def _make_threads() -> Executor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(thread_name_prefix="portico-async")


def _make_processes() -> Executor:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor()


_MAKERS: Final[dict[str, Callable[[], Executor]]] = {"threads": _make_threads, "processes": _make_processes}


def read_executor(async_: ExecutorLike) -> str | Executor | None:
    """What `async_=` says: None for none, the name of a pool, or an executor. Raises: TypeError, ValueError."""
    if async_ is None or async_ is False:
        return None
    if async_ is True:
        return "threads"
    if isinstance(async_, Executor):
        return async_
    if not isinstance(async_, str):
        raise TypeError(f"async_ must be True, 'threads', 'processes' or an Executor; got {async_!r}")
    if async_ not in _MAKERS:
        raise ValueError(f"async_ must be True, 'threads', 'processes' or an Executor; got {async_!r}")
    return async_


def pool(executor: str | Executor) -> Executor:
    """The executor itself."""
    if isinstance(executor, Executor):
        return executor
    with _lock:
        if executor not in _pools:
            _pools[executor] = _MAKERS[executor]()
        return _pools[executor]


def _at_exit() -> None:
    # Nothing computes any more: the interpreter has waited. What is left would be taken apart beside its own modules.
    with _lock:
        for executor in _pools.values():
            executor.shutdown()
        _pools.clear()


def _after_in_child() -> None:
    # Their threads are the parent's: what is submitted here would wait for ever.
    global _lock
    _lock = threading.Lock()
    _pools.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_in_child)
