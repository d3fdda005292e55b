"""Callbacks at IPython's prompt on a terminal, as a person types at it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import pytest

from .prompt_programs import Prompt
from .terminal import CTRL_C, CTRL_D, ENTER
from .wire_client import TEXT, Client, WebSocketClient, request

OpenPrompt = Callable[..., Prompt]

OPTIONS = ("-m", "IPython", "--no-banner", "--no-confirm-exit", "--classic", "--colors=nocolor", "-i")


@pytest.fixture
def open_prompt(tmp_path: Path) -> Iterator[OpenPrompt]:
    """Open the prompt of an IPython that has run the program and then what is given."""
    with ExitStack() as opened:

        def open_one(source: str, *more: str) -> Prompt:
            options = (*OPTIONS[:-1], *more, OPTIONS[-1])
            prompt = opened.enter_context(Prompt(tmp_path, source, options=options))
            prompt.wait_for_prompt()
            return prompt

        yield open_one


@pytest.fixture
def prompt(open_prompt: OpenPrompt) -> Prompt:
    """The prompt of an IPython that has started a server."""
    return open_prompt("start()")


def test_callbacks_run_on_the_main_thread_while_the_prompt_waits(prompt: Prompt) -> None:
    for _ in range(2):
        assert prompt.ask().body == b"MainThread"
        assert prompt.run("1 + 1")[-1] == "2"
    prompt.type(ENTER)  # a prompt that follows no command
    assert prompt.ask().body == b"MainThread"
    prompt.run("start()")
    assert prompt.ask().body == b"MainThread"


def test_coroutines_outlive_the_prompt_that_they_began_at(prompt: Prompt) -> None:
    prompt.run("start(later)")
    assert prompt.ask().body == b"later on MainThread"
    prompt.wait_for_line("out of a coroutine")
    prompt.run("start(lambda req: asyncio.sleep(0.3, 'slow'))")
    with Client(prompt.address()) as client:
        client.send(request("GET", "/"))
        assert prompt.run("1 + 1")[-1] == "2"
        assert client.receive_reply("GET").body == b"slow"


def test_output_appears_above_the_line_that_is_being_typed(prompt: Prompt) -> None:
    prompt.run("paths['/print'] = lambda: print('first\\nsecond')")
    prompt.run("paths['/raise'] = lambda: 1 / 0")
    prompt.type("20 +")
    prompt.wait_until(lambda: prompt.typed() == "20 +", "the line")
    for target, line in ("/print", "second"), ("/raise", "ZeroDivisionError: division by zero"):
        prompt.ask(target)
        prompt.wait_for_line(line)
        prompt.wait_until(lambda: prompt.typed() == "20 +", "the line again")
    prompt.type(" 22" + ENTER)
    prompt.wait_for_line("42")
    assert {"first", "second", "Traceback (most recent call last):"} <= set(prompt.lines())


def test_no_key_is_lost_or_doubled_while_callbacks_run(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        def on_ws_open(ws):
            ws.on_message(lambda binary, message: ws.send(message))
        start({"on_ws_open": on_ws_open})
        """
    )
    text = "0123456789abcdefghijklmnopqrstuvwxyz"
    with WebSocketClient(prompt.address()) as client:
        prompt.type('"')
        for key in text:
            prompt.type(key)
            client.send_frame(TEXT, key.encode())
            assert client.receive_frame().payload == key.encode()
        prompt.type('"' + ENTER)
        prompt.wait_for_line(repr(text))


def test_ctrl_c_at_the_prompt_clears_the_line(prompt: Prompt) -> None:
    prompt.ask()
    prompt.type("unfinished")
    prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
    prompt.type(CTRL_C)
    prompt.wait_for_prompt()
    assert prompt.ask().body == b"MainThread"
    assert prompt.run("6 * 7")[-1] == "42"


HANGS = {
    "sleep": "time.sleep(100)",
    "spin": "[0 for _ in iter(int, 1)]",
    # What the system goes on with after a signal, because the prompt's loop wants it so:
    "lock": "lock.acquire()",
    "socket": "pair[0].recv(1)",
    "process": "process.wait()",
}


