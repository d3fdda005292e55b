"""A core without sockets: push events in, read commands out. For testing apps and doors as conversations.

Stands in for the native half behind `_core.pyi`; checks no protocol. Thread: any.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from portico._core import (
    ARRIVED,
    BODILESS,
    CLOSED,
    CONNECTED,
    DRAINED,
    FAILED,
    FULL,
    GONE,
    HEAD,
    LOGGED,
    MESSAGE,
    OPEN,
    REQUEST,
    SENT,
    SHUT,
    STOPPED,
    WHY_CANCELLED,
)

if TYPE_CHECKING:
    from portico.server import Server

_numbers = itertools.count(1)


def request_parts(
    server: int = 0,
    target: str = "/",
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: Any = b"",
    route: int = 0,
    http_version: str = "1.1",
    client: Any = ("127.0.0.1", 50000),
    is_websocket: bool = False,
    tls: bytes | None = None,
) -> Any:
    """The payload of HEAD and REQUEST, and most of OPEN's, as the native half builds it."""
    fields = b"".join(f"{name}:{value}\r\n".encode("latin-1") for name, value in headers)
    return (server, route, method, target, http_version, fields, body, client, is_websocket, tls)


class FakeSpool:
    """A body in a file, as the native half has it."""

    def __init__(self, body: bytes) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(body)
        self._file.flush()
        self._size = len(body)

    def fileno(self) -> int:
        return self._file.fileno()

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        self._file.close()


def number_of(server: Server) -> int:
    """The number that events of `server` carry; elsewhere nobody needs it."""
    return server._number


def _copy(data: Any) -> str | bytes:
    return data if isinstance(data, str) else bytes(data)


class FakeBatch:
    """Hands out the core's queue, event by event; what is not asked for stays there."""

    def __init__(self, core: FakeCore, size: int) -> None:
        self._core, self._left, self.waited_s = core, size, core.waited_s
        self.ran = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._left or self.ran == self._core.budget:
            raise StopIteration
        self._left -= 1
        event = self._core.next_event()
        self.ran += event[0] != LOGGED
        return event

    def __len__(self) -> int:
        return self._left


