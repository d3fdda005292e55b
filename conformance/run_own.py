"""Our own equivalent of the Autobahn test suite, for where no CPython 2.7 is to be had: the same cases and numbers.

Stricter in one thing: every ending must be a close frame with a right code and the server's end of the connection,
where Autobahn is also content with a dropped one. Less in another: 12.* and 13.* send a tenth of the messages.
Run by run_autobahn.py, or with its `--own`.
"""

from __future__ import annotations

import contextlib
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from suite import CASES, SHORT_CASES, Result, describe, echo_server, report, run_each
from websockets.exceptions import WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from live.wire_client import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocketClient, close_payload, frame

PAUSE_S = 0.3
DEFLATE_MESSAGES = 100
KIB, MIB = 1024, 1024 * 1024

HELLO = b"Hello, world!"
NORMAL, PROTOCOL, UTF8, NO_CODE = 1000, 1002, 1007, 1005
NAMES = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong"}

Event = tuple[str, bytes]
WAITED: Event = ("nothing for a while", b"")


@dataclass(frozen=True)
class Case:
    """What we say, in segments and pauses; what must come back, in order; and how it must end."""

    name: str
    steps: tuple[bytes | float, ...]
    expected: tuple[Event, ...] = ()
    codes: tuple[int, ...] = (NORMAL,)
    closes: bool = True
    """We say goodbye when everything came. False: the steps did, or the server has to."""
    rounds: int = 1
    is_informational: bool = False


# The tables


def chop(data: bytes, size: int) -> tuple[bytes, ...]:
    return tuple(data[at : at + size] for at in range(0, len(data), size))


def fragments(payload: bytes, size: int, opcode: int = TEXT) -> Iterator[bytes]:
    """The payload in frames of at most `size` bytes."""
    for at in range(0, max(1, len(payload)), size):
        last = at + size >= len(payload)
        yield frame(CONTINUATION if at else opcode, payload[at : at + size], fin=last)


def text(payload: bytes) -> tuple[Event, ...]:
    return (("text", payload),)


def pongs(*payloads: bytes) -> tuple[Event, ...]:
    return tuple(("pong", payload) for payload in payloads)


def refused(name: str, *steps: bytes | float, expected: tuple[Event, ...] = (), code: int = PROTOCOL) -> Case:
    """The server has to end it, with this code."""
    return Case(name, steps, expected, (code,), closes=False)


def framing() -> Iterator[Case]:
    for group, opcode, byte in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for number, length in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            message = frame(opcode, byte * length)
            yield Case(f"1.{group}.{number}", (message,), ((NAMES[opcode], byte * length),))
        yield Case(f"1.{group}.8", chop(message, 997), ((NAMES[opcode], byte * length),))


def pings() -> Iterator[Case]:
    ten = [b"payload-%d" % number for number in range(10)]
    ten_frames = b"".join(frame(PING, payload) for payload in ten)
    longest, unsolicited = b"\xfe" * 125, frame(PONG, b"unsolicited pong payload")
    goodbye = frame(CLOSE, close_payload(NORMAL))
    yield Case("2.1", (frame(PING),), pongs(b""))
    yield Case("2.2", (frame(PING, HELLO),), pongs(HELLO))
    yield Case("2.3", (frame(PING, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),), pongs(b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))
    yield Case("2.4", (frame(PING, longest),), pongs(longest))
    yield refused("2.5", frame(PING, b"\xfe" * 126))
    yield Case("2.6", chop(frame(PING, longest), 1), pongs(longest))
    yield Case("2.7", (frame(PONG) + goodbye,), closes=False)
    yield Case("2.8", (unsolicited + goodbye,), closes=False)
    yield Case("2.9", (unsolicited + frame(PING, b"ping payload"),), pongs(b"ping payload"))
    yield Case("2.10", (ten_frames,), pongs(*ten))
    yield Case("2.11", chop(ten_frames, 1), pongs(*ten))


def reserved_bits() -> Iterator[Case]:
    hello, ping = frame(TEXT, HELLO), frame(PING)
    yield refused("3.1", frame(TEXT, HELLO, rsv=1))
    yield refused("3.2", hello + frame(TEXT, HELLO, rsv=2) + ping, expected=text(HELLO))
    yield refused("3.3", hello, frame(TEXT, HELLO, rsv=3), ping, expected=text(HELLO))
    yield refused("3.4", *chop(hello + frame(TEXT, HELLO, rsv=4) + ping, 1), expected=text(HELLO))
    yield refused("3.5", frame(BINARY, HELLO, rsv=5))
    yield refused("3.6", frame(BINARY, HELLO, rsv=6))
    yield refused("3.7", frame(CLOSE, rsv=7))


