"""In a real Jupyter kernel: callbacks between cells, I/O during them, cells that run again. One kernel for all."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kernel import Cell, Kernel
from .wire_client import PING, PONG, WebSocketClient, ask, request

APP = """
import asyncio, ctypes, os, time
import portico
from IPython.display import HTML, display

asked = []

class App:
    static_paths = {"/files": os.getcwd()}

    def call(self, req):
        print("asked for", req.path)
        asked.append(req.path)
        if req.path == "/boom":
            raise ValueError("boom")
        if req.path == "/rich":
            display(HTML("<b>rich</b>"))
        if req.path == "/later":
            return self.later()
        return VERSION

    async def later(self):
        await asyncio.sleep(0.01)
        print("and answered later")
        return "later"

    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: ws.send(VERSION + message))
"""


class Notebook:
    """A kernel with one server."""

    def __init__(self, kernel: Kernel, port: int) -> None:
        self.kernel = kernel
        self.address = ("127.0.0.1", port)

    def start(self, version: str = "first") -> Cell:
        """Run the cell with the server, perhaps again."""
        port = self.address[1]
        cell = self.kernel.run(
            f"VERSION = {version!r}\nserver = portico.start_server('127.0.0.1', {port}, App(), replace=True)\nserver"
        )
        assert cell.error == ""
        return cell

    def get(self, path: str = "/") -> bytes:
        return ask(self.address, request("GET", path)).body

    def open(self) -> WebSocketClient:
        return WebSocketClient(self.address)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own paths are too long for sockets
        Path(directory, "file.txt").write_text("a file")
        kernel = Kernel(Path(directory))
        assert kernel.run(APP).error == ""
        yield kernel
        kernel.stop()


@pytest.fixture(scope="module")
def port(kernel: Kernel) -> int:
    """A free one, found as one finds it in a notebook."""
    cell = kernel.run("server = portico.start_server('127.0.0.1', 0, App()); print(server.port); server.stop()")
    return int(cell.stdout)


@pytest.fixture
def notebook(kernel: Kernel, port: int) -> Notebook:
    notebook = Notebook(kernel, port)
    notebook.start()
    return notebook


def test_callbacks_run_between_cells(notebook: Notebook) -> None:
    assert notebook.get() == b"first"
    assert notebook.get("/later") == b"later"
    with notebook.open() as ws:
        ws.send_text(" one")
        assert ws.receive_text() == "first one"
        assert notebook.kernel.run("server.clients").shown[0]["text/plain"] == "1"
        ws.send_text(" two")
        assert ws.receive_text() == "first two"


def test_server_shows_itself_as_a_link_and_in_a_frame(notebook: Notebook) -> None:
    url = "http://{}:{}".format(*notebook.address)
    shown = notebook.start().shown[0]
    assert f'<a href="{url}"' in shown["text/html"]
    assert shown["text/plain"] == f"<Server {url} running clients=0>"
    assert f'<iframe src="{url}/page"' in notebook.kernel.run("server.frame('/page', height=300)").shown[0]["text/html"]


BUSY = {
    "that sleeps": "os.read(release, 1)",
    "that holds the interpreter": "ctypes.PyDLL(None).read(release, ctypes.create_string_buffer(1), 1)",
}


@pytest.fixture
def busy(notebook: Notebook, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cell]:
    """A cell that has begun to run, and does not end before the test does."""
    for name in ("begun", "release"):
        os.mkfifo(tmp_path / name)
    notebook.kernel.run(
        f"begun = {str(tmp_path / 'begun')!r}; release = os.open({str(tmp_path / 'release')!r}, os.O_RDWR)"
    )
    cell = notebook.kernel.start(f"open(begun, 'w').close(); {request.param}")
    (tmp_path / "begun").read_bytes()  # waits for it
    yield cell
    (tmp_path / "release").write_bytes(b"x")
    notebook.kernel.wait(lambda: cell.status == "done")
    notebook.kernel.run("os.close(release)")


@pytest.mark.parametrize("busy", BUSY.values(), ids=BUSY.keys(), indirect=True)
def test_io_goes_on_during_a_long_cell(notebook: Notebook, busy: Cell) -> None:
    with notebook.open() as ws:  # a handshake
        ws.send_frame(PING, b"?")
        got = ws.receive_frame()
        assert (got.opcode, got.payload) == (PONG, b"?")
        assert notebook.get("/files/file.txt") == b"a file"
        ws.send_text(" message")
        assert ws.is_silent(0.05)  # its callback waits for the end of the cell
        assert busy.status == "running"


def test_cell_that_runs_again_replaces_its_server(notebook: Notebook) -> None:
    for version in ("second", "third", "fourth"):
        with notebook.open() as ws:
            notebook.start(version)
            assert ws.receive_end()[0] == 1001
        assert notebook.get() == version.encode()
    listed = notebook.kernel.run("portico.list_servers() == [server]").shown
    assert listed[0]["text/plain"] == "True"


def test_output_of_callbacks_appears_below_the_cell_that_started_the_server_last(notebook: Notebook) -> None:
    for version in ("first", "second"):
        cell = notebook.start(version)
        notebook.kernel.run("'another cell'")
        assert notebook.get("/hello") == version.encode()
        notebook.kernel.wait(lambda cell=cell: "asked for /hello" in cell.stdout)
        assert notebook.get("/later") == b"later"
        notebook.kernel.wait(lambda cell=cell: "and answered later" in cell.stdout)


def test_exceptions_and_displays_of_callbacks_appear_there_too(notebook: Notebook) -> None:
    cell = notebook.start()
    assert ask(notebook.address, request("GET", "/boom")).status == 500
    notebook.kernel.wait(lambda: "ValueError: boom" in cell.stderr)
    assert "on_request raised" in cell.stderr
    notebook.get("/rich")
    notebook.kernel.wait(lambda: any("<b>rich</b>" in shown.get("text/html", "") for shown in cell.shown))


CALLBACKS_IN_A_CELL = (
    "while not portico.service(0): time.sleep(0.001)",
    "portico.service(None)",
    "while not asked: await asyncio.sleep(0.001)",
)


@pytest.mark.parametrize("code", CALLBACKS_IN_A_CELL)
def test_callbacks_run_during_a_cell_that_lets_them(notebook: Notebook, code: str) -> None:
    notebook.kernel.run("asked.clear()")
    cell = notebook.kernel.start(f"print('busy', flush=True)\n{code}")
    notebook.kernel.wait(lambda: "busy\n" in cell.stdout)
    assert notebook.get("/during") == b"first"
    notebook.kernel.wait(lambda: cell.status == "done")
    assert cell.error == ""
    assert notebook.kernel.run("asked").shown[0]["text/plain"] == "['/during']"


def test_what_would_block_the_kernel_is_refused(notebook: Notebook) -> None:
    assert re.fullmatch(
        r"RuntimeError: serve\(\) would block the running event loop; .*", notebook.kernel.run("server.serve()").error
    )
    assert notebook.get() == b"first"


def test_interrupted_cell_leaves_the_server_alone(notebook: Notebook) -> None:
    cell = notebook.kernel.start("print('busy', flush=True)\nwhile True: time.sleep(0.01)")
    notebook.kernel.wait(lambda: cell.stdout == "busy\n")
    notebook.kernel.interrupt()
    notebook.kernel.wait(lambda: cell.status == "done")
    assert cell.error.startswith("KeyboardInterrupt")
    assert notebook.get() == b"first"


def test_stop_ends_it_before_the_next_cell(notebook: Notebook) -> None:
    with notebook.open() as ws:
        assert notebook.kernel.run("server.stop()").error == ""
        assert ws.receive_end()[0] == 1001
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(notebook.address)
    cell = notebook.kernel.run("await server.wait_closed(); server.state")
    assert cell.shown[0]["text/plain"] == "'stopped'"
