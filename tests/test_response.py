"""What makes responses: text, JSON, redirects, files and cookies."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from portico import Response
from portico.answer import FileAnswer, normalise

TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def test_text() -> None:
    assert normalise(Response.text("hi")) == (200, None, TEXT, "hi", False)
    given = Response.text("hi", 404, {"content-type": "text/csv", "A": "1"})
    assert normalise(given) == (404, None, [("content-type", "text/csv"), ("A", "1")], "hi", False)
    with pytest.raises(TypeError, match=r"Response\.text needs a str"):
        Response.text(b"hi")  # type: ignore[arg-type]


def test_json() -> None:
    json_type = ("Content-Type", "application/json")
    assert normalise(Response.json({"ä": [1, None]})) == (200, None, [json_type], '{"ä": [1, null]}', False)
    assert normalise(Response.json("x", 201, [("A", "1")])) == (201, None, [json_type, ("A", "1")], '"x"', False)
    with pytest.raises(ValueError, match="JSON"):
        Response.json(float("nan"))
    with pytest.raises(TypeError, match="not JSON serializable"):
        Response.json({1, 2})


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/a?b=c&d=%20#e", "/a?b=c&d=%20#e"),
        ("https://user@[::1]:80/a;b,c!$'()*+~", "https://user@[::1]:80/a;b,c!$'()*+~"),
        ("/ü/€", "/%C3%BC/%E2%82%AC"),
        ('/a b"<>^`{|}\\', "/a%20b%22%3C%3E%5E%60%7B%7C%7D%5C"),
    ],
)
def test_redirect(location: str, sent: str) -> None:
    assert normalise(Response.redirect(location)) == (302, None, [("Location", sent)], b"", False)


def test_redirect_is_checked() -> None:
    assert [Response.redirect("/", status).status for status in (301, 302, 303, 307, 308)]
    for status in (200, 300, 304, 305, 306, 309, True, "302"):
        with pytest.raises(ValueError, match="a redirect is one of 301, 302, 303, 307, 308"):
            Response.redirect("/", status)  # type: ignore[arg-type]
    for location in ("", "/\r\nSet-Cookie: a=b", "/\n", "/\0", "/\t", "/\x7f"):
        with pytest.raises(ValueError, match="a location must not"):
            Response.redirect(location)
    with pytest.raises(ValueError):
        Response.redirect("/\ud800")
    with pytest.raises(TypeError, match="a location must be a str"):
        Response.redirect(Path("/"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.css", "text/css"),
        ("a.html", "text/html; charset=utf-8"),
        ("a.tar.gz", "application/gzip"),
        ("a.svgz", "application/gzip"),
        ("a.html.xz", "application/x-xz"),
        ("a.txt.Z", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_file_gets_the_type_of_its_name(name: str, content_type: str) -> None:
    assert Response.file(Path(name)).headers == [("Content-Type", content_type)]


def test_file() -> None:
    answer = normalise(Response.file("/tmp/x7f", download="report.css", owned=True, status=203))
    fields = [("Content-Type", "text/css"), ("Content-Disposition", 'attachment; filename="report.css"')]
    assert answer == FileAnswer(203, None, fields, "/tmp/x7f", True)
    assert Response.file("a.css", content_type="text/x").headers == [("Content-Type", "text/x")]
    for path in (7, None, b"a.css"):
        with pytest.raises(TypeError, match="path"):
            Response.file(path)  # type: ignore[arg-type]
    for option in ("owned", "ranges"):
        with pytest.raises(ValueError, match=f"{option} must be True or False; got 1"):
            Response.file("a.css", **{option: 1})


def test_files_have_ranges_unless_they_are_owned() -> None:
    for answer, has_ranges in (
        (Response.file("a"), True),
        (Response.file("a", ranges=False), False),
        (Response.file("a", owned=True), False),
        (Response(body={"file": "a"}), False),
        (Response(body={"file": "a", "ranges": True}), True),
    ):
        made = normalise(answer)
        assert isinstance(made, FileAnswer)
        assert made.has_ranges is has_ranges


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("Grüße €.txt", "attachment; filename=\"Gr__e _.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%E2%82%AC.txt"),
        ('a"b%41', "attachment; filename=\"a_b_41\"; filename*=UTF-8''a%22b%2541"),
        ("a'(*);", 'attachment; filename="a\'(*);"'),
        ("\udc80", "attachment; filename=\"_\"; filename*=UTF-8''%3F"),
    ],
)
def test_name_of_a_download(name: str, disposition: str) -> None:
    assert Response.file("x", download=name).headers[1] == ("Content-Disposition", disposition)  # type: ignore[index]


@pytest.mark.parametrize("name", ["", "a/b", "..\\b", "a\r\nb", "a\0"])
def test_download_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="download is the name of a file"):
        Response.file("x", download=name)
    with pytest.raises(TypeError, match="download must be a str or None, not int"):
        Response.file("x", download=7)  # type: ignore[arg-type]


# Cookies


def cookie(name: str = "a", value: str = "b", **options: Any) -> str:
    fields: Any = Response().set_cookie(name, value, **options).headers
    assert fields[0][0] == "Set-Cookie" and len(fields) == 1
    return str(fields[0][1])


def test_cookie_is_added_to_a_new_response() -> None:
    first = Response(201, {"A": ["1", "2"]}, "body", "Well")
    second = first.set_cookie("a", "1").set_cookie("b", "2", path=None, samesite=None)
    assert first == Response(201, {"A": ["1", "2"]}, "body", "Well")
    cookies = [("Set-Cookie", "a=1; Path=/; SameSite=Lax"), ("Set-Cookie", "b=2")]
    assert normalise(second) == (201, "Well", [("A", "1"), ("A", "2"), *cookies], "body", False)


def test_cookie_says_all_it_is_told() -> None:
    moment = datetime(2030, 1, 6, 23, 5, 9, 7, tzinfo=timezone(timedelta(hours=-1)))
    told = cookie(
        max_age=60,
        expires=moment,
        domain="Example.com",
        path="/a b",
        secure=True,
        httponly=True,
        samesite="None",
        partitioned=True,
    )
    assert told == (
        "a=b; Max-Age=60; Expires=Mon, 07 Jan 2030 00:05:09 GMT; Domain=Example.com; Path=/a b; "
        "Secure; HttpOnly; Partitioned; SameSite=None"
    )


def test_cookie_is_deleted_as_it_was_set() -> None:
    fields: Any = Response().delete_cookie("__Host-a", secure=True, samesite="Strict").headers
    assert fields[0][1] == (
        "__Host-a=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; Secure; SameSite=Strict"
    )


@pytest.mark.parametrize("value", ["", "a=b", '"quoted"', "!#$%&'()*+-./:<=>?@[]^_`{|}~", "x" * 4095])
def test_value_of_a_cookie(value: str) -> None:
    assert cookie("a", value, path=None, samesite=None) == f"a={value}"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": ""}, "cookie's name"),
        ({"name": "a b"}, "cookie's name"),
        ({"name": "a=b"}, "cookie's name"),
        ({"name": "ä"}, "cookie's name"),
        ({"value": "a b"}, "cookie's value"),
        ({"value": "a;b"}, "cookie's value"),
        ({"value": "a,b"}, "cookie's value"),
        ({"value": 'a"b'}, "cookie's value"),
        ({"value": '"'}, "cookie's value"),
        ({"value": "a\\b"}, "cookie's value"),
        ({"value": "a\r\nb"}, "cookie's value"),
        ({"value": "a\n"}, "cookie's value"),
        ({"value": "ä"}, "cookie's value"),
        ({"value": "x" * 4096}, "browsers drop it beyond 4096"),
        ({"path": ""}, "cookie's path"),
        ({"path": "a"}, "cookie's path"),
        ({"path": "/a;b"}, "cookie's path"),
        ({"path": "/\n"}, "cookie's path"),
        ({"path": "/ä"}, "cookie's path"),
        ({"path": "/" + "a" * 1024}, "at most 1024"),
        ({"domain": ""}, "cookie's domain"),
        ({"domain": "a..b"}, "cookie's domain"),
        ({"domain": "a;b"}, "cookie's domain"),
        ({"domain": "-a"}, "cookie's domain"),
        ({"domain": "ä.de"}, "xn--"),
        ({"expires": datetime(2030, 1, 1)}, "time zone"),
        ({"expires": datetime(1600, 12, 31, tzinfo=timezone.utc)}, "1601"),
        ({"samesite": "lax"}, "samesite must be"),
        ({"samesite": ""}, "samesite must be"),
        ({"samesite": "None"}, "need secure=True"),
        ({"partitioned": True}, "need secure=True"),
        ({"name": "__Secure-a"}, "__Secure-"),
        ({"name": "__HOST-a"}, "__Host-"),
        ({"name": "__Host-a", "secure": True, "domain": "a.de"}, "__Host-"),
        ({"name": "__Host-a", "secure": True, "path": "/a"}, "__Host-"),
    ],
)
def test_cookie_that_browsers_would_not_take(options: Any, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        cookie(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"name": 1},
        {"value": 1},
        {"value": None},
        {"value": b"x"},
        {"max_age": 1.5},
        {"max_age": True},
        {"expires": 7},
        {"expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"domain": 1},
        {"path": 1},
        {"secure": 1},
        {"httponly": None},
        {"partitioned": "yes"},
    ],
)
def test_cookie_of_other_types(options: Any) -> None:
    with pytest.raises(TypeError):
        cookie(**options)
