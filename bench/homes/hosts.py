"""The host programs: what each needs, how it is started, and how one presses Ctrl-C in it."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib.util
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from portico.home import Callbacks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEADLINE_S = 30.0
PROCESSOR = str(min(os.sched_getaffinity(0)))  # the host has it to itself; who asks has another


class Process:
    """A host that runs: where its server listens, what it has printed, whether it has ended."""

    def __init__(self, command: list[str], environment: dict[str, str], *, on_terminal: bool = False) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._port_file = Path(self._directory.name, "port")
        self._output = b""
        path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        variables = {**os.environ, "PYTHONPATH": path, "PORT_FILE": str(self._port_file), **environment}
        command = ["taskset", "-c", PROCESSOR, *command]
        read, write = pty.openpty() if on_terminal else os.pipe()
        self._keyboard = read if on_terminal else None
        self.process = subprocess.Popen(
            command,
            env=variables,
            stdin=write if on_terminal else subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if on_terminal else None,
        )
        os.close(write)
        self._reader = threading.Thread(target=self._read, args=(read,))
        self._reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        self._directory.cleanup()

    @property
    def output(self) -> str:
        return self._output.decode("utf-8", "replace")

    def address(self) -> tuple[str, int]:
        deadline = time.monotonic() + DEADLINE_S
        while not self._port_file.exists():
            if self.exit_code() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.process.args!r} starts no server; it says:\n{self.output}")
            time.sleep(0.01)
        return "127.0.0.1", int(self._port_file.read_text())

    def press_ctrl_c(self) -> None:
        if self._keyboard is None:
            self.process.send_signal(signal.SIGINT)
        else:
            os.write(self._keyboard, b"\x03")

    def exit_code(self) -> int | None:
        return self.process.poll()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, if it ends within `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _read(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # what a terminal says when its last program has left
            while data := os.read(descriptor, 1 << 16):
                self._output += data
        os.close(descriptor)


class Kernel(Process):
    """ipykernel, driven by jupyter_client as Jupyter does."""

    def __init__(self, cell: str, environment: dict[str, str]) -> None:
        connection = tempfile.mktemp(".json")
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", connection]
        super().__init__(command, {"JPY_PARENT_PID": "", **environment})
        from jupyter_client import BlockingKernelClient

        deadline = time.monotonic() + DEADLINE_S
        while not (os.path.exists(connection) and os.path.getsize(connection)):
            if self.exit_code() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no kernel: {self.output}")
            time.sleep(0.01)
        self._client: Any = BlockingKernelClient(connection_file=connection)
        self._client.load_connection_file()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=DEADLINE_S)
        reply = self._client.execute_interactive(cell, timeout=DEADLINE_S, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        super().__exit__()


@dataclass(frozen=True)
class Host:
    """One row of the table."""

    name: str
    script: str
    needs: tuple[str, ...] = ()  # modules
    command: tuple[str, ...] = ()  # between the interpreter and the script
    environment: dict[str, str] = field(default_factory=dict)
    is_prompt: bool = False
    python: tuple[int, int] | None = None  # the least version

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.is_prompt and "prompt" not in get_args(Callbacks):
            return "this portico has no prompt pump"
        if self.python and self._interpreter() is None:
            version = ".".join(map(str, self.python))
            return f"no Python {version} with portico (make setup PYTHON=python{version})"
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(missing)} not installed" if missing else None

    def start(self) -> Process:
        if self.script == "in_jupyter":
            return Kernel((HERE / "in_prompt.py").read_text(), self.environment)
        interpreter = self._interpreter() or sys.executable
        command = [interpreter, *self.command, str(HERE / f"{self.script}.py")]
        return Process(command, self.environment, on_terminal=self.is_prompt)

    def _interpreter(self) -> str | None:
        """This one, or one of those `make setup PYTHON=…` has made an environment for."""
        if self.python is None or sys.version_info >= self.python:
            return sys.executable
        for python in sorted(glob.glob(str(ROOT / ".venv*" / "bin" / "python"))):
            check = f"import sys, portico; sys.exit(sys.version_info < {self.python})"
            if subprocess.run([python, "-c", check], capture_output=True).returncode == 0:
                return python
        return None


BASIC = {"PYTHON_BASIC_REPL": "1", "TERM": "linux"}
IPYTHON = {"TERM": "linux", "PROMPT_TOOLKIT_NO_CPR": "1"}
IPYTHON_OPTIONS = ("-m", "IPython", "--no-banner", "--no-confirm-exit", "-i")

HOSTS = [
    Host("script, `service()`", "in_service"),
    Host("script, `serve()`", "in_serve"),
    Host("thread of its own", "in_thread"),
    Host("asyncio", "in_asyncio"),
    Host("uvloop", "in_uvloop", ("uvloop",)),
    Host("trio", "in_trio", ("trio",)),
    Host("Jupyter (ipykernel)", "in_jupyter", ("ipykernel", "jupyter_client")),
    Host("Tk", "in_tk", ("tkinter",)),
    Host("Qt (PySide6)", "in_qt", ("PySide6",), environment={"QT_QPA_PLATFORM": "offscreen"}),
    Host("readline prompt", "in_prompt", ("readline",), ("-q", "-i"), BASIC, is_prompt=True),
    Host("prompt of 3.13 and later", "in_prompt", (), ("-q", "-i"), {"TERM": "linux"}, is_prompt=True, python=(3, 13)),
    Host("IPython", "in_prompt", ("IPython",), IPYTHON_OPTIONS, IPYTHON, is_prompt=True),
    *(
        Host(
            f"readline prompt, Tk window opened {when}",
            "in_prompt_tk",
            ("readline", "tkinter"),
            ("-q", "-i"),
            {**BASIC, "WINDOW": when},
            is_prompt=True,
        )
        for when in ("before", "after")
    ),
    Host(
        "readline prompt, Qt window",
        "in_prompt_qt",
        ("readline", "PySide6"),
        ("-q", "-i"),
        {**BASIC, "QT_QPA_PLATFORM": "offscreen"},
        is_prompt=True,
    ),
    Host(
        "IPython, `%gui tk`",
        "in_prompt_tk",
        ("IPython", "tkinter"),
        ("-m", "IPython", "--gui=tk", *IPYTHON_OPTIONS[2:]),
        {**IPYTHON, "WINDOW": "after"},
        is_prompt=True,
    ),
]


@contextlib.contextmanager
def display() -> Any:
    """A screen for windows, if there is none and Xvfb can make one."""
    if os.environ.get("DISPLAY"):
        yield
        return
    read, write = os.pipe()
    try:
        process = subprocess.Popen(["Xvfb", "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL)
    except OSError:
        yield
        return
    finally:
        os.close(write)
    try:
        os.environ["DISPLAY"] = f":{os.read(read, 100).decode().strip()}"
        yield
    finally:
        del os.environ["DISPLAY"]
        os.close(read)
        process.terminate()
        process.wait(DEADLINE_S)
