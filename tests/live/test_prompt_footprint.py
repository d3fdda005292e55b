"""At prompts and in Jupyter, too, a process is after the last server what it was before, and its signal handlers stay.

What a prompt has while it waits is looked at from another thread, before there is a server, and while there is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from .desktop import python_with
from .footprint import SNAPSHOT
from .kernel import Kernel
from .prompt_programs import Prompt
from .wire_client import WebSocketClient, ask, request

OPTIONS = {
    "python": ("-q", "-i"),
    "ipython": ("-m", "IPython", "--no-banner", "--no-confirm-exit", "--classic", "--colors=nocolor", "-i"),
    "tk": ("-q", "-i"),
    "qt": ("-q", "-i"),
    "ipython, tk": ("-m", "IPython", "--gui=tk", "--no-banner", "--classic", "--colors=nocolor", "-i"),
}
if sys.version_info >= (3, 13):
    OPTIONS["basic"] = ("-q", "-i")

WINDOWS = {
    "tk": "import tkinter; window = tkinter.Tk()",
    "ipython, tk": "import tkinter; window = tkinter.Tk()",
    "qt": "from PySide6.QtGui import QGuiApplication; qt = QGuiApplication([])",
}

PROGRAM = """
def look_while_idle(look):
    gate = socket.create_connection(listener)
    gate.recv(1)
    look()
    tell()

def note():
    global handlers
    handlers = signals()

def begin():
    global before
    before = snapshot()
    start(APP)

def left():
    global listed
    differences = compare(before, snapshot()), more_than(listed), [name for name in thread_names() if name not in names]
    listed = descriptors()
    return differences

names = thread_names()
"""


def look_while_idle(prompt: Prompt, look: str, is_pasted: bool) -> None:
    """Call the program's function `look` while the prompt waits."""
    prompt.enter(f"threading.Thread(target=look_while_idle, args=[{look}]).start()", is_pasted=is_pasted)
    gate = prompt.accept()
    prompt.wait_for_prompt()
    gate.close()
    prompt.wait_for_tell()


def converse(address: tuple[str, int], run: Callable[[], object]) -> None:
    """Have callbacks run, `run`, which stops the server, and be sent away."""
    with WebSocketClient(address) as client:
        client.send_text("x")
        assert client.receive_text() == "x"
        assert ask(address, request()).body == b"coroutine"
        run()
        assert client.receive_close()[0] == 1001


@pytest.mark.parametrize("host", list(OPTIONS))
def test_prompts_are_what_they_were(host: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    environment = {"QT_QPA_PLATFORM": "offscreen"}
    if host == "basic":
        environment["PYTHON_BASIC_REPL"] = "1"
    if host in ("tk", "ipython, tk"):
        environment |= request.getfixturevalue("display")
    if host == "qt":
        python_with("PySide6.QtGui")
    source = SNAPSHOT + PROGRAM + WINDOWS.get(host, "")
    with Prompt(tmp_path, source, options=OPTIONS[host], environment=environment) as prompt:
        # Below the hooks of Tk and Qt the prompt of 3.13 and later takes one key at a time.
        is_pasted = host not in ("tk", "qt") or sys.version_info < (3, 13)
        run = partial(prompt.run, is_pasted=is_pasted)
        look_while_idle(prompt, "note", is_pasted)
        run("listed = descriptors()")
        for count in range(2):
            run("begin()")
            look_while_idle(prompt, "look", is_pasted)
            converse(prompt.address(), partial(run, "server.stop(1)"))
            run("server.wait_closed() and None")
            if count == 0:
                run("listed = descriptors()")
            assert run("left()")[-1] == "([], [], [])"
        look_while_idle(prompt, "look", is_pasted)
        assert run("touched")[-1] == "[]"


def test_a_kernel_is_what_it_was(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    try:
        kernel.run("import portico" + SNAPSHOT + "listener = None" + PROGRAM.replace("start(APP)", "pass"))
        # A kernel ignores Ctrl-C between cells, so this is looked at there, in its loop.
        noted = kernel.run("loop = asyncio.get_running_loop(); loop.call_later(0.1, lambda: (note(), print('noted')))")
        kernel.wait(lambda: "noted" in noted.stdout)
        stop = partial(kernel.start, "server.stop(); await server.wait_closed()")
        for count in range(2):
            cell = kernel.run("begin(); server = portico.start_server('127.0.0.1', 0, APP, True); print(server.port)")
            converse(("127.0.0.1", int(cell.stdout)), stop)
            if count == 0:
                kernel.run("listed = descriptors()")
            assert kernel.run("print(left())").stdout == "([], [], [])\n"
        assert kernel.run("print(touched)").stdout == "[]\n"
    finally:
        kernel.stop()
