"""The client against a fake core: attempts, errors, styles, and nothing left over."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

import portico
from portico import Client, ConnectionClosed, HandshakeError, HandshakeRefused, SendResult
from portico._core import WHY_ANSWERED, WHY_CERTIFICATE, WHY_ENDED, WHY_PROTOCOL, WHY_SYSTEM, WHY_TIMED_OUT
from portico.home import current_home
from portico.testing import FakeCore

URL = "ws://127.0.0.1:80/chat"
DEADLINE_S = 10


def answer_with(core: FakeCore, act: Callable[[int], None]) -> None:
    """Let `act` answer each `connect` of this core, as a server would, a moment later."""
    connect = core.connect

    def connect_and_answer(address: Any, config: Any) -> int:
        number = connect(address, config)
        act(number)
        return number

    core.connect = connect_and_answer  # type: ignore[method-assign]


@pytest.fixture
def agreeing(core: FakeCore) -> FakeCore:
    """A core whose every call is answered with 101."""
    answer_with(core, lambda number: core.connected(number, headers=[("Server", "fake")], subprotocol="v1"))
    return core


# Blocking


def test_a_blocking_client_talks_and_closes(agreeing: FakeCore) -> None:
    with portico.connect(URL, subprotocols=["v1"]) as ws:
        assert ws.is_open
        assert ws.subprotocol == "v1"
        assert ws.response_headers["server"] == "fake"
        assert ws.request.uri == "/chat"
        assert ws.send("hello") is SendResult.SENT
        agreeing.message(ws.id, "there")
        agreeing.message(ws.id, b"\x00")
        assert ws.recv() == "there"
        assert ws.recv(1) == b"\x00"
        with pytest.raises(TimeoutError, match=r"0\.01 seconds"):
            ws.recv(0.01)
    assert ws.close_code == 1000
    assert agreeing.said("close") == [(ws.id, 1000, "")]
    with pytest.raises(ConnectionClosed, match="1000"):
        ws.recv()
    assert ws.send("late") is SendResult.CLOSED
    assert current_home().residents == {}


def test_what_is_asked_for(agreeing: FakeCore) -> None:
    with portico.connect(
        "ws://127.0.0.1:8000/a?b=c",
        headers={"Authorization": "Bearer x", "Cookie": ["a=1", "b=2"]},
        subprotocols=["v2", "v1"],
        requires_subprotocol=True,
        deflate=portico.Deflate(level=1),
        limits=portico.Limits(max_message_bytes=1000),
        open_timeout_s=3,
    ) as ws:
        config = agreeing.configs[ws.id]
    assert agreeing.said("connect") == [(("127.0.0.1", 8000),)]
    assert (config["host"], config["target"], config["open_timeout_s"]) == ("127.0.0.1:8000", "/a?b=c", 3.0)
    assert config["fields"] == [("Authorization", "Bearer x"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    assert config["websocket"][:3] == (("v2", "v1"), True, (1, 15, 860, False))
    assert config["limits"]["max_message_bytes"] == 1000


def test_iteration_ends_with_the_connection(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    for message in ("a", "b"):
        agreeing.message(ws.id, message)
    agreeing.closed(ws.id, 1001, "restart")
    assert list(ws) == ["a", "b"]
    assert (ws.close_code, ws.close_reason) == (1001, "restart")
    assert ws.wait_closed()


def test_a_message_counts_until_the_next_is_asked_for(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    agreeing.message(ws.id, "abc")
    assert ws.recv() == "abc"
    assert agreeing.held_bytes[ws.id] == 3
    with pytest.raises(TimeoutError):
        ws.recv(0.01)
    assert agreeing.held_bytes[ws.id] == 0
    ws.close()
    ws.wait_closed()


def test_servers_of_the_same_thread_go_on_while_a_client_waits(agreeing: FakeCore) -> None:
    seen: list[str] = []
    server = portico.start_server("127.0.0.1", 0, lambda req: seen.append(req.path), quiet=True)
    ws = portico.connect(URL)
    agreeing.request(server._number, "/while")
    with pytest.raises(TimeoutError):
        ws.recv(0.01)
    assert seen == ["/while"]
    ws.close()
    server.stop()


def test_a_wait_of_no_time_looks_once(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    agreeing.message(ws.id, "here")
    assert ws.recv(0) == "here"
    with pytest.raises(TimeoutError):
        ws.recv(0)
    for timeout in (-1, True, "1", float("nan")):
        with pytest.raises(ValueError, match="number of seconds"):
            ws.recv(timeout)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="number of seconds"):
            ws.wait_closed(timeout)  # type: ignore[arg-type]
    assert not ws.wait_closed(0)
    ws.close()
    assert ws.wait_closed(0)


def test_the_peer_is_answered_when_the_reader_is_through(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    for message in ("a", "bc"):
        agreeing.message(ws.id, message)
    agreeing.closed(ws.id, 1002)
    assert ws.recv() == "a"
    assert agreeing.held_bytes[ws.id] == 3
    assert ws.recv() == "bc"
    assert agreeing.held_bytes[ws.id] == 2
    with pytest.raises(ConnectionClosed):
        ws.recv()
    assert agreeing.held[ws.id] == 0


# Failures


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        ((WHY_SYSTEM, errno.ECONNREFUSED), ConnectionRefusedError, r"Connection refused: 127\.0\.0\.1:80"),
        ((WHY_SYSTEM, errno.ENETUNREACH), OSError, "unreachable"),
        ((WHY_TIMED_OUT, 0, "no answer"), TimeoutError, r"127\.0\.0\.1:80: no answer"),
        ((WHY_PROTOCOL, 0, "wrong accept"), HandshakeError, "wrong accept"),
        ((WHY_ANSWERED, 0, "", (404, "Not Found", b"A:b\r\n", b"gone")), HandshakeRefused, "404 Not Found"),
    ],
)
def test_each_failure_has_an_error_of_its_own(core: FakeCore, failure: Any, kind: type[OSError], text: str) -> None:
    answer_with(core, lambda number: core.failed(number, *failure))
    with pytest.raises(kind, match=text) as caught:
        portico.connect(URL)
    assert type(caught.value) is kind
    assert isinstance(caught.value, OSError)
    if isinstance(caught.value, HandshakeRefused):
        refused = caught.value
        assert (refused.status, refused.reason, refused.headers["a"], refused.body) == (404, "Not Found", "b", b"gone")
    elif failure[0] == WHY_SYSTEM:
        assert caught.value.errno == failure[1]
    assert current_home().residents == {}
    assert current_home().dispatcher.callers == {}


def test_the_next_address_is_tried(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("::1", 80, 0, 0)), (0, 0, 0, "", ("127.0.0.1", 80)), (0, 0, 0, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    fates = [lambda number: core.failed(number, WHY_SYSTEM, errno.ECONNREFUSED), core.connected]
    answer_with(core, lambda number: fates.pop(0)(number))
    with portico.connect("ws://somewhere/"):
        assert core.said("connect") == [(("::1", 80),), (("127.0.0.1", 80),)]


def test_an_answer_is_final_whatever_other_addresses_there_are(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("::1", 80, 0, 0)), (0, 0, 0, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    answer_with(core, lambda number: core.failed(number, WHY_ANSWERED, 0, "", (403, "", b"", b"")))
    with pytest.raises(HandshakeRefused):
        portico.connect("ws://somewhere/")
    assert len(core.said("connect")) == 1


def test_a_socket_that_cannot_even_begin(core: FakeCore) -> None:
    core.connect_error = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(OSError, match=r"Too many open files: 127\.0\.0\.1:80") as caught:
        portico.connect(URL)
    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"on_message": "f"}, TypeError, "on_message must be callable"),
        ({"headers": "X: y"}, TypeError, "headers must be"),
        ({"subprotocols": "chat"}, TypeError, "list of names"),
        ({"requires_subprotocol": True}, ValueError, "needs subprotocols"),
        ({"deflate": 9}, TypeError, "deflate must be"),
        ({"limits": {}}, TypeError, r"portico\.Limits"),
        ({"open_timeout_s": 0}, ValueError, "positive number of seconds"),
        ({"open_timeout_s": True}, ValueError, "positive number of seconds"),
        ({"tls": True}, TypeError, r"tls must be what tls_config\(…\) makes, not bool"),
        (
            {"tls": portico.tls_config(client=portico.write_cert("x").client)},
            ValueError,
            "tls= is for wss:// and https://",
        ),
        ({"callbacks": "thread"}, ValueError, "none is given"),
        ({"on_open": print, "callbacks": "never"}, ValueError, "callbacks must be one of"),
    ],
)
def test_options_are_checked_first(core: FakeCore, options: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        portico.connect(URL, **options)
    assert core.commands == []


def test_a_client_without_callbacks_takes_none_later(agreeing: FakeCore) -> None:
    with portico.connect(URL) as ws, pytest.raises(RuntimeError, match="on_message=f"):
        ws.on_message(print)


def test_inside_a_callback_the_other_styles_are_named(agreeing: FakeCore) -> None:
    errors: list[str] = []
    clients: list[Client] = []

    def call(req: portico.Request) -> str:
        for wait in (lambda: portico.connect(URL), clients[0].recv, clients[0].wait_closed):
            with pytest.raises(RuntimeError) as caught:
                wait()
            errors.append(str(caught.value))
        return "ok"

    clients.append(portico.connect(URL))
    server = portico.start_server("127.0.0.1", 0, call, quiet=True)
    agreeing.request(server._number)
    portico.service(0)
    assert len(errors) == 3
    assert all("inside a callback" in error for error in errors)
    clients[0].close()
    server.stop()


def test_another_thread_may_send_and_not_receive(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    log: list[Any] = []

    def work() -> None:
        log.append(ws.send("from elsewhere"))
        try:
            ws.recv(0)
        except RuntimeError as error:
            log.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(DEADLINE_S)
    assert log[0] is SendResult.SENT
    assert "MainThread" in log[1]
    ws.close()
    ws.wait_closed()


# asyncio


def test_an_asyncio_client(agreeing: FakeCore) -> None:
    async def main() -> None:
        async with portico.connect(URL) as ws:
            for message in ("a", "b", "c"):
                agreeing.message(ws.id, message)
            assert await ws.receive() == "a"
            async for message in ws:
                if message == "c":
                    break
            with pytest.raises(RuntimeError, match=r"ws\.receive\(\)"):
                ws.recv()
            agreeing.closed(ws.id, 1011)
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
            assert caught.value.code == 1011
            assert [message async for message in ws] == []
        with pytest.raises(RuntimeError, match="async with"), portico.connect(URL):
            pass
        client = portico.connect(URL)
        with pytest.raises(RuntimeError, match="has not been opened"):
            await client.receive()
        assert client.send("early") is SendResult.CLOSED
        assert await client is client
        client.close()
        client = portico.connect(URL)
        client.close()
        with pytest.raises(RuntimeError, match="closed already"):
            await client

    asyncio.run(main())


@pytest.mark.parametrize("is_near", [False, True])
def test_an_answer_that_comes_at_once_needs_no_turn_of_the_loop(agreeing: FakeCore, is_near: bool) -> None:
    async def main() -> None:
        async with portico.connect(URL) as ws:
            agreeing.is_near = is_near
            turns: list[int] = []
            agreeing.message(ws.id, "abc")
            asyncio.get_running_loop().call_soon(turns.append, 1)
            assert await ws.receive() == "abc"
            assert turns == ([] if is_near else [1])
            assert agreeing.held_bytes[ws.id] == 3
            agreeing.message(ws.id, b"de")
            assert await ws.receive() == b"de"
            assert agreeing.held_bytes[ws.id] == 2
            for message in ("f", "g"):
                agreeing.message(ws.id, message)
            async for message in ws:
                if message == "g":
                    break
            agreeing.closed(ws.id, 1001)
            with pytest.raises(ConnectionClosed, match="1001"):
                await ws.receive()
        assert agreeing.held_bytes[ws.id] == 0

    asyncio.run(main())


def test_what_waits_in_the_mailbox_comes_before_an_answer(agreeing: FakeCore) -> None:
    async def main() -> None:
        async with portico.connect(URL) as ws, portico.connect(URL) as other:
            agreeing.is_near = True
            agreeing.message(other.id, "another")
            agreeing.message(ws.id, "first")
            agreeing.message(ws.id, "second")
            assert [await ws.receive(), await ws.receive()] == ["first", "second"]
            assert await other.receive() == "another"
            for number in (ws.id, other.id):
                agreeing.closed(number)

    asyncio.run(main())


def test_callbacks_are_given_an_answer_that_is_near_in_the_same_turn(agreeing: FakeCore) -> None:
    async def main() -> None:
        heard: list[object] = []
        turns: list[int] = []
        over = asyncio.Event()

        def hear(ws: Client, message: object) -> None:
            heard.append(message)
            if message == "first":
                asyncio.get_running_loop().call_soon(turns.append, len(heard))
                agreeing.message(ws.id, "second")
                agreeing.is_near = True
            else:
                agreeing.is_near = False
                turns.append(len(heard))
                ws.close()

        client = portico.connect(URL, on_message=hear, on_close=lambda ws: over.set())
        while not client.is_open:
            await asyncio.sleep(0)
        agreeing.message(client.id, "first")
        await asyncio.wait_for(over.wait(), DEADLINE_S)
        assert heard == ["first", "second"]
        assert turns == [2, 1]

    asyncio.run(main())


def test_a_cancelled_connect_is_given_up(core: FakeCore) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_connected(), 0.01)
        assert not core.calling
        assert len(core.said("close")) == 1

    async def _connected() -> None:
        await portico.connect(URL)

    asyncio.run(main())
    portico.service(0)
    assert current_home().residents == {}


# Callbacks


def test_callbacks_run_in_order_on_the_home(agreeing: FakeCore) -> None:
    log: list[Any] = []
    ws = portico.connect(
        URL,
        on_open=lambda ws: log.append(("open", ws.send("hi"))),
        on_message=lambda ws, message: log.append(message),
        on_close=lambda ws: log.append(("close", ws.close_code)),
    )
    assert log == []
    agreeing.message(ws.id, "a")
    agreeing.message(ws.id, b"b")
    portico.service(0)
    agreeing.closed(ws.id, 1005)
    while len(log) < 4:
        portico.service(1)
    assert log == [("open", SendResult.SENT), "a", b"b", ("close", 1005)]
    with pytest.raises(RuntimeError, match="go to its on_message"):
        ws.recv()
    assert current_home().residents == {}


def test_a_coroutine_callback_keeps_messages_back(agreeing: FakeCore) -> None:
    log: list[str] = []

    async def on_open(ws: Client) -> None:
        await asyncio.sleep(0)
        ws.on_message(lambda binary, message: log.append(message))

    ws = portico.connect(URL, on_open=on_open)
    agreeing.message(ws.id, "early")
    while not log:
        portico.service(1)
    assert log == ["early"]
    ws.close()


def test_a_client_tells_what_it_is_about_and_has_no_answer_before_it_is_open(core: FakeCore) -> None:
    failed: list[Exception] = []
    client = portico.connect(URL, on_error=failed.append, open_timeout_s=None)
    assert core.configs[client.id]["open_timeout_s"] is None
    assert repr(client) == "<Client 127.0.0.1 connecting>"
    with pytest.raises(RuntimeError, match="this WebSocket has not been opened"):
        _ = client.response_headers
    core.failed(client.id, WHY_SYSTEM, errno.ECONNREFUSED)
    portico.service(0)
    assert len(failed) == 1
    assert repr(client) == "<Client 127.0.0.1 failed>"


def test_ctrl_c_while_it_is_being_opened_gives_it_up(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(max_events: int, timeout: float | None) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(core, "take", interrupt)
        with pytest.raises(KeyboardInterrupt):
            portico.connect(URL)
    portico.service(0)
    assert not core.calling
    assert current_home().residents == {}


def test_on_error_hears_of_a_failure_and_the_log_otherwise(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    answer_with(core, lambda number: core.failed(number, WHY_SYSTEM, errno.ECONNREFUSED))
    errors: list[Exception] = []
    portico.connect(URL, on_error=errors.append)
    with caplog.at_level(logging.ERROR, "portico"):
        portico.connect(URL, on_message=print)
        portico.connect(URL, on_error=lambda error: 1 / 0)
        for _ in range(3):
            portico.service(0)
    assert [type(error) for error in errors] == [ConnectionRefusedError]
    assert "could not be opened" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set it, and names are resolved: `nowhere` has no address, all others have one."""
    gate = threading.Event()

    def resolve(name: str, *_: object, **__: object) -> list[Any]:
        assert gate.wait(DEADLINE_S)
        if name == "nowhere":
            raise OSError(errno.EIO, "no such name")
        return [(0, 0, 0, "", ("127.0.0.1", 80))]

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    return gate


