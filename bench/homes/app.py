"""What is measured in every host: a server that echoes, tells the thread of its callbacks, and computes when asked.

`where`: the thread; `call`: one C call that holds the interpreter; `loop`: Python that computes; anything else: itself.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

import portico

HOLD_S = float(os.environ.get("HOLD_S", "3"))


def hold(how: str) -> None:
    if how == "call":
        ctypes.PyDLL(None).usleep(int(HOLD_S * 1e6))
    else:
        until = time.monotonic() + HOLD_S
        while time.monotonic() < until:
            pass


def compute(ws: portico.WebSocket, how: str) -> None:
    ws.send("computing")
    hold(how)
    ws.send("done")


class App:
    # Where the program's own thread is another than its callbacks', it puts something else here.
    compute = staticmethod(compute)

    def on_ws_open(self, ws: portico.WebSocket) -> None:
        @ws.on_message
        def hear(binary: bool, message: str) -> None:
            if message == "where":
                is_main = threading.current_thread() is threading.main_thread()
                ws.send("main" if is_main else "its own")
            elif message in ("call", "loop"):
                self.compute(ws, message)
            else:
                ws.send(message)


def start(callbacks: str = "auto", app: App | None = None) -> portico.Server:
    """Start it and say where, in the file that PORT_FILE names."""
    server = portico.start_server("127.0.0.1", 0, app or App(), True, callbacks=callbacks)  # type: ignore[arg-type]
    path = Path(os.environ["PORT_FILE"])
    path.with_suffix(".new").write_text(str(server.port))
    path.with_suffix(".new").rename(path)  # who reads it reads all of it
    return server
