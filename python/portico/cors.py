"""Which pages of other origins may read a server's answers: `Cors`, and what `cors=` takes.

Values only; pre-flights are answered, and fields added, by the native half. Thread: any (pure).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final, TypeAlias

from portico.origin import read_origin
from portico.routes import TOKEN, check_flag

_ANY: Final = ("*",)
# What browsers keep at most is less (Chromium 2 hours, Firefox a day); this is what they can read.
_MAX_AGE_S: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Cors:
    """Which pages of other origins may read answers, and what they may send (CORS, Fetch standard §3.2).

    origins: "https://app.example", with the port if it isn't the scheme's own; or "*", any, without credentials.
    methods: what they may send beside what forms can; "*": any.
    headers: the names of fields they may send beside what forms can; "*": any.
    expose: the names of fields they may read beside the harmless ones; "*": any, without credentials.
    credentials: whether browsers may send their cookies along, and pages read what they get for them.
    max_age_s: how long a browser may remember what it was told; 0: it asks each time; None: it decides.

    **This is no access control**: what a page may not read is still asked for, and answered.
    Raises: TypeError, ValueError.
    """

    origins: Sequence[str] | str = "*"
    _: KW_ONLY
    methods: Sequence[str] | str = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    headers: Sequence[str] | str = "*"
    expose: Sequence[str] | str = ()
    credentials: bool = False
    max_age_s: int | None = 600

    def __post_init__(self) -> None:
        check_flag("credentials", self.credentials)
        origins = _read_names("origins", self.origins)
        if origins != _ANY:
            origins = tuple(dict.fromkeys(map(read_origin, origins)))
        object.__setattr__(self, "origins", origins)
        for option in ("methods", "headers", "expose"):
            object.__setattr__(self, option, _read_tokens(option, getattr(self, option)))
        if self.credentials and origins == _ANY:
            raise ValueError("credentials need origins by name: with '*', every page could read as whoever looks at it")
        if self.credentials and self.expose == _ANY:
            raise ValueError("with credentials, browsers take expose='*' for a field called '*'; name the fields")
        _check_max_age(self.max_age_s)


CorsLike: TypeAlias = "Cors | Sequence[str] | str | bool | None"
"""True and "*": any origin; a list: these; None and False: the server says nothing, and pre-flights go to the app."""


def read_cors(cors: object) -> Cors | None:
    """Make a Cors of what `cors=` takes. Raises: TypeError, ValueError."""
    if cors is None or cors is False:
        return None
    if cors is True:
        return Cors()
    if isinstance(cors, Cors):
        return cors
    if isinstance(cors, (str, Sequence)):
        return Cors(cors)
    raise TypeError(f"cors must be True, '*', a list of origins, portico.Cors(…) or None; got {cors!r}")


def _read_names(option: str, names: object) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else names
    if not isinstance(names, Sequence) or isinstance(names, (bytes, bytearray)):
        raise TypeError(f"{option} must be a list of str, or '*'; got {names!r}")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{option}: expected a str, not {type(name).__name__} ({name!r})")
    if "*" in names and len(names) > 1:
        raise ValueError(f"{option}: '*' is any, so nothing can stand beside it; got {list(names)!r}")
    return tuple(names)


def _read_tokens(option: str, names: object) -> tuple[str, ...]:
    read = _read_names(option, names)
    for name in read:
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{option}: a name is made of letters, digits and !#$%&'*+-.^_`|~ only; got {name!r}")
    return read


def _check_max_age(max_age_s: object) -> None:
    if max_age_s is None:
        return
    if isinstance(max_age_s, bool) or not isinstance(max_age_s, int) or not 0 <= max_age_s <= _MAX_AGE_S:
        raise ValueError(f"max_age_s must be a whole number of seconds from 0 up, or None; got {max_age_s!r}")
