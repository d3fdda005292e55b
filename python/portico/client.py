"""The other end of the wire: WebSockets to somebody else's server, in whichever style the program is written.

Blocking, asyncio and callbacks are one client; they differ in how they wait, and all wait on the thread's Home.
Thread: the one that connects is the client's home; `send`, `close`, `ping` and `drain` may be called on any.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico.call import Call
from portico.headers import Headers
from portico.home import Callbacks, Home, ThreadHome, current_home, require_idle
from portico.name_lookup import known_addresses, look_up, too_late
from portico.pull import Pull, Reader, settle
from portico.pumps.event_loop import running_loop
from portico.response_fields import read_fields
from portico.routes import Deflate, Limits, Route, read_deflate
from portico.specs import websocket_spec
from portico.tls import TlsConfig, system_trust
from portico.websocket_connection import Link, SendResult, WebSocket
from portico.ws_url import Destination, read_url

if TYPE_CHECKING:
    from types import TracebackType

    from portico._core import Address, RequestParts, TlsSpec

logger = logging.getLogger("portico")

OPEN_TIMEOUT_S: Final = 10.0

OnMessage: TypeAlias = "Callable[[Client, str | bytes], object]"
OnClient: TypeAlias = "Callable[[Client], object]"


class ConnectionClosed(ConnectionError):
    """No message will come any more: the connection has ended, with `code` and `reason` (RFC 6455 §7.4)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the WebSocket is closed: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


def connect(
    url: str,
    *,
    on_message: OnMessage | None = None,
    on_open: OnClient | None = None,
    on_close: OnClient | None = None,
    on_error: Callable[[Exception], object] | None = None,
    headers: object = (),
    subprotocols: Sequence[str] = (),
    requires_subprotocol: bool = False,
    deflate: bool | Deflate = False,
    limits: Limits | None = None,
    callbacks: Callbacks = "auto",
    open_timeout_s: float | None = OPEN_TIMEOUT_S,
    tls: TlsConfig | None = None,
) -> Client:
    """Open a WebSocket to `url`: `ws://…`, `wss://…`, their http forms, or `unix:/path/of/socket`.

    Three styles, by where and how it is called:

    - blocking, where no loop runs: returns when it is open. `with connect(url) as ws: ws.send("hi"); ws.recv()`.
    - asyncio: `async with connect(url) as ws:` or `ws = await connect(url)`; then `async for message in ws`.
    - callbacks, if any of them is given: returns at once. `on_open(ws)`, `on_message(ws, message)` and `on_close(ws)`
      run as a server's do, or `on_error(error)` if it can't be opened; without one, that is logged.

    headers: more header fields, as a mapping or pairs (Authorization, Origin, Cookie …).
    subprotocols: what is offered; `ws.subprotocol` is what the server chose. requires_subprotocol: else it fails.
    deflate: offer compression. limits: as of a server, as far as they concern WebSockets.
    callbacks: where callbacks run, as for `start_server`. open_timeout_s: for its name, then for each address.
    tls: for wss, `tls_config(client=…)` with the CA that counts; without it those of this system do.

    Raises: TypeError, ValueError; OSError if nobody listens there (ConnectionRefusedError …); TimeoutError;
    HandshakeRefused with `status`, `headers` and `body` for an answer other than 101; HandshakeError for one that is
    no WebSocket handshake; CertificateError; RuntimeError inside a callback, which it would wait for: give callbacks.
    """
    destination = read_url(url)
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits must be portico.Limits, not {type(limits).__name__}")
    has_callbacks = any(f is not None for f in (on_message, on_open, on_close, on_error))
    for name, f in (("on_message", on_message), ("on_open", on_open), ("on_close", on_close), ("on_error", on_error)):
        if f is not None and not callable(f):
            raise TypeError(f"{name} must be callable, not {type(f).__name__}")
    route = Route(
        on_open=on_open,  # type: ignore[arg-type]
        on_message=on_message,  # type: ignore[arg-type]
        on_close=on_close or _nothing,  # type: ignore[arg-type]
        subprotocols=subprotocols,
        requires_subprotocol=requires_subprotocol,
        deflate=read_deflate(deflate),
        # A program that sends faster than the server reads should hear of it, and not lose the connection.
        slow_client="drop_new",
    )
    config = {
        "host": destination.host,
        "target": destination.target,
        "fields": read_fields(headers),
        "websocket": websocket_spec(route),
        "limits": asdict(limits or Limits()),
        "open_timeout_s": _check_open_timeout(open_timeout_s),
        "tls": _read_tls(destination, tls),
    }
    if not has_callbacks and callbacks != "auto":
        raise ValueError(f"callbacks={callbacks!r} says where callbacks run, and none is given")
    home = ThreadHome() if callbacks == "thread" else current_home()
    client = Client(home, destination, route, config, has_callbacks, on_error)
    if has_callbacks:
        client._begin_with_callbacks(callbacks)
    elif running_loop() is None:
        client._open_blocking()
    return client