class FakeCore:
    """`commands` lists what Python said, as tuples that begin with the command's name."""

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.configs: dict[int, Mapping[str, Any]] = {}
        self.sockets: dict[int, int] = {}  # open WebSocket → its server
        self.calling: set[int] = set()  # what `connect` asked for and nobody has answered
        self.unanswered: set[int] = set()
        self.bodiless: set[int] = set()  # HEAD requests
        self.bodies: dict[int, bytearray] = {}  # by connection: what `write` and `respond_file` sent, also in the end
        self.telling: set[int] = set()  # answers whose end is told, however it comes
        self.streaming: dict[int, int | None] = {}  # answers under way → how many bytes are left of the announced
        self.incoming: dict[int, deque[Any]] = {}  # by body: what `receive` will say
        self.coming: dict[int, deque[Any]] = {}  # by body: what `wait_body` will wait for
        self.held: dict[int, int] = {}  # connection → how many of its events are not finished
        self.held_bytes: dict[int, int] = {}
        self.is_near = False  # whether clients' messages come at once, before a loop has its turn
        self.full: set[int] = set()  # connections whose outbox is full
        self.queued: set[int] = set()  # connections for which something is queued; `drained` ends that
        self.members: dict[tuple[int, str], set[int]] = {}  # (server, topic) → its subscribers
        self.listen_error: OSError | None = None
        self.connect_error: OSError | ValueError | None = None
        self.files: dict[int, list[Any]] = {}  # listening server → its static paths
        self.files_error: Exception | None = None
        self.routes: dict[int, list[Any]] = {}  # listening server → its RouteSpecs
        self.received: defaultdict[int, deque[Any]] = defaultdict(deque)  # by WebSocket: what its client has got
        self.ends: dict[int, tuple[int, str]] = {}  # by closed WebSocket: code and reason
        self.routes_error: Exception | None = None
        self.former_routes: list[int] = []
        self.waited_s = 0.0
        self.budget: int | None = None  # how many events a batch gives before it ends early
        self.is_shut = False
        self._events: deque[tuple[int, int, Any]] = deque()
        self._awaited: set[int] = set()  # bodies of which ARRIVED is to tell
        self._is_woken = False
        self._changed = threading.Condition()
        self._readable, self._writable = os.pipe()

    # Events in

    def push(self, kind: int, number: int, payload: Any = None) -> int:
        with self._changed:
            self._events.append((kind, number, payload))
            if len(self._events) == 1:
                os.write(self._writable, b"!")
            self._changed.notify_all()
        return number

    def request(self, server: int, target: str = "/", *, kind: int = REQUEST, **parts: Any) -> int:
        return self.request_again(next(_numbers), server, target, kind=kind, **parts)

    def request_again(self, number: int, server: int, target: str = "/", *, kind: int = REQUEST, **parts: Any) -> int:
        """One more request on a connection that has had its answers."""
        self.unanswered.add(number)
        self.bodiless.discard(number)
        if parts.get("method") == "HEAD":
            self.bodiless.add(number)
        return self.push(kind, number, request_parts(server, target, **parts))

    def head(self, server: int, target: str = "/", **parts: Any) -> int:
        return self.request(server, target, kind=HEAD, **parts)

    def open(self, server: int, target: str = "/", *, subprotocol: str | None = None, **parts: Any) -> int:
        number = next(_numbers)
        self.sockets[number] = server
        return self.push(OPEN, number, (request_parts(server, target, is_websocket=True, **parts), subprotocol))

    def arrive(self, number: int, body: int, *pieces: Any) -> None:
        """More of a body that comes: bytes, `b""` at its end, or `(status, reason)` if it has no end."""
        self.incoming.setdefault(body, deque()).extend(pieces)
        if body in self._awaited:
            self._awaited.discard(body)
            self.push(ARRIVED, number)

    def connected(
        self, number: int, *, headers: Sequence[tuple[str, str]] = (), subprotocol: str | None = None
    ) -> None:
        """A server agrees to what `connect` asked for."""
        self.calling.discard(number)
        self.sockets[number] = 0
        fields = b"".join(f"{name}:{value}\r\n".encode("latin-1") for name, value in headers)
        self.push(CONNECTED, number, (fields, subprotocol))

    def failed(self, number: int, why: int, errno: int = 0, text: str = "", answer: Any = None) -> None:
        self.calling.discard(number)
        self.push(FAILED, number, (why, errno, text, answer))

    def message(self, number: int, data: str | bytes) -> None:
        self.push(MESSAGE, number, data)

    def drained(self, number: int) -> None:
        self.queued.discard(number)
        self.push(DRAINED, number)

    def closed(self, number: int, code: int = 1005, reason: str = "") -> None:
        self._forget(number)
        self.ends[number] = (code, reason)
        self.push(CLOSED, number, (code, reason))

    def logged(
        self,
        server: int,
        line: bytes = b"GET / HTTP/1.1",
        headers: Sequence[tuple[str, str]] = (),
        *,
        client: Any = ("127.0.0.1", 50000),
        status: int = 200,
        body_bytes: int = 0,
        began: float = 0.0,
        duration_s: float = 0.0,
        is_whole: bool = True,
        close_code: int | None = None,
        lost: int = 0,
    ) -> None:
        """A record of the access log, as the native half makes it."""
        fields = b"".join(f"{name}:{value}\r\n".encode("latin-1") for name, value in headers)
        outcome = (status, body_bytes, began, duration_s, is_whole, close_code, lost)
        self.push(LOGGED, server, (client, line, fields, *outcome))

    def gone(self, number: int) -> None:
        self.unanswered.discard(number)
        self.telling.discard(number)
        self.streaming.pop(number, None)
        self.push(GONE, number)

    # Commands out

    def said(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every command called `name`."""
        return [command[1:] for command in self.commands if command[0] == name]

    def next_event(self) -> tuple[int, int, Any]:
        with self._changed:
            event = self._events.popleft()
            if not self._events:
                os.read(self._readable, 1)
            return event

    def take(self, max_events: int, timeout: float | None) -> FakeBatch:
        with self._changed:
            if timeout != 0:
                self._changed.wait_for(lambda: self._events or self._is_woken or self.is_shut, timeout)
            if self.is_shut:
                raise RuntimeError("the core is shut down")
            if self._is_woken:
                self._is_woken = False
                os.read(self._readable, 1)
            return FakeBatch(self, min(max_events, len(self._events)))

    def fileno(self) -> int:
        return self._readable

    def mailbox_fileno(self) -> int:
        return self._readable

    def oldest_s(self) -> float:
        return self.waited_s if self._events else 0.0

    def wake(self) -> None:
        with self._changed:
            if not self._is_woken:
                self._is_woken = True
                os.write(self._writable, b"!")
            self._changed.notify_all()

    def listen(self, address: Any, config: Mapping[str, Any]) -> tuple[int, str, int]:
        if self.listen_error is not None:
            raise self.listen_error
        if self.files_error is not None:
            raise self.files_error
        number = next(_numbers)
        self.configs[number] = config
        self.files[number] = list(config["files"])
        self.routes[number] = list(config["routes"])
        host, port = (address, 0) if isinstance(address, str) else address
        return number, host, port or (40000 + number if not isinstance(address, str) else 0)

    def set_routes(self, server: int, routes: Sequence[Any]) -> list[int] | None:
        """The routes that events still have are those in `former_routes`, which the test says."""
        self.commands.append(("set_routes", server, list(routes)))
        if self.routes_error is not None:
            raise self.routes_error
        self.routes[server] = list(routes)
        return list(self.former_routes) if server in self.files else None

    def connect(self, address: Any, config: Mapping[str, Any]) -> int:
        self.commands.append(("connect", address))
        if self.connect_error is not None:
            raise self.connect_error
        number = next(_numbers)
        self.configs[number] = config
        self.calling.add(number)
        return number

    def set_files(self, server: int, files: Sequence[Any]) -> bool:
        self.commands.append(("set_files", server, list(files)))
        if self.files_error is not None:
            raise self.files_error
        if server not in self.files:
            return False
        self.files[server] = list(files)
        return True

    def set_tls(self, server: int, tls: Any) -> bool:
        self.commands.append(("set_tls", server, tls))
        return server in self.files and self.configs[server].get("tls") is not None

    def stop(self, server: int, grace_s: float) -> bool:
        self.commands.append(("stop", server, grace_s))
        self.files.pop(server, None)
        for number in [number for number, owner in self.sockets.items() if owner == server]:
            self.closed(number, 1001)
        self.push(STOPPED, server)
        return True

    def connections(self, server: int) -> int:
        return list(self.sockets.values()).count(server)

    def respond(self, number: int, *answer: Any) -> bool:
        self.commands.append(("respond", number, *answer))
        was_unanswered = number in self.unanswered
        self.unanswered.discard(number)
        return was_unanswered

    def respond_file(
        self,
        number: int,
        status: int,
        reason: str | None,
        fields: Any,
        descriptor: int,
        length: int,
        close: bool = False,
        modified_ns: int | None = None,
    ) -> bool:
        self.commands.append(("respond_file", number, status, reason, fields, length, modified_ns))
        was_unanswered = number in self.unanswered
        self.unanswered.discard(number)
        self.bodies[number] = bytearray(os.pread(descriptor, length, 0))
        return was_unanswered

    def begin(
        self,
        number: int,
        status: int,
        reason: str | None,
        fields: Any,
        length: int | None,
        *,
        tells_end: bool = False,
    ) -> int:
        self.commands.append(("begin", number, status, reason, fields, length))
        if number not in self.unanswered:
            return SHUT
        self.unanswered.discard(number)
        if tells_end:
            self.telling.add(number)
        if number in self.bodiless or status in (204, 304):
            self._tell_end(number)
            return BODILESS
        self.bodies[number] = bytearray()
        self.streaming[number] = length
        return SENT

    def write(self, number: int, data: Any) -> int:
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError("expected str or bytes-like")
        self.commands.append(("write", number, data))
        if number not in self.streaming:
            return SHUT
        piece = data.encode() if isinstance(data, str) else bytes(data)
        left = self.streaming[number]
        if left is not None:
            if len(piece) > left:
                del self.streaming[number]
                raise ValueError("the body is longer than its Content-Length")
            self.streaming[number] = left - len(piece)
        self.bodies[number] += piece
        return FULL if number in self.full else SENT

    def offer(self, number: int, data: Any) -> int:
        """As `write`, but what is FULL was not taken."""
        if number in self.full and number in self.streaming:
            self.commands.append(("offer", number, data))
            return FULL
        return self.write(number, data)

    @staticmethod
    def new_number() -> int:
        return next(_numbers)

    def resume(self, number: int) -> None:
        """DRAINED follows at once, or for a connection in `full` or `queued` when the test says `drained`."""
        self.commands.append(("resume", number))
        if number in self.streaming and number not in self.full and number not in self.queued:
            self.push(DRAINED, number)

    def finish(self, number: int, trailers: Any) -> bool:
        self.commands.append(("finish", number, trailers))
        was_streaming = number in self.streaming
        is_whole = not self.streaming.pop(number, 1)
        if was_streaming:
            self._tell_end(number)
        return is_whole

    def abort(self, number: int) -> None:
        self.commands.append(("abort", number))
        if number in self.streaming:
            del self.streaming[number]
            self._tell_end(number)

    def receive(self, number: int, body: int, says_arrived: bool) -> Any:
        self.commands.append(("receive", number, body))
        pieces = self.incoming.get(body)
        if not pieces:
            if says_arrived:
                self._awaited.add(body)
            return None
        return pieces[0] if pieces[0] == b"" or isinstance(pieces[0], tuple) else pieces.popleft()

    def wait_body(self, number: int, body: int, timeout: float | None) -> bool:
        """Doesn't wait: the next of `coming` is here now."""
        self.commands.append(("wait_body", number, body, timeout))
        self.incoming.setdefault(body, deque()).append(self.coming[body].popleft())
        return True

    def proceed(self, number: int) -> bool:
        self.commands.append(("proceed", number))
        return number in self.unanswered

    def send(self, number: int, data: Any) -> int:
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise TypeError("expected str or bytes-like")
        self.commands.append(("send", number, data))
        if number not in self.sockets:
            return SHUT
        if number in self.full:
            return FULL
        self.received[number].append(_copy(data))
        return SENT

    def broadcast(self, server: int, data: Any) -> int:
        self.commands.append(("broadcast", server, data))
        return self._deliver([number for number, owner in list(self.sockets.items()) if owner == server], data)

    def close(self, number: int, code: int, reason: str) -> int:
        self.commands.append(("close", number, code, reason))
        if number in self.calling:
            self.failed(number, WHY_CANCELLED)
            return SENT
        if not self._forget(number):
            return SHUT
        self.ends[number] = (code, reason)
        self.push(CLOSED, number, (code, reason))
        return SENT

    def ping(self, number: int, data: bytes) -> int:
        self.commands.append(("ping", number, data))
        return SENT if number in self.sockets else SHUT

    def info(self, number: int) -> tuple[int, float | None] | None:
        return (0, None) if number in self.sockets else None

    def round_trips(self, number: int) -> list[tuple[float, float]]:
        return []

    def hold(self, number: int, size: int) -> None:
        self.held[number] = self.held.get(number, 0) + 1
        self.held_bytes[number] = self.held_bytes.get(number, 0) + size

    def release(self, number: int, size: int) -> None:
        self.held[number] -= 1
        self.held_bytes[number] -= size

    def answer(self, number: int, handled: int | None) -> str | bytes | None:
        if handled is not None:
            self.release(number, handled)
        if not self.is_near or not self._events or self._events[0][:2] != (MESSAGE, number):
            return None
        message: str | bytes = self.next_event()[2]
        self.hold(number, len(message if isinstance(message, bytes) else message.encode()))
        return message

    def expects_answer(self) -> bool:
        return self.is_near

    def drain(self, number: int) -> bool:
        self.commands.append(("drain", number))
        return number in self.queued

    def watch_drained(self, number: int) -> None:
        self.commands.append(("watch_drained", number))

    def wait_drained(self, number: int, timeout: float | None) -> bool:
        """Doesn't wait: what is queued now has not left when the time is up."""
        self.commands.append(("wait_drained", number, timeout))
        return number in self.sockets and number not in self.queued

    def subscribe(self, number: int, topic: str) -> bool:
        self.commands.append(("subscribe", number, topic))
        if number not in self.sockets:
            return False
        self.members.setdefault((self.sockets[number], topic), set()).add(number)
        return True

    def unsubscribe(self, number: int, topic: str) -> bool:
        self.commands.append(("unsubscribe", number, topic))
        members = self.members.get((self.sockets.get(number, 0), topic), set())
        was_member = number in members
        members.discard(number)
        return was_member

    def publish(self, server: int, topic: str, data: Any, exclude: int) -> int:
        self.commands.append(("publish", server, topic, data, exclude))
        return self._deliver(self.members.get((server, topic), set()) - {exclude}, data)

    def topics(self, server: int) -> dict[str, int]:
        return {topic: len(members) for (owner, topic), members in self.members.items() if owner == server and members}

    def stats(self) -> dict[str, int]:
        return {"batches": 0}

    def shutdown(self) -> list[tuple[int, Any]]:
        if self.is_shut:
            return []
        self.is_shut = True
        self.wake()
        os.close(self._readable)
        os.close(self._writable)
        left, self._events = self._events, deque()
        return [(number, payload) for kind, number, payload in left if kind == LOGGED]

    def _deliver(self, numbers: Collection[int], data: Any) -> int:
        for number in numbers:
            self.received[number].append(_copy(data))
        return len(numbers)

    def _tell_end(self, number: int) -> None:
        if number in self.telling:
            self.telling.discard(number)
            self.push(GONE, number)

    def _forget(self, number: int) -> bool:
        self.queued.discard(number)
        for members in self.members.values():
            members.discard(number)
        return self.sockets.pop(number, None) is not None

    def before_fork(self) -> None:
        self.commands.append(("before_fork",))

    def after_fork_in_parent(self) -> None:
        self.commands.append(("after_fork_in_parent",))

    def after_fork_in_child(self) -> None:
        self.shutdown()
