"""Callbacks at CPython's own prompts, on a terminal, as a person types at them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from .prompt_programs import PROGRAM, Prompt, other_pythons
from .terminal import CTRL_A, CTRL_C, CTRL_D, ENTER, ROWS, TAB, UP
from .wire_client import TEXT, Client, WebSocketClient, request

OpenPrompt = Callable[[str], Prompt]

EXIT_S = 1.0


@pytest.fixture
def open_prompt(tmp_path: Path) -> Iterator[OpenPrompt]:
    """Open the prompt of this Python, which has run the program and then what is given."""
    with ExitStack() as opened:

        def open_one(source: str) -> Prompt:
            prompt = opened.enter_context(Prompt(tmp_path, source))
            prompt.wait_for_prompt()
            return prompt

        yield open_one


@pytest.fixture
def prompt(open_prompt: OpenPrompt) -> Prompt:
    """The prompt of this Python, which has started a server."""
    return open_prompt("start()")


def test_callbacks_run_on_the_main_thread_while_the_prompt_waits(prompt: Prompt) -> None:
    for _ in range(3):
        assert prompt.ask().body == b"MainThread"
    assert prompt.run("1 + 1") == ["2"]
    assert prompt.ask().body == b"MainThread"


def test_server_that_is_started_by_typing_is_served_at_the_prompt(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt("")
    prompt.run("start()")
    assert prompt.ask().body == b"MainThread"


def test_coroutines_go_on_while_the_prompt_waits(prompt: Prompt) -> None:
    prompt.run("start(later)")
    assert prompt.ask().body == b"later on MainThread"
    prompt.wait_for_line("out of a coroutine")
    with Client(prompt.address()) as client:  # one that is not answered by the time somebody types
        client.send(request("GET", "/"))
        assert "2" in prompt.run("1 + 1")  # with the coroutine's line behind it, if that is quick
        assert client.receive_reply("GET").body == b"later on MainThread"


def test_output_appears_above_the_line_that_is_being_typed(prompt: Prompt) -> None:
    prompt.run("paths['/print'] = lambda: print('first\\nsecond', flush=True)")
    prompt.run("paths['/part'] = lambda: print('no newline', end='')")
    prompt.run("paths['/raise'] = lambda: 1 / 0")
    prompt.type("20 +")
    prompt.wait_until(lambda: prompt.typed() == "20 +", "the line")
    for target, line in (
        ("/print", "second"),
        ("/part", "no newline"),
        ("/raise", "ZeroDivisionError: division by zero"),
    ):
        prompt.ask(target)
        prompt.wait_for_line(line)
        prompt.wait_until(lambda: prompt.typed() == "20 +", "the line again")
    prompt.type(" 22" + ENTER)
    prompt.wait_for_line("42")
    lines = prompt.lines()
    assert {"first", "second", "no newline", "Traceback (most recent call last):"} <= set(lines)  # each in column 0
    assert prompt.prompt + "20 + 22" in lines


def test_line_that_fills_several_rows_survives_output(prompt: Prompt) -> None:
    prompt.run("paths['/print'] = lambda: print('printed')")
    long = "len('" + "x" * 230 + "')"
    prompt.type(long)
    prompt.wait_until(lambda: "".join(prompt.lines()).replace("\\", "").endswith(long), "the long line")
    rows = [line for line in prompt.lines() if "xxx" in line]
    prompt.ask("/print")
    prompt.wait_until(lambda: prompt.lines()[-len(rows) - 1 :] == ["printed", *rows], "the long line below the output")
    prompt.type(ENTER)
    prompt.wait_for_line("230")


def test_editing_history_and_completion_work(prompt: Prompt) -> None:
    prompt.run("number = 6")
    prompt.type("ber * 7" + CTRL_A + "num" + ENTER)
    prompt.wait_for_line("42")
    prompt.wait_for_prompt()
    prompt.type("numb" + TAB)
    prompt.wait_until(lambda: prompt.typed() == "number", "the completion")
    prompt.ask()
    prompt.type(CTRL_C)
    prompt.wait_for_prompt()
    prompt.type(UP)
    prompt.wait_until(lambda: prompt.typed() == "number * 7", "the line before")


def test_no_key_is_lost_or_doubled_while_callbacks_run(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        def on_ws_open(ws):
            ws.on_message(lambda binary, message: ws.send(message))
        start({"on_ws_open": on_ws_open})
        """
    )
    prompt.wait_for_prompt()
    text = "0123456789abcdefghijklmnopqrstuvwxyz" * 2
    with WebSocketClient(prompt.address()) as client:
        for count in range(1, 4):
            prompt.type("'")
            for key in text:
                prompt.type(key)
                client.send_frame(TEXT, key.encode())
                assert client.receive_frame().payload == key.encode()
            prompt.type("'" + ENTER)
            prompt.wait_for_line(repr(text), count)


