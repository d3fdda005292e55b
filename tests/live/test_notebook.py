"""A whole notebook, run as `jupyter execute` runs it; and a server below a prefix, behind jupyter-server-proxy."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .conftest import Serve

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "notebook.ipynb"
START_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_example_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    port = free_port()
    notebook = nbformat.reads(EXAMPLE.read_text(encoding="utf-8").replace("8123", str(port)), as_version=4)
    NotebookClient(notebook, timeout=START_S, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        "".join(output.get("text", "") or output["data"].get("text/html", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    url = f"http://127.0.0.1:{port}"
    assert shown[0] == f'Server <a href="{url}" target="_blank" rel="noopener">{url}</a> running, 0 clients'
    assert f'<iframe src="{url}/"' in shown[1]
    assert shown[2] == "200 1\nNo Python here\n"
    assert f'<iframe src="/proxy/{port}/"' in shown[3]
    assert shown[4:] == [""]


@dataclass
class Jupyter:
    """A Jupyter server at `/hub/me/`, as a hub would run it."""

    port: int

    def get(self, path: str, host: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S)) as connection:
            connection.request("GET", f"/hub/me{path}", headers={"Authorization": "token secret", "Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    directory = tmp_path_factory.mktemp("jupyter")
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}"),
        *("--ServerApp.token=secret", "--ServerApp.base_url=/hub/me/", "--ServerApp.allow_remote_access=True"),
        f"--ServerApp.root_dir={directory}",
    ]
    names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    log = directory / "log"
    with log.open("wb") as stderr:
        environment = os.environ | dict.fromkeys(names, str(directory))
        with subprocess.Popen(command, env=environment, stdout=stderr, stderr=stderr) as process:
            try:
                deadline = time.monotonic() + START_S
                while not is_up(port):
                    assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
                yield Jupyter(port)
            finally:
                process.kill()


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/hub/me/api", timeout=START_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_server_works_below_a_prefix(jupyter: Jupyter, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("a page")
    app = {
        "call": lambda req: f"{req.uri} below {req.headers['X-Forwarded-Prefix']}",
        "static_paths": {"/www": tmp_path},
    }
    port = serve(app).server.port
    below = f"/proxy/{port}"
    assert jupyter.get(f"{below}/a%20b?c=d", "localhost") == (200, f"/a%20b?c=d below /hub/me/proxy/{port}")
    assert jupyter.get(f"{below}/www/page.html", "localhost") == (200, "a page")
    assert jupyter.get(f"{below}/www/", "localhost")[0] == 404


def test_name_of_the_hub_has_to_be_allowed(jupyter: Jupyter, serve: Serve) -> None:
    for allowed, status in (((), 403), (["hub.example.org"], 200)):
        port = serve(lambda req: req.headers["Host"], allowed_hosts=allowed).server.port
        assert jupyter.get(f"/proxy/{port}/", "hub.example.org")[0] == status


@pytest.mark.parametrize(("origin", "is_taken"), [("http://127.0.0.1:{}", True), ("https://evil.example", False)])
def test_websocket_passes_the_proxy_from_its_own_pages_only(
    jupyter: Jupyter, serve: Serve, origin: str, is_taken: bool
) -> None:
    app = {"on_ws_open": lambda ws: ws.on_message(lambda binary, message: ws.send(message))}
    url = f"ws://127.0.0.1:{jupyter.port}/hub/me/proxy/{serve(app).server.port}/"
    token = {"Authorization": "token secret"}
    with connect(url, additional_headers=token, origin=origin.format(jupyter.port), open_timeout=START_S) as ws:
        if is_taken:
            ws.send("hello")
            assert ws.recv(timeout=START_S) == "hello"
        else:  # the proxy takes it, and gives it up when it is refused itself
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=START_S)
