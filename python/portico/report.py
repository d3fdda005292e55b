"""What the log says of a callback that raised. Thread: home."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from portico.body import BodyError

if TYPE_CHECKING:
    from portico.routes import Route

logger = logging.getLogger("portico")


def report_raised(route: Route | None, number: int, where: str, error: Exception) -> None:
    """Log that the callback `where` of `route` raised for connection `number`."""
    path = route.path if route is not None else "?"
    if isinstance(error, BodyError):  # the client's doing, and no bug
        logger.info("%s was given up; route %s, connection %d: %s", where, path, number, error)
        return
    logger.error("%s raised; route %s, connection %d", where, path, number, exc_info=error)
