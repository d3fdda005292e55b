"""What the app can say to a socket."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from portico import SendResult, _core
from portico.routes import Route
from portico.testing import FakeCore, request_parts
from portico.websocket_connection import Link, WebSocket

NUMBER = 7


@pytest.fixture
def seam() -> FakeCore:
    core = FakeCore()
    core.sockets[NUMBER] = 1
    return core


@pytest.fixture
def ws(seam: FakeCore) -> WebSocket:
    link = Link(seam, Route(on_open=print), ("127.0.0.1", 80), None)  # type: ignore[arg-type]
    return WebSocket(NUMBER, link, request_parts(1, "/chat?a=1", is_websocket=True))


def test_results_have_the_seams_numbers() -> None:
    assert (SendResult.SENT, SendResult.CLOSED, SendResult.FULL) == (_core.SENT, _core.SHUT, _core.FULL) == (0, 7, 8)


@pytest.mark.parametrize("data", ["text", b"bytes", bytearray(b"b"), memoryview(b"m"), ""])
def test_send_passes_the_data_on(ws: WebSocket, seam: FakeCore, data: Any) -> None:
    assert ws.send(data) is SendResult.SENT
    assert seam.said("send") == [(NUMBER, data)]


@pytest.mark.parametrize("data", [1, None, ["a"], {"a": 1}])
def test_send_of_another_type_raises(ws: WebSocket, data: Any) -> None:
    with pytest.raises(TypeError):
        ws.send(data)


def test_state_of_the_peer_is_told_and_never_raised(ws: WebSocket, seam: FakeCore) -> None:
    seam.full.add(NUMBER)
    assert ws.send("x") is SendResult.FULL
    assert ws.ping() is SendResult.SENT
    seam.sockets.clear()
    assert ws.send("x") is ws.ping(b"x") is ws.close() is SendResult.CLOSED


def test_facts(ws: WebSocket, seam: FakeCore) -> None:
    assert (ws.id, ws.request.path, ws.subprotocol) == (NUMBER, "/chat", None)
    assert (ws.is_open, ws.close_code, ws.close_reason) == (True, None, "")
    assert (ws.buffered_amount, ws.latency_s) == (0, None)
    assert repr(ws) == "<WebSocket 7 /chat?a=1 open>"
    seam.sockets.clear()
    assert (ws.is_open, ws.buffered_amount, ws.latency_s) == (False, 0, None)


def test_close_is_the_end_at_once(ws: WebSocket, seam: FakeCore) -> None:
    assert ws.close(4000, "bye") is SendResult.SENT
    assert not ws.is_open
    assert ws.close() is SendResult.CLOSED
    assert seam.said("close")[0] == (NUMBER, 4000, "bye")
    assert repr(ws).endswith("closing>")


def test_close_checks_its_arguments(ws: WebSocket) -> None:
    wrong: list[Any] = [("1000",), (1000, b"x"), (True,), (1000.0,)]
    for arguments in wrong:
        with pytest.raises(TypeError):
            ws.close(*arguments)
    with pytest.raises(ValueError, match="123 bytes"):
        ws.close(1000, "é" * 62)
    assert ws.is_open


def test_ping_takes_bytes(ws: WebSocket, seam: FakeCore) -> None:
    assert ws.ping(bytearray(b"x")) is SendResult.SENT
    assert seam.said("ping") == [(NUMBER, b"x")]
    with pytest.raises(TypeError):
        ws.ping("x")  # type: ignore[arg-type]


def test_registering_is_a_decorator_and_wants_a_function(ws: WebSocket) -> None:
    @ws.on_message
    def hear(binary: bool, message: str | bytes) -> None:
        """Never called here."""

    assert callable(hear)
    assert ws.on_close(print) is ws.on_drain(print) is print
    for register in (ws.on_message, ws.on_close, ws.on_drain):
        with pytest.raises(TypeError, match="needs a function"):
            register("x")  # type: ignore[type-var]


def test_request_is_made_once_and_only_if_somebody_looks(ws: WebSocket) -> None:
    assert isinstance(ws._request, tuple)
    assert ws.request is ws.request
    assert (ws.request.path, ws.request.query["a"], ws.request.server) == ("/chat", "1", ("127.0.0.1", 80))


def test_idle_socket_holds_next_to_nothing(ws: WebSocket) -> None:
    # Ten thousand of them wait. Whatever is added here is paid for ten thousand times: see `Link` and `Extras`.
    assert sys.getsizeof(ws) <= 112
    held = [getattr(ws, name) for name in WebSocket.__slots__ if name not in ("__weakref__", "_link", "_request")]
    assert held == [(), None, None, NUMBER, False, ()]


def test_attributes_cannot_be_changed(ws: WebSocket) -> None:
    for name in ("id", "request", "is_open", "close_code", "subprotocol", "colour"):
        with pytest.raises(AttributeError):
            setattr(ws, name, 1)
