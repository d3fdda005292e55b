"""Bodies over `max_body_in_memory_bytes`: they go through the disk, and nobody but the memory notices."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import Limits, Request
from portico.body import SpooledBytes

from .conftest import Live, Serve
from .process import Program
from .wire_client import DEADLINE_S, Client, Reply, request, wait_until

LIMITS = Limits(max_body_in_memory_bytes=1000, max_body_bytes=8 << 20, body_timeout_s=0.3)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def call(req: Request) -> str:
    kept = "file" if isinstance(req._parts[6], SpooledBytes) else "memory"
    return f"{kept} {len(req.body)} {digest(req.body)}"


@pytest.fixture
def live(serve: Serve) -> Live:
    return serve(call, limits=LIMITS)


def data_of(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


def chunks(data: bytes, size: int) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def post(data: bytes, *lines: str) -> bytes:
    return request("POST", "/", f"Content-Length: {len(data)}", *lines, body=data)


def post_chunked(data: bytes, size: int = 50_000) -> bytes:
    return request("POST", "/", "Transfer-Encoding: chunked", body=chunks(data, size))


def expected(data: bytes) -> bytes:
    return f"{'file' if len(data) > 1000 else 'memory'} {len(data)} {digest(data)}".encode()


@pytest.mark.parametrize("make", [post, post_chunked])
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 262_144, 3_000_000])
def test_every_byte_arrives(live: Live, make: Callable[[bytes], bytes], size: int) -> None:
    data = data_of(size)
    with live.connect() as client:
        client.send(make(data))
        assert client.receive_reply().body == expected(data)


@pytest.mark.parametrize("make", [post, post_chunked])
def test_byte_by_byte(live: Live, make: Callable[[bytes], bytes]) -> None:
    data = data_of(1500)
    with live.connect() as client:
        client.send_bytewise(make(data))
        assert client.receive_reply().body == expected(data)


def test_pipelined_requests_keep_their_order(live: Live) -> None:
    bodies = [data_of(size) for size in (5, 700_000, 2000, 0, 1500, 10)]
    with live.connect() as client:
        sender = threading.Thread(target=client.send, args=(b"".join(map(post, bodies)),))
        sender.start()
        assert [client.receive_reply().body for _ in bodies] == [expected(data) for data in bodies]
        sender.join(DEADLINE_S)


def test_a_client_that_closed_its_half_is_answered(live: Live) -> None:
    data = data_of(600_000)
    with live.connect() as client:
        client.send(post(data))
        client.end()
        assert client.receive_reply().body == expected(data)


def test_continue_is_sent_at_once(live: Live) -> None:
    with live.connect() as client:
        client.send(request("POST", "/", "Content-Length: 2000", "Expect: 100-continue"))
        assert client.receive_reply().status == 100
        client.send(data_of(2000))
        assert client.receive_reply().body == expected(data_of(2000))


def test_no_body_in_memory_at_all(serve: Serve) -> None:
    live = serve(call, limits=Limits(max_body_in_memory_bytes=0))
    assert live.ask("POST", "/", "Content-Length: 1", body=b"x").body.startswith(b"file 1 ")
    assert live.ask("GET", "/").body.startswith(b"memory 0 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n" + chunks(bytes(9 << 20), 1 << 20), 413),
        (b"Transfer-Encoding: chunked\r\n\r\n" + chunks(bytes(5000), 5000)[:-5] + b"x\r\n", 400),
        (b"Content-Length: 5000\r\n\r\n" + bytes(4000), 408),
    ],
)
def test_what_is_no_body_is_refused_all_the_same(live: Live, sent: bytes, status: int) -> None:
    with live.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + sent)
        assert client.receive_last_reply().status == status


# Nothing is left behind


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many files servers that start now have open."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def count() -> int:
        names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.lexists(name) and str(tmp_path) in os.readlink(name) for name in names)

    return count


def test_files_are_closed_when_their_requests_are_gone(files: Callable[[], int], serve: Serve) -> None:
    seen = []

    def note(req: Request) -> str:
        seen.append(files())
        return call(req)

    live = serve(note, limits=LIMITS)
    with live.connect() as client:
        for _ in range(20):
            client.send(post(bytes(2000)))
            client.receive_reply()
    assert set(seen) == {1}
    wait_until(lambda: files() == 0)


def test_a_client_that_leaves_takes_its_file_with_it(files: Callable[[], int], serve: Serve) -> None:
    live = serve(call, limits=LIMITS)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(live.connect()) for _ in range(5)]
        for client in clients:
            client.send(post(bytes(1_000_000))[:700_000])
        wait_until(lambda: files() == 5)
        for client in clients[3:]:
            client.reset()
    wait_until(lambda: files() == 0)


def test_a_request_that_nobody_takes_is_closed_with_its_home(files: Callable[[], int]) -> None:
    server = portico.start_server("127.0.0.1", 0, call, quiet=True, limits=LIMITS, callbacks="service")
    with Live(server, call).connect() as client:
        client.send(post(bytes(5000)))
        wait_until(lambda: files() == 1)
        portico.home.current_home().close()
    wait_until(lambda: files() == 0)


FORKS = """
def files():
    names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [os.stat(name).st_size for name in names if os.path.lexists(name) and sys.argv[1] in os.readlink(name)]

