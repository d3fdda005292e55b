"""How a process with a running server ends, and how it forks: quickly, quietly, and leaving nothing behind."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest

from .process import DEADLINE_S, Program, check_one_traceback, check_quiet, patience_s
from .wire_client import Address, Client, WebSocketClient, ask, request

HOMES = ["service", "asyncio", "thread"]

# `begin` starts a server in `home` and runs `inside` while it is up; then the program goes on behind it.
APP = """
from concurrent.futures import Future

class App:
    def call(self, req):
        return getattr(self, req.path.strip("/"), lambda: "python")()
    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: ws.send(message))
    def exit(self):
        say("holding")
        sys.exit(7)
    def hold(self):
        say("holding")
        ctypes.PyDLL(None).usleep(600_000_000)
    def sleep(self):
        say("holding")
        time.sleep(600)
    def loop(self):
        say("holding")
        while True:
            pass
    def never(self):
        say("holding")
        return Future()
    async def wait(self):
        say("holding")
        await asyncio.sleep(600)

INLINE = {"/inline": ("text/plain", b"native")}

def begin(home, inside, app=App()):
    if home == "asyncio":
        async def main():
            server = start(app, home, inline=INLINE)
            await asyncio.to_thread(wait_for_test)
            inside()
        asyncio.run(main())
    else:
        server = start(app, home, inline=INLINE)
        if home == "service":
            threading.Thread(target=lambda: (wait_for_test(), portico.interrupt()), daemon=True).start()
            while not told:
                server.service(0.1)
        else:
            wait_for_test()
        inside()

told = []

def wait_for_test():
    told.append(input())
"""


def is_refused(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) != 0


# The end of the program


@pytest.mark.parametrize("home", HOMES)
def test_normal_exit(home: str) -> None:
    with Program(APP + "begin(sys.argv[1], lambda: None)", home) as program:
        address = program.address()
        with WebSocketClient(address) as client, Client(address) as waiting:
            client.send_text("hello")
            assert client.receive_text() == "hello"
            waiting.send(request(target="/never"))
            assert program.line() == "holding"
            program.tell("end")
            check_quiet(program.end())
            client.receive_rest()
            waiting.receive_rest()
        assert is_refused(address)


@pytest.mark.parametrize("home", HOMES)
def test_exit_by_an_exception(home: str) -> None:
    with Program(APP + "begin(sys.argv[1], lambda: 1 / 0)", home) as program:
        with WebSocketClient(program.address()) as client:
            program.tell("end")
            check_one_traceback(program.end(), 1, "ZeroDivisionError")
            client.receive_rest()


@pytest.mark.parametrize("home", HOMES)
def test_exit_at_once(home: str) -> None:
    with Program(APP + "begin(sys.argv[1], lambda: os._exit(3))", home) as program:
        with WebSocketClient(program.address()) as client:
            program.tell("end")
            check_quiet(program.end(), 3)
            client.receive_rest()


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("target", ["/wait", "/never"])
def test_exit_with_an_unfinished_handler(home: str, target: str) -> None:
    with Program(APP + "begin(sys.argv[1], lambda: None)", home) as program:
        address = program.address()
        with Client(address) as client:
            client.send(request(target=target))
            assert program.line() == "holding"
            program.tell("end")
            check_quiet(program.end())


@pytest.mark.parametrize("target", ["/sleep", "/loop"])
def test_exit_while_the_servers_own_thread_is_busy(target: str) -> None:
    with Program(APP + "begin('thread', lambda: None)") as program:
        address = program.address()
        with Client(address) as client:
            client.send(request(target=target))
            assert program.line() == "holding"
            program.tell("end")
            ending = program.end()
            assert (ending.code, ending.errors) == (0, "")
            assert ending.seconds < patience_s() + 1  # the exit hook grants that thread a second


@pytest.mark.parametrize("home", HOMES)
def test_sys_exit_in_a_callback(home: str) -> None:
    with Program(APP + "begin(sys.argv[1], lambda: None)", home) as program:
        address = program.address()
        with Client(address) as client:
            client.send(request(target="/exit"))
            assert program.line() == "holding"
            if home == "thread":
                # As in any thread: it ends that thread, and the servers that lived there.
                client.receive_rest()
                assert is_refused(address)
                program.tell("end")
                check_quiet(program.end())
            else:
                program.tell("end")  # the thread that waits for this would hold the exit
                check_quiet(program.end(), 7)


# Signals


def test_ctrl_c_while_service_waits() -> None:
    with Program(APP + "live(App(), 'service')") as program:
        address = program.address()
        assert ask(address, request()).body == b"python"
        program.send_signal(signal.SIGINT)
        check_one_traceback(program.end(), -signal.SIGINT, "KeyboardInterrupt")


@pytest.mark.parametrize("target", ["/sleep", "/loop"])
def test_ctrl_c_in_a_callback(target: str) -> None:
    with Program(APP + "live(App(), 'service')") as program:
        with Client(program.address()) as client:
            client.send(request(target=target))
            assert program.line() == "holding"
            program.send_signal(signal.SIGINT)
            check_one_traceback(program.end(), -signal.SIGINT, "KeyboardInterrupt")
            client.receive_rest()


@pytest.mark.parametrize("home", ["asyncio", "thread"])
def test_ctrl_c_in_the_main_program(home: str) -> None:
    with Program(APP + "live(App(), sys.argv[1])", home) as program:
        with WebSocketClient(program.address()) as client:
            program.send_signal(signal.SIGINT)
            ending = program.end()
            assert ending.code == -signal.SIGINT
            assert ending.seconds < patience_s()
            assert ending.errors.strip().endswith("KeyboardInterrupt")
            client.receive_rest()


@pytest.mark.parametrize("target", [None, "/sleep", "/loop"])
def test_run_server_ends_on_ctrl_c(target: str | None) -> None:
    source = """
    class Telling(App):
        def on_headers(self, req):
            say("asked")
    portico.run_server("127.0.0.1", int(sys.argv[1]), Telling())
    say("after", portico.list_servers())
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = probe.getsockname()
    with Program(APP + dedent(source), str(address[1])) as program:
        deadline = time.monotonic() + DEADLINE_S
        while is_refused(address):
            assert time.monotonic() < deadline
        with WebSocketClient(address) as client, Client(address) as asking:
            assert program.line() == "asked"
            if target:
                asking.send(request(target=target))
                assert program.line() == "asked"
                assert program.line() == "holding"
            program.send_signal(signal.SIGINT)
            ending = program.end()
            check_quiet(ending)
            assert ending.output == ["after []"]
            assert client.receive_close()[0] == 1001


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize("target", ["/", "/hold"])
def test_sigterm(home: str, target: str) -> None:
    with Program(APP + "live(App(), sys.argv[1])", home) as program:
        with Client(program.address()) as client:
            client.send(request(target=target))
            if target == "/hold":
                assert program.line() == "holding"
            else:
                assert client.receive_reply().body == b"python"
            program.send_signal(signal.SIGTERM)
            check_quiet(program.end(), -signal.SIGTERM)


