"""Which of several patterns answers a request, what it gets, and what a client is told that asks for none of them.

The native half has found the longest literal path by then; this tells apart what follows it. Thread: any (pure).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Generic, TypeVar

from portico.forms import MULTIPART, URLENCODED
from portico.path_pattern import BadRequest, PathPattern
from portico.response import Response

if TYPE_CHECKING:
    from portico.request import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """Who answers `methods` (`"*"`: any) at `pattern`."""

    pattern: PathPattern
    methods: tuple[str, ...]
    target: T

    def takes(self, method: str) -> bool:
        return "*" in self.methods or method in self.methods or (method == "HEAD" and "GET" in self.methods)


class PathTable(Generic[T]):
    """Entries by precedence: more segments first, then literal ones before parameters with a type, before any text."""

    __slots__ = ("entries",)

    def __init__(self) -> None:
        self.entries: tuple[Entry[T], ...] = ()

    def add(self, entry: Entry[T]) -> None:
        """Raises: ValueError, naming both, if another one answers the same requests."""
        for other in self.entries:
            common = set(other.methods) & set(entry.methods)
            if other.pattern.shape == entry.pattern.shape and common:
                told = f"{'/'.join(sorted(common))} {entry.pattern.text!r} ({entry.target})"
                raise ValueError(f"two handlers for the same requests: {told}, and before that {other.target}")
        self.entries = tuple(sorted((*self.entries, entry), key=lambda one: (one.pattern.rank, "*" in one.methods)))

    def find(self, method: str, path: str) -> tuple[T, PathPattern, dict[str, object]] | Response:
        """The target, its pattern and the parameters in the path; else a 404, or a 405 with what is allowed."""
        allowed: list[str] = []
        for entry in self.entries:
            found = entry.pattern.match(path)
            if found is not None:
                if entry.takes(method):
                    return entry.target, entry.pattern, found
                allowed += entry.methods
        if not allowed:
            return refusal(404)
        return refusal(405, "", {"Allow": ", ".join(_with_head(allowed))})

    def mounts(self) -> dict[tuple[str, bool], tuple[str, ...]]:
        """The native routes that find all of these: `(path, prefix)` → methods; below a prefix `find` knows which."""
        mounts: dict[tuple[str, bool], set[str]] = {}
        for entry in self.entries:
            mounts.setdefault(entry.pattern.mount, set()).update(entry.methods)
        return {
            mount: ("*",) if mount[1] or "*" in methods else tuple(sorted(methods)) for mount, methods in mounts.items()
        }


def read_inputs(
    request: Request, pattern: PathPattern, found: Mapping[str, object], names: frozenset[str]
) -> dict[str, object]:
    """The values of a request that somebody may name, those that cost something only if somebody does.

    `body` is JSON as its value, a form as `Form`, text as str, anything else as bytes, by its Content-Type; no body is
    None. Raises: BadRequest.
    """
    values = dict(found, request=request)
    try:
        if pattern.has_query:
            values.update(pattern.read_query(request.query))
        if "query" in names:
            values["query"] = request.query
        if "body" in names:
            values["body"] = _read_body(request)
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest(str(error)) from None
    return values


def _read_body(request: Request) -> object:
    if not request.body:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return request.json()
        except ValueError as error:
            raise BadRequest(f"the body is not the JSON that its Content-Type says: {error}") from None
    if kind in (URLENCODED, MULTIPART):
        return request.form()
    return request.text() if kind.startswith("text/") else request.body


def refusal(status: int, text: str = "", headers: object = ()) -> Response:
    """An answer that only refuses, in the form that the native half has for it."""
    return Response.text(f"{status} {HTTPStatus(status).phrase}{text and ': '}{text}\n", status, headers)


def _with_head(methods: Iterable[str]) -> list[str]:
    every = dict.fromkeys(methods)
    if "GET" in every:
        every["HEAD"] = None
    return sorted(every)