@pytest.mark.parametrize("hang", list(HANGS.values()), ids=list(HANGS))
def test_ctrl_c_interrupts_a_callback_that_hangs(prompt: Prompt, hang: str) -> None:
    prompt.run("import subprocess as s; process = s.Popen('cat', stdin=s.PIPE, start_new_session=True)")
    prompt.run("pair = socket.socketpair(); lock = threading.Lock(); lock.acquire()")
    prompt.run(f"paths['/hang'] = lambda: (tell(), {hang})")
    prompt.type("6 *")
    prompt.wait_until(lambda: prompt.typed() == "6 *", "the line")
    for count in range(1, 3):
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(prompt.ask, "/hang")
            prompt.wait_for_tell()
            prompt.type(" " + CTRL_C)
            assert answer.result().status == 500
        prompt.wait_for_line("Ctrl-C interrupted a callback", count)
        assert prompt.ask().body == b"MainThread"
    prompt.type("7" + ENTER)  # what was typed before Ctrl-C, and while the callback hung, is still there
    prompt.wait_for_line("42")


def test_callback_that_survives_ctrl_c_gets_the_next_one(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        def stubborn():
            for _ in range(2):
                try:
                    tell()
                    time.sleep(100)
                except KeyboardInterrupt:
                    pass
            return "survived"
        start({"call": lambda req: stubborn()})
        """
    )
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(prompt.ask)
        for _ in range(2):
            prompt.wait_for_tell()
            prompt.type(CTRL_C)
        assert answer.result().body == b"survived"
    assert prompt.run("6 * 7")[-1] == "42"


def test_ctrl_c_at_any_moment_hurts_neither_the_prompt_nor_the_callbacks(prompt: Prompt) -> None:
    prompt.run("paths['/short'] = lambda: time.sleep(0.0005) or 'slept'")
    address, is_over = prompt.address(), Event()

    def keep_asking() -> set[int]:
        found = set()
        while not is_over.is_set():
            found.add(prompt.ask("/short", address).status)
        return found

    with ThreadPoolExecutor() as threads:
        asking = threads.submit(keep_asking)
        for _ in range(100):
            prompt.type(CTRL_C)
            with suppress(TimeoutError):  # who doesn't look at what the prompt prints will stop it
                prompt.wait_until(lambda: False, "what it prints", deadline_s=0.01)
        is_over.set()
        assert asking.result() <= {200, 500}
    assert prompt.ask("/", address).body == b"MainThread"
    prompt.type(ENTER)
    assert prompt.run("6 * 7")[-1] == "42"


def test_ctrl_c_while_callbacks_come_and_go_is_for_the_line(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        def press(req):
            os.kill(os.getpid(), signal.SIGINT)  # as soon as a callback runs: nobody can know that
            return "not interrupted"
        start({"call": press})
        """
    )
    prompt.type("unfinished")
    prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
    assert prompt.ask().body == b"not interrupted"
    prompt.wait_for_prompt()
    assert prompt.run("6 * 7")[-1] == "42"


def test_signals_reach_the_prompt_between_callbacks(prompt: Prompt) -> None:
    prompt.ask()
    prompt.type("unfinished")
    prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
    os.kill(prompt.process.pid, signal.SIGINT)
    prompt.wait_for_prompt()
    assert prompt.ask().body == b"MainThread"


