"""What a callback raises that is no Exception and does not end the program: a bug as any other, told and answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from conversation import ERROR_500, SITE, run
from portico.answer import PushAnswer
from portico.home import Home
from portico.testing import FakeCore


class Panic(BaseException):
    """What extensions written in Rust raise when they panic."""


# A coroutine that raises the third is cancelled, which is something else.
BUGS = [(Panic, "plain"), (Panic, "coroutine"), (GeneratorExit, "coroutine"), (asyncio.CancelledError, "plain")]


def raising(error: type[BaseException], kind: str) -> Any:
    """A callback, or one whose coroutine raises once it has been under way."""

    def plain(*_: Any) -> Any:
        raise error("secret")

    async def coroutine(*_: Any) -> Any:
        await asyncio.sleep(0)
        raise error("secret")

    return plain if kind == "plain" else coroutine


def pushed(on_request: Any) -> Any:
    return lambda request: PushAnswer(on_request, None, request)


@pytest.mark.parametrize(("error", "kind"), BUGS)
@pytest.mark.parametrize("where", ["on_head", "on_request", "pushed"])
def test_request_is_answered_and_the_bug_told(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture, where: str, kind: str, error: Any
) -> None:
    call = raising(error, kind)
    serve(
        **{"on_request": pushed(call) if where == "pushed" else call, **({where: call} if where == "on_head" else {})}
    )
    number = core.head(SITE) if where == "on_head" else core.request(SITE)
    run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(number, *ERROR_500)]
    [record] = caplog.records
    name = "on_head" if where == "on_head" else "on_request"
    assert record.getMessage() == f"{name} raised; route /, connection {number}"
    assert record.exc_info is not None and record.exc_info[0] is error


@pytest.mark.parametrize(("error", "kind"), BUGS)
@pytest.mark.parametrize("where", ["on_open", "on_message", "on_drain", "on_close"])
def test_websocket_is_closed_and_the_bug_told(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture, where: str, kind: str, error: Any
) -> None:
    call = raising(error, kind)
    serve(on_open=(lambda ws: ws.on_drain(call) and None) if where == "on_drain" else None, on_message=print)
    if where != "on_drain":
        serve(**{"on_message": print, where: call})
    number = core.open(SITE)
    if where == "on_message":
        core.message(number, "x")
    elif where == "on_close":
        core.closed(number, 1000, "")
    elif where == "on_drain":
        core.drained(number)
    run(home, lambda: caplog.records != [])
    assert [record.getMessage() for record in caplog.records] == [f"{where} raised; route /, connection {number}"]
    assert core.said("close") == ([] if (where, kind) == ("on_close", "plain") else [(number, 1011, "")])


@pytest.mark.parametrize("when", ["first", "later", "close"])
def test_stream_is_cut_and_the_bug_told(
    home: Home, core: FakeCore, serve: Any, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    def pieces() -> Any:
        try:
            if when == "first":
                raise Panic
            yield "a"
            if when == "later":
                raise Panic
        finally:
            if when == "close":
                raise Panic

    serve(on_request=lambda request: pieces())
    number = core.request(SITE)
    run(home, lambda: caplog.records != [])
    assert core.said("abort") == ([] if when == "first" else [(number,)])
    assert core.said("respond") == ([(number, *ERROR_500)] if when == "first" else [])
    assert [record.getMessage() for record in caplog.records] == [f"on_request raised; route /, connection {number}"]
