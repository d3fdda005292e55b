"""`server.static_paths`: what one server serves without Python, as a mapping. Thread: any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from portico.static_paths import Mount, MountLike, read_mount, read_name, read_static_paths

if TYPE_CHECKING:
    from portico.server import Server


class StaticPaths(MutableMapping[str, Mount]):
    """The static paths of one server, live: each change is in force when it returns, or raises and changes nothing.

    `update` and `clear` are one change. Values may be set as anything `static_path` takes, and are read as what it
    gives. Before the start changes are kept for it; once the server is stopped it is empty, and changes do nothing.
    Any thread. Raises: TypeError, ValueError; OSError that names the path.
    """

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def __getitem__(self, name: str) -> Mount:
        return self._now()[_known_as(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __setitem__(self, name: str, mount: MountLike) -> None:
        self._change(lambda mounts: mounts | {read_name(name): read_mount(mount)})

    def __delitem__(self, name: str) -> None:
        def without(mounts: dict[str, Mount]) -> dict[str, Mount]:
            rest = dict(mounts)
            del rest[_known_as(name)]
            return rest

        self._change(without)

    def update(self, paths: Any = (), /, **more: MountLike) -> None:
        """Set all of these at once."""
        self._change(lambda mounts: mounts | read_static_paths(dict(paths, **more)))

    def clear(self) -> None:
        """Serve no static paths any more."""
        self._change(lambda mounts: {})

    def __repr__(self) -> str:
        return f"<StaticPaths {self._now()!r}>"

    def _now(self) -> dict[str, Mount]:
        return {} if self._server._is_over else self._server._served.mounts

    def _change(self, change: Callable[[dict[str, Mount]], dict[str, Mount]]) -> None:
        server = self._server
        server._change_mounts(lambda: (change(server._served.mounts), server._served.options))


def _known_as(name: object) -> str:
    try:
        return read_name(name)
    except (TypeError, ValueError):
        raise KeyError(name) from None
