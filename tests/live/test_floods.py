"""Attacks with many, long, slow or broken frames: each costs its own connection, and the server next to nothing.

Where memory is the question, the server is a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from portico import Limits

from .conftest import Live, Recorder, Serve
from .process import Program
from .wire_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Address,
    Client,
    Compressor,
    Frame,
    WebSocketClient,
    close_payload,
    frame,
    frame_head,
    handshake,
    wait_until,
)

MIB = 1 << 20
RSV1 = 4
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

SERVER = """
import json

closes = {}

def on_ws_open(ws):
    ws.on_message(lambda binary, message: ws.send(str(len(message))))
    ws.on_close(lambda: closes.update({ws.close_code: closes.get(ws.close_code, 0) + 1}))

options = eval(sys.argv[1], {"Limits": portico.Limits})
home = options.pop("home", "thread")
server = start({"on_ws_open": on_ws_open}, home, **options)
while input():
    descriptors = len(os.listdir("/proc/self/fd"))
    say(json.dumps({**server.stats(), "clients": server.clients, "closes": closes, "descriptors": descriptors}))
"""


class Target:
    """A server in a process of its own, that answers messages with their length."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.address: Address = program.address()

    def open(self, *lines: str, **options: Any) -> WebSocketClient:
        return WebSocketClient(self.address, "/", *lines, **options)

    def state(self) -> dict[str, Any]:
        """Its counters, and how its connections have ended."""
        self.program.tell("state")
        state: dict[str, Any] = json.loads(self.program.line())
        assert state["panics"] == 0
        return state

    def wait_for(self, name: str, value: Any) -> None:
        wait_until(lambda: self.state()[name] == value, f"{name} is {value!r}")

    def peak(self) -> int:
        return self.program.memory("VmHWM")

    def check_works(self) -> None:
        with self.open() as client:
            client.send_text("hello")
            assert client.receive_text() == "5"
            assert client.close() == (1000, "")


@contextlib.contextmanager
def target(options: str = "{}") -> Iterator[Target]:
    with Program(SERVER, options) as program:
        started = Target(program)
        started.check_works()
        yield started


def check_alive(live: Live) -> None:
    with live.open("/alive") as client:
        client.send_text("hello")
        assert client.receive_text() == "hello"
        assert client.close() == (1000, "")
    assert live.server.stats()["panics"] == 0


# Fragments


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_more_fragments_than_allowed(serve: Serve, payload: bytes) -> None:
    live = serve(Recorder(), limits=Limits(max_fragments=1000))
    piece = frame(CONTINUATION, payload, fin=False)
    with live.open() as client:
        client.send(frame(BINARY, payload, fin=False), piece * 998, frame(CONTINUATION, payload))
        assert client.receive_frame().payload == payload * 1000
        client.send(frame(BINARY, payload, fin=False), piece * 100_000)
        assert client.receive_end()[0] == 1008
    check_alive(live)


def test_a_message_in_65536_fragments(recorder: Live) -> None:
    with recorder.open() as client:
        pieces = [bytes([number & 0xFF]) for number in range(65_536)]
        frames = [frame(CONTINUATION, piece, fin=False) for piece in pieces[1:-1]]
        client.send(frame(BINARY, pieces[0], fin=False), *frames, frame(CONTINUATION, pieces[-1]))
        assert client.receive_frame() == Frame(BINARY, b"".join(pieces))
        assert client.close() == (1000, "")


