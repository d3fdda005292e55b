"""A server: its routes, where it listens, and its life from start to the last `on_close`.

Every door makes one or returns one. Policy that can be decided before the first byte is decided here, the rest by the
dispatcher. Thread: home for whatever runs callbacks; any for the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import html
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from portico import notebook
from portico.access_log import AccessLog, read_access_log, warn_if_unheard
from portico.address import check_address, is_loopback, url_of
from portico.cors import CorsLike, read_cors
from portico.home import Callbacks, Home, ThreadHome, current_home, require_idle
from portico.live_static_paths import StaticPaths
from portico.origin import read_hosts, read_origins
from portico.proxies import ProxiedAddress, Proxies, read_proxies
from portico.pumps.event_loop import running_loop
from portico.routes import ROUTE_OPTIONS, Limits, Route, check_flag
from portico.served import Served
from portico.site import Site
from portico.specs import cors_spec
from portico.static_paths import (
    Mount,
    OptionsLike,
    StaticPathOptions,
    StaticPathsLike,
    read_options,
    read_static_paths,
)
from portico.tls import TlsConfig
from portico.websocket_connection import WebSocket

if TYPE_CHECKING:
    from types import TracebackType

    from portico._core import Address

logger = logging.getLogger("portico")

State: TypeAlias = Literal["new", "running", "stopping", "stopped"]
Names: TypeAlias = "Sequence[str] | str | None"
"""A list of names; `"*"` allows all; None is the default of the option."""

_running: dict[int, Server] = {}


class Server:
    """An HTTP and WebSocket server. `with server:` and `async with server:` start it if need be, and stop it.

    A running server lives until it is stopped or the process exits, whether or not anybody holds it.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        address: Address,
        *,
        tls: TlsConfig | None = None,
        quiet: bool = False,
        limits: Limits | None = None,
        callbacks: Callbacks = "auto",
        allowed_origins: Names = None,
        allowed_hosts: Names = None,
        cors: CorsLike = None,
        trusted_proxies: Proxies = None,
        access_log: AccessLog = False,
        mode: int | None = None,
        replace: bool = False,
        static_paths: StaticPathsLike | None = None,
        static_path_options: OptionsLike | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits must be portico.Limits, not {type(limits).__name__}")
        mounts = {} if static_paths is None else read_static_paths(static_paths)
        options = StaticPathOptions() if static_path_options is None else read_options(static_path_options)
        self._served = Served(routes, mounts, options)
        self._address = check_address(address)
        check_flag("replace", replace)
        if replace and not isinstance(self._address, str) and self._address[1] == 0:
            raise ValueError("replace=True needs a port to find the server to replace; port 0 is a new one each time")
        self._tls = None if tls is None else check_server_tls(tls)
        self._quiet = quiet
        self._limits = limits or Limits()
        self._callbacks: Callbacks = callbacks
        self._allowed_origins = [] if allowed_origins is None else read_origins("allowed_origins", allowed_origins)
        self._allowed_hosts = [] if allowed_hosts is None else read_hosts("allowed_hosts", allowed_hosts)
        if allowed_hosts is None and not is_loopback(self._address):
            # Behind a public address the Host is whatever the DNS or the proxy says; rebinding attacks aim at loopback.
            self._allowed_hosts = None
        self._cors = read_cors(cors)
        self._proxies = read_proxies(trusted_proxies)
        self._log = read_access_log(access_log, self._proxies)
        self._mode = mode
        self._replace = replace
        self._on_end = on_end
        self._home: Home | None = None
        self._number = 0
        self._state: State = "new"
        self._closed = threading.Event()
        self._gate = threading.Event()  # what `serve` on another thread waits for: the end, or an interrupt
        self._waiters: list[asyncio.Future[None]] = []

    # Facts

    @property
    def state(self) -> State:
        """`"new"`, `"running"`, `"stopping"` (the drain goes on) or `"stopped"` (every `on_close` has run)."""
        self._touch()
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether it listens."""
        return self.state == "running"

    @property
    def host(self) -> str | None:
        """The bound address; None for a unix socket."""
        self._touch()
        return None if isinstance(self._address, str) else self._address[0]

    @property
    def port(self) -> int | None:
        """The bound port; None for a unix socket."""
        self._touch()
        return None if isinstance(self._address, str) else self._address[1]

    @property
    def name(self) -> str | None:
        """The path of the unix socket; None for TCP."""
        self._touch()
        return self._address if isinstance(self._address, str) else None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it; `unix:` and the path for a unix socket."""
        self._touch()
        return self._url

    @property
    def clients(self) -> int:
        """How many WebSockets are open."""
        self._touch()
        if self._home is None or self._state == "stopped":
            return 0
        return self._home.core.connections(self._number)

    def stats(self) -> dict[str, int]:
        """Counters of this server's home, which other servers of its thread may share. Empty before the start."""
        self._touch()
        return self._home.core.stats() if self._home is not None and self._home.is_alive else {}

    # TLS

    @property
    def tls(self) -> TlsConfig | None:
        """What it shakes hands with. Assigning another is `reload_tls`."""
        self._touch()
        return self._tls

    @tls.setter
    def tls(self, config: TlsConfig) -> None:
        self.reload_tls(config)

    def reload_tls(self, config: TlsConfig) -> None:
        """Shake hands with this from now on, say, a renewed certificate; connections that are open go on.

        Any thread. Raises: ValueError if the server speaks no TLS, which can't change while it lives; TypeError.
        """
        checked = check_server_tls(config)
        if self._tls is None:
            raise ValueError("this server speaks no TLS; start it with tls=tls_config(…)")
        if self._home is not None and not self._is_over:
            self._home.core.set_tls(self._number, checked.server_spec())
        self._tls = checked

    # Static files

    @property
    def static_paths(self) -> StaticPaths:
        """What is served without Python: a mapping of URL paths to directories and files. A change applies at once."""
        self._touch()
        return StaticPaths(self)

    @property
    def static_path_options(self) -> StaticPathOptions:
        """What the static paths inherit. Assigning others, or a mapping of fields, replaces them all at once.

        To change one: `server.static_path_options = dataclasses.replace(server.static_path_options, listing=True)`.
        Once the server is stopped, assigning does nothing. Any thread. Raises: TypeError, ValueError, OSError.
        """
        self._touch()
        return self._served.options

    @static_path_options.setter
    def static_path_options(self, options: OptionsLike) -> None:
        read = read_options(options)
        self._change_mounts(lambda: (self._served.mounts, read))

    # Handlers

    @property
    def handlers(self) -> tuple[Route, ...]:
        """Who answers, oldest first: what `portico.handler` and its kin have made."""
        self._touch()
        return tuple(self._served.routes.values())

    def replace_handlers(self, *handlers: Route) -> None:
        """Let these answer from now on, and no others, with no moment in between. Any thread. Raises: as `add_handler`.

        Requests and WebSockets that the others have already are theirs.
        """
        _check_handlers(handlers)
        self._touch()
        if not self._is_over:
            self._served.replace_routes(handlers)

    def add_handler(self, *handlers: Route) -> None:
        """Let these answer, too, from now on; if one can't, then none. Any thread.

        Once the server is stopped it does nothing. Raises: TypeError; ValueError that names both if one answers the
        same requests as another; OSError that names the path if files are gone.
        """
        _check_handlers(handlers)
        self._touch()
        if not self._is_over:
            self._served.add_routes(handlers)

    def remove_handler(self, *handlers: Route) -> None:
        """Let these, the very objects, no longer answer. Requests and WebSockets that they have already are theirs.

        Any thread. Raises: ValueError if one isn't there; none is removed then.
        """
        self._touch()
        if not self._is_over:
            self._served.remove_routes(handlers)

    # Life

    def start(self) -> Server:
        """Bind, listen and return; does nothing if it is running already.

        Raises: OSError that names the address and the reason; RuntimeError after `stop`; ValueError if `callbacks`
        conflicts with the servers this thread has. A failed start leaves nothing behind.
        """
        if self._is_over:
            if self._home is not None:
                self._home.end_with_the_process()
            raise RuntimeError("a stopped server does not start again; make a new one")
        if self._state == "running":
            self._touch()
            return self
        if self._replace:
            self._stop_predecessors()
        home = ThreadHome() if self._callbacks == "thread" else current_home()
        try:
            home.choose(self._callbacks)
            home.perform(lambda: self._listen(home))
        except BaseException:
            if isinstance(home, ThreadHome):
                home.leave()
            raise
        home.touch()
        if not self._quiet:
            logger.info("listening on %s", self.url)
        if self._log is not None:
            warn_if_unheard()
        return self

    def stop(self, timeout: float = 0.0) -> None:
        """Take no new connections, let answers and outboxes finish for `timeout` seconds, close WebSockets with 1001.

        On the home thread, outside callbacks and loops, it returns when every `on_close` has run. Inside a callback or
        a running loop it returns at once and the drain goes on; see `wait_closed`. On another thread it never waits for
        callbacks longer than `timeout`. Idempotent.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds, at least 0; got {timeout!r}")
        timeout = float(min(timeout, threading.TIMEOUT_MAX))  # who says infinity means as long as it takes
        home = self._home
        if home is None:
            self._end()
            return
        if self._state == "running":
            self._state = "stopping"
            _running.pop(self._number, None)
            home.core.stop(self._number, timeout)
        if self._closed.is_set():
            return
        if not home.is_here:
            self._closed.wait(timeout)
        elif home.is_busy or running_loop() is not None:
            home.touch()
        else:
            home.run_until(self._closed.is_set)

    def close(self) -> None:
        """`stop()` without a grace period."""
        self.stop()

    def wait_closed(self) -> Awaitable[None]:
        """Wait until it is stopped and every `on_close` has run: `await` it where a loop runs, else it blocks.

        Raises: RuntimeError inside a callback, which it would wait for.
        """
        self._touch()
        loop = running_loop()
        home = self._home
        if loop is not None:
            return self._promise(loop)
        if not self._closed.is_set():
            if home is None:
                raise RuntimeError("wait_closed(): the server has not been started")
            if home.is_here:
                home.run_until(self._closed.is_set)
            else:
                self._closed.wait()
        return _Done()

    def serve(self) -> None:
        """Run callbacks until the server is stopped, `interrupt()` is called or Ctrl-C is pressed; then stop it.

        Starts it if need be. Raises: RuntimeError in a running loop or a callback.
        """
        require_idle("serve()", "await server.wait_closed()")
        self.start()
        home = self._home
        assert home is not None
        try:
            if home.is_here:
                home.serve(self._closed.is_set)
            else:
                home.wait_elsewhere(self._gate)
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def service(self, timeout: float | None = None) -> int:
        """Run callbacks of this server's home; return how many ran. 0: only what is ready; None: until something ran.

        Raises: RuntimeError inside a callback, and on another thread while the home's own thread lives.
        """
        if self._home is None:
            raise RuntimeError("service(): the server has not been started")
        return self._home.service(timeout)

    @property
    def is_served(self) -> bool:
        """Whether callbacks run without `service` or `serve`: in a running loop, at the prompt, or on their thread."""
        self._touch()
        return self._home is not None and self._home.is_served

    def websocket(self, number: int) -> WebSocket | None:
        """The WebSocket whose `id` this is; None once its last `on_close` has run, or if it isn't this server's."""
        self._touch()
        if self._home is None or self._state == "stopped":
            return None
        ws = self._home.dispatcher.sockets.get(number)
        return ws if ws is not None and ws._server_number == self._number else None

    def broadcast(self, data: str | bytes | bytearray | memoryview) -> int:
        """Send one message to every open WebSocket; return how many took it. Any thread. Raises: TypeError."""
        self._touch()
        _check_message(data)
        if self._home is None or self._state == "stopped":
            return 0
        return self._home.core.broadcast(self._number, data)

    def publish(
        self, topic: str, data: str | bytes | bytearray | memoryview, *, exclude: WebSocket | None = None
    ) -> int:
        """Send one message to every WebSocket that has subscribed to `topic`; return how many took it. Any thread.

        `exclude` doesn't get it, which is usually the one that said it. Raises: TypeError.
        """
        self._touch()
        if not isinstance(topic, str):
            raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
        _check_message(data)
        if exclude is not None and not isinstance(exclude, WebSocket):
            raise TypeError(f"exclude must be a WebSocket or None, not {type(exclude).__name__}")
        if self._home is None or self._state == "stopped":
            return 0
        return self._home.core.publish(self._number, topic, data, 0 if exclude is None else exclude.id)

    @property
    def topics(self) -> dict[str, int]:
        """How many WebSockets have subscribed to each topic; one without members does not exist. Any thread."""
        self._touch()
        if self._home is None or self._state == "stopped":
            return {}
        return self._home.core.topics(self._number)

    def home_ended(self, in_child: bool) -> None:
        """Its home has ended, and this server with it."""
        if in_child:
            self._waiters.clear()  # their loops are the parent's
            self._on_end = None
        self._end()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Server:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await self.wait_closed()

    def __repr__(self) -> str:
        return f"<Server {self.url} {self._state} clients={self.clients}>"

    def _repr_html_(self) -> str:
        where = notebook.link(self.url) if self.port is not None else html.escape(self.url)
        return f"Server {where} {self._state}, {self.clients} clients"

    def frame(
        self, path: str = "/", *, prefix: str | None = None, width: int | str = "100%", height: int | str = 400
    ) -> notebook.Frame:
        """Show a page of this server in a notebook, in an inline frame. Sizes: pixels, or CSS lengths.

        prefix: what comes before the path where the browser can't reach `server.url`: `"/proxy/8000"` behind
            jupyter-server-proxy.

        Raises: TypeError, ValueError.
        """
        if not isinstance(path, str) or not path.startswith("/"):
            raise ValueError(f"path must be a str that begins with '/'; got {path!r}")
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str or None, not {type(prefix).__name__}")
        if prefix is None and self.port is None:
            raise ValueError("no browser reaches a unix socket; prefix= names the proxy that does")
        return notebook.Frame((self.url if prefix is None else prefix).rstrip("/") + path, width, height)

    # Behind it

    def _touch(self) -> None:
        if self._home is not None:
            self._home.touch()

    def _listen(self, home: Home) -> None:
        config: dict[str, object] = {
            "limits": dataclasses.asdict(self._limits),
            "allowed_hosts": self._allowed_hosts,
            "allowed_origins": self._allowed_origins,
            "cors": None if self._cors is None else cors_spec(self._cors),
            "mode": self._mode,
            "logs_access": self._log is not None,
            "tls": None if self._tls is None else self._tls.server_spec(),
            "spool_directory": os.environ.get("TMPDIR") or "/tmp",
        }
        served = self._served
        with served.lock:  # what another thread changes meanwhile is neither lost nor early
            config["routes"], config["files"] = served.specs()
            host, port = self._bind(home, config)
            self._address = host if isinstance(self._address, str) else (host, port)
            where = self._address if self._proxies is None else ProxiedAddress(self._address, self._proxies)
            # No event of this server can overtake this: they are taken by the thread that runs these lines.
            site = home.dispatcher.sites[self._number] = Site(served.routes, where, self._end, self._log)
            served.come_into_force(home.core, self._number, site)
            home.settle_in(self._number, self)
            self._home = home
            self._state = "running"
            _running[self._number] = self

    def _bind(self, home: Home, config: Mapping[str, object]) -> tuple[str, int]:
        try:
            self._number, host, port = home.core.listen(self._address, config)
        except OSError as error:
            if error.filename is not None:
                raise  # a static path, not the address
            told = f"cannot listen on {self._url}: {error.strerror or error}"
            raise type(error)(*([told] if error.errno is None else [error.errno, told])) from error
        return host, port

    def _change_mounts(self, change: Callable[[], tuple[dict[str, Mount], StaticPathOptions]]) -> None:
        if not self._is_over:  # in a fork it is, where the lock may be held by a thread that isn't there
            self._served.change_mounts(change)

    @property
    def _url(self) -> str:
        return url_of(self._address, "http" if self._tls is None else "https")

    @property
    def _is_over(self) -> bool:
        return self._state in ("stopping", "stopped")

    def _stop_predecessors(self) -> None:
        for other in list_servers():
            if other._address == self._address:
                other.stop()

    def _end(self) -> None:
        """The last event: whatever waits for the end may go on."""
        if self._closed.is_set():
            return
        _running.pop(self._number, None)
        self._state = "stopped"
        if self._home is not None:
            self._home.move_out(self._number)
        self._closed.set()
        try:
            if self._on_end is not None:
                self._on_end()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._gate.set()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits
                waiter.get_loop().call_soon_threadsafe(_resolve, waiter)

    def _promise(self, loop: asyncio.AbstractEventLoop) -> Awaitable[None]:
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        if self._closed.is_set():  # checked after the append: another thread may have ended it in between
            _resolve(waiter)
        return waiter


class _Done(Awaitable[None]):
    """What `wait_closed` returns when it has waited already."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def check_options(who: str, given: Iterable[str], more: Iterable[str] = ()) -> None:
    """Whether `given` are options of a server, or among `more`, for a door that users call `who`. Raises: TypeError."""
    known = {*(Server.__init__.__kwdefaults__ or ()), *more} - {"on_end"}
    unknown = sorted({*given} - known)
    if not unknown:
        return
    told = f"{who} takes no {', '.join(map(repr, unknown))}; its options are {', '.join(sorted(known))}"
    of_handlers = [name for name in unknown if name in ROUTE_OPTIONS]
    raise TypeError(f"{told} ({', '.join(of_handlers)}: said to its handlers)" if of_handlers else told)


def list_servers() -> list[Server]:
    """The running servers of this process, oldest first."""
    servers = list(_running.values())
    for server in servers:
        server._touch()
    return servers


def check_server_tls(config: TlsConfig) -> TlsConfig:
    """Raises: TypeError; ValueError if it has no certificate to show."""
    if not isinstance(config, TlsConfig):
        raise TypeError(f"tls must be what tls_config(…) returns, not {type(config).__name__}")
    config.server_spec()
    return config


def _check_handlers(handlers: Iterable[object]) -> None:
    for handler in handlers:
        if not isinstance(handler, Route):
            raise TypeError(f"a handler is made by handler(…), handler_ws(…), …; got {handler!r}")


def _check_message(data: object) -> None:
    if not isinstance(data, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a message must be str or bytes-like, not {type(data).__name__}")
