"""Which files are served without Python: static paths, what is excluded from them, and the options they inherit.

Values and what they become at the seam; whether the path of a new one exists is all that is asked of the disk.
Thread: any.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from portico._core import REACH_ALL, REACH_BELOW, REACH_EXACT
from portico.response_fields import read_fields
from portico.routes import TOKEN, check_flag

if TYPE_CHECKING:
    from portico._core import FilesSpec

HeaderFields: TypeAlias = "Mapping[str, str | Sequence[str]] | Sequence[tuple[str, str]]"
Validation: TypeAlias = "str | tuple[str, str] | tuple[()]"

Reach: TypeAlias = Literal["below", "exact", "all"]
_REACH: dict[Reach, int] = {"below": REACH_BELOW, "exact": REACH_EXACT, "all": REACH_ALL}

_QUOTED = re.compile(r'\s*"([^"]*)"\s*==\s*"([^"]*)"\s*')
# What a field value can be once the white space around it is gone (RFC 9110 §5.5), without obs-text.
_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")
_NEVER = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticPathOptions:
    """What static paths inherit if they don't say otherwise. Made by `static_path_options`, which tells the fields."""

    indexhtml: bool = True
    fallthrough: bool = False
    html_charset: str = "utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    validation: tuple[str, str] | None = field(default=None, repr=False)  # a secret, and reprs are logged
    dotfiles: bool = False
    symlinks: bool = False
    listing: bool = False
    precompressed: bool = True

    def __post_init__(self) -> None:
        for option in fields(self):
            object.__setattr__(self, option.name, _read_option(option.name, getattr(self, option.name)))
        object.__setattr__(self, "validation", self.validation or None)


@dataclass(frozen=True, slots=True)
class StaticPath:
    """A directory or a file that is served without Python. Made by `static_path`. An option that is None is inherited.

    `path` is absolute; a `validation` of `()` is none at all. `reach` says what of the requests below its URL path is
    its own: "below", all; of a file also "exact", only itself, or "all", which are answered with the file.
    """

    path: str
    _: KW_ONLY
    reach: Reach = "below"
    indexhtml: bool | None = None
    fallthrough: bool | None = None
    html_charset: str | None = None
    headers: tuple[tuple[str, str], ...] | None = None
    validation: tuple[str, str] | tuple[()] | None = field(default=None, repr=False)
    dotfiles: bool | None = None
    symlinks: bool | None = None
    listing: bool | None = None
    precompressed: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _read_path(self.path))
        if self.reach not in get_args(Reach) or (self.reach != "below" and not self.is_file):
            raise ValueError(f"reach must be 'below', or of a file 'exact' or 'all'; got {self.reach!r}")
        for option in fields(StaticPathOptions):
            value = getattr(self, option.name)
            if value is not None:
                object.__setattr__(self, option.name, _read_option(option.name, value))

    @property
    def is_file(self) -> bool:
        """Whether it is one file, and not a directory."""
        return not os.path.isdir(self.path)


@dataclass(frozen=True, slots=True)
class ExcludedStaticPath:
    """A hole in a static path. Made by `exclude_static_path`."""


Mount: TypeAlias = StaticPath | ExcludedStaticPath
"""What is at one URL path."""

MountLike: TypeAlias = "Mount | str | os.PathLike[str]"
StaticPathsLike: TypeAlias = "Mapping[str, MountLike]"
OptionsLike: TypeAlias = "StaticPathOptions | Mapping[str, Any]"


def static_path(
    path: str | os.PathLike[str],
    *,
    indexhtml: bool | None = None,
    fallthrough: bool | None = None,
    html_charset: str | None = None,
    headers: HeaderFields | None = None,
    validation: Validation | None = None,
    dotfiles: bool | None = None,
    symlinks: bool | None = None,
    listing: bool | None = None,
    precompressed: bool | None = None,
) -> StaticPath:
    """Serve a directory, or one file. It must exist; `~` is expanded.

    The options are those of `static_path_options`, which a None inherits from the server, never from another static
    path. `headers` replaces the inherited ones as a whole; a `validation` of `""` or `()` switches an inherited one
    off. `on_headers` does not guard static paths: `validation` and `exclude_static_path` do.

    Raises: FileNotFoundError and other OSErrors that name the path; ValueError; TypeError.
    """
    return StaticPath(
        os.fspath(path),
        indexhtml=indexhtml,
        fallthrough=fallthrough,
        html_charset=html_charset,
        headers=cast(Any, headers),
        validation=cast(Any, validation),
        dotfiles=dotfiles,
        symlinks=symlinks,
        listing=listing,
        precompressed=precompressed,
    )


def exclude_static_path() -> ExcludedStaticPath:
    """Leave a URL path, and all below it, out of the static paths around it: the app answers there."""
    return ExcludedStaticPath()


def static_path_options(
    *,
    indexhtml: bool = True,
    fallthrough: bool = False,
    html_charset: str = "utf-8",
    headers: HeaderFields = (),
    validation: Validation | None = None,
    dotfiles: bool = False,
    symlinks: bool = False,
    listing: bool = False,
    precompressed: bool = True,
) -> StaticPathOptions:
    """What all static paths of a server do unless they say otherwise.

    indexhtml: a directory is answered with its `index.html`.
    fallthrough: what would be an error goes to the app instead, but for a failed validation.
    html_charset: what `Content-Type: text/html` says; `""`: nothing.
    headers: more fields for files: a mapping (a list as value repeats the field) or pairs.
    validation: what a request must carry, or it gets a 403: `'"Header" == "value"'`, or `("Header", "value")`.
    dotfiles: serve names that begin with a dot, too (`/.well-known/` is always served).
    symlinks: follow symbolic links that lead out of the directory, too.
    listing: answer a directory without an index with a list of its files.
    precompressed: prefer `name.zst`, `name.br` or `name.gz` beside `name`, where the client takes it.

    Raises: ValueError, TypeError.
    """
    return StaticPathOptions(
        indexhtml=indexhtml,
        fallthrough=fallthrough,
        html_charset=html_charset,
        headers=cast(Any, headers),
        validation=cast(Any, validation),
        dotfiles=dotfiles,
        symlinks=symlinks,
        listing=listing,
        precompressed=precompressed,
    )


