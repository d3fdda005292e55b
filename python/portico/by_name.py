"""Functions that get the arguments they name, and no others. What they may name is checked when they are given.

Thread: any (pure).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any


class ByName:
    """`what`, as errors and the log call it, calls `f` with those of `allowed` that it names; None: with any names.

    An argument that has a default may have any name, and keeps the default; `**rest` gets everything that is allowed.

    Raises: TypeError that says what may be named.
    """

    __slots__ = ("_takes_all", "f", "names", "what")

    def __init__(
        self,
        f: Callable[..., Any],
        what: str,
        allowed: Collection[str] | None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        if not callable(f):
            raise TypeError(f"{what} must be a function, not {type(f).__name__} ({f!r})")
        self.f = f
        self.what = f"{what} {getattr(f, '__name__', None) or type(f).__name__}"
        parameters = self._read_parameters()
        takes_rest = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
        named = [one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
        if allowed is not None:
            for one in named:
                if one.name not in allowed and one.default is inspect.Parameter.empty:
                    reason = (refused or {}).get(one.name, "there is no such argument")
                    raise TypeError(f"{self.what} asks for {one.name!r}: {reason}; it may name {_join(allowed)}")
            named = [one for one in named if one.name in allowed]
        self.names = frozenset(allowed or ()) if takes_rest else frozenset(one.name for one in named)
        self._takes_all = takes_rest and allowed is None

    def call(self, values: Mapping[str, object]) -> Any:
        """Call it with what it names of `values`."""
        return self.f(**self.select(values))

    def select(self, values: Mapping[str, object]) -> dict[str, object]:
        """What it names of `values`."""
        if self._takes_all:
            return dict(values)
        return {name: values[name] for name in self.names if name in values}

    def _read_parameters(self) -> list[inspect.Parameter]:
        try:
            parameters = list(inspect.signature(self.f).parameters.values())
        except ValueError:
            raise TypeError(f"{self.what} doesn't tell what its arguments are called; wrap it in a lambda") from None
        is_wrapper = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)  # (*args, **kwargs)
        for one in list(parameters):
            if one.kind is inspect.Parameter.VAR_POSITIONAL and is_wrapper:
                parameters.remove(one)
            elif one.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                raise TypeError(f"{self.what}: arguments come by name, and {str(one)!r} has none")
        return parameters


def _join(names: Collection[str]) -> str:
    *most, last = sorted(names)
    return f"{', '.join(most)} and {last}" if most else last
