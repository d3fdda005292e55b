"""What callbacks may return, and what is refused loudly."""

from __future__ import annotations

import http
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portico import Response
from portico.answer import FileAnswer, StreamAnswer, normalise, read_whole

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
    answer = normalise({"status": 418, "reason": "Short and stout"})
    assert answer == (418, "Short and stout", [], b"", False)
    answer = normalise(Response(http.HTTPStatus.NOT_FOUND))
    assert isinstance(answer, tuple)
    status = answer[0]
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
    with pytest.raises(ValueError, match=r"unknown keys .*'hello'.*Response\.json"):
        normalise({"hello": "world"})


@pytest.mark.parametrize("body", [1, 1.5, object(), True, {"a"}, frozenset("a"), Response(), print])
def test_bodies_of_another_type_are_refused(body: Any) -> None:
    with pytest.raises(TypeError, match="a body must be"):
        normalise(Response(body=body))


# Bodies in pieces


async def generate() -> AsyncIterator[str]:
    yield "a"


@pytest.mark.parametrize("body", [iter(["a"]), ["a"], (b"a",), [], map(str, [1]), range(3), generate()])
def test_iterables_are_sent_in_pieces(body: Any) -> None:
    assert normalise(body) == StreamAnswer(200, None, [], body, None, [])
    answer = normalise({"status": 404, "headers": {"A": "1"}, "body": body, "reason": "No"})
    assert answer == StreamAnswer(404, "No", [("A", "1")], body, None, [])


@pytest.mark.parametrize(("content", "empty"), [(b"x" * 70_000, b""), ("x" * 70_000, "")])
def test_open_file_is_read_in_pieces(content: Any, empty: Any) -> None:
    file: Any = io.BytesIO(content) if isinstance(content, bytes) else io.StringIO(content)
    source: Any = stream(file).source
    assert [len(piece) for piece in source] == [65536, 70_000 - 65536]
    source.close()
    assert file.closed


def stream(body: object, headers: object = None, trailers: object = None) -> StreamAnswer:
    answer = normalise(Response(200, headers, body, trailers=trailers))
    assert isinstance(answer, StreamAnswer)
    return answer


@pytest.mark.parametrize(
    ("headers", "length"), [({"content-length": "0"}, 0), ([("A", "1"), ("Content-Length", " 12 ")], 12), ({}, None)]
)
def test_length_of_a_stream_is_the_apps(headers: Any, length: int | None) -> None:
    assert stream(["a"], headers).length == length


@pytest.mark.parametrize("length", ["", "-1", "+1", "1.0", "0x1", "1_0", "²", "1, 1", "9" * 30, ["1", "2"]])
def test_length_of_a_stream_is_a_number(length: Any) -> None:
    with pytest.raises(ValueError, match="Content-Length is one decimal number"):
        stream(["a"], {"Content-Length": length})


def test_trailers_of_a_stream() -> None:
    assert stream(["a"], None, {"A": ["1", "2"]}).trailers == [("A", "1"), ("A", "2")]
    assert stream(["a"], None, [("A", "1")]).trailers == [("A", "1")]
    assert stream(["a"], None, dict).trailers is dict
    with pytest.raises(TypeError, match="header"):
        stream(["a"], None, {"A": 1})


@pytest.mark.parametrize("body", ["text", b"bytes", None, bytearray(b"x"), {"file": "x"}])
def test_only_streams_have_trailers(body: Any) -> None:
    with pytest.raises(ValueError, match="trailers follow a body that is sent piece by piece"):
        normalise(Response(body=body, trailers={"A": "1"}))


# Files


def test_file_is_named_and_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "missing"
    assert normalise(Response(203, None, {"file": path}, "Well")) == FileAnswer(203, "Well", [], path, False)
    assert normalise({"body": {"file": str(path), "owned": True}}) == FileAnswer(200, None, [], str(path), True)


@pytest.mark.parametrize(
    "body", [{}, {"file": 3}, {"file": "x", "owned": 1}, {"file": "x", "own": True}, {"file": "x", "ranges": None}]
)
def test_file_body_is_spelt_exactly(body: Any) -> None:
    with pytest.raises(TypeError, match="a file as body"):
        normalise(Response(body=body))


def test_opened_file_is_deleted_only_if_owned(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")
    for is_owned in (False, True):
        descriptor, size, modified_ns = FileAnswer(200, None, [], path, is_owned, not is_owned).open()
        assert (os.read(descriptor, 10), size, os.get_inheritable(descriptor)) == (b"data", 4, False)
        assert modified_ns == (None if is_owned else path.stat().st_mtime_ns)
        os.close(descriptor)
    assert not path.exists()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(ValueError, match="only a regular file"):
            FileAnswer(200, None, [], path, True).open()
        assert path.exists()
    with pytest.raises(FileNotFoundError):
        FileAnswer(200, None, [], tmp_path / "missing", False).open()


def test_answers_that_are_kept_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")
    assert read_whole(Response(203, {"A": "1"}, {"file": path})) == (203, [("A", "1")], b"data")
    assert read_whole("ü") == (200, TEXT, "ü".encode())
    assert read_whole(b"x") == (200, [], b"x")
    with pytest.raises(TypeError, match="only once"):
        read_whole(["a"])
