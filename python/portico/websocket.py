"""What a callback writes to: one WebSocket, as the app sees it.

Holds the app's listeners and nothing of the connection, which is only a number here. Thread: any for `send`, `close`
and `ping`; listeners run on the home thread.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from portico._core import Core
    from portico.request import Request
    from portico.routes import Route

MessageListener: TypeAlias = Callable[[bool, "str | bytes"], object]
CloseListener: TypeAlias = Callable[[], object]
AnyMessageListener = TypeVar("AnyMessageListener", bound=MessageListener)
AnyCloseListener = TypeVar("AnyCloseListener", bound=CloseListener)


class SendResult(IntEnum):
    """What became of a message. The numbers are nanonext's."""

    SENT = 0
    CLOSED = 7
    FULL = 8


# One tuple index instead of an enum call, which costs more than the send itself.
_RESULTS: tuple[SendResult, ...] = tuple(
    SendResult(number) if number in (0, 7, 8) else SendResult.CLOSED for number in range(9)
)


class Opening(Protocol):
    """Who keeps messages back while a coroutine `on_open` still runs."""

    def add(self, listener: MessageListener) -> None:
        """Register a listener for the messages kept back and all that follow."""


class WebSocket:
    """One connected client. `send`, `close` and `ping` never block, and never raise for the state of the peer."""

    __slots__ = (
        "__weakref__",
        "_close_code",
        "_close_reason",
        "_closers",
        "_core",
        "_id",
        "_is_open",
        "_listeners",
        "_opening",
        "_request",
        "_route",
        "_send",
    )

    def __init__(self, number: int, core: Core, request: Request, route: Route) -> None:
        self._id = number
        self._core = core
        self._send = core.send
        self._request = request
        self._route = route
        self._is_open = True
        self._close_code: int | None = None
        self._close_reason = ""
        # Tuples, replaced when one registers: a listener added during a message sees the next one.
        self._listeners: tuple[MessageListener, ...] = ()
        self._closers: tuple[CloseListener, ...] = ()
        self._opening: Opening | None = None

    @property
    def id(self) -> int:
        """The connection's number: unique in the process, never used again."""
        return self._id

    @property
    def request(self) -> Request:
        """The handshake."""
        return self._request

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, or None."""
        return None

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent: neither side has begun to close."""
        return self._is_open and self._core.info(self._id) is not None

    @property
    def buffered_amount(self) -> int:
        """Bytes queued for this client and not yet taken by the system."""
        info = self._core.info(self._id)
        return info[0] if info else 0

    @property
    def latency_s(self) -> float | None:
        """The last round trip of a ping, in seconds; None before the first and after the end."""
        info = self._core.info(self._id)
        return info[1] if info else None

    @property
    def round_trips(self) -> list[tuple[float, float]]:
        """The last 32 round trips of pings, oldest first: `(how many seconds ago, seconds)`.

        Pings go on while Python is busy, so this also tells how the connection did meanwhile.
        """
        return self._core.round_trips(self._id)

    @property
    def close_code(self) -> int | None:
        """Why it ended (RFC 6455 §7.4); None while it is open. 1005: no code was sent; 1006: no close at all."""
        return self._close_code

    @property
    def close_reason(self) -> str:
        """The text that came with the close code, or `""`."""
        return self._close_reason

    def send(self, data: str | bytes | bytearray | memoryview) -> SendResult:
        """Queue one message and return at once: `str` as text, bytes-like as binary.

        Returns: SENT, CLOSED, or FULL if the outbox holds `max_outbox_bytes`. Raises: TypeError.
        """
        return _RESULTS[self._send(self._id, data)]

    def close(self, code: int = 1000, reason: str = "") -> SendResult:
        """Begin the closing handshake. Returns: SENT, or CLOSED if there is nothing left to close.

        Raises: TypeError; ValueError for a code that may not be sent or a reason over 123 bytes.
        """
        if not isinstance(code, int) or isinstance(code, bool):
            raise TypeError(f"a close code must be an int, not {type(code).__name__}")
        if not isinstance(reason, str):
            raise TypeError(f"a close reason must be a str, not {type(reason).__name__}")
        if len(reason.encode()) > 123:  # RFC 6455 §5.5: 125 bytes of payload, two of them the code
            raise ValueError("a close reason has at most 123 bytes of UTF-8")
        result = _RESULTS[self._core.close(self._id, code, reason)]
        self._is_open = False
        return result

    def ping(self, data: bytes | bytearray | memoryview = b"") -> SendResult:
        """Send a ping; its round trip becomes `latency_s`. Raises: TypeError; ValueError over 125 bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"ping data must be bytes, not {type(data).__name__}")
        return _RESULTS[self._core.ping(self._id, bytes(data))]

    def on_message(self, f: AnyMessageListener) -> AnyMessageListener:
        """Call `f(binary, message)` for every message from now on. Listeners run in the order they registered.

        A coroutine `on_ws_open` misses nothing: messages wait until it registers its first listener, or ends.
        """
        if not callable(f):
            raise TypeError(f"on_message needs a function of (binary, message), not {type(f).__name__}")
        if self._opening is None:
            self._listeners += (f,)
        else:
            self._opening.add(f)
        return f

    def on_close(self, f: AnyCloseListener) -> AnyCloseListener:
        """Call `f()` once when the connection is over; `close_code` and `close_reason` are known by then."""
        if not callable(f):
            raise TypeError(f"on_close needs a function without arguments, not {type(f).__name__}")
        self._closers += (f,)
        return f

    def __repr__(self) -> str:
        state = "open" if self._is_open else f"closed {self._close_code}" if self._close_code else "closing"
        return f"<WebSocket {self._id} {self._request.uri} {state}>"
