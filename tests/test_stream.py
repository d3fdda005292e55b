"""Answers that are sent piece by piece: conversations with a fake core."""

from __future__ import annotations

import array
import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import portico
from conversation import ERROR_500, ERROR_503, SITE, TEXT, Boom, run
from portico import Response
from portico.home import Home
from portico.testing import FakeCore, number_of

KINDS = ["sync", "async", "coroutine", "async coroutine"]


class Source:
    """An iterator of both kinds that writes down what happens to it. Exceptions among its pieces are raised."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)
        self.taken = 0
        self.closed = 0

    def advance(self, end: type[Exception]) -> Any:
        if self.taken == len(self.pieces):
            raise end
        piece = self.pieces[self.taken]
        self.taken += 1
        if isinstance(piece, BaseException):
            raise piece
        return piece


class SyncSource(Source):
    def __iter__(self) -> SyncSource:
        return self

    def __next__(self) -> Any:
        return self.advance(StopIteration)

    def close(self) -> None:
        self.closed += 1


class AsyncSource(Source):
    def __aiter__(self) -> AsyncSource:
        return self

    async def __anext__(self) -> Any:
        return self.advance(StopAsyncIteration)

    async def aclose(self) -> None:
        self.closed += 1


def answering(kind: str, *pieces: Any, **response: Any) -> tuple[Source, Callable[[Any], Any]]:
    """A source, and a callback that answers with it: plainly, or as what a coroutine returns."""
    source: Source = AsyncSource(*pieces) if kind.startswith("async") else SyncSource(*pieces)
    answer = Response(body=source, **response) if response else source

    async def call_later(req: Any) -> Any:
        await asyncio.sleep(0)
        return answer

    return source, call_later if kind.endswith("coroutine") else lambda req: answer


def slowed(home: Home, core: FakeCore, serve: Any, kind: str) -> tuple[Source, int]:
    """The source and the number of a request whose client is slow to take the first of three pieces."""
    source, call = answering(kind, *"abc")
    serve(on_request=call)
    number = core.request(SITE)
    core.full.add(number)
    run(home, lambda: core.said("resume") == [(number,)])
    return source, number


def over(home: Home, source: Source) -> Callable[[], bool]:
    return lambda: source.closed == 1 and not home.dispatcher._http.streams and not home.dispatcher._unfinished


# What is sent


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_sent_one_by_one(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    pieces = ["text", "", b"bytes", bytearray(b"array"), memoryview(b"view"), "Grüße"]
    source, call = answering(kind, *pieces, status=201, reason="Well", headers={"A": "1"})
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands == [
        ("begin", number, 201, "Well", [("A", "1")], None),
        *[("write", number, piece) for piece in pieces],
        ("finish", number, []),
    ]
    assert core.bodies[number] == "textbytesarrayviewGrüße".encode()


def generate(*pieces: Any) -> Iterator[Any]:
    yield from pieces


async def generate_async(*pieces: Any) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class Plain:
    """Neither an iterator nor a sequence."""

    def __iter__(self) -> Iterator[str]:
        return iter("ab")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ["a", b"b"],
        lambda: ("a", b"b"),
        lambda: iter("ab"),
        lambda: map(str.lower, "AB"),
        lambda: generate("a", "b"),
        lambda: generate_async("a", "b"),
        lambda: {"body": generate("a", "b")},
        lambda: Response(body=generate_async("a", "b")),
        lambda: io.BytesIO(b"ab"),
        lambda: io.StringIO("ab"),
        Plain,
    ],
)
def test_what_may_be_a_body_of_pieces(home: Home, core: FakeCore, serve: Any, make: Any) -> None:
    serve(on_request=lambda req: make())
    number = core.request(SITE)
    run(home, lambda: core.said("finish") == [(number, [])])
    assert core.said("begin") == [(number, 200, None, [], None)]
    assert core.bodies[number] == b"ab"


def test_open_file_is_read_in_parts_and_closed(home: Home, core: FakeCore, serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"x" * 150_000)
    file = path.open("rb")
    serve(on_request=lambda req: file)
    core.request(SITE)
    run(home, lambda: core.said("finish") != [])
    assert [len(data) for _, data in core.said("write")] == [65536, 65536, 18928]
    assert file.closed


@pytest.mark.parametrize("kind", KINDS)
def test_stream_without_pieces_has_an_empty_body(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, call = answering(kind)
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands == [("begin", number, 200, None, [], None), ("finish", number, [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answer_without_a_body_takes_no_second_piece(
    home: Home, core: FakeCore, serve: Any, kind: str, method: str, status: int
) -> None:
    source, call = answering(kind, "a", "b", status=status)
    serve(on_request=call)
    number = core.request(SITE, method=method)
    run(home, over(home, source))
    assert core.commands == [("begin", number, status, None, [], None)]
    assert source.taken == 1


def test_head_may_be_answered_with_a_stream(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_head=lambda req: generate("no"), on_request=lambda req: "x")
    number = core.head(SITE)
    run(home)
    assert core.commands[0][0] == "begin" and core.bodies[number] == b"no"
    assert core.said("proceed") == []


def test_generator_functions_are_callbacks(home: Home, core: FakeCore, serve: Any) -> None:
    def call(req: Any) -> Iterator[str]:
        yield req.path
        yield "!"

    serve(on_request=call)
    number = core.request(SITE, "/a")
    run(home)
    assert core.bodies[number] == b"/a!"


# At whose pace


@pytest.mark.parametrize("kind", KINDS)
def test_slow_client_is_waited_for(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, number = slowed(home, core, serve, kind)
    for _ in range(3):
        run(home)
    assert (source.taken, source.closed) == (1, 0)
    core.drained(number)
    run(home, lambda: len(core.said("resume")) == 2)
    assert source.taken == 2
    core.full.discard(number)
    core.drained(number)
    run(home, over(home, source))
    assert core.bodies[number] == b"abc"
    assert core.commands[-1] == ("finish", number, [])


@pytest.mark.parametrize("kind", KINDS)
def test_stream_that_never_ends_lets_others_run(
    home: Home, core: FakeCore, serve: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.stream.BUDGET_S", 0.001)
    source, call = answering(kind, *["x"] * 1_000_000)
    serve(on_request=lambda req: call(req) if req.path == "/stream" else "plain")
    stream = core.request(SITE, "/stream")
    run(home, lambda: source.taken > 0)
    other = core.request(SITE)
    run(home, lambda: core.said("respond") != [])
    assert core.said("respond") == [(other, 200, None, TEXT, "plain", False)]
    assert 0 < source.taken < 1_000_000
    core.gone(stream)
    run(home, over(home, source))


@pytest.mark.parametrize("kind", KINDS)
def test_fast_client_is_not_asked(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, call = answering(kind, *"abc")
    serve(on_request=call)
    core.request(SITE)
    run(home, over(home, source))
    assert core.said("resume") == []


# What goes wrong


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [Boom("secret"), 7, None, ["a"]])
def test_failure_before_the_first_piece_is_a_500(
    home: Home, core: FakeCore, serve: Any, kind: str, piece: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, piece)
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands == [("respond", number, *ERROR_500)]
    [record] = caplog.records
    assert record.getMessage() == f"on_request raised; route /, connection {number}"
    assert record.exc_info and isinstance(record.exc_info[1], Boom if isinstance(piece, Boom) else TypeError)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [Boom("secret"), 7, None])
def test_failure_half_way_cuts_the_connection(
    home: Home, core: FakeCore, serve: Any, kind: str, piece: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, "a", piece, "never")
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands == [("begin", number, 200, None, [], None), ("write", number, "a"), ("abort", number)]
    assert [record.getMessage() for record in caplog.records] == [f"on_request raised; route /, connection {number}"]
    assert source.taken == 2


@pytest.mark.parametrize("kind", KINDS)
def test_head_that_cannot_be_sent_is_a_500(
    home: Home, core: FakeCore, serve: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(*_: Any) -> int:
        raise ValueError("a header nobody can send")

    monkeypatch.setattr(core, "begin", begin)
    source, call = answering(kind, "a")
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands == [("respond", number, *ERROR_500)]


def test_iterable_that_gives_no_iterator_is_a_500(home: Home, core: FakeCore, serve: Any) -> None:
    class Broken:
        def __iter__(self) -> Any:
            raise Boom

    serve(on_request=lambda req: Broken())
    number = core.request(SITE)
    run(home)
    assert core.commands == [("respond", number, *ERROR_500)]
    assert not home.dispatcher._http.streams


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_cut_the_connection_and_pass_through(
    home: Home, core: FakeCore, serve: Any, kind: str, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, "a", error())
    serve(on_request=call)
    number = core.request(SITE)
    with pytest.raises(error):
        run(home, lambda: False)
    assert core.said("abort") == [(number,)]
    run(home, over(home, source))
    assert caplog.records == []
    other = core.request(SITE)
    serve(on_request=lambda req: "x")
    run(home, lambda: core.said("respond")[-1:] == [(other, 200, None, TEXT, "x", False)])


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_before_the_first_piece_is_a_500(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, call = answering(kind, KeyboardInterrupt())
    serve(on_request=call)
    number = core.request(SITE)
    with pytest.raises(KeyboardInterrupt):
        run(home, lambda: False)
    run(home, over(home, source))
    assert core.commands == [("respond", number, *ERROR_500)]


@pytest.mark.parametrize("kind", KINDS)
def test_failing_close_is_reported_and_no_more(
    home: Home, core: FakeCore, serve: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, "a")
    source.closed = -1

    def fail() -> None:
        source.closed = 1
        raise Boom

    async def fail_async() -> None:
        fail()

    source.__dict__.update(close=fail, aclose=fail_async)
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.said("finish") == [(number, [])] and core.said("abort") == []
    assert [record.getMessage() for record in caplog.records] == [f"on_request raised; route /, connection {number}"]


def test_generator_ends_in_its_finally(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[str] = []

    def count() -> Iterator[str]:
        try:
            while True:
                yield "x"
        finally:
            log.append("closed")

    serve(on_request=lambda req: count())
    number = core.request(SITE)
    core.full.add(number)
    run(home)
    assert log == []
    core.gone(number)
    run(home)
    assert log == ["closed"]


def test_what_was_iterated_is_closed_too(home: Home, core: FakeCore, serve: Any) -> None:
    class Rows:  # as in WSGI
        closed = 0

        def __iter__(self) -> Iterator[str]:
            return iter("ab")

        def close(self) -> None:
            self.closed += 1

    rows = Rows()
    serve(on_request=lambda req: rows)
    core.request(SITE)
    run(home)
    assert rows.closed == 1


# Who leaves


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_leaves_ends_the_iterator(
    home: Home, core: FakeCore, serve: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, number = slowed(home, core, serve, kind)
    core.gone(number)
    run(home, over(home, source))
    assert source.taken == 1
    assert core.said("finish") == []
    assert caplog.records == []
    core.drained(number)  # it was on its way
    run(home)
    assert source.taken == 1


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_is_found_gone_ends_the_iterator(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, number = slowed(home, core, serve, kind)
    del core.streaming[number]
    core.drained(number)
    run(home, over(home, source))
    assert source.taken == 2
    assert core.said("finish") == core.said("abort") == []


def test_iterator_that_does_not_let_itself_be_cancelled_sends_no_more(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[str] = []

    async def stubborn() -> AsyncIterator[str]:
        yield "first"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
        yield "second"
        log.append("never")

    serve(on_request=lambda req: stubborn())
    number = core.request(SITE)
    run(home, lambda: core.bodies.get(number) == b"first")
    core.gone(number)
    run(home, lambda: not home.dispatcher._unfinished)
    assert log == ["cancelled"]
    assert core.bodies[number] == b"first"


@pytest.mark.parametrize("kind", KINDS)
def test_request_that_is_gone_already_gets_nothing(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, call = answering(kind, *"abc")
    serve(on_request=call)
    number = core.request(SITE)
    core.unanswered.discard(number)
    run(home, over(home, source))
    assert source.taken == 1
    assert [name for name, *_ in core.commands] == ["begin"]


def test_client_that_leaves_before_the_first_piece(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[str] = []

    async def wait() -> AsyncIterator[str]:
        try:
            log.append("waits")
            await asyncio.Event().wait()
            yield "never"
        finally:
            log.append("closed")

    serve(on_request=lambda req: wait())
    number = core.request(SITE)
    run(home, lambda: log == ["waits"])
    core.gone(number)
    run(home, lambda: not home.dispatcher._unfinished)
    assert log == ["waits", "closed"]
    assert core.commands == [("respond", number, *ERROR_503)]  # only half of it may have left
    assert not home.dispatcher._http.streams


@pytest.mark.parametrize("kind", ["coroutine", "async"])
def test_stream_that_never_started_is_closed(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, call = answering(kind, "a")
    serve(on_request=call)
    number = core.request(SITE)
    if kind == "async":
        core.gone(number)
    else:
        soon = home.dispatcher._unfinished.soon

        def leave_first(job: Any) -> None:
            home.dispatcher._http.gone(number, None)
            soon(job)

        home.dispatcher._unfinished.soon = leave_first  # type: ignore[method-assign]
    run(home, over(home, source))
    assert source.taken == 0
    assert core.commands == [("respond", number, *ERROR_503)]


def test_generator_that_survives_its_cancellation_is_not_asked_again(home: Home, core: FakeCore, serve: Any) -> None:
    log: list[str] = []

    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "a"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                log.append("cancelled")
            yield "b"
            log.append("asked again")
        finally:
            log.append("closed")

    serve(on_request=lambda req: stubborn())
    number = core.request(SITE)
    run(home, lambda: core.said("write") != [])
    core.gone(number)
    run(home, lambda: not home.dispatcher._unfinished)
    assert log == ["cancelled", "closed"]
    assert [name for name, *_ in core.commands] == ["begin", "write", "abort"]


@pytest.mark.parametrize("kind", KINDS)
def test_half_closed_connection_is_ended(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, number = slowed(home, core, serve, kind)
    core.gone(number)
    run(home, over(home, source))
    assert core.said("abort") == [(number,)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_streams_end_with_their_thread(home: Home, core: FakeCore, serve: Any, kind: str) -> None:
    source, _ = slowed(home, core, serve, kind)
    home.close()
    home.dispatcher.close()
    assert source.closed == 1


def test_loop_that_ends_cuts_what_is_under_way(cores: list[FakeCore]) -> None:
    log: list[str] = []

    async def tick() -> AsyncIterator[str]:
        try:
            yield "tick"
            await asyncio.Event().wait()
        finally:
            log.append("closed")

    async def main() -> FakeCore:
        server = portico.start_server("127.0.0.1", 0, lambda req: tick(), quiet=True)
        core = cores[0]
        core.request(number_of(server))
        while not core.said("write"):
            await asyncio.sleep(0.001)
        return core

    core = asyncio.run(main())
    assert log == ["closed"]
    assert [name for name, *_ in core.commands] == ["begin", "write", "abort"]


# One after the other


@pytest.mark.parametrize("kind", KINDS)
def test_next_request_of_a_connection_has_a_stream_of_its_own(
    home: Home, core: FakeCore, serve: Any, kind: str
) -> None:
    sources = []

    def call(req: Any) -> Any:
        source, answer = answering(kind, req.path)
        sources.append(source)
        return answer(req)

    serve(on_request=call)
    number = core.request(SITE, "/1")
    core.full.add(number)
    run(home, lambda: len(core.said("resume")) == 1)
    core.drained(number)
    run(home, lambda: len(core.said("finish")) == 1)
    core.request_again(number, SITE, "/2")
    run(home, lambda: len(core.said("resume")) == 2)
    core.drained(number)
    run(home, over(home, sources[1]))
    assert [path for _, path in core.said("write")] == ["/1", "/2"]
    assert sources[0].closed == 1


def test_closing_of_one_stream_does_not_touch_the_next(home: Home, core: FakeCore, serve: Any) -> None:
    gates: list[asyncio.Event] = []
    log: list[str] = []

    class Lingering(AsyncSource):
        async def aclose(self) -> None:
            gates.append(asyncio.Event())
            await gates[-1].wait()
            log.append("closed")

    second = SyncSource(*"bc")
    serve(on_request=lambda req: Lingering("a") if req.path == "/1" else second)
    number = core.request(SITE, "/1")
    run(home, lambda: len(gates) == 1)
    core.full.add(core.request_again(number, SITE, "/2"))
    run(home, lambda: second.taken == 1)
    home._private.loop.call_soon(gates[0].set)  # type: ignore[union-attr]
    run(home, lambda: log == ["closed"])
    run(home, lambda: not home.dispatcher._unfinished)
    assert second.closed == 0 and core.said("abort") == []
    core.full.discard(number)
    core.drained(number)
    run(home, over(home, second))
    assert core.bodies[number] == b"bc"


def test_leaving_does_not_cancel_what_still_closes(home: Home, core: FakeCore, serve: Any) -> None:
    gates: list[asyncio.Event] = []
    log: list[str] = []

    async def page() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            gates.append(asyncio.Event())
            await gates[-1].wait()
            log.append("closed")

    second = SyncSource(*"bc")
    serve(on_request=lambda req: page() if req.path == "/1" else second)
    number = core.request(SITE, "/1", method="HEAD")
    run(home, lambda: len(gates) == 1)
    core.full.add(core.request_again(number, SITE, "/2"))
    run(home, lambda: second.taken == 1)
    core.gone(number)
    run(home, lambda: second.closed == 1)
    home._private.loop.call_soon(gates[0].set)  # type: ignore[union-attr]
    run(home, lambda: log == ["closed"])


def test_sync_stream_of_a_coroutine_runs_outside_the_loop(home: Home, core: FakeCore, serve: Any) -> None:
    def pieces() -> Iterator[str]:
        yield asyncio.run(asyncio.sleep(0, "a"))

    async def call(req: Any) -> Any:
        return pieces()

    serve(on_request=call)
    number = core.request(SITE)
    run(home, lambda: core.said("finish") != [])
    assert core.bodies[number] == b"a"


@pytest.mark.parametrize("kind", KINDS)
def test_streams_run_on_a_running_loop(cores: list[FakeCore], kind: str) -> None:
    source, call = answering(kind, *"abc")

    async def main() -> None:
        server = portico.start_server("127.0.0.1", 0, call, quiet=True)
        core = cores[0]
        number = core.request(number_of(server))
        core.full.add(number)
        for step in range(3):
            while len(core.said("resume")) == step:
                await asyncio.sleep(0.001)
            assert source.taken == step + 1
            core.drained(number)
        while not source.closed:
            await asyncio.sleep(0.001)
        assert core.bodies[number] == b"abc"
        server.stop()
        await server.wait_closed()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_drained_for_nobody_is_nothing(home: Home, core: FakeCore, serve: Any) -> None:
    serve(on_request=lambda req: "x")
    number = core.request(SITE)
    core.drained(number)
    assert run(home) == 2


# Length and trailers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["Content-Length", "content-length"])
def test_content_length_of_the_app_is_the_length(home: Home, core: FakeCore, serve: Any, kind: str, name: str) -> None:
    source, call = answering(kind, "ab", bytearray(b"c"), memoryview(b"d"), "ü", headers={name: "6"})
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.said("begin") == [(number, 200, None, [(name, "6")], 6)]
    assert core.said("finish") == [(number, [])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "told"), [("5", "ended 1 bytes before"), ("3", "longer than")])
def test_body_of_another_length_is_reported(
    home: Home, core: FakeCore, serve: Any, kind: str, length: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, "ab", "cd", headers={"Content-Length": length})
    serve(on_request=call)
    core.request(SITE)
    run(home, over(home, source))
    [record] = caplog.records
    assert told in str(record.exc_info and record.exc_info[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trailers", [{"X": "1"}, [("X", "1")], lambda: {"X": "1"}, lambda: [("X", "1")]])
def test_trailers_follow(home: Home, core: FakeCore, serve: Any, kind: str, trailers: Any) -> None:
    source, call = answering(kind, "a", trailers=trailers)
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands[-1] == ("finish", number, [("X", "1")])


def test_trailers_know_what_was_sent(home: Home, core: FakeCore, serve: Any) -> None:
    lines: list[str] = []

    def call(req: Any) -> Any:
        def page() -> Iterator[str]:
            for line in "abc":
                lines.append(line)
                yield line

        return {"body": page(), "trailers": lambda: {"X-Lines": str(len(lines))}}

    serve(on_request=call)
    number = core.request(SITE)
    run(home)
    assert core.said("finish") == [(number, [("X-Lines", "3")])]


def raise_boom() -> None:
    raise Boom


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trailers", [raise_boom, lambda: 7, lambda: {"X": 1}])
def test_failing_trailers_cut_the_connection(
    home: Home, core: FakeCore, serve: Any, kind: str, trailers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source, call = answering(kind, "a", trailers=trailers)
    serve(on_request=call)
    number = core.request(SITE)
    run(home, over(home, source))
    assert core.commands[-1] == ("abort", number)
    assert len(caplog.records) == 1


def test_pieces_may_be_any_buffer_of_bytes(home: Home, core: FakeCore, serve: Any) -> None:
    # The fake core is stricter than the native one, so it is asked to give up the first piece only.
    serve(on_request=lambda req: [array.array("B", b"ab")])
    number = core.request(SITE)
    run(home)
    assert core.said("begin") == [(number, 200, None, [], None)]


# Files


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_file_is_handed_over_open(home: Home, core: FakeCore, serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")
    serve(on_request=lambda req: Response(203, {"A": "1"}, {"file": path}, "Well"))
    number = core.request(SITE)
    before = open_files()
    run(home)
    assert core.commands == [("respond_file", number, 203, "Well", [("A", "1")], 4, None)]
    assert core.bodies[number] == b"data"
    assert open_files() == before
    assert path.exists()


def test_owned_file_is_deleted_once_it_is_open(home: Home, core: FakeCore, serve: Any, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(b"data")

    async def call(req: Any) -> Any:
        return {"body": {"file": str(path), "owned": True}}

    serve(on_request=call)
    number = core.request(SITE)
    run(home, lambda: core.said("respond_file") != [])
    assert core.bodies[number] == b"data"
    assert not path.exists()


@pytest.mark.parametrize("what", ["nothing", "directory", "pipe"])
def test_file_that_cannot_be_sent_is_a_500(
    home: Home, core: FakeCore, serve: Any, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "page"
    if what == "directory":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    serve(on_head=lambda req: {"body": {"file": path, "owned": True}}, on_request=lambda req: "x")
    number = core.head(SITE)
    before = open_files()
    run(home)
    assert core.commands == [("respond", number, *ERROR_500)]
    [record] = caplog.records
    assert record.getMessage() == f"on_head raised; route /, connection {number}"
    assert "page" in str(record.exc_info and record.exc_info[1])
    assert path.exists() == (what != "nothing")
    assert open_files() == before


def test_file_is_closed_when_its_head_cannot_be_sent(
    home: Home, core: FakeCore, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond_file(*_: Any, **__: Any) -> bool:
        raise ValueError("a header nobody can send")

    path = tmp_path / "page"
    path.touch()
    monkeypatch.setattr(core, "respond_file", respond_file)
    serve(on_request=lambda req: Response.file(path))
    number = core.request(SITE)
    before = open_files()
    run(home)
    assert core.commands == [("respond", number, *ERROR_500)]
    assert open_files() == before