def test_clients_whose_names_are_being_resolved(agreeing: FakeCore, gate: threading.Event) -> None:
    log: list[Any] = []

    def connect(name: str) -> Client:
        return portico.connect(
            f"ws://{name}/",
            on_open=lambda ws: log.append(name),
            on_error=lambda error: log.append(f"{name} {type(error).__name__}"),
        )

    clients = [connect(name) for name in ("one", "two", "nowhere", "nevermind")]
    assert len(current_home().residents) == 4
    assert clients[3].close() is SendResult.CLOSED
    gate.set()
    while len(log) < 4:
        portico.service(1)
    assert sorted(log) == ["nevermind ConnectionAbortedError", "nowhere OSError", "one", "two"]
    assert set(current_home().residents.values()) == set(clients[:2])
    assert len(agreeing.said("connect")) == 2
    for client in clients[:2]:
        client.close()
        assert client.wait_closed(DEADLINE_S)
    assert current_home().residents == {}


def test_what_http_cannot_carry_is_told_though_it_comes_late(core: FakeCore, gate: threading.Event) -> None:
    core.connect_error = ValueError("Upgrade: the handshake sets it")
    errors: list[Exception] = []
    gate.set()
    portico.connect("ws://somewhere/", on_error=errors.append)
    while not errors:
        portico.service(1)
    assert errors == [core.connect_error]
    assert current_home().residents == {}


