"""A fake core, or a virtual display, for every test that asks for one; and a tidy process afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from shutil import which
from typing import Any, cast

import pytest

import conversation
from portico import fork_and_exit, home
from portico.testing import FakeCore

DEADLINE_S = 10


def pytest_configure() -> None:
    # A shell without job control lets what it starts in the background ignore Ctrl-C, and its children with it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeCore]]:
    """The fake cores made during the test, this thread's first."""
    made: list[FakeCore] = []

    def make() -> Any:
        made.append(FakeCore())
        return made[-1]

    homes: Any = fork_and_exit._homes
    homes.clear()
    monkeypatch.setattr(home, "make_core", make)
    monkeypatch.setattr(home, "_local", threading.local())
    home.current_home()
    yield made
    for one in list(homes):
        one.close()
        if isinstance(one, home.ThreadHome):
            one.thread.join(DEADLINE_S)
    homes.clear()


@pytest.fixture(scope="session")
def display() -> Iterator[dict[str, str]]:
    """What tells a program where to open windows. Xvfb makes a display where there is none."""
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


@pytest.fixture
def core(cores: list[FakeCore]) -> FakeCore:
    """The fake core of this thread's home."""
    return cast(FakeCore, home.current_home().core)


@pytest.fixture(name="home")
def home_of_this_thread(cores: list[FakeCore]) -> home.Home:
    """This thread's home, whose core is a fake."""
    return home.current_home()


@pytest.fixture
def serve(cores: list[FakeCore]) -> Callable[..., home.Home]:
    """Make one route the whole server."""
    return conversation.serve
