"""The `portico` command: what it prints, and its exit codes."""

import socket
import subprocess
import sys
import urllib.request
from importlib import metadata

from ctrl_c import end_by_ctrl_c
from portico import cli

DEADLINE_S = 15


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "portico", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_version_is_printed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"portico {metadata.version('portico')}\n")


def test_wrong_command_line_exits_with_2() -> None:
    assert run().returncode == 2
    assert run("no-such-command").returncode == 2
    for port in ("eighty", "65536", "-1"):
        done = run("demo", f"--port={port}")
        assert done.returncode == 2
        assert "--port" in done.stderr


def test_address_that_cannot_be_bound_exits_with_1() -> None:
    # RFC 5737: a documentation address, never this machine's.
    done = run("demo", "--host", "192.0.2.1", "--no-browser")
    assert done.returncode == 1
    assert done.stderr.startswith("portico: ") and "192.0.2.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_takes_a_free_port_if_its_own_is_taken_and_ends_on_ctrl_c() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "portico", "demo", "--no-browser", "--port", str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert f"{port} is taken" in process.stdout.readline()
            url = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as page:
                assert b"<title>Portico" in page.read()
            end_by_ctrl_c(process)


def test_no_text_browser_is_started(monkeypatch) -> None:
    monkeypatch.setattr(cli.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not cli.has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert cli.has_screen()
