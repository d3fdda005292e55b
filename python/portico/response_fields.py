"""The status and the header fields of an answer, as apps may give them. Thread: any (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from portico.headers import Headers
from portico.routes import TOKEN

FieldList: TypeAlias = "list[tuple[str, str]]"

_NO_FIELDS: FieldList = []
_NEVER: Final = re.compile(r"[\r\n\0]")
_DIGITS: Final = re.compile(r"[0-9]{1,19}")


def check_status(status: object) -> int:
    """Raises: TypeError, ValueError."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status must be an int, not {type(status).__name__} ({status!r})")
    # RFC 9110 §15: nothing beyond 599 is a status; an interim 1xx as the only answer leaves the client waiting.
    if not 200 <= status <= 599:
        raise ValueError(f"status must be between 200 and 599; got {status}")
    return int(status)


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


def check_fields(fields: FieldList) -> FieldList:
    """These fields, if HTTP can carry them, for who would rather know before they are sent. Raises: ValueError."""
    for name, value in fields:
        if not TOKEN.fullmatch(name) or _NEVER.search(value):
            raise ValueError(f"no header can be called {name!r} and be {value!r}")
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


def read_length(fields: FieldList) -> int | None:
    """The Content-Length, if there is one. Raises: ValueError."""
    lengths = {value.strip(" \t") for name, value in fields if name.lower() == "content-length"}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not _DIGITS.fullmatch(length):
        raise ValueError(f"a Content-Length is one decimal number; got {', '.join(map(repr, (length, *lengths)))}")
    return int(length)
