"""permessage-deflate (RFC 7692) on real sockets: what is agreed on, what leaves compressed, what may come."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import portico
from portico import Deflate, SendResult
from portico.websocket_connection import WebSocket

from .conftest import Live, Recorder, Serve, Sockets
from .wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEADLINE_S,
    PING,
    PONG,
    TEXT,
    Compressor,
    Frame,
    Inflater,
    WebSocketClient,
    close_payload,
    frame,
    frame_head,
    handshake,
)

pytestmark = pytest.mark.over_tls

FIELD = "Sec-WebSocket-Extensions"
PLAIN = "permessage-deflate"
NO_TAKEOVER = f"{PLAIN}; server_no_context_takeover; client_no_context_takeover"
TAKEOVER = Deflate(min_bytes=1, context_takeover=True)
EAGER = Deflate(min_bytes=1)
RSV1 = 4
PROSE = ("Compression pays where things repeat, and what people write to each other repeats a lot. " * 100).encode()


def connect(live: Live, *offers: str, target: str = "/") -> WebSocketClient:
    return live.open(target, *(f"{FIELD}: {offer}" for offer in offers))


def agree(live: Live, *offers: str) -> str | None:
    """What the server answers to these offers, each in a field of its own; the connection works afterwards."""
    with connect(live, *offers) as ws:
        answers = ws.reply.get_all(FIELD)
        assert len(answers) <= 1
        for text in ("short", "long " * 100):
            ws.send_text(text)
            assert receive(ws, Inflater()) == text if answers else ws.receive_text() == text
        assert ws.close() == (1000, "")
    return answers[0] if answers else None


def receive(ws: WebSocketClient, inflate: Callable[[bytes], bytes]) -> str | bytes:
    """One message, compressed or not."""
    got = ws.receive_frame()
    assert got.fin and got.opcode in (TEXT, BINARY) and got.rsv in (0, RSV1), (got.opcode, got.fin, got.rsv)
    data = inflate(got.payload) if got.rsv else got.payload
    return data.decode() if got.opcode == TEXT else data


# What is agreed on


@pytest.fixture(scope="module")
def servers() -> Any:
    """Servers by their options, each started when it is first needed."""
    started: dict[object, Live] = {}

    def get(deflate: bool | Deflate) -> Live:
        if deflate not in started:
            app = Recorder()
            server = portico.start_server("127.0.0.1", 0, app, True, callbacks="thread", deflate=deflate)
            started[deflate] = Live(server, app)
        return started[deflate]

    yield get
    for live in started.values():
        live.server.stop()
        live.server.wait_closed()


def test_off_unless_asked_for(recorder: Live) -> None:
    assert agree(recorder, PLAIN) is None
    assert agree(recorder, f"{PLAIN}; client_max_window_bits") is None


def test_true_is_the_defaults(serve: Serve) -> None:
    live = serve(Recorder(), deflate=True)
    with connect(live, PLAIN) as ws:
        assert ws.reply.get_all(FIELD) == [NO_TAKEOVER]
        ws.send_text("x" * 859, "x" * 860)
        assert ws.receive_frame() == Frame(TEXT, b"x" * 859)
        assert ws.receive_frame().rsv == RSV1
        ws.close()
    assert agree(serve(Recorder(), deflate=False), PLAIN) is None


def test_nothing_is_answered_that_was_not_offered(servers: Any) -> None:
    assert agree(servers(EAGER)) is None
    assert agree(servers(EAGER), "x-webkit-deflate-frame", "permessage-bzip2") is None


ANSWERS = [
    # Deflate(…), what is offered behind the name, what is answered behind it
    (EAGER, "; server_no_context_takeover", ""),
    (EAGER, "; client_no_context_takeover", ""),
    (EAGER, ";client_no_context_takeover;server_no_context_takeover", ""),
    (EAGER, "; client_max_window_bits", ""),
    (EAGER, "; client_max_window_bits=15", ""),
    (EAGER, "; client_max_window_bits; server_max_window_bits=15", "; server_max_window_bits=15"),
    *((EAGER, f"; server_max_window_bits={bits}", f"; server_max_window_bits={bits}") for bits in range(8, 16)),
    *((EAGER, f"; client_max_window_bits={bits}", f"; client_max_window_bits={bits}") for bits in range(8, 15)),
    (EAGER, '; server_max_window_bits="10"', "; server_max_window_bits=10"),
    (EAGER, '; client_max_window_bits="1\\2"', "; client_max_window_bits=12"),
    (
        EAGER,
        "; server_max_window_bits=9; client_max_window_bits=9",
        "; server_max_window_bits=9; client_max_window_bits=9",
    ),
    (Deflate(min_bytes=1, window_bits=11), "", ""),
    (Deflate(min_bytes=1, window_bits=11), "; client_max_window_bits", "; client_max_window_bits=11"),
    (Deflate(min_bytes=1, window_bits=11), "; client_max_window_bits=13", "; client_max_window_bits=11"),
    (Deflate(min_bytes=1, window_bits=11), "; client_max_window_bits=10", "; client_max_window_bits=10"),
    (Deflate(min_bytes=1, window_bits=11), "; server_max_window_bits=13", "; server_max_window_bits=11"),
    (Deflate(min_bytes=1, window_bits=11), "; server_max_window_bits=9", "; server_max_window_bits=9"),
]


@pytest.mark.parametrize(("deflate", "offer", "answer"), ANSWERS)
def test_answer_without_takeover(servers: Any, deflate: Deflate, offer: str, answer: str) -> None:
    assert agree(servers(deflate), PLAIN + offer) == NO_TAKEOVER + answer


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("", ""),
        ("; client_max_window_bits", ""),
        ("; server_no_context_takeover", "; server_no_context_takeover"),
        ("; client_no_context_takeover", "; client_no_context_takeover"),
        (
            "; server_max_window_bits=8; client_max_window_bits=9",
            "; server_max_window_bits=8; client_max_window_bits=9",
        ),
        (
            "; client_max_window_bits=9; client_no_context_takeover; server_no_context_takeover",
            "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9",
        ),
    ],
)
def test_answer_with_takeover(servers: Any, offer: str, answer: str) -> None:
    assert agree(servers(TAKEOVER), PLAIN + offer) == PLAIN + answer


DECLINED = [
    "unknown",
    "unknown=1",
    "Server_Max_Window_Bits=10",
    "server_no_context_takeover=1",
    'client_no_context_takeover="x"',
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits; client_max_window_bits=10",
    "server_max_window_bits=10; server_max_window_bits=10",
    *(
        f"server_max_window_bits={bits}"
        for bits in ("0", "7", "16", "08", "010", "+9", "-9", "1e1", "0x9", "256", "9" * 30)
    ),
    *(f"client_max_window_bits={bits}" for bits in ("0", "7", "16", "015", "x", "265")),
    'server_max_window_bits="7"',
]


@pytest.mark.parametrize("params", DECLINED)
def test_offers_that_cannot_be_honoured_are_passed_over(servers: Any, params: str) -> None:
    live = servers(EAGER)
    assert agree(live, f"{PLAIN}; {params}") is None
    assert (
        agree(live, f"{PLAIN}; {params}, {PLAIN}; server_max_window_bits=12")
        == f"{NO_TAKEOVER}; server_max_window_bits=12"
    )


@pytest.mark.parametrize(
    "offers",
    [
        ["x-first; a=b", f"{PLAIN}; server_max_window_bits=10"],
        [f"{PLAIN}; server_max_window_bits=99", f"{PLAIN}; server_max_window_bits=10"],
        [f"{PLAIN}; server_max_window_bits=10, {PLAIN}; server_max_window_bits=9", PLAIN],
        [f'x; y="a\\b" , ,{PLAIN}\t;\tserver_max_window_bits=10 ,'],
        ["x" * 4000, f"{PLAIN}; server_max_window_bits=10"],
    ],
)
def test_first_offer_that_can_be_honoured_wins(servers: Any, offers: list[str]) -> None:
    assert agree(servers(EAGER), *offers) == f"{NO_TAKEOVER}; server_max_window_bits=10"


MALFORMED = [
    ";",
    "=",
    f"{PLAIN};",
    f"{PLAIN}; ;",
    f"{PLAIN}; =10",
    f"{PLAIN}; server_max_window_bits=",
    f"{PLAIN}; server_max_window_bits=10 11",
    f'{PLAIN}; server_max_window_bits=""',
    f'{PLAIN}; server_max_window_bits="10',
    f'{PLAIN}; server_max_window_bits="10"1',
    f'{PLAIN}; server_max_window_bits="1 0"',
    f'{PLAIN}; server_max_window_bits="10\\"',
    f"{PLAIN} client_max_window_bits",
    f"{PLAIN}/1",
    f"{PLAIN}, p\xe4rmessage",
    f"{PLAIN}; \x80=1",
    '"permessage-deflate"',
]


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("value", MALFORMED)
def test_what_is_no_list_of_extensions_is_refused(servers: Any, value: str, is_on: bool) -> None:
    live = servers(EAGER if is_on else False)
    for lines in ([f"{FIELD}: {value}"], [f"{FIELD}: {PLAIN}", f"{FIELD}: {value}"]):
        with live.connect() as client:
            client.send(handshake("/malformed", *lines))
            reply = client.receive_reply()
            assert (reply.status, FIELD.encode() in reply.body) == (400, True)
    live.settle()
    assert live.app.drain() == []


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("value", ["", ",", " , ,"])
def test_empty_list_of_extensions_is_refused(servers: Any, value: str, is_on: bool) -> None:
    with servers(EAGER if is_on else False).connect() as client:
        client.send(handshake("/", f"{FIELD}: {value}"))
        assert client.receive_reply().status == 400


def test_endless_offers_are_linear(servers: Any) -> None:
    for value in (
        f"{PLAIN}; a, " * 3000 + PLAIN,
        f"{PLAIN}; {'a;' * 20_000} a, {PLAIN}",
        f"{' ' * 50_000}{PLAIN}",
        "," * 50_000 + PLAIN,
        f'x; y="{"a" * 50_000}", {PLAIN}',
    ):
        began = time.monotonic()
        assert agree(servers(EAGER), value) == NO_TAKEOVER
        assert time.monotonic() - began < 1


def test_guard_comes_before_the_answer(serve: Serve) -> None:
    def on_headers(req: portico.Request) -> dict[str, Any] | None:
        return None if req.path == "/in" else {"status": 403}

    app = Recorder()
    live = serve({"on_headers": on_headers, "on_ws_open": app.on_ws_open}, deflate=EAGER)
    with live.connect() as client:
        client.send(handshake("/out", f"{FIELD}: {PLAIN}"))
        reply = client.receive_reply()
        assert (reply.status, reply[FIELD]) == (403, None)
    with connect(live, PLAIN, target="/in") as ws:
        assert ws.reply[FIELD] == NO_TAKEOVER
        ws.send_frame(TEXT, Compressor()(PROSE), rsv=RSV1)
        assert receive(ws, Inflater()) == PROSE.decode()
        ws.close()


# What we send


def test_min_bytes_is_exact(servers: Any) -> None:
    with connect(servers(Deflate(min_bytes=100)), PLAIN) as ws:
        ws.send_text("x" * 99, "x" * 100, "é" * 49, "é" * 50)
        assert ws.receive_frame() == Frame(TEXT, b"x" * 99)
        got = ws.receive_frame()
        assert (got.rsv, got.opcode, len(got.payload) < 20, Inflater()(got.payload)) == (RSV1, TEXT, True, b"x" * 100)
        assert ws.receive_frame() == Frame(TEXT, "é".encode() * 49)  # bytes count, not characters
        assert Inflater()(ws.receive_frame().payload) == "é".encode() * 50
        ws.close()


def test_min_bytes_of_nothing_sends_empty_messages_too(servers: Any) -> None:
    with connect(servers(Deflate(min_bytes=0)), PLAIN) as ws:
        for opcode in (TEXT, BINARY):
            ws.send_frame(opcode)
            ws.send_frame(opcode, b"x")
            assert [ws.receive_frame(), ws.receive_frame()] == [Frame(opcode, b""), Frame(opcode, b"x")]
        ws.close()


@pytest.mark.parametrize("size", [100, 5000, 70_000, 300_000])
@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER], ids=["alone", "takeover"])
def test_what_does_not_shrink_goes_as_it_is(servers: Any, deflate: Deflate, size: int) -> None:
    data = os.urandom(size)
    inflate = Inflater(keeps_context=deflate.context_takeover)
    with connect(servers(deflate), PLAIN) as ws:
        for payload in (PROSE, data, PROSE, data, data, PROSE):
            ws.send_frame(BINARY, payload)
        assert receive(ws, inflate) == PROSE
        # The compressor has seen what the client gets plain, and must not refer to it.
        assert ws.receive_frame() == Frame(BINARY, data)
        assert receive(ws, inflate) == PROSE
        assert [receive(ws, inflate) for _ in range(2)] == [data, data]
        assert receive(ws, inflate) == PROSE
        ws.close()


@pytest.mark.parametrize("level", [1, 6, 9])
@pytest.mark.parametrize("bits", range(8, 16))
def test_nothing_reaches_further_back_than_agreed(servers: Any, bits: int, level: int) -> None:
    # Repeats at every distance around the window's edge. The client has only that much to copy from.
    noise = random.Random(bits).randbytes
    size = 1 << bits
    repeat = noise(40)
    data = (
        b"".join(repeat + noise(max(0, size - 40 + shift)) for shift in (-300, -40, -1, 0, 1, 40)) + b"x" * 600 + repeat
    )
    live = servers(Deflate(min_bytes=1, level=level, context_takeover=True))
    with connect(live, f"{PLAIN}; server_max_window_bits={bits}") as ws:
        inflate = Inflater(bits, keeps_context=True)
        for payload in (data, b"y" * 1000 + repeat, data):
            ws.send_frame(BINARY, payload)
            got = ws.receive_frame()
            if got.rsv:
                assert inflate(got.payload, 1 if len(payload) < 10_000 else 100) == payload
            else:
                assert got.payload == payload
        ws.close()


def test_own_window_is_kept_when_the_client_asks_for_none(servers: Any) -> None:
    with connect(servers(Deflate(min_bytes=1, window_bits=9)), PLAIN) as ws:
        ws.send_frame(BINARY, PROSE)
        assert Inflater(9)(ws.receive_frame().payload, 1) == PROSE
        ws.close()


@pytest.mark.parametrize(
    ("deflate", "params", "is_shorter"),
    [(TAKEOVER, "", True), (TAKEOVER, "; server_no_context_takeover", False), (EAGER, "", False)],
)
def test_context_takeover(servers: Any, deflate: Deflate, params: str, is_shorter: bool) -> None:
    text = os.urandom(300).hex()
    with connect(servers(deflate), PLAIN + params) as ws:
        inflate = Inflater(keeps_context=is_shorter)
        sizes = []
        for _ in range(3):
            ws.send_text(text)
            got = ws.receive_frame()
            assert (got.rsv, inflate(got.payload).decode()) == (RSV1, text)
            sizes.append(len(got.payload))
        assert max(sizes[1:]) < sizes[0] / 10 if is_shorter else sizes[0] == sizes[1] == sizes[2]
        ws.close()


@pytest.mark.parametrize("between", ["plain", "broadcast", "long", "published"])
def test_context_survives_what_others_get_too(serve: Serve, between: str) -> None:
    app = Sockets()
    live = serve(app, deflate=Deflate(min_bytes=20, context_takeover=True))
    with connect(live, PLAIN) as ws:
        ours = app.take()
        ours.subscribe("all")
        inflate = Inflater(keeps_context=True)
        text = os.urandom(300).hex()
        for turn in range(4):
            assert ours.send(text) is SendResult.SENT
            assert receive(ws, inflate) == text
            assert ours.send(text) is SendResult.SENT
            got = ws.receive_frame()
            assert inflate(got.payload).decode() == text and len(got.payload) < 50  # it does refer back
            other = f"{turn} to all " + text[::-1]
            match between:
                case "plain":
                    other = "too short"
                    ours.send(other)
                case "broadcast":
                    assert live.server.broadcast(other) == 1
                case "long":
                    other = (other + text) * 80
                    assert len(other) > 65536 and ours.send(other) is SendResult.SENT
                case "published":
                    assert live.server.publish("all", other) == 1
            assert receive(ws, inflate) == other
        assert app.recorder.drain() == []
        ws.close()


def test_dropped_messages_are_not_referred_to(serve: Serve) -> None:
    # A slow client gets only the newest messages; none of them may need one that it did not get.
    app = Sockets()
    live = serve(
        app,
        deflate=TAKEOVER,
        slow_client="drop_oldest",
        limits=portico.Limits(max_outbox_bytes=200_000),
    )
    noise = os.urandom(15_000).hex().encode()
    with live.open("/", f"{FIELD}: {PLAIN}", receive_buffer_bytes=4096) as ws:
        ours = app.take()
        rng = random.Random(1)
        count = 0
        while live.server.stats()["dropped"] < 20:
            start = rng.randrange(15_000)
            ours.send(noise[start : start + 15_000] + b"%d" % count)
            count += 1
            assert count < 100_000
        ours.send(b"last")
        inflate = Inflater(keeps_context=True)
        seen = [receive(ws, inflate)]
        while seen[-1] != b"last":
            seen.append(receive(ws, inflate))
        assert len(seen) < count
        for message in seen[:-1]:
            assert isinstance(message, bytes) and message[:15_000] in noise
        numbers = [int(message[15_000:]) for message in seen[:-1]]
        assert numbers == sorted(numbers) and numbers[-1] == count - 1


def test_new_messages_that_were_dropped_are_not_referred_to(serve: Serve) -> None:
    app = Sockets()
    limits = portico.Limits(max_outbox_bytes=200_000)
    live = serve(app, deflate=TAKEOVER, slow_client="drop_new", limits=limits)
    noise = os.urandom(15_000)
    with live.open("/", f"{FIELD}: {PLAIN}", receive_buffer_bytes=4096) as ws:
        ours = app.take()
        plug = os.urandom(60_000)
        sent = 0
        while ours.send(plug) is SendResult.SENT:
            sent += 1
            assert sent < 10_000
        while ours.send(noise) is SendResult.SENT:  # fills what the plugs left free
            sent += 1
        inflate = Inflater(keeps_context=True)
        for _ in range(sent):
            assert receive(ws, inflate) in (plug, noise)
        assert ours.wait_drained(DEADLINE_S)
        assert ours.send(noise) is SendResult.SENT
        assert receive(ws, inflate) == noise
        ws.close()


# What comes


def fragments(payload: bytes, *cuts: int, between: bytes = b"", opcode: int = BINARY) -> bytes:
    """One compressed message in several frames."""
    edges = [0, *sorted(cuts), len(payload)]
    frames = []
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        is_last = index == len(edges) - 2
        first = {"opcode": opcode, "rsv": RSV1} if index == 0 else {"opcode": CONTINUATION}
        frames.append(frame(payload=payload[start:end], fin=is_last, **first))
    return between.join(frames)


@pytest.mark.parametrize("keeps_context", [False, True])
def test_compressed_messages_in_every_shape(servers: Any, keeps_context: bool) -> None:
    live = servers(TAKEOVER if keeps_context else EAGER)
    live.settle()
    compress = Compressor(keeps_context=keeps_context)
    inflate = Inflater(keeps_context=keeps_context)
    with connect(live, PLAIN) as ws:
        for round in range(2):
            for text in (PROSE, b"", b"x", "€😀".encode() * 500):
                ws.send(frame(TEXT, compress(text), rsv=RSV1))
                assert receive(ws, inflate) == text.decode()
                payload = compress(text)
                ws.send(fragments(payload, 0, 0, 1, len(payload) // 2, len(payload), opcode=TEXT))
                assert receive(ws, inflate) == text.decode()
                ws.send_bytewise(frame(TEXT, compress(text), rsv=RSV1))
                assert receive(ws, inflate) == text.decode()
                payload = compress(text)
                ping = frame(PING, b"%d" % round)
                cuts = range(1, len(payload), 7)
                ws.send(fragments(payload, *cuts, between=ping, opcode=TEXT))
                for _ in cuts:
                    assert ws.receive_frame() == Frame(PONG, b"%d" % round)
                assert receive(ws, inflate) == text.decode()
                ws.send_text("not compressed")  # RFC 7692 §6: message by message
                assert receive(ws, inflate) == "not compressed"
        ws.close()
    assert live.app.next()[0] == "open"
    assert live.app.next() == ("text", PROSE.decode())


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_clients_window(servers: Any, bits: int) -> None:
    compress = Compressor(bits, keeps_context=True)
    inflate = Inflater(keeps_context=True)
    with connect(servers(TAKEOVER), f"{PLAIN}; client_max_window_bits={bits}") as ws:
        data = os.urandom(1 << bits)
        for payload in (PROSE + data, data + PROSE, PROSE, data[:200]):
            ws.send_frame(BINARY, compress(payload), rsv=RSV1)
            assert receive(ws, inflate) == payload
        ws.close()


def stored(data: bytes, *, is_final: bool = False) -> bytes:
    """A deflate block that is not compressed."""
    size = len(data)
    return bytes([is_final]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


@pytest.mark.parametrize("keeps_context", [False, True])
def test_blocks_as_no_compressor_makes_them(servers: Any, keeps_context: bool) -> None:
    # RFC 7692 §7.2.3: blocks that are not compressed, empty ones, a final one in the middle or at the end.
    final = zlib.compressobj(6, zlib.DEFLATED, -15)
    ended = final.compress(b"ended") + final.flush()
    inflate = Inflater(keeps_context=keeps_context)
    with connect(servers(TAKEOVER if keeps_context else EAGER), PLAIN) as ws:
        for payload, expected in [
            (stored(b"Hello") + b"\0", b"Hello"),
            (stored(b"Hel") + stored(b"") * 1000 + stored(b"lo") + b"\0", b"Hello"),
            (stored(b"Hello", is_final=True) + b"\0", b"Hello"),
            (ended + b"\0", b"ended"),
            (ended + Compressor()(b"and again"), b"endedand again"),
            (ended * 3 + b"\0", b"ended" * 3),
            (b"\0", b""),
            (b"", b""),
            (Compressor()(PROSE), PROSE),
        ]:
            ws.send_frame(BINARY, payload, rsv=RSV1)
            assert receive(ws, inflate) == expected
        ws.close()


def fail(live: Live, data: bytes, code: int, *offers: str) -> str:
    """`data` ends the connection with `code`; others go on. Returns the reason that Python hears."""
    live.settle()
    with connect(live, *(offers or [PLAIN]), target="/bad") as ws:
        ws.send(data)
        assert ws.receive_end()[0] == code
    while (call := live.app.next())[0] != "close":
        pass
    assert call[1][0] == code
    assert agree(live, PLAIN) is not None
    return str(call[1][1])


whole = Compressor()(PROSE)
BROKEN = {
    "RSV1 on a continuation": (
        frame(TEXT, whole[:9], fin=False, rsv=RSV1) + frame(CONTINUATION, whole[9:], rsv=RSV1),
        1002,
    ),
    "RSV1 on a continuation of a plain message": (
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, whole, rsv=RSV1),
        1002,
    ),
    "RSV1 on a ping": (frame(PING, whole[:9], rsv=RSV1), 1002),
    "RSV1 on a pong": (frame(PONG, whole[:9], rsv=RSV1), 1002),
    "RSV1 on a close": (frame(CLOSE, close_payload(1000), rsv=RSV1), 1002),
    "RSV2": (frame(TEXT, whole, rsv=RSV1 | 2), 1002),
    "RSV3": (frame(TEXT, whole, rsv=RSV1 | 1), 1002),
    "RSV1 on a reserved opcode": (frame(3, whole, rsv=RSV1), 1002),
    "a reserved kind of block": (frame(BINARY, b"\x07" + b"x" * 20, rsv=RSV1), 1007),
    "noise": (frame(BINARY, b"\xff" * 50, rsv=RSV1), 1007),
    "plain text as if compressed": (frame(TEXT, PROSE[:500], rsv=RSV1), 1007),
    "a message cut off": (frame(BINARY, whole[: len(whole) // 2], rsv=RSV1), 1007),
    "a message cut off in the second fragment": (
        frame(BINARY, whole[:10], fin=False, rsv=RSV1) + frame(CONTINUATION, whole[10:-5]),
        1007,
    ),
    "a reference to nothing": (frame(BINARY, zlib.compress(b"")[2:3] + b"\x13\xff", rsv=RSV1), 1007),
    "a wrong length of a block": (frame(BINARY, b"\0\x05\0\xff\xff" + b"Hello", rsv=RSV1), 1007),
    "text that is not UTF-8": (frame(TEXT, Compressor()(b"a\xff"), rsv=RSV1), 1007),
    "text cut inside a character": (frame(TEXT, Compressor()("€".encode()[:2]), rsv=RSV1), 1007),
    "a surrogate": (frame(TEXT, Compressor()(b"\xed\xa0\x80"), rsv=RSV1), 1007),
}


@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER], ids=["alone", "takeover"])
@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN)
def test_broken_compression_ends_the_connection(servers: Any, data: bytes, code: int, deflate: Deflate) -> None:
    fail(servers(deflate), data, code)


def test_reference_to_an_earlier_message_without_takeover_is_corrupt(servers: Any) -> None:
    compress = Compressor(keeps_context=True)
    first, second = (frame(BINARY, compress(PROSE), rsv=RSV1) for _ in range(2))
    with connect(servers(EAGER), PLAIN) as ws:
        ws.send(first)
        assert receive(ws, Inflater()) == PROSE
        ws.send(second)
        assert ws.receive_end()[0] == 1007


def test_reference_past_a_final_block_is_corrupt(servers: Any) -> None:
    compress = Compressor(keeps_context=True)
    first, second = compress(PROSE), compress(PROSE)
    with connect(servers(TAKEOVER), PLAIN) as ws:
        ws.send(frame(BINARY, first + b"\0\0\xff\xff" + b"\x03\0\0", rsv=RSV1))
        assert receive(ws, Inflater()) == PROSE
        ws.send(frame(BINARY, second, rsv=RSV1))
        assert ws.receive_end()[0] == 1007


def test_broken_text_fails_before_it_is_whole(servers: Any) -> None:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    bad = compressor.compress(b"a\xff") + compressor.flush(zlib.Z_SYNC_FLUSH)
    fail(servers(EAGER), frame_head(TEXT, 1000, rsv=RSV1) + frame(BINARY, bad)[6:], 1007)


LIMIT = 50_000


@pytest.fixture(scope="module")
def tight() -> Any:
    limits = portico.Limits(max_message_bytes=LIMIT, max_fragments=8)
    app = Recorder()
    server = portico.start_server(
        "127.0.0.1", 0, app, True, callbacks="thread", limits=limits, deflate=Deflate(min_bytes=1)
    )
    yield Live(server, app)
    server.stop()
    server.wait_closed()


def test_message_limit_is_that_of_what_comes_out(tight: Live) -> None:
    with connect(tight, PLAIN) as ws:
        for data in (b"x" * LIMIT, b"x" * (LIMIT - 1), os.urandom(LIMIT)):  # the last is longer compressed
            ws.send_frame(BINARY, Compressor()(data), rsv=RSV1)
            assert receive(ws, Inflater()) == data
            payload = Compressor()(data)
            ws.send(fragments(payload, 10, len(payload) - 1))
            assert receive(ws, Inflater()) == data
        ws.close()
    tight.settle()
    for data in (b"x" * (LIMIT + 1), b"x" * 50_000_000, os.urandom(LIMIT + 1)):
        for opcode in (BINARY, TEXT) if data[0] == 120 else (BINARY,):
            payload = Compressor()(data)
            assert "max_message_bytes" in fail(tight, frame(opcode, payload, rsv=RSV1), 1009)
            assert "max_message_bytes" in fail(tight, fragments(payload, 5, opcode=opcode), 1009)
    fail(tight, frame_head(BINARY, 2 * LIMIT, rsv=RSV1), 1009)
    fail(tight, frame(BINARY, stored(b"") * 20_000, rsv=RSV1), 1009)  # nothing comes out, and it is work all the same
    fail(tight, frame(BINARY, b"", fin=False, rsv=RSV1) + frame(CONTINUATION, b"", fin=False) * 8, 1008)


def test_bombs_do_not_keep_others_waiting(serve: Serve) -> None:
    # 16 MiB out of 16 KiB, from many clients at once.
    live = serve(Recorder(), deflate=True, limits=portico.Limits(max_message_bytes=16 << 20))
    bomb = frame(BINARY, Compressor(level=9)(bytes(17 << 20)), rsv=RSV1)
    assert len(bomb) < 20_000
    clients = [connect(live, PLAIN) for _ in range(20)]
    try:
        with live.open("/other") as other:
            for client in clients:
                client.send(bomb)
            for _ in range(20):
                other.send_frame(PING, b"alive?")
                assert other.receive_frame() == Frame(PONG, b"alive?")
            other.close()
        for client in clients:
            assert client.receive_end()[0] == 1009
    finally:
        for client in clients:
            client.socket.close()


# To many

MIXED = [
    ("", 15, False),
    (PLAIN, 15, True),
    (f"{PLAIN}; server_max_window_bits=9", 9, True),
    (f"{PLAIN}; server_no_context_takeover", 15, False),
    (f"{PLAIN}; server_max_window_bits=9; server_no_context_takeover", 9, False),
    (f"{PLAIN}; server_max_window_bits=8", 8, True),
]


@pytest.mark.parametrize("how", ["broadcast", "publish"])
def test_one_message_for_all_kinds_of_clients(serve: Serve, how: str) -> None:
    app = Sockets()
    live = serve(app, deflate=Deflate(min_bytes=50, context_takeover=True))
    clients: list[tuple[WebSocketClient, Inflater]] = []
    try:
        for index in range(50):
            offer, bits, keeps = MIXED[index % len(MIXED)]
            clients.append(
                (connect(live, *([offer] if offer else []), target=f"/{index}"), Inflater(bits, keeps_context=keeps))
            )
        for _ in clients:
            assert app.recorder.next()[0] == "open"
        for ws in app.opened.values():
            assert ws.subscribe("all")
        own = os.urandom(100).hex()
        messages: list[str | bytes] = [
            PROSE.decode(),
            b"short",
            os.urandom(1000),
            PROSE * 20,
            os.urandom(70_000),
            "ä" * 40_000,
        ]
        for message in messages:
            for ws in app.opened.values():
                assert ws.send(own) is SendResult.SENT
            count = live.server.broadcast(message) if how == "broadcast" else live.server.publish("all", message)
            assert count == 50
        for client, inflate in clients:
            for message in messages:
                assert receive(client, lambda payload, inflate=inflate: inflate(payload, 64)) == own  # type: ignore[misc]
                assert receive(client, inflate) == message
    finally:
        for client, _ in clients:
            client.socket.close()


# Long messages, which are compressed beside the reactor

SIZES = [10, 5000, 65_536, 65_537, 200_000, 50, 1_000_000, 10, 70_000, 20]


def make_messages(seed: int) -> list[str | bytes]:
    rng = random.Random(seed)
    messages: list[str | bytes] = []
    for index, size in enumerate(SIZES):
        noise = rng.randbytes(50 + size // 10).hex()
        text = f"{index} " + (noise * (size // len(noise) + 1))[: size - 2]
        messages.append(text if index % 2 else text.encode())
    return messages


def compare(ws: WebSocketClient, keeps_context: bool, expected: Sequence[str | bytes]) -> None:
    inflate = Inflater(keeps_context=keeps_context)
    for message in expected:
        got = receive(ws, inflate)
        assert got == message, (got[:10], message[:10])


@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER], ids=["alone", "takeover"])
def test_long_messages_there_and_back(servers: Any, deflate: Deflate) -> None:
    live = servers(deflate)
    messages = make_messages(1)
    compress = Compressor(keeps_context=deflate.context_takeover)
    with connect(live, PLAIN) as ws:
        frames = []
        for message in messages:
            payload = compress(message if isinstance(message, bytes) else message.encode())
            frames.append(fragments(payload, len(payload) // 3, opcode=BINARY if isinstance(message, bytes) else TEXT))
        sender = threading.Thread(target=ws.send, args=frames)
        sender.start()
        compare(ws, deflate.context_takeover, messages)
        sender.join()
        ws.close()
    live.settle()


@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER], ids=["alone", "takeover"])
def test_long_messages_keep_their_place_among_small_ones(serve: Serve, deflate: Deflate) -> None:
    messages = make_messages(2)

    def on_ws_open(ws: WebSocket) -> None:
        @ws.on_message
        def on_message(binary: bool, _: str | bytes) -> None:
            for message in messages:
                assert ws.send(message) is SendResult.SENT

    live = serve({"on_ws_open": on_ws_open}, deflate=deflate)
    with connect(live, PLAIN) as first, connect(live, PLAIN) as second, live.open() as plain:
        for _ in range(2):
            for client in (first, second, plain):
                client.send_text("go")
        for client in (first, second, plain):
            compare(client, deflate.context_takeover, messages * 2)
            client.close()


@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER], ids=["alone", "takeover"])
def test_long_messages_from_threads(serve: Serve, deflate: Deflate) -> None:
    app = Sockets()
    live = serve(app, deflate=deflate)
    with connect(live, PLAIN) as ws:
        ours = app.take()

        def talk(name: str) -> None:
            for message in make_messages(3):
                text = name + (message if isinstance(message, str) else message.decode())
                assert ours.send(text) is SendResult.SENT

        threads = [threading.Thread(target=talk, args=[name]) for name in "abc"]
        for thread in threads:
            thread.start()
        inflate = Inflater(keeps_context=deflate.context_takeover)
        got = [receive(ws, inflate) for _ in range(3 * len(SIZES))]
        for thread in threads:
            thread.join()
        for name in "abc":
            said = [message if isinstance(message, str) else message.decode() for message in make_messages(3)]
            assert [text[1:] for text in got if isinstance(text, str) and text[0] == name] == said
        ws.close()


def test_long_messages_in_a_loop() -> None:
    messages = make_messages(4)

    async def on_ws_open(ws: WebSocket) -> None:
        async for message in ws:
            assert ws.send(message) is SendResult.SENT
            await asyncio.sleep(0)
            assert ws.send("next") is SendResult.SENT

    def talk(live: Live) -> None:
        with connect(live, PLAIN) as ws:
            compress = Compressor(keeps_context=True)
            inflate = Inflater(keeps_context=True)
            for message in messages:
                is_text = isinstance(message, str)
                payload = compress(message.encode() if is_text else message)  # type: ignore[union-attr, arg-type]
                ws.send_frame(TEXT if is_text else BINARY, payload, rsv=RSV1)
            for message in messages:
                assert receive(ws, inflate) == message
                assert receive(ws, inflate) == "next"
            ws.close()

    async def main() -> None:
        async with portico.start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, True, deflate=TAKEOVER) as server:
            await asyncio.gather(*(asyncio.to_thread(talk, Live(server, None)) for _ in range(3)))

    asyncio.run(main())


def test_compressing_holds_neither_python_nor_the_others(serve: Serve) -> None:
    app = Sockets()
    live = serve(app, deflate=Deflate(level=9))
    long = (os.urandom(1 << 20).hex() * 4).encode()  # takes a good part of a second
    with connect(live, PLAIN) as ws, live.open("/other") as other:
        while len(app.opened) < 2:
            app.recorder.next()
        sender = threading.Thread(target=app.opened["/"].send, args=[long])
        began = time.monotonic()
        sender.start()
        answered = 0
        while sender.is_alive():
            other.send_text("still there?")  # from here to Python and back
            assert other.receive_text() == "still there?"
            answered += 1
        took = time.monotonic() - began
        sender.join()
        assert receive(ws, Inflater()) == long
        assert answered > 5 or took < 0.05
        ws.close()
        other.close()


# Clients that aren't ours


@pytest.mark.parametrize(
    "deflate", [EAGER, TAKEOVER, Deflate(min_bytes=1, window_bits=9, level=1, context_takeover=True)]
)
def test_websockets_client(servers: Any, deflate: Deflate) -> None:
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
    from websockets.sync.client import connect as connect_websockets

    live = servers(deflate)
    url = live.server.url.replace("http", "ws")
    messages: list[str | bytes] = ["text", PROSE.decode(), PROSE, "", "€" * 30_000, os.urandom(5000), PROSE * 10]
    combinations = [
        *itertools.product((False, True), (False, True), (None, 9, 15), (None, True, 9, 15)),
        (False, False, 8, None),
        (True, True, 8, None),
        (False, False, 12, 11),
    ]
    for server_no, client_no, server_bits, client_bits in combinations:
        factory = ClientPerMessageDeflateFactory(
            server_no_context_takeover=server_no,
            client_no_context_takeover=client_no,
            server_max_window_bits=server_bits,
            client_max_window_bits=client_bits,
        )
        with connect_websockets(url, extensions=[factory], compression=None, open_timeout=DEADLINE_S) as ws:
            assert [extension.name for extension in ws.protocol.extensions] == [PLAIN]
            for _ in range(2):
                for message in messages:
                    ws.send(message)
                    assert ws.recv(DEADLINE_S) == message
                ws.send(["in ", "frag", "ments"])
                assert ws.recv(DEADLINE_S) == "in fragments"
    live.settle()


@pytest.mark.parametrize("deflate", [EAGER, TAKEOVER])
def test_aiohttp_client(servers: Any, deflate: Deflate) -> None:
    aiohttp = pytest.importorskip("aiohttp")
    live = servers(deflate)
    messages = [PROSE, b"", os.urandom(5000), PROSE * 20, b"bytes"]

    async def talk() -> None:
        async with aiohttp.ClientSession(live.server.url) as session:
            for bits in (9, 12, 15):
                async with session.ws_connect("/library", compress=bits) as ws:
                    assert ws.compress == 15  # what the server leaves to it
                    for message in messages * 2:
                        await ws.send_bytes(message)
                        assert await ws.receive_bytes(timeout=DEADLINE_S) == message
                        await ws.send_str(message.hex())
                        assert await ws.receive_str(timeout=DEADLINE_S) == message.hex()

    asyncio.run(talk())
    live.settle()
