"""Which handler a request finds, by path and method, natively; and handlers that come and go under way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from portico.request import Request
from portico.routes import ANY_METHOD, Route
from portico.server import Server
from portico.static_paths import static_path

from .conftest import Live, end
from .wire_client import DEADLINE_S, handshake, request


def say(name: str, path: str, **options: Any) -> Route:
    return Route(path=path, on_request=lambda req: f"{name} {req.method}", **options)


ROUTES = [
    say("all", "/", prefix=True, methods=["DELETE"]),
    say("get", "/a", methods=["GET"]),
    say("write", "/a", methods=["PUT", "POST"]),
    say("below", "/a", methods=["GET"], prefix=True),
    say("any", "/any"),
    say("head", "/head", methods=["HEAD"]),
    say("got", "/head", methods=["GET"]),
    say("page", "/ws", methods=["GET"]),
    Route(path="/ws", on_message=lambda ws, message: ws.send(message)),
    Route(path="/only", on_message=lambda ws, message: ws.send(message)),
    Route(path="/gone", prefix=True, methods=ANY_METHOD, inline=(307, [("Location", "/a")], b"")),
]


@pytest.fixture(scope="module")
def shared() -> Iterator[Live]:
    server = Server(ROUTES, ("127.0.0.1", 0), quiet=True, callbacks="thread").start()
    yield Live(server, None)
    end(server)


@pytest.fixture
def serving() -> Iterator[Any]:
    started: list[Server] = []

    def start(*routes: Route, **options: Any) -> Live:
        server = Server(routes, ("127.0.0.1", 0), quiet=True, **{"callbacks": "thread", **options})
        started.append(server)
        return Live(server.start(), None)

    yield start
    for server in started:
        end(server)


@pytest.mark.parametrize(
    ("method", "target", "answer"),
    [
        ("GET", "/a", "get GET"),
        ("GET", "/a/", "below GET"),
        ("GET", "/a?x=1", "get GET"),
        ("GET", "/%61", "get GET"),
        ("POST", "/a", "write POST"),
        ("GET", "/a/b", "below GET"),
        ("DELETE", "/a/b", "all DELETE"),
        ("DELETE", "/", "all DELETE"),
        ("BREW", "/any", "any BREW"),
        ("GET", "/ws", "page GET"),
        ("GET", "/head", "got GET"),
    ],
)
def test_path_and_method_find_the_handler(shared: Live, method: str, target: str, answer: str) -> None:
    reply = shared.ask(method, target)
    assert (reply.status, reply.body) == (200, answer.encode())


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PATCH", "/a", "DELETE, GET, HEAD, PUT, POST"),
        ("get", "/a", "DELETE, GET, HEAD, PUT, POST"),
        ("GET", "/nowhere", "DELETE"),
        ("OPTIONS", "/head", "DELETE, HEAD, GET"),
    ],
)
def test_another_method_is_405_and_says_which(shared: Live, method: str, target: str, allow: str) -> None:
    reply = shared.ask(method, target)
    assert (reply.status, reply["Allow"], reply.body) == (405, allow, b"405 Method Not Allowed\n")


def test_head_is_get_without_a_body_unless_named(shared: Live) -> None:
    by_get = shared.ask("HEAD", "/a")
    assert (by_get.status, by_get["Content-Length"], by_get.body) == (200, str(len("get HEAD")), b"")
    assert shared.ask("HEAD", "/head")["Content-Length"] == str(len("head HEAD"))


def test_unknown_path_is_404_where_nobody_takes_all(serving: Any) -> None:
    live = serving(say("a", "/a", methods=["GET"]))
    for target in ("/", "/b", "/a/b", "/ab", "//a", "/a//"):
        assert live.ask("GET", target).status == 404
    assert live.ask("POST", "/a")["Allow"] == "GET, HEAD"


def test_native_answers_for_any_method_need_no_python(serving: Any) -> None:
    live = serving(
        *ROUTES[1:3],
        Route(path="/gone", methods=ANY_METHOD, inline=(307, [("Location", "/a")], b"")),
        callbacks="service",
    )
    # Nobody services this server: what is answered is answered natively.
    for method in ("GET", "POST", "BREW"):
        reply = live.ask(method, "/gone")
        assert (reply.status, reply["Location"]) == (307, "/a")
    assert live.ask("PATCH", "/a").status == 405
    assert live.ask("PATCH", "/a", body=b"x" * 1000).status == 405


def test_websocket_and_page_share_a_path(shared: Live) -> None:
    with shared.open("/ws") as client:
        client.send_text("hi")
        assert client.receive_text() == "hi"
    assert shared.ask("GET", "/ws").status == 200
    for method in ("GET", "HEAD"):
        refused = shared.ask(method, "/only")
        assert (refused.status, refused["Upgrade"]) == (426, "websocket")


def test_handshake_where_no_websocket_is(serving: Any) -> None:
    live = serving(say("a", "/a", methods=["POST"]), say("b", "/b"))
    for target, status in (("/a", 405), ("/c", 404), ("/b", 200)):
        with live.connect() as client:
            client.send(handshake(target))
            assert client.receive_reply().status == status


def test_files_take_reading_and_handlers_the_rest(serving: Any, tmp_path: Any) -> None:
    (tmp_path / "x.txt").write_text("file")
    live = serving(
        Route(path="/f", prefix=True, files=static_path(tmp_path)),
        say("upload", "/f", prefix=True, methods=["PUT"]),
        say("exact", "/f/own", methods=["GET"]),
    )
    assert live.ask("GET", "/f/x.txt").body == b"file"
    assert live.ask("PUT", "/f/x.txt").body == b"upload PUT"
    assert live.ask("GET", "/f/own").body == b"exact GET"
    assert live.ask("PATCH", "/f/x.txt").status == 405


# Handlers that come and go


def test_handlers_come_and_go_between_two_requests_of_a_connection(serving: Any) -> None:
    a, b = say("a", "/a"), say("b", "/b")
    live = serving(a)
    with live.connect() as client:

        def status(target: str) -> int:
            client.send(request("GET", target))
            return int(client.receive_reply().status)

        assert (status("/a"), status("/b")) == (200, 404)
        live.server.add_handler(b)
        assert (status("/a"), status("/b")) == (200, 200)
        live.server.remove_handler(a)
        assert (status("/a"), status("/b")) == (404, 200)


def test_an_upload_goes_on_to_the_handler_it_began_with(serving: Any) -> None:
    old, new = say("old", "/up"), say("new", "/up")
    live = serving(old)
    with live.connect() as client:
        head, body = request("POST", "/up", body=b"0123456789").split(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n" + body[:3])
        live.ask("GET", "/up")  # what came before has been read by now
        live.server.remove_handler(old)
        for _ in range(3):  # former handlers are forgotten at a change, but not this one
            live.server.add_handler(new)
            assert live.ask("GET", "/up").body == b"new GET"
            live.server.remove_handler(new)
        client.send(body[3:])
        assert client.receive_reply().body == b"old POST"
    live.server.add_handler(new)
    assert live.server._served.site is not None
    assert list(live.server._served.site.routes.values()) == [new]


def test_a_head_under_decision_goes_on_to_the_handler_it_began_with(serving: Any) -> None:
    deciding, go_on = threading.Event(), threading.Event()

    def decide(req: Request) -> None:
        deciding.set()
        assert go_on.wait(DEADLINE_S)

    old = Route(path="/a", on_head=decide, on_request=lambda req: "old")
    live = serving(old)
    with live.connect() as client:
        client.send(request("GET", "/a"))
        assert deciding.wait(DEADLINE_S)
        live.server.remove_handler(old)
        live.server.add_handler(say("b", "/b"))
        go_on.set()
        assert client.receive_reply().body == b"old"


def test_a_websocket_keeps_its_handler(serving: Any) -> None:
    closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    echo = Route(
        path="/ws", on_message=lambda ws, message: ws.send(message), on_close=lambda ws: closed.put(ws.close_code)
    )
    live = serving(echo)
    with live.open("/ws") as client:
        live.server.remove_handler(echo)
        client.send_text("still")
        assert client.receive_text() == "still"
        with live.connect() as other:
            other.send(handshake("/ws"))
            assert other.receive_reply().status == 404
        assert client.close() == (1000, "")
    assert closed.get(timeout=DEADLINE_S) == 1000


def test_threads_change_handlers_beside_each_other(serving: Any) -> None:
    base = say("base", "/base")
    live = serving(base)
    failures: list[BaseException] = []

    def change(name: str) -> None:
        try:
            for _ in range(30):
                own = say(name, f"/{name}")
                live.server.add_handler(own)
                assert live.ask("GET", f"/{name}").body == f"{name} GET".encode()
                live.server.remove_handler(own)
                assert live.ask("GET", f"/{name}").status == 404
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=change, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert failures == []
    assert live.server.handlers == (base,)


def test_changing_handlers_all_the_time_keeps_nothing(serving: Any) -> None:
    live = serving(say("a", "/a"))
    stop = threading.Event()
    seen: set[int] = set()

    def ask() -> None:
        with live.connect() as client:
            while not stop.is_set():
                client.send(request("GET", "/b"))
                seen.add(int(client.receive_reply().status))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(500):
            handler = say("b", "/b")
            live.server.add_handler(handler)
            live.server.remove_handler(handler)
    finally:
        stop.set()
        asking.join(DEADLINE_S)
    assert seen <= {200, 404}
    live.server.add_handler(say("c", "/c"))
    site = live.server._served.site
    assert site is not None
    assert len(site.routes) == 2
