"""What the log says of a callback that raised. Thread: home."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeGuard

from portico.body import BodyError

if TYPE_CHECKING:
    from portico.routes import Route

logger = logging.getLogger("portico")

LEAVING: Final = (KeyboardInterrupt, SystemExit)
"""What a callback raises to leave `service()`, or the program. All else is a bug of its own, which must not take the
others with it, whether or not it is an Exception: a panic of an extension in Rust isn't, nor is a CancelledError."""


def is_bug(error: BaseException | None) -> TypeGuard[BaseException]:
    """Whether this is what ended a coroutine that should have ended otherwise."""
    return error is not None and not isinstance(error, LEAVING)


def report_raised(route: Route | None, number: int, where: str, error: BaseException) -> None:
    """Log that the callback `where` of `route` raised for connection `number`."""
    path = route.path if route is not None else "?"
    if isinstance(error, BodyError):  # the client's doing, and no bug
        logger.info("%s was given up; route %s, connection %d: %s", where, path, number, error)
        return
    logger.error("%s raised; route %s, connection %d", where, path, number, exc_info=error)
