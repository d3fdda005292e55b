"""Tk's windows at the prompt where callbacks run: they go on, and Tk's hook is what it was. On a virtual display."""

from __future__ import annotations

from pathlib import Path

import pytest

from .prompt_programs import Prompt

TK = """
import tkinter
events = []
def open_window():
    global root
    root = tkinter.Tk()
    later("opened")
def later(event):
    root.after(10, lambda: (events.append(event), tell()) and None)
def close_window():
    import gc
    global root
    root.destroy()
    root = None
    gc.collect()
"""


def run_slowly(prompt: Prompt, line: str) -> list[str]:
    """Where Tk's own hook waits: it returns for keys that the prompt of 3.13 and later has yet to read, not for others.

    So there a pasted line stands still after its first letter, with or without us.
    """
    return prompt.run(line, is_pasted=False)


def test_window_that_was_there_before_goes_on(tmp_path: Path, display: dict[str, str]) -> None:
    with Prompt(tmp_path, TK + "open_window()", environment=display) as prompt:
        prompt.wait_for_tell()
        run_slowly(prompt, "before = hook()")
        run_slowly(prompt, "start()")
        for _ in range(2):
            assert prompt.ask().body == b"MainThread"
            prompt.run("later('again')")
            prompt.wait_for_tell()
        prompt.run("server.stop()")
        assert run_slowly(prompt, "before == hook() != 0") == ["True"]
        run_slowly(prompt, "later('after')")
        prompt.wait_for_tell()


def test_window_that_opens_under_our_hook_goes_on_without_it(tmp_path: Path, display: dict[str, str]) -> None:
    with Prompt(tmp_path, TK + "start()", environment=display) as prompt:
        prompt.run("open_window()")
        prompt.wait_for_tell()
        assert prompt.ask().body == b"MainThread"
        prompt.run("server.stop()")
        # Tk's own, which it could not install when the window was opened
        assert run_slowly(prompt, "hook() != 0") == ["True"]
        run_slowly(prompt, "later('after')")
        prompt.wait_for_tell()
        run_slowly(prompt, "close_window()")
        assert prompt.run("hook()") == ["0"]


def test_exit_with_a_window_is_quiet(tmp_path: Path, display: dict[str, str]) -> None:
    with Prompt(tmp_path, TK + "start(); open_window()", environment=display) as prompt:
        prompt.wait_for_tell()
        prompt.enter("exit()")
        assert prompt.end() == 0
        assert "Traceback (most recent call last):" not in prompt.lines()


MATPLOTLIB = """
import matplotlib
matplotlib.use("TkAgg")
import matplotlib.pyplot as plt
plt.ion()
def show():
    global figure
    figure = plt.figure()
    plt.plot([1, 3, 2])
    figure.canvas.mpl_connect("draw_event", lambda event: tell())
"""


def test_figures_are_drawn_beside_callbacks_and_after_them(tmp_path: Path, display: dict[str, str]) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib: make desktop installs it")
    with Prompt(tmp_path, MATPLOTLIB + "start()", environment=display) as prompt:
        prompt.run("show()")
        prompt.wait_for_tell()
        for _ in range(2):
            assert prompt.ask().body == b"MainThread"
            prompt.run("figure.canvas.draw_idle()")
            prompt.wait_for_tell()
        prompt.run("server.stop()")
        run_slowly(prompt, "figure.canvas.draw_idle()")
        prompt.wait_for_tell()
