"""Clients beside each other: none waits for another's slow answer, none is mistaken for another."""

from __future__ import annotations

import concurrent.futures
import logging
import multiprocessing
import queue
import threading
from typing import Any

import pytest

import portico

from .conftest import Live, Serve
from .wire_client import request

DEADLINE_S = 10.0


def test_a_future_that_is_not_there_yet_delays_nobody(serve: Serve) -> None:
    later: concurrent.futures.Future[str] = concurrent.futures.Future()
    live = serve(lambda req: later if req.path == "/later" else "now")
    with live.connect() as patient:
        patient.send(request("GET", "/later"))
        assert live.ask("GET", "/now").body == b"now"
        assert patient.is_silent()
        later.set_result("later")
        assert patient.receive_reply().body == b"later"


def test_a_future_that_fails_is_a_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    failed: concurrent.futures.Future[str] = concurrent.futures.Future()
    failed.set_exception(LookupError("secret"))
    live = serve(lambda req: failed)
    with caplog.at_level(logging.ERROR, "portico"):
        reply = live.ask()
    assert (reply.status, reply.body) == (500, b"500 Internal Server Error\n")
    assert [record.exc_info and record.exc_info[0] for record in caplog.records] == [LookupError]


def test_a_client_that_leaves_before_its_future_is_there_makes_no_noise(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    later: concurrent.futures.Future[str] = concurrent.futures.Future()
    asked = threading.Event()

    def call(req: portico.Request) -> Any:
        if req.path == "/later":
            asked.set()
            return later
        return "still here"

    live = serve(call)
    with live.connect() as client:
        client.send(request("GET", "/later"))
        assert asked.wait(DEADLINE_S)
        client.reset()
    assert live.ask().body == b"still here"
    if not later.cancelled():
        later.set_result("too late")
    assert live.ask().body == b"still here"
    assert not caplog.records


def test_two_tabs_with_one_cookie_are_two_clients(serve: Serve) -> None:
    tabs: queue.Queue[portico.WebSocket] = queue.Queue()
    live = serve({"on_ws_open": tabs.put})
    with live.open("/a", "Cookie: session=1") as first, live.open("/b", "Cookie: session=1") as second:
        sockets = {ws.request.path: ws for ws in (tabs.get(timeout=DEADLINE_S), tabs.get(timeout=DEADLINE_S))}
        assert sockets["/a"].id != sockets["/b"].id
        sockets["/b"].send("to b")
        sockets["/a"].send("to a")
        assert (first.receive_text(), second.receive_text()) == ("to a", "to b")


def test_a_handshake_is_remembered_as_it_was(serve: Serve) -> None:
    opened: list[portico.WebSocket] = []
    live = serve({"call": lambda req: req.path, "on_ws_open": opened.append})
    with live.open("/chat?room=7", "X-Name: Ada"), live.connect() as other:
        for index in range(1000):
            other.send(request("GET", f"/{index}?room=8", "X-Name: Bob"))
            assert other.receive_reply().body == b"/%d" % index
        handshake = opened[0].request
        assert (handshake.path, handshake.query["room"], handshake.headers["x-name"]) == ("/chat", "7", "Ada")


def _compute(is_over: Any) -> None:
    while not is_over.is_set():
        sum(range(10_000))


def test_servers_start_and_stop_while_every_processor_is_busy() -> None:
    spawn = multiprocessing.get_context("spawn")
    is_over = spawn.Event()
    crowd = [spawn.Process(target=_compute, args=(is_over,)) for _ in range(multiprocessing.cpu_count())]
    for process in crowd:
        process.start()
    try:
        for index in range(50):
            live = Live(portico.start_server("127.0.0.1", 0, lambda req: "busy", callbacks="thread"), None)
            if index % 10 == 0:
                assert live.ask().body == b"busy"
            live.server.stop()
            assert not live.server.is_running
    finally:
        is_over.set()
        for process in crowd:
            process.join(DEADLINE_S)
