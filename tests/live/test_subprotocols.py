"""Subprotocols (RFC 6455 §1.9, §4.2.2): what is offered, what the server chooses, and whom it refuses."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

import portico
from portico.websocket_connection import WebSocket

from .conftest import Live, Recorder, Serve
from .wire_client import DEADLINE_S, TEXT, Reply, frame, handshake, request

FIELD = "Sec-WebSocket-Protocol"


class Speaker:
    """An app that answers each message with the subprotocol, and writes down what it opened."""

    def __init__(self) -> None:
        self.recorder = Recorder()

    def call(self, req: portico.Request) -> str:
        return "plain"

    def on_ws_open(self, ws: WebSocket) -> None:
        self.recorder.calls.put((ws.request.uri, ws.subprotocol))
        ws.on_message(lambda binary, message: ws.send(str(ws.subprotocol)))

    def drain(self) -> list[tuple[str, Any]]:
        return self.recorder.drain()


def ask(live: Live, *offers: str, target: str = "/") -> Reply:
    """The answer to a handshake, whatever it is."""
    with live.connect() as client:
        client.send(handshake(target, *(f"{FIELD}: {offer}" for offer in offers)))
        return client.receive_reply()


def agree(live: Live, *offers: str) -> str | None:
    """What client and server agree on, and the callback sees the same."""
    with live.open("/", *(f"{FIELD}: {offer}" for offer in offers)) as ws:
        answers = ws.reply.get_all(FIELD)
        assert len(answers) <= 1
        ws.send_text("which?")
        assert ws.receive_text() == (answers[0] if answers else "None")
        assert ws.close() == (1000, "")
    assert live.app.drain() == [("/", answers[0] if answers else None)]
    return answers[0] if answers else None


def test_none_unless_told(serve: Serve) -> None:
    live = serve(Speaker())
    assert agree(live) is None
    assert agree(live, "chat, superchat") is None


@pytest.mark.parametrize(
    ("supported", "offers", "chosen"),
    [
        (["b"], ["a, b"], "b"),
        (["b"], ["a", "b"], "b"),
        (["b"], ["a ,\tb\t,c"], "b"),
        (["b"], [",a,,b,"], "b"),
        (["a", "b"], ["a, b"], "a"),
        (["a", "b"], ["b, a"], "a"),  # the server's order decides
        (["b", "a"], ["a", "b"], "b"),
        (["x", "y", "b"], ["a, b"], "b"),
        (["a"], ["b"], None),
        (["a"], ["A"], None),  # names compare exactly
        (["a"], ["aa, a.b, a-"], None),
        (["graphql-transport-ws", "v1.x!#$%&'*+.^_`|~"], ["v1.x!#$%&'*+.^_`|~"], "v1.x!#$%&'*+.^_`|~"),
        (["a"], [], None),
    ],
)
@pytest.mark.parametrize("has_guard", [False, True])
def test_the_servers_first_that_is_offered(
    serve: Serve, supported: list[str], offers: list[str], chosen: str | None, has_guard: bool
) -> None:
    app: Any = Speaker()
    if has_guard:
        app.on_headers = lambda req: None
    assert agree(serve(app, subprotocols=supported), *offers) == chosen


def test_every_order_of_three(serve: Serve) -> None:
    for supported in itertools.permutations(["a", "b", "c"]):
        live = serve(Speaker(), subprotocols=supported)
        for offered in itertools.permutations(["x", "a", "b", "c"], 3):
            assert agree(live, ", ".join(offered)) == next(name for name in supported if name in offered)


@pytest.mark.parametrize("callbacks", ["thread", "service"])
def test_whom_a_server_that_requires_one_refuses(serve: Serve, callbacks: str) -> None:
    live = serve(Speaker(), subprotocols=["a", "b"], requires_subprotocol=True, callbacks=callbacks)
    for offers in ([], ["c"], ["c, d", "A"]):
        reply = ask(live, *offers)
        assert reply.status == 400
        assert b"subprotocols" in reply.body
        assert reply["Upgrade"] is None and reply[FIELD] is None and reply["Sec-WebSocket-Accept"] is None
        assert reply["Connection"] == "close"
    if callbacks == "thread":
        live.ask()  # whatever came before it has been called by now
        assert live.app.drain() == []
        assert agree(live, "c, b") == "b"
    assert live.server.clients == 0


def test_requests_are_not_asked_for_one(serve: Serve) -> None:
    live = serve(Speaker(), subprotocols=["a"], requires_subprotocol=True)
    assert live.ask("GET", "/").body == b"plain"
    assert live.ask("GET", "/", f"{FIELD}: b").body == b"plain"


def test_nothing_behind_a_refused_handshake_is_a_frame(serve: Serve) -> None:
    live = serve(Speaker(), subprotocols=["a"], requires_subprotocol=True)
    with live.connect() as client:
        client.send(handshake(), frame(TEXT, b"hello"), request())
        assert client.receive_last_reply().status == 400
    live.ask()
    assert live.app.drain() == []


def test_guard_decides_about_what_is_agreed_on(serve: Serve) -> None:
    seen: list[tuple[str, str | None]] = []

    def on_headers(req: portico.Request) -> dict[str, Any] | None:
        seen.append((req.path, req.headers.get("sec-websocket-protocol")))
        return None if req.path == "/in" else {"status": 403, "body": "no"}

    app: Any = Speaker()
    app.on_headers = on_headers
    live = serve(app, subprotocols=["a"], requires_subprotocol=True)
    reply = ask(live, "a, b", target="/out")
    assert (reply.status, reply.body, reply[FIELD]) == (403, b"no", None)
    reply = ask(live, "a, b", target="/in")
    assert (reply.status, reply[FIELD]) == (101, "a")
    assert ask(live, "b", target="/in").status == 400
    assert ask(live, "b", target="/out").status in (400, 403)
    assert seen[:2] == [("/out", "a, b"), ("/in", "a, b")]
    assert app.recorder.next() == ("/in", "a")
    assert live.app.drain() == []


@pytest.mark.parametrize(
    "offers",
    [
        ["a, a"],
        ["a", "a"],
        ["a", "b, a"],
        ["x, x, a"],
        [""],
        [","],
        ["a", ""],
        ["a b"],
        ["a;b"],
        ['"a"'],
        ["a, b\x80"],
        ["ä"],
        ["a\x01"],
        ["a/b"],
        ["a=b"],
        ["a, (b)"],
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"subprotocols": ["a"]}, {"subprotocols": ["a"], "requires_subprotocol": True}]
)
def test_garbage_is_refused(serve: Serve, offers: list[str], options: dict[str, Any]) -> None:
    live = serve(Speaker(), **options)
    assert ask(live, *offers).status == 400
    live.ask()
    assert live.app.drain() == []


def test_thousands_of_names_on_both_sides(serve: Serve) -> None:
    live = serve(Speaker(), subprotocols=[f"s{index}" for index in range(500)] + ["c4999"])
    assert agree(live, ", ".join(f"c{index}" for index in range(5000))) == "c4999"


def test_known_in_a_coroutine_and_after_the_end(serve: Serve) -> None:
    sockets: list[WebSocket] = []

    async def on_ws_open(ws: WebSocket) -> None:
        sockets.append(ws)
        await asyncio.sleep(0)
        ws.send(str(ws.subprotocol))

    live = serve({"on_ws_open": on_ws_open}, subprotocols=["a", "b"])
    for offer, chosen in (("b", "b"), ("b, a", "a"), ("c", None)):
        with live.open("/", f"{FIELD}: {offer}") as ws:
            assert ws.receive_text() == str(chosen)
            assert ws.close() == (1000, "")
    live.server.stop(DEADLINE_S)
    live.server.wait_closed()
    assert [ws.subprotocol for ws in sockets] == ["b", "a", None]


def test_websockets_client(serve: Serve) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    live = serve(Speaker(), subprotocols=["b", "a"], requires_subprotocol=True)
    url = live.server.url.replace("http", "ws")
    offered = [Subprotocol(name) for name in ("x", "a", "b")]
    with connect(url, subprotocols=offered, open_timeout=DEADLINE_S) as ws:
        assert ws.subprotocol == "b"
        ws.send("which?")
        assert ws.recv(DEADLINE_S) == "b"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, subprotocols=offered[:1], open_timeout=DEADLINE_S)
    assert refused.value.response.status_code == 400


def test_aiohttp_client(serve: Serve) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    live = serve(Speaker(), subprotocols=["b", "a"])

    async def talk() -> None:
        async with aiohttp.ClientSession(live.server.url) as session:
            for offered, chosen in ((("x", "a"), "a"), (("a", "b"), "b"), ((), None)):
                async with session.ws_connect("/", protocols=offered) as ws:
                    assert ws.protocol == chosen
                    await ws.send_str("which?")
                    assert await ws.receive_str(timeout=DEADLINE_S) == str(chosen)

    asyncio.run(talk())


def test_options_are_checked() -> None:
    app: Any = Speaker()
    for wrong in ("chat", 1, None, [1], [None]):
        with pytest.raises(TypeError):
            portico.start_server("127.0.0.1", 0, app, True, subprotocols=wrong)
    for bad in ([""], ["a b"], ["a", "a"], ["ä"], ["a,b"], ["a\r\nX: y"]):
        with pytest.raises(ValueError):
            portico.start_server("127.0.0.1", 0, app, True, subprotocols=bad)
    with pytest.raises(ValueError, match="requires_subprotocol"):
        portico.start_server("127.0.0.1", 0, app, True, requires_subprotocol=True)