@pytest.mark.parametrize("size", [1, 1000, 60_000])
def test_endless_continuations(serve: Serve, size: int) -> None:
    live = serve(Recorder(), limits=Limits(max_message_bytes=100_000))
    with live.open() as client:
        client.send(frame(BINARY, bytes(size), fin=False))
        client.send(frame(CONTINUATION, bytes(size), fin=False) * (1_000_000 // size))
        assert client.receive_end()[0] == 1009
    check_alive(live)


def test_fragments_with_pings_between_them(recorder: Live) -> None:
    with recorder.open() as client:
        client.send(frame(TEXT, b"x", fin=False), (frame(PING) + frame(CONTINUATION, b"y", fin=False)) * 5000)
        for _ in range(5000):
            assert client.receive_frame() == Frame(PONG, b"")
        client.send(frame(CONTINUATION))
        assert client.receive_text() == "x" + "y" * 5000


# Pings


def test_a_ping_flood_by_a_client_that_does_not_read() -> None:
    with target("{'limits': Limits(max_outbox_bytes=65536)}") as it, it.open(receive_buffer_bytes=4096) as client:
        before = it.peak()
        count = 200_000
        pings = [frame(PING, b"%08d" % number + bytes(100)) for number in range(count)]
        for start in range(0, count, 1000):  # 23 MB: more than the system keeps of the pongs
            client.send(*pings[start : start + 1000])
        it.check_works()
        numbers = []
        while not numbers or numbers[-1] < count - 1:  # the newest is answered in any case
            got = client.receive_frame()
            assert (got.opcode, len(got.payload)) == (PONG, 108)
            numbers.append(int(got.payload[:8]))
        assert numbers == sorted(set(numbers))
        assert len(numbers) < count
        client.send_text("hello")
        assert client.receive_text() == "5"
        client.send_frame(PING, b"and this one")
        assert client.receive_frame() == Frame(PONG, b"and this one")
        assert client.close() == (1000, "")
        assert it.peak() - before < 4 * MIB


# Compression bombs


def bomb(size: int) -> bytes:
    """A message of zeros, a thousandth of its size; whole mebibytes."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return (block * (size // MIB))[:-4]


def in_fragments(payload: bytes, count: int) -> bytes:
    step = len(payload) // count + 1
    pieces = [payload[start : start + step] for start in range(0, len(payload), step)]
    first = frame(BINARY, pieces[0], fin=False, rsv=RSV1)
    return (
        first
        + b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:-1])
        + frame(CONTINUATION, pieces[-1])
    )


@pytest.mark.parametrize("fragments", [1, 1000])
def test_bombs_one_after_the_other(fragments: int) -> None:
    payload = bomb(1 << 30)
    assert len(payload) < (1 << 30) // 900
    data = frame(BINARY, payload, rsv=RSV1) if fragments == 1 else in_fragments(payload, fragments)
    with target("{'deflate': True}") as it:
        before = it.peak()
        for _ in range(20):
            with it.open(DEFLATE) as client:
                client.send(data)
                assert client.receive_end()[0] == 1009
        assert it.peak() - before < 64 * MIB
        it.check_works()


def test_bombs_at_once() -> None:
    data = frame(BINARY, bomb(1 << 30), rsv=RSV1)
    with target("{'deflate': True, 'limits': Limits(max_message_bytes=1 << 20)}") as it:
        before = it.peak()
        clients = [it.open(DEFLATE) for _ in range(20)]
        for client in clients:
            client.send(data)
        for client in clients:
            assert client.receive_end()[0] == 1009
            client.socket.close()
        assert it.peak() - before < 64 * MIB
        it.check_works()


def test_small_bombs_fill_the_inbox_as_what_they_become() -> None:
    """Each is a message that is allowed, and nobody takes them."""
    with Program(SERVER, "{'home': 'service', 'deflate': True}") as program:
        it = Target(program)
        with it.open(DEFLATE) as client:
            before = it.peak()
            client.send(frame(BINARY, bomb(MIB), rsv=RSV1) * 2000)
            it.wait_for("messages", 16)  # max_inbox_bytes
            assert client.is_silent(0.2)
            assert it.state()["messages"] == 16
            assert it.peak() - before < 32 * MIB


def test_bytes_that_inflate_to_nothing_are_bounded(serve: Serve) -> None:
    live = serve(Recorder(), deflate=True, limits=Limits(max_message_bytes=100_000))
    with live.open("/", DEFLATE) as client:
        client.send(frame_head(BINARY, 1000, fin=False, rsv=RSV1), masked_empty_blocks(200))
        for _ in range(200):
            client.send(frame_head(CONTINUATION, 1000, fin=False), masked_empty_blocks(200))
        assert client.receive_end()[0] == 1009
    check_alive(live)


def masked_empty_blocks(count: int) -> bytes:
    """Stored blocks of nothing."""
    whole = frame(BINARY, b"\x00\x00\x00\xff\xff" * count)
    return whole[len(frame_head(BINARY, 5 * count)) :]


def test_what_bombs_beside_it_cost_another_connection(serve: Serve) -> None:
    """It has its turn between the pieces of them."""
    live = serve(Recorder(), deflate=True, limits=Limits(max_message_bytes=1 << 30))
    data = frame(TEXT, bomb(256 * MIB)[:-100], rsv=RSV1, fin=False)
    with live.open("/bomb", DEFLATE) as client, live.open("/other") as other:
        client.send(data)
        slowest = 0.0
        for number in range(50):
            began = time.monotonic()
            other.send_text(f"{number}")
            assert other.receive_text() == f"{number}"
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        client.reset()


# Lengths that are announced


@pytest.mark.parametrize(
    ("length", "code"), [(1 << 63, 1002), ((1 << 64) - 1, 1002), ((1 << 63) - 1, 1009), (1 << 40, 1009)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
@pytest.mark.parametrize("rsv", [0, RSV1])
def test_absurd_lengths(serve: Serve, opcode: int, rsv: int, length: int, code: int) -> None:
    live = serve(Recorder(), deflate=bool(rsv))
    with live.open("/", DEFLATE) as client:
        client.send(frame_head(opcode, length, size=8, rsv=rsv), b"x")
        assert client.receive_end()[0] == (1002 if opcode == PING else code)
    check_alive(live)


def test_what_is_announced_takes_no_memory() -> None:
    """200 connections, each in a frame of 16 MiB of which 700 bytes come: heads of more such frames."""
    with target() as it:
        before = it.peak()
        clients = [it.open() for _ in range(200)]
        heads = frame_head(BINARY, 16 * MIB) * 50
        for client in clients:
            client.send(heads)
        wait_until(lambda: it.state()["clients"] == 200, "all of them")
        it.check_works()
        assert it.peak() - before < 16 * MIB
        for client in clients:
            client.socket.close()
        it.wait_for("clients", 0)
        it.wait_for("closes", {"1000": 2, "1006": 200})


# Slowness


def test_bytes_that_come_one_by_one(recorder: Live) -> None:
    with recorder.open() as client:
        client.send_bytewise(frame(TEXT, b"slow"))
        assert client.receive_text() == "slow"
        client.send_bytewise(frame(TEXT, b"a" * 200, fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b" * 100))
        assert client.receive_frame() == Frame(PONG, b"p")
        assert client.receive_text() == "a" * 200 + "b" * 100
        client.send_bytewise(frame(CLOSE, close_payload(4000, b"bye")))
        assert client.receive_end()[0] == 4000


def test_compressed_bytes_that_come_one_by_one(serve: Serve) -> None:
    live = serve(Recorder(), deflate=True)
    text = "slowly, slowly and slowly " * 20
    with live.open("/", DEFLATE) as client:
        client.send_bytewise(frame(TEXT, Compressor()(text.encode()), rsv=RSV1))
        assert client.receive_text() == text


def test_a_handshake_that_drips(hasty: Live) -> None:
    """One byte now and then does not keep it."""
    data = handshake("/drip")
    with hasty.connect() as client:
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in data:
                client.socket.send(bytes([byte]))
                if not client.is_silent(0.02):
                    break
        assert 0.15 < time.monotonic() - began < 2
        assert client.receive_reply().status == 408
        assert client.receive_rest() == b""
    assert hasty.app.drain() == []


# Leaving in the middle


MIDDLES = {
    "handshake": b"",
    "head": frame(TEXT, b"hello")[:1],
    "frame": frame(TEXT, b"hello" * 100)[:-20],
    "fragments": frame(TEXT, b"hello", fin=False),
    "compressed frame": frame(BINARY, bomb(2 * MIB)[:1000], fin=False, rsv=RSV1)[:-20],
    "compressed fragments": frame(BINARY, bomb(2 * MIB)[:1000], fin=False, rsv=RSV1),
    "close": frame(CLOSE, close_payload(1000))[:-1],
    "ping": frame(PING, b"ping")[:-1],
}


def test_resets_in_the_middle_of_everything() -> None:
    with target("{'deflate': True}") as it:
        descriptors = it.state()["descriptors"]
        count = 30
        for name, data in MIDDLES.items():
            for index in range(count):
                if name == "handshake":
                    raw = Client(it.address)
                    raw.send(handshake()[: 20 + 3 * index])
                    raw.reset()
                else:
                    client = it.open(DEFLATE)
                    client.send(data)
                    if index % 3 == 2:
                        client.end()  # without an RST
                    client.reset()
        it.wait_for("clients", 0)
        it.wait_for("descriptors", descriptors)
        assert it.state()["closes"] == {"1000": 1, "1006": count * (len(MIDDLES) - 1)}
        it.check_works()


def test_10_000_connections_one_after_the_other() -> None:
    """Rapid connects and closes leave nothing behind."""
    with target() as it:
        data = handshake() + frame(CLOSE, close_payload(1000))

        def connect(count: int) -> None:
            for _ in range(count):
                with Client(it.address) as client:
                    client.socket.sendall(data)
                    while received := client.socket.recv(4096):
                        last = received
                    assert last.endswith(b"\x88\x02\x03\xe8")

        connect(500)
        it.wait_for("clients", 0)
        wait_until(lambda: it.state()["descriptors"] < 20, "nobody lingers")
        descriptors, memory = it.state()["descriptors"], it.program.memory()
        connect(9_500)
        it.wait_for("clients", 0)
        wait_until(lambda: it.state()["descriptors"] <= descriptors, "no descriptor is left")
        assert it.program.memory() - memory < 4 * MIB
        state = it.state()
        assert state["closes"] == {"1000": 10_001}
        assert state["accepted"] == 10_001


# Garbage


@pytest.mark.parametrize("kind", ["bytes", "frames", "compressed"])
def test_garbage_after_the_handshake(serve: Serve, kind: str) -> None:
    live = serve(Recorder(), deflate=True, limits=Limits(max_message_bytes=100_000, close_timeout_s=0.5))
    seeds = random.Random(kind)
    for _ in range(200):
        with live.open("/garbage", DEFLATE) as client:
            with contextlib.suppress(ConnectionError):
                client.send(garbage(seeds, kind))
            client.end()
            with contextlib.suppress(EOFError):
                while (got := client.receive_frame()).opcode != CLOSE:
                    assert got.opcode in (TEXT, BINARY, PONG)
                code = int.from_bytes(got.payload[:2], "big")
                assert code in (1002, 1007, 1009), code
                assert client.receive_rest() == b""
    check_alive(live)
    wait_until(lambda: live.server.clients == 0, "all have ended")


def garbage(seeds: random.Random, kind: str) -> bytes:
    noise = seeds.randbytes(seeds.randrange(1, 4000))
    match kind:
        case "bytes":
            return noise
        case "frames":  # right frames in any order, with anything in them
            frames = []
            for _ in range(seeds.randrange(1, 10)):
                opcode = seeds.choice([CONTINUATION, TEXT, BINARY, BINARY, PING, PONG, seeds.randrange(16)])
                payload = noise[: seeds.randrange(125)]
                frames.append(frame(opcode, payload, fin=seeds.random() < 0.8, rsv=seeds.choice([0, 0, 0, 1, 2])))
            return b"".join(frames)
        case _:  # nearly right compressed messages
            payload = bytearray(Compressor()(noise * seeds.randrange(1, 50)))
            for _ in range(seeds.randrange(4)):
                payload[seeds.randrange(len(payload))] ^= 1 << seeds.randrange(8)
            return frame(seeds.choice([TEXT, BINARY]), bytes(payload), rsv=RSV1)


def test_garbage_instead_of_a_handshake(recorder: Live) -> None:
    seeds = random.Random(7)
    for _ in range(100):
        with recorder.connect() as client:
            with contextlib.suppress(ConnectionError):
                client.send(b"GET / HTTP/1.1\r\n" if seeds.random() < 0.5 else b"", seeds.randbytes(500))
            client.end()
            rest = client.receive_rest()
            assert rest == b"" or rest.startswith(b"HTTP/1.1 4"), rest
    check_alive(recorder)


def test_the_server_has_no_descriptors_left_over(serve: Serve) -> None:
    """The same in this process: nothing of all that is open any more."""
    live = serve(Recorder(), deflate=True)
    check_alive(live)
    wait_until(lambda: live.server.clients == 0, "the first has ended")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with live.open("/", DEFLATE) as client:
            client.send(frame(TEXT, b"\xff"))
            assert client.receive_end()[0] == 1007
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before, "all descriptors are closed")