def test_several_lines_at_once_and_blocks_are_read_as_ever(prompt: Prompt) -> None:
    prompt.type("for number in range(2):" + ENTER)
    prompt.wait_until(lambda: prompt.lines()[-1].startswith("..."), "a second prompt")
    assert prompt.ask().body == b"MainThread"
    prompt.type("    print('number', number)" + ENTER + ENTER)
    prompt.wait_for_line("number 1")
    prompt.wait_for_prompt()
    prompt.type("a = 40" + ENTER + "b = 2" + ENTER + "a + b" + ENTER)
    prompt.wait_for_line("42")


def test_ctrl_c_at_the_prompt_ends_the_line_and_nothing_else(prompt: Prompt) -> None:
    for count in range(1, 6):
        prompt.type("unfinished")
        prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
        prompt.type(CTRL_C)
        prompt.wait_for_line("KeyboardInterrupt", count)
        prompt.wait_for_prompt()
        assert prompt.ask().body == b"MainThread"
    assert prompt.run("6 * 7") == ["42"]


@pytest.mark.parametrize("hang", ["time.sleep(100)", "[0 for _ in iter(int, 1)]"], ids=["sleep", "spin"])
def test_ctrl_c_interrupts_a_callback_that_hangs(prompt: Prompt, hang: str) -> None:
    prompt.run(f"paths['/hang'] = lambda: (tell(), {hang})")
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(prompt.ask, "/hang")
        prompt.wait_for_tell()
        prompt.type(CTRL_C)
        assert answer.result().status == 500
    prompt.wait_for_line("Ctrl-C interrupted a callback")
    prompt.wait_for_prompt()
    assert prompt.ask().body == b"MainThread"
    assert prompt.run("6 * 7") == ["42"]


def test_ctrl_c_while_coroutines_wait_is_the_prompts(prompt: Prompt) -> None:
    prompt.run("start(lambda req: asyncio.sleep(100))")
    with Client(prompt.address()) as client:
        client.send(request("GET", "/"))
        prompt.run("time.sleep(0.2)")
        prompt.type(CTRL_C)
        prompt.wait_for_line("KeyboardInterrupt")
        assert prompt.run("6 * 7") == ["42"]
        assert "Ctrl-C interrupted a callback" not in prompt.lines()


def test_sys_exit_in_a_callback_does_not_end_the_prompt(prompt: Prompt) -> None:
    prompt.run("paths['/exit'] = sys.exit")
    prompt.ask("/exit")
    prompt.wait_for_line("a callback called sys.exit(), which can't end a prompt")
    assert prompt.run("6 * 7") == ["42"]
    assert prompt.ask().body == b"MainThread"


@pytest.mark.parametrize("keys", [CTRL_D, "exit()" + ENTER], ids=["Ctrl-D", "exit"])
def test_end_of_the_prompt_is_the_end_of_the_server(prompt: Prompt, keys: str) -> None:
    prompt.run("start({'on_ws_open': lambda ws: None})")
    with WebSocketClient(prompt.address()) as client:
        began = time.monotonic()
        prompt.type(keys)
        assert prompt.end() == 0
        assert time.monotonic() - began < EXIT_S + 2  # a busy machine's two seconds
        client.receive_rest()
    assert "Traceback (most recent call last):" not in prompt.lines()


