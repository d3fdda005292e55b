"""Files served without Python: what is found, which part of which form of it, and when the app answers instead.

What must not be found is in `test_static_attacks`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email.utils
import gzip
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest

import portico
from portico import exclude_static_path, static_path, static_path_options
from portico.request import Request

from .conftest import Live, Serve, end, needs_curl, start
from .process import Program
from .wire_client import DEADLINE_S, Address, Client, Reply, ask, handshake, request, wait_until

MIB = 1 << 20
WRITTEN = 1_600_000_000  # when the files of the shared tree were written
GZIP = "Accept-Encoding: gzip"

CONTENT = random.Random(1).randbytes(10 * MIB)
SIZES = [0, 1, 65_535, 65_536, 65_537, 100 << 10, MIB, 10 * MIB]


def http_date(seconds: int) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


def write(path: Path, content: bytes | str, seconds: float | None = None) -> None:
    """A file and its directories; `seconds`: when it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if seconds is not None:
        os.utime(path, (seconds, seconds))


def by_app(req: Request) -> dict[str, Any]:
    return {"headers": {"X-App": "1"}, "body": f"{req.method} {req.uri} {len(req.body)}"}


def is_of_app(reply: Reply) -> bool:
    return reply["X-App"] == "1"


def serve_files(serve: Serve, paths: object, options: object = None, **more: Any) -> Live:
    app = {"call": by_app, "static_paths": paths} | ({} if options is None else {"static_path_options": options})
    return serve(app, **more)


