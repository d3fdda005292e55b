"""Who wants to be told of what: handlers by event and by id, each called with the arguments it names.

One that raises is reported, and the others are told all the same. Thread: home; `on` and `off`: any.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Final

from portico.by_name import ByName

logger = logging.getLogger("portico")


MESSAGE: Final = ("message", "server", "client_id", "request")
EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "start": ("server",),
    "end": ("server",),
    "header": ("server", "request"),
    "before-request": ("server", "request"),
    "after-request": ("server", "request", "response"),
    "before-message": MESSAGE,
    "after-message": MESSAGE,
    "send": ("server", "client_id", "message"),
    "websocket-opened": ("server", "client_id", "request"),
    "websocket-closed": ("server", "client_id", "request"),
}
"""What Portico tells, and what a handler of it may name."""


class Events:
    """Handlers of these, and of events with other names: the app's own, which have any arguments."""

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: dict[str, dict[str, ByName]] = {}  # the inner ones are replaced, never changed

    def on(self, event: str, f: Callable[..., object], id: str | None) -> str:
        """Raises: TypeError; ValueError for an id that is taken."""
        if not isinstance(event, str):
            raise TypeError(f"an event is a str, not {type(event).__name__}")
        if inspect.iscoroutinefunction(f):
            raise TypeError(f"{f.__name__} is a coroutine function, and handlers of events are plain ones")
        handler = ByName(f, f"{event} handler", EVENTS.get(event))
        taken = {name for handlers in self._handlers.values() for name in handlers}
        if id in taken:
            raise ValueError(f"an event handler is called {id!r} already")
        if id is None:
            id = next(name for n in range(len(taken) + 1) if (name := f"{event}-{n}") not in taken)
        self._handlers[event] = {**self._handlers.get(event, {}), id: handler}
        return id

    def off(self, id: str) -> None:
        """Raises: KeyError."""
        for event, handlers in self._handlers.items():
            if id in handlers:
                self._handlers[event] = {name: one for name, one in handlers.items() if name != id}
                return
        raise KeyError(f"no event handler is called {id!r}")

    def has(self, event: str) -> bool:
        """Whether anybody wants to be told."""
        return bool(self._handlers.get(event))

    def tell(self, event: str, values: Mapping[str, object]) -> dict[str, object]:
        """Tell everybody, in the order they came; return what they returned, by id."""
        handlers = self._handlers.get(event)
        results: dict[str, object] = {}
        if handlers:
            for id, handler in handlers.items():
                try:
                    results[id] = handler.call(values)
                except Exception:
                    logger.exception("%s raised", handler.what)
        return results

    def trigger(self, event: str, values: Mapping[str, object]) -> dict[str, object]:
        """`tell`, for events of the app's own. Raises: ValueError for others."""
        if event in EVENTS:
            raise ValueError(f"{event!r} is told by Portico itself; give yours another name")
        return self.tell(event, values)
