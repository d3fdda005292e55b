"""What a callback returns, and the one function that makes an answer of it.

Strict: a wrong type is the app's bug and raises, it never becomes a silent 200. Thread: home.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from portico.headers import Headers
from portico.routes import TOKEN, check_flag
from portico.set_cookie import SameSite, format_set_cookie

FieldList: TypeAlias = "list[tuple[str, str]]"

Answer: TypeAlias = tuple[int, "str | None", FieldList, "bytes | str", bool]
"""`(status, reason, fields, body, close)`: the arguments of the native `respond`, in its order."""

_TEXT: FieldList = [("Content-Type", "text/plain; charset=utf-8")]
_NO_FIELDS: FieldList = []
_KEYS = {"status", "headers", "body", "reason", "trailers"}
_NEVER: Final = re.compile(r"[\r\n\0]")
_PIECE_BYTES: Final = 64 * 1024

# RFC 9110 §15.4: 300, 304 and 305 say something else with a Location, or nothing at all.
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# What RFC 3986 lets stand, `%` included: what is percent-encoded already stays as it is.
_URI_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;=-._~"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# RFC 8187 §3.2.1, attr-char
_PARAMETER_CHARACTERS: Final = "!#$&+-.^_`|~"
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
_PACKED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(slots=True)
class Response:
    """An answer. `headers` is a mapping (a list as value repeats the field) or a sequence of pairs.

    `body` is text (sent as UTF-8), bytes, None, a file: `{"file": path}`; with `"owned": True` it is deleted once
    opened, with `"ranges": True` clients may ask for parts of it, and whether it has changed, as `file` says. Or it is
    sent piece by piece as the client takes it: an iterator or iterable of str and bytes, an async one, an open file
    object. `trailers` are fields that follow such a body, or a function that gives them when it has ended.
    Nothing is added but Date and Content-Length, so say the Content-Type.
    """

    status: int = 200
    headers: object = None
    body: object = None
    reason: str | None = None
    trailers: object = None

    @classmethod
    def text(cls, text: str, status: int = 200, headers: object = ()) -> Response:
        """Plain text."""
        if not isinstance(text, str):
            raise TypeError(f"Response.text needs a str, not {type(text).__name__}")
        return cls(status, _with_type("text/plain; charset=utf-8", headers), text)

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: object = ()) -> Response:
        """`value` as JSON. Raises: TypeError, ValueError, also for NaN and infinity, which JSON doesn't have."""
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        return cls(status, _with_type("application/json", headers), text)

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Response:
        """Go to `location`: 301, 302, 303, 307 or 308. What no URL can hold is percent-encoded.

        It may lead anywhere: check it first if a stranger chose it. Raises: TypeError, ValueError.
        """
        if status not in _REDIRECTS or isinstance(status, bool):
            raise ValueError(f"a redirect is one of {', '.join(map(str, _REDIRECTS))}; got {status!r}")
        if not isinstance(location, str):
            raise TypeError(f"a location must be a str, not {type(location).__name__} ({location!r})")
        if not location or _CONTROL.search(location):
            raise ValueError(f"a location must not be empty or have control characters; got {location!r}")
        return cls(status, [("Location", quote(location, safe=_URI_CHARACTERS))])

    @classmethod
    def file(
        cls,
        path: str | os.PathLike[str],
        *,
        download: str | None = None,
        content_type: str | None = None,
        owned: bool = False,
        status: int = 200,
        ranges: bool = True,
    ) -> Response:
        """A file. `download` is the name under which browsers save it instead of showing it.

        content_type: None guesses by the name. owned: delete the file once it is opened.
        ranges: clients may ask for parts of it, so that players seek and downloads resume, and whether it has changed:
            it is sent with ETag, Last-Modified and Accept-Ranges, unless headers say their own, and answered with 206,
            304, 412 or 416 where that is asked for. Only if the status is 200, and not if it is owned: the next request
            will be for another file.

        Raises: TypeError, ValueError.
        """
        for name, flag in (("owned", owned), ("ranges", ranges)):
            check_flag(name, flag)
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"a path must be a str or an os.PathLike, not {type(path).__name__}")
        named = [] if download is None else [("Content-Disposition", _format_disposition(download))]
        fields = [("Content-Type", content_type or _guess_type(download or os.fspath(path))), *named]
        return cls(status, fields, {"file": path, "owned": owned, "ranges": ranges and not owned})

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | None = None,
        expires: datetime | None = None,
        domain: str | None = None,
        path: str | None = "/",
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = "Lax",
        partitioned: bool = False,
    ) -> Response:
        """A new Response with one more cookie; this one stays as it is.

        max_age: in seconds. expires: a datetime with a time zone; without either the browser forgets the cookie when it
        ends. domain: also for the hosts below it; None: for this host only. path: None is that of the request.
        Raises: TypeError; ValueError for what RFC 6265 does not allow, or browsers drop.
        """
        cookie = format_set_cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            domain=domain,
            path=path,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
            partitioned=partitioned,
        )
        return replace(self, headers=[*read_fields(self.headers), ("Set-Cookie", cookie)])

    def delete_cookie(
        self,
        name: str,
        *,
        domain: str | None = None,
        path: str | None = "/",
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = "Lax",
        partitioned: bool = False,
    ) -> Response:
        """A new Response that makes the browser forget a cookie; say what it was set with. Raises: as `set_cookie`."""
        return self.set_cookie(
            name,
            "",
            max_age=0,
            expires=_EPOCH,
            domain=domain,
            path=path,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
            partitioned=partitioned,
        )


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


