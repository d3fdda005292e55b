"""What a callback returns, and the one function that makes an answer of it.

Strict: a wrong type is the app's bug and raises, it never becomes a silent 200. Thread: home.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from portico.headers import Headers

Answer: TypeAlias = tuple[int, "str | None", "list[tuple[str, str]]", "bytes | str", bool]
"""`(status, reason, fields, body, close)`: the arguments of the native `respond`, in its order."""

_TEXT: list[tuple[str, str]] = [("Content-Type", "text/plain; charset=utf-8")]
_NO_FIELDS: list[tuple[str, str]] = []
_KEYS = {"status", "headers", "body", "reason"}


@dataclass(slots=True)
class Response:
    """An answer. `headers` is a mapping (a list as value repeats the field) or a sequence of pairs.

    `body` is text (sent as UTF-8), bytes, None, or a file: `{"file": path, "owned": True}` deletes it once read.
    Nothing is added but Date and Content-Length, so say the Content-Type.
    """

    status: int = 200
    headers: object = None
    body: object = None
    reason: str | None = None


def normalise(value: object) -> Answer:
    """Make an answer of what a callback returned: a Response, the same as a dict, str, bytes or None.

    A bare value is the body of a 200; a bare str gets `text/plain; charset=utf-8`.
    Raises: TypeError, ValueError, OSError (a file body that cannot be read).
    """
    if type(value) is str:
        return 200, None, _TEXT, value, False
    if isinstance(value, Response):
        return _check(value.status, value.reason, value.headers, value.body)
    if isinstance(value, Mapping):
        if not value.keys() <= _KEYS:
            unknown = sorted(map(repr, value.keys() - _KEYS))
            raise ValueError(
                f"unknown keys in a response: {', '.join(unknown)}; expected status, headers, body, reason "
                "(to send JSON, return json.dumps(…) as the body)"
            )
        return _check(value.get("status", 200), value.get("reason"), value.get("headers"), value.get("body"))
    if isinstance(value, str):
        return 200, None, _TEXT, str(value), False
    return 200, None, _NO_FIELDS, _read_body(value), False


def _check(status: object, reason: object, headers: object, body: object) -> Answer:
    # Types are checked here, grammar natively: names, values, reason and framing can't say anything HTTP cannot carry.
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status must be an int, not {type(status).__name__} ({status!r})")
    # RFC 9110 §15: nothing beyond 599 is a status; an interim 1xx as the only answer leaves the client waiting.
    if not 200 <= status <= 599:
        raise ValueError(f"status must be between 200 and 599; got {status}")
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    return int(status), reason, read_fields(headers), _read_body(body), False


def read_fields(headers: object) -> list[tuple[str, str]]:
    """Header fields, one pair a line, from a mapping or from pairs. Raises: TypeError."""
    if not headers:
        return _NO_FIELDS
    fields: list[tuple[str, str]] = []
    pairs = headers.items() if type(headers) is dict else _header_lines(headers)
    for name, value in pairs:
        if type(value) is str and type(name) is str:
            fields.append((name, value))
        else:
            fields.extend(_read_field(name, value))
    return fields


def _read_field(name: object, value: object) -> Iterable[tuple[str, str]]:
    if not isinstance(name, str):
        raise TypeError(f"a header name must be a str, not {type(name).__name__} ({name!r})")
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if not isinstance(one, str):
            raise TypeError(f"header {name!r}: the value must be a str or a list of str, not {type(one).__name__}")
        yield str(name), str(one)


def _header_lines(headers: object) -> Iterable[tuple[object, object]]:
    if isinstance(headers, (Mapping, Headers)):
        yield from headers.items()
    elif isinstance(headers, Iterable) and not isinstance(headers, (str, bytes)):
        for pair in headers:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"headers must hold (name, value) pairs, not {pair!r}")
            yield pair[0], pair[1]
    else:
        raise TypeError(f"headers must be a mapping or a list of (name, value), not {type(headers).__name__}")


def _read_body(body: object) -> bytes | str:
    if type(body) is str or type(body) is bytes:
        return body
    if body is None:
        return b""
    if isinstance(body, str):
        return str(body)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, Mapping):
        return _read_file(body)
    if isinstance(body, (Iterable, AsyncIterable)):
        raise TypeError(f"a body of type {type(body).__name__}: streaming is not available yet; make it str or bytes")
    raise TypeError(f"a body must be str, bytes, None or {{'file': path}}, not {type(body).__name__}")


def _read_file(body: Mapping[str, object]) -> bytes:
    path, owned = body.get("file"), body.get("owned", False)
    if not isinstance(path, (str, os.PathLike)) or not isinstance(owned, bool) or not body.keys() <= {"file", "owned"}:
        raise TypeError(f"a file as body is {{'file': path, 'owned': True or False}}; got {dict(body)!r}")
    with open(path, "rb") as file:
        if owned:
            os.unlink(path)
        return file.read()
