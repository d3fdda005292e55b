"""What one server serves: its routes and its static paths, before the start and while it runs.

Neither is ever changed, only replaced, so that reading takes no lock. Thread: any.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from portico.routes import Route, check_clashes
from portico.specs import route_specs
from portico.static_paths import Mount, StaticPathOptions, read_name, resolve

if TYPE_CHECKING:
    from portico._core import Core, FilesSpec, RouteSpec
    from portico.site import Site


class Served:
    """Routes by what events call them, and static paths by name; both in force in a core once the server listens."""

    def __init__(self, routes: Sequence[Route], mounts: dict[str, Mount], options: StaticPathOptions) -> None:
        check_clashes(routes)
        self._numbers = itertools.count()  # never used again
        self.routes: dict[int, Route] = {next(self._numbers): route for route in routes}
        self.mounts = _with_files(mounts, routes)
        self.options = options
        # Reentrant: a signal handler may change them, too.
        self.lock = threading.RLock()
        self.site: Site | None = None
        self._core: Core | None = None
        self._server = 0

    def specs(self) -> tuple[list[RouteSpec], list[FilesSpec]]:
        """What the core is to know. Raises: OSError that names the path if files are gone."""
        return route_specs(self.routes), resolve(self.mounts, self.options)

    def come_into_force(self, core: Core, server: int, site: Site) -> None:
        """From now on changes are the core's and the dispatcher's, too. The caller has had the lock since `specs`."""
        self.site, self._core, self._server = site, core, server

    def replace_routes(self, routes: Iterable[Route]) -> None:
        """Serve these and no others. Those that stay keep their numbers. Raises: as `check_clashes`; OSError."""

        def swap(before: dict[int, Route]) -> dict[int, Route]:
            numbers = {id(route): number for number, route in before.items()}
            return {next(self._numbers) if id(route) not in numbers else numbers[id(route)]: route for route in routes}

        self._change_routes(swap)

    def add_routes(self, routes: Iterable[Route]) -> None:
        """Serve these, too. Raises: as `replace_routes`."""
        self._change_routes(lambda before: before | {next(self._numbers): route for route in routes})

    def remove_routes(self, routes: Iterable[Route]) -> None:
        """No longer serve these, the very objects. Raises: ValueError if one isn't there; none is removed then."""

        def without(before: dict[int, Route]) -> dict[int, Route]:
            rest = dict(before)
            for gone in routes:
                number = next((number for number, route in rest.items() if route is gone), None)
                if number is None:
                    raise ValueError(f"this server has no such handler: {gone}")
                del rest[number]
            return rest

        self._change_routes(without)

    def change_mounts(self, change: Callable[[], tuple[dict[str, Mount], StaticPathOptions]]) -> None:
        """Put new static paths and options in force, or none of them if the core refuses."""
        with self.lock:
            mounts, options = change()
            if self._core is None or self._core.set_files(self._server, resolve(mounts, options)):
                self.mounts, self.options = mounts, options

    def _change_routes(self, change: Callable[[dict[int, Route]], dict[int, Route]]) -> None:
        """Put new routes in force, files and all, or change nothing."""
        with self.lock:
            before, after = self.routes, change(self.routes)
            check_clashes(after.values())
            gone = [route for number, route in before.items() if number not in after]
            new = [route for number, route in after.items() if number not in before]
            mounts = _with_files(_without_files(self.mounts, gone), new)
            if self.site is not None and self._core is not None:
                self._tell_routes(self.site, self._core, after, mounts)
            self.routes, self.mounts = after, mounts

    def _tell_routes(self, site: Site, core: Core, routes: dict[int, Route], mounts: dict[str, Mount]) -> None:
        # Known here before events can have them, and until none can any more.
        before = site.routes
        site.set_routes({**before, **routes})
        former: Sequence[int] | None = None
        try:
            former = core.set_routes(self._server, route_specs(routes))
            if mounts != self.mounts:
                core.set_files(self._server, resolve(mounts, self.options))
        except BaseException:
            routes, former = self.routes, core.set_routes(self._server, route_specs(self.routes))
            raise
        finally:
            known = {*routes, *(former or ())} & site.routes.keys()
            site.set_routes({number: site.routes[number] for number in known})


def _with_files(mounts: dict[str, Mount], routes: Iterable[Route]) -> dict[str, Mount]:
    """`mounts` and what `routes` serve files from. Raises: ValueError for a path that has been taken."""
    found = dict(mounts)
    for route in routes:
        if route.files is not None:
            name = read_name(route.path)
            if name in found:
                raise ValueError(f"{route}: there is a static path {name!r} already")
            found[name] = route.files
    return found


def _without_files(mounts: dict[str, Mount], routes: Iterable[Route]) -> dict[str, Mount]:
    gone = [route.files for route in routes if route.files is not None]
    return {name: mount for name, mount in mounts.items() if not any(mount is files for files in gone)}
