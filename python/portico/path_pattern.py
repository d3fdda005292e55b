"""A path with typed parameters, `/users/<id:int>?<page:int=1>`: what it takes, and what the parameters are then.

Values only; which of several patterns answers is `path_table`'s business. Thread: any (pure).
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Final
from urllib.parse import quote

from portico.parameters import shorten


class BadRequest(ValueError):
    """The client's mistake, told to it with a 400."""


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def _read_int(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text):  # int() also takes underscores, blanks, and other digits
        raise ValueError(text)
    return int(text)


def _read_bool(text: str) -> bool:
    return _BOOLS[text.lower()]


_BOOLS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_READERS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    "str": (str, "text"),
    "int": (_read_int, "a whole number"),
    "float": (_read_float, "a number"),
    "bool": (_read_bool, "true or false"),
    "path": (str, "a path"),
}
_PARAMETER: Final = re.compile(r"<([^<>:=]*)(?::([^<>:=]*))?(?:=([^<>]*))?>")
_RANKS: Final = {"str": 2, "path": 3}  # a literal segment is 0, any other type 1


class PathPattern:
    """`/static/<name>`: a segment; `<name:int>`, `float`, `bool`: one that reads as such; `<name:path>`: all the rest.

    After a `?` it names parameters of the query: `?<q>&<page:int=1>`; one without a default must be there.

    `mount` is the `(path, prefix)` of the route that finds it natively. Raises: TypeError, ValueError that shows it.
    """

    __slots__ = ("_names", "_pattern", "_query", "mount", "rank", "shape", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"a path must be a str, not {type(text).__name__}")
        if not text.startswith("/"):
            raise ValueError(f"a path begins with '/'; got {text!r}")
        self.text = text
        path, _, query = text.partition("?")
        self._names: dict[str, str] = {}
        self._query: dict[str, tuple[str, str | None]] = {}
        pieces = [self._read_segment(segment) for segment in path.split("/")[1:]]
        for part in query.split("&") if query else ():
            self._read_query_part(part)
        ranks = [rank for _, rank in pieces]
        if 3 in ranks[:-1]:
            raise ValueError(f"{text!r}: a path parameter takes all the rest, so nothing can follow it")
        slash = "" if path.endswith("/") else "/?"
        self._pattern = re.compile("".join("/" + piece for piece, _ in pieces) + slash, re.DOTALL)
        # Of two that take a path: more segments first, then what is more particular, from the left.
        self.rank = (-len(ranks), ranks)
        self.shape = (re.sub(r"\(\?P<\w+>", "(", self._pattern.pattern), tuple(self._names.values()))
        literal = ranks.index(next(rank for rank in ranks if rank)) if any(ranks) else len(ranks)
        self.mount = ("/" + "/".join(path.split("/")[1 : literal + 1]), any(ranks))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, of the path and of the query."""
        return (*self._names, *self._query)

    def names_with(self, others: Collection[str]) -> tuple[str, ...]:
        """These and the parameters. Raises: ValueError for one that is called like another."""
        for name in self.names:
            if name in others:
                raise ValueError(f"{self.text!r}: {name!r} has a meaning already; call the parameter something else")
        return (*others, *self.names)

    def match(self, path: str) -> dict[str, object] | None:
        """The parameters of this decoded path; None if it isn't one of these."""
        found = self._pattern.fullmatch(path)
        if found is None:
            return None
        try:
            return {name: _READERS[kind][0](found[name]) for name, kind in self._names.items()}
        except (ValueError, KeyError):
            return None  # `/users/me` is no user with a number, and may be another's

    def read_query(self, query: Mapping[str, str]) -> dict[str, object]:
        """The parameters of the query. Raises: BadRequest."""
        return {name: _read_one(name, kind, query.get(name, default)) for name, (kind, default) in self._query.items()}

    def check_fill(self, text: str) -> None:
        """Whether `fill` can do it. Raises: ValueError."""
        for name in re.findall(r"<([^<>]*)>", text):
            if name not in self._names:
                raise ValueError(f"{text!r} names <{name}>, which {self.text!r} has not")

    def fill(self, text: str, path: str) -> str:
        """`text` with the parameters of `path`, encoded, for their `<names>`; of a match only.

        None can begin with a slash: `//host` would lead to another host.
        """
        found = self.match(path) or {}
        return re.sub(r"<(\w+)>", lambda name: quote(str(found[name[1]]).lstrip("/\\"), safe="/"), text)

    @property
    def has_query(self) -> bool:
        """Whether it says anything about the query."""
        return bool(self._query)

    def __repr__(self) -> str:
        return f"PathPattern({self.text!r})"

    def _read_segment(self, segment: str) -> tuple[str, int]:
        """A regular expression for it, and how little it says."""
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is None:
            if "<" in segment or ">" in segment:
                raise ValueError(f"{self.text!r}: a parameter is a whole segment, <name:type>; got {segment!r}")
            return re.escape(segment), 0
        name, kind = self._read_name(parameter)
        if parameter[3] is not None:
            raise ValueError(f"{self.text!r}: only parameters of the query have defaults; got {segment!r}")
        self._names[name] = kind
        return f"(?P<{name}>{'.+' if kind == 'path' else '[^/]+'})", _RANKS.get(kind, 1)

    def _read_query_part(self, part: str) -> None:
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            raise ValueError(f"{self.text!r}: after the '?' come <name:type> or <name:type=default>; got {part!r}")
        name, kind = self._read_name(parameter)
        if kind == "path":
            raise ValueError(f"{self.text!r}: the query has no path in it; <{name}> takes any text")
        if parameter[3] is not None:
            _read_default(self.text, part, kind, parameter[3])
        self._query[name] = (kind, parameter[3])

    def _read_name(self, parameter: re.Match[str]) -> tuple[str, str]:
        name, kind = parameter[1], "str" if parameter[2] is None else parameter[2]
        if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
            raise ValueError(f"{self.text!r}: a parameter is called as a Python argument can be; got {name!r}")
        if name in self.names:
            raise ValueError(f"{self.text!r}: two parameters are called {name!r}")
        if kind not in _READERS:
            raise ValueError(f"{self.text!r}: a type is one of {', '.join(_READERS)}; got {kind!r}")
        return name, kind


def _read_default(text: str, part: str, kind: str, default: str) -> None:
    try:
        _READERS[kind][0](default)
    except (ValueError, KeyError):
        raise ValueError(f"{text!r}: the default in {part!r} is not {_READERS[kind][1]}") from None


def _read_one(name: str, kind: str, text: str | None) -> object:
    reader, wanted = _READERS[kind]
    if text is None:
        raise BadRequest(f"the query needs {name!r}, {wanted}")
    try:
        return reader(text)
    except (ValueError, KeyError):
        raise BadRequest(f"{name!r} in the query must be {wanted}; got {shorten(text)}") from None