def test_handlers_are_those_of_the_prompt_while_callbacks_run(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        def action(number):
            found = ctypes.create_string_buffer(256)
            ctypes.CDLL(None).sigaction(number, None, found)
            return found.raw[:16], found.raw[136:140]  # the function and what it blocks; the flags
        def look():
            seen.append([(signal.getsignal(number), action(number)) for number in signal.valid_signals()])
            tell()
        seen = []
        start({"call": lambda req: look()})
        """
    )
    prompt.enter("threading.Timer(0.2, look).start()")
    prompt.wait_for_tell()  # at the idle prompt
    prompt.ask()
    assert prompt.run("len(seen), seen[0] == seen[1], 'noop' in repr(seen[1])")[-1] == "(2, True, True)"


def test_program_that_ignores_sigint_is_not_interrupted(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt("signal.signal(signal.SIGINT, signal.SIG_IGN); start()")
    prompt.run("paths['/wait'] = lambda: (tell(), time.sleep(0.3), 'waited')[-1]")
    prompt.type("unfinished")
    prompt.wait_until(lambda: prompt.typed() == "unfinished", "the line")
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(prompt.ask, "/wait")
        prompt.wait_for_tell()
        prompt.type(CTRL_C)
        assert answer.result().body == b"waited"
    prompt.wait_for_prompt()  # where Ctrl-C is a key


def test_process_that_a_callback_starts_blocks_no_signals(prompt: Prompt) -> None:
    prompt.run("paths['/masks'] = lambda: os.popen('grep -E \"Sig(Blk|Ign)\" /proc/self/status').read()")
    in_callback = prompt.ask("/masks").body.decode().split()
    assert in_callback[1] == "0" * 16
    assert repr(in_callback) == prompt.run("paths['/masks']().split()")[-1]


def test_sys_exit_in_a_callback_does_not_end_the_prompt(prompt: Prompt) -> None:
    prompt.run("paths['/exit'] = sys.exit")
    prompt.ask("/exit")
    prompt.wait_for_line("a callback called sys.exit(), which can't end a prompt")
    assert prompt.ask().body == b"MainThread"


@pytest.mark.parametrize("keys", [CTRL_D, "exit()" + ENTER], ids=["Ctrl-D", "exit"])
def test_end_of_the_prompt_is_the_end_of_the_server(prompt: Prompt, keys: str) -> None:
    assert prompt.ask().body == b"MainThread"
    prompt.type(keys)
    assert prompt.end() == 0
    assert "Traceback (most recent call last):" not in prompt.lines()


def test_cells_with_await_are_served_by_their_loop_and_the_prompt_after_them(prompt: Prompt) -> None:
    address = prompt.address()
    prompt.run("paths['/end'] = lambda: over.set()")
    prompt.enter("over = asyncio.Event(); start(); tell(); await over.wait()")
    prompt.wait_for_tell()
    assert prompt.ask("/", address).body == b"MainThread"
    prompt.ask("/end", address)
    prompt.wait_for_prompt()
    assert prompt.ask().body == b"MainThread"
    assert prompt.ask("/", address).body == b"MainThread"


def test_callback_may_run_a_loop_of_its_own(prompt: Prompt) -> None:
    prompt.run("paths['/run'] = lambda: asyncio.run(asyncio.sleep(0, 'ran'))")
    assert prompt.ask("/run").body == b"ran"
    assert prompt.run("6 * 7")[-1] == "42"


def test_event_loops_of_others_may_be_switched_on_and_off(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt(
        """
        from IPython.terminal import pt_inputhooks
        calls = []
        def hook(context):
            calls.append(1)
            while not context.input_is_ready():
                time.sleep(0.001)
        pt_inputhooks.register("ours", hook)
        start()
        """
    )
    prompt.run("%gui ours")
    assert prompt.ask().body == b"MainThread"
    assert prompt.run("bool(calls)")[-1] == "True"
    prompt.run("server.stop()")
    prompt.run("calls.clear()")
    assert prompt.run("bool(calls)")[-1] == "True"
    prompt.run("start()")
    prompt.run("%gui")
    prompt.run("%gui asyncio")
    assert prompt.ask().body == b"MainThread"
    prompt.run("%gui")
    assert prompt.ask().body == b"MainThread"


def test_nothing_differs_after_the_last_server(prompt: Prompt) -> None:
    prompt.run("app = get_ipython().pt_app.app")
    prompt.run("facts = lambda: (hook(), signal.getsignal(2), len(app.on_reset._handlers))")
    prompt.run("server.stop()")
    prompt.run("before = facts()")
    prompt.run("start()")
    prompt.ask()
    prompt.run("server.stop()")
    assert prompt.run("facts() == before")[-1] == "True"


def test_fork_at_the_prompt_leaves_the_parents_server_alone(prompt: Prompt) -> None:
    prompt.run("paths['/fork'] = lambda: str(os.waitpid(os.fork() or os._exit(0), 0)[1])")
    assert prompt.ask("/fork").body == b"0"
    assert prompt.ask().body == b"MainThread"


def test_plain_lines_are_read_at_the_prompt_of_python(open_prompt: OpenPrompt) -> None:
    prompt = open_prompt("start()", "--simple-prompt")
    assert prompt.ask().body == b"MainThread"
    assert prompt.run("hook() != 0")[-1] == "True"
