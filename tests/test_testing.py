"""The client without sockets: any door's server in process, and routes found as the native half finds them."""

import asyncio
import http.client
import threading
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import handler, handler_inline, handler_redirect, handler_stream, handler_ws, http_server
from portico.testing import Refused, TestClient

DEADLINE_S = 10


class App:
    def __init__(self) -> None:
        self.closed: list[tuple[int | None, str]] = []

    def call(self, req: portico.Request) -> object:
        return portico.Response.json({"path": req.path, "body": req.text(), "host": req.headers.get("host")})

    def on_headers(self, req: portico.Request) -> object:
        return {"status": 401} if "x-stranger" in req.headers else None

    def on_ws_open(self, ws: portico.WebSocket) -> None:
        ws.send(f"welcome to {ws.request.path}")
        ws.on_message(lambda binary, message: ws.close(4001, "bye") if message == "leave" else ws.send(message))
        ws.on_close(lambda: self.closed.append((ws.close_code, ws.close_reason)))


def test_an_app_answers_requests_and_messages() -> None:
    app = App()
    with TestClient(app) as client:
        answer = client.post("/a?b=c", body="text", headers={"Host": "here"})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {"path": "/a", "body": "text", "host": "here"}
        assert client.get("/", headers={"X-Stranger": "1"}).status == 401
        with pytest.raises(Refused, match="401"):
            client.websocket("/", headers={"X-Stranger": "1"})
        with client.websocket("/ws") as ws:
            assert ws.receive() == "welcome to /ws"
            ws.send("text")
            ws.send(b"bytes")
            assert [ws.receive(), ws.receive()] == ["text", b"bytes"]
            assert ws.close_code is None
        assert (ws.close_code, app.closed) == (1000, [(1000, "")])
        with client.websocket("/") as other:
            other.send("leave")
            assert other.receive() == "welcome to /"
            with pytest.raises(portico.ConnectionClosed, match="4001 bye"):
                other.receive()
            with pytest.raises(portico.ConnectionClosed):
                other.send("x")
            with pytest.raises(TypeError, match="str or bytes, not int"):
                other.send(5)  # type: ignore[arg-type]
        assert (other.close_code, other.close_reason) == (4001, "bye")
    assert client.core.is_shut
    with pytest.raises(RuntimeError, match="the client is not in use"):
        client.get("/")


