"""What a handler may not answer: grammar that only the native side checks. Nothing of it may reach the client."""

import http.client
import logging
from collections.abc import Iterator
from contextlib import closing
from email.message import Message

import pytest

import portico

pytestmark = pytest.mark.over_tls


@pytest.fixture(scope="module")
def answers() -> Iterator[tuple[portico.Server, dict[str, object]]]:
    given: dict[str, object] = {}
    server = portico.start_server("127.0.0.1", 0, lambda req: given["answer"], callbacks="thread")
    yield server, given
    server.close()


def ask(server: portico.Server, method: str = "GET") -> tuple[int, bytes, Message]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as connection:
        connection.request(method, "/")
        response = connection.getresponse()
        return response.status, response.read(), response.headers


BAD = [
    *(({"headers": {"X": value}}, "header") for value in ("a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b", "\x7f")),
    *(({"headers": {name: "x"}}, "token") for name in ("", "a b", "a:", "a\r\n", "é", "a\n")),
    ({"reason": "OK\r\nX: y"}, "reason"),
    ({"headers": {"content-length": "1"}, "body": "é"}, "Content-Length"),
    ({"headers": {"Transfer-Encoding": "chunked"}, "body": "x"}, "Transfer-Encoding"),
]


@pytest.mark.parametrize(("answer", "told"), BAD)
def test_what_http_cannot_carry_is_a_500_and_a_log_entry(
    answers: tuple[portico.Server, dict[str, object]],
    caplog: pytest.LogCaptureFixture,
    answer: dict[str, object],
    told: str,
) -> None:
    server, given = answers
    given["answer"] = answer
    with caplog.at_level(logging.ERROR, "portico"):
        status, body, headers = ask(server)
    assert (status, body) == (500, b"500 Internal Server Error\n")
    assert headers["X"] is None and headers["Set-Cookie"] is None
    [record] = caplog.records
    assert record.exc_info and record.exc_info[0] is ValueError
    assert told in str(record.exc_info[1])


def test_framing_that_tells_the_truth_passes(answers: tuple[portico.Server, dict[str, object]]) -> None:
    server, given = answers
    given["answer"] = {"headers": {"Content-Length": "2", "Connection": "close"}, "body": "é"}
    status, body, headers = ask(server)
    assert (status, body, headers["Connection"]) == (200, "é".encode(), "close")


def test_head_may_tell_the_length_of_get(answers: tuple[portico.Server, dict[str, object]]) -> None:
    server, given = answers
    given["answer"] = {"headers": {"Content-Length": "1000"}}
    status, body, headers = ask(server, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "1000")
