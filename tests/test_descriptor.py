"""A loop that isn't ours watches `portico.fileno()` and calls `service(0)`: trio, a GUI, or as here, poll."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import portico
from portico.home import current_home
from portico.pumps.descriptor import Descriptor
from portico.testing import FakeCore, number_of

DEADLINE_S = 10


def start(app: Any, **options: Any) -> portico.Server:
    return portico.start_server("127.0.0.1", 0, app, quiet=True, **options)


def is_readable(timeout: float = 0) -> bool:
    poll = select.poll()
    poll.register(portico.fileno(), select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def watch(until: Callable[[], object]) -> int:
    """What a foreign loop does, until `until()`; how often it was woken."""
    woken = 0
    while not until():
        assert is_readable(DEADLINE_S), "nothing woke the loop"
        portico.service(0)
        woken += 1
    return woken


def test_event_wakes_the_loop_once(core: FakeCore) -> None:
    server = start(lambda req: "x")
    assert not is_readable()
    core.request(number_of(server))
    assert watch(lambda: core.said("respond")) == 1
    assert not is_readable()


def test_sleeping_coroutine_wakes_the_loop_when_its_time_has_come(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(0.05)
        return "x"

    server = start(call)
    assert not is_readable()
    core.request(number_of(server))
    assert watch(lambda: core.said("respond")) < 10
    assert not is_readable()


def test_coroutine_that_has_to_go_on_at_once_does(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return "x"

    server = start(call)
    portico.fileno()
    core.request(number_of(server))
    assert watch(lambda: core.said("respond")) < 20


def test_another_threads_result_wakes_the_loop(core: FakeCore) -> None:
    future: concurrent.futures.Future[str] = concurrent.futures.Future()
    server = start(lambda req: future)
    portico.fileno()
    core.request(number_of(server))
    watch(lambda: current_home().dispatcher._unfinished)
    portico.service(0)
    assert not is_readable()
    timer = threading.Timer(0.02, future.set_result, ["x"])
    timer.start()
    assert watch(lambda: core.said("respond")) < 10
    timer.join()


def test_bytes_that_a_coroutine_waits_for_wake_the_loop(core: FakeCore) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        async def call(req: Any) -> bytes:
            return await asyncio.get_running_loop().sock_recv(ours, 10)

        server = start(call)
        portico.fileno()
        core.request(number_of(server))
        while portico.service(0) or is_readable():  # until the coroutine waits
            pass
        theirs.send(b"x")
        assert watch(lambda: core.said("respond")) < 10


def test_coroutine_that_waited_before_anybody_watched_is_not_forgotten(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(0.02)
        return "x"

    server = start(call)
    core.request(number_of(server))
    assert portico.service(0) == 1
    watch(lambda: core.said("respond"))


def test_coroutine_of_a_batch_that_raises_is_not_forgotten(core: FakeCore) -> None:
    async def answer() -> str:
        return "x"

    def call(req: Any) -> Any:
        if req.path == "/stop":
            signal.raise_signal(signal.SIGINT)
        return answer()

    server = start(call)
    portico.fileno()
    core.request(number_of(server))
    core.request(number_of(server), "/stop")
    with pytest.raises(KeyboardInterrupt):
        portico.service(0)
    watch(lambda: any(answer[1] == 200 for answer in core.said("respond")))


def test_loop_inside_a_callback_is_refused_once_and_then_hears_nothing(core: FakeCore) -> None:
    refused: list[int] = []

    async def answer() -> str:
        await asyncio.sleep(0)
        return "x"

    def call(req: Any) -> Any:
        if req.path == "/dialog":
            while is_readable():
                with pytest.raises(RuntimeError, match="inside a callback"):
                    portico.service(0)
                refused.append(1)
            if req.query:
                raise KeyboardInterrupt
        return answer()

    server = start(call)
    portico.fileno()
    for path in ("/", "/dialog", "/", "/dialog?interrupt", "/"):
        core.request(number_of(server), path)
    with pytest.raises(KeyboardInterrupt):
        portico.service(0)
    assert refused == [1]
    watch(lambda: len(core.said("respond")) == 5)


def test_descriptor_stays_the_same_from_server_to_server(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(0.001)
        return "x"

    before = portico.fileno()
    for _ in range(3):
        server = start(call)
        core.request(number_of(server))
        watch(lambda: core.said("respond"))
        server.stop()
        core.commands.clear()
        assert portico.fileno() == before
        assert not is_readable()


def test_coroutine_that_a_running_loop_keeps_from_going_on_makes_no_noise(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(0.01)
        return "x"

    server = start(call)
    portico.fileno()
    core.request(number_of(server))
    portico.service(0)

    async def main() -> None:
        await asyncio.sleep(0.02)
        portico.service(0)
        assert not is_readable()

    asyncio.run(main())
    portico.service(0)
    watch(lambda: core.said("respond"))


def test_ended_thread_takes_its_descriptors_along(cores: list[FakeCore]) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(60)
        return "x"

    def live() -> None:
        server = start(call)
        portico.fileno()
        cores[-1].request(number_of(server))
        portico.service(0)
        server.stop()
        current_home().close()

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(3):
        thread = threading.Thread(target=live)
        thread.start()
        thread.join(DEADLINE_S)
    assert count() <= before


@pytest.mark.parametrize("has_timer", [True, False])
def test_forgotten_descriptor_is_closed(has_timer: bool) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    readable, writable = os.pipe()
    descriptor = Descriptor(readable)
    if has_timer:
        descriptor.arm(writable, 3600)
        assert not select.select([descriptor], [], [], 0)[0]
        descriptor.arm(writable, 1e-12)
        assert select.select([descriptor], [], [], DEADLINE_S)[0]
    del descriptor
    gc.collect()
    os.close(readable)
    os.close(writable)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_child_of_a_fork_leaves_the_parents_watch_alone(core: FakeCore) -> None:
    async def call(req: Any) -> str:
        await asyncio.sleep(0.02)
        return "x"

    server = start(call)
    before = portico.fileno()
    core.request(number_of(server))
    portico.service(0)
    child = os.fork()
    if child == 0:
        try:  # nothing may leave this block but the exit code
            fresh = start(lambda req: "x")
            assert not is_readable()
            fresh.stop()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert portico.fileno() == before
    watch(lambda: core.said("respond"))


def test_private_loop_asks_no_loop_policy(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise AssertionError("a policy was asked")

    for name in ("new_event_loop", "get_event_loop_policy", "_get_event_loop_policy"):
        monkeypatch.setattr(asyncio.events, name, refuse, raising=False)
    monkeypatch.setattr(asyncio, "new_event_loop", refuse)

    async def call(req: Any) -> str:
        await asyncio.sleep(0)
        return "x"

    server = start(call)
    core.request(number_of(server))
    while not core.said("respond"):
        portico.service(1)
    assert core.said("respond")[0][1] == 200
