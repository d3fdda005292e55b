"""The examples for GUIs, in the real toolkits: callbacks run while the loop idles, and its end ends the server.

Tk gets a virtual display from Xvfb where there is none; Qt brings one along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DEADLINE_S = 30


@pytest.fixture
def display() -> Iterator[dict[str, str]]:
    """What tells a program where to open windows."""
    if "DISPLAY" in os.environ:
        yield {}
        return
    if which("Xvfb") is None:
        pytest.skip("no display, and no Xvfb to make one (`make desktop` installs it)")
    readable, writable = os.pipe()
    command = ["Xvfb", "-displayfd", str(writable), "-nolisten", "tcp", "-screen", "0", "640x480x24"]
    with subprocess.Popen(command, pass_fds=[writable], stderr=subprocess.DEVNULL) as server:
        os.close(writable)
        with open(readable) as pipe:
            number = pipe.readline().strip()  # written once it accepts clients
        assert number, "Xvfb does not start"
        yield {"DISPLAY": f":{number}"}
        server.terminate()


def python_with(module: str) -> list[str]:
    """A Python that has `module` and can load our extension: this one, or the system's of the same version."""
    for python in (sys.executable, "/usr/bin/python3"):
        found = subprocess.run(
            [python, "-c", f"import sys, {module}; print(sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.stdout.strip() == str(sys.version_info[:2]):
            return [python]
    pytest.skip(f"no Python {sys.version_info[0]}.{sys.version_info[1]} here has {module} (see `make desktop`)")


@contextmanager
def running(name: str, module: str, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    # Debian's GLib still imports in a way that Python warns of.
    command = [*python_with(module), "-W", "error", "-W", "ignore::ImportWarning", str(EXAMPLES / name)]
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