@pytest.fixture(scope="module")
def www(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that no test changes."""
    top = tmp_path_factory.mktemp("www")
    tree: dict[str, bytes | str] = {
        "index.html": "<h1>home</h1>",
        "page.html": "<p>page",
        "old.htm": "<p>old",
        "mtcars.csv": "mpg,cyl\n21,6\n",
        "data.txt": "0123456789",
        "app.wasm": b"\0asm",
        "style.css": "p{}",
        "code.js": "1",
        "picture.SVG": "<svg/>",
        "feed.json": "{}",
        "README": "read me",
        "what.unheard-of": "?",
        "a b+c&d.txt": "spaces",
        "grün/füße.txt": "feet",
        "dir/index.html": "<h1>dir</h1>",
        "dir/deep/x.txt": "deep",
        "bare/x.txt": "bare",
        "subdir/index.html": "<h1>subdir</h1>",
        "sub/x.txt": "sub",
        "index-is-a-directory/index.html/x.txt": "odd",
        "100%.txt": "all",
        "%41.txt": "percent",
        "..foo": "dots before",
        "foo..": "dots behind",
        ".well-known/security.txt": "Contact: us",
    }
    for name, content in tree.items():
        write(top / name, content, WRITTEN)
    for size in SIZES:
        write(top / f"size-{size}.bin", CONTENT[:size], WRITTEN)
    return top


@pytest.fixture(scope="module")
def site(www: Path) -> Iterator[Live]:
    """A server with `www` at `/`, in many variations below, and an app behind it."""
    paths = {
        "/": www,
        "/through": static_path(www, fallthrough=True),
        "/no-index": static_path(www, indexhtml=False),
        "/plain": static_path(www, html_charset=""),
        "/latin": static_path(www, html_charset="iso-8859-1"),
        "/fields": static_path(
            www, headers={"X-One": "1", "content-type": "text/x-own", "Cache-Control": "max-age=1", "Vary": "Cookie"}
        ),
        "/guarded": static_path(www, validation=("X-Token", "sesame")),
        "/guarded-through": static_path(www, validation=("X-Token", "sesame"), fallthrough=True),
        "/list": static_path(www, listing=True),
        "/one": www / "data.txt",
        "/hole": exclude_static_path(),
        "/hole/island": www / "sub",
        "/README": exclude_static_path(),
        "/sub": exclude_static_path(),
        "/with space": www / "sub",
        "/über": www / "sub",
    }
    inline = {
        "/inline": ("text/plain", b"inline"),
        "/over.txt": ("text/plain", b"inline"),
        "/bare/x.txt": ("a/b", b"i"),
    }
    live = start({"call": by_app, "static_paths": paths}, inline=inline)
    yield live
    end(live.server)


# What is found


@pytest.mark.parametrize("target", ["/", "/index.html", "/?x=1", "http://localhost/", "/no-index/index.html"])
def test_index(site: Live, www: Path, target: str) -> None:
    reply = site.ask("GET", target)
    assert (reply.status, reply.reason, reply.body) == (200, "OK", (www / "index.html").read_bytes())
    assert reply["Content-Type"] == "text/html; charset=utf-8"
    assert reply["Content-Length"] == str(len(reply.body))
    assert reply["Last-Modified"] == http_date(WRITTEN)
    assert reply["Accept-Ranges"] == "bytes"
    etag = reply["ETag"]
    assert etag is not None and etag.startswith('"') and etag.endswith('"')
    assert reply["Date"] is not None and reply["Connection"] is None


def test_every_field_is_said_once(site: Live) -> None:
    names = [name.lower() for name, _ in site.ask("GET", "/").fields]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/dir/", 200, b"<h1>dir</h1>"),
        ("/dir", 200, b"<h1>dir</h1>"),
        ("/dir/deep/x.txt", 200, b"deep"),
        ("/bare/", 404, b"404 Not Found\n"),
        ("/bare", 404, b"404 Not Found\n"),
        ("/foo", 404, b"404 Not Found\n"),
        ("/foo/bar", 404, b"404 Not Found\n"),
        ("/data.txt/", 404, b"404 Not Found\n"),
        ("/data.txt/x", 404, b"404 Not Found\n"),
        ("/no-index/", 404, b"404 Not Found\n"),
        ("/no-index/dir/", 404, b"404 Not Found\n"),
        ("/index-is-a-directory/", 404, b"404 Not Found\n"),
        ("/Data.txt", 404, b"404 Not Found\n"),
        ("/..foo", 404, None),  # no climbing, but a dotfile
        ("/..missing", 404, None),
        ("/foo..", 200, b"dots behind"),
        ("/.well-known/security.txt", 200, b"Contact: us"),
        ("/a%20b+c&d.txt", 200, b"spaces"),
        ("/a%20b%2Bc%26d.txt", 200, b"spaces"),
        ("/a+b+c&d.txt", 404, b"404 Not Found\n"),  # a plus is a space in forms only
        ("/gr%C3%BCn/f%c3%bc%C3%9Fe.txt", 200, b"feet"),
        ("/100%25.txt", 200, b"all"),
        ("/100%.txt", 400, None),
        ("/%2541.txt", 200, b"percent"),
        ("/%41.txt", 404, None),  # once, not twice: this is A.txt
        ("/%64ata.txt", 200, b"0123456789"),
        ("/data.txt?../../x", 200, b"0123456789"),
        ("/with%20space/x.txt", 200, b"sub"),
        ("/%77ith%20space/x.txt", 200, b"sub"),
        ("/%C3%BCber/x.txt", 200, b"sub"),
    ],
)
def test_what_is_there(site: Live, target: str, status: int, body: bytes | None) -> None:
    reply = site.ask("GET", target)
    assert reply.status == status
    assert body is None or reply.body == body
    if status == 404:
        assert reply["Content-Length"] == "14"
        assert reply["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("old.htm", "text/html; charset=utf-8"),
        ("plain/index.html", "text/html"),
        ("latin/index.html", "text/html; charset=iso-8859-1"),
        ("mtcars.csv", "text/csv"),
        ("data.txt", "text/plain"),
        ("app.wasm", "application/wasm"),
        ("style.css", "text/css"),
        ("code.js", "text/javascript"),
        ("picture.SVG", "image/svg+xml"),
        ("feed.json", "application/json"),
        ("what.unheard-of", "application/octet-stream"),
        ("foo..", "application/octet-stream"),
        ("one", "text/plain"),
    ],
)
def test_content_type(site: Live, name: str, kind: str) -> None:
    assert site.ask("GET", f"/{name}")["Content-Type"] == kind


@pytest.mark.parametrize("size", SIZES)
def test_sizes(site: Live, size: int) -> None:
    with site.connect() as client:
        for method in ("GET", "HEAD", "GET"):
            client.send(request(method, f"/size-{size}.bin"))
            reply = client.receive_reply(method)
            assert reply.status == 200
            assert reply["Content-Length"] == str(size)
            assert reply.body == (CONTENT[:size] if method == "GET" else b"")


def test_fields_replace_ours_and_vary_adds_up(site: Live) -> None:
    reply = site.ask("GET", "/fields/index.html")
    assert reply.get_all("Content-Type") == ["text/x-own"]
    assert reply.get_all("X-One") == ["1"]
    assert reply.get_all("Cache-Control") == ["max-age=1"]
    assert reply.get_all("Vary") == ["Cookie"]
    missing = site.ask("GET", "/fields/missing")
    assert (missing.status, missing["X-One"]) == (404, None)


def test_vary_adds_up(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a", WRITTEN)
    write(tmp_path / "a.txt.gz", gzip.compress(b"a"), WRITTEN)
    live = serve_files(serve, {"/": static_path(tmp_path, headers={"Vary": "Cookie"})})
    for lines in ((), (GZIP,)):
        assert set(live.ask("GET", "/a.txt", *lines).get_all("Vary")) == {"Accept-Encoding", "Cookie"}


REFUSED_FIELDS = {
    "length": {"Content-Length": "1"},
    "date": {"date": "now"},
    "framing": {"Transfer-Encoding": "chunked"},
    "part": {"Content-Range": "bytes 0-0/1"},
    "coding": {"CONTENT-ENCODING": "gzip"},
    "modified": {"Last-Modified": http_date(0)},
    "name": {"X Y": "1"},
    "empty name": {"": "1"},
    "line end": {"X": "1\r\nSet-Cookie: a=b"},
    "NUL": {"X": "1\0"},
}


@pytest.mark.parametrize("headers", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS)
def test_fields_that_cannot_be(serve: Serve, tmp_path: Path, headers: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        serve_files(serve, {"/": static_path(tmp_path, headers=headers)})
    live = serve_files(serve, {"/old": tmp_path})
    write(tmp_path / "a.txt", "a")
    with pytest.raises(ValueError):
        live.server.static_paths["/new"] = static_path(tmp_path, headers=headers)
    with pytest.raises(ValueError):
        live.server.static_path_options = static_path_options(headers=headers)
    assert live.server.static_path_options.headers == ()
    assert list(live.server.static_paths) == ["/old"]
    assert live.ask("GET", "/old/a.txt").body == b"a"
    assert is_of_app(live.ask("GET", "/new/a.txt"))


def test_a_connection_field_is_heeded(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": static_path(www, headers={"Connection": "close"})})
    for lines in ((), ("If-None-Match: *",)):
        with live.connect() as client:
            client.send(request("GET", "/data.txt", *lines))
            reply = client.receive_reply()
            assert reply.status == (304 if lines else 200)
            if reply.status == 200:
                assert reply.get_all("Connection") == ["close"]
                assert client.receive_rest() == b""


# When the app answers instead


@pytest.mark.parametrize(
    ("method", "target", "lines", "body"),
    [
        ("GET", "/through/missing", (), b""),
        ("HEAD", "/through/missing", (), b""),
        ("GET", "/through/bare/", (), b""),
        ("GET", "/through/..", (), b""),
        ("GET", "/through/%2e%2e/x", (), b""),
        ("GET", "/through/a%5cb", (), b""),
        ("GET", "/through/.git/config", (), b""),
        ("POST", "/through/data.txt", ("Content-Length: 5",), b"hello"),
        ("POST", "/through/data.txt", ("Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n\r\n"),
        ("GET", "/through/data.txt", ("Content-Length: 5",), b"hello"),
        ("DELETE", "/through/data.txt", (), b""),
        ("OPTIONS", "/through/data.txt", (), b""),
    ],
)
def test_fallthrough(site: Live, method: str, target: str, lines: tuple[str, ...], body: bytes) -> None:
    with site.connect() as client:
        for _ in range(2):
            client.send(request(method, target, *lines, body=body))
            reply = client.receive_reply(method)
            assert is_of_app(reply), reply
            assert method == "HEAD" or reply.body == f"{method} {target} {5 if body else 0}".encode()


def test_fallthrough_serves_what_is_there(site: Live) -> None:
    assert site.ask("GET", "/through/data.txt").body == b"0123456789"
    assert site.ask("GET", "/through/dir/").body == b"<h1>dir</h1>"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
@pytest.mark.parametrize("target", ["/data.txt", "/missing", "/dir/"])
def test_methods(site: Live, method: str, target: str) -> None:
    reply = site.ask(method, target)
    assert (reply.status, reply["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("lines", "body"),
    [(("Content-Length: 3",), b"abc"), (("Transfer-Encoding: chunked",), b"3\r\nabc\r\n0\r\n\r\n")],
)
def test_a_body_is_refused(site: Live, method: str, lines: tuple[str, ...], body: bytes) -> None:
    # The body is not read, so what follows it must not be taken for a request.
    with site.connect() as client:
        client.send(request(method, "/data.txt", *lines, body=body + request("GET", "/smuggled")))
        assert client.receive_last_reply(method).status == 400


def test_no_body_is_no_body(site: Live) -> None:
    with site.connect() as client:
        for _ in range(2):
            client.send(request("GET", "/data.txt", "Content-Length: 0"))
            assert client.receive_reply().body == b"0123456789"


def test_head_says_what_get_says(site: Live) -> None:
    for target in ("/", "/data.txt", "/missing", "/..", "/list/bare/", "/list/bare", "/guarded/", "/one", "/bare/"):
        get, head = site.ask("GET", target), site.ask("HEAD", target)
        skip = {"date"}
        assert head.status == get.status
        assert [f for f in head.fields if f[0].lower() not in skip] == [
            f for f in get.fields if f[0].lower() not in skip
        ]
        assert head.body == b""


# Validation


@pytest.mark.parametrize("place", ["/guarded", "/guarded-through"])
def test_validation(site: Live, place: str) -> None:
    assert site.ask("GET", f"{place}/data.txt", "x-TOKEN: sesame").body == b"0123456789"
    assert site.ask("GET", f"{place}/data.txt", "X-Token:   sesame\t ").body == b"0123456789"
    for lines in (
        (),
        ("X-Token:",),
        ("X-Token: Sesame",),
        ("X-Token: sesam",),
        ("X-Token: sesame!",),
        ('X-Token: "sesame"',),
        ("X-Token: sesame, sesame",),
        ("X-Token: sesame", "X-Token: sesame"),
        ("X-Token: sesame", "x-token: open"),
        ("X-Token: open", "X-Token: sesame"),
        ("X_Token: sesame",),
        ("X-Tokens: sesame",),
    ):
        # Before anything else: what is there, whether there could be such a path, which method, which condition.
        for method, target in (
            ("GET", "/data.txt"),
            ("HEAD", "/data.txt"),
            ("GET", "/missing"),
            ("GET", "/../x"),
            ("GET", ""),
            ("POST", "/data.txt"),
        ):
            reply = site.ask(method, place + target, *lines)
            assert reply.status == 403 and not is_of_app(reply), (method, target, lines)
            assert reply["ETag"] is None and reply["Last-Modified"] is None
        assert site.ask("GET", f"{place}/data.txt", "If-None-Match: *", "Range: bytes=0-0", *lines).status == 403


def test_validation_with_a_body_ends_the_connection(site: Live) -> None:
    with site.connect() as client:
        body = b"abcde" + request("GET", "/data.txt")
        client.send(request("POST", "/guarded/data.txt", "Content-Length: 5", body=body))
        assert client.receive_last_reply().status == 403


def test_on_headers_does_not_guard_static_paths(serve: Serve, www: Path) -> None:
    asked: list[str] = []

    def on_headers(req: Request) -> dict[str, int]:
        asked.append(req.uri)
        return {"status": 401}

    paths = {"/": static_path(www, fallthrough=True), "/bare": exclude_static_path()}
    live = serve({"call": by_app, "on_headers": on_headers, "static_paths": paths})
    assert live.ask("GET", "/data.txt").status == 200
    assert live.ask("GET", "/bare/x.txt").status == 401
    assert live.ask("GET", "/missing").status == 401
    assert live.ask("POST", "/data.txt").status == 401
    assert asked == ["/bare/x.txt", "/missing", "/data.txt"]


# Which static path


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/hole", None),
        ("/hole/", None),
        ("/hole/x.txt", None),
        ("/h%6Fle/x.txt", None),
        ("/hole/island/x.txt", b"sub"),
        ("/hole/island%2fx.txt", None),
        ("/README", None),
        ("/README/", None),
        ("/sub/x.txt", None),
        ("/sub", None),
        ("/subdir/", b"<h1>subdir</h1>"),
        ("/subdir", b"<h1>subdir</h1>"),
        ("/inline", b"inline"),
        ("/over.txt", b"inline"),
        ("/bare/x.txt", b"i"),
        ("/bare//x.txt", b"404 Not Found\n"),
    ],
)
def test_holes_islands_and_routes(site: Live, target: str, body: bytes | None) -> None:
    reply = site.ask("GET", target)
    assert is_of_app(reply) if body is None else reply.body == body


def test_an_index_excluded_by_its_own_name(serve: Serve, www: Path) -> None:
    hole = exclude_static_path()
    paths = {"/": www, "/dir/index.html": hole, "/index.html": hole, "/l": static_path(www, listing=True)}
    live = serve_files(serve, paths | {"/l/dir/index.html": hole})
    for target in ("/", "/dir/", "/dir", "/%64ir/", "/l/dir/", "/l/dir"):
        reply = live.ask("GET", target)
        assert (reply.status, reply.body) == (404, b"404 Not Found\n"), target
    for target in ("/dir/index.html", "/index.html", "/%64ir/%69ndex.html", "/l/dir/index.html"):
        assert is_of_app(live.ask("GET", target)), target
    assert live.ask("GET", "/subdir/").body == b"<h1>subdir</h1>"


def test_what_is_inherited_comes_from_the_server(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "index.html", "index")
    options = static_path_options(
        indexhtml=False, headers={"X-Common": "1", "Y": "2"}, html_charset="koi8-r", validation='"k" == "v"'
    )
    paths = {
        "/a": tmp_path,
        "/a/b": static_path(tmp_path, indexhtml=True, validation=""),
        "/a/b/c": static_path(tmp_path, headers={"X-Own": "1"}, html_charset=""),
    }
    live = serve_files(serve, paths, options)
    assert live.ask("GET", "/a/").status == 403
    assert live.ask("GET", "/a/", "K: v").status == 404
    below = live.ask("GET", "/a/b/")
    assert (below.status, below["X-Common"], below["Y"]) == (200, "1", "2")
    assert below["Content-Type"] == "text/html; charset=koi8-r"
    # From the server, never from the path above: no index, and the key is wanted again.
    assert live.ask("GET", "/a/b/c/").status == 403
    assert live.ask("GET", "/a/b/c/", "k: v").status == 404
    deep = live.ask("GET", "/a/b/c/index.html", "k: v")
    assert (deep["X-Own"], deep["X-Common"], deep["Content-Type"]) == ("1", None, "text/html")


def test_one_file(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a.html", "<p>a")
    write(tmp_path / "a.html.gz", gzip.compress(b"<p>a"))
    write(tmp_path / "secret.html", "secret")
    live = serve_files(serve, {"/f": tmp_path / "a.html", "/g/h.txt": tmp_path / "a.html"})
    for target in ("/f", "/%66", "/g/h.txt", "/f?x"):
        reply = live.ask("GET", target)
        assert (reply.body, reply["Content-Type"]) == (b"<p>a", "text/html; charset=utf-8")
        zipped = live.ask("GET", target, GZIP)
        assert (gzip.decompress(zipped.body), zipped["Content-Encoding"]) == (b"<p>a", "gzip")
        assert zipped["Content-Type"] == "text/html; charset=utf-8"
    for target in ("/f/", "/f/a.html", "/f/secret.html", "/f/index.html", "/f//", "/f.gz/x"):
        reply = live.ask("GET", target)
        assert reply.status == 404 or (target == "/f.gz/x" and is_of_app(reply)), target
    for target in ("/f/..", "/f/../secret.html", "/f/%2e%2e/secret.html"):
        assert live.ask("GET", target).status == 400, target
    for target in ("/f.gz", "/fx", "/g", "/g/", "/g/h.txt.gz"):
        assert is_of_app(live.ask("GET", target)), target
    replaced = tmp_path / "new"
    write(replaced, "<p>new")
    os.rename(replaced, tmp_path / "a.html")
    wait_until(lambda: live.ask("GET", "/f").body == b"<p>new", "the file that was put in its place")


def test_one_file_for_the_whole_site(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": www / "index.html"})
    assert live.ask("GET", "/").body == b"<h1>home</h1>"
    assert live.ask("GET", "/index.html").status == 404


def test_websockets_go_to_the_app(serve: Serve, www: Path) -> None:
    def on_ws_open(ws: Any) -> None:
        ws.on_message(lambda binary, message: ws.send(message))

    live = serve({"on_ws_open": on_ws_open, "static_paths": {"/": www, "/g": static_path(www, validation=("a", "b"))}})
    for target in ("/", "/data.txt", "/missing", "/g/data.txt"):
        with live.open(target) as client:
            client.send_text("hello")
            assert client.receive_text() == "hello"
    assert live.ask("GET", "/data.txt").body == b"0123456789"
    # Another upgrade is none that we do: the file as if it had not been asked for.
    h2c = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
    assert live.ask("GET", "/data.txt", *h2c).body == b"0123456789"
    assert live.ask("GET", "/g/data.txt", *h2c).status == 403


def test_an_app_of_files_alone(serve: Serve, www: Path) -> None:
    live = serve({"static_paths": {"/x": www}})
    assert live.ask("GET", "/x/data.txt").body == b"0123456789"
    assert live.ask("GET", "/").status == 404
    assert live.server.stats()["files"] == 1


# Conditions (RFC 9110 §13)

T = http_date(WRITTEN)
EARLIER, LATER = http_date(WRITTEN - 1), http_date(WRITTEN + 1)
FUTURE = http_date(4_000_000_000)

CONDITIONS: list[tuple[tuple[str, ...], int]] = [
    # {e}: its tag
    (("If-None-Match: {e}",), 304),
    (("If-None-Match: W/{e}",), 304),
    (("If-None-Match: *",), 304),
    (('If-None-Match: "x", {e}',), 304),
    (('If-None-Match: "x",{e} ,W/"y"',), 304),
    (('If-None-Match: "x"', "If-None-Match: {e}"), 304),
    (('If-None-Match: "x"',), 200),
    (('If-None-Match: ""',), 200),
    (("If-None-Match: x",), 200),
    (("If-None-Match: {e} x",), 200),
    (("If-None-Match:",), 200),
    (('If-None-Match: "x"', f"If-Modified-Since: {FUTURE}"), 200),  # the tag counts, not the date
    (("If-None-Match: {e}", f"If-Modified-Since: {EARLIER}"), 304),
    ((f"If-Modified-Since: {T}",), 304),
    ((f"If-Modified-Since: {LATER}",), 304),
    ((f"If-Modified-Since: {FUTURE}",), 304),
    ((f"If-Modified-Since: {EARLIER}",), 200),
    (("If-Modified-Since: yesterday",), 200),
    (("If-Modified-Since: 1600000000",), 200),
    (("If-Modified-Since:",), 200),
    (("If-Modified-Since: Sunday, 13-Sep-20 12:26:40 GMT",), 304),
    (("If-Modified-Since: Sun Sep 13 12:26:40 2020",), 304),
    ((f"If-Modified-Since: {T}", f"If-Modified-Since: {T}"), 200),
    (("If-Match: {e}",), 200),
    (("If-Match: *",), 200),
    (('If-Match: "x", {e}',), 200),
    (("If-Match: W/{e}",), 412),
    (('If-Match: "x"',), 412),
    (("If-Match: x",), 412),
    (("If-Match: {e}", "If-None-Match: {e}"), 304),
    (('If-Match: "x"', "If-None-Match: {e}"), 412),
    (("If-Match: {e}", f"If-Unmodified-Since: {EARLIER}"), 200),
    ((f"If-Unmodified-Since: {T}",), 200),
    ((f"If-Unmodified-Since: {LATER}",), 200),
    ((f"If-Unmodified-Since: {EARLIER}",), 412),
    (("If-Unmodified-Since: yesterday",), 200),
    ((f"If-Unmodified-Since: {EARLIER}", "If-None-Match: {e}"), 412),
    # And then the range.
    (("Range: bytes=0-1",), 206),
    (("Range: bytes=0-1", "If-Range: {e}"), 206),
    (("Range: bytes=0-1", f"If-Range: {T}"), 206),
    (("Range: bytes=0-1", "If-Range: W/{e}"), 200),
    (("Range: bytes=0-1", 'If-Range: "x"'), 200),
    (("Range: bytes=0-1", "If-Range: *"), 200),
    (("Range: bytes=0-1", "If-Range:"), 200),
    (("Range: bytes=0-1", 'If-Range: "x", {e}'), 200),
    (("Range: bytes=0-1", "If-Range: {e}", 'If-Range: "x"'), 200),
    (("Range: bytes=0-1", 'If-Range: "x"', 'If-Range: "y"'), 200),
    (("Range: bytes=0-1", f"If-Range: {EARLIER}"), 200),
    (("Range: bytes=0-1", f"If-Range: {LATER}"), 200),
    (("Range: bytes=0-1", "If-Range: yesterday"), 200),
    (("Range: bytes=99-", "If-Range: {e}"), 416),
    (("Range: bytes=99-", 'If-Range: "x"'), 200),
    (("If-Range: {e}",), 200),
    (('If-Range: "x"',), 200),
    (("Range: bytes=0-1", "If-None-Match: {e}"), 304),
    (("Range: bytes=0-1", 'If-None-Match: "x"'), 206),
    (("Range: bytes=0-1", 'If-Match: "x"'), 412),
    (("Range: bytes=99-", "If-None-Match: {e}"), 304),
    (("Range: bytes=0-1", f"If-Unmodified-Since: {T}", "If-Range: {e}"), 206),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(site: Live, method: str) -> None:
    wrong = []
    etag = site.ask("GET", "/data.txt")["ETag"] or ""
    with site.connect() as client:
        for lines, status in CONDITIONS:
            expected = 200 if method == "HEAD" and status in (206, 416) else status  # a range is for GET (§14.2)
            client.send(request(method, "/data.txt", *(line.replace("{e}", etag) for line in lines)))
            reply = client.receive_reply(method)
            body = {200: b"0123456789", 206: b"01", 304: b""}.get(expected, reply.body)
            if reply.status != expected or (method == "GET" and reply.body != body):
                wrong.append((lines, expected, reply.status))
            if reply.status in (200, 206, 304):
                assert reply["ETag"] == etag
                assert reply["Last-Modified"] == T
    assert not wrong


def test_what_a_304_repeats(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a", WRITTEN)
    write(tmp_path / "a.txt.gz", gzip.compress(b"a"), WRITTEN)
    headers = {
        "Cache-Control": "max-age=5",
        "Expires": T,
        "Content-Location": "/b",
        "Vary": "Cookie",
        "X-Other": "1",
        "Content-Language": "de",
    }
    live = serve_files(serve, {"/": static_path(tmp_path, headers=headers)})
    for lines in ((), (GZIP,)):
        etag = live.ask("GET", "/a.txt", *lines)["ETag"]
        reply = live.ask("GET", "/a.txt", f"If-None-Match: {etag}", *lines)
        assert (reply.status, reply.body, reply["ETag"]) == (304, b"", etag)
        names = {name.lower() for name, _ in reply.fields}
        assert names == {"date", "etag", "last-modified", "cache-control", "expires", "content-location", "vary"}
        assert set(reply.get_all("Vary")) == {"Accept-Encoding", "Cookie"}


def test_an_own_tag_is_the_one_that_counts(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": static_path(www, headers={"etag": '"v7"'})})
    assert live.ask("GET", "/data.txt").get_all("ETag") == ['"v7"']
    assert live.ask("GET", "/data.txt", 'If-None-Match: "v7"').status == 304
    assert live.ask("GET", "/data.txt", 'If-Match: "v7"').status == 200


def test_a_304_leaves_the_connection_open(site: Live) -> None:
    with site.connect() as client:
        client.send(request("GET", "/data.txt", "If-None-Match: *") * 3, request("GET", "/data.txt"))
        assert [client.receive_reply().status for _ in range(4)] == [304, 304, 304, 200]


@pytest.mark.parametrize("seconds", [0, -86_400, 1, 253_402_300_799, 4_000_000_000])
def test_odd_times(serve: Serve, tmp_path: Path, seconds: int) -> None:
    write(tmp_path / "a.txt", "a", seconds)
    live = serve_files(serve, {"/": tmp_path})
    reply = live.ask("GET", "/a.txt")
    assert reply.status == 200
    assert live.ask("GET", "/a.txt", f"If-None-Match: {reply['ETag']}").status == 304
    assert live.ask("GET", "/a.txt", f"If-Modified-Since: {reply['Last-Modified']}").status == 304
    assert live.ask("GET", "/a.txt", "Range: bytes=0-0", f"If-Range: {reply['Last-Modified']}").status == 206


# Ranges (§14)


def parts_of(reply: Reply) -> list[tuple[str, str | None, bytes]]:
    """The parts of a multipart/byteranges: where each is, of what type, and its bytes."""
    kind, _, boundary = (reply["Content-Type"] or "").partition("; boundary=")
    assert kind == "multipart/byteranges"
    assert reply["Content-Range"] is None
    assert 0 < len(boundary) <= 70
    rest = reply.body
    found: list[tuple[str, str | None, bytes]] = []
    while True:
        before, mark, rest = rest.partition(b"--" + boundary.encode())
        assert mark and before in (b"", b"\r\n"), before
        if rest.startswith(b"--"):
            assert rest[2:] in (b"", b"\r\n")
            return found
        head, _, rest = rest[2:].partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        first, last = map(int, fields["Content-Range"].removeprefix("bytes ").split("/")[0].split("-"))
        found.append((fields["Content-Range"], fields.get("Content-Type"), rest[: last - first + 1]))
        rest = rest[last - first + 1 :]


RANGES: list[tuple[str, list[tuple[int, int]] | int | None]] = [
    # What is asked; what comes: parts, None for the whole file, 416.
    ("bytes=0-0", [(0, 1)]),
    ("bytes=0-", [(0, -1)]),
    ("bytes=-1", [(-2, -1)]),
    ("bytes=-99999999999999999999999", [(0, -1)]),
    ("bytes=5-99999999999999999999999", [(5, -1)]),
    ("bytes=100-199", [(100, 200)]),
    ("BYTES=100-199", [(100, 200)]),
    ("bytes=100-199,", [(100, 200)]),
    ("bytes= 100-199", [(100, 200)]),
    ("bytes=100-199, 300-399", [(100, 200), (300, 400)]),
    ("bytes=1000-1999,0-99", [(1000, 2000), (0, 100)]),
    ("bytes=0-99,100-199", [(0, 200)]),
    ("bytes=0-99,50-149", [(0, 150)]),
    ("bytes=0-99,0-99,0-99", [(0, 100)]),
    ("bytes=0-99,150-199", [(0, 200)]),
    ("bytes=0-9,-10", [(0, 10), (-11, -1)]),
    ("bytes=0-,0-9,-5", [(0, -1)]),
    ("bytes=0-9,99999999999-", [(0, 10)]),
    (
        "bytes=" + ",".join(f"{at}-{at + 9}" for at in range(0, 16_000, 1000)),
        [(at, at + 10) for at in range(0, 16_000, 1000)],
    ),
    ("bytes=" + ",".join(f"{at}-{at + 9}" for at in range(0, 17_000, 1000)), None),
    ("bytes=" + "0-," * 1300, None),  # the "Apache killer", CVE-2011-3192
    ("bytes=99999999999-", 416),
    ("bytes=-0", 416),
    ("bytes=99999999999-,-0", 416),
    ("bytes=5-4", None),
    ("bytes=", None),
    ("bytes=-", None),
    ("bytes=a-b", None),
    ("bytes=0-1-2", None),
    ("bytes=+0-1", None),
    ("bytes=0x0-0x1", None),
    ("bytes=0-9,x", None),
    ("bytes = 0-9", None),
    ("bytes", None),
    ("items=0-9", None),
    ("", None),
]


def absolute(spans: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Negative ends count from behind, -1 the end itself."""
    return [(a + size + 1 if a < 0 else a, b + size + 1 if b < 0 else b) for a, b in spans]


@pytest.mark.parametrize("size", [65_536, 100 << 10, 10 * MIB])
def test_ranges(site: Live, size: int) -> None:
    content = CONTENT[:size]
    with site.connect() as client:
        for asked, expected in RANGES:
            if expected is None and size > MIB:
                continue
            client.send(request("GET", f"/size-{size}.bin", f"Range: {asked}"))
            check_range(client.receive_reply(), content, expected)


def check_range(reply: Reply, content: bytes, expected: list[tuple[int, int]] | int | None) -> None:
    size = len(content)
    if expected is None:
        assert (reply.status, reply["Content-Range"]) == (200, None)
        assert reply.body == content
    elif isinstance(expected, int):
        assert (reply.status, reply["Content-Range"]) == (expected, f"bytes */{size}")
        assert reply["ETag"] is None
    else:
        spans = absolute(expected, size)
        assert reply.status == 206
        if len(spans) == 1:
            (first, after), *_ = spans
            assert reply["Content-Range"] == f"bytes {first}-{after - 1}/{size}"
            assert reply["Content-Type"] == "application/octet-stream"
            assert reply.body == content[first:after]
        else:
            kind = "application/octet-stream"
            assert parts_of(reply) == [(f"bytes {a}-{b - 1}/{size}", kind, content[a:b]) for a, b in spans]


def test_large_parts_are_whole(site: Live) -> None:
    spans = [(9 * MIB, 10 * MIB), (0, 300_001), (4 * MIB + 1, 5 * MIB), (400_000, 400_010), (2 * MIB, 3 * MIB)]
    asked = ",".join(f"{first}-{after - 1}" for first, after in spans)
    with site.connect() as client:
        client.send(request("GET", f"/size-{10 * MIB}.bin", f"Range: bytes={asked}") * 3, request("GET", "/data.txt"))
        for _ in range(3):
            assert [part for _, _, part in parts_of(client.receive_reply())] == [CONTENT[a:b] for a, b in spans]
        assert client.receive_reply().body == b"0123456789"


def test_random_ranges(site: Live) -> None:
    dice = random.Random(7)
    with site.connect() as client:
        for _ in range(200):
            size = dice.choice(SIZES[1:-1])
            first = dice.randrange(size)
            last = dice.randrange(first, size)
            client.send(request("GET", f"/size-{size}.bin", f"Range: bytes={first}-{last}"))
            assert client.receive_reply().body == CONTENT[first : last + 1]


def test_two_ranges_fields_and_none_for_head_and_the_empty(site: Live) -> None:
    assert site.ask("GET", "/data.txt", "Range: bytes=0-1", "Range: bytes=2-3").status == 200
    reply = site.ask("HEAD", "/data.txt", "Range: bytes=0-1")
    assert (reply.status, reply["Content-Length"], reply["Content-Range"]) == (200, "10", None)
    # Some clients always ask for a range, also of an empty file.
    for asked in ("bytes=0-", "bytes=0-9", "bytes=-5"):
        assert site.ask("GET", "/size-0.bin", f"Range: {asked}").status == 200


def test_a_custom_content_type_is_that_of_the_parts(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": static_path(www, headers={"Content-Type": "text/x-own", "X-One": "1"})})
    reply = live.ask("GET", "/size-65536.bin", "Range: bytes=0-9,1000-1009")
    assert parts_of(reply) == [
        ("bytes 0-9/65536", "text/x-own", CONTENT[:10]),
        ("bytes 1000-1009/65536", "text/x-own", CONTENT[1000:1010]),
    ]
    assert reply["X-One"] == "1"
    assert live.ask("GET", "/size-65536.bin", "Range: bytes=0-9").get_all("Content-Type") == ["text/x-own"]


# Compressed forms


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Files with forms beside them, which here say of themselves what they are."""
    top = tmp_path_factory.mktemp("packed")
    for name in ("all.txt", "all.txt.zst", "all.txt.br", "all.txt.gz", "gz.html", "gz.html.gz", "index.html"):
        write(top / name, name, WRITTEN)
    write(top / "index.html.br", "index.html.br", WRITTEN + 1)
    write(top / "old.txt", "old.txt", WRITTEN)
    write(top / "old.txt.gz", "old.txt.gz", WRITTEN - 1)
    write(top / "only.txt.gz", "only.txt.gz", WRITTEN)
    write(top / "big.bin", CONTENT[: 2 * MIB], WRITTEN)
    write(top / "big.bin.gz", CONTENT[MIB : 3 * MIB], WRITTEN)
    write(top / "directory.txt", "directory.txt", WRITTEN)
    write(top / "directory.txt.gz/x", "x")
    paths = {"/": top, "/off": static_path(top, precompressed=False), "/one": top / "all.txt"}
    live = start({"call": by_app, "static_paths": paths})
    yield live
    end(live.server)


ACCEPTED = [
    # What a client takes; which of zst, br and gz it gets.
    ((), None),
    (("gzip",), "gz"),
    (("GZIP",), "gz"),
    (("x-gzip",), "gz"),
    (("br",), "br"),
    (("zstd",), "zst"),
    (("gzip, deflate, br, zstd",), "zst"),
    (("gzip, deflate, br",), "br"),
    (("gzip", "br"), "br"),
    (("deflate",), None),
    (("identity",), None),
    (("*",), "zst"),
    (("*;q=0",), None),
    (("zstd;q=0, *",), "br"),
    (("zstd;q=0.5, br;q=0.8, gzip;q=0.7",), "br"),
    (("gzip;q=1.0, br;q=0.999",), "gz"),
    (("br;q=0, gzip",), "gz"),
    (("gzip;q=0",), None),
    (("gzip;q=0.000",), None),
    (("gzip;q=0.001",), "gz"),
    (("gzip;q=0.5, identity",), None),
    (("gzip;q=0.5, identity;q=0.5",), "gz"),
    (("identity;q=0, gzip;q=0.1",), "gz"),
    (("identity;q=0",), None),
    (("gzip;q=2",), None),
    (("gzip;q=0.1234",), None),
    (("gzip;q=",), None),
    (("gzip ; q=0.5",), "gz"),
    (("gzipx, notbr",), None),
    (("",), None),
    ((", ,gzip,",), "gz"),
]


@pytest.mark.parametrize(("values", "suffix"), ACCEPTED)
def test_accept_encoding(packed: Live, values: tuple[str, ...], suffix: str | None) -> None:
    names = {"zst": "zstd", "br": "br", "gz": "gzip"}
    lines = [f"Accept-Encoding: {value}" for value in values]
    for target in ("/all.txt", "/one"):
        reply = packed.ask("GET", target, *lines)
        assert reply.body.decode() == (f"all.txt.{suffix}" if suffix else "all.txt")
        assert reply["Content-Encoding"] == (names[suffix] if suffix else None)
        assert reply["Vary"] == "Accept-Encoding"
        assert reply["Content-Type"] == "text/plain"
        assert reply["Content-Length"] == str(len(reply.body))
    assert packed.ask("GET", "/off/all.txt", *lines).body == b"all.txt"


def test_forms_that_are_none(packed: Live) -> None:
    everything = "Accept-Encoding: gzip, br, zstd"
    for name in ("old.txt", "directory.txt"):
        reply = packed.ask("GET", f"/{name}", everything)
        assert (reply.body.decode(), reply["Vary"]) == (name, None)
    assert packed.ask("GET", "/only.txt", everything).status == 404
    direct = packed.ask("GET", "/only.txt.gz", everything)
    assert (direct["Content-Type"], direct["Content-Encoding"]) == ("application/gzip", None)
    assert packed.ask("GET", "/", everything).body == b"index.html.br"
    assert packed.ask("GET", "/", everything)["Content-Type"] == "text/html; charset=utf-8"


def test_forms_have_tags_and_times_of_their_own(packed: Live) -> None:
    forms = [packed.ask("GET", "/all.txt", f"Accept-Encoding: {name}") for name in ("identity", "gzip", "br", "zstd")]
    tags = [reply["ETag"] for reply in forms]
    assert len(set(tags)) == 4
    assert packed.ask("GET", "/all.txt", GZIP, f"If-None-Match: {tags[1]}").status == 304
    assert packed.ask("GET", "/all.txt", GZIP, f"If-None-Match: {tags[0]}").status == 200
    assert packed.ask("GET", "/all.txt", f"If-None-Match: {tags[1]}").status == 200
    assert packed.ask("GET", "/all.txt", GZIP, f"If-Match: {tags[0]}").status == 412
    # A part of another form would be nonsense.
    assert packed.ask("GET", "/all.txt", GZIP, "Range: bytes=0-3", f"If-Range: {tags[0]}").status == 200
    assert packed.ask("GET", "/", "Accept-Encoding: br")["Last-Modified"] == http_date(WRITTEN + 1)


def test_ranges_of_a_form_are_of_its_bytes(packed: Live) -> None:
    content = CONTENT[MIB : 3 * MIB]
    for asked, expected in RANGES:
        reply = packed.ask("GET", "/big.bin", GZIP, f"Range: {asked}")
        check_range(reply, content, expected)
        assert reply["Content-Encoding"] == ("gzip" if reply.status != 416 else None)


# Changes of files


def test_changes_are_noticed(serve: Serve, tmp_path: Path) -> None:
    """Each within a second, without a wrong answer in between."""
    name = tmp_path / "a.txt"
    live = serve_files(serve, {"/": tmp_path})
    seen: set[tuple[int, bytes]] = set()

    def comes(status: int, body: bytes) -> None:
        def is_so() -> bool:
            reply = live.ask("GET", "/a.txt")
            assert reply["Content-Length"] == str(len(reply.body))
            now = (reply.status, reply.body)
            assert now == (status, body) or now in seen, "neither the old nor the new"
            seen.add(now)
            return now == (status, body)

        began = time.monotonic()
        wait_until(is_so, f"{status} with {len(body)} bytes")
        assert time.monotonic() - began < 1

    missing = (404, b"404 Not Found\n")
    seen.add(missing)
    comes(*missing)
    name.write_bytes(b"one")
    comes(200, b"one")
    write(tmp_path / "new", CONTENT[:100_000])
    os.rename(tmp_path / "new", name)
    comes(200, CONTENT[:100_000])
    with name.open("ab") as file:
        file.write(b"more")
    comes(200, CONTENT[:100_000] + b"more")
    write(tmp_path / "new", "same size")
    os.rename(tmp_path / "new", name)
    comes(200, b"same size")
    name.write_bytes(b"SAME SIZE")
    comes(200, b"SAME SIZE")
    name.unlink()
    comes(*missing)
    name.mkdir()
    write(name / "index.html", "in")
    comes(200, b"in")


@pytest.mark.parametrize("listing", [False, True])
def test_a_directory_that_is_built_anew_is_served_again(serve: Serve, tmp_path: Path, listing: bool) -> None:
    site, name = tmp_path / "site", "index.html" if not listing else "named.txt"
    write(site / name, "first")
    live = serve_files(serve, {"/": static_path(site, listing=listing, indexhtml=not listing), "/file": site / name})

    def comes(text: bytes | None) -> None:
        def is_so() -> bool:
            page, file = live.ask("GET", "/"), live.ask("GET", "/file")
            if text is None:
                return (listing or page.status == 404) and file.status == 404
            return (b"named.txt" if listing else text) in page.body and file.body == text

        wait_until(is_so, f"{text!r}")

    comes(b"first")
    for text in (b"second", b"third"):
        shutil.rmtree(site)
        comes(None)
        write(site / name, text)
        comes(text)


def test_a_form_that_comes_changes_and_goes(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "plain", WRITTEN)
    live = serve_files(serve, {"/": tmp_path})

    def comes(body: bytes) -> None:
        wait_until(lambda: live.ask("GET", "/a.txt", GZIP).body == body, body.decode())

    comes(b"plain")
    write(tmp_path / "a.txt.gz", "packed")
    comes(b"packed")
    write(tmp_path / "a.txt.gz", "repacked")
    comes(b"repacked")
    write(tmp_path / "a.txt", "newer", time.time() + 5)
    comes(b"newer")
    write(tmp_path / "a.txt.gz", "newest", time.time() + 9)
    comes(b"newest")
    (tmp_path / "a.txt.gz").unlink()
    comes(b"newer")


def test_a_replaced_file_of_the_same_size_and_time(serve: Serve, tmp_path: Path) -> None:
    """As `cp -p` and reproducible builds make them."""
    write(tmp_path / "a.txt", "one", WRITTEN)
    live = serve_files(serve, {"/": tmp_path})
    assert live.ask("GET", "/a.txt").body == b"one"
    write(tmp_path / "new", "two", WRITTEN)
    os.rename(tmp_path / "new", tmp_path / "a.txt")
    wait_until(lambda: live.ask("GET", "/a.txt").body == b"two", "the other file")


def test_an_open_download_is_of_one_file(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a.bin", CONTENT)
    live = serve_files(serve, {"/": tmp_path})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", "/a.bin"))
        client.receive_until(b"\r\n\r\n")
        write(tmp_path / "new", bytes(10 * MIB))
        os.rename(tmp_path / "new", tmp_path / "a.bin")
        wait_until(lambda: live.ask("GET", "/a.bin", "Range: bytes=0-99").body == bytes(100), "the new one")
        assert client.receive(10 * MIB) == CONTENT


@pytest.mark.parametrize("size", [0, 1, 3 * MIB, 5 * MIB + 1])
def test_a_file_that_shrinks_ends_its_connection_only(serve: Serve, tmp_path: Path, size: int) -> None:
    write(tmp_path / "a.bin", CONTENT)
    write(tmp_path / "b.txt", "other")
    live = serve_files(serve, {"/": tmp_path})
    with live.connect(receive_buffer_bytes=8192) as client, live.connect() as other:
        client.send(request("GET", "/a.bin"), request("GET", "/b.txt"))
        client.receive_until(b"\r\n\r\n")
        os.truncate(tmp_path / "a.bin", size)
        body = rest_of(client)
        assert len(body) < 10 * MIB  # not filled up, and no other answer in its place
        assert body[:size] == CONTENT[: min(size, len(body))]
        # What the kernel has taken but not sent shares its pages with the file, which end in zeros now.
        assert all(sent in (0, told) for sent, told in zip(body[size:], CONTENT[size:], strict=False))
        other.send(request("GET", "/b.txt"))
        assert other.receive_reply().body == b"other"
    wait_until(lambda: live.ask("HEAD", "/a.bin")["Content-Length"] == str(size), "what is left of it")
    assert live.server.stats()["panics"] == 0


def rest_of(client: Client) -> bytes:
    """All that comes before the end, however it comes."""
    pieces = [bytes(client._buffer)]
    client._buffer.clear()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.socket.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def test_a_file_that_grows_is_sent_as_it_was_promised(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "log.bin", CONTENT[: 5 * MIB])
    live = serve_files(serve, {"/": tmp_path})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", "/log.bin"), request("GET", "/log.bin", "Range: bytes=0-4"))
        client.receive_until(b"\r\n\r\n")
        with (tmp_path / "log.bin").open("ab") as file:
            file.write(CONTENT[5 * MIB :])
        assert client.receive(5 * MIB) == CONTENT[: 5 * MIB]
        assert client.receive_reply().body == CONTENT[:5]


# Changes of static paths


def test_paths_and_options_while_it_runs(serve: Serve, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "index.html", "one")
    write(two / "index.html", "two")
    live = serve(by_app)
    paths = live.server.static_paths
    assert is_of_app(live.ask("GET", "/a/"))
    paths["a"] = one
    assert live.ask("GET", "/a/").body == b"one"
    paths["/a/"] = two
    assert live.ask("GET", "/a/").body == b"two"
    paths.update({"/a": static_path(one, headers={"X": "1"}), "/b": two, "/b/hole": exclude_static_path()})
    assert [live.ask("GET", target).body for target in ("/a/", "/b/")] == [b"one", b"two"]
    assert live.ask("GET", "/a/")["X"] == "1"
    assert live.ask("GET", "/b/x").status == 404
    assert is_of_app(live.ask("GET", "/b/hole/x"))
    live.server.static_path_options = static_path_options(fallthrough=True, validation=("K", "v"))
    assert live.ask("GET", "/b/").status == 403
    assert live.ask("GET", "/b/", "K: v").body == b"two"
    assert is_of_app(live.ask("GET", "/b/x", "K: v"))
    live.server.static_path_options = dataclasses.replace(live.server.static_path_options, validation=None)
    assert live.ask("GET", "/b/").body == b"two"
    del paths["/b/hole"]
    del paths["/a"]
    assert is_of_app(live.ask("GET", "/a/"))
    paths.clear()
    assert is_of_app(live.ask("GET", "/b/"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        paths["/c"] = tmp_path / "nowhere"
    assert dict(paths) == {}


def test_a_directory_that_is_gone_when_it_is_put_in_force(serve: Serve, tmp_path: Path) -> None:
    write(tmp_path / "a/index.html", "a")
    live = serve_files(serve, {"/a": tmp_path / "a"})
    late = static_path(tmp_path / "a", headers={"X": "1"})
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(FileNotFoundError) as caught:
        live.server.static_paths["/b"] = late
    assert caught.value.filename == str(tmp_path / "a")
    assert list(live.server.static_paths) == ["/a"]


def test_changes_under_load(serve: Serve, tmp_path: Path) -> None:
    """Threads ask while another one changes paths and options: each answer is one of those that were right."""
    for name in ("one", "two"):
        write(tmp_path / name / "index.html", f"<{name}>")
        write(tmp_path / name / "big.bin", name.encode() * 100_000)
    live = serve_files(serve, {"/s": tmp_path / "one"})
    bodies = {b"<one>", b"<two>", b"one" * 100_000, b"two" * 100_000, b"403 Forbidden\n", b"404 Not Found\n"}
    is_over = threading.Event()
    counts: dict[int, int] = {}

    def hammer(number: int) -> None:
        with live.connect() as client:
            for target in itertools.cycle(("/s/", "/s/big.bin", "/s/missing")):
                client.send(request("GET", target))
                reply = client.receive_reply()
                assert reply.body in bodies or is_of_app(reply), reply
                assert reply.status in (200, 403, 404)
                counts[number] = counts.get(number, 0) + 1
                if is_over.is_set():
                    return

    def change(number: int) -> None:
        paths, dice = live.server.static_paths, random.Random(number)
        while not is_over.is_set():
            with contextlib.suppress(KeyError):
                dice.choice(changes)(paths)

    def set_options(paths: Any) -> None:
        dice = random.Random()
        live.server.static_path_options = static_path_options(
            fallthrough=dice.random() < 0.5, validation=dice.choice([None, ("K", "v")]), indexhtml=dice.random() < 0.5
        )

    changes: list[Callable[[Any], object]] = [
        lambda paths: paths.update({"/s": tmp_path / "one", "/t": tmp_path / "two"}),
        lambda paths: paths.__setitem__("/s", tmp_path / "two"),
        lambda paths: paths.__setitem__("/s", exclude_static_path()),
        lambda paths: paths.__delitem__("/s"),
        lambda paths: paths.clear(),
        set_options,
    ]
    with ThreadPoolExecutor(6) as pool:
        tasks = [pool.submit(hammer, number) for number in range(4)] + [
            pool.submit(change, number) for number in (1, 2)
        ]
        time.sleep(1)
        is_over.set()
        for task in tasks:
            task.result()
    assert min(counts.values()) > 50
    live.server.static_path_options = static_path_options()
    live.server.static_paths["/s"] = tmp_path / "two"
    assert live.ask("GET", "/s/").body == b"<two>"
    assert live.server.stats()["panics"] == 0


# Order


@pytest.mark.over_tls
def test_pipelined_answers_of_every_kind_keep_their_order(serve: Serve, www: Path) -> None:
    async def call(req: Request) -> dict[str, Any]:
        await asyncio.sleep(0)
        return by_app(req)

    live = serve(
        {"call": call, "static_paths": {"/": static_path(www, fallthrough=True, listing=True)}},
        inline={"/inline": ("text/plain", b"inline")},
    )
    targets = [
        "/data.txt",
        "/missing",
        "/inline",
        f"/size-{MIB}.bin",
        "/bare/",
        "/size-65537.bin",
        "/size-0.bin",
        "/..",
    ]
    dice = random.Random(3)
    asked = [dice.choice(targets) for _ in range(100)]
    alone = {target: live.ask("GET", target).body for target in targets}
    with live.connect() as client:
        sender = threading.Thread(target=lambda: client.send(*(request("GET", target) for target in asked)))
        sender.start()
        for target in asked:
            assert client.receive_reply().body == alone[target], target
        sender.join()
    assert alone["/missing"] == b"GET /missing 0"


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_many_clients_that_close_their_half(serve: Serve, tmp_path: Path, in_memory: Path, where: str) -> None:
    """Each says all it wants, and that this was all; whatever answers in between, nothing of it is lost."""
    top = tmp_path if where == "disk" else in_memory
    sizes = [10, 20_000, 65_537, MIB]
    for size in sizes:
        write(top / f"{size}.bin", CONTENT[:size])
    live = serve_files(serve, {"/": static_path(top, fallthrough=True, listing=True)})
    page = live.ask("GET", "/").body

    def visit(number: int) -> None:
        dice = random.Random(number)
        asked = [dice.choice([*(f"/{size}.bin" for size in sizes), "/missing", "/"]) for _ in range(20)]
        with live.connect() as client:
            client.send(*(request("GET", target) for target in asked))
            client.end()
            for target in asked:
                body = client.receive_reply().body
                if target.endswith(".bin"):
                    assert body == CONTENT[: int(target[1:-4])]
                else:
                    assert body == (page if target == "/" else b"GET /missing 0")
            assert client.receive_rest() == b""

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(visit, range(40)))


@pytest.mark.parametrize("target", ["/", "/missing", "/1.bin", "/65537.bin"])
def test_the_last_answer_of_a_client_that_closed_its_half_is_followed_by_the_end(
    serve: Serve, in_memory: Path, target: str
) -> None:
    for size in (1, 65_537):
        write(in_memory / f"{size}.bin", CONTENT[:size])
    live = serve_files(serve, {"/": static_path(in_memory, listing=True)})
    with live.connect() as client:
        client.send(request("GET", target))
        client.end()
        assert client.receive_reply().status == (404 if target == "/missing" else 200)
        assert client.receive_rest() == b""


def test_a_client_that_closes_its_half_gets_everything(site: Live) -> None:
    with site.connect() as client:
        client.send(request("GET", f"/size-{10 * MIB}.bin"), request("GET", "/size-65537.bin"), request("GET", "/"))
        client.end()
        assert client.receive_reply().body == CONTENT
        assert client.receive_reply().body == CONTENT[:65_537]
        assert client.receive_reply().body == b"<h1>home</h1>"
        assert client.receive_rest() == b""


@pytest.mark.parametrize("count", [1, 2, 40])
def test_large_files_in_a_row(site: Live, count: int) -> None:
    """The second waits until there is room, and nothing but the first's last bytes tells that there is."""
    for size in (65_537, 100 << 10, MIB):
        with site.connect() as client:
            client.send(request("GET", f"/size-{size}.bin") * count)
            client.end()
            for _ in range(count):
                assert client.receive_reply().body == CONTENT[:size]
            assert client.receive_rest() == b""


def test_requests_byte_by_byte(site: Live) -> None:
    with site.connect() as client:
        for byte in request("GET", "/data.txt", "Range: bytes=2-4"):
            client.send(bytes([byte]))
        assert client.receive_reply().body == b"234"


def test_http_1_0(site: Live) -> None:
    with site.connect() as client:
        client.send(b"GET /data.txt HTTP/1.0\r\nHost: localhost\r\n\r\n")
        reply = client.receive_reply()
        assert (reply.status, reply.body) == (200, b"0123456789")
        assert client.receive_rest() == b""
    with site.connect() as client:
        for _ in range(2):
            client.send(b"GET /size-100000.bin HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
            assert client.receive_reply().status == 404
            client.send(b"GET /size-65537.bin HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
            assert client.receive_reply().body == CONTENT[:65_537]
    with site.connect() as client:
        client.send(f"GET /size-{10 * MIB}.bin HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        assert client.receive_reply().body == CONTENT
        assert client.receive_rest() == b""


# Listing


@pytest.fixture
def listed(serve: Serve, tmp_path: Path) -> Live:
    root = tmp_path / "root"
    for name in (
        "a.txt",
        "<b>&\"'.txt",
        "sp ace.txt",
        "ü.txt",
        "javascript:alert(1)",
        "dir/x.txt",
        "indexed/index.html",
    ):
        write(root / name, name)
    for name in (".hidden", ".git/config", ".well-known/x", "nul.txt", "C:", "back\\slash"):
        write(root / name, name)
    write(root / os.fsdecode(b"\xff.txt"), "bytes")
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to("/etc/passwd")
    (root / "in").symlink_to("a.txt")
    (root / "dangling").symlink_to("nothing")
    write(root / "closed/x.txt", "secret")
    write(root / "%2e%2e/x.txt", "odd")
    return serve_files(serve, {"/l": static_path(root, listing=True), "/l/closed": exclude_static_path()})


def test_listing(listed: Live) -> None:
    reply = listed.ask("GET", "/l/")
    assert (reply.status, reply["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = reply.body.decode()
    assert "<b>" not in page and "&lt;b&gt;&amp;&quot;" in page
    assert 'href="javascript:' not in page.lower()
    for name in (".hidden", ".git", "fifo", "out", "dangling"):
        assert f">{name}" not in page, name
    links = [piece.split('"')[0] for piece in page.split('href="')[1:]]
    assert len(links) == len(set(links))
    for link in links:
        assert link.startswith("./")
        target = "/l/" + link.removeprefix("./")
        assert listed.ask("GET", target).status == 200, f"a link that leads nowhere: {link}"
    found = {listed.ask("GET", "/l/" + link.removeprefix("./")).body for link in links}
    for name in ("a.txt", "<b>&\"'.txt", "sp ace.txt", "ü.txt", "javascript:alert(1)", "indexed/index.html"):
        assert name.encode() in found, name
    assert not any(b"secret" in body for body in found)


def test_a_listing_of_a_listed_directory_leads_back(listed: Live) -> None:
    page = listed.ask("GET", "/l/dir/").body.decode()
    assert 'href="../"' in page and 'href="./x%2Etxt"' in page
    assert 'href="../"' not in listed.ask("GET", "/l/").body.decode()
    assert listed.ask("GET", "/l/%252e%252e/").status == 200


def test_listing_needs_a_slash(listed: Live) -> None:
    for target, location in (("/l", "/l/"), ("/l/dir", "/l/dir/"), ("/l/d%69r?a=b&c", "/l/d%69r/?a=b&c")):
        reply = listed.ask("GET", target)
        assert (reply.status, reply["Location"]) == (301, location)
    assert listed.ask("GET", "http://localhost/l/dir")["Location"] == "/l/dir/"
    assert listed.ask("GET", "/l/indexed").status == 200


def test_listing_shows_changes_at_once(serve: Serve, tmp_path: Path) -> None:
    live = serve_files(serve, {"/": static_path(tmp_path, listing=True)})
    assert b"a%2Etxt" not in live.ask("GET", "/").body
    write(tmp_path / "a.txt", "a")
    assert b"a%2Etxt" in live.ask("GET", "/").body
    write(tmp_path / "index.html", "index")
    assert live.ask("GET", "/").body == b"index"


# The disk pool's way: what is not in memory, and file systems that cannot promise not to wait


def test_files_that_are_not_in_memory(serve: Serve, tmp_path: Path) -> None:
    """The kernel's cache is told to forget them, all or in part."""
    for size in (100, 65_537, MIB, 10 * MIB):
        write(tmp_path / f"{size}.bin", CONTENT[:size])
    live = serve_files(serve, {"/": tmp_path})
    dice = random.Random(9)
    with live.connect() as client:
        for turn in range(4):
            for size in (100, 65_537, MIB, 10 * MIB):
                with (tmp_path / f"{size}.bin").open("rb") as file:
                    os.fsync(file.fileno())
                    pieces = [(0, 0)] if turn == 0 else [(dice.randrange(size) & ~0xFFFF, 1 << 16) for _ in range(20)]
                    for start, length in pieces:
                        os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)
            client.send(*(request("GET", f"/{size}.bin") for size in (10 * MIB, 100, MIB, 65_537, 10 * MIB)))
            for size in (10 * MIB, 100, MIB, 65_537, 10 * MIB):
                assert client.receive_reply().body == CONTENT[:size]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no /dev/shm to write to")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="portico-") as name:
        yield Path(name)


def test_tmpfs(serve: Serve, in_memory: Path) -> None:
    for size in SIZES:
        write(in_memory / f"{size}.bin", CONTENT[:size])
    live = serve_files(serve, {"/": in_memory, "/list": static_path(in_memory, listing=True)})
    with live.connect() as client:
        for size in SIZES * 2:
            client.send(request("GET", f"/{size}.bin"))
            assert client.receive_reply().body == CONTENT[:size]
        spans = [(9 * MIB, 10 * MIB), (0, 300_001), (400_000, 400_010)]
        asked = ",".join(f"{first}-{after - 1}" for first, after in spans)
        client.send(request("GET", f"/{10 * MIB}.bin", f"Range: bytes={asked}"), request("GET", "/1.bin"))
        assert [part for _, _, part in parts_of(client.receive_reply())] == [CONTENT[a:b] for a, b in spans]
        assert client.receive_reply().body == CONTENT[:1]
        client.send(*(request("GET", f"/{size}.bin") for size in (MIB, 1, 65_537, 0)), request("GET", "/missing"))
        for size in (MIB, 1, 65_537, 0):
            assert client.receive_reply().body == CONTENT[:size]
        assert client.receive_reply().status == 404
        client.send(request("GET", "/list/"))
        assert client.receive_reply().status == 200


def test_tmpfs_a_file_that_shrinks(serve: Serve, in_memory: Path) -> None:
    write(in_memory / "a.bin", CONTENT)
    live = serve_files(serve, {"/": in_memory})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", "/a.bin"))
        client.receive_until(b"\r\n\r\n")
        os.truncate(in_memory / "a.bin", 3 * MIB)
        body = rest_of(client)
        assert len(body) < 10 * MIB and CONTENT.startswith(body)
    wait_until(lambda: live.ask("HEAD", "/a.bin")["Content-Length"] == str(3 * MIB), "what is left of it")
    assert live.ask("GET", "/a.bin").body == CONTENT[: 3 * MIB]


# A process of its own: memory, descriptors, a held interpreter, its end

SERVER = """
import json

home = "thread"
hold_s = 1.0

def call(req):
    if req.path == "/hold":
        say("holding")
        ctypes.PyDLL(None).usleep(int(hold_s * 1e6))
    return "python"

server = start({"call": call, "static_paths": {"/files": sys.argv[1]}}, home)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "change":
        for number in range(int(rest[0])):
            server.static_paths[f"/x{number % 7}"] = portico.static_path(sys.argv[1], headers={"X": str(number)})
    elif word == "stop":
        began = time.monotonic()
        server.stop(float(rest[0]))
        server.wait_closed()
        say("stopped", time.monotonic() - began)
        break
    say(json.dumps({**server.stats(), "descriptors": len(os.listdir("/proc/self/fd"))}))
"""


def state_of(program: Program, what: str = "state") -> dict[str, int]:
    program.tell(what)
    state: dict[str, int] = json.loads(program.line(DEADLINE_S))
    assert state["panics"] == 0
    return state


def test_a_sparse_file_for_a_slow_reader(tmp_path: Path) -> None:
    size = 300 * MIB
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(size)
    with Program(SERVER, str(tmp_path)) as program:
        address = program.address()
        assert ask(address, request("GET", "/files/sparse.bin", "Range: bytes=-10")).body == bytes(10)
        before = program.memory()
        with Client(address, receive_buffer_bytes=1 << 16) as client:
            client.send(request("GET", "/files/sparse.bin"))
            head = client.receive_until(b"\r\n\r\n")
            assert f"Content-Length: {size}\r\n".encode() in head
            received, buffer = len(client._buffer), bytearray(1 << 20)
            for turn in itertools.count():
                if turn < 20:
                    time.sleep(0.005)  # slow, for a while
                count = client.socket.recv_into(buffer)
                assert count and not any(buffer[:count:4096])
                received += count
                if received == size:
                    break
            client.send(request("GET", "/files/missing"))
            client._buffer.clear()
            assert client.receive_reply().status == 404
        assert program.memory("VmHWM") - before < 16 * MIB


def test_descriptors_of_clients_that_leave(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.bin", CONTENT)
    with Program(SERVER, str(tmp_path)) as program:
        address = program.address()

        def visit(number: int) -> None:
            with Client(address, receive_buffer_bytes=4096) as client:
                client.send(request("GET", f"/files/{number % 4}.bin"), request("GET", f"/files/{number % 3}.bin"))
                client.receive_until(b"\r\n\r\n")
                if number % 2:
                    client.reset()

        for number in range(4):
            visit(number)
        wait_until(lambda: state_of(program)["descriptors"] < 30, "the first are gone")
        before = state_of(program)["descriptors"]
        for number in range(300):
            visit(number)
        wait_until(lambda: state_of(program)["descriptors"] <= before, "as many descriptors as before")


def test_descriptors_of_files_and_paths_that_come_and_go(tmp_path: Path) -> None:
    """Never more open than the cache keeps, however many files are asked for."""
    for number in range(400):
        write(tmp_path / f"{number}.bin", CONTENT[:70_000])
    with Program(SERVER, str(tmp_path)) as program, Client(program.address()) as client:
        before = state_of(program)["descriptors"]
        for number in range(400):
            client.send(request("GET", f"/files/{number}.bin"))
            assert client.receive_reply().body == CONTENT[:70_000]
        assert state_of(program)["descriptors"] <= before + 130
        memory = program.memory()
        state_of(program, "change 1000")
        assert state_of(program)["descriptors"] <= before + 140
        client.send(request("GET", "/x3/7.bin"))
        assert client.receive_reply()["X"] == "997"
        assert program.memory() - memory < 8 * MIB


def test_names_that_do_not_exist_are_not_remembered(tmp_path: Path) -> None:
    with Program(SERVER, str(tmp_path)) as program, Client(program.address()) as client:

        def ask_for(numbers: range) -> None:
            for at in range(numbers.start, numbers.stop, 500):
                client.send(*(request("GET", f"/files/{'x' * 200}{number}") for number in range(at, at + 500)))
                for _ in range(500):
                    assert client.receive_reply().status == 404

        ask_for(range(2000))
        before = program.memory()
        ask_for(range(2000, 22_000))
        assert program.memory() - before < 4 * MIB


def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    """A few bytes for a file each: without a bound what waits for it would grow by gigabytes."""
    for size in (10_000, 60_000, 10 * MIB):
        write(tmp_path / f"{size}.bin", CONTENT[:size])
    with Program(SERVER, str(tmp_path)) as program:
        address = program.address()
        assert ask(address, request("GET", "/files/60000.bin")).status == 200
        before = program.memory()
        for size in (10_000, 60_000, 10 * MIB):
            with Client(address, receive_buffer_bytes=4096) as client:
                client.send_until_full(request("GET", f"/files/{size}.bin") * 100, 8 * MIB)
                client.receive_until(b"\r\n\r\n")
                assert client.receive(size) == CONTENT[:size]
        assert program.memory("VmHWM") - before < 16 * MIB


def test_files_while_python_is_held(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "a")
    write(tmp_path / "a.bin", CONTENT)
    with Program(SERVER, str(tmp_path)) as program:
        address = program.address()
        with Client(address) as holder, Client(address, receive_buffer_bytes=8192) as slow:
            slow.send(request("GET", "/files/a.bin"))
            slow.receive_until(b"\r\n\r\n")
            holder.send(request("GET", "/hold"))
            assert program.line() == "holding"
            began = time.monotonic()
            assert ask(address, request("GET", "/files/a.txt")).body == b"a"
            assert ask(address, request("GET", "/files/a.bin")).body == CONTENT
            assert ask(address, request("GET", "/files/missing")).status == 404
            assert ask(address, request("POST", "/files/a.txt")).status == 405
            write(tmp_path / "late.txt", "late")
            assert ask(address, request("GET", "/files/late.txt")).body == b"late"
            assert slow.receive(10 * MIB) == CONTENT
            assert time.monotonic() - began < 0.8
            assert holder.is_silent()
            assert holder.receive_reply().body == b"python"


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_stop_lets_a_download_finish(serve: Serve, tmp_path: Path, in_memory: Path, where: str) -> None:
    top = tmp_path if where == "disk" else in_memory
    write(top / "a.bin", CONTENT)
    live = serve_files(serve, {"/": top})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", "/a.bin"))
        client.receive_until(b"\r\n\r\n")
        stopper = threading.Thread(target=live.server.stop, args=(DEADLINE_S,))
        stopper.start()
        assert client.receive(10 * MIB) == CONTENT
        assert client.receive_rest() == b""
        stopper.join(DEADLINE_S)
    assert live.server.state == "stopped"
    assert dict(live.server.static_paths) == {}


def test_stop_cuts_a_download(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": www})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", f"/size-{10 * MIB}.bin"))
        client.receive_until(b"\r\n\r\n")
        began = time.monotonic()
        end(live.server)
        assert time.monotonic() - began < 1
        assert len(rest_of(client)) < 10 * MIB


def test_stop_with_a_timeout_ends_for_a_client_that_does_not_read(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": www})
    with live.connect(receive_buffer_bytes=8192) as client:
        client.send(request("GET", f"/size-{10 * MIB}.bin"))
        client.receive_until(b"\r\n\r\n")
        began = time.monotonic()
        live.server.stop(0.2)
        live.server.wait_closed()
        assert 0.15 < time.monotonic() - began < 2


def test_a_client_that_reads_nothing_is_ended(serve: Serve, www: Path) -> None:
    live = serve_files(serve, {"/": www}, limits=portico.Limits(write_timeout_s=0.3))
    with live.connect(receive_buffer_bytes=8192) as client, live.connect(receive_buffer_bytes=8192) as slow:
        for each in (client, slow):
            each.send(request("GET", f"/size-{10 * MIB}.bin"))
            each.receive_until(b"\r\n\r\n")
        received = len(slow._buffer)
        until = time.monotonic() + 0.8
        while time.monotonic() < until:  # little by little is enough to stay
            time.sleep(0.05)
            received += len(slow.socket.recv(200_000))
        while received < 10 * MIB:
            count = len(slow.socket.recv(1 << 20))
            assert count
            received += count
        assert len(rest_of(client)) < 10 * MIB


# All together


def test_traffic_of_every_kind(serve: Serve, www: Path) -> None:
    """400 requests over 100 connections at once: nothing hangs, nothing is mixed up."""

    class App:
        static_paths: ClassVar = {"/files": www, "/files/hole": exclude_static_path()}

        def call(self, req: Request) -> Any:
            if req.path == "/fail":
                raise RuntimeError("on purpose")
            return self.later(req) if req.path.startswith("/async") else by_app(req)

        async def later(self, req: Request) -> dict[str, Any]:
            await asyncio.sleep(random.random() / 50)
            return by_app(req)

    live = serve(App())
    expected: dict[str, tuple[int, bytes | None]] = {
        "/sync": (200, b"GET /sync 0"),
        "/async": (200, b"GET /async 0"),
        "/fail": (500, None),
        "/files/data.txt": (200, b"0123456789"),
        "/files/missing": (404, None),
        "/files/hole": (200, b"GET /files/hole 0"),
        "/files/size-65537.bin": (200, CONTENT[:65_537]),
        f"/files/size-{MIB}.bin": (200, CONTENT[:MIB]),
    }

    def visit(number: int) -> int:
        dice = random.Random(number)
        with live.connect() as client:
            for _ in range(4):
                target = dice.choice(list(expected))
                client.send(request("GET", target))
                reply = client.receive_reply()
                status, body = expected[target]
                assert reply.status == status and body in (None, reply.body), target
        return 4

    with ThreadPoolExecutor(100) as pool:
        assert sum(pool.map(visit, range(100))) == 400


def test_unix_socket(tmp_path: Path, www: Path) -> None:
    name = str(tmp_path / "s")
    server = portico.start_pipe_server(name, None, {"static_paths": {"/": www}}, True, callbacks="thread")
    try:
        with Client(name) as client:
            client.send(request("GET", f"/size-{10 * MIB}.bin"), request("GET", "/data.txt"))
            assert client.receive_reply().body == CONTENT
            assert client.receive_reply().body == b"0123456789"
    finally:
        end(server)


# Other people's clients


def test_urllib(site: Live) -> None:
    url = site.server.url
    with urllib.request.urlopen(f"{url}/size-{MIB}.bin", timeout=DEADLINE_S) as answer:
        assert answer.read() == CONTENT[:MIB]
        modified = answer.headers["Last-Modified"]
    asked = urllib.request.Request(f"{url}/data.txt", headers={"If-Modified-Since": modified})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(asked, timeout=DEADLINE_S)
    assert caught.value.code == 304
    caught.value.close()


@pytest.fixture
def curl(tmp_path: Path) -> Callable[..., bytes]:
    def run(*arguments: str) -> bytes:
        command = ["curl", "--silent", "--show-error", "--max-time", str(DEADLINE_S), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=tmp_path).stdout

    return run


@needs_curl
def test_curl(site: Live, packed: Live, curl: Callable[..., bytes], tmp_path: Path) -> None:
    large = f"{site.server.url}/size-{10 * MIB}.bin"
    assert curl(large) == CONTENT
    assert curl("-r", "100-199", large) == CONTENT[100:200]
    assert curl("-r", "-100", large) == CONTENT[-100:]
    write(tmp_path / "half.bin", CONTENT[: 5 * MIB])
    curl("-C", "-", "-o", "half.bin", large)
    assert (tmp_path / "half.bin").read_bytes() == CONTENT
    page = f"{site.server.url}/page.html"
    assert curl("-z", http_date(WRITTEN), page) == b""
    assert curl("-z", http_date(WRITTEN - 1), page) == b"<p>page"
    curl("--etag-save", "tag", "-o", "page", page)
    assert curl("-o", "page2", "-w", "%{http_code}", "--etag-compare", "tag", page) == b"304"
    assert curl("-I", "-w", "%{http_code}", "-o", "head", page) == b"200"
    assert curl("--path-as-is", "-o", "x", "-w", "%{http_code}", f"{site.server.url}/../../etc/passwd") == b"400"
    assert curl("-0", page) == b"<p>page"
    assert curl("-o", "x", "-w", "%{http_code}", "-d", "x=1", page) == b"405"


@needs_curl
def test_curl_decompresses(serve: Serve, tmp_path: Path, curl: Callable[..., bytes]) -> None:
    write(tmp_path / "a.txt", CONTENT[:100_000].hex(), WRITTEN)
    write(tmp_path / "a.txt.gz", gzip.compress(CONTENT[:100_000].hex().encode()), WRITTEN)
    live = serve_files(serve, {"/": tmp_path})
    url = f"{live.server.url}/a.txt"
    plain = curl(url)
    assert plain == CONTENT[:100_000].hex().encode()
    assert curl("--compressed", url) == plain
    assert int(curl("--compressed", "-o", "out", "-w", "%{size_download}", url)) < len(plain)


def test_aiohttp(site: Live) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession(site.server.url) as session:

            async def get(target: str, **options: Any) -> tuple[int, bytes]:
                async with session.get(target, **options) as answer:
                    return answer.status, await answer.read()

            many = await asyncio.gather(*(get(f"/size-{size}.bin") for size in SIZES * 3))
            assert many == [(200, CONTENT[:size]) for size in SIZES * 3]
            assert await get("/data.txt", headers={"Range": "bytes=2-4"}) == (206, b"234")
            assert await get("/grün/füße.txt") == (200, b"feet")
            assert await get("/missing") == (404, b"404 Not Found\n")

    asyncio.run(asyncio.wait_for(main(), DEADLINE_S))


# The one-line server


def test_run_static_server(tmp_path: Path) -> None:
    write(tmp_path / "a b.txt", "a")
    source = "portico.run_static_server(sys.argv[1], port=0, listing=True); say('after')"
    with Program(source, str(tmp_path)) as program:
        assert program.line() == f"Serving: '{tmp_path}'"
        word, url = program.line().rsplit(" ", 1)
        assert word == "View at:"
        address: Address = ("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
        assert ask(address, request("GET", "/a%20b.txt")).body == b"a"
        assert b"a%20b%2Etxt" in ask(address, request("GET", "/")).body
        assert ask(address, request("GET", "/missing")).status == 404
        assert ask(address, request("POST", "/")).status == 405
        with Client(address) as client:  # that is still there must not keep it
            client.send(request("GET", "/a%20b.txt"))
            client.receive_reply()
            program.send_signal(signal.SIGINT)
            ending = program.end()
        assert ending.output == ["after"]
        assert (ending.code, ending.errors) == (0, "")
        assert ending.seconds < 2


def test_run_static_server_in_the_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "index.html", "index")
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # somebody else may have it, which is as good
            taken.bind(("127.0.0.1", 7446))
            taken.listen()
        server = portico.run_static_server(tmp_path, background=True, fallthrough=True)
    assert server is not None
    try:
        live = Live(server, None)
        assert server.port != 7446
        assert live.ask("GET", "/").body == b"index"
        assert live.ask("GET", "/missing").body == b"404 Not Found\n"
        assert capsys.readouterr().out == f"Serving: '{tmp_path}'\nView at: {server.url}\n"
    finally:
        end(server)


def test_a_static_server_has_no_websockets(tmp_path: Path) -> None:
    server = portico.run_static_server(tmp_path, port=0, background=True)
    assert server is not None
    try:
        assert ask(Live(server, None).address, handshake()).status == 404
    finally:
        end(server)


@pytest.mark.parametrize("how", ["another mapping", "stop"])
def test_files_of_a_mount_that_is_gone_are_let_go(serve: Serve, tmp_path: Path, how: str) -> None:
    """An open descriptor would pin the disk space of a deleted file, and its file system."""
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(200_000))
    live = serve({"static_paths": {"/": tmp_path}})
    assert live.ask("GET", "/large.bin").body == bytes(200_000)

    def is_held() -> bool:
        return any(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())

    assert is_held()
    if how == "stop":
        live.server.stop()
        live.server.wait_closed()
    else:
        live.server.static_paths.clear()
    wait_until(lambda: not is_held(), "it is closed")
