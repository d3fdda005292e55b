"""The handlers door and a real browser: EventSource that comes back, and WebSockets whose frames have a type."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from portico import (
    Request,
    Server,
    StreamConnection,
    format_sse,
    handler_inline,
    handler_stream,
    handler_ws,
    http_server,
    tls_config,
    write_cert,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEADLINE_S = 20
PAGE = handler_inline("/", "<!doctype html><title>handlers</title>", "text/html")

# Listens until `count` events have come, and tells which.
LISTEN = """(count) => new Promise((resolve) => {
  const seen = [], source = new EventSource("/events");
  const note = ({ type, data, lastEventId }) => {
    window.count = seen.push([type, data, lastEventId]);
    if (seen.length === count) { source.close(); resolve(seen); }
  };
  source.onmessage = note;
  source.addEventListener("tick", note);
})"""

# Sends one text and one binary message, and tells what came back, or how the connection ended.
TALK = """(path) => new Promise((resolve) => {
  const ws = new WebSocket(location.origin.replace("http", "ws") + path), seen = [];
  ws.binaryType = "arraybuffer";
  ws.onopen = () => { ws.send(Uint8Array.of(0xc3, 0xa9)); ws.send("é"); };
  ws.onmessage = ({ data }) => {
    seen.push(typeof data === "string" ? data : Array.from(new Uint8Array(data)));
    if (seen.length === 2) ws.close(1000);
  };
  ws.onclose = ({ code }) => resolve([seen, code]);
})"""


def open_page(browser: Browser, server: Server) -> Page:
    page = browser.new_page(ignore_https_errors=True)  # the certificate is nobody's that Chromium knows
    page.set_default_timeout(DEADLINE_S * 1000)
    page.goto(server.url)
    return page


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_event_source_comes_back_with_the_last_id_however_it_was_ended(browser: Browser, scheme: str) -> None:
    asked: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    left: queue.SimpleQueue[StreamConnection] = queue.SimpleQueue()

    def events(conn: StreamConnection, req: Request) -> None:
        last = req.headers.get("last-event-id")
        asked.put(last)
        conn.set_header("Content-Type", "text/event-stream")
        conn.send(format_sse(None, retry=20, comment="heartbeat"))
        first = int(last or "0") + 1
        conn.send(format_sse(f"number\n{first}", id=first))
        conn.send(format_sse("tock", "tick", first + 1))
        if first == 1:
            conn.close()
        elif first == 3:
            raise RuntimeError("cut in the middle of it")

    handlers = [PAGE, handler_stream("/events", events, left.put, method="GET")]
    tls = tls_config(server=write_cert("127.0.0.1").server) if scheme == "https" else None
    with http_server(f"{scheme}://127.0.0.1:0", handlers, tls, quiet=True, callbacks="thread") as server:
        page = open_page(browser, server)
        seen = page.evaluate(LISTEN, 6)
        assert seen == [
            ["message", "number\n1", "1"],
            ["tick", "tock", "2"],
            ["message", "number\n3", "3"],
            ["tick", "tock", "4"],
            ["message", "number\n5", "5"],
            ["tick", "tock", "6"],
        ]
        page.close()
    server.wait_closed()
    said = [asked.get_nowait() for _ in range(asked.qsize())]
    # What is cut may be lost on its way; the browser asks for it again then, and gets it.
    assert (said[0], set(said[1:-1]), said[-1]) == (None, {"2"}, "4")
    ended = [left.get_nowait().id for _ in range(left.qsize())]
    assert len(set(ended)) == len(ended) == len(said)


def test_event_source_finds_a_server_that_was_started_again(browser: Browser) -> None:
    def events(conn: StreamConnection, req: Request) -> None:
        conn.set_header("Content-Type", "text/event-stream")
        number = int(req.headers.get("last-event-id", "0")) + 1
        conn.send(format_sse(str(number), id=number, retry=20))

    handlers = [PAGE, handler_stream("/events", events, method="GET")]
    with http_server("http://127.0.0.1:0", handlers, quiet=True, callbacks="thread") as first:
        page = open_page(browser, first)
        page.evaluate(f"() => {{ window.heard = ({LISTEN})(2); }}")
        page.wait_for_function("() => window.count === 1")
    first.wait_closed()
    with http_server(f"http://127.0.0.1:{first.port}", handlers, quiet=True, callbacks="thread") as second:
        assert page.evaluate("() => window.heard") == [["message", "1", "1"], ["message", "2", "2"]]
        page.close()
    second.wait_closed()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_frames_have_the_type_that_their_handler_says(browser: Browser, scheme: str) -> None:
    handlers = [
        PAGE,
        handler_ws("/text", lambda ws, data: ws.send(data), textframes=True, deflate=True),
        handler_ws("/both", lambda ws, data: ws.send(data), textframes=None),
        handler_ws("/binary", lambda ws, data: ws.send(data)),
    ]
    tls = tls_config(server=write_cert("127.0.0.1").server) if scheme == "https" else None
    with http_server(f"{scheme}://127.0.0.1:0", handlers, tls, quiet=True, callbacks="thread") as server:
        page = open_page(browser, server)
        assert page.evaluate(TALK, "/text") == [["é", "é"], 1000]
        assert page.evaluate(TALK, "/both") == [[[0xC3, 0xA9], "é"], 1000]
        assert page.evaluate(TALK, "/binary") == [[[0xC3, 0xA9]], 1003]
        page.close()
    server.wait_closed()
