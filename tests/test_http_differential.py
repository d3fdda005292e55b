"""Two implementations of HTTP/1.1 must agree: ours and `h11`.

Random requests, whole and damaged, one after another and cut anywhere, go to `wire/examples/http_talk.rs` and to h11.
Whatever we take for a request, h11 must read the same from the same bytes: two readings of one request are how a second
one is smuggled past a proxy. Where one of them is known to refuse what the other takes, it is named here.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from damage import Change, damage, damages_with

pytestmark = pytest.mark.timeout(300)  # the first test may have to compile

ROOT = Path(__file__).resolve().parent.parent

Fields = list[tuple[bytes, bytes]]


@dataclass
class Read:
    """One request. `trailers` None: it is not complete. Names in lower case."""

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    keeps_alive: bool
    body: bytes = b""
    trailers: Fields | None = None


@dataclass
class Heard:
    """What one implementation made of a stream. refused: why it takes no more of it."""

    requests: list[Read] = field(default_factory=list)
    refused: str | None = None
    has_skipped: bool = False  # an empty line before a request


# ---- ours ----


class Talk:
    """One http_talk, for one conversation after the other."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0

    def hear(self, pieces: Sequence[bytes]) -> Heard:
        heard = Heard()
        self._say("new")
        for piece in pieces:
            self._say(f"in {piece.hex()}")
            self._listen(heard)
            if heard.refused is not None:
                break
        return heard

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _listen(self, heard: Heard) -> None:
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline().rstrip(b"\n")) != b".":
            match line.split(b" "):
                case [b"request", method, target, version, goes_on, fields]:
                    read = Read(method, target, version, split(fields), goes_on == b"keep")
                    heard.requests.append(read)
                case [b"empty"]:
                    heard.has_skipped = True
                case [b"body", data]:
                    heard.requests[-1].body += bytes.fromhex(data.decode())
                case [b"end", trailers]:
                    heard.requests[-1].trailers = split(trailers)
                case [b"error", _status, *why]:
                    heard.refused = b" ".join(why).decode()
                case _:
                    raise AssertionError(f"http_talk said {line!r}")


def split(block: bytes) -> Fields:
    lines = bytes.fromhex(block.decode()).split(b"\r\n")[:-1]
    fields = ((name.lower(), value) for name, _, value in (line.partition(b":") for line in lines))
    # h11 folds this one's case, too.
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields]


@pytest.fixture(scope="session")
def talk() -> Iterator[Talk]:
    if shutil.which("cargo") is None:
        pytest.skip("cargo is missing: http_talk cannot be built")
    command = ["cargo", "build", "--quiet", "-p", "portico-wire", "--example", "http_talk", "--target-dir", "target"]
    subprocess.run(command, cwd=ROOT, check=True)
    one = Talk(ROOT / "target/debug/examples/http_talk")
    yield one
    one.close()


# ---- h11 ----


def hear_h11(pieces: Sequence[bytes]) -> Heard:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    heard = Heard()
    try:
        for piece in pieces:
            if piece:  # nothing would be the end of the connection
                connection.receive_data(piece)
            while _take(connection, heard):
                pass
    except h11.RemoteProtocolError as error:
        heard.refused = str(error)
    return heard


def _take(connection: h11.Connection, heard: Heard) -> bool:
    """The next event. False: it needs more bytes, or reads no more of them."""
    event = connection.next_event()
    match event:
        case h11.Request():
            read = Read(event.method, event.target, event.http_version, list(event.headers), True)
            heard.requests.append(read)
        case h11.Data():
            heard.requests[-1].body += bytes(event.data)
        case h11.EndOfMessage():
            last = heard.requests[-1]
            last.trailers = list(event.headers)
            connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            last.keeps_alive = connection.our_state is h11.DONE
            if not last.keeps_alive:
                return False
            connection.start_next_cycle()
        case _:
            return False
    return True


# ---- agreement ----

