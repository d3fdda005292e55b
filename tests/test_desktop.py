"""The examples for GUIs, in the real toolkits: callbacks run while the loop idles, and its end ends the server.

Tk gets a virtual display from Xvfb where there is none; Qt brings one along.
"""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from live.desktop import python_with

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DEADLINE_S = 30


@contextmanager
def running(name: str, module: str, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    # GLib imports in ways that Python warns of: Debian 12's an old kind of module, all of them asyncio's policies.
    ignored = "-W", "ignore::ImportWarning", "-W", "ignore::DeprecationWarning:gi.events"
    command = [python_with(module), "-W", "error", *ignored, str(EXAMPLES / name)]
    environment = os.environ | environment | {"PYTHONPATH": str(ROOT / "python"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url.startswith("http://"):
                process.kill()
                pytest.fail(f"{name} printed {url!r} and {process.communicate(timeout=DEADLINE_S)[1]}")
            yield url, process
        finally:
            process.kill()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read().decode()


def check(name: str, module: str, environment: dict[str, str]) -> None:
    with running(name, module, environment) as (url, process):
        for path in ("/one", "/two"):
            assert get(url + path).endswith(f" says: Last: {path}\n")
        assert "Last: /close" in get(url + "/close")
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, output, errors) == (0, "", "")
        with pytest.raises(urllib.error.URLError, match="refused"):
            get(url)


def test_tk_runs_callbacks_until_its_window_closes(display: dict[str, str]) -> None:
    check("tk_window.py", "tkinter", display)


def test_qt_runs_callbacks_until_its_window_closes() -> None:
    check("qt_window.py", "PySide6.QtWidgets", {"QT_QPA_PLATFORM": "offscreen"})


def test_glib_runs_callbacks_until_its_loop_ends() -> None:
    check("glib_loop.py", "gi", {})
