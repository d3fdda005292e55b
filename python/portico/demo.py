"""`portico demo`: a page that shows what a server does while Python is busy.

The page and `/ping` are answered natively; the clock, the chat and the echo are Python callbacks and stop while
the interpreter is held. Not an example of how to write an application: see `examples/`. Thread: home.
"""

import ctypes
import json
import platform
import time
from collections import deque
from dataclasses import dataclass
from importlib import metadata, resources

import portico

HOLD_S = 5
TICK_S = 1.0
MAX_TEXT = 500


@dataclass
class Visitor:
    """One tab: its connection and the name Python gave it."""

    ws: portico.WebSocket
    name: str
    asked: float = 0.0

    def tell(self, **message: object) -> None:
        self.ws.send(json.dumps(message))

    def take_pings(self) -> list[tuple[float, float]]:
        """The server's pings to this tab that were answered since the last call: (how long ago, round trip), in ms."""
        now, before = time.monotonic(), self.asked
        self.asked = now
        return [(ago * 1000, took * 1000) for ago, took in self.ws.round_trips if now - ago > before]


class Demo:
    """The app: who is here, what was said, and the callbacks of the page's messages."""

    def __init__(self) -> None:
        self.visitors: dict[int, Visitor] = {}
        self.history: deque[dict[str, object]] = deque(maxlen=30)
        self.visits = 0

    def call(self, req: portico.Request) -> portico.Response:
        return portico.Response(404, {"Content-Type": "text/plain; charset=utf-8"}, "There is one page here: /\n")

    def on_ws_open(self, ws: portico.WebSocket) -> None:
        if ws.request.path != "/chat":
            return  # a handshake that was only measured
        self.visits += 1
        visitor = Visitor(ws, f"Guest {self.visits}")
        self.visitors[ws.id] = visitor
        ws.on_message(lambda binary, message: self.hear(visitor, message))
        ws.on_close(lambda: self.leave(ws.id))
        versions = f"Portico {metadata.version('portico')} in CPython {platform.python_version()}"
        visitor.tell(type="hello", name=visitor.name, hold_s=HOLD_S, history=list(self.history), versions=versions)
        self.tell_all(type="people", count=len(self.visitors))

    def leave(self, number: int) -> None:
        del self.visitors[number]
        self.tell_all(type="people", count=len(self.visitors))

    def tell_all(self, **message: object) -> None:
        # Not server.broadcast(): that would also reach the connections that only measure a handshake.
        text = json.dumps(message)
        for visitor in self.visitors.values():
            visitor.ws.send(text)

    def hear(self, visitor: Visitor, message: str | bytes) -> None:
        """Answer one message of the page. Anything it would not say is ignored."""
        try:
            match json.loads(message):
                case {"type": "echo", "number": int(number)}:
                    visitor.tell(type="echo", number=number)
                case {"type": "chat", "text": str(text), "key": str(key)}:
                    said: dict[str, object] = {
                        "type": "chat",
                        "name": visitor.name,
                        "text": text[:MAX_TEXT],
                        "key": key[:50],
                    }
                    self.history.append(said)
                    self.tell_all(**said)
                case {"type": "hold"}:
                    self.hold()
        except ValueError:
            pass

    def hold(self) -> None:
        """Keep the interpreter to ourselves: one C call, and PyDLL does not release the GIL for it."""
        self.tell_all(type="held")  # leaves during the hold, without Python's help
        ctypes.PyDLL(None).usleep(HOLD_S * 1_000_000)
        for visitor in self.visitors.values():
            visitor.tell(type="released", pings=visitor.take_pings())

    def tick(self) -> None:
        now = time.strftime("%H:%M:%S")
        for visitor in self.visitors.values():
            visitor.tell(type="clock", time=now, pings=visitor.take_pings())


def start(host: str, port: int, demo: Demo) -> portico.Server:
    """Start the demo's server. Raises: OSError, as start_server does."""
    page = resources.files("portico").joinpath("demo.html").read_bytes()
    return portico.start_server(
        host,
        port,
        demo,
        quiet=True,
        callbacks="service",
        inline={"/": ("text/html; charset=utf-8", page), "/ping": ("text/plain; charset=utf-8", b"pong\n")},
        limits=portico.Limits(ping_interval_s=0.25),
    )


def serve(server: portico.Server, demo: Demo) -> None:
    """Run the callbacks and tick once a second, until the server stops. KeyboardInterrupt passes through."""
    next_tick = time.monotonic() + TICK_S
    while server.is_running:
        portico.service(server, max(0.0, next_tick - time.monotonic()))
        if time.monotonic() >= next_tick:
            demo.tick()
            # After a hold the missed ticks are gone, not made up for.
            next_tick = max(next_tick + TICK_S, time.monotonic())