def test_coroutines_streams_files_and_bodies_that_come_are_awaited(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")

    async def call(req: portico.Request) -> object:
        await asyncio.sleep(0)
        if req.path == "/read":
            return b"".join([piece async for piece in req.stream])
        if req.path == "/file":
            return portico.Response.file(tmp_path / "file")
        return (f"{number} " for number in range(3))

    with TestClient(call, stream_body=True) as client:
        assert client.get("/stream").text() == "0 1 2 "
        assert client.get("/file").body == b"content"
        assert client.post("/read", body=b"it all").body == b"it all"
        assert client.post("/read").body == b""
        assert client.request("HEAD", "/file").body == b""


def test_what_other_threads_send_is_waited_for() -> None:
    go = threading.Event()

    def send_soon(ws: portico.WebSocket, data: object) -> None:
        threading.Thread(target=lambda: (go.wait(DEADLINE_S), ws.send(b"from a thread"))).start()

    with TestClient(handler_ws("/", send_soon)) as client, client.websocket("/") as ws:
        ws.send(b"x")
        go.set()
        assert ws.receive() == b"from a thread"
        client.timeout_s = 0.05
        with pytest.raises(TimeoutError, match=r"no message came within 0\.05 s"):
            ws.receive()


def test_an_answer_that_never_comes_is_a_time_out() -> None:
    async def call(req: portico.Request) -> None:
        await asyncio.get_running_loop().create_future()

    with TestClient(call, timeout_s=0.05) as client, pytest.raises(TimeoutError, match="no answer to GET /x within"):
        client.get("/x")


def test_servers_routes_and_whatever_starts_itself_are_taken() -> None:
    echo = handler_ws("/ws", lambda ws, data: ws.send(data), textframes=True, subprotocols=["b", "a"])
    hello = handler("/", lambda req: "hello")
    for target in ([echo, hello], http_server("http://127.0.0.1:0", [echo, hello])):
        with TestClient(target) as client:
            assert client.get("/").text() == "hello"
            with client.websocket("/ws", subprotocols=["x", "a", "b"]) as ws:
                assert ws.subprotocol == "b"
                ws.send(b"bytes that are text")
                assert ws.receive() == "bytes that are text"
                ws.send(b"\xff")
                assert ws.close_code == 1007
    with TestClient(make=lambda: portico.start_server("127.0.0.1", 0, lambda req: "mine", quiet=True)) as client:
        assert client.get("/").text() == "mine"
        assert [client.server] == portico.list_servers()
    assert portico.list_servers() == []
    with TestClient(handler_ws("/", lambda ws, data: ws.send(data))) as client, client.websocket("/") as ws:
        ws.send("text where bytes are expected")
        assert ws.close_code == 1003


def test_a_broadcast_reaches_those_who_are_there() -> None:
    with TestClient(handler_ws("/", lambda ws, data: client.server.broadcast(data), textframes=None)) as client:
        first, second, third = (client.websocket("/") for _ in range(3))
        third.close()
        first.send("x")
        assert [first.receive(), second.receive()] == ["x", "x"]
        assert not client.core.received[third.id]


def test_what_it_cannot_do_is_said(tmp_path: Path) -> None:
    with TestClient({"call": lambda req: "ok", "static_paths": {"/files": tmp_path}}) as client:
        assert client.get("/").text() == "ok"
        with pytest.raises(NotImplementedError, match="'/files/x' is a static path, served natively"):
            client.get("/files/x")
        with pytest.raises(ValueError, match="a target begins with '/'"):
            client.get("x")
    with pytest.raises(TypeError, match="TestClient needs an app, or make="):
        TestClient()
    with pytest.raises(RuntimeError, match="no server has started on this thread"), TestClient(make=lambda: None):
        pass

    async def main() -> None:
        with TestClient(lambda req: "ok"):
            pass

    with pytest.raises(RuntimeError, match="the test client would block the running event loop"):
        asyncio.run(main())


ROUTES = [
    handler("/", lambda req: "root"),
    handler("/users", lambda req: "users", method=["GET", "POST"], prefix=True),
    handler("/users/me", lambda req: "me", method="PUT"),
    handler("/any", lambda req: "any", method="*"),
    handler("/slash/", lambda req: "slash"),
    handler_inline("/inline", "text", "text/plain"),
    handler_redirect("/old", "/new"),
    handler_ws("/ws", lambda ws, data: None),
    handler_stream("/stream", lambda conn, req: (conn.send("piece"), conn.close())),
]


@pytest.fixture(scope="module")
def live() -> Any:
    with http_server("http://127.0.0.1:0", ROUTES, callbacks="thread", quiet=True) as server:
        yield server


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_routes_are_found_as_natively(live: portico.Server, method: str) -> None:
    targets = ["/", "/x", "/users", "/users/", "/users/5", "/users/me", "/usersx", "/any", "/any/", "/any//", "/slash/"]
    targets += ["/slash", "/inline", "/inline?a=b", "/old", "/ws", "/stream", "/%75sers", "/a%2Fb"]
    with TestClient(ROUTES) as client:
        for target in targets:
            connection = http.client.HTTPConnection("127.0.0.1", live.port or 0, timeout=DEADLINE_S)
            connection.request(method, target, headers={"Content-Length": "0"})
            answer = connection.getresponse()
            native = (answer.status, answer.getheader("Allow"), answer.getheader("Location"), answer.read())
            connection.close()
            told = client.request(method, target)
            headers = told.headers
            body = told.body if told.status < 400 else native[3]  # the words of a refusal are the native half's
            assert (told.status, headers.get("allow"), headers.get("location"), body) == native, target


def test_every_method_and_refusals() -> None:
    app = [
        handler("/", lambda req: req.method, method="*"),
        handler_ws("/chat", lambda ws, data: None, subprotocols=["chat"], requires_subprotocol=True),
    ]
    client = TestClient(app)
    with pytest.raises(RuntimeError, match="the client is not in use: with TestClient"):
        client.get("/")
    with client:
        assert [ask("/").text() for ask in (client.get, client.post, client.put, client.delete)] == [
            "GET",
            "POST",
            "PUT",
            "DELETE",
        ]
        with pytest.raises(Refused) as refused:
            client.websocket("/chat")
        assert refused.value.answer.status == 400
        assert client.websocket("/chat", subprotocols=["chat"]).subprotocol == "chat"
