"""Servers for the live tests, shared ones and `serve` for one's own; and an app that writes down its calls."""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import portico
from portico.request import Request
from portico.server import Server
from portico.websocket_connection import WebSocket

from .tls_client import TlsAddress
from .wire_client import DEADLINE_S, Address, Client, Reply, WebSocketClient, request

Serve = Callable[..., "Live"]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl: apt install curl")
TLS = portico.tls_config(server=portico.write_cert("localhost").server)


class Recorder:
    """An app that answers with what it was asked and echoes messages; `calls` tells what reached Python, in order."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def call(self, req: Request) -> dict[str, Any]:
        self.calls.put((req.method, req.uri))
        return {"status": 200, "headers": {"X-Method": req.method}, "body": req.body or req.uri}

    def on_ws_open(self, ws: WebSocket) -> None:
        self.calls.put(("open", ws.request.uri))

        @ws.on_message
        def echo(binary: bool, message: str | bytes) -> None:
            self.calls.put(("binary" if binary else "text", message))
            ws.send(message)

        @ws.on_close
        def closed() -> None:
            self.calls.put(("close", (ws.close_code, ws.close_reason)))

    def next(self) -> tuple[str, Any]:
        """The next call, waited for."""
        return self.calls.get(timeout=DEADLINE_S)

    def drain(self) -> list[tuple[str, Any]]:
        """The calls so far."""
        calls = []
        while not self.calls.empty():
            calls.append(self.calls.get())
        return calls


class Sockets:
    """An app that keeps its sockets for the test to use, echoes, and writes down what they hear."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.opened: dict[str, WebSocket] = {}

    def on_ws_open(self, ws: WebSocket) -> None:
        self.opened[ws.request.uri] = ws
        self.recorder.on_ws_open(ws)

    def next(self) -> tuple[str, Any]:
        return self.recorder.next()

    def take(self, target: str = "/") -> WebSocket:
        """The socket of the one client that there is, waited for."""
        assert self.next() == ("open", target)
        return self.opened[target]


class Live:
    """A running server, its app, and where to reach it."""

    def __init__(self, server: Server, app: Any) -> None:
        self.server = server
        self.app = app
        address = (str(server.host), int(server.port or 0))
        self.address: Address = server.name or (address if server.tls is None else TlsAddress(address))

    def connect(self, **options: Any) -> Client:
        return Client(self.address, **options)

    def open(self, target: str = "/", *lines: str, **options: Any) -> WebSocketClient:
        return WebSocketClient(self.address, target, *lines, **options)

    def ask(self, method: str = "GET", target: str = "/", *lines: str, body: bytes = b"") -> Reply:
        """One request on a connection of its own."""
        with self.connect() as client:
            client.send(request(method, target, *lines, body=body))
            return client.receive_reply(method)

    def settle(self) -> None:
        """Wait until nothing of earlier conversations is left, and forget the calls they made."""
        deadline = time.monotonic() + DEADLINE_S
        while self.server.clients:
            assert time.monotonic() < deadline, "a connection does not end"
        self.ask("GET", "/settle")  # events come in order: what was before it is written down by now
        self.app.drain()

    def service_until(self, is_done: Callable[[], bool]) -> None:
        """Run callbacks in this thread, whose server it is."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < deadline, "it never came about"
            self.server.service(0.05)

    def service_to_the_end(self) -> list[tuple[str, Any]]:
        """Run callbacks in this thread until one WebSocket is over; the calls they made."""
        calls: list[tuple[str, Any]] = []

        def is_over() -> bool:
            calls.extend(self.app.drain())
            return bool(calls) and calls[-1][0] == "close"

        self.service_until(is_over)
        return calls


def start(app: Any, callbacks: str = "thread", **options: Any) -> Live:
    options = {"quiet": True, "callbacks": callbacks, **options}
    return Live(portico.start_server("127.0.0.1", 0, app, **options), app)


def end(server: Server) -> None:
    """Stop a server and wait for its last callback, so that nothing of it is left for other tests."""
    server.stop()
    server.wait_closed()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames and metafunc.definition.get_closest_marker("over_tls"):
        metafunc.parametrize("transport", ["tcp", "tls"], indirect=True)


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What `serve` and `recorder` speak; tests that are marked `over_tls` run twice."""
    return {"tls": TLS} if getattr(request, "param", "tcp") == "tls" else {}


@pytest.fixture
def serve(transport: dict[str, Any]) -> Iterator[Serve]:
    """Start a server for one test: `serve(app, callbacks="thread", **options)`."""
    started: list[Server] = []

    def serve_one(app: Any, **options: Any) -> Live:
        live = start(app, **{**transport, **options})
        started.append(live.server)
        return live

    yield serve_one
    for server in started:
        end(server)


@pytest.fixture(scope="package")
def shared_recorder() -> Iterator[Live]:
    live = start(Recorder())
    yield live
    end(live.server)


@pytest.fixture(scope="package")
def shared_secure_recorder() -> Iterator[Live]:
    live = start(Recorder(), tls=TLS)
    yield live
    end(live.server)


@pytest.fixture
def recorder(transport: dict[str, Any], request: pytest.FixtureRequest) -> Live:
    """A server shared by all tests; the calls begin with this one's."""
    shared: Live = request.getfixturevalue("shared_secure_recorder" if transport else "shared_recorder")
    shared.settle()
    return shared


@pytest.fixture(scope="package")
def shared_small() -> Iterator[Live]:
    limits = portico.Limits(max_head_bytes=4096, max_headers=20, max_url_bytes=1024, max_body_bytes=1000)
    live = start(Recorder(), limits=limits)
    yield live
    end(live.server)


@pytest.fixture
def small(shared_small: Live) -> Live:
    """As `recorder`, with heads up to 4096 bytes, 20 fields, targets up to 1024 bytes and bodies up to 1000."""
    shared_small.settle()
    return shared_small


@pytest.fixture(scope="package")
def shared_hasty() -> Iterator[Live]:
    limits = portico.Limits(head_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=0.3)
    live = start(Recorder(), limits=limits)
    yield live
    end(live.server)


@pytest.fixture
def hasty(shared_hasty: Live) -> Live:
    """As `recorder`, with time-outs of 0.2 s for heads and bodies and 0.3 s between requests."""
    shared_hasty.settle()
    return shared_hasty
