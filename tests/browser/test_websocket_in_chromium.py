"""WebSockets of a real browser: compression and subprotocols as Chromium sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import portico
from portico.websocket_connection import WebSocket

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DEADLINE_MS = 20_000

# Opens a WebSocket, sends every message, and tells what it saw until all have come back.
TALK = """async ([protocols, messages]) => {
  const ws = new WebSocket(location.href.replace("http", "ws"), protocols);
  const seen = { messages: [] };
  return await new Promise((resolve) => {
    ws.onopen = () => {
      Object.assign(seen, { extensions: ws.extensions, protocol: ws.protocol });
      for (const message of messages) ws.send(message);
    };
    ws.onmessage = ({ data }) => {
      seen.messages.push(data);
      if (seen.messages.length === messages.length) ws.close(4000, "bye");
    };
    ws.onclose = ({ code, wasClean }) => resolve({ ...seen, code, wasClean });
  });
}"""


class Echo:
    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []

    def call(self, req: portico.Request) -> portico.Response:
        return portico.Response(200, {"Content-Type": "text/html"}, "<!doctype html><title>echo</title>")

    def on_ws_open(self, ws: WebSocket) -> None:
        self.sockets.append(ws)
        ws.on_message(lambda binary, message: ws.send(message))


def talk(browser: Browser, protocols: list[str], messages: list[str], **options: Any) -> dict[str, Any]:
    """What the page saw, and what subprotocol our side did."""
    app = Echo()
    with portico.start_server("127.0.0.1", 0, app, True, callbacks="thread", **options) as server:
        page = browser.new_page(ignore_https_errors=True)
        page.set_default_timeout(DEADLINE_MS)
        page.goto(server.url)
        seen = page.evaluate(TALK, [protocols, messages])
        page.close()
    server.wait_closed()
    return {**seen, "ours": [ws.subprotocol for ws in app.sockets]}


TEXTS = ["short", "", "Ein Tür-zu-Tür-Gespräch ☂ 😀. " * 20_000, "x" * 859, "y" * 860, "z" * 2_000_000]


@pytest.mark.parametrize("takes_over", [False, True])
def test_compressed_messages(browser: Browser, takes_over: bool) -> None:
    deflate = portico.Deflate(context_takeover=takes_over)
    seen = talk(browser, [], TEXTS * 2, deflate=deflate)
    expected = "permessage-deflate"
    if not takes_over:
        expected += "; server_no_context_takeover; client_no_context_takeover"
    assert seen.pop("messages") == TEXTS * 2
    assert seen == {
        "extensions": expected,
        "protocol": "",
        "code": 4000,
        "wasClean": True,
        "ours": [None],
    }


def test_wss(browser: Browser) -> None:
    tls = portico.tls_config(server=portico.write_cert("127.0.0.1").server)
    seen = talk(browser, [], TEXTS, tls=tls, deflate=True)
    assert seen["messages"] == TEXTS
    assert (seen["code"], seen["wasClean"], seen["extensions"][:18]) == (4000, True, "permessage-deflate")


def test_small_windows(browser: Browser) -> None:
    seen = talk(browser, [], TEXTS, deflate=portico.Deflate(window_bits=9, context_takeover=True))
    assert seen["extensions"] == "permessage-deflate; client_max_window_bits=9"
    assert seen["messages"] == TEXTS


def test_no_compression_unless_asked_for(browser: Browser) -> None:
    seen = talk(browser, [], TEXTS)
    assert (seen["extensions"], seen["messages"] == TEXTS) == ("", True)


@pytest.mark.parametrize(
    ("offered", "options", "chosen"),
    [
        (["a", "b"], {"subprotocols": ["b", "a"]}, "b"),
        (["a"], {"subprotocols": ["b", "a"], "requires_subprotocol": True, "deflate": True}, "a"),
        ([], {"subprotocols": ["b"]}, ""),
    ],
)
def test_subprotocols(browser: Browser, offered: list[str], options: dict[str, Any], chosen: str) -> None:
    seen = talk(browser, offered, ["hello"], **options)
    assert (seen["protocol"], seen["messages"], seen["ours"]) == (chosen, ["hello"], [chosen or None])


def test_refused_for_want_of_a_subprotocol(browser: Browser) -> None:
    seen = talk(browser, ["c"], ["hello"], subprotocols=["a"], requires_subprotocol=True)
    assert (seen["code"], seen["wasClean"], seen["messages"], seen["ours"]) == (1006, False, [], [])
