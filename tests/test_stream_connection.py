"""Answers that the app sends when it likes: `handler_stream` against a fake core."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import portico
from portico import Request, SendResult, StreamConnection, handler_stream, http_server
from portico._core import GONE
from portico.testing import FakeCore, number_of

DEADLINE_S = 10


class Streams:
    """A server with one stream; `conns` and `ended` tell what its callbacks got."""

    def __init__(self, on_request: Any = None, **options: Any) -> None:
        self.conns: list[StreamConnection] = []
        self.ended: list[StreamConnection] = []
        self._then = on_request
        handler = handler_stream("/", self.on_request, self.ended.append, **options)
        self.server = http_server("http://127.0.0.1:0", handler, quiet=True).start()

    def on_request(self, conn: StreamConnection, req: Request) -> Any:
        self.conns.append(conn)
        return self._then and self._then(conn, req)

    def ask(self, core: FakeCore, **parts: Any) -> tuple[int, StreamConnection]:
        number = core.request(number_of(self.server), **parts)
        portico.service(0)
        return number, self.conns[-1]


def serve_soon() -> None:
    for _ in range(4):
        portico.service(0)


def said(core: FakeCore, number: int) -> list[Any]:
    return [command[0] for command in core.commands if command[1] == number]


def test_nothing_is_sent_until_the_app_sends(core: FakeCore) -> None:
    streams = Streams()
    number, conn = streams.ask(core)
    assert core.commands == []
    assert conn.is_open and conn.request.uri == "/"
    conn.set_status(202)
    conn.set_header("X-A", "1")
    conn.set_header("x-a", "2")
    conn.set_header("Set-Cookie", ["a=1", "b=2"])
    assert conn.send("one") is SendResult.SENT
    assert conn.send(memoryview(b"two")) == 0
    fields = [("x-a", "2"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    assert core.said("begin") == [(number, 202, None, fields, None)]
    assert core.bodies[number] == b"onetwo"
    assert streams.ended == []
    assert conn.close() is SendResult.SENT
    assert streams.ended == []  # never inside a call of the app's
    portico.service(0)
    assert streams.ended == [conn]
    assert (conn.close(), conn.is_open) == (SendResult.CLOSED, False)
    assert said(core, number) == ["begin", "write", "write", "finish"]


def test_closing_at_once_is_an_empty_answer(core: FakeCore) -> None:
    streams = Streams(lambda conn, req: conn.close())
    number, conn = streams.ask(core)
    portico.service(0)
    assert said(core, number) == ["begin", "finish"]
    assert streams.ended == [conn]


def test_the_head_is_settled_with_the_first_piece(core: FakeCore) -> None:
    _, conn = Streams().ask(core)
    conn.send("")
    for change in (lambda: conn.set_status(404), lambda: conn.set_header("A", "b")):
        with pytest.raises(RuntimeError, match="after the headers have been sent"):
            change()


@pytest.mark.parametrize("status", [200.0, "200", True, None, 99, 199, 600])
def test_status_of_another_kind_is_refused(core: FakeCore, status: Any) -> None:
    _, conn = Streams().ask(core)
    with pytest.raises((TypeError, ValueError), match="status must be"):
        conn.set_status(status)


@pytest.mark.parametrize(
    ("name", "value"),
    [("A b", "c"), ("", "c"), ("A", "b\r\nC: d"), ("A", "b\0"), ("A", 7), (b"A", "b"), ("A", None), ("A", ["b", 7])],
)
def test_header_of_another_kind_is_refused(core: FakeCore, name: Any, value: Any) -> None:
    _, conn = Streams().ask(core)
    with pytest.raises((TypeError, ValueError)):
        conn.set_header(name, value)
    conn.send("x")
    assert core.said("begin")[0][3] == []


@pytest.mark.parametrize("data", [None, 7, {"a": 1}, ["x"]])
def test_data_of_another_kind_is_refused_and_nothing_is_sent(core: FakeCore, data: Any) -> None:
    _, conn = Streams().ask(core)
    with pytest.raises(TypeError, match="data must be str or bytes"):
        conn.send(data)
    assert core.commands == []


def test_sending_after_the_end_is_an_answer_whoever_made_it(core: FakeCore) -> None:
    streams = Streams()
    _, conn = streams.ask(core)
    conn.close()
    assert conn.send("x") is SendResult.CLOSED
    number, left = streams.ask(core)
    left.send("x")
    core.gone(number)
    portico.service(0)
    assert streams.ended == [conn, left]
    assert (left.send("y"), left.close()) == (SendResult.CLOSED, SendResult.CLOSED)
    assert core.bodies[number] == b"x"


def test_a_client_that_leaves_before_the_first_piece_ends_it_too(core: FakeCore) -> None:
    streams = Streams()
    number = core.request(number_of(streams.server))
    portico.service(0)
    core.push(GONE, number)  # it may only have closed its half, and wait
    portico.service(0)
    assert streams.ended == streams.conns
    assert [answer[:2] for answer in core.said("respond")] == [(number, 503)]
    assert streams.conns[0].send("x") is SendResult.CLOSED
    assert core.said("begin") == []


def test_head_has_no_body_and_one_end(core: FakeCore) -> None:
    streams = Streams()
    number, conn = streams.ask(core, method="HEAD")
    assert (conn.send("x"), conn.send("y"), conn.is_open) == (SendResult.CLOSED, SendResult.CLOSED, False)
    portico.service(0)
    conn.close()
    portico.service(0)
    assert streams.ended == [conn]
    assert said(core, number) == ["begin"]


def test_ids_are_unique_also_on_one_connection(core: FakeCore) -> None:
    streams = Streams()
    number, first = streams.ask(core)
    first.close()
    portico.service(0)
    core.request_again(number, number_of(streams.server))
    portico.service(0)
    second = streams.conns[-1]
    ws = core.open(number_of(streams.server))
    assert len({first.id, second.id, ws, number}) == 4
    # The first is over, whatever is done with it: what is said goes to nobody.
    assert first.close() is SendResult.CLOSED
    second.send("mine")
    assert core.bodies[number] == b"mine"


# When callbacks fail


def test_an_error_before_the_first_piece_is_a_500(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    streams = Streams(lambda conn, req: 1 / 0)
    number, conn = streams.ask(core)
    assert [answer[:2] for answer in core.said("respond")] == [(number, 500)]
    assert streams.ended == [conn] and not conn.is_open
    assert len(caplog.records) == 1


def test_an_error_behind_it_cuts_the_answer(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    def on_request(conn: StreamConnection, req: Request) -> None:
        conn.send("half")
        raise OSError("no more")

    streams = Streams(on_request)
    number, conn = streams.ask(core)
    portico.service(0)
    assert said(core, number) == ["begin", "write", "abort"]
    assert streams.ended == [conn]
    assert "no more" in caplog.text


def test_an_error_in_on_close_is_reported_once(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    handler = handler_stream("/", lambda conn, req: conn.close(), lambda conn: 1 / 0)
    server = http_server("http://127.0.0.1:0", handler, quiet=True).start()
    core.request(number_of(server))
    for _ in range(2):
        portico.service(0)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == ["on_close raised"]


# Keeping pace


def test_a_coroutine_on_close_is_started_and_its_error_reported(
    core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_close(conn: StreamConnection) -> None:
        raise LookupError("secret")

    server = http_server(
        "http://127.0.0.1:0", handler_stream("/", lambda conn, req: conn.close(), on_close), quiet=True
    ).start()
    core.request(number_of(server))
    serve_soon()
    assert [record.message.split(";")[0] for record in caplog.records] == ["on_close raised"]


@pytest.mark.parametrize("is_coroutine", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_before_the_first_piece_is_a_500_and_passes_through(
    core: FakeCore, error: Any, is_coroutine: bool
) -> None:
    async def later() -> None:
        raise error

    def on_request(conn: StreamConnection, req: Request) -> Any:
        if is_coroutine:
            return later()
        raise error

    streams = Streams(on_request)
    number = core.request(number_of(streams.server))
    with pytest.raises(error):
        serve_soon()
    serve_soon()
    assert [answer[:2] for answer in core.said("respond")] == [(number, 500)]
    assert streams.ended == streams.conns


def test_an_interrupt_in_on_close_passes_through(core: FakeCore) -> None:
    def on_close(conn: StreamConnection) -> None:
        raise KeyboardInterrupt

    server = http_server(
        "http://127.0.0.1:0", handler_stream("/", lambda conn, req: conn.close(), on_close), quiet=True
    ).start()
    core.request(number_of(server))
    with pytest.raises(KeyboardInterrupt):
        serve_soon()


def test_an_interrupt_behind_the_end_answers_nothing_else(core: FakeCore) -> None:
    def on_request(conn: StreamConnection, req: Request) -> None:
        conn.close()
        raise KeyboardInterrupt

    streams = Streams(on_request)
    number = core.request(number_of(streams.server))
    with pytest.raises(KeyboardInterrupt):
        serve_soon()
    serve_soon()
    assert said(core, number) == ["begin", "finish"]
    assert streams.ended == streams.conns


@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
def test_an_error_in_on_drain(core: FakeCore, error: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise error

    number, conn = Streams().ask(core)
    conn.send("first")
    conn.on_drain(fail)
    core.full.add(number)
    assert conn.send("second") is SendResult.FULL
    core.full.discard(number)
    core.drained(number)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            portico.service(0)
    else:
        portico.service(0)
        assert [record.message.split(";")[0] for record in caplog.records] == ["on_drain raised"]


def test_what_finds_no_room_is_full_and_told_when_there_is(core: FakeCore) -> None:
    told: list[str] = []
    streams = Streams()
    number, conn = streams.ask(core)
    conn.send("first")
    conn.on_drain(lambda: told.append("drained"))
    core.full.add(number)
    assert conn.send("second") is SendResult.FULL
    assert core.bodies[number] == b"first"
    portico.service(0)
    assert told == []
    core.full.discard(number)
    core.drained(number)
    portico.service(0)
    assert told == ["drained"]
    with pytest.raises(TypeError, match="function without arguments"):
        conn.on_drain(7)  # type: ignore[type-var]


def test_a_coroutine_waits_for_its_client(core: FakeCore) -> None:
    heard: list[Any] = []

    async def on_request(conn: StreamConnection, req: Request) -> None:
        heard.append(await conn.drain())  # nothing is queued before the first piece
        conn.send("x")
        heard.append(await conn.drain())
        heard.append(await conn.drain())
        heard.append("never")

    streams = Streams(on_request)
    number, _ = streams.ask(core)
    core.full.add(number)
    serve_soon()
    assert heard == [True]
    core.drained(number)
    serve_soon()
    assert heard == [True, True]
    core.gone(number)
    serve_soon()
    assert heard[:2] == [True, True] and "never" not in heard  # cancelled: nobody reads what it would send
    assert streams.ended == streams.conns


def test_a_coroutine_that_closes_goes_on_to_its_end(core: FakeCore) -> None:
    steps: list[str] = []

    async def on_request(conn: StreamConnection, req: Request) -> None:
        conn.close()
        assert await conn.drain() is False  # there is nothing to wait for
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        steps.append("cleaned up")

    streams = Streams(on_request)
    streams.ask(core)
    for _ in range(6):
        portico.service(0)
    assert steps == ["cleaned up"]
    assert len(streams.ended) == 1


def test_a_coroutine_whose_stream_others_close_is_cancelled(core: FakeCore) -> None:
    steps: list[str] = []

    async def on_request(conn: StreamConnection, req: Request) -> None:
        try:
            await asyncio.sleep(DEADLINE_S)
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise

    streams = Streams(on_request)
    _, conn = streams.ask(core)
    portico.service(0)
    conn.close()
    serve_soon()
    assert steps == ["cancelled"]
    assert streams.ended == [conn]


def test_any_thread_may_send_and_close(core: FakeCore) -> None:
    streams = Streams()
    number, conn = streams.ask(core)
    threads = [threading.Thread(target=conn.send, args=(b"%d" % index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    closing = threading.Thread(target=conn.close)
    closing.start()
    closing.join(DEADLINE_S)
    assert streams.ended == []
    portico.service(0)
    assert streams.ended == [conn]
    assert sorted(core.bodies[number]) == sorted(b"01234567")
    assert len(core.said("begin")) == 1


def test_methods_and_values_that_push(core: FakeCore) -> None:
    streams = Streams(method="GET", prefix=True)
    [spec] = core.configs[number_of(streams.server)]["routes"]
    assert spec[1:4] == ("/", True, ("GET",))
    _, conn = streams.ask(core, target="/x")
    assert repr(conn) == f"<StreamConnection {conn.id} /x open>"
    conn.close()
    assert repr(conn).endswith("closed>")
    portico.service(0)
    assert repr(conn).endswith("over>")
