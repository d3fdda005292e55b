"""What the tests of prompts share: a program that is being typed to, and serves; and the Pythons to try it with."""

from __future__ import annotations

import socket
import sys
import textwrap
from pathlib import Path
from types import TracebackType

from .terminal import DEADLINE_S, Terminal
from .wire_client import Address, Client, Reply, request

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import asyncio, ctypes, logging, os, signal, socket, sys, threading, time
import portico

# Should the whole machine stand still for a second, the word about it would land in the line that is being typed.
logging.getLogger("portico").addFilter(lambda record: not record.msg.startswith("events have waited"))

def hook():
    return ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook").value or 0

listener = "127.0.0.1", int(sys.argv[1])

def tell():
    socket.create_connection(listener).close()

def call(req):
    if req.path in paths:
        return paths[req.path]()
    return threading.current_thread().name

async def later(req):
    await asyncio.sleep(0.01)
    print("out of a coroutine")
    return "later on " + threading.current_thread().name

def start(app=call, **options):
    global server
    server = portico.start_server("127.0.0.1", 0, app, True, **options)
    print("port", server.port)

paths = {}
"""


class Prompt(Terminal):
    """A Python at whose prompt `PROGRAM` has been run, and then `source`; with clients for its server."""

    def __init__(
        self,
        directory: Path,
        source: str = "start()",
        *,
        python: Path | str = sys.executable,
        options: tuple[str, ...] = ("-q", "-i"),
        environment: dict[str, str] | None = None,
        is_run: bool = True,
    ) -> None:
        """`is_run`: whether that Python is told to run it; it is in any case `~/program.py`."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE_S)
        script = directory / "program.py"
        script.write_text(PROGRAM + textwrap.dedent(source))
        arguments = [str(script), str(self._listener.getsockname()[1])] if is_run else []
        super().__init__(str(python), *options, *arguments, environment={"HOME": str(directory), **(environment or {})})

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
        super().__exit__(kind, error, at)

    def address(self) -> Address:
        """Where the last server that it has started listens; the screen tells."""
        self.wait_until(lambda: bool(self._ports()), "a port")
        return "127.0.0.1", self._ports()[-1]

    def ask(self, target: str = "/", address: Address | None = None) -> Reply:
        """One request on a connection of its own."""
        with Client(address or self.address()) as client:
            client.send(request("GET", target))
            return client.receive_reply("GET")

    def _ports(self) -> list[int]:
        return [int(line.removeprefix("port ")) for line in self.lines() if line.startswith("port ")]

    def wait_for_tell(self) -> None:
        """Until the program has called `tell()`."""
        self.accept().close()

    def accept(self) -> socket.socket:
        """The program's next connection to its `listener`."""
        return self._listener.accept()[0]


def other_pythons() -> list[Path]:
    """Not the one that runs this, but every other for which `make setup PYTHON=…` has been run since Rust changed."""
    kinds = ("wire/src/**/*.rs", "core/src/**/*.rs", "Cargo.*", "*/Cargo.toml")
    changed = max(source.stat().st_mtime for kind in kinds for source in ROOT.glob(kind))
    found = []
    for built in sorted(ROOT.glob(".venv*/built")):
        python = built.parent / "bin" / "python"
        if built.stat().st_mtime >= changed and python.exists() and not python.samefile(sys.executable):
            found.append(python)
    return found
