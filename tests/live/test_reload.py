"""Modules that are reloaded or imported again while servers run, and interpreters within the interpreter."""

from __future__ import annotations

from textwrap import dedent

from .process import Program, check_quiet

LOUD = ("-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning")

READ = """
import importlib, urllib.request

def read(server):
    with urllib.request.urlopen(server.url, timeout=5) as answer:
        return answer.read().decode()

def ours():
    return sorted(name for name in sys.modules if name.split(".")[0] == "portico")
"""


def test_reloading_the_package_changes_nothing() -> None:
    source = """
        server = start(lambda req: "x", "thread")
        again = importlib.reload(portico)
        say(again is portico, again.list_servers() == [server], isinstance(server, again.Server), read(server))
        again.stop_all_servers()
        server.wait_closed()
        say(server.state)
    """
    check(source, ["True True True x", "stopped"])


def test_reloading_every_module_leaves_old_servers_running() -> None:
    source = """
        server = start(lambda req: "old", "thread")
        for name in ours():
            importlib.reload(sys.modules[name])
        new = start(lambda req: "new", "thread")
        say(portico.list_servers() == [new], read(server), read(new))
        for one in (server, new):
            one.stop()
            one.wait_closed()
        say(server.state, new.state)
    """
    check(source, ["True old new", "stopped stopped"])


def test_importing_it_again_leaves_old_servers_running() -> None:
    source = """
        server = start(lambda req: "old", "thread")
        here = portico.start_server("127.0.0.1", 0, lambda req: "here", True)
        old = portico
        for name in ours():
            del sys.modules[name]
        import portico
        new = start(lambda req: "new", "thread")
        say(portico is old, len(old.list_servers()), len(portico.list_servers()))
        say(read(server), read(new), here.service(0), portico.service(0))
        pid = os.fork()
        if pid == 0:
            say(old.list_servers(), portico.list_servers(), server.state, here.state, new.state)
            sys.exit(0)
        say(os.waitpid(pid, 0)[1], server.state, here.state, new.state)
        # All of them still run: ending the process is part of it.
    """
    check(source, ["False 2 1", "old new 0 0", "[] [] stopped stopped stopped", "0 running running running"])


def test_a_subinterpreter_is_refused() -> None:
    source = """
        try:
            import _interpreters as interpreters  # 3.13
        except ImportError:
            import _xxsubinterpreters as interpreters
        other = interpreters.create()
        try:
            # 3.13 returns what was raised, earlier ones raise it.
            told = interpreters.run_string(other, f"import sys; sys.path[:] = {sys.path}; import portico")
        except Exception as error:
            told = error
        say("ImportError" in str(told), "subinterpreter" in str(told))
        interpreters.destroy(other)
        say(read(start(lambda req: "x", "thread")))
    """
    check(source, ["True True", "x"])


def check(source: str, expected: list[str]) -> None:
    """The program says this, and nothing else, besides where its servers listen; and it ends."""
    with Program(READ + dedent(source), options=LOUD) as program:
        output = []
        while len(output) < len(expected):
            line = program.line()
            if not line.startswith("port "):
                output.append(line)
        assert output == expected
        check_quiet(program.end())
