"""Requests damaged at random: the server answers sensibly or not at all, in time, and serves the next client."""

from __future__ import annotations

import contextlib
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from damage import Change, damage, damages_with

from .conftest import Live
from .wire_client import frame, handshake, request

GOOD = [
    request("GET", "/a?b=c", "Accept: */*", "Cookie: a=b"),
    request("POST", "/a", "Content-Length: 5", body=b"hello"),
    request("POST", "/a", "Transfer-Encoding: chunked", body=b"5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    request("POST", "/a", "Content-Length: 5", "Expect: 100-continue", body=b"hello"),
    b"GET http://localhost/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    handshake() + frame(1, b"hello") + frame(9) + frame(8),
]
# What parsers stumble over more often than over any byte.
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"-1", b"ffffffffffffffff", b"\xff"]
PIECES += [b"\r\n\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"A" * 3000]

damages = damages_with(PIECES)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    good=st.lists(st.sampled_from(GOOD), min_size=1, max_size=3), changes=damages, cuts=st.lists(st.integers(0, 600))
)
def test_damaged_requests_are_survived(
    shared_recorder: Live, good: list[bytes], changes: list[Change], cuts: list[int]
) -> None:
    data = damage(b"".join(good), changes)
    with shared_recorder.connect() as client:
        start = 0
        with contextlib.suppress(ConnectionError):  # it may have heard enough
            for end in [*sorted(cuts), len(data)]:
                client.send(data[start:end])
                start = max(start, end)
            client.end()
        answers = client.receive_rest()
    assert answers == b"" or re.match(rb"HTTP/1\.1 [1-5]\d\d [^\r\n]*\r\n", answers), answers
    assert b" 500 " not in answers
    assert shared_recorder.ask("GET", "/next").body == b"/next"
    assert shared_recorder.server.stats()["panics"] == 0