# Where h11 is laxer: our reason to refuse, and what it is that h11 takes. All else that we refuse, it refuses too.
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LAXER = {
    # RFC 9112 §2.2 lets a reader take a bare LF for the end of a line; a proxy that doesn't reads another request.
    "a line ends in a bare LF, expected CR LF": GET[:-2] + b"\n\r\n",
    "something follows the HTTP version on the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "a header line has no colon": GET + b"\n",
    "a CR is not followed by LF": CHUNKED + b"0;\ra\r\n\r\n",
    # §5.2: an obs-fold must be refused or replaced by spaces; h11 replaces, also where that makes a value of none.
    "a header line begins with white space (obs-fold)": GET + b"A: b\r\n c\r\n\r\n",
    "Content-Length is not a row of digits": GET + b"Content-Length:\r\n 0\r\n\r\n",
    "Transfer-Encoding must be exactly chunked": GET + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    # §6.1, §6.3: two framings. Which one counts is a guess; h11 takes the coding, and a length that is there twice.
    "Content-Length together with Transfer-Encoding": CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "Content-Length is given more than once": GET + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "Transfer-Encoding in an HTTP/1.0 message": CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    "Content-Length, Transfer-Encoding or Host among the trailers": CHUNKED + b"0\r\nHost: b\r\n\r\n",
    # §7.1: white space behind a chunk's size.
    "a chunk size is not a row of hexadecimal digits": CHUNKED + b"0 \r\n\r\n",
    "a chunk extension has a control byte": CHUNKED + b"0;\x19\r\n\r\n",
    # RFC 9110 §5.5: NUL, CR and LF must be refused or replaced; we refuse all that speaks to terminals.
    "a header field value has a control byte": GET + b"A: \x1b[31m\r\n\r\n",
    # What can be no host or path poisons the URLs that applications build from it. h11 leaves that to them.
    "Host is not a host with an optional port": GET[:-2] + b"/b\r\n\r\n",
    "Host differs from the authority in the target": b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "the authority in the target is not a host with an optional port": b"GET http:// HTTP/1.0\r\n\r\n",
    "the target must be a path that begins with /, an http URL, or *": b"GET a HTTP/1.0\r\n\r\n",
    "the target * belongs to OPTIONS": b"GET * HTTP/1.0\r\n\r\n",
    "the request target has a fragment (#)": b"GET /# HTTP/1.0\r\n\r\n",
    # What there is no meaning for, rather than a wrong one.
    "the only expectation understood is 100-continue": GET + b"Expect: a\r\n\r\n",
    "the versions spoken here are HTTP/1.0 and HTTP/1.1": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "CONNECT is for proxies, this is a server": b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
    "the method is longer than 32 bytes": b"A" * 33 + GET[3:] + b"\r\n",
    # Limits: h11 has one, of what is incomplete.
    "more header fields than max_headers": GET + b"A: b\r\n" * 128 + b"\r\n",
    "the body is larger than max_body_bytes": GET + b"Content-Length: 1048577\r\n\r\n",
    "a chunk size has more than 16 digits": CHUNKED + b"0" * 17 + b"\r\n\r\n",
    "the chunk extensions are longer than 4096 bytes": CHUNKED + b"0;" + b"a" * 4100 + b"\r\n\r\n",
    "the chunks of the body are mostly framing": CHUNKED + b"0000000000000001\r\na\r\n" * 9000 + b"0\r\n\r\n",
    "more than 32 trailer fields": CHUNKED + b"0\r\n" + b"A: b\r\n" * 33 + b"\r\n",
}


def is_taken(ours: Heard, theirs: Heard) -> bool:
    """Whether h11 has made a request of what we refused; otherwise it only waits for more."""
    if len(theirs.requests) != len(ours.requests):
        return len(theirs.requests) > len(ours.requests)
    return bool(ours.requests) and ours.requests[-1].trailers is None and theirs.requests[-1].trailers is not None


def compare(talk: Talk, pieces: Sequence[bytes]) -> Heard:
    """What both made of it."""
    ours, theirs = talk.hear(pieces), hear_h11(pieces)
    for one, other in zip(ours.requests, theirs.requests, strict=False):
        # Which h11 leaves out, and we don't, is HTTP/1.0's keep-alive.
        keeps_alive = one.keeps_alive and one.version == b"1.1"
        is_whole = one.trailers is not None and other.trailers is not None
        expected = replace(one, keeps_alive=keeps_alive) if is_whole else one
        found = other if is_whole else replace(other, keeps_alive=one.keeps_alive, trailers=one.trailers, body=one.body)
        assert found == expected
        assert one.body.startswith(other.body) or other.body.startswith(one.body)
        if is_whole and not keeps_alive:
            return ours  # h11 reads no further
    if theirs.refused is not None and ours.refused is None:
        # §2.2: a server should skip an empty line before a request, which old clients send behind a body. h11 doesn't.
        told = ("no request line received", "illegal request line")
        assert ours.has_skipped and theirs.refused in told, f"h11 refuses it: {theirs.refused}"
    elif ours.refused is not None and theirs.refused is None and is_taken(ours, theirs):
        assert ours.refused in LAXER, f"h11 takes it; we: {ours.refused}"
    elif ours.refused is None:
        assert len(ours.requests) == len(theirs.requests)
    return ours


