"""What a callback writes to: one WebSocket, as the app sees it.

Holds the app's listeners and nothing of the connection, which is only a number here. Thread: any for whatever sends,
drains, subscribes or closes; listeners run on the home thread, and reading with `async for` belongs there.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from portico.pull import Pull, Reader
from portico.request import Request

if TYPE_CHECKING:
    from portico._core import Address, Core, RequestParts
    from portico.proxies import ProxiedAddress
    from portico.routes import Route

MessageListener: TypeAlias = Callable[[bool, "str | bytes"], object]
PlainListener: TypeAlias = Callable[[], object]
Send: TypeAlias = Callable[[int, "str | bytes | bytearray | memoryview"], int]
AnyMessageListener = TypeVar("AnyMessageListener", bound=MessageListener)
AnyPlainListener = TypeVar("AnyPlainListener", bound=PlainListener)


class SendResult(IntEnum):
    """What became of a message. The numbers are nanonext's."""

    SENT = 0
    CLOSED = 7
    FULL = 8


# One tuple index instead of an enum call, which costs more than the send itself.
RESULTS: tuple[SendResult, ...] = tuple(
    SendResult(number) if number in (0, 7, 8) else SendResult.CLOSED for number in range(9)
)


class Opening(Protocol):
    """Who keeps messages back while a coroutine `on_open` still runs."""

    def add(self, listener: MessageListener) -> None:
        """Register a listener for the messages kept back and all that follow."""

    def release(self) -> None:
        """Let go of the messages; later calls do nothing."""


class Link:
    """What all WebSockets of one route that agreed on the same subprotocol have in common, and hold only once."""

    __slots__ = ("core", "listener", "route", "send", "server", "subprotocol")

    def __init__(self, core: Core, route: Route, server: Address | ProxiedAddress, subprotocol: str | None) -> None:
        self.core = core
        self.send = core.send if route.frames is None else partial(_CONVERTED[route.frames], core.send)
        self.route = route
        self.server = server
        self.subprotocol = subprotocol
        self.listener = None if route.on_message is None else _without_type(route.on_message)


Data: TypeAlias = "str | bytes | bytearray | memoryview"


