"""Where pages come from, and what servers are called: names that options list and browsers send.

One that is written otherwise than browsers do would never match, and whoever wrote it would learn that from its users.
Thread: any (pure).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
# RFC 6454 §6.2, as browsers write it: an IP literal in brackets or a name, perhaps a port, and nothing behind it.
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
# What pages in files say they are of in Electron; browsers say null.
_FILES: Final = "file://"


def read_origin(origin: str) -> str:
    """As browsers write it, which is what is compared. Raises: ValueError."""
    if origin == "null":
        raise ValueError(
            "the origin 'null' is that of every sandboxed frame and local file, so it can't be allowed alone"
        )
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        told = f"{origin!r} is no origin; expected 'https://app.example' or 'http://localhost:3000': scheme, host, port"
        raise ValueError(told if origin.isascii() else f"{told} (in ASCII: 'xn--…')")
    scheme, host, port = match.groups()
    if port is not None and not 0 < int(port) <= 65535:
        raise ValueError(f"the port of {origin!r} must be between 1 and 65535")
    has_port = port is not None and port != _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}:{int(port)}" if has_port else f"{scheme}://{host}"


def read_origins(option: str, names: object) -> list[str] | None:
    """Whose pages may open WebSockets; None: anybody's. Raises: TypeError, ValueError."""
    listed = _read_names(option, names)
    return None if listed is None else [name if name == _FILES else read_origin(name) for name in listed]


def read_hosts(option: str, names: object) -> list[str] | None:
    """What a server may be called, in any port unless one is said; None: anything. Raises: TypeError, ValueError."""
    listed = _read_names(option, names)
    for name in listed or ():
        if not _HOST.fullmatch(name):
            told = f"{option}: {name!r} is no host; expected 'lab.example', 'lab.example:8000' or '[2001:db8::1]'"
            raise ValueError(told if name.isascii() else f"{told} (in ASCII: 'xn--…')")
    return listed


def _read_names(option: str, names: object) -> list[str] | None:
    if isinstance(names, str):
        names = [names]
    given = list(names) if isinstance(names, Iterable) else [None]
    listed = [name for name in given if isinstance(name, str)]
    if len(listed) < len(given):
        raise TypeError(f"{option} must be a list of str, or '*' for all; got {names!r}")
    return None if "*" in listed else listed
