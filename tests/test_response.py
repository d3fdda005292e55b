"""What callbacks may return, and what is refused loudly."""

from __future__ import annotations

import http
from pathlib import Path
from typing import Any

import pytest

from portico import Response
from portico.response import normalise

TEXT = [("Content-Type", "text/plain; charset=utf-8")]


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "fields", "body"),
    [
        ("hi", TEXT, "hi"),
        (Text("hi"), TEXT, "hi"),
        ("", TEXT, ""),
        (b"hi", [], b"hi"),
        (bytearray(b"hi"), [], b"hi"),
        (memoryview(b"hi"), [], b"hi"),
        (None, [], b""),
        ({}, [], b""),
        ({"body": "hi"}, [], "hi"),
        ({"headers": None, "body": None}, [], b""),
        (Response(), [], b""),
        (Response(200, {"A": "1"}, "x"), [("A", "1")], "x"),
        (Response(200, [("A", "1"), ("A", "2")]), [("A", "1"), ("A", "2")], b""),
        (Response(200, {"Set-Cookie": ["a=1", "b=2"]}), [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b""),
    ],
)
def test_what_may_be_returned(value: Any, fields: Any, body: Any) -> None:
    assert normalise(value) == (200, None, fields, body, False)


def test_status_and_reason() -> None:
    assert normalise({"status": 418, "reason": "Short and stout"})[:2] == (418, "Short and stout")
    status = normalise(Response(http.HTTPStatus.NOT_FOUND))[0]
    assert (status, type(status)) == (404, int)


class NumpyLike:
    def __index__(self) -> int:
        return 200


@pytest.mark.parametrize("status", [200.0, "200", True, None, NumpyLike()])
def test_status_of_another_type_is_refused(status: Any) -> None:
    with pytest.raises(TypeError, match="status must be an int"):
        normalise({"status": status})


@pytest.mark.parametrize("status", [0, 101, 199, 600, -1])
def test_status_that_is_no_final_answer_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="between 200 and 599"):
        normalise(Response(status))


def test_reason_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="reason"):
        normalise(Response(200, reason=7))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers", [{"X": 1}, {"X": None}, {"X": [1]}, {1: "x"}, "X: y", b"X: y", 7, ["X: y"], [("X",)], [("X", "y", "z")]]
)
def test_headers_of_another_type_are_refused(headers: Any) -> None:
    with pytest.raises(TypeError, match="header"):
        normalise(Response(200, headers))


def test_json_by_mistake_gets_advice() -> None:
    with pytest.raises(ValueError, match=r"unknown keys .*'hello'.*json\.dumps"):
        normalise({"hello": "world"})


@pytest.mark.parametrize("body", [iter(["a"]), ["a"], (b"a",), {"a"}])
def test_streams_are_announced_for_later(body: Any) -> None:
    with pytest.raises(TypeError, match="streaming is not available yet"):
        normalise(Response(body=body))


@pytest.mark.parametrize("body", [1, 1.5, object(), True])
def test_bodies_of_another_type_are_refused(body: Any) -> None:
    with pytest.raises(TypeError, match="a body must be"):
        normalise(body)


def test_file_is_read_and_deleted_only_if_owned(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")
    assert normalise(Response(body={"file": path}))[3] == b"data"
    assert normalise({"body": {"file": str(path), "owned": True}})[3] == b"data"
    assert not path.exists()
    with pytest.raises(FileNotFoundError):
        normalise(Response(body={"file": path}))


@pytest.mark.parametrize("body", [{}, {"file": 3}, {"file": "x", "owned": 1}, {"file": "x", "own": True}])
def test_file_body_is_spelt_exactly(body: Any) -> None:
    with pytest.raises(TypeError, match="a file as body"):
        normalise(Response(body=body))


def test_status_is_checked_before_an_owned_file_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")
    with pytest.raises(TypeError):
        normalise(Response("200", None, {"file": path, "owned": True}))  # type: ignore[arg-type]
    assert path.exists()
