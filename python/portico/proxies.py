"""Whom to believe about the client: the proxies that the app trusts, by X-Forwarded-For, -Proto and -Host.

Anybody can send these fields, so they mean nothing unless the peer is such a proxy. Of each, the last value counts that
a trusted proxy has written: what stands before it may be the client's own invention. Thread: any (pure).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from portico._core import Address
    from portico.headers import Headers

IP: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Proxies: TypeAlias = "Iterable[str | IP | Network] | str | None"
"""IP addresses, networks, and `"unix"` for whoever comes over a unix socket; one, several, or None."""

_HOST: Final = re.compile(r"(?:[0-9A-Za-z._~-]+|\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
# With the port, as Azure and IIS write it; or without, as nearly everybody does.
_ADDRESS: Final = re.compile(
    r"([0-9.]+):([0-9]{1,5})|\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?|([0-9A-Fa-f:.]+)"
)
# Traefik says of a WebSocket that it came by wss; the handshake is an HTTP request nevertheless.
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_MAX_HOPS: Final = 32


class Forwarded(NamedTuple):
    """What is known of a request behind a proxy. None: nobody said."""

    client: Address
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    """The networks whose word counts."""

    __slots__ = ("_networks", "_trusts_unix")

    def __init__(self, networks: Iterable[Network], trusts_unix: bool) -> None:
        self._networks = tuple(networks)
        self._trusts_unix = trusts_unix

    def trusts(self, peer: Address) -> bool:
        """Whether `peer` is one of them."""
        if isinstance(peer, str):
            return self._trusts_unix
        ip = _read_ip(peer[0])
        return ip is not None and any(ip in network for network in self._networks)

    def read(self, peer: Address, headers: Headers) -> Forwarded:
        """Who sent a request that arrived from `peer`, and what was asked for. What is malformed does not count."""
        if not self.trusts(peer):
            return Forwarded(peer)
        scheme = _last(headers, "x-forwarded-proto").lower()
        host = _last(headers, "x-forwarded-host")
        return Forwarded(self._find_client(peer, headers), _SCHEMES.get(scheme), host if _is_host(host) else None)

    def _find_client(self, client: Address, headers: Headers) -> Address:
        # Each proxy appends whom it was asked by. What is left over of a longer list is no address, and ends the walk.
        for entry in reversed(headers.get("x-forwarded-for", "").rsplit(",", _MAX_HOPS)):
            address = _read_address(entry.strip(" \t"))
            if address is None:
                break
            client = address
            if not self.trusts(client):
                break
        return client


class ProxiedAddress:
    """Where requests arrive that may come through a trusted proxy; all requests of a server share one."""

    __slots__ = ("address", "proxies")

    def __init__(self, address: Address, proxies: TrustedProxies) -> None:
        self.address = address
        self.proxies = proxies


def read_proxies(proxies: Proxies) -> TrustedProxies | None:
    """What `trusted_proxies` says; None if nobody is trusted. Raises: TypeError, ValueError."""
    if proxies is None:
        return None
    listed = [proxies] if isinstance(proxies, (str, IPv4Address, IPv6Address, IPv4Network, IPv6Network)) else proxies
    if not isinstance(listed, Iterable) or isinstance(listed, (bytes, bytearray)):
        raise TypeError(f"trusted_proxies must be a list of IP addresses and networks; got {listed!r}")
    listed = list(listed)
    networks = [_read_network(entry) for entry in listed if entry != "unix"]
    return TrustedProxies(networks, len(networks) < len(listed)) if listed else None


def _read_network(entry: object) -> Network:
    if not isinstance(entry, (str, IPv4Address, IPv6Address, IPv4Network, IPv6Network)):
        raise TypeError(f"trusted_proxies holds str, not {type(entry).__name__} ({entry!r})")
    try:
        network = ipaddress.ip_network(str(entry))
    except ValueError as error:
        raise ValueError(
            f"trusted_proxies: {error}; expected IP addresses, networks such as '10.0.0.0/8', or 'unix'"
        ) from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((int(mapped), network.prefixlen - 96))


def _read_ip(text: str) -> IP | None:
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    # A socket that takes both kinds shows ::ffff:192.0.2.1 for 192.0.2.1.
    return (ip.ipv4_mapped if isinstance(ip, IPv6Address) else None) or ip


def _read_address(text: str) -> Address | None:
    if text == "unix:":  # nginx, of a client on a unix socket
        return ""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    ip = _read_ip(found[1] or found[3] or found[5])
    port = int(found[2] or found[4] or 0)
    return None if ip is None or port > 65535 else (str(ip), port)


def _last(headers: Headers, name: str) -> str:
    return headers.get(name, "").rpartition(",")[2].strip(" \t")


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or int(found[2] or 0) > 65535:
        return False
    return found[1] is None or _read_ip(found[1]) is not None