def read_static_paths(paths: object) -> dict[str, Mount]:
    """Static paths by URL path, both made of what may stand for them. Raises: TypeError, ValueError, OSError."""
    if not isinstance(paths, Mapping):
        raise TypeError(f"static paths must be a mapping of URL paths to directories or files; got {paths!r}")
    found: dict[str, Mount] = {}
    for name, mount in paths.items():
        url = read_name(name)
        if url in found:
            # Which of two is meant is a guess, and one may be the exclusion.
            raise ValueError(f"static path {url!r} is there twice, once as {name!r}")
        found[url] = read_mount(mount)
    return found


def read_name(name: object) -> str:
    """The URL path of a static path: with a slash before it and none after it. Raises: TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"the URL path of a static path must be a str, not {type(name).__name__} ({name!r})")
    if not name:
        raise ValueError("the URL path of a static path must not be empty; '/' is the whole site")
    path = "/" + name.removeprefix("/").rstrip("/")
    # No request for a file looks like these, so the static path, or the exclusion, would silently do nothing.
    if path != "/" and not {"", ".", ".."}.isdisjoint(path[1:].split("/")):
        raise ValueError(f"the URL path of a static path has no empty, '.' or '..' segments; got {name!r}")
    if _NEVER.search(path):
        raise ValueError(f"the URL path of a static path has no backslashes or control characters; got {name!r}")
    return path


def read_mount(mount: object) -> Mount:
    """A static path, made now if need be. Raises: TypeError, ValueError, OSError."""
    if isinstance(mount, (StaticPath, ExcludedStaticPath)):
        return mount
    if isinstance(mount, (str, os.PathLike)):
        return static_path(mount)
    raise TypeError(
        f"a static path must be a path, static_path(…) or exclude_static_path(), not {type(mount).__name__} ({mount!r})"
    )


def read_options(options: object) -> StaticPathOptions:
    """Options, or a mapping of their fields; the others have their defaults. Raises: TypeError, ValueError."""
    if isinstance(options, StaticPathOptions):
        return options
    if not isinstance(options, Mapping):
        raise TypeError(f"static path options must be static_path_options(…) or a mapping; got {options!r}")
    known = [option.name for option in fields(StaticPathOptions)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(
            f"unknown static path options: {', '.join(map(repr, unknown))}; expected {', '.join(sorted(known))}"
        )
    return static_path_options(**options)


def resolve(paths: Mapping[str, Mount], options: StaticPathOptions) -> list[FilesSpec]:
    """What crosses the seam, with nothing left to inherit."""
    return [_spec(name, mount, options) for name, mount in paths.items()]


def _spec(name: str, mount: Mount, options: StaticPathOptions) -> FilesSpec:
    if isinstance(mount, ExcludedStaticPath):
        return name, None, None
    own = {option.name: getattr(mount, option.name) for option in fields(options)}
    chosen = replace(options, **{name: value for name, value in own.items() if value is not None})
    return (
        name,
        mount.path,
        (
            chosen.indexhtml,
            chosen.fallthrough,
            chosen.html_charset,
            chosen.headers,
            chosen.validation,
            chosen.dotfiles,
            chosen.symlinks,
            chosen.listing,
            chosen.precompressed,
            _REACH[mount.reach],
        ),
    )


def _read_path(path: object) -> str:
    if not isinstance(path, str):
        raise TypeError(f"a static path must be a str or a path, not {type(path).__name__} ({path!r})")
    if not path:
        # An unset variable must not publish the working directory.
        raise ValueError("a static path must not be empty; '.' is the working directory")
    # Not abspath(): it takes `..` back by name, where the kernel takes it back through symbolic links.
    absolute = str(Path(os.path.expanduser(path)).absolute())
    mode = os.stat(absolute).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise ValueError(f"a static path must be a directory or a regular file, which {absolute!r} is not")
    return absolute


def _read_option(name: str, value: object) -> object:
    if name == "headers":
        return tuple(read_fields(value))
    if name == "validation":
        return _read_validation(value)
    if name == "html_charset":
        if not isinstance(value, str):
            raise TypeError(f"html_charset must be a str, not {type(value).__name__}")
        if value and not TOKEN.fullmatch(value):
            raise ValueError(f"html_charset must be the name of a charset, or '' for none; got {value!r}")
        return value
    check_flag(name, value)
    return value


def _read_validation(validation: object) -> tuple[str, str] | tuple[()]:
    if validation is None or validation == "" or validation == ():
        return ()
    pair = validation
    if isinstance(validation, str):
        quoted = _QUOTED.fullmatch(validation)
        pair = quoted.groups() if quoted else None
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        # Never the value itself: it is a secret, and errors are logged.
        raise ValueError("""validation must be '"Header" == "value"' or a (name, value) tuple of str""")
    name, value = pair
    if not TOKEN.fullmatch(name):
        raise ValueError(f"validation: {name!r} is not the name of a header")
    if not _VALUE.fullmatch(value):
        # An empty one, from an unset variable, would let everybody in who sends an empty header.
        raise ValueError(f"validation: the value of {name} must be ASCII, not empty, and without white space around it")
    return name, value
