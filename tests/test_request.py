"""Request: a snapshot, read lazily."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.request import Request, RookInput
from portico.testing import request_parts

MIB = 1024 * 1024
SERVER = ("127.0.0.1", 8080)


def request(target: str = "/", **parts: Any) -> Request:
    return Request(request_parts(1, target, **parts), parts.pop("server", SERVER))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(TEXT, TEXT)
def test_path_and_query_survive_encoding(path: str, value: str) -> None:
    target = "/" + quote(path) + "?" + urlencode([("q", value), ("q", "second")])
    req = request(target)
    assert req.path == "/" + path
    assert req.query["q"] == value
    assert req.query.get_all("q") == [value, "second"]
    assert req.uri == target


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40))
def test_no_target_is_too_strange_to_read(rest: str) -> None:
    req = request("/" + rest)
    assert req.raw_path + ("?" + req.query_string if "?" in rest else "") == req.uri == "/" + rest
    assert isinstance(req.path, str)
    assert dict(req.query) is not None


def test_facts() -> None:
    req = request("/a%20b?x=1&x=&y", method="POST", body=b"hi", http_version="1.0", client=("10.0.0.1", 99))
    assert (req.method, req.path, req.raw_path, req.query_string) == ("POST", "/a b", "/a%20b", "x=1&x=&y")
    assert (req.body, req.http_version, req.scheme) == (b"hi", "1.0", "http")
    assert (req.client, req.server) == (("10.0.0.1", 99), SERVER)
    assert req.query.get_all("x") == ["1", ""]
    assert dict(req.query) == {"x": "1", "y": ""}
    assert repr(req) == "<Request POST /a%20b?x=1&x=&y>"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://host:1/a?b", "/a", "b"),
        ("HTTP://host", "/", ""),
        ("http://host?b", "/", "b"),
        ("*", "*", ""),
        ("/http://x/", "/http://x/", ""),
        ("//x/y", "//x/y", ""),
    ],
)
def test_forms_of_the_target(target: str, path: str, query: str) -> None:
    assert (request(target).path, request(target).query_string) == (path, query)


def test_encoded_slash_can_be_told_in_the_raw_path() -> None:
    assert request("/a%2Fb").path == "/a/b"
    assert request("/a%2Fb").raw_path == "/a%2Fb"


@pytest.mark.parametrize("name", ["method", "path", "headers", "body", "query", "client"])
def test_snapshot_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(request(), name, "x")


def test_cookies() -> None:
    req = request(headers=[("Cookie", 'a=1; b="two words"; a=other'), ("Cookie", "c=x=y; broken; =z")])
    assert req.cookies == {"a": "1", "b": "two words", "c": "x=y"}
    assert request().cookies == {}


def test_cookies_of_many_kinds() -> None:
    header = 'a = "1" ;b=;\tc= x ; d="; e=""; f="x; \xa0=\xa0; g==; h'
    assert request(headers=[("Cookie", header)]).cookies == {
        "a": "1",
        "b": "",
        "c": "x",
        "d": '"',
        "e": "",
        "f": '"x',
        "\xa0": "\xa0",
        "g": "=",
    }


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60))
def test_no_cookie_is_too_strange_to_read(header: str) -> None:
    assert all(name for name in request(headers=[("Cookie", header)]).cookies)


def test_what_a_browser_never_sends_is_bounded() -> None:
    many = ";".join(f"c{number}=1" for number in range(1001))
    assert list(request(headers=[("Cookie", many)]).cookies) == [f"c{number}" for number in range(1000)]
    assert request(headers=[("Cookie", ";" * MIB)]).cookies == {}
    assert len(request("/?" + "&".join(["a=1"] * 1000)).query.pairs) == 1000
    for query in ("&" * MIB, "&".join(["a=1"] * 1001)):
        with pytest.raises(ValueError, match="at most 1000 fields"):
            assert request("/?" + query).query


@pytest.mark.parametrize("piece", [";", "=;", '";', " ", "a=b; ", "="])
def test_work_of_cookies_is_bounded(piece: str) -> None:
    """Counted, not timed: calls that read pieces of the header."""
    count = 0

    def tally(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    req = request(headers=[("Cookie", piece * (MIB // len(piece)))])
    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        _ = req.cookies
    finally:
        sys.setprofile(before)
    assert count < 10_000


def test_host() -> None:
    assert request(headers=[("Host", "example.org:8080")]).host == "example.org:8080"
    assert request("http://a.example/x", headers=[("Host", "A.example:80")]).host == "a.example"
    assert request(http_version="1.0").host == ""


def test_text_follows_the_charset() -> None:
    latin = [("Content-Type", 'text/plain; charset="ISO-8859-1"')]
    assert request(body=b"\xe9", headers=latin).text() == "é"
    assert request(body="é".encode()).text() == "é"
    assert request(body=b"\xe9").text() == "�"
    assert request(body=b"e", headers=[("Content-Type", "text/plain; charset=klingon")]).text() == "e"
    for charset in ("punycode", "idna", "zip"):  # quadratic; or not of text
        assert request(body=b"e-", headers=[("Content-Type", f"text/plain; charset={charset}")]).text() == "e-"


def test_json() -> None:
    assert request(body=b'{"a": [1]}').json() == {"a": [1]}
    with pytest.raises(ValueError, match="Expecting"):
        request(body=b"no").json()
    with pytest.raises(ValueError, match="nested too deeply"):
        request(body=b"[" * 200_000).json()


def test_environ_speaks_rook() -> None:
    fields = [
        ("Content-Type", "text/x"),
        ("Content-Length", "2"),
        ("X-Thing", "a"),
        ("x-thing", "b"),
        ("X_Thing", "evil"),
    ]
    req = request("/p%C3%A9?q=1", method="PUT", headers=fields, body=b"hi")
    env = req.environ
    assert env["REQUEST_METHOD"] == "PUT"
    assert (env["SCRIPT_NAME"], env["PATH_INFO"], env["QUERY_STRING"]) == ("", "/pé", "q=1")
    assert (env["SERVER_NAME"], env["SERVER_PORT"], env["SERVER_PROTOCOL"]) == ("127.0.0.1", "8080", "HTTP/1.1")
    assert (env["REMOTE_ADDR"], env["REMOTE_PORT"]) == ("127.0.0.1", "50000")
    assert (env["CONTENT_TYPE"], env["CONTENT_LENGTH"]) == ("text/x", "2")
    assert env["HTTP_X_THING"] == "a, b"
    assert env["rook.url_scheme"] == "http"
    assert env["rook.input"].read() == b"hi"
    assert env["HEADERS"]["content-type"] == "text/x"
    assert "HTTP_HOST" not in env
    assert req.environ is env


def test_environ_of_a_unix_socket() -> None:
    req = Request(request_parts(1, "/", client=""), "/tmp/x.sock")
    assert (req.environ["SERVER_NAME"], req.environ["SERVER_PORT"]) == ("/tmp/x.sock", "")
    assert (req.environ["REMOTE_ADDR"], req.environ["REMOTE_PORT"]) == ("", "")


def test_rook_input_reads_lines_and_rewinds() -> None:
    body = RookInput(b"one\r\ntwo\nthree")
    assert body.read_lines(1) == ["one"]
    assert body.read_lines() == ["two", "three"]
    assert body.read_lines() == []
    body.rewind()
    assert body.read(3) == b"one"


def test_rook_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    errors = request().environ["rook.errors"]
    errors.cat("a", 1)
    errors.writelines(["\n", "b"])
    errors.flush()
    assert capsys.readouterr().err == "a 1\nb"
