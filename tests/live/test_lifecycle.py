"""A server's life over real sockets: start, stop from anywhere, addresses, and whose thread runs the callbacks.

What ends the process is in `test_process`; what a server says about itself, without sockets, in `tests/test_server`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import gc
import importlib
import math
import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client as other_client

import portico
from portico.request import Request
from portico.server import Server
from portico.websocket_connection import WebSocket

from .conftest import Live, Recorder, Serve
from .wire_client import DEADLINE_S, TEXT, Client, ask, frame, handshake, request, wait_until

INLINE = {"/inline": ("text/plain", b"native")}
QUIET = {"quiet": True, "callbacks": "service"}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = portico.list_servers()
    yield
    left = [server for server in portico.list_servers() if server not in before]
    for server in left:
        server.stop()
    assert left == []


def here(app: Any = lambda req: "x", host: str = "127.0.0.1", port: int = 0, **options: Any) -> Live:
    return Live(portico.start_server(host, port, app, inline=INLINE, **QUIET, **options), app)


def in_thread(job: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    """Run `job` on a thread of its own; the future has what came of it."""
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(job())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


# Addresses


def test_port_0_is_a_real_port_at_once() -> None:
    with here().server as server:
        assert isinstance(server.port, int) and 0 < server.port < 65536
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert ask(("127.0.0.1", server.port), request(target="/inline")).body == b"native"


def test_a_busy_port_is_named_and_nothing_is_left_behind() -> None:
    with here().server as running, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        descriptors = count_descriptors()
        for _ in range(3):
            told = re.escape(f"http://127.0.0.1:{port}: Address already in use")
            with pytest.raises(OSError, match=told) as caught:
                here(port=port)
            assert caught.value.errno == errno.EADDRINUSE
            assert running in portico.list_servers()
            with here().server as next_one:
                assert ask(("127.0.0.1", next_one.port or 0), request(target="/inline")).status == 200
        with pytest.raises(OSError, match=str(running.port)):
            here(port=running.port or 0)
        settle(count_descriptors, descriptors)
        other.close()
        with here(port=port).server as server:
            assert server.port == port


def test_a_port_is_free_as_soon_as_its_server_has_stopped() -> None:
    live = here()
    for _ in range(20):
        port = live.server.port or 0
        with live.connect() as client:
            client.send(request(target="/inline"))
            assert client.receive_reply().status == 200
            live.server.stop()
            live = here(port=port)
    live.server.stop()


def test_a_host_name_binds_its_address() -> None:
    with here(host="localhost").server as server:
        assert server.host in ("127.0.0.1", "::1")
        assert ask((server.host, server.port or 0), request(target="/inline")).status == 200


def test_ipv6() -> None:
    if not has_ipv6():
        pytest.skip("no ::1 on this machine")
    with here(host="::1").server as server:
        assert (server.host, server.url) == ("::1", f"http://[::1]:{server.port}")
        with socket.create_connection(("::1", server.port or 0), DEADLINE_S) as client:
            client.sendall(request(target="/inline", host=f"[::1]:{server.port}"))
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "port", "kind", "told"),
    [
        ("", 0, ValueError, "host must not be empty"),
        ("no.such.host.invalid", 0, OSError, "no.such.host.invalid"),
        ("300.1.1.1", 0, OSError, "300.1.1.1"),
        ("192.0.2.1", 0, OSError, r"192\.0\.2\.1:0: Cannot assign requested address"),
        ("127.0.0.1", -1, ValueError, "between 0 and 65535"),
        ("127.0.0.1", 65536, ValueError, "between 0 and 65535"),
        ("127.0.0.1", "80", TypeError, "port must be an int"),
    ],
)
def test_a_bad_address_is_named(host: str, port: Any, kind: type[Exception], told: str) -> None:
    before = portico.list_servers()
    with pytest.raises(kind, match=told):
        here(host=host, port=port)
    assert portico.list_servers() == before


# Unix sockets


def pipe(path: Path | str, mask: int | None = None) -> Live:
    app = Recorder()
    return Live(portico.start_pipe_server(str(path), mask, app, inline=INLINE, **QUIET), app)


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o700), (0o177, 0o600), (0, 0o777)])
def test_a_unix_socket_has_its_mode_and_its_file_goes_with_it(tmp_path: Path, mask: int, mode: int) -> None:
    path = tmp_path / "s"
    old_umask = os.umask(0o022)
    try:
        live = pipe(path, mask)
        assert os.umask(0o022) == 0o022  # it is the whole process's
        assert stat.S_IMODE(path.stat().st_mode) == mode & ~0o022 or stat.S_IMODE(path.stat().st_mode) == mode
        assert live.ask(target="/inline").body == b"native"
        live.server.stop()
        assert not path.exists()
    finally:
        os.umask(old_umask)


@pytest.mark.parametrize("mask", [None, -1])
def test_a_unix_socket_without_a_mask_follows_the_umask(tmp_path: Path, mask: int | None) -> None:
    old_umask = os.umask(0o027)
    try:
        with pipe(tmp_path / "s", mask).server:
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o750
    finally:
        os.umask(old_umask)


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    live = pipe(path)
    with pytest.raises(OSError, match=f"unix:{path}: Address already in use") as caught:
        pipe(path)
    assert caught.value.errno == errno.EADDRINUSE
    assert live.ask(target="/inline").body == b"native"
    live.server.stop()
    assert not path.exists()


def test_a_file_in_the_way_of_a_unix_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=f"unix:{path}"):
        pipe(path)
    assert path.read_text() == "precious"
    with pytest.raises(OSError, match=r"at most 10[37] fit"):
        pipe("/tmp/" + "x" * 200)
    with pytest.raises(FileNotFoundError, match="no/such/folder"):
        pipe(tmp_path / "no/such/folder")


def test_a_socket_file_that_is_another_servers_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = pipe(path)
    path.unlink()
    with pipe(path).server:
        first.server.stop()
        assert path.exists()


def test_a_websocket_over_a_unix_socket(tmp_path: Path) -> None:
    live = pipe(tmp_path / "s")
    with live.open() as client:
        client.send_text("hello")
        live.service_until(lambda: live.app.calls.qsize() >= 2)
        assert client.receive_text() == "hello"
        live.server.stop()
        assert client.receive_close() == (1001, "")


# Stop


WHERE = ["call", "on_headers", "on_ws_open", "on_message", "on_close"]


class Stopper:
    """Stops its server twice in the callback named `where`."""

    server: Server

    def __init__(self, where: str) -> None:
        self.where = where
        self.stopped: list[str] = []

    def _at(self, where: str) -> None:
        if where == self.where:
            self.server.stop()
            self.server.stop()
            self.stopped.append(self.server.state)

    def call(self, req: Request) -> str:
        self._at("call")
        return "answer"

    def on_headers(self, req: Request) -> None:
        self._at("on_headers")

    def on_ws_open(self, ws: WebSocket) -> None:
        ws.on_message(lambda binary, message: self._at("on_message"))
        ws.on_close(lambda: self._at("on_close"))
        self._at("on_ws_open")


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("home", ["service", "thread", "loop"])
def test_stop_inside_a_callback(where: str, home: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Stopper(where)

    def talk(live: Live) -> bytes:
        with live.connect() as client:
            if where in ("call", "on_headers"):
                client.send(request())
            else:
                client.send(handshake(), frame(TEXT, b"x"))
                if where == "on_close":
                    client.end()
            return client.receive_rest()

    def begin() -> Live:
        live = Live(portico.start_server("127.0.0.1", 0, app, True, callbacks=home), app)  # type: ignore[arg-type]
        app.server = live.server
        return live

    async def in_loop() -> None:
        live = begin()
        async with live.server:
            await asyncio.wait_for(asyncio.to_thread(talk, live), DEADLINE_S)
            await asyncio.wait_for(live.server.wait_closed(), DEADLINE_S)

    if home == "loop":
        asyncio.run(in_loop())
    else:
        live = begin()
        talking = in_thread(lambda: talk(live))
        if home == "service":
            live.service_until(lambda: app.server.state == "stopped")
        talking.result(DEADLINE_S)
        wait_until(lambda: app.server.state == "stopped", "the end")
    assert app.stopped == ["stopping"]
    assert app.server not in portico.list_servers()
    assert caplog.records == []


def test_an_answer_whose_callback_stops_the_server_with_a_grace_arrives() -> None:
    def call(req: Request) -> str:
        live.server.stop(DEADLINE_S)
        return "answer"

    live = here(call)
    with live.connect() as client:
        client.send(request())
        live.service_until(lambda: live.server.state == "stopped")
        reply = client.receive_last_reply()
    assert (reply.status, reply.body) == (200, b"answer")


@pytest.mark.parametrize("home", ["service", "thread"])
def test_stop_from_any_thread(home: str) -> None:
    app = Recorder()
    live = Live(portico.start_server("127.0.0.1", 0, app, True, callbacks=home), app)  # type: ignore[arg-type]
    with live.open() as client:
        stopping = [in_thread(live.server.stop) for _ in range(5)]
        for one in stopping:
            one.result(DEADLINE_S)
        assert not live.server.is_running
        assert client.receive_close()[0] == 1001
        if home == "service":
            live.service_until(lambda: live.server.state == "stopped")
        in_thread(live.server.wait_closed).result(DEADLINE_S)
    live.server.stop()
    assert [app.next()[0] for _ in range(2)] == ["open", "close"]
    assert app.drain() == []


@pytest.mark.parametrize("home", ["service", "thread", "loop"])
def test_stop_says_1001_to_every_client_and_each_on_close_runs_once(home: str) -> None:
    app = Recorder()

    def begin() -> Live:
        return Live(portico.start_server("127.0.0.1", 0, app, True, callbacks=home), app)  # type: ignore[arg-type]

    def listen(live: Live) -> int | None:
        # Not our client: what a program that is no test sees.
        with other_client.connect(f"ws://127.0.0.1:{live.server.port}/", proxy=None) as client:
            client.send("hello")
            assert client.recv(DEADLINE_S) == "hello"
            ready.release()
            with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
                client.recv(DEADLINE_S)
            return caught.value.rcvd.code if caught.value.rcvd else None

    ready = threading.Semaphore(0)
    calls: list[tuple[str, Any]] = []

    def are_ready(count: int = 10) -> bool:
        while len(calls) < count and ready.acquire(blocking=False):
            calls.append(("ready", None))
        return len(calls) == count

    async def in_loop() -> list[int | None]:
        live = begin()
        listening = [in_thread(lambda: listen(live)) for _ in range(10)]
        await wait_in_loop(are_ready)
        live.server.stop(DEADLINE_S)
        await asyncio.wait_for(live.server.wait_closed(), DEADLINE_S)
        return [one.result(DEADLINE_S) for one in listening]

    if home == "loop":
        codes = asyncio.run(in_loop())
    else:
        live = begin()
        listening = [in_thread(lambda: listen(live)) for _ in range(10)]
        live.service_until(are_ready) if home == "service" else wait_until(are_ready, "all are ready")
        live.server.stop(DEADLINE_S)
        assert live.server.state == "stopped"
        codes = [one.result(DEADLINE_S) for one in listening]
    assert codes == [1001] * 10
    kinds = [kind for kind, _ in app.drain()]
    assert (kinds.count("open"), kinds.count("close")) == (10, 10)


async def wait_in_loop(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_stop_with_a_timeout_lets_a_running_answer_finish(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def call(req: Request) -> str:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return "y" * 100_000

    live = serve(call)
    with live.connect() as client, live.connect() as idle:
        client.send(request())
        assert begun.wait(DEADLINE_S)
        stopping = in_thread(lambda: live.server.stop(DEADLINE_S))
        assert idle.receive_rest() == b""  # between requests: ended at once
        with socket.socket() as late:
            assert late.connect_ex(live.address) == errno.ECONNREFUSED
        assert client.is_silent()
        go_on.set()
        reply = client.receive_last_reply()
        assert (reply.status, len(reply.body)) == (200, 100_000)
        stopping.result(DEADLINE_S)
    assert live.server.state == "stopped"


@pytest.mark.parametrize("timeout", [math.inf, 10**400], ids=["inf", "huge"])
@pytest.mark.parametrize("home", ["thread", "service"])
def test_stop_takes_as_long_as_it_takes(home: str, timeout: float) -> None:
    server = portico.start_server("127.0.0.1", 0, lambda req: "x" * 5_000_000, True, callbacks=home)
    with Client((str(server.host), int(server.port or 0)), receive_buffer_bytes=4096) as client:
        client.send(request())
        reader = threading.Thread(target=client.receive_reply)
        reader.start()
        if home == "service":
            server.service()
        else:
            wait_until(lambda: server.stats()["requests"] == 1, "the request")
        server.stop(timeout)
        assert server.state == "stopped"
        reader.join(DEADLINE_S)
        assert not reader.is_alive()


def test_stop_on_the_home_thread_runs_the_answer_that_is_due() -> None:
    promise: concurrent.futures.Future[str] = concurrent.futures.Future()
    asked: list[Request] = []

    def call(req: Request) -> concurrent.futures.Future[str]:
        asked.append(req)
        return promise

    live = here(call)
    with live.connect() as client:
        client.send(request())
        live.service_until(lambda: bool(asked))

        def answer_when_refused() -> None:
            wait_until(lambda: live.server._state == "stopping", "stop() begins")
            promise.set_result("late")

        answering = in_thread(answer_when_refused)
        live.server.stop(DEADLINE_S)
        answering.result(DEADLINE_S)
        assert client.receive_last_reply().body == b"late"


def test_stop_without_a_timeout_cuts_what_runs(serve: Serve) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def call(req: Request) -> str:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        return "never seen"

    live = serve(call)
    with live.connect() as client:
        client.send(request())
        assert begun.wait(DEADLINE_S)
        live.server.stop()
        assert client.receive_rest() == b""
        go_on.set()
    in_thread(live.server.wait_closed).result(DEADLINE_S)


def test_a_stopped_server_does_not_start_again() -> None:
    live = here()
    live.server.stop()
    with pytest.raises(RuntimeError, match="does not start again"):
        live.server.start()


# Many


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def settle(count: Callable[[], int], most: int) -> None:
    """Wait until no more than `most` are left: connections linger for a moment after their last word."""
    wait_until(lambda: count() <= most, f"{count.__name__} comes down to {most}")


@pytest.mark.parametrize(("home", "cycles"), [("service", 1000), ("thread", 200)])
def test_starting_and_stopping_leaks_nothing(home: str, cycles: int) -> None:
    def cycle() -> None:
        server = portico.start_server("127.0.0.1", 0, lambda req: "x", True, callbacks=home, inline=INLINE)  # type: ignore[arg-type]
        with Client(("127.0.0.1", server.port or 0)) as client:
            client.send(request(target="/inline"))
            assert client.receive_reply().status == 200
        server.stop()
        if home == "thread":
            server.wait_closed()

    gc.collect()
    cycle()
    descriptors, threads = count_descriptors(), count_threads()
    gc.disable()  # nothing may wait for the collector
    try:
        for _ in range(cycles):
            cycle()
    finally:
        gc.enable()
    settle(count_descriptors, descriptors)
    settle(count_threads, threads)


def test_connections_leak_no_descriptor(serve: Serve) -> None:
    live = serve(lambda req: "x")
    live.ask()
    before = count_descriptors()
    for number in range(10_000):
        with live.connect() as client:
            if number % 10 == 0:
                client.send(request())
                assert client.receive_reply().status == 200
            elif number % 10 == 1:
                client.reset()
    settle(count_descriptors, before)
    # One that resets at once may be gone before anybody accepts it.
    assert live.server.stats()["accepted"] > 9_000


def test_websockets_leak_no_descriptor(serve: Serve) -> None:
    app = Recorder()
    live = serve(app)
    live.open().reset()
    before = count_descriptors()
    for number in range(1_000):
        with live.open() as client:
            if number % 2:
                client.close()
            else:
                client.reset()
    settle(count_descriptors, before)
    wait_until(lambda: live.server.clients == 0, "all have gone")
    wait_until(lambda: app.calls.qsize() >= 2_002, "all have been told")
    kinds = [kind for kind, _ in app.drain()]
    assert kinds.count("open") == kinds.count("close") == 1_001


def test_two_servers_answer_for_themselves() -> None:
    first, second = here(lambda req: "first"), here(lambda req: "second")
    assert [server for server in portico.list_servers() if server in (first.server, second.server)] == [
        first.server,
        second.server,
    ]
    answers = [in_thread(live.ask) for live in (first, second)]
    first.service_until(lambda: all(answer.done() for answer in answers))
    assert [answer.result().body for answer in answers] == [b"first", b"second"]
    portico.stop_server(first.server)
    assert first.server not in portico.list_servers()
    assert second.ask(target="/inline").status == 200
    second.server.stop()


def test_stop_all_servers(serve: Serve) -> None:
    lives = [here(), serve(lambda req: "x"), here()]
    others = [server for server in portico.list_servers() if server not in [live.server for live in lives]]
    if others:  # shared by other tests of this session; those stay
        for live in lives:
            live.server.stop()
        pytest.skip("other servers run in this process; test_process has this too")
    portico.stop_all_servers()
    assert portico.list_servers() == []
    assert [live.server.is_running for live in lives] == [False] * 3


def test_dropping_the_handle_of_a_running_server_changes_nothing() -> None:
    def port_of_a_server_nobody_holds() -> int:
        return portico.start_server("127.0.0.1", 0, lambda req: "x", inline=INLINE, **QUIET).port or 0

    port = port_of_a_server_nobody_holds()
    gc.collect()
    asking = in_thread(lambda: ask(("127.0.0.1", port), request()).body)
    deadline = time.monotonic() + DEADLINE_S
    while not asking.done():
        assert time.monotonic() < deadline
        portico.service(0.05)
    assert asking.result() == b"x"
    [server] = [server for server in portico.list_servers() if server.port == port]
    server.stop()


# service()


def test_service_waits_as_long_as_it_is_told() -> None:
    with here().server as server:
        for service in (
            lambda: portico.service(0.2),
            lambda: portico.service(server, 0.2),
            lambda: server.service(0.2),
        ):
            began = time.monotonic()
            assert service() == 0
            assert 0.2 <= time.monotonic() - began < 2
        began = time.monotonic()
        assert portico.service(0) == 0
        assert time.monotonic() - began < 0.1


def test_service_waits_without_a_server() -> None:
    def on_a_fresh_thread() -> float:
        began = time.monotonic()
        assert portico.service(0.2) == 0
        return time.monotonic() - began

    assert 0.2 <= in_thread(on_a_fresh_thread).result(DEADLINE_S) < 2


def test_service_returns_how_many_ran() -> None:
    live = here()
    before = live.server.stats()["requests"]
    with ExitStack() as stack:
        clients = [stack.enter_context(live.connect()) for _ in range(3)]
        for client in clients:
            client.send(request())
        wait_until(lambda: live.server.stats()["requests"] == before + 3, "three requests in the mailbox")
        assert portico.service() == 3
        assert [client.receive_reply().body for client in clients] == [b"x"] * 3
        # And a wait that a request ends.
        asking = in_thread(live.ask)
        assert portico.service(None) == 1
        assert asking.result(DEADLINE_S).body == b"x"
    live.server.stop()


def test_slow_callbacks_share_the_thread_with_who_called_service() -> None:
    """A batch ends when its callbacks have taken their time, however many events wait."""

    def call(req: Request) -> str:
        time.sleep(0.02)
        return "x"

    live = here(call)
    before = live.server.stats()["requests"]
    with ExitStack() as stack:
        clients = [stack.enter_context(live.connect()) for _ in range(40)]
        for client in clients:
            client.send(request())
        wait_until(lambda: live.server.stats()["requests"] == before + 40, "forty requests in the mailbox")
        ran = []
        while sum(ran) < 40:
            ran.append(live.server.service(0))
        assert max(ran) < 10
        assert [client.receive_reply().body for client in clients] == [b"x"] * 40
    live.server.stop()


def test_slow_messages_of_one_client_do_not_keep_a_loop() -> None:
    got: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> None:
            got.append(message)
            time.sleep(0.02)

    async def main() -> None:
        live = Live(portico.start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, True, callbacks="loop"), None)
        most = had = 0
        with live.open() as client:
            client.send_text(*(str(number) for number in range(40)))
            while len(got) < 40:
                await asyncio.sleep(0)
                most, had = max(most, len(got) - had), len(got)
        assert most < 10
        assert got == [str(number) for number in range(40)]
        live.server.stop()
        await live.server.wait_closed()

    asyncio.run(main())


def test_service_does_not_nest() -> None:
    caught: list[str] = []

    def call(req: Request) -> str:
        for service in (live.server.service, portico.service, live.server.serve, live.server.wait_closed):
            with pytest.raises(RuntimeError, match="inside a callback") as error:
                service()
            caught.append(str(error.value))
        return "x"

    live = here(call)
    asking = in_thread(live.ask)
    assert portico.service(DEADLINE_S) == 1
    assert asking.result(DEADLINE_S).body == b"x"
    assert len(caught) == 4
    live.server.stop()


def test_service_on_a_foreign_thread_names_the_home() -> None:
    live = here()
    with pytest.raises(RuntimeError, match=r"belong to thread 'MainThread'.*callbacks='thread'"):
        in_thread(lambda: live.server.service(0)).result(DEADLINE_S)
    live.server.stop()


def test_a_home_whose_thread_has_ended_is_adopted() -> None:
    app = Recorder()
    started: list[Live] = []
    thread = threading.Thread(target=lambda: started.append(here(app)))
    thread.start()
    thread.join(DEADLINE_S)
    [live] = started
    with live.open() as client:
        client.send_text("hello")
        live.service_until(lambda: app.calls.qsize() == 2)
        assert client.receive_text() == "hello"
        live.server.stop()
    assert live.server.state == "stopped"
    assert [kind for kind, _ in app.drain()] == ["open", "text", "close"]


def test_a_keyboard_interrupt_leaves_service_and_loses_nothing() -> None:
    got: list[Any] = []

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(binary: bool, message: str | bytes) -> None:
            got.append(message)
            if message == "interrupt":
                signal.raise_signal(signal.SIGINT)
            ws.send(message)

    live = here({"on_ws_open": on_ws_open})
    texts = ["1", "2", "interrupt", "3", "interrupt", "interrupt", "4"]
    with live.open() as client:
        live.service_until(lambda: live.server.clients == 1)
        client.send_text(*texts)
        interrupts = 0
        while len(got) < len(texts):
            try:
                assert live.server.service(DEADLINE_S) > 0
            except KeyboardInterrupt:
                interrupts += 1
        assert (got, interrupts) == (texts, 3)
        assert [client.receive_text() for _ in range(4)] == ["1", "2", "3", "4"]
    live.server.stop()


def test_a_request_whose_callback_is_interrupted_gets_a_500() -> None:
    def call(req: Request) -> str:
        raise KeyboardInterrupt

    live = here(call)
    with live.connect() as client:
        client.send(request())
        with pytest.raises(KeyboardInterrupt):
            live.server.service(DEADLINE_S)
        assert client.receive_reply().status == 500
    assert live.server.is_running
    live.server.stop()


# run_server and interrupt


def test_run_server_ends_on_interrupt_from_a_callback() -> None:
    def call(req: Request) -> str:
        portico.interrupt()
        return "bye"

    port = free_port()
    asking = in_thread(lambda: ask_when_there(port))
    portico.run_server("127.0.0.1", port, call, True)
    assert asking.result(DEADLINE_S).body == b"bye"


def test_run_server_ends_on_interrupt_from_another_thread() -> None:
    port = free_port()

    def interrupt_when_there() -> None:
        ask_when_there(port, "/inline")
        portico.interrupt()

    interrupting = in_thread(interrupt_when_there)
    portico.run_server("127.0.0.1", port, lambda req: "x", True, inline=INLINE)
    interrupting.result(DEADLINE_S)


def test_run_server_ends_on_ctrl_c_in_a_callback() -> None:
    def call(req: Request) -> str:
        signal.raise_signal(signal.SIGINT)
        return "never"

    port = free_port()
    asking = in_thread(lambda: ask_when_there(port))
    portico.run_server("127.0.0.1", port, call, True)
    assert asking.result(DEADLINE_S).status == 500
    assert not [server for server in portico.list_servers() if server.port == port]


def test_interrupt_ends_a_service_that_waits() -> None:
    with here().server:
        interrupting = in_thread(lambda: (wait_until(is_waiting, "service() waits"), portico.interrupt()))
        assert portico.service(DEADLINE_S) == 0
        interrupting.result(DEADLINE_S)


def is_waiting() -> bool:
    """The main thread sleeps in the kernel."""
    with open(f"/proc/self/task/{os.getpid()}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ask_when_there(port: int, target: str = "/") -> Any:
    def is_there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_there, f"somebody listens on {port}")
    return ask(("127.0.0.1", port), request(target=target))


# Loops


def runners() -> list[Any]:
    found: list[Any] = [pytest.param(asyncio.run, id="asyncio")]
    try:
        found.append(pytest.param(importlib.import_module("uvloop").run, id="uvloop"))
    except ImportError:
        found.append(pytest.param(None, id="uvloop", marks=pytest.mark.skip(reason="uvloop is not installed")))
    return found


Runner = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.mark.parametrize("run", runners())
def test_one_server_lives_through_two_loops_and_a_service(run: Runner) -> None:
    app = Recorder()

    async def talk(live: Live, text: str) -> str:
        assert live.server.is_running  # this loop serves it from now on
        client = await asyncio.to_thread(live.open)
        with client:
            client.send_text(text)
            return await asyncio.wait_for(asyncio.to_thread(client.receive_text), DEADLINE_S)

    async def first() -> Live:
        live = Live(portico.start_server("127.0.0.1", 0, app, True), app)
        assert await talk(live, "one") == "one"
        return live

    live = run(first())
    assert live.server.is_running
    talking = in_thread(lambda: asyncio.run(talk_outside(live)))
    live.service_until(talking.done)
    assert talking.result() == "between"
    assert run(talk(live, "two")) == "two"
    live.server.stop()
    assert live.server.state == "stopped"


async def talk_outside(live: Live) -> str:
    with live.open() as client:
        client.send_text("between")
        return client.receive_text()


@pytest.mark.parametrize("run", runners())
def test_a_server_in_a_loop_serves_coroutines_and_plain_functions(run: Runner) -> None:
    async def call(req: Request) -> str:
        await asyncio.sleep(0)
        return req.path

    async def main() -> None:
        async with portico.start_server("127.0.0.1", 0, call, True) as server:
            live = Live(server, call)
            replies = await asyncio.gather(*(asyncio.to_thread(live.ask, "GET", f"/{n}") for n in range(20)))
            assert [reply.body for reply in replies] == [b"/%d" % n for n in range(20)]
        assert server.state == "stopped"

    run(main())


@pytest.mark.parametrize("run", runners())
def test_stop_inside_a_loop_returns_at_once_and_wait_closed_waits(run: Runner) -> None:
    app = Recorder()

    async def main() -> None:
        server = portico.start_server("127.0.0.1", 0, app, True)
        live = Live(server, app)
        with await asyncio.to_thread(live.open) as client:
            await wait_in_loop(lambda: app.calls.qsize() == 1)
            server.stop(DEADLINE_S)
            assert server.state == "stopping"
            assert await asyncio.wait_for(asyncio.to_thread(client.close), DEADLINE_S) == (1001, "")
            await asyncio.wait_for(server.wait_closed(), DEADLINE_S)
        assert server.state == "stopped"
        assert [kind for kind, _ in app.drain()] == ["open", "close"]

    run(main())


def test_a_home_of_a_loop_refuses_service_as_another_choice() -> None:
    async def main() -> None:
        async with portico.start_server("127.0.0.1", 0, lambda req: "x", True):
            with pytest.raises(ValueError, match="already use 'loop'"):
                here()

    asyncio.run(main())