def opcodes() -> Iterator[Case]:
    hello, ping = frame(TEXT, HELLO), frame(PING)
    for group, first in ((1, 3), (2, 11)):
        yield refused(f"4.{group}.1", frame(first))
        yield refused(f"4.{group}.2", frame(first + 1, b"reserved opcode payload"))
        yield refused(f"4.{group}.3", hello + frame(first + 2) + ping, expected=text(HELLO))
        yield refused(f"4.{group}.4", hello + frame(first + 3, HELLO) + ping, expected=text(HELLO))
        yield refused(f"4.{group}.5", *chop(hello + frame(first + 4, HELLO) + ping, 1), expected=text(HELLO))


def fragmentation() -> Iterator[Case]:
    first, second = frame(TEXT, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2")
    unfinished = frame(CONTINUATION, b"fragment3", fin=False)
    ping, both = frame(PING, b"ping payload"), text(b"fragment1fragment2")
    number = count(3)
    yield refused("5.1", frame(PING, b"fragment1", fin=False) + second)
    yield refused("5.2", frame(PONG, b"fragment1", fin=False) + second)
    for frames, expected in (((first, second), both), ((first, ping, second), pongs(b"ping payload") + both)):
        for steps in _three_ways(frames):
            yield Case(f"5.{next(number)}", steps, expected)
    for fin in (True, False):
        for steps in _three_ways((frame(CONTINUATION, b"lost", fin=fin), frame(TEXT, HELLO))):
            yield refused(f"5.{next(number)}", *steps)
    yield refused("5.15", first + second + unfinished + frame(TEXT, b"fragment4"), expected=both)
    yield refused("5.16", (unfinished + first + second) * 2)
    yield refused("5.17", (frame(CONTINUATION, b"fragment3") + first + second) * 2)
    yield refused("5.18", first + frame(TEXT, b"fragment2"))
    early = (first, unfinished, frame(PING, b"1"))
    late = (unfinished, unfinished, frame(PING, b"2"), second)
    whole = text(b"fragment1" + b"fragment3" * 3 + b"fragment2")
    expected = (*pongs(b"1"), WAITED, *pongs(b"2"), *whole)
    yield Case("5.19", (b"".join(early), PAUSE_S, b"".join(late)), expected)
    yield Case("5.20", (*early, PAUSE_S, *late), expected)


def _three_ways(frames: tuple[bytes, ...]) -> Iterator[tuple[bytes, ...]]:
    """In one segment, frame by frame, byte by byte."""
    yield (b"".join(frames),)
    yield frames
    yield chop(b"".join(frames), 1)


GREEK = "κ\u1f79σμε".encode()  # its accented letter has three bytes, the others two
SURROGATES = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80"]
LAST_MISSING = [
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
]
# 6.5 to 6.23; Python's decoder says which of them are valid.
UTF8_TEXTS: list[list[bytes]] = [
    [*(f"hello{letter}world".encode() for letter in "$¢€𤭢"), GREEK],
    [GREEK[:size] for size in range(1, len(GREEK) + 1)],
    [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"],
    [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)), bytes(range(0x80, 0xBF))],
    [
        b"".join(b"%c " % byte for byte in range(first, last))
        for first, last in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    LAST_MISSING,
    [b"".join(LAST_MISSING)],
    [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    [*SURROGATES, b"\xed\xbf\xbf"],
    [high + low for high in SURROGATES[:4] for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")],
    [chr(plane << 16 | end).encode() for plane in range(17) for end in (0xFFFE, 0xFFFF)],
    [chr(letter).encode() for letter in range(0xFFF9, 0x10000)],
]


def utf8() -> Iterator[Case]:
    payload = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    bad = GREEK + b"\xed\xa0\x80edited"
    yield Case("6.1.1", (frame(TEXT),), text(b""))
    yield Case("6.1.2", _fragmented(b"", b"", b""), text(b""))
    yield Case("6.1.3", _fragmented(b"", b"middle frame payload", b""), text(b"middle frame payload"))
    yield Case("6.2.1", (frame(TEXT, payload),), text(payload))
    yield Case("6.2.2", _fragmented(payload[:15], payload[15:]), text(payload))
    yield Case("6.2.3", tuple(fragments(payload, 1)), text(payload))
    yield Case("6.2.4", tuple(fragments(GREEK, 1)), text(GREEK))
    yield refused("6.3.1", frame(TEXT, bad), code=UTF8)
    yield refused("6.3.2", *fragments(bad, 1), code=UTF8)
    # What makes it invalid comes after a pause; the refusal must come before the rest does.
    number = count(1)
    for cuts in ((11, 15), (12, 13)):
        parts = _cut(GREEK + b"\xf4\x90\x80\x80edited", cuts)
        yield _fail_fast(f"6.4.{next(number)}", _fragmented(*parts))
    for cuts in ((11, 15), (12, 13)):
        whole = frame(TEXT, GREEK + b"\xf4\x90\x80\x80edited")
        head = len(whole) - 21
        yield _fail_fast(f"6.4.{next(number)}", _cut(whole, (head + cuts[0], head + cuts[1])))
    for group, texts in enumerate(UTF8_TEXTS, 5):
        for item, octets in enumerate(texts, 1):
            name, message = f"6.{group}.{item}", frame(TEXT, octets)
            yield Case(name, (message,), text(octets)) if _is_utf8(octets) else refused(name, message, code=UTF8)


def _fragmented(*parts: bytes) -> tuple[bytes, ...]:
    last = len(parts) - 1
    return tuple(frame(CONTINUATION if at else TEXT, part, fin=at == last) for at, part in enumerate(parts))


def _cut(data: bytes, cuts: tuple[int, int]) -> tuple[bytes, ...]:
    return data[: cuts[0]], data[cuts[0] : cuts[1]], data[cuts[1] :]


def _fail_fast(name: str, parts: tuple[bytes, ...]) -> Case:
    first, second, third = parts
    return refused(name, first, PAUSE_S, second, PAUSE_S, third, expected=(WAITED,), code=UTF8)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def closing() -> Iterator[Case]:
    goodbye, hello = frame(CLOSE, close_payload(NORMAL)), frame(TEXT, HELLO)
    yield Case("7.1.1", (hello,), text(HELLO))
    yield Case("7.1.2", (goodbye + frame(CLOSE),), closes=False)
    yield Case("7.1.3", (goodbye + frame(PING),), closes=False)
    yield Case("7.1.4", (goodbye + hello,), closes=False)
    yield Case("7.1.5", (frame(TEXT, b"1", fin=False) + goodbye + frame(CONTINUATION, b"2"),), closes=False)
    much = frame(TEXT, b"BAsd7&jh23" * 26214 + b"BAsd") + hello + goodbye + frame(PING)
    yield Case("7.1.6", (much,), closes=False, is_informational=True)
    bad_reason = close_payload(NORMAL, GREEK + b"\xed\xa0\x80edited")
    for name, payload, codes in (
        ("7.3.1", b"", (NORMAL, NO_CODE)),
        ("7.3.2", b"a", (PROTOCOL,)),
        ("7.3.3", close_payload(NORMAL), (NORMAL,)),
        ("7.3.4", close_payload(NORMAL, HELLO), (NORMAL,)),
        ("7.3.5", close_payload(NORMAL, b"*" * 123), (NORMAL,)),
        ("7.3.6", close_payload(NORMAL, b"*" * 124), (PROTOCOL,)),
        ("7.5.1", bad_reason, (PROTOCOL, UTF8)),
    ):
        yield Case(name, (frame(CLOSE, payload),), codes=codes, closes=False)
    good = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    for number, code in enumerate(good, 1):
        yield Case(f"7.7.{number}", (frame(CLOSE, close_payload(code)),), codes=(NORMAL, code), closes=False)
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield refused(f"7.9.{number}", frame(CLOSE, close_payload(code)))
    for number, code in enumerate((5000, 65535), 1):
        yield Case(f"7.13.{number}", (frame(CLOSE, close_payload(code)),), closes=False, is_informational=True)


def sizes() -> Iterator[Case]:
    kinds = ((TEXT, b"*"), (BINARY, b"\xfe"))
    for group, (opcode, byte) in enumerate(kinds, 1):
        for number, length in enumerate((64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB), 1):
            yield Case(f"9.{group}.{number}", (frame(opcode, byte * length),), ((NAMES[opcode], byte * length),))
    for group, (opcode, byte) in enumerate(kinds, 3):
        for number in range(9):
            message = b"".join(fragments(byte * (4 * MIB), 64 << 2 * number, opcode))
            yield Case(f"9.{group}.{number + 1}", (message,), ((NAMES[opcode], byte * (4 * MIB)),))
    for group, (opcode, byte) in enumerate(kinds, 5):
        for number in range(6):
            steps = chop(frame(opcode, byte * MIB), 64 << number)
            yield Case(f"9.{group}.{number + 1}", steps, ((NAMES[opcode], byte * MIB),))
    for group, (opcode, byte) in enumerate(kinds, 7):
        for number, length in enumerate((0, 16, 64, 256, 1024, 4096), 1):
            echo = ((NAMES[opcode], byte * length),)
            yield Case(f"9.{group}.{number}", (frame(opcode, byte * length),), echo, rounds=1000)


def auto_fragmentation() -> Iterator[Case]:
    payload = b"*" * 65536
    yield Case("10.1.1", tuple(fragments(payload, 1300)), text(payload))


TABLES: tuple[Callable[[], Iterator[Case]], ...] = (
    framing,
    pings,
    reserved_bits,
    opcodes,
    fragmentation,
    utf8,
    closing,
    sizes,
    auto_fragmentation,
)


# The player


def play(case: Case, port: int) -> Result:
    received: list[Event] = []
    close, came = "FAILED", "no close"
    try:
        with WebSocketClient(("127.0.0.1", port)) as client:
            code, is_uncalled_for = converse(client, case, received)
            close = "FAILED" if is_uncalled_for else "OK" if code in case.codes else "WRONG CODE"
            came = f"close {code}"
            if rest := client.receive_rest():
                close, came = "UNCLEAN", f"{came} and {rest[:40]!r}"
    except (OSError, EOFError, AssertionError) as error:  # AssertionError: what the client does not bear
        close, came = "FAILED" if close == "FAILED" else "UNCLEAN", f"{came}, {type(error).__name__}: {error}"
    behavior = "OK" if received == list(case.expected) * case.rounds else "FAILED"
    if case.is_informational:
        behavior = close = "INFORMATIONAL"
    expected = f"{_show(case.expected)}, then close {' or '.join(map(str, case.codes))}"
    return Result(case.name, behavior, close, expected, f"{_show(received)}, then {came}")


def converse(client: WebSocketClient, case: Case, received: list[Event]) -> tuple[int, bool]:
    """Say and hear everything; return the server's close code, and whether it closed when that was not its business."""
    for turn in range(case.rounds):
        with contextlib.suppress(ConnectionError):  # a server that has heard enough may hang up while we go on
            for step in case.steps:
                if isinstance(step, bytes):
                    client.send(step)
                elif (code := listen(client, received, seconds=step)) is not None:
                    return code, case.closes
                else:
                    received.append(WAITED)
        if case.closes and (code := listen(client, received, len(case.expected) * (turn + 1))) is not None:
            return code, True
    if case.closes:
        client.send_frame(CLOSE, close_payload(NORMAL))
    code = listen(client, received)
    assert code is not None
    return code, False


def listen(
    client: WebSocketClient, received: list[Event], wanted: float = math.inf, seconds: float | None = None
) -> int | None:
    """Hear until that much came, or that time is over; a close frame ends it, and its code is returned."""
    deadline = time.monotonic() + (seconds or 0)
    while len(received) < wanted:
        if seconds is not None and client.is_silent(max(0, deadline - time.monotonic())):
            return None
        got = client.receive_frame()
        if got.opcode == CLOSE:
            return int.from_bytes(got.payload[:2], "big") if got.payload else NO_CODE
        opcode, parts = got.opcode, [got.payload]
        while not got.fin:
            got = client.receive_frame()
            parts.append(got.payload)
        received.append((NAMES.get(opcode, f"opcode {opcode}"), b"".join(parts)))
    return None


def _show(events: Sequence[Event]) -> str:
    shown = [f"{kind} {payload[:24]!r} ({len(payload)} bytes)" if payload else kind for kind, payload in events[:12]]
    return ", ".join(shown) + (" …" if len(events) > 12 else "") or "nothing"


# Compression: the other side is the websockets library's


@dataclass(frozen=True)
class DeflateCase:
    name: str
    offers: tuple[tuple[bool, int | None], ...]
    """What the server is asked for, best first: server_no_context_takeover, server_max_window_bits."""
    data: str | bytes
    length: int
    fragment: int


# Message size, and the size of its fragments; 0: not fragmented.
DEFLATE_SIZES = [
    *((16 << shift, 0) for shift in (0, 2, 4, 6, 8, 9, 10, 11, 12, 13)),
    *((8 * KIB << shift, 256) for shift in range(5)),
    *((128 * KIB, fragment) for fragment in (1 * KIB, 4 * KIB, 32 * KIB)),
]
DEFLATE_OFFERS: list[tuple[tuple[bool, int | None], ...]] = [
    ((False, None),),
    ((True, None),),
    ((False, 9),),
    ((False, 15),),
    ((True, 9),),
    ((True, 15),),
    ((True, 9), (True, None), (False, None)),
]


def deflate_data() -> list[str | bytes]:
    """Like Autobahn's: JSON, a bitmap, prose, HTML, and what does not compress; 256 KiB each, the same in each run."""
    chance, size = random.Random(13), 256 * KIB
    words = ["".join(chance.choices("etaoinshrdlucmfw", k=chance.randint(2, 9))) for _ in range(2000)]
    records = [
        f'{{"id": {number}, "name": "{chance.choice(words)}", "score": {chance.random()}}},' for number in range(6000)
    ]
    rows = [f'<tr><td class="é">{chance.choice(words)}</td><td>{chance.randint(0, 99)}</td></tr>' for _ in range(6000)]
    bitmap = bytes(at // 97 + chance.randint(0, 3) & 0xFF for at in range(size))
    prose = " ".join(chance.choices(words, k=60000)).encode()
    found: list[str | bytes] = ["".join(records), bitmap, prose, "".join(rows), chance.randbytes(size)]
    assert all(len(data) >= size for data in found)
    return [data[:size] for data in found]


def deflate_cases() -> Iterator[DeflateCase]:
    data = deflate_data()
    for group, kind in enumerate(data, 1):
        for number, (length, fragment) in enumerate(DEFLATE_SIZES, 1):
            yield DeflateCase(f"12.{group}.{number}", DEFLATE_OFFERS[0], kind, length, fragment)
    for group, offers in enumerate(DEFLATE_OFFERS, 1):
        for number, (length, fragment) in enumerate(DEFLATE_SIZES, 1):
            yield DeflateCase(f"13.{group}.{number}", offers, data[0], length, fragment)


def play_deflate(case: DeflateCase, port: int) -> Result:
    factories = [
        ClientPerMessageDeflateFactory(server_no_context_takeover=no_takeover, server_max_window_bits=bits)
        for no_takeover, bits in case.offers
    ]
    expected = f"{DEFLATE_MESSAGES} messages of {case.length} as they were sent, then close {NORMAL}"
    behavior, came, code = "FAILED", "", None
    try:
        with connect(
            f"ws://127.0.0.1:{port}", extensions=factories, compression=None, proxy=None, ping_interval=None
        ) as ws:
            if ws.protocol.extensions:
                came = _echo_compressed(ws, case)
                behavior = "FAILED" if came else "OK"
            else:
                behavior, came = "UNIMPLEMENTED", "no extension agreed on"
        code = ws.protocol.close_code
    except (WebSocketException, OSError) as error:
        came = f"{type(error).__name__}: {error}"
    return Result(case.name, behavior, "OK" if code == NORMAL else "FAILED", expected, f"{came}, then close {code}")


def _echo_compressed(ws: ClientConnection, case: DeflateCase) -> str:
    """Send and compare one message after the other; return what was wrong."""
    at = 0
    for number in range(DEFLATE_MESSAGES):
        message = (case.data[at:] + case.data[:at])[: case.length]  # type: ignore[operator]
        at = (at + case.length) % len(case.data)
        if case.fragment:
            ws.send([message[start : start + case.fragment] for start in range(0, case.length, case.fragment)])
        else:
            ws.send(message)
        if (echo := ws.recv(timeout=30)) != message:
            return f"message {number} differs: {type(echo).__name__} of {len(echo)}, {echo[:24]!r} …"
    return ""


# A run


def run(pump: str, full: bool) -> bool:
    """Every case, one after the other, against one server. Whether all is well."""
    started = time.monotonic()
    with echo_server(pump) as port:
        results = [play(case, port) for table in TABLES for case in table()]
        results += [play_deflate(case, port) for case in deflate_cases()] if full else []
    return report(pump, results, CASES if full else SHORT_CASES, started)


def main(full: bool, pumps: Sequence[str], styles: Sequence[str]) -> bool:
    print(f"our own cases: {describe(full)}", flush=True)
    return run_each(run, full, pumps)
