"""The addresses of a destination, in the order in which they are tried. A name is looked up on a thread of its own:
nothing in the system bounds how long that takes, and whoever waits has other things to do.

Thread: any.
"""

from __future__ import annotations

import concurrent.futures
import socket
import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from portico._core import Address
    from portico.ws_url import Destination

Lookup: TypeAlias = "concurrent.futures.Future[list[Address]]"


def known_addresses(destination: Destination) -> list[Address]:
    """Those that need no looking up."""
    if destination.path is not None:
        return [destination.path]
    literal = destination.literal
    return [] if literal is None else [(literal, destination.port)]


def look_up(destination: Destination) -> Lookup:
    """Begin to ask for the addresses of a name; what comes of it is a future. It can't be cancelled."""
    lookup: Lookup = concurrent.futures.Future()
    lookup.set_running_or_notify_cancel()
    # A daemon: a process that ends does not wait for a name.
    threading.Thread(target=_look_up, args=(destination, lookup), name="portico-lookup", daemon=True).start()
    return lookup


def too_late(destination: Destination, timeout: float | None) -> TimeoutError:
    """What to raise where a name took too long."""
    return TimeoutError(f"{destination.name}: no address within open_timeout_s={timeout}")


def _look_up(destination: Destination, lookup: Lookup) -> None:
    try:
        found = socket.getaddrinfo(destination.name, destination.port, type=socket.SOCK_STREAM)
        lookup.set_result(list(dict.fromkeys((str(where[0]), int(where[1])) for *_, where in found)))
    except BaseException as error:
        lookup.set_exception(error)
