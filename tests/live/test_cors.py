"""CORS on the wire: pre-flights without Python, and what every kind of answer says to pages of other origins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import Cors, Response
from portico.request import Request

from .conftest import Live, Recorder, Serve, end, start
from .process import Program
from .wire_client import Client, Reply, ask, handshake, request

APP = "https://app.example"
ORIGIN = f"Origin: {APP}"
EVIL = "Origin: https://evil.example"
WANTS_PUT = "Access-Control-Request-Method: PUT"
LISTED = Cors([APP, "http://localhost:3000"], expose=["X-Total"], credentials=True)


def answer(req: Request) -> object:
    return {
        "/call": Response(200, {"Vary": "Cookie", "X-Total": "3"}, "x"),
        "/stream": Response(200, None, iter(["x"])),
        "/file": {"body": {"file": __file__}},
        "/own": Response(200, {"Access-Control-Allow-Origin": "https://own.example"}, "x"),
        "/options": Response(200, {"Allow": "GET, OPTIONS"}, req.method),
    }.get(req.path) or 1 / 0


def started(tmp_path: Path, **options: Any) -> Live:
    (tmp_path / "file.txt").write_text("a file")
    static = portico.static_path(tmp_path, validation=("X-Token", "secret"))
    app = {"call": answer, "on_ws_open": lambda ws: None, "static_paths": {"/static": tmp_path, "/guarded": static}}
    return start(app, inline={"/inline": ("text/plain", "x")}, limits=portico.Limits(max_body_bytes=10), **options)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = started(tmp_path_factory.mktemp("listed"), cors=LISTED)
    yield live
    end(live.server)


@pytest.fixture(scope="module")
def anyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    live = started(tmp_path_factory.mktemp("anyone"), cors=True)
    yield live
    end(live.server)


def granted(reply: Reply) -> dict[str, str]:
    """What the answer says to pages, each once."""
    said = [(name, value) for name, value in reply.fields if name.startswith("Access-Control-") or name == "Vary"]
    assert len(dict(said)) == len(said), "a field is there twice"
    return {name.removeprefix("Access-Control-"): value for name, value in said}


GRANTED = {"Allow-Origin": APP, "Allow-Credentials": "true", "Expose-Headers": "X-Total", "Vary": "Origin"}
# target, header lines, status, what its Vary has besides
ANSWERS = [
    ("/call", [], 200, "Cookie, "),
    ("/stream", [], 200, ""),
    ("/file", [], 200, ""),
    ("/inline", [], 200, ""),
    ("/static/file.txt", [], 200, ""),
    ("/static/file.txt", ["Range: bytes=0-1"], 206, ""),
    ("/static/file.txt", ["Range: bytes=0-0,100-"], 206, ""),
    ("/static/file.txt", ["Range: bytes=100-"], 416, ""),
    ("/static/file.txt", ["If-None-Match: *"], 304, ""),
    ("/static/none.txt", [], 404, ""),
    ("/static/../x", [], 400, ""),
    ("/guarded/file.txt", [], 403, ""),
    ("/fails", [], 500, ""),
]


@pytest.mark.parametrize(("target", "lines", "status", "own"), ANSWERS)
def test_every_answer_says_who_may_read_it(
    listed: Live, anyone: Live, target: str, lines: list[str], status: int, own: str
) -> None:
    reply = listed.ask("GET", target, ORIGIN, *lines)
    assert (reply.status, granted(reply)) == (status, {**GRANTED, "Vary": f"{own}Origin"})
    for others in ([EVIL], [], ["Origin: null"], [ORIGIN, ORIGIN]):
        reply = listed.ask("GET", target, *others, *lines)
        assert (reply.status, granted(reply)) == (status, {"Vary": f"{own}Origin"})
    for whoever in ([ORIGIN], []):
        reply = anyone.ask("GET", target, *whoever, *lines)
        own_vary = {"Vary": own.rstrip(", ")} if own else {}
        assert (reply.status, granted(reply)) == (status, {"Allow-Origin": "*", **own_vary})


def test_head_says_it_too(listed: Live) -> None:
    for target in ("/call", "/stream", "/inline", "/static/file.txt"):
        assert granted(listed.ask("HEAD", target, ORIGIN)) == granted(listed.ask("GET", target, ORIGIN))


def test_an_answer_of_its_own_is_left_alone(listed: Live, anyone: Live) -> None:
    for live in (listed, anyone):
        assert granted(live.ask("GET", "/own", ORIGIN)) == {"Allow-Origin": "https://own.example"}


def test_without_cors_nothing_is_said(recorder: Live) -> None:
    reply = recorder.ask("OPTIONS", "/x", ORIGIN, WANTS_PUT)
    assert (reply.status, reply["X-Method"], granted(reply)) == (200, "OPTIONS", {})


# Pre-flights


@pytest.mark.parametrize(
    "target", ["/call", "/inline", "/static/file.txt", "/guarded/file.txt", "/static/../x", "/none", "*"]
)
def test_preflights_are_answered_on_every_path(listed: Live, target: str) -> None:
    with listed.connect() as client:
        for _ in range(2):  # the connection is kept
            client.send(
                request("OPTIONS", target, ORIGIN, WANTS_PUT, "Access-Control-Request-Headers: x-a, content-type")
            )
            reply = client.receive_reply()
            assert (reply.status, reply["Content-Length"], reply["Connection"]) == (204, None, None)
            assert granted(reply) == {
                **GRANTED,
                "Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "Allow-Headers": "x-a, content-type",
                "Max-Age": "600",
                "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers, Origin",
            }


def test_what_preflights_are_told_is_what_was_said(serve: Serve) -> None:
    cors = Cors([APP], methods=["PUT"], headers=["X-A", "Authorization"], max_age_s=None)
    reply = serve(Recorder(), cors=cors).ask("OPTIONS", "/", ORIGIN, WANTS_PUT, "Access-Control-Request-Headers: x-b")
    said = granted(reply)
    assert (said["Allow-Methods"], said["Allow-Headers"]) == ("PUT", "X-A, Authorization")
    assert not {"Max-Age", "Allow-Credentials", "Expose-Headers"} & said.keys()
    reply = serve(Recorder(), cors=Cors(methods="*", headers=())).ask("OPTIONS", "/", ORIGIN, WANTS_PUT)
    assert granted(reply)["Allow-Methods"] == "PUT"


@pytest.mark.parametrize("line", [EVIL, "Origin: null", "Origin: https://app.example.evil.example", "Origin: *"])
def test_preflights_of_others_are_refused_by_name(listed: Live, line: str) -> None:
    refused = listed.server.stats()["refused"]
    reply = listed.ask("OPTIONS", "/call", line, WANTS_PUT)
    assert (reply.status, granted(reply)) == (403, {"Vary": "Origin"})
    assert reply.body == (
        b"403 Forbidden: pages of that Origin may not use this server; the option cors names those that may\n"
    )
    assert listed.server.stats()["refused"] == refused + 1


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [ORIGIN],
        [WANTS_PUT],
        [ORIGIN, ORIGIN, WANTS_PUT],
        [ORIGIN, WANTS_PUT, WANTS_PUT],
        [ORIGIN, "Access-Control-Request-Method: P T"],
        [ORIGIN, "Access-Control-Request-Method:"],
    ],
)
def test_other_options_reach_the_app(listed: Live, lines: list[str]) -> None:
    reply = listed.ask("OPTIONS", "/options", *lines)
    assert (reply.status, reply["Allow"], reply.body) == (200, "GET, OPTIONS", b"OPTIONS")


def test_private_networks_are_for_listed_origins(listed: Live, anyone: Live) -> None:
    asked = [ORIGIN, WANTS_PUT, "Access-Control-Request-Private-Network: true"]
    assert granted(listed.ask("OPTIONS", "/", *asked))["Allow-Private-Network"] == "true"
    assert "Allow-Private-Network" not in granted(anyone.ask("OPTIONS", "/", *asked))
    assert "Allow-Private-Network" not in granted(listed.ask("OPTIONS", "/", ORIGIN, WANTS_PUT))


def test_the_host_is_checked_first(listed: Live) -> None:
    """A rebound name learns nothing from a pre-flight."""
    for method, more in (("OPTIONS", [WANTS_PUT]), ("GET", [])):
        with listed.connect() as client:
            client.send(request(method, "/call", ORIGIN, *more, host="evil.example"))
            reply = client.receive_last_reply()
        assert (reply.status, granted(reply)) == (403, {})


# Refusals and WebSockets


def test_refusals_say_it_where_the_request_is_known(listed: Live) -> None:
    with listed.connect() as client:
        client.send(request("POST", "/call", ORIGIN, "Content-Length: 11"))
        reply = client.receive_last_reply()
    assert (reply.status, granted(reply)) == (413, GRANTED)


def test_what_is_no_request_is_nobodys(listed: Live) -> None:
    for first in ([], [request("GET", "/call", ORIGIN)]):
        with listed.connect() as client:
            client.send(*first, b"GET /call HTTP/1.1\r\nHost: localhost\r\n" + ORIGIN.encode() + b"\r\nX Y: z\r\n\r\n")
            if first:
                assert granted(client.receive_reply())["Allow-Origin"] == APP
            reply = client.receive_last_reply()
        assert (reply.status, granted(reply)) == (400, {})


def test_requests_on_one_connection_are_judged_one_by_one(listed: Live) -> None:
    with listed.connect() as client:
        client.send(*(request("GET", "/call", *lines) for lines in ([ORIGIN], [EVIL], [], [ORIGIN])))
        seen = [granted(client.receive_reply()).get("Allow-Origin") for _ in range(4)]
    assert seen == [APP, None, None, APP]


def test_websockets_are_guarded_by_allowed_origins(listed: Live, anyone: Live) -> None:
    for live in (listed, anyone):
        reply = ask(live.address, handshake("/", ORIGIN))
        assert reply.status == 403 and b"allowed_origins" in reply.body
        assert granted(reply) == {}
        with live.open("/", "Origin: http://localhost") as client:
            assert granted(client.reply) == {}


def test_with_compression_both_are_said(serve: Serve) -> None:
    body = Response(200, {"Content-Type": "text/plain", "Vary": "Cookie"}, "x" * 2000)
    live = serve(lambda req: body, cors=[APP], gzip=True)
    reply = live.ask("GET", "/", ORIGIN, "Accept-Encoding: gzip")
    assert reply["Content-Encoding"] == "gzip"
    assert granted(reply) == {"Allow-Origin": APP, "Vary": "Cookie, Accept-Encoding, Origin"}


# While Python is busy

HOLDER = """
def call(req):
    say("holding")
    ctypes.PyDLL(None).usleep(1_500_000)
    return "held"

live(call, "thread", inline={"/inline": ("text/plain", "x")}, cors=["https://app.example"])
"""


def test_a_held_interpreter_does_not_hold_preflights() -> None:
    with Program(HOLDER) as program:
        address = program.address()
        with Client(address) as holder:
            holder.send(request(target="/"))
            assert program.line() == "holding"
            for line, status in ((ORIGIN, 204), (EVIL, 403)):
                assert ask(address, request("OPTIONS", "/", line, WANTS_PUT)).status == status
            reply = ask(address, request("GET", "/inline", ORIGIN))
            assert granted(reply) == {"Allow-Origin": APP, "Vary": "Origin"}
            assert holder.is_silent(), "it waited for Python"
            assert granted(holder.receive_reply()) == {"Vary": "Origin"}