@pytest.mark.parametrize("home", ["service", "thread"])
def test_no_client_makes_a_sigpipe(home: str, tmp_path: Path) -> None:
    # Who closed its half and then resets leaves us a broken pipe; and files leave by a call that knows no MSG_NOSIGNAL.
    (tmp_path / "large").write_bytes(b"x" * 20_000_000)
    (tmp_path / "small").write_bytes(b"alive")
    source = f"""
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as programs do that write into pipes
        live({{"static_paths": {{"/": sys.argv[1]}}}}, {home!r})
    """
    with Program(source, str(tmp_path)) as program:
        address = program.address()
        for _ in range(5):
            with Client(address, receive_buffer_bytes=4096) as client:
                client.send(request("GET", "/large"))
                client.socket.shutdown(socket.SHUT_WR)
                assert client.socket.recv(1000).startswith(b"HTTP/1.1 200 OK")
                client.reset()
            assert ask(address, request("GET", "/small")).body == b"alive"


def test_a_signal_handler_of_the_program_runs_while_service_waits() -> None:
    source = """
    signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
    live(App(), "service")
    """
    with Program(APP + dedent(source)) as program:
        address = program.address()
        for _ in range(20):
            assert ask(address, request()).body == b"python"
            program.send_signal(signal.SIGUSR1)
            assert program.line() == "handled"
        assert ask(address, request()).body == b"python"


# Fork


class Echoing(threading.Thread):
    """A client that talks to a server without a pause, until told; what it hears must be what it said."""

    def __init__(self, address: Address) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.client = WebSocketClient(address)
        self.is_over = False
        self.count = 0
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self.is_over:
                texts = [f"{self.count}.{part}" for part in range(5)]
                self.client.send_text(*texts)
                assert [self.client.receive_text() for _ in texts] == texts
                self.count += 1
            assert self.client.close()[0] == 1000
        except BaseException as error:
            self.error = error
        finally:
            self.client.socket.close()

    def finish(self) -> None:
        self.is_over = True
        self.join(DEADLINE_S)
        assert not self.is_alive()
        if self.error:
            raise self.error


