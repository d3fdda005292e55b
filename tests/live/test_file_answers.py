"""Files that handlers answer with: in parts, and only if they have changed, word for word as a static path has them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portico import Response
from portico.request import Request

from .conftest import Live, Serve, needs_curl
from .wire_client import DEADLINE_S, Reply, request

SIZE = 100_000
DATE = "Thu, 01 Jan 2015 00:00:00 GMT"
WHEN = 1_420_070_400
ETAG = f'"{SIZE:x}-{WHEN:x}.0"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data.css"
    path.write_bytes(os.urandom(SIZE))
    os.utime(path, (WHEN, WHEN))
    return path


@pytest.fixture
def both(serve: Serve, file: Path) -> Live:
    """The same file at `/static` and, by a handler, anywhere else."""
    return serve({"call": lambda req: Response.file(file), "static_paths": {"/static": file}})


def ask_both(both: Live, method: str, *lines: str) -> tuple[Reply, Reply]:
    """What the handler says, and what the static path says; on one connection, which goes on."""
    with both.connect() as client:
        client.send(request(method, "/call", *lines) + request(method, "/static", *lines))
        return client.receive_reply(method), client.receive_reply(method)


def told(reply: Reply) -> Any:
    boundary = re.search("boundary=(.*)", reply["Content-Type"] or "")
    known = str.encode(boundary[1]) if boundary else b"-"
    fields = sorted((name, value) for name, value in reply.fields if name != "Date")
    said = repr((reply.status, reply.reason, fields)).replace(known.decode(), "-")
    return said, reply.body.replace(known, b"-")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 200),
        (["Range: bytes=0-0"], 206),
        (["Range: bytes=99999-"], 206),
        (["Range: bytes=-7"], 206),
        (["Range: bytes=0-9,50000-50009"], 206),
        (["Range: bytes=0-9,10-19"], 206),
        (["Range: bytes=100000-"], 416),
        (["Range: bytes=-0"], 416),
        (["Range: lines=1-2"], 200),
        (["Range: bytes=9-1"], 200),
        (["Range: bytes=0-0", "Range: bytes=1-1"], 200),
        (["Range: bytes=0-0", f"If-Range: {ETAG}"], 206),
        (["Range: bytes=0-0", f"If-Range: {DATE}"], 206),
        (["Range: bytes=0-0", 'If-Range: "other"'], 200),
        (["Range: bytes=0-0", f"If-Range: W/{ETAG}"], 200),
        (["Range: bytes=0-0", "If-Range: Thu, 01 Jan 2015 00:00:01 GMT"], 200),
        ([f"If-None-Match: {ETAG}"], 304),
        (['If-None-Match: "other"', f"If-Modified-Since: {DATE}"], 200),
        ([f"If-Modified-Since: {DATE}", "Range: bytes=0-0"], 304),
        (['If-Match: "other"'], 412),
        ([f"If-Match: {ETAG}", "Range: bytes=0-0"], 206),
        (["If-Unmodified-Since: Wed, 31 Dec 2014 23:59:59 GMT"], 412),
    ],
)
def test_a_handlers_file_is_answered_as_a_static_path(both: Live, method: str, lines: list[str], status: int) -> None:
    by_handler, by_path = ask_both(both, method, *lines)
    assert told(by_handler) == told(by_path)
    assert by_handler.status == (200 if method == "HEAD" and status in (206, 416) else status)


def test_parts_are_parts_of_it(both: Live, file: Path) -> None:
    content = file.read_bytes()
    reply = both.ask("GET", "/", "Range: bytes=500-70499")
    assert (reply["Content-Range"], reply.body) == (f"bytes 500-70499/{SIZE}", content[500:70500])
    whole = both.ask("GET", "/")
    names = ("Content-Type", "Last-Modified", "ETag", "Accept-Ranges")
    assert [whole[name] for name in names] == ["text/css", DATE, ETAG, "bytes"]
    assert whole.body == content


def curl(*arguments: str) -> None:
    subprocess.run(["curl", "--silent", "--fail", "--insecure", "--max-time", str(DEADLINE_S), *arguments], check=True)


@needs_curl
def test_a_download_is_resumed(both: Live, file: Path, tmp_path: Path) -> None:
    got = tmp_path / "got"
    got.write_bytes(file.read_bytes()[:12_345])
    curl("--continue-at", "-", "--output", str(got), both.server.url)
    assert got.read_bytes() == file.read_bytes()


def answer(body: dict[str, Any], headers: Any = (), status: int = 200) -> Callable[[Path], Response]:
    return lambda path: Response(status, headers, {"file": path, **body})


@pytest.mark.parametrize(
    "make",
    [
        answer({}),
        answer({"ranges": False}),
        answer({"ranges": True}, status=404),
        lambda path: Response.file(path, ranges=False),
        lambda path: Response.file(path, status=203),
    ],
)
def test_a_file_without_ranges_is_sent_whole(serve: Serve, file: Path, make: Callable[[Path], Response]) -> None:
    live = serve(lambda req: make(file))
    reply = live.ask("GET", "/", "Range: bytes=0-0", f"If-Modified-Since: {DATE}")
    assert reply.status == make(file).status
    assert {name for name, _ in reply.fields} <= {"Date", "Content-Length", "Content-Type"}
    assert reply.body == file.read_bytes()


def test_only_get_and_head_have_ranges_and_conditions(both: Live, file: Path) -> None:
    reply = both.ask("POST", "/", "Range: bytes=0-0", 'If-Match: "other"', "Content-Length: 1", body=b"x")
    assert (reply.status, reply["Accept-Ranges"], reply.body) == (200, None, file.read_bytes())


def test_an_owned_file_is_another_one_each_time(serve: Serve, tmp_path: Path) -> None:
    def call(req: Request) -> Response:
        path = tmp_path / "made"
        path.write_text("made for you")
        return Response.file(path, owned=True)

    reply = serve(call).ask("GET", "/", "Range: bytes=0-0")
    assert (reply.status, reply.body, reply["ETag"]) == (200, b"made for you", None)
    assert list(tmp_path.iterdir()) == []


OWN = {
    "Content-Type": "text/x-own",
    "ETag": '"own"',
    "Last-Modified": "Fri, 01 Jan 2016 00:00:00 GMT",
    "Cache-Control": "no-cache",
    "Set-Cookie": "a=b",
    "Content-Length": str(SIZE),
    "X-Own": "yes",
}


@pytest.fixture
def own(serve: Serve, file: Path) -> Live:
    return serve(lambda req: Response(200, OWN, {"file": file, "ranges": True}, "Yours"))


def test_own_fields_replace_those_of_the_file(own: Live, file: Path) -> None:
    reply = own.ask()
    assert (reply.status, reply.reason, reply.body) == (200, "Yours", file.read_bytes())
    assert sorted((name, value) for name, value in reply.fields if name != "Date") == sorted(
        [*OWN.items(), ("Accept-Ranges", "bytes")]
    )


def test_own_fields_of_the_whole_are_not_those_of_a_part(own: Live, file: Path) -> None:
    one = own.ask("GET", "/", "Range: bytes=0-0", 'If-Range: "own"')
    assert (one.status, one.body, one["Content-Length"], one["X-Own"]) == (206, file.read_bytes()[:1], "1", "yes")
    assert one["Content-Type"] == "text/x-own"
    more = own.ask("GET", "/", "Range: bytes=0-0,500-500")
    assert more.status == 206
    assert (more["Content-Type"] or "").startswith("multipart/byteranges; boundary=")
    assert more.body.count(b"Content-Type: text/x-own\r\n") == 2


@pytest.mark.parametrize("line", ['If-None-Match: W/"own"', "If-Modified-Since: Fri, 01 Jan 2016 00:00:00 GMT"])
def test_own_validators_count(own: Live, line: str) -> None:
    reply = own.ask("GET", "/", line)
    assert (reply.status, reply["ETag"], reply["Last-Modified"]) == (304, '"own"', OWN["Last-Modified"])
    assert (reply["Cache-Control"], reply["Set-Cookie"], reply["X-Own"]) == ("no-cache", "a=b", None)
    assert own.ask("GET", "/", f"If-Modified-Since: {DATE}").status == 200


def test_a_field_that_cannot_be_sent_is_a_500(serve: Serve, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"X-Broken": "a\r\nb"}
    live = serve(lambda req: Response(200, headers if req.path == "/bad" else None, {"file": file, "ranges": True}))
    with live.connect() as client:
        client.send(request("GET", "/bad", "Range: bytes=0-0") + request("GET", "/good", "Range: bytes=0-0"))
        assert [client.receive_reply().status for _ in range(2)] == [500, 206]
    assert "X-Broken" in str(caplog.records[0].exc_info)