def as_text(data: Data, why: str) -> Data:
    """What is sent as text; other types stay, for `send` to refuse. Raises: ValueError for bytes that are not UTF-8."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        return data
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes that are not UTF-8 can't be sent as text, {why}: {error}") from None


def as_binary(data: Data) -> Data:
    """What is sent as binary."""
    return data.encode() if isinstance(data, str) else data


def _send_text(send: Send, number: int, data: Data) -> int:
    return send(number, as_text(data, "which this route's frames are"))


def _send_binary(send: Send, number: int, data: Data) -> int:
    return send(number, as_binary(data))


_CONVERTED = {"text": _send_text, "binary": _send_binary}


def _without_type(
    on_message: Callable[[WebSocket, str | bytes], object],
) -> Callable[[WebSocket, bool, str | bytes], object]:
    return lambda ws, _binary, message: on_message(ws, message)


class Extras:
    """What only some WebSockets need, and only for a while. Ten thousand idle ones go without."""

    __slots__ = ("drainers", "opening", "pull", "waiters")

    def __init__(self) -> None:
        self.opening: Opening | None = None
        self.pull: Pull | None = None
        self.drainers: tuple[PlainListener, ...] = ()
        self.waiters: list[asyncio.Future[bool]] | None = None


_extending = threading.Lock()  # `drain` runs on any thread, and two must not make Extras for one WebSocket


class WebSocket:
    """One connected client. `send`, `close` and `ping` never block, and never raise for the state of the peer.

    `async for message in ws` reads messages one by one, at the reader's own pace.
    """

    __slots__ = (
        "__weakref__",
        "_closers",
        "_end",
        "_extras",
        "_id",
        "_is_closing",
        "_link",
        "_listeners",
        "_request",
    )

    def __init__(self, number: int, link: Link, parts: RequestParts) -> None:
        self._id = number
        self._link = link
        self._request: Request | RequestParts = parts  # a Request from its first use on
        self._is_closing = False
        self._end: tuple[int, str] | None = None
        # Tuples, replaced when one registers: a listener added during a message sees the next one.
        self._listeners: tuple[MessageListener, ...] = ()
        self._closers: tuple[PlainListener, ...] = ()
        self._extras: Extras | None = None

    @property
    def id(self) -> int:
        """The connection's number: unique in the process, never used again."""
        return self._id

    @property
    def request(self) -> Request:
        """The handshake."""
        request = self._request
        if isinstance(request, tuple):
            request = self._request = Request(request, self._link.server)
        return request

    @property
    def _server_number(self) -> int:
        """What events call the server that it belongs to; 0 for one that we opened."""
        request = self._request
        return (request if isinstance(request, tuple) else request._parts)[0]

    @property
    def subprotocol(self) -> str | None:
        """The negotiated subprotocol, or None."""
        return self._link.subprotocol

    @property
    def is_open(self) -> bool:
        """Whether messages can still be sent: neither side has begun to close."""
        return not self._is_closing and self._end is None and self._link.core.info(self._id) is not None

    @property
    def buffered_amount(self) -> int:
        """Bytes queued for this client and not yet taken by the system."""
        info = self._link.core.info(self._id)
        return info[0] if info else 0

    @property
    def latency_s(self) -> float | None:
        """The last round trip of a ping, in seconds; None before the first and after the end."""
        info = self._link.core.info(self._id)
        return info[1] if info else None

    @property
    def round_trips(self) -> list[tuple[float, float]]:
        """The last 32 round trips of pings, oldest first: `(how many seconds ago, seconds)`.

        Pings go on while Python is busy, so this also tells how the connection did meanwhile.
        """
        return self._link.core.round_trips(self._id)

    @property
    def close_code(self) -> int | None:
        """Why it ended (RFC 6455 §7.4); None while it is open. 1005: no code was sent; 1006: no close at all."""
        return self._end[0] if self._end else None

    @property
    def close_reason(self) -> str:
        """The text that came with the close code, or `""`."""
        return self._end[1] if self._end else ""

    # Sending

    def send(self, data: str | bytes | bytearray | memoryview) -> SendResult:
        """Queue one message and return at once: `str` as text, bytes-like as binary, unless the route fixes the type.

        Returns: SENT; CLOSED; or FULL if it doesn't fit into `max_outbox_bytes` with what is queued already. What
        happens to so slow a client is `slow_client`'s choice. Raises: TypeError.
        """
        return RESULTS[self._link.send(self._id, data)]

    def ping(self, data: bytes | bytearray | memoryview = b"") -> SendResult:
        """Send a ping; its round trip becomes `latency_s`. Raises: TypeError; ValueError over 125 bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"ping data must be bytes, not {type(data).__name__}")
        return RESULTS[self._link.core.ping(self._id, bytes(data))]

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
        result = RESULTS[self._link.core.close(self._id, code, reason)]
        self._is_closing = True
        return result

    # Keeping pace with a slow client

    async def drain(self) -> bool:
        """Wait until nothing is queued for this client any more. Any thread with a running loop, and any coroutine.

        Returns: True; False if the connection ended first, and what was queued is lost.
        """
        core, number = self._link.core, self._id
        if core.drain(number):
            waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            waiters = self._add_waiter(waiter)
            try:
                # Asked again: off the home thread, DRAINED may have come before there was anybody to tell.
                if core.drain(number):
                    return await waiter
            finally:
                waiters.remove(waiter)
        # Nothing is queued. What was may have left, or be lost with the connection; while it closes, only this tells.
        return self._end is None and (core.info(number) is not None or core.wait_drained(number, 0.0))

    def wait_drained(self, timeout: float | None = None) -> bool:
        """Block this thread until nothing is queued for this client, at most `timeout` seconds; the I/O goes on.

        0 sends what can leave now, and tells whether that was everything.

        For plain callbacks and other threads. No callback runs meanwhile, and in a running asyncio loop nothing else
        does either: use `await ws.drain()` there. Returns: True; False at the time-out, or if the connection ended
        first. Raises: ValueError; KeyboardInterrupt.
        """
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < math.inf
        ):
            raise ValueError(f"timeout must be a number of seconds, at least 0, or None; got {timeout!r}")
        return self._link.core.wait_drained(self._id, None if timeout is None else float(timeout))

    def on_drain(self, f: AnyPlainListener) -> AnyPlainListener:
        """Call `f()` each time that this client has kept us waiting and then taken everything: go on sending.

        Bytes that leave at once never kept us waiting. `wait_drained(0)` tells which it is, before you rely on `f`.
        """
        if not callable(f):
            raise TypeError(f"on_drain needs a function without arguments, not {type(f).__name__}")
        extras = self._extend()
        if not extras.drainers:
            self._link.core.watch_drained(self._id)
        extras.drainers += (f,)
        return f

    # Topics

    def subscribe(self, topic: str) -> bool:
        """Get what `server.publish(topic, …)` sends from now on. Memberships end with the connection.

        Returns: False if it is closing or closed. Raises: TypeError.
        """
        return self._link.core.subscribe(self._id, _check_topic(topic))

    def unsubscribe(self, topic: str) -> bool:
        """No longer get it. Returns: False if it was no member, or is closed. Raises: TypeError."""
        return self._link.core.unsubscribe(self._id, _check_topic(topic))

    # Receiving

    def on_message(self, f: AnyMessageListener) -> AnyMessageListener:
        """Call `f(binary, message)` for every message from now on. Listeners run in the order they registered.

        A coroutine `on_ws_open` misses nothing: messages wait until it registers its first listener, or ends.
        """
        if not callable(f):
            raise TypeError(f"on_message needs a function of (binary, message), not {type(f).__name__}")
        self._listen(f)
        return f

    def on_close(self, f: AnyPlainListener) -> AnyPlainListener:
        """Call `f()` once when the connection is over; `close_code` and `close_reason` are known by then."""
        if not callable(f):
            raise TypeError(f"on_close needs a function without arguments, not {type(f).__name__}")
        self._closers += (f,)
        return f

    def __aiter__(self) -> Reader:
        """`async for message in ws`: every message from now on, until the connection is over. Home thread.

        A message is finished when the loop asks for the next one; until then it counts against the inbox, as do those
        that wait, so a slow loop slows the client down. After `break`, another loop goes on where this one stopped.
        Listeners of `on_message` get every message, too. Raises: RuntimeError while another loop reads.
        """
        extras = self._extend()
        pull = extras.pull
        if pull is None:
            is_over = self._end is not None and extras.opening is None
            pull = extras.pull = Pull(self._link.core, self._id, is_over)
            if not is_over:
                self._listen(pull.put)
        return pull.read()

    def __repr__(self) -> str:
        state = f"closed {self._end[0]}" if self._end else "closing" if self._is_closing else "open"
        return f"<WebSocket {self._id} {self.request.uri} {state}>"

    def _listen(self, f: MessageListener) -> None:
        extras = self._extras
        if extras is None or extras.opening is None:
            self._listeners += (f,)
        else:
            extras.opening.add(f)

    def _extend(self) -> Extras:
        with _extending:
            if self._extras is None:
                self._extras = Extras()
            return self._extras

    def _has_opened(self, opening: Opening) -> bool:
        """Let go of `opening`; False if that has been done before."""
        with _extending:
            extras = self._extras
            if extras is None or extras.opening is not opening:
                return False
            extras.opening = None
            if extras.pull is None and not extras.drainers and not extras.waiters:
                self._extras = None
            return True

    def _forget_listeners(self) -> None:
        # They usually refer to the WebSocket themselves. Without this, only the collector would free a pair of them.
        self._listeners = self._closers = ()
        if self._extras is not None:
            self._extras.drainers = ()

    def _add_waiter(self, waiter: asyncio.Future[bool]) -> list[asyncio.Future[bool]]:
        with _extending:
            extras = self._extras = self._extras or Extras()
            waiters = extras.waiters = extras.waiters or []
            waiters.append(waiter)
            return waiters


def _check_topic(topic: object) -> str:
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
    return topic
