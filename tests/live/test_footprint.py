"""What a process has of its own, handlers, hooks, policies and loggers, is after the last server what it was before.

Each home runs in a process of its own, where nothing else has touched them.
"""

from __future__ import annotations

from textwrap import dedent

import pytest

from .process import Program, check_quiet
from .wire_client import WebSocketClient, ask, request

SNAPSHOT = """
import gc, locale, logging, resource, warnings
from collections import Counter

def pointer(name):
    return ctypes.c_void_p.in_dll(ctypes.pythonapi, name).value

def snapshot():
    found = {f"signal {number}": signal.getsignal(number) for number in signal.valid_signals()}
    found["blocked signals"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for name in ("excepthook", "displayhook", "unraisablehook", "breakpointhook", "__interactivehook__", "path_hooks",
                 "meta_path", "stdin", "stdout", "stderr"):
        value = getattr(sys, name, None)
        found[f"sys.{name}"] = list(value) if isinstance(value, list) else value
    found["threading.excepthook"] = threading.excepthook
    found["sys.trace"] = sys.gettrace(), threading.gettrace(), sys.getprofile(), threading.getprofile()
    found["asyncgen hooks"] = tuple(sys.get_asyncgen_hooks())
    found["loop policy"] = asyncio.events._event_loop_policy
    found["wakeup descriptor"] = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found["wakeup descriptor"])
    for name in ("PyOS_InputHook", "PyOS_ReadlineFunctionPointer"):
        found[name] = pointer(name)
    for logger in (logging.getLogger(), *map(logging.getLogger, ("portico", "asyncio"))):
        found[f"logger {logger.name}"] = logger.level, list(logger.handlers), list(logger.filters), logger.propagate
    found["log record factory"] = logging.getLogRecordFactory()
    found["last resort"] = logging.lastResort, logging.raiseExceptions, logging.root.manager.disable
    found["warnings"] = list(warnings.filters), warnings.showwarning
    found["locale"], found["umask"], found["directory"] = locale.setlocale(locale.LC_ALL), umask(), os.getcwd()
    found["environment"], found["limits"] = dict(os.environ), resource.getrlimit(resource.RLIMIT_NOFILE)
    found["switch interval"], found["recursion limit"] = sys.getswitchinterval(), sys.getrecursionlimit()
    found["collector"] = gc.isenabled(), gc.get_threshold(), list(gc.callbacks)
    return found

def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

def descriptors():
    gc.collect()
    return sorted(map(target, os.listdir("/proc/self/fd")))

def target(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").split(":")[0]
    except OSError:  # that of the listing itself
        return ""

def compare(before, after):
    return [f"{name}: {before[name]!r} became {after[name]!r}" for name in before if before[name] != after[name]]

import readline  # it sets PyOS_ReadlineFunctionPointer, as an interactive prompt has done before us

def on_ws_open(ws):
    ws.on_message(lambda binary, message: ws.send(message))

async def coroutine():
    await asyncio.sleep(0)
    return "coroutine"

APP = {"call": lambda req: coroutine(), "on_ws_open": on_ws_open}
"""

RUNS = {
    "service": """
        def run():
            server = start(APP, "service")
            say("differs", compare(before, snapshot()))
            serve_until_told(server.service)
            server.stop()
    """,
    "thread": """
        def run():
            server = start(APP, "thread")
            say("differs", compare(before, snapshot()))
            wait_until_told()
            server.stop()
            server.wait_closed()
            server._home.thread.join()
    """,
    "serve": """
        def run():
            server = start(APP, "service")
            say("differs", compare(before, snapshot()))
            threading.Thread(target=lambda: (wait_until_told(), portico.interrupt())).start()
            server.serve()
    """,
    "asyncio": """
        async def main():
            server = start(APP, "asyncio")
            await asyncio.to_thread(wait_until_told)
            server.stop()
            await server.wait_closed()

        def run():
            # asyncio itself changes what it needs while it runs, and sets a policy: let it do so without us first.
            asyncio.run(main())
    """,
    "uvloop": """
        import uvloop

        async def main():
            server = start(APP, "asyncio")
            await asyncio.to_thread(wait_until_told)
            server.stop()
            await server.wait_closed()

        def run():
            uvloop.run(main())
    """,
}

RUNS["trio"] = """
    import trio

    async def main():
        server = start(APP, "trio")
        threading.Thread(target=lambda: (wait_until_told(), server.stop())).start()
        while server.state != "stopped":
            await trio.lowlevel.wait_readable(portico.fileno())
            portico.service(0)

    def run():
        trio.run(main)
"""

RUN = """
def wait_until_told():
    input()

def serve_until_told(service):
    told = []
    thread = threading.Thread(target=lambda: (told.append(input()), portico.interrupt()))
    thread.start()
    while not told:
        service(0.1)
    thread.join()

async def nothing():
    await asyncio.to_thread(int)

asyncio.run(nothing())
before = snapshot()
run()
run_again = descriptors()
say("left", compare(before, snapshot()))
run()
deadline = time.monotonic() + 2
while more := list((Counter(descriptors()) - Counter(run_again)).elements()):  # the last socket closes beside us
    if time.monotonic() > deadline:
        break
say("left again", compare(before, snapshot()), more)
# One thread stays, asleep: it notices when nobody services.
say({thread.name for thread in threading.enumerate()} - {"MainThread", "portico-late"})
"""


@pytest.mark.parametrize("home", list(RUNS))
def test_nothing_of_the_process_is_changed(home: str) -> None:
    with Program(SNAPSHOT + dedent(RUNS[home]) + RUN) as program:
        for left in ("left []", "left again [] []"):
            address = program.address()
            if home in ("service", "thread", "serve"):  # loops have handlers of their own while they run
                assert program.line() == "differs []"
            with WebSocketClient(address) as client:
                client.send_text("x")
                assert client.receive_text() == "x"
                assert ask(address, request()).body == b"coroutine"
                program.tell("stop")
                assert client.receive_close()[0] == 1001
            assert program.line() == left
        assert program.line() == "set()"
        check_quiet(program.end())