FORKING = """
import socket, traceback

def child():
    assert portico.list_servers() == [], portico.list_servers()
    assert not server.is_running and server.clients == 0 and server.broadcast("x") == 0
    server.stop()
    mine = portico.start_server("127.0.0.1", 0, lambda req: "child", True, callbacks="thread")
    with socket.create_connection(("127.0.0.1", mine.port), 5) as client:
        client.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
        answer = b""
        while data := client.recv(1000):
            answer += data
    assert answer.endswith(b"child"), answer
    with portico.start_server("127.0.0.1", 0, lambda req: "x", True):
        assert portico.service(0) == 0
    # `mine` runs on: ending a process with a running server is part of it.

def fork():
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)
    return pid

def wait_for(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, code
    return "forked"
"""


@pytest.mark.parametrize("home", HOMES)
def test_fork_under_load(home: str) -> None:
    """From the main thread, which in two homes is a callback's."""
    source = (
        APP
        + FORKING
        + """
class Forking(App):
    def fork(self):
        return wait_for(fork())

home = sys.argv[1]
if home == "asyncio":
    async def main():
        global server
        # From 3.14 on a child's asyncio has forgotten its parent's tasks: nothing cancels this one as it ends.
        asyncio.current_task()._log_destroy_pending = sys.version_info < (3, 14)
        server = start(Forking(), home)
        await server.wait_closed()
    asyncio.run(main())
else:
    server = start(Forking(), home)
    if home == "service":
        server.serve()
    for line in sys.stdin:
        say(wait_for(fork()))
"""
    )
    with Program(source, home, options=("-W", "ignore::DeprecationWarning")) as program:
        address = program.address()
        echoing = [Echoing(address) for _ in range(5)]
        for _ in range(10):
            if home == "thread":
                program.tell("fork")
                assert program.line() == "forked"
            else:
                assert ask(address, request(target="/fork")).body == b"forked"
        counts = [one.count for one in echoing]
        for one in echoing:
            one.finish()
        assert all(count > 0 for count in counts)
        assert ask(address, request()).body == b"python"
        assert program.errors() == ""


def test_many_forks_under_load() -> None:
    """What a fork catches half-done, a lock, a batch, a message, is nobody's twice and keeps nobody waiting."""
    source = (
        APP
        + FORKING
        + """
server = start(App(), "thread")
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        server.broadcast("from the child")
        portico.interrupt()
        os._exit(0)
    say(wait_for(pid))
"""
    )
    with Program(source, options=("-W", "ignore::DeprecationWarning")) as program:
        echoing = [Echoing(program.address())]
        echoing += [Echoing(echoing[0].address) for _ in range(2)]
        for _ in range(300):
            program.tell("fork")
            assert program.line() == "forked"
        for one in echoing:
            one.finish()
        assert program.errors() == ""


def test_a_forked_child_does_not_keep_the_parents_clients() -> None:
    source = (
        APP
        + """
class Forking(App):
    def fork(self):
        pid = os.fork()
        if pid == 0:
            say("child")
            time.sleep(600)
        return "forked"

server = start(Forking(), "service")
threading.Thread(target=lambda: (input(), portico.interrupt()), daemon=True).start()
server.serve()
say("stopped")
"""
    )
    with Program(source, options=("-W", "ignore::DeprecationWarning")) as program:
        address = program.address()
        with WebSocketClient(address) as client, Client(address) as asking:
            asking.send(request(target="/fork"))
            assert program.line() == "child"
            assert asking.receive_reply().body == b"forked"
            client.close()  # waits for the end of the connection, which is the parent's alone
            program.tell("end")
            assert program.line() == "stopped"
            asking.receive_rest()
            assert is_refused(address)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    source = """
    import multiprocessing, urllib.request

    def work(number):
        # A worker may have a server of its own.
        server = portico.start_server("127.0.0.1", 0, lambda req: "worker", True, callbacks="thread")
        with urllib.request.urlopen(server.url, timeout=5) as answer:
            assert answer.read() == b"worker"
        return number * number

    if __name__ == "__main__":
        def on_ws_open(ws):
            ws.on_message(lambda binary, message: ws.send(message))
        server = start({"on_ws_open": on_ws_open}, "thread")
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(2) as pool:
            say(pool.map(work, range(4)))
        process = context.Process(target=work, args=(1,))
        process.start()
        process.join()
        say(process.exitcode, server.is_running)
        input()
    """
    options = ("-W", "ignore::DeprecationWarning")
    with Program(source, method, options=options, script=tmp_path / "script.py") as program:
        address = program.address()
        echoing = Echoing(address)
        assert program.line() == "[0, 1, 4, 9]"
        assert program.line() == "0 True"
        echoing.finish()
        program.tell("end")
        check_quiet(program.end())


