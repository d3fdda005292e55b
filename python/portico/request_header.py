"""A request in the words of R websockets: what `static(socket, header)` is told, and what `http_vars` reads from it.

Thread: any (pure).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from portico.forms import MULTIPART, URLENCODED, Form
from portico.request import Request


class RequestHeader(Mapping[str, str]):
    """The header fields, found in any case, and before them what follows; `request` has what every other door has.

    `GET` (the request line, whatever the method), `TYPE` (the method), `PROT` (`"HTTP/1.1"`), `RESOURCE` (path and
    query) and `raw` (all of the head).
    """

    __slots__ = ("_own", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        prot = f"HTTP/{request.http_version}"
        line = f"{request.method} {request.uri} {prot}"
        self._own = {"raw": "", "GET": line, "TYPE": request.method, "PROT": prot, "RESOURCE": request.uri}

    def __getitem__(self, name: str) -> str:
        if name == "raw":
            fields = [f"{name}: {value}" for name, value in self.request.headers.items()]
            return "\r\n".join([self._own["GET"], *fields, "", ""])
        # First, because a client may send a field called TYPE, which must not pass for the method.
        return self._own[name] if name in self._own else self.request.headers[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self.request.headers if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<RequestHeader {self._own['GET']}>"

    def read_vars(self) -> dict[str, Any]:
        """The fields of the query, or of the form that a POST has as body. Raises: ValueError for a malformed form."""
        request = self.request
        if request.method == "POST":
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            form = request.form() if kind in (URLENCODED, MULTIPART) else Form()
            return {**form, **form.files}
        bare = {unquote_plus(part, errors="replace") for part in request.query_string.split("&") if "=" not in part}
        return {name: value or (None if name in bare else value) for name, value in request.query.items()}