def test_service_and_serve_work_at_the_prompt(prompt: Prompt) -> None:
    address = prompt.address()
    with ThreadPoolExecutor() as threads:
        prompt.enter("tell(); portico.service()")
        prompt.wait_for_tell()
        assert threads.submit(prompt.ask, "/", address).result().body == b"MainThread"
        prompt.wait_for_prompt()
        assert prompt.lines()[-2] == "1"
        prompt.enter("tell(); server.serve()")
        prompt.wait_for_tell()
        assert prompt.ask("/", address).body == b"MainThread"
        prompt.type(CTRL_C)
        prompt.wait_for_prompt()
        assert prompt.run("server.state") == ["'stopped'"]


def test_server_lives_on_in_asyncio_run_and_after_it(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        async def main():
            over = asyncio.Event()
            paths["/end"] = lambda: over.set()
            server.is_running
            tell()
            await over.wait()
        start()
        """
    )
    address = prompt.address()
    for _ in range(2):
        prompt.enter("asyncio.run(main())")
        prompt.wait_for_tell()
        assert prompt.ask("/", address).body == b"MainThread"
        assert prompt.ask("/end", address).status == 200
        prompt.wait_for_prompt()
        assert prompt.ask("/", address).body == b"MainThread"


def test_server_that_began_in_asyncio_run_is_served_at_the_prompt_after_it(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        async def main():
            start()
        """
    )
    prompt.run("asyncio.run(main())")
    assert prompt.ask().body == b"MainThread"


def test_callback_may_run_a_loop_of_its_own(prompt: Prompt) -> None:
    prompt.run("paths['/run'] = lambda: asyncio.run(asyncio.sleep(0, 'ran'))")
    assert prompt.ask("/run").body == b"ran"


def test_input_is_a_prompt_too_but_not_within_a_callback(prompt: Prompt) -> None:
    prompt.enter("tell(); name = input('name? ')")
    prompt.wait_for_tell()
    prompt.wait_until(lambda: prompt.lines()[-1].startswith("name?"), "the question")
    assert prompt.ask().body == b"MainThread"
    prompt.type("Ada" + ENTER)
    assert prompt.run("name") == ["'Ada'"]


def test_hook_is_there_while_a_server_is_and_no_longer(prompt: Prompt) -> None:
    assert prompt.run("hook() != 0") == ["True"]
    prompt.run("other = portico.start_server('127.0.0.1', 0, call)")
    prompt.run("server.stop()")
    assert prompt.run("hook() != 0") == ["True"]
    prompt.run("other.stop()")
    assert prompt.run("hook()") == ["0"]
    prompt.run("start()")
    assert prompt.run("hook() != 0") == ["True"]
    assert prompt.ask().body == b"MainThread"
    prompt.run("paths['/stop'] = lambda: server.stop(1)")
    prompt.ask("/stop")
    prompt.run("server.wait_closed() and None")
    assert prompt.run("hook()") == ["0"]


HOOKS = """
calls = []
make = ctypes.CFUNCTYPE(ctypes.c_int)
slot = ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
def put(name):
    under = slot.value
    def called():
        calls.append(name)
        if under: make(under)()
        return 0
    globals()[name] = made = make(called)
    slot.value = globals()[name + "_address"] = ctypes.cast(made, ctypes.c_void_p).value
"""


