"""When there is a prompt, and who gets it. What it does there: `live/test_prompt.py`, `live/test_ipython_prompt.py`."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import portico
from portico.pumps import prompt
from portico.pumps.line_editor import Printing
from portico.pumps.pyrepl import PyRepl
from portico.testing import FakeCore


class FakePump:
    def __init__(self, source: prompt.Source) -> None:
        self.source = source
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    abandon = close


@pytest.fixture
def pumps(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> list[FakePump]:
    """The pumps made during the test, at a prompt that is there."""
    made: list[FakePump] = []

    def open_prompt(source: prompt.Source) -> FakePump:
        made.append(FakePump(source))
        return made[-1]

    monkeypatch.setattr(prompt, "open_prompt", open_prompt)
    monkeypatch.setattr(prompt, "refusal", lambda: None)
    monkeypatch.setattr(prompt, "is_interactive", lambda: True)
    return made


def start(**options: Any) -> portico.Server:
    return portico.start_server("127.0.0.1", 0, lambda req: "x", quiet=True, **options)


@pytest.mark.parametrize("choice", ["auto", "prompt"])
def test_prompt_is_opened_for_the_first_server_and_closed_after_the_last(pumps: list[FakePump], choice: Any) -> None:
    first, second = start(callbacks=choice), start(callbacks=choice)
    assert [pump.is_open for pump in pumps] == [True]
    first.stop()
    assert pumps[0].is_open
    second.stop()
    assert not pumps[0].is_open
    start(callbacks=choice)
    assert [pump.is_open for pump in pumps] == [False, True]


@pytest.mark.parametrize("choice", ["service", "thread"])
def test_other_choices_leave_the_prompt_alone(pumps: list[FakePump], choice: Any) -> None:
    server = start(callbacks=choice)
    assert pumps == []
    server.stop()
    server.wait_closed()


def test_service_and_prompt_exclude_each_other(pumps: list[FakePump]) -> None:
    server = start()
    with pytest.raises(ValueError, match="callbacks='service': this thread's servers already use 'prompt'"):
        start(callbacks="service")
    server.stop()
    server = start(callbacks="service")
    with pytest.raises(ValueError, match="callbacks='prompt': this thread's servers already use 'service'"):
        start(callbacks="prompt")
    server.stop()
    start(callbacks="prompt")


def test_loop_is_served_by_itself_and_then_by_the_prompt(pumps: list[FakePump]) -> None:
    server = start()

    async def main() -> None:
        start(callbacks="loop")
        start(callbacks="prompt")

    asyncio.run(main())
    assert [pump.is_open for pump in pumps] == [True]
    with pytest.raises(ValueError, match="already use 'prompt'"):
        start(callbacks="service")
    server.stop()
    assert pumps[0].is_open


def test_server_of_a_loop_at_the_prompt_is_the_prompts_when_the_loop_has_ended(pumps: list[FakePump]) -> None:
    async def main() -> None:
        start()

    asyncio.run(main())
    assert [pump.is_open for pump in pumps] == [True]


def test_home_that_ends_closes_the_prompt(pumps: list[FakePump]) -> None:
    start()
    portico.home.current_home().close()
    assert [pump.is_open for pump in pumps] == [False]


def test_where_there_is_no_terminal_there_is_no_prompt(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fileno: False)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    with pytest.raises(RuntimeError, match="needs an interactive prompt on a terminal, but stdin is not a terminal"):
        start(callbacks="prompt")
    start()
    start(callbacks="service")


def test_other_threads_have_no_prompt() -> None:
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(prompt.refusal()))
    thread.start()
    thread.join()
    assert said == ["only the main thread has a prompt"]


def test_python_is_interactive_when_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONINSPECT", raising=False)
    monkeypatch.delattr(sys, "ps1", raising=False)
    assert not prompt.is_interactive()
    monkeypatch.setenv("PYTHONINSPECT", "1")
    assert prompt.is_interactive()
    monkeypatch.delenv("PYTHONINSPECT")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert prompt.is_interactive()


# What is printed


class Stream:
    """A terminal, as `sys.stdout` is one."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.said.append(text)
        return len(text)

    def flush(self) -> None:
        self.said.append("(flush)")


class Editor:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    def has_news(self) -> bool:
        return False

    def begin_callbacks(self) -> None:
        self.said.append("(begin)")

    def end_callbacks(self) -> None:
        self.said.append("(end)")

    def erase(self) -> None:
        self.said.append("(erase)")

    def redraw(self) -> None:
        self.said.append("(redraw)")


def test_line_is_erased_before_the_first_print_and_redrawn_after_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stream = Stream(said)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with Printing(Editor(said)):
        print("one", "two")
        print("three", file=sys.stderr)
    assert "".join(said) == "(begin)(erase)one two\nthree\n(flush)(end)(redraw)"
    assert vars(stream) == {"said": said}


def test_silent_callbacks_leave_the_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "stdout", Stream(said))
    monkeypatch.setattr(sys, "stderr", None)
    with Printing(Editor(said)):
        print("", end="")
    assert "".join(said) == "(begin)(end)"


def test_other_threads_print_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "stdout", Stream(said))
    with Printing(Editor(said)):
        thread = threading.Thread(target=print, args=("x",))
        thread.start()
        thread.join()
    assert "".join(said) == "(begin)x\n(end)"


class Reader:
    """What a line is read by at the prompt of Python 3.13 and later."""

    console = None
    ps1, ps2, ps3, ps4 = ">>> ", ">>> ", "... ", ""

    def readline(self, startup_hook: object = None) -> str:
        return "a line"


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr("termios.tcgetattr", lambda fileno: [0, 0, 0, 0])
    monkeypatch.setattr("termios.tcsetattr", lambda fileno, when, attributes: None)
    return Reader()


def from_within_pyrepl(call: Callable[[], object]) -> None:
    exec("call()", {"__name__": "_pyrepl.reader", "call": call})


def test_line_within_a_line_is_refused_and_leaves_no_trace(reader: Reader) -> None:
    editor = PyRepl(reader)
    editor.begin_callbacks()
    reader.ps1 = "name? "  # so does input()
    with pytest.raises(RuntimeError, match="can't re-enter readline"):
        from_within_pyrepl(lambda: reader.readline(startup_hook=None))
    editor.end_callbacks()
    assert vars(reader) == dict.fromkeys(("ps1", "ps2"), ">>> ") | {"ps3": "... ", "ps4": ""}
    from_within_pyrepl(reader.readline)


def test_lines_are_read_although_a_ctrl_c_has_kept_callbacks_from_their_end(reader: Reader) -> None:
    PyRepl(reader).begin_callbacks()
    assert reader.readline(startup_hook=None) == "a line"
    editor = PyRepl(reader)
    editor.begin_callbacks()
    editor.end_callbacks()
    from_within_pyrepl(reader.readline)


def test_reader_with_other_attributes_than_we_know_is_left_alone(reader: Reader) -> None:
    class Slots:
        __slots__ = ("console",)

    other = Slots()
    other.console = None
    editor = PyRepl(other)
    editor.begin_callbacks()
    editor.end_callbacks()