@pytest.mark.parametrize(("why", "data"), LAXER.items(), ids=LAXER)
def test_h11_is_laxer(talk: Talk, why: str, data: bytes) -> None:
    ours, theirs = talk.hear([data]), hear_h11([data])
    assert ours.refused == why
    assert theirs.refused is None and is_taken(ours, theirs)


def test_h11_is_stricter(talk: Talk) -> None:
    ours = talk.hear([b"\r\n" + GET + b"\r\n"])
    assert ours.refused is None and ours.has_skipped and len(ours.requests) == 1
    assert hear_h11([b"\r\n" + GET + b"\r\n"]).refused is not None


# ---- random requests ----

TOKEN = "!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz"
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS"]) | st.text(TOKEN, min_size=1, max_size=8).map(
    str.encode
)
targets = st.sampled_from([b"/", b"/a?b=c", b"http://localhost/x", b"/%2e%2e/", b"//a", b"/a\\b?c"]) | st.text(
    [chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"], max_size=20
).map(lambda text: b"/" + text.encode())
values = st.binary(max_size=20).map(lambda data: bytes(byte for byte in data if byte > 0x1F and byte != 0x7F))
known = st.sampled_from(
    [
        (b"Connection", b"close"),
        (b"Connection", b"keep-alive"),
        (b"connection", b"upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Expect", b"100-continue"),
        (b"Cookie", b"a=b; c=d"),
        (b"X-Empty", b""),
        (b"X-Blank", b" \t "),
    ]
)
fields = st.lists(known | st.tuples(st.text(TOKEN, min_size=1, max_size=10).map(str.encode), values), max_size=4)
chunk_extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b;c"', b"; a = b"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]))
    lines = [draw(methods) + b" " + draw(targets) + b" " + version, b"Host: localhost"]
    lines += [name + b":" + draw(st.sampled_from([b"", b" ", b"\t"])) + value for name, value in draw(fields)]
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    body = b""
    if framing == "length":
        body = draw(st.binary(max_size=40))
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks" and version == b"HTTP/1.1":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"])))
        for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3)):
            size = draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(data)
            body += size + draw(chunk_extensions) + b"\r\n" + data + b"\r\n"
        body += b"0\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in draw(fields)) + b"\r\n"
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


# What parsers stumble over more often than over any byte.
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"-", b"+", b"\x0b", b"\xff", b"#"]
PIECES += [b"\r\n\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b"HTTP/1.1"]
damages = damages_with(PIECES)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(at)]


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(requests(), min_size=1, max_size=3), places=st.lists(st.integers(0, 500), max_size=6))
def test_whole_requests_are_read_alike(talk: Talk, parts: list[bytes], places: list[int]) -> None:
    ours = compare(talk, cut(b"".join(parts), places))
    if ours.refused is None:
        assert len(ours.requests) == len(parts)
        assert all(read.trailers is not None for read in ours.requests[:1])


@settings(max_examples=500, deadline=None)
@given(
    parts=st.lists(requests(), min_size=1, max_size=2),
    changes=damages,
    places=st.lists(st.integers(0, 500), max_size=6),
)
def test_damaged_requests_are_read_alike_or_refused(
    talk: Talk, parts: list[bytes], changes: list[Change], places: list[int]
) -> None:
    compare(talk, cut(damage(b"".join(parts), changes), places))


@settings(max_examples=300, deadline=None)
@given(data=st.lists(st.sampled_from([b"GET / HTTP/1.1\r\nHost: a\r\n", b"a", *PIECES]), max_size=20).map(b"".join))
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n0")
def test_soup_is_read_alike_or_refused(talk: Talk, data: bytes) -> None:
    compare(talk, [data])
