"""`Response`: an answer with a status, headers and a body, which a callback may return. Thread: any."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import quote

from portico.response_fields import FieldList, read_fields
from portico.routes import check_flag
from portico.set_cookie import SameSite, format_set_cookie

# RFC 9110 §15.4: 300, 304 and 305 say something else with a Location, or nothing at all.
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# What RFC 3986 lets stand, `%` included: what is percent-encoded already stays as it is.
_URI_CHARACTERS: Final = "%:/?#[]@!$&'()*+,;=-._~"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# RFC 8187 §3.2.1, attr-char
_PARAMETER_CHARACTERS: Final = "!#$&+-.^_`|~"
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
