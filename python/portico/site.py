"""What the dispatcher must know of one server. Thread: any for changes, home for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico._core import Address, LogParts
    from portico.proxies import ProxiedAddress
    from portico.routes import Route
    from portico.websocket_connection import Link


@dataclass(slots=True)
class Site:
    """Another thread may replace its routes, never change them."""

    routes: Mapping[int, Route]  # by what events call them
    address: Address | ProxiedAddress
    on_stopped: Callable[[], None]
    log: Callable[[LogParts], None] | None = None
    links: dict[tuple[int, str | None], Link] = field(default_factory=dict)  # by route and subprotocol

    def set_routes(self, routes: Mapping[int, Route]) -> None:
        """Know these and no others. Any thread."""
        self.routes = routes
        self.links = {key: link for key, link in list(self.links.items()) if key[0] in routes}