def check_status(status: object) -> int:
    """Raises: TypeError, ValueError."""
    if not isinstance(status, int) or isinstance(status, bool):
        raise TypeError(f"status must be an int, not {type(status).__name__} ({status!r})")
    # RFC 9110 §15: nothing beyond 599 is a status; an interim 1xx as the only answer leaves the client waiting.
    if not 200 <= status <= 599:
        raise ValueError(f"status must be between 200 and 599; got {status}")
    return int(status)


def with_text_type(answer: Answer, text_type: str) -> Answer:
    """With that Content-Type if the body is a str and nothing is said."""
    status, reason, fields, body, close = answer
    if not isinstance(body, str) or any(name.lower() == "content-type" for name, _ in fields):
        return answer
    return status, reason, [("Content-Type", text_type), *fields], body, close


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


def _with_type(content_type: str, headers: object) -> FieldList:
    fields = read_fields(headers)
    if any(name.lower() == "content-type" for name, _ in fields):
        return fields
    return [("Content-Type", content_type), *fields]


def _guess_type(name: str) -> str:
    import mimetypes  # reads the system's tables, and few need it

    kind, packing = mimetypes.guess_type(name)
    if packing is not None:
        # Sent as it lies there: a packed file, whatever is in it.
        return _PACKED.get(packing, "application/octet-stream")
    if kind == "text/html":
        return "text/html; charset=utf-8"  # as static paths say it
    return kind or "application/octet-stream"


def _format_disposition(name: str) -> str:
    """RFC 6266: a plain name for everybody, and what it doesn't say for those who know RFC 8187."""
    if not isinstance(name, str):
        raise TypeError(f"download must be a str or None, not {type(name).__name__}")
    if not name or _CONTROL.search(name) or "/" in name or "\\" in name:
        raise ValueError(
            f"download is the name of a file, not empty, without / \\ and control characters; got {name!r}"
        )
    # RFC 6266 App. D: browsers do not agree on quotes and percent signs in the plain one.
    plain = re.sub(r'[^ -~]|["%]', "_", name)
    if plain == name:
        return f'attachment; filename="{name}"'
    encoded = quote(name, safe=_PARAMETER_CHARACTERS, errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


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


def read_length(fields: FieldList) -> int | None:
    """The Content-Length, if there is one. Raises: ValueError."""
    lengths = {value.strip(" \t") for name, value in fields if name.lower() == "content-length"}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not _DIGITS.fullmatch(length):
        raise ValueError(f"a Content-Length is one decimal number; got {', '.join(map(repr, (length, *lengths)))}")
    return int(length)


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
