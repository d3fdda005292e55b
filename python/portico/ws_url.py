"""Where a WebSocket URL leads (RFC 6455 §3): the address to connect to, and what to ask for there.

Resolves no names. Thread: any (pure).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

# The http forms too, as browsers take them by now (WHATWG WebSockets §3.1); and `server.url` is one.
_SECURE: Final = {"ws": False, "wss": True, "http": False, "https": True}
_PORTS: Final = {False: 80, True: 443}
# RFC 3986 §3.3, §3.4: what stands for itself; `%` because it has been encoded already.
_TARGET_CHARACTERS: Final = "%/?:@!$&'()*+,;=-._~"
# RFC 3986 §3.2.2 without percent-encoding and what no name has; underscores, as some do. `:` and `%` are IPv6's.
_NAME: Final = re.compile(r"[A-Za-z0-9._~:%-]+")
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Destination:
    """What one URL says. `path` is that of a unix socket, and then `name` and `port` mean nothing."""

    name: str
    port: int
    path: str | None
    is_secure: bool
    host: str
    target: str

    @property
    def literal(self) -> str | None:
        """The name, if it is an IP address and needs no resolving."""
        try:
            return str(ipaddress.ip_address(self.name))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else self.host


def read_url(url: str) -> Destination:
    """Read `ws://host:port/path?query`, `wss:`, their http forms, or `unix:/path/of/socket`.

    What no URL can hold is percent-encoded in path and query. Raises: TypeError; ValueError that says what is wrong.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
    if _CONTROL.search(url):
        raise ValueError(f"a URL has no spaces and control characters; got {url!r}")
    if url.startswith("unix:"):
        return _read_unix(url)
    parts = urlsplit(url)
    if parts.scheme not in _SECURE:
        raise ValueError(f"a WebSocket URL begins with ws://, wss:// or unix:, not {parts.scheme or url!r}: {url!r}")
    if parts.fragment or url.endswith("#"):
        raise ValueError(f"a WebSocket URL has no fragment (RFC 6455 §3); got {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"credentials in a URL are not sent; give them as headers={{'Authorization': …}}: {url!r}")
    if not parts.hostname:
        raise ValueError(f"this URL names no host: {url!r}")
    is_secure = _SECURE[parts.scheme]
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the port in {url!r} is none: {error}") from None
    if port == 0:
        raise ValueError(f"nothing listens on port 0; got {url!r}")
    name = unquote(parts.hostname)
    try:
        name = name.encode("idna").decode()  # of one in ASCII it only checks the lengths of the labels
    except UnicodeError as error:
        raise ValueError(f"the host in {url!r} is no name: {error}") from None
    if not _NAME.fullmatch(name):
        raise ValueError(f"the host in {url!r} is no name: {name!r}")
    bracketed = f"[{name}]" if ":" in name else name
    host = bracketed if port in (None, _PORTS[is_secure]) else f"{bracketed}:{port}"
    target = quote(parts.path or "/", safe=_TARGET_CHARACTERS)
    if parts.query:
        target += "?" + quote(parts.query, safe=_TARGET_CHARACTERS)
    return Destination(name, port or _PORTS[is_secure], None, is_secure, host, target)


def with_port(url: str, port: int) -> str:
    """`url` with this port, if it says none; 80 is the scheme's. Raises: TypeError; ValueError if it says another."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {type(port).__name__} ({port!r})")
    if not 0 < port < 65536:
        raise ValueError(f"port must be between 1 and 65535; got {port}")
    if read_url(url).path is not None or port == 80:
        return url
    parts = urlsplit(url)
    if parts.port not in (None, port):
        raise ValueError(f"{url!r} says another port than port={port}")
    return parts._replace(netloc=f"{parts.netloc.removesuffix(f':{port}').rstrip(':')}:{port}").geturl()


def _read_unix(url: str) -> Destination:
    path = url.removeprefix("unix:").removeprefix("//")
    if not path:
        raise ValueError(f"this URL names no socket: {url!r}; it is unix:/path/of/socket")
    return Destination("", 0, path, False, "localhost", "/")