_places = itertools.count(1)
"""Where clients live in their home while they have no number yet: below zero, where no connection has its number."""


def _nothing(_: object) -> None:
    """For a route that has nobody to tell."""


def _check_open_timeout(timeout: object) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise ValueError(f"open_timeout_s must be a positive number of seconds, or None for no bound; got {timeout!r}")
    return float(timeout)


def _check_wait(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds, at least 0, or None; got {timeout!r}")


def _read_tls(destination: Destination, tls: TlsConfig | None) -> tuple[TlsSpec, str] | None:
    if tls is not None and not isinstance(tls, TlsConfig):
        raise TypeError(f"tls must be what tls_config(…) makes, not {type(tls).__name__}")
    if not destination.is_secure:
        if tls is not None:
            raise ValueError(f"tls= is for wss:// and https://; this is {destination}")
        return None
    return (tls or system_trust()).client_spec(), destination.name


class Client(WebSocket):
    """A WebSocket to somebody else's server: all that `WebSocket` has, and `recv`, iteration and `with`.

    An open client lives until it is closed, whether or not anybody holds it.
    """

    __slots__ = (
        "_call",
        "_config",
        "_destination",
        "_error",
        "_has_begun",
        "_has_callbacks",
        "_headers",
        "_home",
        "_is_given_up",
        "_is_over",
        "_on_error",
        "_reader",
        "_state_waiters",
    )

    def __init__(
        self,
        home: Home,
        destination: Destination,
        route: Route,
        config: Mapping[str, Any],
        has_callbacks: bool,
        on_error: Callable[[Exception], object] | None,
    ) -> None:
        fields = [("Host", destination.host), *config["fields"]]
        block = "".join(f"{name}:{value}\r\n" for name, value in fields).encode("latin-1", "replace")
        parts = (0, 0, "GET", destination.target, "1.1", block, b"", "", True, None)
        super().__init__(0, Link(home.core, route, "", None), parts)
        self._is_closing = True  # until it is open, there is nothing to send to
        self._home = home
        self._destination = destination
        self._config = config
        self._has_callbacks = has_callbacks
        self._on_error = on_error
        self._call: Call | None = None
        self._error: Exception | None = None
        self._headers: Headers | None = None
        self._reader: Reader | None = None
        self._has_begun = False
        self._is_given_up = False  # before it was open
        self._is_over = False
        self._state_waiters: list[asyncio.Future[None]] = []

    # Facts

    @property
    def response_headers(self) -> Headers:
        """The header fields of the server's answer. Raises: RuntimeError before it is open."""
        if self._headers is None:
            raise RuntimeError("this WebSocket has not been opened")
        return self._headers

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: it has been opened, and neither side has begun to close."""
        return self._headers is not None and super().is_open

    # Blocking

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message, at most `timeout` seconds; callbacks of this thread's servers run meanwhile.

        0 looks once at what is there. Raises: ConnectionClosed; TimeoutError; RuntimeError in a running loop (`async
        for`, or `await ws.receive()`), inside a callback, on another thread, and if there is an `on_message`.
        """
        if running_loop() is not None:
            require_idle("recv()", "async for message in ws, or await ws.receive()")
        if timeout is not None:
            _check_wait(timeout)
        home = self._home
        if home.is_alive:
            home.require_turn("recv()")
        pull = self._pull()
        if self._reader is None:
            self._reader = pull.read()
        else:
            pull.proceed(self._reader)
        if not pull.is_ready and not home.wait_for(pull, timeout, "recv()"):
            raise TimeoutError(f"no message within {timeout} seconds")
        try:
            message = pull.take()
        except StopAsyncIteration:
            raise self._closed() from None
        assert message is not None
        return message

    def __iter__(self) -> Iterator[str | bytes]:
        """`for message in ws`: every message until the connection is over; `ws.close_code` tells how it ended."""
        while True:
            try:
                message = self.recv()
            except ConnectionClosed:
                return
            yield message

    def service(self, timeout: float | None = None) -> int:
        """Run callbacks of this client's home; see `portico.service`."""
        return self._home.service(timeout)

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until it is over and every `on_close` has run; False at the time-out. In a loop: `async with` waits.

        Raises: RuntimeError in a running loop, and inside a callback.
        """
        require_idle("wait_closed()", "async with portico.connect(…)")
        if timeout is not None:
            _check_wait(timeout)
        return self._is_over or self._home.run_until(lambda: self._is_over, timeout)

    def __enter__(self) -> Client:
        if self._headers is None and not self._has_callbacks:
            raise RuntimeError("in a running event loop: async with portico.connect(…)")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        home = self._home
        if not self._is_over and home.is_here and not home.is_busy and running_loop() is None:
            home.run_until(lambda: self._is_over)  # close_timeout_s bounds it

    # asyncio

    def __await__(self) -> Any:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        while not self._is_over:
            await self._change()

    async def receive(self) -> str | bytes:
        """The next message. Raises: ConnectionClosed; RuntimeError while another task reads, and with `on_message`."""
        pull = self._pull()
        if self._reader is None:
            self._reader = pull.read()
        try:
            return await anext(self._reader)
        except StopAsyncIteration:
            raise self._closed() from None

    def __aiter__(self) -> Reader:
        """`async for message in ws`: every message until the connection is over; `ws.close_code` tells how it ended."""
        self._reader = None
        return self._pull().read()

    # Callbacks

    def on_message(self, f: Any) -> Any:
        """Call `f(binary, message)` for every message, besides the `on_message` that `connect` was given.

        Raises: RuntimeError for a client without callbacks, whose messages are read one by one.
        """
        if not self._has_callbacks:
            raise RuntimeError("messages are read from this client; for callbacks: connect(…, on_message=f)")
        return super().on_message(f)

    def close(self, code: int = 1000, reason: str = "") -> SendResult:
        """Begin the closing handshake; one that isn't open yet is given up. See `WebSocket.close`."""
        if self._headers is None:
            self._is_given_up = True
            if self._call is not None and not self._is_over:
                self._call.cancel()
            return SendResult.CLOSED
        return super().close(code, reason)

    def __repr__(self) -> str:
        if self._headers is None:
            return f"<Client {self._destination} {'failed' if self._error else 'connecting'}>"
        return super().__repr__().replace("WebSocket", "Client", 1)

    # Opening

    def _open_blocking(self) -> None:
        require_idle("connect()", "async with portico.connect(…)")
        self._begin(known_addresses(self._destination) or self._wait_for_addresses())
        try:
            self._home.run_until(self._is_settled, None, "connect()")
        except BaseException:
            self.close()
            raise
        self._check_opened()

    def _wait_for_addresses(self) -> list[Address]:
        home, timeout = self._home, self._config["open_timeout_s"]
        lookup = look_up(self._destination)
        lookup.add_done_callback(lambda _: home.wake())
        home.run_until(lookup.done, timeout, "connect()")
        if not lookup.done():
            raise too_late(self._destination, timeout)
        return lookup.result()

    async def _open(self) -> Client:
        if self._headers is not None or self._has_callbacks:
            return self
        if self._has_begun or self._is_given_up:
            raise RuntimeError("this client has been opened or closed already; call connect() again for another one")
        self._has_begun = True
        addresses = known_addresses(self._destination)
        if not addresses:
            timeout = self._config["open_timeout_s"]
            try:
                addresses = await asyncio.wait_for(asyncio.wrap_future(look_up(self._destination)), timeout)
            except asyncio.TimeoutError:
                raise too_late(self._destination, timeout) from None
        self._begin(addresses)
        try:
            while not self._is_settled():
                await self._change()
        except BaseException:
            self.close()
            raise
        self._check_opened()
        return self

    def _begin_with_callbacks(self, callbacks: Callbacks) -> None:
        home = self._home
        try:
            home.choose(callbacks)
            addresses = known_addresses(self._destination)
            if not addresses:
                self._id = -next(_places)
                home.settle_in(self._id, self)  # so that there is somebody whom a loop, if one runs, can serve
                home.touch()
                # It waits for other machines, which neither a loop nor a callback should.
                threading.Thread(target=self._look_up_and_begin, name="portico-client", daemon=True).start()
            else:
                home.perform(lambda: self._begin(addresses))
        except BaseException:
            home.move_out(self._id)
            if isinstance(home, ThreadHome):
                home.leave()
            raise

    def _look_up_and_begin(self) -> None:
        timeout = self._config["open_timeout_s"]
        job: Callable[[], None]
        try:
            job = partial(self._begin_or_fail, look_up(self._destination).result(timeout))
        except concurrent.futures.TimeoutError:
            job = partial(self._failed, too_late(self._destination, timeout))
        except OSError as error:
            job = partial(self._failed, error)
        try:
            self._home.perform(job)
        except RuntimeError:
            logger.debug("%r: its home ended before its name was resolved", self)

    def _begin_or_fail(self, addresses: Sequence[Address]) -> None:
        if self._is_given_up:
            self._failed(self._abandoned())
            return
        try:
            self._begin(addresses)
        except ValueError as error:  # header fields that HTTP cannot carry; nobody is left whom it could be raised to
            self._failed(error)

    def _begin(self, addresses: Sequence[Address]) -> None:
        home = self._home
        callers = home.dispatcher.callers
        self._call = Call(home.core, callers, addresses, self._config, self._moved_in, self._opened, self._failed)
        self._call.begin()

    def _moved_in(self, number: int) -> None:
        before, self._id = self._id, number
        self._home.settle_in(number, self)
        self._home.move_out(before)
        self._home.touch()

    def _opened(self, headers: Headers, subprotocol: str | None) -> WebSocket:
        if self._is_given_up:  # a moment too late to stop it; it is being closed, and nobody hears what still comes
            self._failed(self._abandoned())
            parts: RequestParts = (0, 0, "GET", "/", "1.1", b"", b"", "", True, None)
            return WebSocket(self._id, Link(self._link.core, Route(on_close=_nothing), "", subprotocol), parts)
        self._link.subprotocol = subprotocol
        self._headers = headers
        self._call, self._config = None, {}  # what an open client would only carry along
        self._is_closing = False
        if not self._has_callbacks:
            # From here on, so that what comes before anybody reads is kept, and counts against the inbox.
            pull = self._extend().pull = Pull(self._link.core, self._id, False, is_awaited=True)
            self._listen(pull.put)
        self._wake()
        return self

    def _failed(self, error: Exception) -> None:
        self._error = error
        self._finish()
        if not self._has_callbacks:
            return
        if self._on_error is None:
            logger.error("%s: the WebSocket could not be opened: %s", self._destination, error)
            return
        try:
            self._on_error(error)
        except Exception:
            logger.exception("on_error of the client for %s failed", self._destination)

    def _abandoned(self) -> Exception:
        return ConnectionAbortedError(f"{self._destination}: given up before it was open")

    def _is_settled(self) -> bool:
        return self._headers is not None or self._error is not None or self._is_over

    def _check_opened(self) -> None:
        if self._error is not None:
            raise self._error
        if self._headers is None:
            raise ConnectionAbortedError("this thread's home ended before the WebSocket was open")

    # The end

    def _forget_listeners(self) -> None:
        super()._forget_listeners()
        self._finish()

    def _finish(self) -> None:
        self._is_over = True
        self._home.move_out(self._id)
        self._wake()

    def home_ended(self, in_child: bool) -> None:
        """Its home has ended, and this client with it."""
        if self._end is None:
            self._end = (1006, "")
        if in_child:
            self._state_waiters.clear()  # their loops are the parent's
        elif self._extras is not None and self._extras.pull is not None:
            self._extras.pull.end()
        self._is_over = True
        self._wake()

    # Waiting

    def _pull(self) -> Pull:
        if self._has_callbacks:
            raise RuntimeError("this client's messages go to its on_message; without callbacks they can be read")
        if self._headers is None or self._extras is None or self._extras.pull is None:
            raise RuntimeError("this WebSocket has not been opened: await portico.connect(…), or use async with")
        return self._extras.pull

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(*(self._end or (1006, "")))

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._state_waiters.append(waiter)
        self._home.touch()
        try:
            await waiter
        finally:
            self._state_waiters.remove(waiter)

    def _wake(self) -> None:
        for waiter in tuple(self._state_waiters):
            settle(waiter, None)
