"""Requests and what becomes of them: conversations with a fake core."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest

from conversation import ERROR_500, SITE, TEXT, Boom, run
from portico import Response
from portico.home import Home
from portico.testing import FakeCore


def test_request_is_answered(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_request=lambda req: f"{req.method} {req.path} from {req.server}")
    number = core.request(SITE, "/a")
    assert run(home) == 1
    assert core.said("respond") == [(number, 200, None, TEXT, "GET /a from ('127.0.0.1', 80)", False)]


def test_exception_is_logged_once_and_answered_without_its_text(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def call(req: Any) -> None:
        raise Boom("secret")

    serve(on_request=call)
    number = core.request(SITE)
    second = core.request(SITE)
    assert run(home) == 2
    assert core.said("respond") == [(number, *ERROR_500), (second, *ERROR_500)]
    assert [record.getMessage() for record in caplog.records] == [
        f"on_request raised; route /, connection {number}",
        f"on_request raised; route /, connection {second}",
    ]
    assert caplog.records[0].name == "portico"
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("answer", [7, {"status": 200.0}, Response(200, {"X": 1}), {"a"}])
def test_bad_answer_is_an_exception(home: Home, core: FakeCore, serve: Any, answer: Any) -> None:
    serve(on_request=lambda req: answer)
    number = core.request(SITE)
    run(home)
    assert core.said("respond") == [(number, *ERROR_500)]


def test_head_goes_on_or_is_answered(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_head=lambda req: None if req.path == "/ok" else Response(413), on_request=lambda req: "x")
    good, bad = core.head(SITE, "/ok"), core.head(SITE, "/big")
    run(home)
    assert core.commands == [("proceed", good), ("respond", bad, 413, None, [], b"", False)]


def test_exception_in_head_is_answered_and_does_not_go_on(home: Home, core: FakeCore, serve: Any) -> None:
    def guard(req: Any) -> None:
        raise Boom

    serve(on_head=guard, on_request=lambda req: "x")
    number = core.head(SITE)
    run(home)
    assert core.commands == [("respond", number, *ERROR_500)]


@pytest.mark.parametrize("kind", ["coroutine", "future", "awaitable", "thread"])
def test_unfinished_answers_are_awaited(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return asyncio.sleep(0, "later").__await__()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        make: dict[str, Callable[[], Any]] = {
            "coroutine": lambda: asyncio.sleep(0, "later"),
            "awaitable": Awaitable,
            "thread": lambda: pool.submit(lambda: "later"),
        }

        async def call(req: Any) -> Any:
            future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "later")
            return future

        serve(on_request=call if kind == "future" else lambda req: make[kind]())
        number = core.request(SITE)
        assert run(home) == 1
        run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(number, 200, None, TEXT, "later", False)]


def test_coroutine_head_goes_on_when_it_has_finished(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_head=lambda req: asyncio.sleep(0), on_request=lambda req: "x")
    number = core.head(SITE)
    run(home, lambda: core.said("proceed") == [(number,)])


def test_exception_in_a_coroutine(home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def call(req: Any) -> None:
        await asyncio.sleep(0)
        raise Boom("secret")

    serve(on_request=call)
    number = core.request(SITE)
    run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(number, *ERROR_500)]
    assert [record.getMessage() for record in caplog.records] == [f"on_request raised; route /, connection {number}"]


def test_client_that_leaves_cancels_its_coroutine(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ended = []

    async def call(req: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(req.path)

    serve(on_request=call)
    number, other = core.request(SITE, "/left"), core.request(SITE, "/stays")
    run(home)
    core.gone(number)
    run(home, lambda: ended == ["/left"])
    assert home.dispatcher._http._answering.keys() == {other}
    assert caplog.records == []


def test_gone_without_a_coroutine_is_nothing(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_request=lambda req: "x")
    core.gone(core.request(SITE))
    assert run(home) == 2
