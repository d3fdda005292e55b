"""Bodies in memory, in files and on their way: what handlers read of them. Conversations with a fake core."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conversation import SITE, TEXT, run
from portico import BodyError, Request, RequestStream
from portico._core import TROUBLE
from portico.body import PIECE_BYTES, WINDOW_BYTES, SpooledBytes
from portico.home import Home
from portico.routes import Route
from portico.testing import FakeCore, FakeSpool, request_parts

LEFT = (400, "400 Bad Request: the client left before the end of the request body")
BODY = 7  # the number of a body that comes


def spooled(data: bytes) -> SpooledBytes:
    return SpooledBytes(FakeSpool(data), 0, len(data))  # type: ignore[arg-type]


def answers(core: FakeCore) -> list[Any]:
    """The bodies of the answers."""
    return [command[4] for command in core.said("respond")]


# All there


@pytest.mark.parametrize("keep", [bytes, spooled])
def test_a_whole_body_is_a_file_that_can_be_rewound(keep: Callable[[bytes], Any]) -> None:
    data = bytes(range(256)) * 4 * 1024  # a mebibyte
    stream = RequestStream(keep(data))
    assert stream.readable() and stream.seekable() and not stream.writable()
    assert stream.read(3) == data[:3]
    assert stream.tell() == 3
    assert [len(piece) for piece in stream] == [PIECE_BYTES] * 3 + [PIECE_BYTES - 3]
    assert stream.read() == stream.read(1) == stream.read1() == b""
    assert stream.seek(0) == 0
    assert stream.read() == data
    assert stream.seek(-2, io.SEEK_END) == len(data) - 2
    assert stream.read(None) == data[-2:]
    assert stream.seek(5) == stream.seek(0, io.SEEK_CUR) == 5
    room = bytearray(10)
    assert stream.readinto(room) == 10 and room == data[5:15]
    assert stream.seek(len(data) + 9) and stream.read() == b""
    for offset, whence in [(-1, io.SEEK_SET), (0, 9)]:
        with pytest.raises(ValueError):
            stream.seek(offset, whence)
    stream.close()
    with pytest.raises(ValueError):
        stream.read()


@pytest.mark.parametrize("keep", [bytes, spooled])
def test_copies_like_any_file(keep: Callable[[bytes], Any]) -> None:
    target = io.BytesIO()
    shutil.copyfileobj(RequestStream(keep(b"ab\ncd")), target)
    assert target.getvalue() == b"ab\ncd"
    assert RequestStream(keep(b"ab\ncd")).readline() == b"ab\n"


@pytest.mark.parametrize("keep", [bytes, spooled])
def test_async_for_reads_what_is_there(keep: Callable[[bytes], Any]) -> None:
    async def read() -> list[bytes]:
        return [piece async for piece in RequestStream(keep(b"x" * (PIECE_BYTES + 1)))]

    assert [len(piece) for piece in asyncio.run(read())] == [PIECE_BYTES, 1]


def test_spooled_bytes_are_found_across_windows() -> None:
    data = b"a" * (WINDOW_BYTES - 2) + b"needle" + b"b" * WINDOW_BYTES + b"needle"
    body = spooled(data)
    for wanted, start, end in [
        (b"needle", 0, None),
        (b"needle", WINDOW_BYTES - 1, None),
        (b"needle", 0, WINDOW_BYTES + 3),
        (b"needle", 0, WINDOW_BYTES + 4),
        (b"none", 0, None),
        (b"a", 0, 1),
        (b"a", 5, 5),
        (b"needle", len(data), None),
    ]:
        assert body.find(wanted, start, end) == data.find(wanted, start, len(data) if end is None else end)
    assert body.startswith(b"needle", WINDOW_BYTES - 2) and not body.startswith(b"needle")
    part = body.cut(WINDOW_BYTES - 2, WINDOW_BYTES + 4)
    assert (part[:], len(part), part[2:4], part[-2:]) == (b"needle", 6, b"ed", b"le")


def request(body: Any, **parts: Any) -> Request:
    return Request(request_parts(1, "/", method="POST", body=body, **parts), ("127.0.0.1", 80))


@pytest.mark.parametrize("keep", [bytes, spooled])
def test_everything_reads_a_body_wherever_it_is(keep: Callable[[bytes], Any]) -> None:
    req = request(keep('{"a":"ü"}\nzwei'.encode()))
    assert req.body == req.body == '{"a":"ü"}\nzwei'.encode()
    assert req.text() == '{"a":"ü"}\nzwei'
    assert req.stream is req.stream
    assert req.stream.read() == req.body
    assert req.environ["wsgi.input"] is req.environ["rook.input"]
    assert list(req.environ["wsgi.input"]) == ['{"a":"ü"}\n'.encode(), b"zwei"]
    req.environ["rook.input"].rewind()
    assert req.environ["rook.input"].read_lines() == ['{"a":"ü"}', "zwei"]
    assert request(keep(b"[1]")).json() == [1]
    asyncio.run(req.load())
    assert req.body


def test_an_empty_body_is_an_empty_stream() -> None:
    assert list(request(b"").stream) == []


@pytest.mark.parametrize("keep", [bytes, spooled])
def test_files_of_a_form_stay_where_they_are(keep: Callable[[bytes], Any]) -> None:
    data = bytes(range(256)) * 8192  # two windows
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + data + b"\r\n--b--\r\n"
    )
    form = request(keep(body), headers=[("Content-Type", "multipart/form-data; boundary=b")]).form()
    upload = form.files["f"]
    assert form["a"] == "1"
    assert (upload.size, upload.body == data, upload.stream.read() == data) == (len(data), True, True)
    assert isinstance(upload._content, bytes) == (keep is bytes)
    with pytest.raises(ValueError, match="last boundary"):
        request(keep(body[:-8]), headers=[("Content-Type", "multipart/form-data; boundary=b")]).form()
    encoded = request(keep(b"a=1&b=2"), headers=[("Content-Type", "application/x-www-form-urlencoded")])
    assert encoded.form().pairs == (("a", "1"), ("b", "2"))


def test_a_file_is_closed_with_its_request(core: FakeCore, home: Home, serve: Any) -> None:
    seen = []

    def call(req: Request) -> str:
        seen.append(req.body)
        return "done"

    serve(on_request=call)
    spool: Any = FakeSpool(b"data")
    file = spool._file
    core.request(SITE, body=spool)
    del spool
    run(home)
    assert seen == [b"data"] and file.closed


# On its way


def test_a_plain_handler_waits_for_each_piece(core: FakeCore, home: Home, serve: Any) -> None:
    serve(on_request=lambda req: b"|".join(req.stream), stream_body=True)
    core.arrive(0, BODY, b"one")
    core.coming[BODY] = deque([b"two", b""])
    number = core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == [b"one|two"]
    assert core.said("wait_body") == [(number, BODY, None)] * 2


def test_reads_of_any_size(core: FakeCore, home: Home, serve: Any) -> None:
    def call(req: Request) -> str:
        stream = req.stream
        assert not stream.seekable()
        with pytest.raises(io.UnsupportedOperation):
            stream.seek(0)
        read = [stream.read(0), stream.read(2), stream.read1(3), stream.read1(), stream.read(99), stream.read(1)]
        assert stream.tell() == 10
        return repr(read)

    serve(on_request=call, stream_body=True)
    core.arrive(0, BODY, b"0123", b"45678", b"9", b"")
    core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == [repr([b"", b"01", b"23", b"45678", b"9", b""])]


def test_body_text_and_json_wait_for_the_whole(core: FakeCore, home: Home, serve: Any) -> None:
    serve(on_request=lambda req: [req.json(), req.text(), req.body, req.stream.read()] and req.body, stream_body=True)
    core.arrive(0, BODY, b"[1,", b"2]", b"")
    core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == [b"[1,2]"]


def test_a_body_of_which_a_part_was_read_is_not_whole(core: FakeCore, home: Home, serve: Any) -> None:
    def call(req: Request) -> bytes:
        first = req.stream.read(1)
        with pytest.raises(RuntimeError, match=r"req\.stream"):
            _ = req.body
        return first + req.stream.read()

    serve(on_request=call, stream_body=True)
    core.arrive(0, BODY, b"abc", b"")
    core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == [b"abc"]


def test_wsgi_input_reads_the_same_stream(core: FakeCore, home: Home, serve: Any) -> None:
    def call(req: Request) -> bytes:
        source = req.environ["wsgi.input"]
        with pytest.raises(io.UnsupportedOperation):
            source.rewind()
        return b"|".join(source)

    serve(on_request=call, stream_body=True)
    core.arrive(0, BODY, b"a\nb", b"c\n", b"d", b"")
    core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == [b"a\n|bc\n|d"]


def test_a_coroutine_is_woken_by_each_arrival(core: FakeCore, home: Home, serve: Any) -> None:
    seen: list[bytes] = []

    async def call(req: Request) -> str:
        async for piece in req.stream:
            seen.append(piece)  # noqa: PERF401
        return "whole"

    serve(on_request=call, stream_body=True)
    number = core.request(SITE, body=BODY)
    for piece in (b"one", b"two"):
        run(home)
        core.arrive(number, BODY, piece)
        run(home, lambda piece=piece: seen[-1:] == [piece])  # type: ignore[misc]
    core.arrive(number, BODY, b"")
    run(home, lambda: answers(core) == ["whole"])
    assert seen == [b"one", b"two"]
    assert not core.said("wait_body")


def test_load_makes_the_whole_body_readable_in_a_coroutine(core: FakeCore, home: Home, serve: Any) -> None:
    async def call(req: Request) -> bytes:
        with pytest.raises(RuntimeError, match="load"):
            _ = req.body
        await req.load()
        assert req.json() == [1]
        return req.body

    serve(on_request=call, stream_body=True)
    core.arrive(0, BODY, b"[1", b"]", b"")
    core.request(SITE, body=BODY)
    run(home, lambda: answers(core) == [b"[1]"])


def test_one_reader_at_a_time(core: FakeCore, home: Home, serve: Any) -> None:
    async def first(req: Request) -> bytes:
        return b"".join([piece async for piece in req.stream])

    async def call(req: Request) -> bytes:
        task = asyncio.ensure_future(first(req))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task"):
            await first(req)
        return await task

    serve(on_request=call, stream_body=True)
    number = core.request(SITE, body=BODY)
    run(home, lambda: bool(core.said("receive")))
    run(home)
    core.arrive(number, BODY, b"x", b"")
    run(home, lambda: answers(core) == [b"x"])


def test_another_thread_reads_without_a_loop(core: FakeCore, home: Home, serve: Any) -> None:
    with ThreadPoolExecutor(1) as executor:

        async def call(req: Request) -> Any:
            return await asyncio.get_running_loop().run_in_executor(executor, req.stream.read)

        serve(on_request=call, stream_body=True)
        core.coming[BODY] = deque([b"a", b"b", b""])
        core.request(SITE, body=BODY)
        run(home, lambda: answers(core) == [b"ab"])


# The end before the end


@pytest.mark.parametrize("failure", [LEFT, (413, "413 Content Too Large"), (408, "408 Request Timeout")])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "load"])
def test_a_body_without_an_end_raises_and_is_the_answer(
    core: FakeCore, home: Home, serve: Any, failure: tuple[int, str], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, str]] = []

    def note(error: BodyError) -> None:
        seen.append((error.status, str(error)))

    def call(req: Request) -> None:
        try:
            req.stream.read()
        except BodyError as error:
            note(error)
            raise

    async def call_later(req: Request) -> None:
        try:
            if kind == "load":
                await req.load()
            async for _ in req.stream:
                pass
        except BodyError as error:
            note(error)
            raise

    serve(on_request=call if kind == "plain" else call_later, stream_body=True)
    core.arrive(0, BODY, b"begun", failure)
    number = core.request(SITE, body=BODY)
    run(home, lambda: bool(answers(core)))
    assert seen == [failure]
    assert core.said("respond") == [(number, failure[0], None, TEXT, f"{failure[1]}\n")]
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_a_handler_may_answer_all_the_same(core: FakeCore, home: Home, serve: Any) -> None:
    def call(req: Request) -> Any:
        try:
            return req.body
        except BodyError as error:
            return {"status": error.status, "headers": {}, "body": "never mind"}

    serve(on_request=call, stream_body=True)
    core.arrive(0, BODY, LEFT)
    core.request(SITE, body=BODY)
    run(home)
    assert answers(core) == ["never mind"]


def test_a_reader_whose_client_leaves_is_told_and_not_cancelled(core: FakeCore, home: Home, serve: Any) -> None:
    seen: list[BaseException] = []

    async def call(req: Request) -> None:
        try:
            async for _ in req.stream:
                pass
        except BaseException as error:
            seen.append(error)
            raise

    serve(on_request=call, stream_body=True)
    number = core.request(SITE, body=BODY)
    run(home)
    run(home)
    core.arrive(number, BODY, b"last", LEFT)
    core.gone(number)  # in the same batch
    run(home, lambda: bool(seen))
    assert isinstance(seen[0], BodyError) and seen[0].status == 400


def test_who_waits_for_something_else_is_cancelled(core: FakeCore, home: Home, serve: Any) -> None:
    seen: list[BaseException] = []

    async def call(req: Request) -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            seen.append(error)
            raise

    serve(on_request=call, stream_body=True)
    number = core.request(SITE, body=BODY)
    run(home)
    run(home)
    core.gone(number)
    run(home, lambda: bool(seen))
    assert isinstance(seen[0], asyncio.CancelledError)


def test_an_answer_may_be_made_of_the_body_that_comes(core: FakeCore, home: Home, serve: Any) -> None:
    def shout(req: Request) -> Iterator[bytes]:
        return (piece.upper() for piece in req.stream)

    async def shout_later(req: Request) -> AsyncIterator[bytes]:
        async for piece in req.stream:
            yield piece.upper()

    for call in (shout, shout_later):
        serve(on_request=call, stream_body=True)
        core.incoming.clear()
        core.arrive(0, BODY, b"a", b"b", b"")
        number = core.request(SITE, body=BODY)
        run(home, lambda number=number: (number, []) in core.said("finish"))  # type: ignore[misc]
        assert core.bodies[number] == b"AB"


def test_the_route_has_to_take_requests() -> None:
    with pytest.raises(ValueError, match="streamed"):
        Route(on_open=print, stream_body=True)
    with pytest.raises(ValueError, match="stream_body"):
        Route(on_request=print, stream_body=1)  # type: ignore[arg-type]


def test_trouble_is_logged(core: FakeCore, home: Home, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    serve(on_request=print)
    core.push(TROUBLE, SITE, "the disk is full")
    run(home)
    assert caplog.messages == ["the disk is full"]
