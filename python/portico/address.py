"""Where a server listens: what an address may be, and how it is named. Thread: any."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portico._core import Address

# sun_path holds 108 bytes on Linux and 104 on macOS and the BSDs, the closing NUL among them.
MAX_PATH_BYTES: Final = 107 if os.uname().sysname == "Linux" else 103


def check_address(address: Address) -> Address:
    """Make an address the core can bind: a literal and a port, or an absolute path. Names get their first address.

    Raises: TypeError, ValueError, OSError (the name has no address, the path is too long).
    """
    if isinstance(address, str):
        return _check_path(address)
    host, port = address
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {type(port).__name__} ({port!r})")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be between 0 and 65535; got {port}")
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {type(host).__name__}")
    if not host:
        raise ValueError("host must not be empty; use '127.0.0.1' for this machine only, '0.0.0.0' for all addresses")
    return (host if _is_literal(host) else _resolve_name(host), port)


def _check_path(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError(f"not a path for a unix socket: {path!r}")
    path = os.path.abspath(path)
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise OSError(
            errno.ENAMETOOLONG, f"cannot listen on unix:{path}: the path has {size} bytes, at most {MAX_PATH_BYTES} fit"
        )
    return path


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve_name(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"cannot listen on {host!r}: {error.strerror}") from error
    except UnicodeError as error:
        raise ValueError(f"not a host name: {host!r}") from error
    return str(found[0][4][0])


def is_loopback(address: Address) -> bool:
    """Whether only this machine can come there; False for a path."""
    if isinstance(address, str):
        return False
    ip = ipaddress.ip_address(address[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def url_of(address: Address, scheme: str) -> str:
    """Where a browser on this machine finds it; `unix:` and the path for a unix socket."""
    if isinstance(address, str):
        return f"unix:{address}"
    host, port = address
    # The wildcard is where a server listens, not where anybody can go.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