# Servers that come when everything goes


LATE = {
    "in an exit handler": """
        import atexit
        portico.start_server("127.0.0.1", 0, lambda req: "x", True).stop()
        atexit.register(lambda: start(lambda req: "x", sys.argv[1]))
    """,
    "in an exit handler that comes before ours": """
        import atexit
        atexit.register(lambda: start(lambda req: "x", sys.argv[1]))
        portico.start_server("127.0.0.1", 0, lambda req: "x", True).stop()
    """,
    "in an exit handler, the first of all": """
        import atexit
        atexit.register(lambda: start(lambda req: "x", sys.argv[1]))
    """,
    "in __del__": """
        class Late:
            def __del__(self, start=start, home=sys.argv[1]):
                start(lambda req: "x", home)
        late = Late()
    """,
    "in __del__ of a module that goes late": """
        class Late:
            def __del__(self, start=start, home=sys.argv[1]):
                start(lambda req: "x", home)
        sys.late = Late()
        portico.start_server("127.0.0.1", 0, lambda req: "x", True)
    """,
}


@pytest.mark.parametrize("home", ["service", "thread"])
@pytest.mark.parametrize("where", list(LATE))
def test_a_server_that_starts_at_exit(where: str, home: str) -> None:
    """It may start or be refused, but the process ends, and without a crash."""
    with Program(LATE[where], home) as program:
        ending = program.end()
        assert ending.code == 0
        assert ending.seconds < 2  # it begins with the start of the program
        if ending.errors:
            refusals = ("no server can start while the interpreter shuts down", "can't create new thread")
            assert any(refusal in ending.errors for refusal in refusals)


def test_a_websocket_that_is_used_after_the_end() -> None:
    source = """
        import atexit
        def last():
            for server in (server_1, server_2):
                say(server.state, server.clients, server.broadcast("x"), server.is_running)
                server.stop()
        atexit.register(last)
        server_1 = start(lambda req: "x", "service")
        server_2 = start(lambda req: "x", "thread")
    """
    with Program(source) as program:
        program.address(), program.address()
        ending = program.end()
        check_quiet(ending)
        assert ending.output == ["stopped 0 0 False"] * 2


def test_an_interpreter_that_only_imports_starts_no_thread() -> None:
    with Program("say(len(os.listdir('/proc/self/task')), len(portico.list_servers()))") as program:
        ending = program.end()
        check_quiet(ending)
        assert ending.output == ["1 0"]


def test_stop_all_servers_in_a_process_with_every_home() -> None:
    source = """
        async def main():
            servers = [start(lambda req: "x", "asyncio"), start(lambda req: "x", "thread")]
            say(portico.list_servers() == servers)
            portico.stop_all_servers()
            say(portico.list_servers())
            for server in servers:
                await server.wait_closed()
                say(server.state)
        asyncio.run(main())
    """
    with Program(source) as program:
        program.address(), program.address()
        assert [program.line() for _ in range(4)] == ["True", "[]", "stopped", "stopped"]
        check_quiet(program.end())


def test_a_process_without_descriptors_says_so() -> None:
    source = """
        import logging, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
        live(lambda req: "x", "service", access_log="json")
    """
    with Program(source) as program:
        address = program.address()
        clients: list[Client] = []
        try:
            while True:
                clients.append(Client(address))
                clients[-1].send(request())
                reply = clients[-1].receive_reply()
                if reply.status != 200:
                    break
                assert len(clients) < 40
            assert (reply.status, reply["Retry-After"], reply["Connection"]) == (503, "1", "close")
            assert b"no file descriptor left" in reply.body
            logged = [json.loads(program.line()) for _ in clients]
            assert [record["status"] for record in logged] == [200] * (len(clients) - 1) + [503]
            assert (logged[-1]["request"], logged[-1]["bytes"]) == ("", len(reply.body))
            for client in clients[:-1]:  # those who are in, stay in
                client.send(request())
                assert client.receive_reply().status == 200
            for client in clients[:5]:
                client.socket.close()
            deadline = time.monotonic() + DEADLINE_S
            while reply.status != 200:
                assert time.monotonic() < deadline, "it never takes anybody again"
                with Client(address) as client:
                    client.send(request())
                    reply = client.receive_reply()
        finally:
            for client in clients:
                client.socket.close()