def test_a_home_may_end_while_a_name_is_resolved(core: FakeCore, gate: threading.Event) -> None:
    ws = portico.connect("ws://somewhere/", on_open=print)
    (waiting,) = (thread for thread in threading.enumerate() if thread.name == "portico-client")
    current_home().close()
    assert ws.close_code == 1006
    gate.set()
    waiting.join(DEADLINE_S)
    assert not waiting.is_alive()
    assert core.said("connect") == []


def test_a_name_that_is_not_found_in_time(core: FakeCore, gate: threading.Event) -> None:
    def connect(**options: Any) -> Client:
        return portico.connect("ws://somewhere/", open_timeout_s=0.01, **options)

    async def main() -> None:
        with pytest.raises(TimeoutError, match=r"somewhere: no address within open_timeout_s=0\.01"):
            await connect()

    with pytest.raises(TimeoutError, match=r"somewhere: no address within open_timeout_s=0\.01"):
        connect()
    asyncio.run(main())
    errors: list[Exception] = []
    connect(on_error=errors.append)
    while not errors:
        portico.service(1)
    assert isinstance(errors[0], TimeoutError)
    gate.set()
    assert core.said("connect") == []
    assert current_home().residents == {}


def test_servers_of_the_same_thread_go_on_while_a_name_is_looked_up(agreeing: FakeCore, gate: threading.Event) -> None:
    server = portico.start_server("127.0.0.1", 0, lambda req: gate.set(), quiet=True)
    agreeing.request(server._number, "/")
    with portico.connect("ws://somewhere/") as ws:
        assert ws.is_open
    server.stop()


