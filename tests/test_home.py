"""Whose thread, whose turn, whose loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
import time
from typing import Any

import pytest
import uvloop

import portico
from portico import fork_and_exit
from portico.home import Home, ThreadHome, current_home
from portico.testing import FakeCore, number_of

DEADLINE_S = 10


def start(app: Any = lambda req: "x", **options: Any) -> portico.Server:
    return portico.start_server("127.0.0.1", 0, app, quiet=True, **options)


def in_thread(job: Any) -> Any:
    """Run `job` on another thread; return what it returned or raised."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(job())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE_S)
    return found[0]


# Threads


def test_every_thread_has_one_home(core: FakeCore) -> None:
    here = current_home()
    assert current_home() is here
    assert in_thread(current_home) is not here


def test_foreign_thread_is_refused_by_name(core: FakeCore) -> None:
    server = start()
    error = in_thread(lambda: server.service(0))
    assert isinstance(error, RuntimeError)
    assert threading.current_thread().name in str(error)
    assert "callbacks='thread'" in str(error)


def test_home_of_an_ended_thread_is_adopted(cores: list[FakeCore]) -> None:
    ran_on: list[Any] = []
    server = in_thread(lambda: start(lambda req: ran_on.append(threading.current_thread())))
    cores[1].request(number_of(server))
    assert portico.service(server, 0) == 1
    assert ran_on == [threading.current_thread()]
    server.stop()
    assert server.state == "stopped"


def test_home_without_servers_dies_with_its_thread(cores: list[FakeCore]) -> None:
    in_thread(current_home)
    gc.collect()
    assert list(fork_and_exit._homes) == [current_home()]


def test_thread_home_runs_callbacks_on_a_thread_of_its_own(cores: list[FakeCore]) -> None:
    ran_on: list[Any] = []
    done = threading.Event()

    def call(req: Any) -> str:
        ran_on.append((threading.current_thread().name, threading.current_thread().daemon))
        done.set()
        return "x"

    server = start(call, callbacks="thread")
    cores[1].request(number_of(server))
    assert done.wait(DEADLINE_S)
    assert ran_on == [("portico", True)]
    server.stop()
    server.wait_closed()
    home: Any = server._home
    home.thread.join(DEADLINE_S)
    assert not home.thread.is_alive()
    assert cores[1].is_shut
    assert not cores[0].is_shut