def wait_until(is_so):
    until = time.monotonic() + 5
    while not is_so() and time.monotonic() < until:
        time.sleep(0.001)

def call(req):
    if req.method == "POST":
        return "later"
    # The watchman keeps what comes meanwhile: first half a body, then a whole one, which waits in the mailbox.
    core = portico.home.current_home().core
    wait_until(lambda: max(files(), default=0) > 200_000)
    say("half")
    wait_until(core.oldest_s)
    say("before", len(files()))
    pid = os.fork()
    if pid == 0:
        say("child", len(files()))
        os._exit(0)
    os.waitpid(pid, 0)
    say("parent", len(files()))
    return "done"

live(call, "service", limits=portico.Limits(max_body_in_memory_bytes=1000))
"""


def test_a_fork_keeps_no_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Program(FORKS, str(tmp_path)) as program:
        address = program.address()
        with Client(address) as half, Client(address) as whole, Client(address) as client:
            client.send(request("GET", "/"))
            half.send(post(bytes(900_000))[:400_000])
            assert program.line() == "half"
            whole.send(post(bytes(5000)))
            assert [program.line() for _ in range(3)] == ["before 2", "child 0", "parent 2"]
            assert client.receive_reply().body == b"done"
            assert whole.receive_reply().body == b"later"


# The disk fails


def test_a_full_disk_is_507_and_logged() -> None:
    # The system's bound on files stands in for the disk's: writing fails as it would there.
    source = """
        import logging, resource
        logging.basicConfig(stream=sys.stdout, format="log %(levelname)s %(message)s")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        live(lambda req: str(len(req.body)), "thread", limits=portico.Limits(max_body_in_memory_bytes=1000))
    """
    with Program(source) as program:
        address = program.address()
        for _ in range(2):  # logged once, answered twice
            with Client(address) as client:
                client.send_until_full(post(bytes(4_000_000)), most=400_000)
                reply = client.receive_reply()
                assert (reply.status, reply["Connection"]) == (507, "close")
                assert b"disk" in reply.body
        assert "could not be written" in program.line()
        with Client(address) as client:
            client.send(post(bytes(200_000)))
            assert client.receive_reply().body == b"200000"


def test_a_missing_directory_is_500_and_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere/at/all")
    live = serve(call, limits=LIMITS)
    reply = live.ask("POST", "/", "Content-Length: 2000", body=bytes(2000))
    assert (reply.status, reply["Connection"]) == (500, "close")
    assert live.ask("POST", "/", "Content-Length: 2", body=b"ok").status == 200
    wait_until(lambda: bool(caplog.messages))
    assert "/nowhere/at/all" in caplog.messages[0]


# Forms


def test_a_large_upload_of_a_form_stays_in_its_file(serve: Serve) -> None:
    def read(req: Request) -> Any:
        upload = req.form().files["f"]
        with tempfile.TemporaryFile() as copy:
            for piece in upload.stream:
                copy.write(piece)
            copy.seek(0)
            return f"{upload.filename} {type(upload._content).__name__} {digest(copy.read())}"

    live = serve(read, limits=LIMITS)
    data = data_of(2_500_000)
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.bin"\r\n\r\n'
    body = head + data + b"\r\n--b--\r\n"
    with live.connect() as client:
        client.send(post(body, "Content-Type: multipart/form-data; boundary=b"))
        assert client.receive_reply().body == f"x.bin SpooledBytes {digest(data)}".encode()


# Memory


UPLOADS = """
import hashlib

def call(req):
    total, sums = 0, hashlib.sha256()
    for piece in req.stream:
        total += len(piece)
        sums.update(piece)
    return f"{total} {sums.hexdigest()}"

live(call, sys.argv[1], limits=portico.Limits(max_body_bytes=1 << 30), stream_body=sys.argv[2] == "streamed")
"""
UPLOAD_BYTES = 200_000_000
MOST_MORE_BYTES = 24 << 20


@pytest.mark.parametrize("how", ["spooled", "streamed"])
def test_200_megabytes_with_flat_memory(how: str) -> None:
    piece = data_of(1_000_000)
    sums = hashlib.sha256()
    for _ in range(UPLOAD_BYTES // len(piece)):
        sums.update(piece)
    with Program(UPLOADS, "service", how) as program:
        address = program.address()
        upload(address, piece, 2, is_chunked=False)  # the first one brings threads and buffers
        before = program.memory("VmHWM")
        for is_chunked in (False, True):
            reply = upload(address, piece, UPLOAD_BYTES // len(piece), is_chunked)
            assert reply.body.decode() == f"{UPLOAD_BYTES} {sums.hexdigest()}"
        assert program.memory("VmHWM") - before < MOST_MORE_BYTES


def upload(address: Any, piece: bytes, count: int, is_chunked: bool) -> Reply:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {count * len(piece)}"
    sent = b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece
    with Client(address) as client:
        client.send(request("POST", "/", framing))
        for _ in range(count):
            client.send(sent)
        if is_chunked:
            client.send(b"0\r\n\r\n")
        return client.receive_reply()
