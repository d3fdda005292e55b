"""What a process has of its own, handlers, hooks, policies and loggers, is after the last server what it was before.

No signal handler differs while one serves either. Each home runs in a process of its own, where nothing else has
touched them.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from .desktop import python_with
from .footprint import SNAPSHOT
from .process import Program, check_quiet
from .wire_client import WebSocketClient, ask
from .wire_client import request as get

ROOT = Path(__file__).resolve().parent.parent.parent

BEGIN = """
import readline  # it sets PyOS_ReadlineFunctionPointer, as an interactive prompt has done before us

def begin(home):
    global handlers
    handlers = signals()  # loops have some of their own
    return start(APP, home)
"""

RUNS = {
    "service": """
        def run():
            server = begin("service")
            say("differs", compare(before, snapshot()))
            serve_until_told(server.service)
            server.stop()
    """,
    "thread": """
        def run():
            server = begin("thread")
            say("differs", compare(before, snapshot()))
            wait_until_told()
            server.stop()
            server.wait_closed()
            server._home.thread.join()
    """,
    "serve": """
        def run():
            server = begin("service")
            say("differs", compare(before, snapshot()))
            threading.Thread(target=lambda: (wait_until_told(), portico.interrupt())).start()
            server.serve()
    """,
    "asyncio": """
        async def main():
            server = begin("asyncio")
            await asyncio.to_thread(wait_until_told)
            server.stop()
            await server.wait_closed()

        def run():
            # asyncio itself changes what it needs while it runs, and sets a policy: let it do so without us first.
            asyncio.run(main())
    """,
    "uvloop": """
        import uvloop

        async def main():
            server = begin("asyncio")
            await asyncio.to_thread(wait_until_told)
            server.stop()
            await server.wait_closed()

        def run():
            uvloop.run(main())
    """,
}

RUNS["trio"] = """
    import trio

    async def main():
        server = begin("trio")
        threading.Thread(target=lambda: (wait_until_told(), server.stop())).start()
        while server.state != "stopped":
            await trio.lowlevel.wait_readable(portico.fileno())
            portico.service(0)

    def run():
        trio.run(main)
"""

# A window of each toolkit, or its loop, is there before the first look: it brings hooks and handlers of its own.
RUNS["tk"] = """
    import tkinter

    root = tkinter.Tk()

    def stop():
        input()
        server.stop()
        root.deletefilehandler(0)
        root.deletefilehandler(watched)
        root.quit()

    def run():
        global server, watched
        server = begin("tk")
        watched = portico.fileno()
        root.createfilehandler(watched, tkinter.READABLE, lambda *_: portico.service(0))
        root.createfilehandler(0, tkinter.READABLE, lambda *_: stop())
        root.mainloop()
        server.wait_closed()
"""

RUNS["qt"] = """
    from PySide6.QtCore import QSocketNotifier
    from PySide6.QtGui import QGuiApplication

    qt = QGuiApplication([])

    def stop():
        input()
        server.stop()
        qt.quit()

    def run():
        global server
        server = begin("qt")
        watched = QSocketNotifier(portico.fileno(), QSocketNotifier.Type.Read)
        watched.activated.connect(lambda *_: portico.service(0))
        told = QSocketNotifier(0, QSocketNotifier.Type.Read)
        told.activated.connect(lambda *_: stop())
        qt.exec()
        server.wait_closed()
        watched.setEnabled(False)
        told.setEnabled(False)
"""

RUNS["glib"] = """
    from gi.repository import GLib

    def stop(*_):
        input()
        server.stop()
        GLib.source_remove(watched)
        loop.quit()
        return GLib.SOURCE_REMOVE

    def run_callbacks(*_):
        portico.service(0)
        return GLib.SOURCE_CONTINUE

    def start_in_loop():
        global server, watched
        server = begin("glib")
        watched = GLib.io_add_watch(portico.fileno(), 0, GLib.IOCondition.IN, run_callbacks)
        GLib.io_add_watch(0, 0, GLib.IOCondition.IN, stop)

    def run():
        global loop
        loop = GLib.MainLoop()
        GLib.idle_add(start_in_loop)
        loop.run()
        server.wait_closed()
"""

MODULES = {"uvloop": "uvloop", "trio": "trio", "tk": "tkinter", "qt": "PySide6.QtGui", "glib": "gi"}

RUN = """
def wait_until_told():
    input()

def serve_until_told(service):
    told = []
    thread = threading.Thread(target=lambda: (told.append(input()), portico.interrupt()))
    thread.start()
    while not told:
        service(0.1)
    thread.join()

async def nothing():
    await asyncio.to_thread(int)

asyncio.run(nothing())
before = snapshot()
run()
run_again = descriptors()
say("left", compare(before, snapshot()))
run()
say("left again", compare(before, snapshot()), more_than(run_again))
say("touched", touched, thread_names())
"""


@pytest.mark.parametrize("home", list(RUNS))
def test_nothing_of_the_process_is_changed(home: str, request: pytest.FixtureRequest) -> None:
    environment = {"QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(ROOT / "python")}
    if home == "tk":
        environment |= request.getfixturevalue("display")
    source = SNAPSHOT + BEGIN + dedent(RUNS[home]) + RUN
    with Program(source, python=python_with(MODULES.get(home, "portico")), environment=environment) as program:
        for left in ("left []", "left again [] []"):
            address = program.address()
            if home in ("service", "thread", "serve"):  # loops have handlers of their own while they run
                assert program.line() == "differs []"
            with WebSocketClient(address) as client:
                client.send_text("x")
                assert client.receive_text() == "x"
                assert ask(address, get()).body == b"coroutine"
                program.tell("stop")
                assert client.receive_close()[0] == 1001
                assert program.line() == left
        assert program.line() == "touched [] ['MainThread']"
        check_quiet(program.end())
