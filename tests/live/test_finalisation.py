"""What a process says and how long it takes when it ends around our threads, handlers and hooks: nothing, and not long.

How it ends by itself, and how it forks, is in `test_process`.
"""

from __future__ import annotations

import signal
from textwrap import dedent

import pytest

from .process import Program, check_one_traceback, check_quiet
from .wire_client import Client, ask, request

# Everything but forks in a program with threads, which multiprocessing does as it pleases.
LOUD = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")


# Daemon threads that the end of the interpreter finds at work

DAEMONS = {
    "send": """
        server = start({"on_ws_open": lambda ws: None}, "thread")
        def work():
            while True:
                server.broadcast("x"), server.publish("topic", "x"), server.clients, server.stats()
    """,
    "service": """
        def work():
            portico.start_server("127.0.0.1", 0, lambda req: "x", True)
            while True:
                portico.service(0.001)
    """,
    "service without a time-out": """
        def work():
            portico.start_server("127.0.0.1", 0, lambda req: "x", True)
            while True:
                portico.service()
    """,
    "serve": """
        def work():
            portico.run_server("127.0.0.1", 0, lambda req: "x", True)
    """,
    "a loop": """
        def work():
            async def main():
                await portico.start_server("127.0.0.1", 0, lambda req: "x", True).wait_closed()
            asyncio.run(main())
    """,
    "start and stop": """
        def work():
            while True:
                with portico.start_server("127.0.0.1", 0, lambda req: "x", True):
                    pass
    """,
    "start and stop threads": """
        def work():
            try:
                while True:
                    with portico.start_server("127.0.0.1", 0, lambda req: "x", True, callbacks="thread"):
                        pass
            except RuntimeError as error:
                # What Python 3.12 tells everybody who starts a thread then.
                if "can't create new thread at interpreter shutdown" not in str(error):
                    raise
    """,
}


@pytest.mark.parametrize("what", list(DAEMONS))
def test_daemon_threads_at_the_end_of_the_interpreter(what: str) -> None:
    source = """
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.1)
        say("end")
    """
    with Program(dedent(DAEMONS[what]) + dedent(source)) as program:
        while program.line() != "end":
            pass
        check_quiet(program.end())


# SIGTERM, where the program has a handler for it

TERM = """
    class App:
        def call(self, req):
            if req.path == "/busy":
                say("busy")
                time.sleep(600)
            return "python"

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
"""
WAYS = {
    "service": "live(App(), 'service')",
    "asyncio": "live(App(), 'asyncio')",
    "thread": "live(App(), 'thread')",
    "serve": "start(App(), 'service').serve()",
    "serve of a thread": "start(App(), 'thread').serve()",
}


# A thread of the server's own that is busy is not the one that handles signals.
@pytest.mark.parametrize(
    ("way", "target"), [*((way, "/") for way in WAYS), *((way, "/busy") for way in WAYS if not way.endswith("thread"))]
)
def test_sigterm_with_a_handler_that_exits(way: str, target: str) -> None:
    with Program(dedent(TERM) + WAYS[way]) as program:
        with Client(program.address()) as client:
            client.send(request(target=target))
            if target == "/busy":
                assert program.line() == "busy"
            else:
                assert client.receive_reply().body == b"python"
            program.send_signal(signal.SIGTERM)
            ending = program.end()
            client.receive_rest()
    if way == "asyncio" and target == "/busy":
        assert ending.code == 5  # asyncio itself tells that a callback of its loop raised
    else:
        check_quiet(ending, 5)


# sys.exit and exceptions where nobody waits for them


@pytest.mark.parametrize("home", ["service", "thread"])
def test_sys_exit_in_a_thread_ends_that_thread(home: str) -> None:
    source = """
        server = start(lambda req: "x", sys.argv[1])
        def leave():
            server.broadcast("x")
            sys.exit(4)
        def leave_a_server():
            global left
            left = portico.start_server("127.0.0.1", 0, lambda req: "x", True)
            sys.exit(4)
        for work in (leave, leave_a_server):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        say(server.state, left.state, left.service(0))  # adopted
        left.stop()
        say(left.state)
    """
    with Program(source, home, options=LOUD) as program:
        program.address()
        assert [program.line(), program.line()] == ["running running 0", "stopped"]
        check_quiet(program.end())


def test_an_exception_at_exit_is_the_programs_own() -> None:
    source = """
        import atexit
        server = start(lambda req: "x", "thread")
        atexit.register(lambda: 1 / 0)
    """
    with Program(source) as program:
        program.address()
        check_one_traceback(program.end(), 0, "ZeroDivisionError")


def test_exit_handlers_around_ours() -> None:
    """Those registered after the first start still find a server, those before it a stopped one; both may stop it."""
    source = """
        import atexit
        def last():
            say("last", server.state, server.broadcast("x"))
            server.stop()
            server.wait_closed()
        def first():
            say("first", server.state)
            server.stop()
            server.wait_closed()
            say(server.state)
        atexit.register(last)
        server = start(lambda req: "x", sys.argv[1])
        atexit.register(first)
    """
    for home in ("service", "thread"):
        with Program(source, home, options=LOUD) as program:
            program.address()
            ending = program.end()
            check_quiet(ending)
            assert ending.output == ["first running", "stopped", "last stopped 0"]


def test_pools_that_end_with_the_process() -> None:
    source = """
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        pools = {"/thread": ThreadPoolExecutor(), "/process": ProcessPoolExecutor(1)}
        server = start(lambda req: pools[req.path].submit(str, 5), "thread")
        # Not in input(): a forked worker closes its stdin, and would wait for the lock of who reads there.
        signal.sigwait([signal.SIGUSR1])
    """
    with Program(source, options=("-W", "ignore::DeprecationWarning")) as program:
        address = program.address()
        for target in ("/thread", "/process"):
            assert ask(address, request(target=target)).body == b"5"
        program.send_signal(signal.SIGUSR1)
        check_quiet(program.end())


def test_exit_at_once_in_a_callback_of_a_servers_own_thread() -> None:
    with Program("start(lambda req: os._exit(9), 'thread').wait_closed()") as program:
        with Client(program.address()) as client:
            client.send(request())
            check_quiet(program.end(), 9)
            client.receive_rest()


# Nobody services


def test_a_script_that_services_nothing_is_told_on_stderr() -> None:
    """By logging's own last resort: the script has set up no handler, and none of its threads ever comes to us."""
    source = """
        server = start(lambda req: "x", "service")
        input()
        say(portico.service(0), portico.service(0))
    """
    with Program(source) as program, Client(program.address()) as client:
        client.send(request())
        program.wait_for_error("portico.service()")
        program.tell("go on")
        assert program.line() == "1 0"
        assert client.receive_reply().body == b"x"
        ending = program.end()
        assert ending.code == 0
        [line] = ending.errors.splitlines()
        assert "callbacks='thread'" in line
