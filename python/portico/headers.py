"""Header fields as they came: in order, with repeats, found by name in any case.

Splits the native half's block of lines on first use; checks nothing, because that half already has. Thread: any (pure).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, overload

T = TypeVar("T")


class Headers:
    """An immutable multi-map. `headers["accept"]` joins repeated fields; `items()` and `get_all()` keep them apart.

    Iteration, `keys()` and `len()` count each name once, in the spelling that came first.
    """

    __slots__ = ("_block", "_lines", "_table")

    def __init__(self, block: bytes = b"") -> None:
        self._block = block
        self._lines: tuple[tuple[str, str], ...] | None = None
        self._table: dict[str, list[str]] | None = None

    def items(self) -> tuple[tuple[str, str], ...]:
        """Every field as `(name, value)`, in order, repeats included."""
        lines = self._lines
        if lines is None:
            # Not splitlines(): it also breaks at U+0085 and others, which obs-text values may hold (RFC 9110 §5.5).
            text = self._block.decode("latin-1").split("\r\n")
            lines = self._lines = tuple((name, value) for name, _, value in (line.partition(":") for line in text[:-1]))
        return lines

    def get_all(self, name: str) -> list[str]:
        """The values of every field called `name`, in order; empty if there is none."""
        return list(self._values().get(name.lower(), ()))

    def __getitem__(self, name: str) -> str:
        key = name.lower()
        values = self._values()[key]
        if len(values) == 1:
            return values[0]
        # RFC 6265 §5.4 and RFC 9113 §8.2.3: cookies are the one list that a comma would corrupt.
        return ("; " if key == "cookie" else ", ").join(values)

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: T) -> str | T: ...
    def get(self, name: str, default: object = None) -> object:
        """The joined value of `name`, or `default`."""
        try:
            return self[name]
        except KeyError:
            return default

    def keys(self) -> tuple[str, ...]:
        """Each name once."""
        first: dict[str, str] = {}
        for name, _value in self.items():
            first.setdefault(name.lower(), name)
        return tuple(first.values())

    def values(self) -> tuple[str, ...]:
        """The value of every field, in order, repeats included."""
        return tuple(value for _, value in self.items())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._values())

    def __eq__(self, other: object) -> bool:
        return self._folded() == other._folded() if isinstance(other, Headers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._folded())

    def __repr__(self) -> str:
        return f"Headers({list(self.items())!r})"

    def _values(self) -> dict[str, list[str]]:
        table = self._table
        if table is None:
            table = {}
            for name, value in self.items():
                table.setdefault(name.lower(), []).append(value)
            self._table = table
        return table

    def _folded(self) -> tuple[tuple[str, str], ...]:
        return tuple((name.lower(), value) for name, value in self.items())