def test_one_that_is_given_up_too_late_hears_of_no_opening(agreeing: FakeCore) -> None:
    log: list[Any] = []
    ws = portico.connect(
        URL,
        on_open=lambda ws: log.append("open"),
        on_message=lambda ws, message: log.append(message),
        on_close=lambda ws: log.append("close"),
        on_error=lambda error: log.append(type(error)),
    )
    agreeing.message(ws.id, "early")
    assert ws.close() is SendResult.CLOSED
    portico.service(0)
    portico.service(0)
    assert log == [ConnectionAbortedError]
    assert agreeing.said("close") == [(ws.id, 1000, "")]
    assert current_home().residents == current_home().dispatcher.sockets == {}


def test_a_client_of_an_ended_home_is_over(agreeing: FakeCore) -> None:
    ws = portico.connect(URL)
    agreeing.message(ws.id, "left")
    portico.service(0)
    current_home().close()
    assert ws.close_code == 1006
    assert ws.recv() == "left"
    with pytest.raises(ConnectionClosed):
        ws.recv()


# Coming back


class Clock:
    """Stands still until a test says otherwise."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_reconnect_waits_longer_each_time_and_comes_back(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    clock = Clock()
    monkeypatch.setattr("portico.reconnecting._jitter", lambda pause_s: pauses.append(pause_s) or 0.0)
    monkeypatch.setattr("portico.reconnecting.monotonic", clock)
    refuse = lambda number: core.failed(number, WHY_SYSTEM, errno.ECONNREFUSED)  # noqa: E731
    busy = lambda number: core.failed(number, WHY_ANSWERED, 0, "", (503, "", b"", b""))  # noqa: E731
    restarting = lambda number: core.failed(number, WHY_ENDED, 0, "no answer")  # noqa: E731
    fates = [refuse, busy, restarting, core.connected, refuse, core.connected, core.connected, core.connected]
    answer_with(core, lambda number: fates.pop(0)(number))
    clients: list[Client] = []
    for ws in portico.reconnect(URL, min_delay_s=1, max_delay_s=3):
        clients.append(ws)
        if len(clients) == 1:
            clock.now += 1.5  # it held, so the next attempt is made at once
        if len(clients) == 4:
            break
    # Rounds that end as soon as they began count as attempts that failed: a server may refuse in that way, too.
    assert pauses == [1, 2, 3, 1, 2, 3]
    assert [ws.close_code for ws in clients] == [1000] * 4


def test_reconnect_in_a_loop(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.reconnecting._jitter", lambda pause_s: 0.0)
    fates = [lambda number: core.failed(number, WHY_TIMED_OUT, 0, "late"), core.connected]
    answer_with(core, lambda number: fates.pop(0)(number))

    async def main() -> None:
        rounds = portico.reconnect(URL).__aiter__()
        ws = await anext(rounds)
        assert ws.is_open
        await rounds.aclose()  # type: ignore[attr-defined]
        assert ws.close_code == 1000

    asyncio.run(main())


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        ((WHY_PROTOCOL, 0, "x"), HandshakeError),
        ((WHY_ANSWERED, 0, "", (404, "", b"", b"")), HandshakeRefused),
        ((WHY_CERTIFICATE, 0, "expired"), portico.CertificateError),
    ],
)
def test_reconnect_does_not_wait_for_what_stays_wrong(core: FakeCore, failure: Any, kind: type[OSError]) -> None:
    answer_with(core, lambda number: core.failed(number, *failure))
    with pytest.raises(kind):
        next(iter(portico.reconnect(URL)))


def test_reconnect_takes_no_callbacks() -> None:
    with pytest.raises(ValueError, match="on_close, on_message"):
        portico.reconnect(URL, on_message=print, on_close=print)


@pytest.mark.parametrize("delays", [{"min_delay_s": 0}, {"max_delay_s": "x"}, {"min_delay_s": 5, "max_delay_s": 1}])
def test_delays_are_checked(delays: Any) -> None:
    with pytest.raises(ValueError, match="delay_s"):
        portico.reconnect(URL, **delays)
