"""What a server serves and how much of it: `Route`, `Deflate`, `Gzip` and `Limits`.

Values only; matching and enforcing happen in the native half. Thread: any (pure).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from portico.origin import read_origins

if TYPE_CHECKING:
    from portico.request import Request
    from portico.static_paths import StaticPath
    from portico.websocket_connection import WebSocket

KIB = 1024
MIB = 1024 * KIB
MAX_BYTES: Final = 2**63 - 1  # what the native half counts with

Inline: TypeAlias = tuple[int, Sequence[tuple[str, str]], bytes]
"""`(status, header fields, body)` of an answer that never needs Python."""

Frames: TypeAlias = Literal["text", "binary"]
"""What all messages of a WebSocket are, both ways."""

SlowClient: TypeAlias = Literal["close", "drop_new", "drop_oldest"]
"""What a message does that finds no room in the outbox: end the connection, get lost, or push out older ones."""

ANY_METHOD = ("*",)

# RFC 9110 §5.6.2. Methods are tokens, subprotocols (RFC 6455 §4.1), the names of header fields and charsets.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

ROUTE_OPTIONS: Final = {"subprotocols", "requires_subprotocol", "deflate", "slow_client", "gzip", "stream_body"}

COMPRESSIBLE_TYPES: Final = (
    "text/*",
    "*+json",
    "*+xml",
    "application/json",
    "application/javascript",
    "application/x-javascript",
    "application/ndjson",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/otf",
    "font/ttf",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
)
"""What gets much smaller; SVG is `image/svg+xml`. Pictures, sound, films, WOFF and archives are compressed already."""

_TYPE_NAME = r"[!#$%&'+.^_`|~0-9A-Za-z-]+"
_TYPE_PATTERN = re.compile(rf"\*/\*|{_TYPE_NAME}/(?:{_TYPE_NAME}|\*)|\*\+{_TYPE_NAME}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one server takes, and how long it waits. `None` switches a time-out off.

    Every limit is enforced before memory is taken, also while Python is busy. Raises: ValueError.
    """

    max_head_bytes: int = 128 * KIB
    max_headers: int = 128
    max_url_bytes: int = 16 * KIB
    max_body_bytes: int = 64 * MIB
    max_body_in_memory_bytes: int = MIB
    max_message_bytes: int = 16 * MIB
    max_fragments: int = 1 << 20
    max_inbox_messages: int = 1024
    max_inbox_bytes: int = 16 * MIB
    max_outbox_bytes: int = 8 * MIB
    max_connections: int = 10_000
    max_connections_per_address: int | None = None
    head_timeout_s: float | None = 10
    body_timeout_s: float | None = 30
    idle_timeout_s: float | None = 60
    write_timeout_s: float | None = 30
    handshake_timeout_s: float | None = 10
    answer_timeout_s: float | None = 60
    ping_interval_s: float | None = 20
    pong_timeout_s: float | None = 20
    close_timeout_s: float | None = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_s"):
                _check_timeout(field.name, value)
            elif value is not None or field.name != "max_connections_per_address":
                # A body limit of 0 is a meaningful wish ("no uploads"); a message or head limit of 0 would refuse all.
                _check_count(field.name, value, 0 if field.name.startswith("max_body") else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """How messages are compressed, if the client agrees: permessage-deflate (RFC 7692).

    level: 1 is the fastest, 9 the smallest.
    window_bits: 9 to 15; how far back either side looks for repeats, `2 ** window_bits` bytes.
    min_bytes: shorter messages leave as they are; compressing them costs more than it saves.
    context_takeover: whether a message may refer to the ones before it. Small messages shrink far more, and every
        connection keeps up to 300 KiB of memory for it; without, an idle connection keeps none.

    Raises: ValueError.
    """

    level: int = 6
    window_bits: int = 15
    min_bytes: int = 860
    context_takeover: bool = False

    def __post_init__(self) -> None:
        _check_count("level", self.level, 1, 9)
        _check_count("window_bits", self.window_bits, 9, 15)
        _check_count("min_bytes", self.min_bytes, 0)
        check_flag("context_takeover", self.context_takeover)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gzip:
    """Which answers are compressed, where the client takes it, and how (RFC 1952).

    level: 1 is the fastest, 9 the smallest.
    min_bytes: shorter bodies are sent as they are; compressing them costs more than it saves. One that comes piece by
        piece has no length, and is compressed.
    types: of `Content-Type`, in any case: "type/subtype", "type/*", "*+suffix" or "*/*".

    **An answer that holds a secret and also something that a stranger chose** (a token and a search term) **must not be
    compressed**: its length tells the secret to whoever can guess and listen (BREACH, CVE-2013-3587). That is why none
    is unless you say so. Raises: TypeError, ValueError.
    """

    level: int = 6
    min_bytes: int = 860
    types: Sequence[str] = COMPRESSIBLE_TYPES

    def __post_init__(self) -> None:
        _check_count("level", self.level, 1, 9)
        _check_count("min_bytes", self.min_bytes, 0)
        if isinstance(self.types, str) or not isinstance(self.types, Sequence):
            raise TypeError(f"types must be a list of media types; got {self.types!r}")
        for name in self.types:
            if not isinstance(name, str):
                raise TypeError(f"a media type must be a str, not {type(name).__name__} ({name!r})")
            if not _TYPE_PATTERN.fullmatch(name):
                raise ValueError(f"expected 'type/subtype', 'type/*', '*+suffix' or '*/*'; got {name!r}")
        object.__setattr__(self, "types", tuple(self.types))


def _check_timeout(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number of seconds, or None for no time-out; got {value!r}")


def _check_count(name: str, value: object, least: int, most: int = MAX_BYTES) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        is_beyond = isinstance(value, int) and value > most
        wanted = f"at least {least}" if most == MAX_BYTES and not is_beyond else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number, {wanted}; got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raises: ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False; got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and who answers it: up to five callables, or `inline` or `files`, which need no Python at all.

    `path` begins with `/` and is compared with the percent-decoded path of the request; `prefix` also takes
    everything below it, on whole segments. `methods` that it takes; GET includes HEAD. None: any, but for `inline` GET,
    and none of others: `ANY_METHOD`. The longest path that takes the method wins. `text_type` is the Content-Type of an
    answer that has a str as body and says none.

    For its WebSockets: `subprotocols` in the order of preference; with `requires_subprotocol` a client that offers none
    of them is refused; `deflate` allows compression; `frames` fixes what messages are, both ways; `allowed_origins` is
    in place of the server's; `slow_client` says what a message does that finds no room in the outbox. For its answers:
    `gzip` says which are compressed.

    `stream_body`: `on_request` is called when the head is there, and reads the body while it comes. Raises: TypeError,
    ValueError.
    """

    path: str = "/"
    prefix: bool = False
    methods: Sequence[str] | None = None
    on_head: Callable[[Request], object] | None = None
    on_request: Callable[[Request], object] | None = None
    on_open: Callable[[WebSocket], object] | None = None
    on_message: Callable[[WebSocket, str | bytes], object] | None = None
    on_close: Callable[[WebSocket], object] | None = None
    inline: Inline | None = None
    files: StaticPath | None = None
    text_type: str | None = None
    subprotocols: Sequence[str] = ()
    requires_subprotocol: bool = False
    deflate: Deflate | None = None
    frames: Frames | None = None
    allowed_origins: Sequence[str] | str | None = None
    slow_client: SlowClient = "close"
    gzip: Gzip | None = None
    stream_body: bool = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"a route's path begins with '/'; got {self.path!r}")
        if "?" in self.path or "#" in self.path:
            raise ValueError(f"a route's path is what stands before '?' and '#' in a URL; got {self.path!r}")
        check_flag("prefix", self.prefix)
        answers = self.on_head or self.on_request or self.wants_websocket
        if bool(answers) + (self.inline is not None) + (self.files is not None) != 1:
            raise ValueError(f"route {self.path!r} needs callables, an inline answer or files, and only one of these")
        object.__setattr__(self, "methods", _read_methods(self.methods, self.inline is not None))
        object.__setattr__(self, "subprotocols", _read_subprotocols(self.subprotocols))
        check_flag("requires_subprotocol", self.requires_subprotocol)
        check_flag("stream_body", self.stream_body)
        if self.stream_body and self.on_request is None:
            raise ValueError(f"route {self.path!r} takes no requests whose body could be streamed")
        if self.requires_subprotocol and not self.subprotocols:
            raise ValueError("requires_subprotocol needs subprotocols; without one, every client would be refused")
        if self.deflate is not None and not isinstance(self.deflate, Deflate):
            raise TypeError(f"deflate must be a Deflate or None; got {self.deflate!r}")
        if self.gzip is not None and not isinstance(self.gzip, Gzip):
            raise TypeError(f"gzip must be a Gzip or None; got {self.gzip!r}")
        if self.gzip is not None and not (self.on_head or self.on_request or self.inline):
            raise ValueError(f"route {self.path!r} answers no requests, which gzip is about; deflate is for WebSockets")
        if self.slow_client not in get_args(SlowClient):
            names = ", ".join(map(repr, get_args(SlowClient)))
            raise ValueError(f"slow_client must be one of {names}; got {self.slow_client!r}")
        if self.frames not in (None, *get_args(Frames)):
            raise ValueError(f"frames must be 'text', 'binary' or None; got {self.frames!r}")
        if self.allowed_origins is not None:
            listed = read_origins("allowed_origins", self.allowed_origins)
            object.__setattr__(self, "allowed_origins", ("*",) if listed is None else tuple(listed))
        if self.changes_websockets and not self.wants_websocket:
            # Somebody who says deflate=True here may well expect compressed answers, and would never learn.
            raise ValueError(
                f"route {self.path!r} takes no WebSockets, which subprotocols, deflate, frames, allowed_origins and "
                "slow_client are about"
            )

    @property
    def wants_websocket(self) -> bool:
        """Whether a WebSocket handshake on this route is accepted."""
        return self.on_open is not None or self.on_message is not None or self.on_close is not None

    @property
    def claims(self) -> list[tuple[str, bool, str]]:
        """What it takes, as `(path, prefix, method)`. Of two routes with one in common, one would never be asked."""
        path = (self.path.rstrip("/") or "/") if self.prefix else self.path
        methods = list(self.methods or ()) or ["*"] if not self.wants_websocket or self.on_request is not None else []
        if self.files is not None:
            methods = ["GET", "HEAD", "*"]
        if self.wants_websocket:
            methods.append("WebSocket")
        return [(path, self.prefix, method) for method in methods]

    def __str__(self) -> str:
        who = self.on_request or self.on_message or self.on_open or self.on_close or self.on_head
        name = "an inline answer" if self.inline else f"files in {self.files.path!r}" if self.files else _name(who)
        methods = (
            "WebSocket" if self.on_request is None and self.wants_websocket else "/".join(self.methods or ()) or "any"
        )
        return f"{methods} {self.path!r}{' and below' if self.prefix else ''} ({name})"

    @property
    def changes_websockets(self) -> bool:
        """Whether anything about its WebSockets is other than the default."""
        return (
            bool(self.subprotocols)
            or self.deflate is not None
            or self.frames is not None
            or self.allowed_origins is not None
            or self.slow_client != "close"
        )


def check_clashes(routes: Iterable[Route]) -> None:
    """Refuse two routes for the same requests: which of them is meant is a guess. Raises: ValueError, naming both."""
    taken: dict[tuple[str, bool, str], Route] = {}
    for route in routes:
        for claim in route.claims:
            if claim in taken:
                raise ValueError(f"two handlers for the same requests: {taken[claim]} and {route}")
            taken[claim] = route


def _read_methods(methods: object, is_inline: bool) -> tuple[str, ...]:
    if methods is None:
        return ("GET",) if is_inline else ()
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise TypeError(f"methods must be a list of str or None; got {methods!r}")
    for method in methods:
        if not isinstance(method, str):
            raise TypeError(f"a method must be a str, not {type(method).__name__} ({method!r})")
        # RFC 9110 §9.1: methods are case-sensitive. All that are registered are upper-case; "get" would never match.
        if method != "*" and (not TOKEN.fullmatch(method) or method != method.upper()):
            raise ValueError(f"a method is a word in capitals, like 'GET', or '*' for any; got {method!r}")
        if methods.count(method) > 1:
            raise ValueError(f"method {method!r} is there twice")
    return () if "*" in methods else tuple(methods)


def read_deflate(deflate: object) -> Deflate | None:
    """True is `Deflate()`, False none. Raises: TypeError."""
    if isinstance(deflate, bool):
        return Deflate() if deflate else None
    if not isinstance(deflate, Deflate):
        raise TypeError(f"deflate must be True, False or portico.Deflate(…); got {deflate!r}")
    return deflate


def read_gzip(gzip: object) -> Gzip | None:
    """True is `Gzip()`, False none. Raises: TypeError."""
    if isinstance(gzip, bool):
        return Gzip() if gzip else None
    if not isinstance(gzip, Gzip):
        raise TypeError(f"gzip must be True, False or portico.Gzip(…); got {gzip!r}")
    return gzip


def pop_route_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of a server's options those that are a route's. Raises: TypeError."""
    taken = {name: options.pop(name) for name in ROUTE_OPTIONS & options.keys()}
    taken["deflate"] = read_deflate(taken.get("deflate", False))
    taken["gzip"] = read_gzip(taken.get("gzip", False))
    return taken


def _name(who: object) -> str:
    if isinstance(who, partial) and who.args:
        who = who.args[0]
    return getattr(who, "__qualname__", None) or type(who).__name__


def _read_subprotocols(names: object) -> tuple[str, ...]:
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"subprotocols must be a list of names; got {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a subprotocol must be a str, not {type(name).__name__} ({name!r})")
        if not TOKEN.fullmatch(name):
            raise ValueError(f"a subprotocol is made of letters, digits and !#$%&'*+-.^_`|~ only; got {name!r}")
        if names.count(name) > 1:
            raise ValueError(f"subprotocol {name!r} is there twice")
    return tuple(names)