def test_hook_that_was_there_before_is_called_and_restored(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(HOOKS + "put('first'); start()")
    assert prompt.run("hook() != first_address") == ["True"]
    assert prompt.ask().body == b"MainThread"
    prompt.run("calls.clear()")
    prompt.ask()
    assert prompt.run("'first' in calls") == ["True"]
    prompt.run("server.stop()")
    assert prompt.run("hook() == first_address") == ["True"]


def test_hook_that_was_put_over_ours_stays_there(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(HOOKS + "start(); put('second')")
    assert prompt.ask().body == b"MainThread"
    prompt.run("server.stop()")
    assert prompt.run("hook() == second_address") == ["True"]
    prompt.run("calls.clear()")
    assert prompt.run("'second' in calls") == ["True"]  # and it calls what ours was
    prompt.run("start()")
    assert prompt.ask().body == b"MainThread"


def test_nothing_at_the_prompt_differs_after_the_last_server(prompt: Prompt) -> None:
    prompt.run("server.stop()")
    prompt.run("facts = lambda: (hook(), signal.getsignal(2), sys.stdout.write.__class__, vars(sys.stdout))")
    prompt.run("paths['/print'] = lambda: print('printed')")
    prompt.run("before = facts()")
    prompt.run("start()")
    prompt.ask("/print")
    prompt.run("server.stop()")
    assert prompt.run("facts() == before") == ["True"]


def test_fork_at_the_prompt_leaves_the_parents_server_alone(prompt: Prompt) -> None:
    prompt.run("child = os.fork() or os._exit(hook())")
    assert prompt.run("os.waitpid(child, 0)[1]") == ["0"]  # the child's hook is gone
    assert prompt.ask().body == b"MainThread"


def test_window_may_be_resized(prompt: Prompt) -> None:
    prompt.ask()
    prompt.resize(ROWS, 60)
    assert prompt.run("import shutil; shutil.get_terminal_size().columns") == ["60"]
    prompt.type("x" * 80)
    prompt.wait_until(lambda: prompt.lines()[-1].lstrip("x") == "" and len(prompt.lines()[-1]) < 60, "a second row")
    assert prompt.ask().body == b"MainThread"


def test_prompt_of_code_interact_counts_when_asked_for(tmp_path: Path) -> None:
    source = "import code; start(callbacks='prompt'); code.interact('', exitmsg='', local=globals())"
    with Prompt(tmp_path, source, options=()) as prompt:
        assert prompt.ask().body == b"MainThread"
        assert prompt.run("6 * 7") == ["42"]
        prompt.type("unfinished")
        prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
        prompt.type(CTRL_C)
        prompt.wait_for_line("KeyboardInterrupt")
        prompt.wait_for_prompt()
        prompt.type(CTRL_D)
        assert prompt.end() == 0


def test_prompt_without_a_line_editor_works(tmp_path: Path) -> None:
    source = """
        start(callbacks="prompt")
        while True:
            try:
                print(eval(input(">>> ")))
            except KeyboardInterrupt:
                print("\\nKeyboardInterrupt")
        """
    with Prompt(tmp_path, source, options=()) as prompt:
        prompt.wait_for_prompt()
        for _ in range(2):
            assert prompt.ask().body == b"MainThread"
            assert prompt.run("'readline' in sys.modules") == ["False"]
        prompt.type(CTRL_C)
        prompt.wait_for_line("KeyboardInterrupt")
        assert prompt.ask().body == b"MainThread"
        assert prompt.run("6 * 7") == ["42"]
        assert prompt.ask().body == b"MainThread"
        prompt.run("paths.update({'/print': lambda: print('printed')})")
        prompt.ask("/print")
        prompt.wait_for_line("printed")
        prompt.type("exit()" + ENTER)  # nobody shows the prompt again
        assert prompt.end() == 0


def test_conflicting_choices_are_refused(prompt: Prompt) -> None:
    for choice in ("service", "loop"):
        prompt.enter(f"start(callbacks={choice!r})")
    lines = prompt.run("1 + 1")
    shown = "\n".join(prompt.lines())
    assert "ValueError: callbacks='service': this thread's servers already use 'prompt'" in shown
    assert "RuntimeError: callbacks='loop' needs an asyncio loop that runs in this thread; none does" in shown
    assert lines == ["2"]
    prompt.run("start(callbacks='prompt')")
    assert prompt.ask().body == b"MainThread"


def test_input_that_is_no_terminal_is_served_by_service(tmp_path: Path) -> None:
    source = PROGRAM + "start()\n"
    lines = "print(hook())\nprint(portico.service(0))\nstart(callbacks='prompt')\n"
    ended = subprocess.run(
        [sys.executable, "-i", "-c", source, "0"], input=lines, capture_output=True, text=True, timeout=20, check=False
    )
    assert re.fullmatch(r"port \d+\n0\n0\n", ended.stdout)
    reason = "callbacks='prompt' needs an interactive prompt on a terminal, but stdin is not a terminal"
    assert f"RuntimeError: {reason}" in ended.stderr
    assert ended.returncode == 0


def test_terminal_is_as_it_was(prompt: Prompt) -> None:
    prompt.run("paths['/print'] = lambda: print('printed')")
    before = prompt.run("import termios; termios.tcgetattr(0)[:4]")
    prompt.ask("/print")
    assert prompt.run("termios.tcgetattr(0)[:4]") == before


@pytest.mark.parametrize("python", other_pythons(), ids=lambda path: path.parent.parent.name)
def test_the_same_at_the_prompt_of_every_other_python_at_hand(tmp_path: Path, python: Path) -> None:
    """In one go; `make test PYTHON=…` tries everything there."""
    source = """
        paths["/print"] = lambda: print("printed")
        paths["/ask"] = lambda: input("name? ")
        paths["/hang"] = lambda: (tell(), time.sleep(100))
        start()
        """
    with Prompt(tmp_path, source, python=python) as prompt, ThreadPoolExecutor() as threads:
        assert prompt.ask().body == b"MainThread"
        prompt.type("6 *")
        prompt.wait_until(lambda: prompt.typed() == "6 *", "the line")
        prompt.ask("/print")
        prompt.wait_for_line("printed")
        prompt.wait_until(lambda: prompt.typed() == "6 *", "the line again")
        assert prompt.ask("/ask").status == 500
        prompt.wait_for_line("RuntimeError: can't re-enter readline")
        prompt.wait_until(lambda: prompt.typed() == "6 *", "the line once more")
        prompt.type(" 7" + ENTER)
        prompt.wait_for_line("42")
        prompt.type(CTRL_C)
        prompt.wait_for_line("KeyboardInterrupt")
        prompt.wait_for_prompt()
        answer = threads.submit(prompt.ask, "/hang")
        prompt.wait_for_tell()
        prompt.type(CTRL_C)
        assert answer.result().status == 500
        prompt.wait_for_prompt()
        assert prompt.ask().body == b"MainThread"
        prompt.run("server.stop()")
        assert prompt.run("hook()") == ["0"]
        prompt.type(CTRL_D)
        assert prompt.end() == 0


def test_reading_a_line_within_a_callback_is_refused(prompt: Prompt) -> None:
    prompt.run("paths['/ask'] = lambda: input('name? ')")
    prompt.type("6 *")
    prompt.wait_until(lambda: prompt.typed() == "6 *", "the line")
    for count in range(1, 3):
        assert prompt.ask("/ask").status == 500
        prompt.wait_for_line("RuntimeError: can't re-enter readline", count)
        prompt.wait_until(lambda: prompt.typed() == "6 *", "the line again")
    prompt.type(" 7" + ENTER)
    prompt.wait_for_line("42")
    assert prompt.ask().body == b"MainThread"


def test_reading_a_line_while_input_reads_one_is_refused(prompt: Prompt) -> None:
    prompt.run("paths['/ask'] = lambda: input('again? ')")
    prompt.enter("name = input('name? ')")
    prompt.wait_until(lambda: prompt.lines()[-1] == "name?", "the question")
    prompt.type("Ad")
    prompt.wait_until(lambda: prompt.lines()[-1] == "name? Ad", "the answer")
    assert prompt.ask("/ask").status == 500
    prompt.wait_for_line("RuntimeError: can't re-enter readline")
    prompt.wait_until(lambda: prompt.lines()[-1] == "name? Ad", "the answer again")
    prompt.type("a" + ENTER)
    assert prompt.run("name") == ["'Ada'"]


def test_input_in_a_callback_that_service_runs_reads_a_line(prompt: Prompt) -> None:
    prompt.run("paths['/ask'] = lambda: input('name? ')")
    address = prompt.address()
    with ThreadPoolExecutor() as threads:
        prompt.enter("tell(); portico.service()")
        prompt.wait_for_tell()
        answer = threads.submit(prompt.ask, "/ask", address)
        prompt.wait_until(lambda: prompt.lines()[-1] == "name?", "the question")
        prompt.type("Ada" + ENTER)
        assert answer.result().body == b"Ada"
    prompt.wait_for_prompt()
    assert prompt.run("6 * 7") == ["42"]


def test_prompt_of_asyncio_is_left_to_its_loop(tmp_path: Path) -> None:
    # That of 3.14 takes no script, so the program is run by hand.
    with Prompt(tmp_path, "", options=("-m", "asyncio"), is_run=False) as prompt:
        prompt.run("import os, sys, runpy; sys.argv.append('0')")
        prompt.run("globals().update(runpy.run_path(os.path.expanduser('~/program.py'))); start()")
        assert prompt.ask().body == b"MainThread"
        assert prompt.run("1 + 1") == ["2"]
        assert prompt.ask().body == b"MainThread"