def test_failed_start_leaves_no_thread(cores: list[FakeCore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCore, "listen", lambda *_: (_ for _ in ()).throw(OSError(98, "Address already in use")))
    with pytest.raises(OSError, match="Address already in use"):
        start(callbacks="thread")
    for home in list(fork_and_exit._homes):
        if isinstance(home, ThreadHome):
            home.thread.join(DEADLINE_S)
            assert not home.thread.is_alive()
    assert portico.list_servers() == []


# Turns


def test_service_inside_a_callback_is_refused(core: FakeCore) -> None:
    errors: list[Any] = []

    def call(req: Any) -> str:
        for nested in (
            lambda: portico.service(0),
            server.serve,
            server.wait_closed,
            lambda: portico.run_server("::1", 0, call),
        ):
            with pytest.raises(RuntimeError, match="inside a callback") as caught:
                nested()
            errors.append(caught)
        return "x"

    server = start(call)
    core.request(number_of(server))
    assert portico.service(0) == 1
    assert len(errors) == 4
    assert portico.list_servers() == [server]


def test_service_inside_a_coroutine_handler_is_refused(core: FakeCore) -> None:
    caught: list[Any] = []

    async def call(req: Any) -> str:
        try:
            portico.service(0)
        except RuntimeError as error:
            caught.append(str(error))
        return "x"

    server = start(call)
    core.request(number_of(server))
    while not core.said("respond"):
        portico.service(1)
    assert "inside a callback" in caught[0]


def test_service_waits_no_longer_than_told(core: FakeCore) -> None:
    start()
    began = time.monotonic()
    assert portico.service(0) == 0
    assert portico.service(0.02) == 0
    assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize(
    ("timeout", "error", "told"),
    [
        ("1", TypeError, "number of seconds or None, not str"),
        (True, TypeError, "number of seconds or None, not bool"),
        (-1, ValueError, "at least 0, or None; got -1"),
        (float("nan"), ValueError, "got nan"),
    ],
)
def test_service_says_what_a_time_out_is(core: FakeCore, timeout: Any, error: type[Exception], told: str) -> None:
    server = start()
    for service in (lambda: portico.service(None, timeout), lambda: server.service(timeout)):
        with pytest.raises(error, match=told):
            service()


def test_service_outlasts_a_wake_with_nothing_to_do(core: FakeCore) -> None:
    server = start()
    core.wake()
    timer = threading.Timer(0.02, core.request, [number_of(server)])
    timer.start()
    assert portico.service(None) == 1
    timer.join()


def test_at_most_256_callbacks_run_at_once(core: FakeCore) -> None:
    server = start()
    for _ in range(300):
        core.request(number_of(server))
    assert [portico.service(0), portico.service(0), portico.service(0)] == [256, 44, 0]


def test_service_counts_what_ran_when_a_batch_ends_early(core: FakeCore) -> None:
    server = start()
    for _ in range(5):
        core.request(number_of(server))
    core.budget = 3
    assert [portico.service(0), portico.service(0), portico.service(0)] == [3, 2, 0]


@pytest.mark.parametrize("where", ["callback", "thread"])
def test_interrupt_ends_serve(core: FakeCore, where: str) -> None:
    def call(req: Any) -> str:
        if where == "callback":
            portico.interrupt()
        else:
            threading.Thread(target=portico.interrupt).start()
        return "x"

    server = start(call)
    core.request(number_of(server))
    server.serve()
    assert server.state == "stopped"


def test_interrupt_ends_serve_on_another_thread_than_the_homes(cores: list[FakeCore]) -> None:
    def call(req: Any) -> str:
        portico.interrupt()
        return "x"

    server = start(call, callbacks="thread")
    cores[1].request(number_of(server))
    server.serve()
    server.wait_closed()
    assert server.state == "stopped"


def test_interrupt_of_nobody_changes_nothing(core: FakeCore) -> None:
    server = start()
    portico.interrupt()
    core.request(number_of(server))
    assert portico.service(None) == 1


def test_ctrl_c_leaves_service_and_ends_serve(core: FakeCore) -> None:
    def call(req: Any) -> str:
        signal.raise_signal(signal.SIGINT)
        return "x"

    server = start(call)
    core.request(number_of(server))
    with pytest.raises(KeyboardInterrupt):
        portico.service(0)
    assert server.is_running
    core.request(number_of(server))
    server.serve()
    assert server.state == "stopped"


def test_system_exit_leaves_serve_with_the_server_stopped(core: FakeCore) -> None:
    def call(req: Any) -> str:
        raise SystemExit(3)

    server = start(call)
    core.request(number_of(server))
    with pytest.raises(SystemExit):
        server.serve()
    assert server.state == "stopped"


# The private loop


def test_coroutines_and_callbacks_take_turns_without_a_running_loop(core: FakeCore) -> None:
    log: list[Any] = []

    async def wait() -> str:
        await released.wait()
        return "async"

    def call(req: Any) -> Any:
        if req.path == "/async":
            return wait()
        asyncio.run(asyncio.sleep(0))  # plain callbacks run outside the private loop
        log.append(req.path)
        current_home()._private.loop.call_soon(released.set)  # type: ignore[union-attr]
        return "sync"

    released = asyncio.Event()
    server = start(call)
    core.request(number_of(server), "/async")
    assert portico.service(0) == 1
    core.request(number_of(server), "/sync")
    while len(core.said("respond")) < 2:
        assert portico.service(DEADLINE_S) >= 1
    assert [answer[4] for answer in core.said("respond")] == ["sync", "async"]
    server.stop()
    assert current_home()._private.loop is None


def test_event_ends_the_wait_for_a_coroutine(core: FakeCore) -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    server = start(lambda req: forever() if req.path == "/wait" else "x")
    core.request(number_of(server), "/wait")
    portico.service(0)
    timer = threading.Timer(0.02, core.request, [number_of(server)])
    timer.start()
    assert portico.service(DEADLINE_S) == 1
    timer.join()
    assert portico.service(0.01) == 0


def test_interrupt_ends_the_wait_for_a_coroutine(core: FakeCore) -> None:
    async def forever(req: Any) -> None:
        await asyncio.Event().wait()

    server = start(forever)
    core.request(number_of(server))
    portico.service(0)
    timer = threading.Timer(0.02, portico.interrupt)
    timer.start()
    server.serve()
    timer.join()
    assert server.state == "stopped"


def test_ctrl_c_in_a_coroutine_leaves_service(core: FakeCore) -> None:
    async def call(req: Any) -> None:
        raise KeyboardInterrupt

    server = start(call)
    number = core.request(number_of(server))
    portico.service(0)
    with pytest.raises(KeyboardInterrupt):
        portico.service(1)
    while not core.said("respond"):
        portico.service(1)
    assert core.said("respond")[0][:2] == (number, 500)


# asyncio


def test_running_loop_serves_and_a_second_one_picks_up(core: FakeCore) -> None:
    loops: list[Any] = []

    async def call(req: Any) -> str:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        return "x"

    async def main(server: Any) -> Any:
        server = server or start(call)
        _ = server.port  # any touch will do
        core.request(number_of(server))
        while not core.said("respond"):
            await asyncio.sleep(0.001)
        core.commands.clear()
        assert loops[-1] is asyncio.get_running_loop()
        return server

    server = asyncio.run(main(None))
    core.request(number_of(server))
    while not core.said("respond"):  # no loop: service() does it
        portico.service(1)
    core.commands.clear()
    asyncio.run(main(server))
    assert len({id(loop) for loop in loops}) == 3


@pytest.mark.parametrize(
    "touch",
    [
        lambda server: server.is_running,
        lambda server: server.clients,
        lambda server: server.url,
        lambda server: repr(server),
        lambda server: portico.list_servers(),
        lambda server: portico.service(0),
        lambda server: portico.fileno(),
        lambda server: server.broadcast("x"),
        lambda server: start(),
    ],
)
def test_any_touch_in_a_running_loop_attaches(core: FakeCore, touch: Any) -> None:
    server = start()

    async def main() -> None:
        touch(server)
        core.request(number_of(server))
        while not core.said("respond"):
            await asyncio.sleep(0.001)

    asyncio.run(main())


def test_callbacks_in_a_loop_never_nest(core: FakeCore) -> None:
    def call(req: Any) -> str:
        with pytest.raises(RuntimeError, match="inside a callback"):
            portico.service(0)
        return "x"

    async def main() -> None:
        async with start(call) as server:
            core.request(number_of(server))
            while not core.said("respond"):
                await asyncio.sleep(0.001)
            assert core.said("respond")[0][1] == 200
            with pytest.raises(RuntimeError, match=r"await server\.wait_closed"):
                server.serve()

    asyncio.run(main())


def test_loop_that_ends_answers_what_it_cancels(core: FakeCore) -> None:
    async def call(req: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        core.request(number_of(start(call)))
        while not current_home().dispatcher._unfinished:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert core.said("respond")[0][1] == 503


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_callbacks_in_a_loop_run_in_the_context_of_the_latest_start(core: FakeCore, run: Any) -> None:
    cell: contextvars.ContextVar[str] = contextvars.ContextVar("cell", default="none")
    found: list[str] = []

    async def execute(number: str) -> portico.Server:
        cell.set(number)
        return start(lambda req: found.append(cell.get()))

    async def main() -> None:
        first = await asyncio.create_task(execute("first"))
        core.request(number_of(first))
        await wait_for(lambda: len(found) == 1)
        await asyncio.create_task(execute("second"))
        core.request(number_of(first))
        await wait_for(lambda: len(found) == 2)

    async def wait_for(condition: Any) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    run(main())
    assert found == ["first", "second"]


@pytest.mark.filterwarnings("ignore:coroutine method 'aclose':RuntimeWarning")
@pytest.mark.parametrize("next_turn", ["service", "loop"])
@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_loop_that_is_closed_under_its_handlers_is_survived(core: FakeCore, new_loop: Any, next_turn: str) -> None:
    """As old programs do it: `run_until_complete`, `close`, and nothing was cancelled."""
    waiting: list[Any] = []

    async def wait() -> None:
        waiting.append(asyncio.current_task())
        await asyncio.get_running_loop().create_future()

    async def pieces() -> Any:
        yield "piece"
        await wait()

    def on_ws_open(ws: Any) -> None:
        ws.on_message(lambda binary, message: wait())

    async def main() -> tuple[portico.Server, list[int]]:
        server = start({"call": lambda req: pieces() if req.path == "/stream" else wait(), "on_ws_open": on_ws_open})
        numbers = [core.request(number_of(server), path) for path in ("/", "/left", "/stream")]
        core.message(core.open(number_of(server)), "message")
        while len(waiting) < 4:
            await asyncio.sleep(0.001)
        return server, numbers

    loop = new_loop()
    server, (answered, left, streamed) = loop.run_until_complete(main())
    loop.close()
    core.gone(left)
    core.request(number_of(server), "/after")
    core.commands.clear()
    if next_turn == "service":
        while len(waiting) < 5:
            portico.service(1)
    else:

        async def touch() -> None:
            assert server.is_running
            while len(waiting) < 5:
                await asyncio.sleep(0.001)

        asyncio.run(touch())
    assert {answer[:2] for answer in core.said("respond")} >= {(answered, 503)}
    assert core.said("abort") == [(streamed,)]
    assert not any(core.held.values())
    # What can never go on is destroyed here and now, with the noise that asyncio makes of it.
    while waiting:
        waiting.pop()._log_destroy_pending = False
    gc.collect()


def test_conflicting_pumps_are_refused(core: FakeCore) -> None:
    with pytest.raises(RuntimeError, match="needs an asyncio loop"):
        start(callbacks="loop")
    with pytest.raises(ValueError, match="must be one of"):
        start(callbacks="idle")

    async def main() -> None:
        server = start(callbacks="loop")
        with pytest.raises(ValueError, match="already use 'loop'"):
            start(callbacks="service")
        server.stop()
        await server.wait_closed()
        other = start(callbacks="service")
        with pytest.raises(ValueError, match="already use 'service'"):
            start(callbacks="loop")
        core.request(number_of(other))
        await asyncio.sleep(0.01)
        assert core.said("respond") == []
        assert portico.service(0) == 1

    asyncio.run(main())


def test_deferred_close_is_not_lost_with_the_loop(core: FakeCore) -> None:
    ended: list[Any] = []

    def on_open(ws: Any) -> None:
        async def hear(binary: bool, message: Any) -> None:
            await asyncio.Event().wait()

        ws.on_message(hear)
        ws.on_close(lambda: ended.append(ws.close_code))

    async def main() -> None:
        async with start({"on_ws_open": on_open}) as server:
            core.message(core.open(number_of(server)), "x")
            while not current_home().dispatcher._unfinished:
                await asyncio.sleep(0.001)

    asyncio.run(main())
    assert ended == [1001]


# The process


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_of_a_fork_has_no_servers(core: FakeCore) -> None:
    server = start()
    child = os.fork()
    if child == 0:
        # Nothing may leave this block but the exit code.
        try:
            assert portico.list_servers() == []
            assert server.state == "stopped"
            assert server.clients == server.broadcast("x") == 0
            server.stop()
            server.wait_closed()
            with pytest.raises(RuntimeError, match="in a fork"):
                server.service(0)
            fresh = start()
            assert portico.list_servers() == [fresh]
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert core.said("before_fork") == core.said("after_fork_in_parent") == [()]
    assert server.is_running
    core.request(number_of(server))
    assert portico.service(0) == 1


def test_exit_waits_for_nobody_longer_than_a_second(cores: list[FakeCore]) -> None:
    entered, release = threading.Event(), threading.Event()

    def call(req: Any) -> str:
        entered.set()
        release.wait()
        return "x"

    stuck, idle = start(call, callbacks="thread"), start(callbacks="thread")
    cores[1].request(number_of(stuck))
    assert entered.wait(DEADLINE_S)
    began = time.monotonic()
    fork_and_exit._at_exit()
    took = time.monotonic() - began
    release.set()
    assert 0.9 < took < 2
    assert all(core.is_shut for core in cores)
    assert [stuck.state, idle.state] == ["stopped", "stopped"]


def test_daemon_threads_end_quietly_when_the_process_exits(cores: list[FakeCore]) -> None:
    came_out: list[BaseException] = []

    def live() -> None:
        server = start()
        try:
            while True:
                server.service()
        except BaseException as error:
            came_out.append(error)
        for more in (lambda: server.service(0), server.wait_closed, lambda: portico.service(server)):
            try:
                more()
            except BaseException as error:
                came_out.append(error)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    while len(portico.list_servers()) < 1:
        time.sleep(0.001)
    fork_and_exit._at_exit()
    thread.join(DEADLINE_S)
    assert [type(error) for error in came_out[:1]] == [SystemExit]
    assert {type(error) for error in came_out[1:]} <= {SystemExit}


def test_closed_home_is_replaced(core: FakeCore) -> None:
    old = current_home()
    old.close()
    old.close()
    assert isinstance(current_home(), Home)
    assert current_home() is not old
    with pytest.raises(RuntimeError, match=r"service\(\): this home has ended"):
        old.service(0)
