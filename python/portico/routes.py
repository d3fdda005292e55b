"""What a server serves and how much of it: `Route` and `Limits`.

Values only; matching and enforcing happen in the native half. Thread: any (pure).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from portico.request import Request
    from portico.websocket import WebSocket

KIB = 1024
MIB = 1024 * KIB

Inline: TypeAlias = tuple[int, Sequence[tuple[str, str]], bytes]
"""`(status, header fields, body)` of an answer that never needs Python."""


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
                _check_count(field.name, value)


def _check_timeout(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a positive number of seconds, or None for no time-out; got {value!r}")


def _check_count(name: str, value: object) -> None:
    # A body limit of 0 is a meaningful wish ("no uploads"); a message or head limit of 0 would refuse everything.
    least = 0 if name.startswith("max_body") else 1
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number, at least {least}; got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and who answers it: up to five callables, or `inline`, which needs no Python at all.

    `path` begins with `/` and is compared with the percent-decoded path of the request; `prefix` also takes
    everything below it, on whole segments. The longest path wins. Raises: ValueError.
    """

    path: str = "/"
    prefix: bool = False
    on_head: Callable[[Request], object] | None = None
    on_request: Callable[[Request], object] | None = None
    on_open: Callable[[WebSocket], object] | None = None
    on_message: Callable[[WebSocket, str | bytes], object] | None = None
    on_close: Callable[[WebSocket], object] | None = None
    inline: Inline | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise ValueError(f"a route's path begins with '/'; got {self.path!r}")
        answers = self.on_head or self.on_request or self.wants_websocket
        if bool(answers) == (self.inline is not None):
            raise ValueError(f"route {self.path!r} needs either a callable or an inline answer, and not both")

    @property
    def wants_websocket(self) -> bool:
        """Whether a WebSocket handshake on this route is accepted."""
        return self.on_open is not None or self.on_message is not None or self.on_close is not None
