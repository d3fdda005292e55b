"""The one function that makes an answer of what a callback returned, and the kinds of answers there are.

Strict: a wrong type is the app's bug and raises, it never becomes a silent 200. Thread: home.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from portico.response import Response
from portico.response_fields import FieldList, check_status, read_fields, read_length

Answer: TypeAlias = tuple[int, "str | None", FieldList, "bytes | str", bool]
"""`(status, reason, fields, body, close)`: the arguments of the native `respond`, in its order."""

_TEXT: FieldList = [("Content-Type", "text/plain; charset=utf-8")]
_NO_FIELDS: FieldList = []
_KEYS = {"status", "headers", "body", "reason", "trailers"}
_PIECE_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class FileAnswer:
    """An answer whose body is a file that has not been opened yet."""

    status: int
    reason: str | None
    fields: FieldList
    path: str | os.PathLike[str]
    is_owned: bool
    has_ranges: bool = False

    def open(self) -> tuple[int, int, int | None]:
        """Open the file; return its descriptor, which the caller closes, its size, and for ranges when it was changed.

        Raises: OSError, ValueError.
        """
        # Not blocking: whoever opens a pipe that nobody writes would wait for ever.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"only a regular file can be an answer, and this is none: {os.fspath(self.path)!r}")
            if self.is_owned:
                os.unlink(self.path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, found.st_size, found.st_mtime_ns if self.has_ranges else None


@dataclass(slots=True)
class StreamAnswer:
    """An answer whose body comes in pieces. `length` is the Content-Length that the app gave, if it did."""

    status: int
    reason: str | None
    fields: FieldList
    source: Iterable[object] | AsyncIterable[object]
    length: int | None
    trailers: FieldList | Callable[[], object]


@dataclass(slots=True)
class PushAnswer:
    """An answer that the app sends when it likes: `on_request(conn, req)` gets, and may keep, what it sends with."""

    on_request: Callable[[Any, Any], object]
    on_close: Callable[[Any], object] | None
    request: Any


def normalise(value: object) -> Answer | FileAnswer | StreamAnswer | PushAnswer:
    """Make an answer of what a callback returned: a Response, the same as a dict, or just a body.

    A bare value is the body of a 200; a bare str gets `text/plain; charset=utf-8`. Opens and reads nothing yet.
    Raises: TypeError, ValueError.
    """
    # By type first: most answers are one of these, and asking an ABC costs more than all the rest.
    kind = type(value)
    if kind is str:
        return 200, None, _TEXT, value, False  # type: ignore[return-value]
    if kind is bytes:
        return 200, None, _NO_FIELDS, value, False  # type: ignore[return-value]
    if value is None:
        return 200, None, _NO_FIELDS, b"", False
    if isinstance(value, Response):
        return _check(value.status, value.reason, value.headers, value.body, value.trailers)
    if kind is dict or isinstance(value, Mapping):
        return _check_mapping(value)  # type: ignore[arg-type]
    if isinstance(value, str):
        return 200, None, _TEXT, str(value), False
    if isinstance(value, PushAnswer):
        return value
    return _check(200, None, None, value, None)


def _check_mapping(value: Mapping[object, object]) -> Answer | FileAnswer | StreamAnswer:
    if not value.keys() <= _KEYS:
        unknown = sorted(map(repr, value.keys() - _KEYS))
        raise ValueError(
            f"unknown keys in a response: {', '.join(unknown)}; expected status, headers, body, reason, trailers "
            "(to send JSON, return portico.Response.json(…))"
        )
    get = value.get
    return _check(get("status", 200), get("reason"), get("headers"), get("body"), get("trailers"))


def _check(
    status: object, reason: object, headers: object, body: object, trailers: object
) -> Answer | FileAnswer | StreamAnswer:
    # Types are checked here, grammar natively: names, values, reason and framing can't say anything HTTP cannot carry.
    status = check_status(status)
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    fields = read_fields(headers)
    if type(body) is not str and type(body) is not bytes:
        if isinstance(body, Mapping):
            _refuse_trailers(trailers)
            return FileAnswer(status, reason, fields, *_read_file(body))
        source = _read_stream(body)
        if source is not None:
            return StreamAnswer(status, reason, fields, source, read_length(fields), _read_trailers(trailers))
        body = _read_body(body)
    if trailers is not None:
        _refuse_trailers(trailers)
    return status, reason, fields, body, False


def with_text_type(answer: Answer, text_type: str) -> Answer:
    """With that Content-Type if the body is a str and nothing is said."""
    status, reason, fields, body, close = answer
    if not isinstance(body, str) or any(name.lower() == "content-type" for name, _ in fields):
        return answer
    return status, reason, [("Content-Type", text_type), *fields], body, close


def _read_body(body: object) -> bytes | str:
    if body is None:
        return b""
    if isinstance(body, str):
        return str(body)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise TypeError(
        "a body must be str, bytes, None, {'file': path}, an open file, or an iterable or async iterable of str and "
        f"bytes; not {type(body).__name__}"
    )


def _read_stream(body: object) -> Iterable[object] | AsyncIterable[object] | None:
    if body is None or isinstance(body, (str, bytes, bytearray, memoryview)):
        return None
    if isinstance(body, AsyncIterable):
        return body
    if callable(getattr(body, "read", None)):
        return FilePieces(body)
    # What has no order is no body.
    return body if isinstance(body, Iterable) and not isinstance(body, Set) else None


class FilePieces(Iterator[object]):
    """What an open file gives, until it gives nothing; closed at the end."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __next__(self) -> object:
        piece: object = self._file.read(_PIECE_BYTES)
        if piece == b"" or piece == "":
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close the file."""
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


def _read_trailers(trailers: object) -> FieldList | Callable[[], object]:
    return trailers if callable(trailers) else read_fields(trailers)


def _refuse_trailers(trailers: object) -> None:
    if trailers is not None:
        raise ValueError("trailers follow a body that is sent piece by piece; this one has a length ([body] has none)")


def _read_file(body: Mapping[str, object]) -> tuple[str | os.PathLike[str], bool, bool]:
    path, owned, ranges = body.get("file"), body.get("owned", False), body.get("ranges", False)
    has_types = isinstance(path, (str, os.PathLike)) and isinstance(owned, bool) and isinstance(ranges, bool)
    if not has_types or not body.keys() <= {"file", "owned", "ranges"}:
        flags = "'owned': True or False, 'ranges': True or False"
        raise TypeError(f"a file as body is {{'file': path, {flags}}}, the last two if need be; got {dict(body)!r}")
    return path, owned, ranges  # type: ignore[return-value]


def read_whole(value: object) -> tuple[int, FieldList, bytes]:
    """An answer that is kept, not sent: its status, fields and body. Raises: TypeError, ValueError, OSError."""
    answer = normalise(value)
    if isinstance(answer, (StreamAnswer, PushAnswer)):
        source = answer.source if isinstance(answer, StreamAnswer) else answer
        raise TypeError(f"a body that is sent piece by piece ({type(source).__name__}) can be sent only once")
    if isinstance(answer, FileAnswer):
        descriptor, size, _ = answer.open()
        with open(descriptor, "rb") as file:
            return answer.status, answer.fields, file.read(size)
    status, _, fields, body, _ = answer
    return status, fields, body.encode() if isinstance(body, str) else body
