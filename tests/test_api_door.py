"""plumber2's door: what handlers may name, what is sent back, in which order, and what happens when one raises."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import portico
from portico import executors
from portico.events import EVENTS
from portico.testing import FakeCore, Refused, TestClient, number_of

DEADLINE_S = 10


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


def square(message: str) -> str:
    return str(int(message) ** 2)


# Messages


def test_handlers_are_called_in_order_and_texts_and_bytes_are_sent_back() -> None:
    api = portico.api(port=0)
    for answer in ("text", b"bytes", None, 5, ["a"], {"a": 1}, "last"):
        assert api.add_message(lambda message, answer=answer: answer) is api  # for chaining
    with TestClient(api) as client, client.websocket("/any/path") as ws:
        ws.send("x")
        assert [ws.receive() for _ in range(3)] == ["text", b"bytes", "last"]
        assert not client.core.received[ws.id]


def test_a_handler_gets_what_it_names() -> None:
    api, seen = portico.api(port=0), []

    @api.message
    def everything(message: object, server: object, client_id: str, request: Any) -> None:
        seen.append((message, server is api, client_id, request.headers["x-who"], request.path))

    @api.message()
    def rest(message: object, own: str = "default", **others: object) -> None:
        seen.append((message, own, *sorted(others)))

    assert callable(everything)
    with TestClient(api) as client, client.websocket("/a", headers={"X-Who": "me"}) as ws:
        ws.send("text")
        ws.send(b"\x00")
        who = str(ws.id)
    assert seen == [
        ("text", True, who, "me", "/a"),
        ("text", "default", "client_id", "request", "server"),
        (b"\x00", True, who, "me", "/a"),
        (b"\x00", "default", "client_id", "request", "server"),
    ]


def test_a_wrapper_gets_all_there_is() -> None:
    def wrapper(*args: object, **rest: object) -> str:
        return f"{len(args)} {sorted(rest)}"

    api = portico.api(port=0).add_message(wrapper)
    api.on("tick", wrapper, id="wrapper")
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("x")
        assert ws.receive() == "0 ['client_id', 'message', 'request', 'server']"
    assert api.trigger("tick", n=1)["wrapper"].startswith("0 ['n'")


def test_api_message_is_the_function_form() -> None:
    api = portico.api(port=0)
    assert portico.api_message(portico.api_message(api, lambda message: "one"), lambda: "two", True, [lambda: 5]) is api
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("x")
        assert sorted([ws.receive(), ws.receive()]) == ["one", "two"]


@pytest.mark.parametrize(
    ("handler", "options", "told"),
    [
        (lambda mesage: None, {}, "asks for 'mesage': .* may name client_id, message, request and server"),
        (lambda request: None, {"async_": True}, "asks for 'request': .* runs elsewhere.* client_id and message"),
        (lambda server: None, {"async_": "processes"}, "asks for 'server': .* then= steps may have it"),
        (lambda result: None, {}, "asks for 'result'"),
        (lambda message, /: None, {}, "arguments come by name"),
        (lambda *messages: None, {}, r"arguments come by name, and '\*messages' has none"),
        ("text", {}, "must be a function, not str"),
        (min, {}, "doesn't tell what its arguments are called; wrap it in a lambda"),
        (lambda: None, {"then": [print]}, "then= follows what async_= has computed"),
        (
            lambda: None,
            {"async_": True, "then": [lambda results: None]},
            "then step .* asks for 'results'.*request, result and server",
        ),
        (lambda: None, {"async_": "thread"}, "must be True, 'threads', 'processes' or an Executor; got 'thread'"),
        (lambda: None, {"async_": 2}, "must be True, 'threads', 'processes' or an Executor; got 2"),
        (lambda: None, {"async_": "processes"}, "another process finds a function by its name"),
        (lambda: None, {"path": "ws"}, "a path begins with '/'; got 'ws'"),
        (lambda: None, {"path": "/<request>"}, "'request' has a meaning already"),
        (lambda: None, {"path": "/a?<b>"}, "messages have no query"),
    ],
)
def test_mistakes_are_found_when_a_handler_is_added(handler: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        portico.api().add_message(handler, **options)


def test_a_coroutine_function_needs_no_executor() -> None:
    async def handler(message: str) -> str:
        await asyncio.sleep(0)
        return message * 2

    with pytest.raises(TypeError, match="an async def function needs no async_="):
        portico.api().add_message(handler, True)
    api = portico.api(port=0).add_message(handler)
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("ab")
        assert ws.receive() == "abab"


def test_a_returned_awaitable_is_awaited() -> None:
    done: Future[str] = Future()
    api = portico.api(port=0).add_message(lambda: done)
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("x")
        assert client.core.held[ws.id] == 1  # it counts against the inbox until it has its answer
        done.set_result("later")
        assert ws.receive() == "later"
        client.run()
        assert client.core.held[ws.id] == 0


def test_one_failing_handler_of_several_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    api = portico.api(port=0)

    @api.message
    def first() -> str:
        return "first"

    @api.message
    def fails() -> None:
        raise RuntimeError("secret")

    @api.message
    async def fails_later() -> None:
        raise RuntimeError("secret")

    @api.message(async_=True, then=[lambda: pytest.fail("there is nothing to follow")])
    def fails_elsewhere() -> None:
        raise RuntimeError("secret")

    @api.message(async_=True, then=[lambda: 1 / 0, lambda: pytest.fail("the chain goes on after an error")])
    def then_fails() -> str:
        return "sent before its steps"

    @api.message
    def last() -> str:
        return "last"

    with TestClient(api) as client, client.websocket("/") as ws, client.websocket("/") as other:
        ws.send("x")
        assert [ws.receive() for _ in range(3)] == ["first", "last", "sent before its steps"]
        while len(errors(caplog)) < 4:
            client._wait(lambda: len(errors(caplog)) >= 4 or None, "not every error was reported")
        assert sorted(line.partition(" raised")[0] for line in errors(caplog)) == [
            "message handler fails",
            "message handler fails_elsewhere",
            "message handler fails_later",
            "message handler then_fails",
        ]
        assert (ws.close_code, other.close_code) == (None, None)  # the connection stays open
        ws.send("again")
        assert ws.receive() == "first"
        assert not client.core.received[other.id]


def test_a_chain_of_three_runs_once_and_in_order_for_each_of_a_hundred_messages() -> None:
    api, steps, threads = portico.api(port=0), [], set()

    def step(name: str) -> Any:
        def run(message: str, result: str, client_id: str, server: object, request: object) -> str:
            assert server is api and request is not None
            threads.add(threading.get_ident())
            steps.append((client_id, message, name, result))
            return f"{result}-{name}"

        return run

    barrier = threading.Barrier(4)  # several compute at a time

    def compute(message: str) -> str:
        barrier.wait(DEADLINE_S)
        assert threading.get_ident() != home
        return f"<{message}>"

    home = threading.get_ident()
    with ThreadPoolExecutor(4) as pool:
        api.add_message(compute, pool, [step("one"), step("two"), step("three")])
        with TestClient(api) as client:
            sockets = [client.websocket("/") for _ in range(10)]
            for number in range(10):
                for ws in sockets:
                    client.core.message(ws.id, str(number))
            client.run()
            client._wait(lambda: len(steps) == 300 or None, "not every step ran")
            client.run()
            assert threads == {home}
            for ws in sockets:
                assert sorted(client.core.received[ws.id]) == [f"<{number}>" for number in range(10)]
                for number in map(str, range(10)):
                    mine = [step[2:] for step in steps if step[:2] == (str(ws.id), number)]
                    main = f"<{number}>"
                    assert mine == [("one", main), ("two", f"{main}-one"), ("three", f"{main}-one-two")]


def test_a_step_that_is_a_coroutine_is_waited_for() -> None:
    results: list[object] = []

    async def first(result: str) -> str:
        await asyncio.sleep(0)
        return result + "-first"

    api = portico.api(port=0).add_message(square, True, [first, lambda result: results.append(result)])
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("3")
        client._wait(lambda: results or None, "the second step did not run")
    assert results == ["9-first"]


def test_the_main_result_is_sent_before_the_first_step() -> None:
    api, sent_by_then = portico.api(port=0), []

    @api.message(async_=True, then=lambda client_id: sent_by_then.extend(client.core.received[int(client_id)]))
    def main() -> str:
        return "main"

    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("x")
        client._wait(lambda: sent_by_then or None, "the step did not run")
    assert sent_by_then == ["main"]


def test_other_messages_are_answered_while_one_is_computed() -> None:
    api, finish = portico.api(port=0), threading.Event()

    @api.message(async_=True, path="/slow")
    def slow() -> str:
        assert finish.wait(DEADLINE_S)
        return "at last"

    @api.message(path="/quick")
    def quick(message: str) -> str:
        return message

    with TestClient(api) as client, client.websocket("/slow") as waits, client.websocket("/quick") as other:
        waits.send("x")
        for number in range(100):
            other.send(str(number))
            assert other.receive() == str(number)
        assert not client.core.received[waits.id]
        finish.set()
        assert waits.receive() == "at last"


def test_a_process_pool_computes_functions_of_a_module() -> None:
    api = portico.api(port=0).add_message(square, "processes", then=[lambda server, result: server.send(f"={result}")])
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("12")
        assert [ws.receive(), ws.receive()] == ["144", "=144"]


def test_the_pools_are_shared_and_a_fork_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_pools", {})
    with executors.pool("threads") as threads:
        assert executors.pool("threads") is threads
        assert executors.pool(threads) is threads
        executors._after_in_child()
        with executors.pool("threads") as others:
            assert others is not threads


def test_a_message_handler_of_one_path_sees_no_other() -> None:
    api, seen = portico.api(port=0), []
    api.add_message(lambda message, room: seen.append((room, message)), path="/rooms/<room:int>")
    api.add_message(lambda message: seen.append(("lobby", message)), path="/lobby")
    with TestClient(api) as client:
        for path, message in (("/rooms/7", "a"), ("/lobby", "b"), ("/rooms/8/", "c")):
            with client.websocket(path) as ws:
                ws.send(message)
        for path in ("/", "/rooms/x", "/rooms", "/lobby/x"):
            with pytest.raises(Refused, match="404"):
                client.websocket(path)
        api.add_message(lambda message: seen.append(("any", message)))  # from now on there are WebSockets everywhere
        for path in ("/", "/rooms/x", "/rooms/9"):
            with client.websocket(path) as ws:
                ws.send("d")
    assert seen == [(7, "a"), ("lobby", "b"), (8, "c"), ("any", "d"), ("any", "d"), (9, "d"), ("any", "d")]


def test_a_parameter_at_the_root_takes_no_more_than_it_says() -> None:
    api = portico.api(port=0).add_message(lambda n: str(n + 1), path="/<n:int>").add_get("/page", lambda: "page")
    with TestClient(api) as client:
        with client.websocket("/41") as ws:
            ws.send("x")
            assert ws.receive() == "42"
        for path in ("/", "/x", "/page", "/1/2"):
            with pytest.raises(Refused, match="404"):
                client.websocket(path)
        assert client.get("/page").text() == "page"


def test_a_websocket_opens_where_pages_are_and_pages_stay_pages() -> None:
    api = portico.api(port=0).add_message(lambda message: message)
    with TestClient(api) as client:
        assert client.get("/").status == 426  # nothing but WebSockets so far
        api.add_get("/", lambda: "page").add_get("/users/<id:int>", lambda id: str(id))
        for path in ("/", "/users/5", "/users/x", "/elsewhere"):
            with client.websocket(path) as ws:
                ws.send(path)
                assert ws.receive() == path
        for method, path, status in (
            ("GET", "/", 200),
            ("PUT", "/", 405),
            ("GET", "/users/5", 200),
            ("GET", "/users/x", 404),
            ("GET", "/elsewhere", 404),
        ):
            assert client.request(method, path).status == status


def test_of_a_page_and_a_websocket_at_one_pattern_each_gets_its_own() -> None:
    api = portico.api(port=0).add_message(lambda id, message: f"{id} {message}", path="/users/<id:int>")
    api.add_get("/users/<name>", lambda name: f"page of {name}").add_get("/users/7", lambda: "lucky")
    with TestClient(api) as client:
        assert client.get("/users/7").text() == "lucky"
        assert client.get("/users/x").text() == "page of x"
        with client.websocket("/users/7") as ws:
            ws.send("hi")
            assert ws.receive() == "7 hi"
        with pytest.raises(Refused, match="404"):
            client.websocket("/users/x")


def test_clients_with_one_session_cookie_are_reached_one_by_one() -> None:
    api, ids = portico.api(port=0), []
    api.add_message(lambda client_id: ids.append(client_id))
    cookie = {"Cookie": "session=same"}
    with TestClient(api) as client:
        first, second, third = (client.websocket("/", headers=cookie) for _ in range(3))
        for ws in (first, second, third):
            ws.send("who am I?")
        assert len(set(ids)) == 3
        assert api.send("to the second", ids[1]) == 1
        assert api.send("to two", [ids[0], ids[2], "no such client", "99999999"]) == 2
        third.close()
        assert api.send("closed", ids[2]) == 0
        assert api.send("to all") == 2
        with pytest.raises(TypeError, match="str or bytes-like"):
            api.send(5)  # type: ignore[arg-type]
        assert [list(client.core.received[ws.id]) for ws in (first, second)] == [
            ["to two", "to all"],
            ["to the second", "to all"],
        ]
    assert api.send("nobody is there") == 0


def test_the_handshake_stays_as_it_was() -> None:
    api, seen = portico.api(port=0), []
    api.add_message(lambda request: seen.append((request.uri, dict(request.headers))))
    api.add_get("/x", lambda: "ok")
    with TestClient(api) as client, client.websocket("/a?b=c", headers={"X-A": "1"}) as ws:
        ws.send("x")
        for _ in range(100):
            client.get("/x", headers={"X-A": "2"})
        ws.send("x")
    assert seen == [("/a?b=c", {"X-A": "1"})] * 2


# Requests


@pytest.fixture
def routes() -> Iterator[TestClient]:
    api = portico.api(port=0)
    api.add_get("/", lambda: "root")
    api.add_get("/users/<id:int>", lambda id: f"user {id + 1}")
    api.add_get("/users/me", lambda: "me")
    api.add_get("/users/<name>", lambda name: f"called {name}")
    api.add_get("/files/<rest:path>", lambda rest, request: f"{rest} {request.method}")
    api.add_post("/users/<id:int>", lambda id, body: portico.Response.json([id, body]))
    api.add_get("/search?<q>&<page:int=1>&<exact:bool=no>", lambda q, page, exact: f"{q} {page} {exact}")
    api.add_get("/at/<x:float>/<y:float>", lambda x, y: f"{x + y}")
    api.add_any("/any", lambda request, query: f"{request.method} {query.get('a')}")
    with TestClient(api) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "target", "told"),
    [
        ("GET", "/", (200, "root")),
        ("GET", "/users/5", (200, "user 6")),
        ("GET", "/users/5/", (200, "user 6")),
        ("GET", "/users/-1", (200, "user 0")),
        ("GET", "/users/me", (200, "me")),
        ("GET", "/users/5_0", (200, "called 5_0")),
        ("GET", "/users/J%C3%BCrgen", (200, "called Jürgen")),
        ("GET", "/users/" + "9" * 5000, (200, "called " + "9" * 5000)),
        ("GET", "/files/a/b.txt", (200, "a/b.txt GET")),
        ("HEAD", "/files/a", (200, "")),
        ("GET", "/files", (404, "404 Not Found\n")),
        ("GET", "/users/5/6", (404, "404 Not Found\n")),
        ("GET", "/nothing", (404, "404 Not Found\n")),
        ("POST", "/users/5", (200, "[5, null]")),
        ("POST", "/users/me", (405, "405 Method Not Allowed\n")),
        ("DELETE", "/", (405, "405 Method Not Allowed\n")),
        ("GET", "/at/1.5/-2", (200, "-0.5")),
        ("GET", "/at/nan/1", (404, "404 Not Found\n")),
        ("GET", "/search?q=a+b", (200, "a b 1 False")),
        ("GET", "/search?q=&page=3&exact=TRUE", (200, " 3 True")),
        ("GET", "/search", (400, "400 Bad Request: the query needs 'q', text\n")),
        ("GET", "/search?q=a&page=x", (400, "400 Bad Request: 'page' in the query must be a whole number; got 'x'\n")),
        ("GET", "/search?q=a&exact=2", (400, "400 Bad Request: 'exact' in the query must be true or false; got '2'\n")),
        ("GET", "/any?a=1&" + "b&" * 1000, (400, "400 Bad Request: a query has at most 1000 fields\n")),
        ("BREW", "/any?a=1", (200, "BREW 1")),
    ],
)
def test_paths_with_typed_parameters(routes: TestClient, method: str, target: str, told: tuple[int, str]) -> None:
    answer = routes.request(method, target)
    assert (answer.status, answer.text()) == told


def test_a_405_says_what_is_allowed(routes: TestClient) -> None:
    assert routes.request("PUT", "/users/5").headers["allow"] == "GET, HEAD, POST"
    assert routes.request("PUT", "/users/x").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("application/json", b'{"a": 1}', "{'a': 1}"),
        ("application/problem+json; charset=utf-8", b"[]", "[]"),
        ("application/x-www-form-urlencoded", b"a=1", "Form([('a', '1')], files=[])"),
        ("text/plain; charset=latin1", b"\xfc", "'ü'"),
        ("image/png", b"\x89", "b'\\x89'"),
        (None, b"x", "b'x'"),
        ("application/json", b"", "None"),
        ("application/json", b"{", "400 Bad Request: the body is not the JSON that its Content-Type says"),
        ("application/json", b"\xff", "400 Bad Request: the body is not the JSON that its Content-Type says"),
        ("application/x-www-form-urlencoded", b"a=%ff", "400 Bad Request: "),
        ("multipart/form-data", b"x", "400 Bad Request: "),
    ],
)
def test_a_body_is_read_by_its_type(content_type: str | None, body: bytes, told: str) -> None:
    api = portico.api(port=0).add_post("/", lambda body: repr(body))
    headers = [] if content_type is None else [("Content-Type", content_type)]
    with TestClient(api) as client:
        assert client.post("/", body=body, headers=headers).text().startswith(told)


def test_every_method_has_a_decorator_that_gives_the_function_back() -> None:
    api = portico.api(port=0)
    methods = ("get", "post", "put", "delete", "patch", "options")
    for method in methods:

        def answer(method: str = method) -> str:
            return method

        assert getattr(api, method)("/x")(answer) is answer
    api.head("/only-head")(lambda: portico.Response(204))
    with TestClient(api) as client:
        assert [client.request(method.upper(), "/x").text() for method in methods] == list(methods)
        assert client.request("HEAD", "/only-head").status == 204
        assert client.get("/only-head").status == 405


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("users", "a path begins with '/'"),
        ("/<id:uuid>", "a type is one of str, int, float, bool, path; got 'uuid'"),
        ("/<a b>", "called as a Python argument can be; got 'a b'"),
        ("/<class>", "called as a Python argument can be"),
        ("/x<id>", "a parameter is a whole segment"),
        ("/<id>/<id>", "two parameters are called 'id'"),
        ("/<rest:path>/x", "nothing can follow it"),
        ("/<id=5>", "only parameters of the query have defaults"),
        ("/x?q", "after the '\\?' come"),
        ("/x?<q:path>", "the query has no path"),
        ("/x?<n:int=ten>", "the default in '<n:int=ten>' is not a whole number"),
        ("/<body>", "'body' has a meaning already"),
    ],
)
def test_paths_that_mean_nothing_are_refused(path: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        portico.api().add_get(path, lambda **rest: None)


def test_two_handlers_of_the_same_requests_are_refused_and_named() -> None:
    api = portico.api(port=0)

    def one(a: int) -> None: ...

    def two(b: int) -> None: ...

    api.add_route(["GET", "POST"], "/x/<a:int>", one)
    with pytest.raises(ValueError, match=r"GET '/x/<b:int>' .*two.*one"):
        api.add_get("/x/<b:int>", two)
    api.add_get("/x/<b>", lambda b: None)  # another type is another path


def test_a_request_handler_may_compute_elsewhere_and_its_steps_come_before_the_answer() -> None:
    api, seen = portico.api(port=0), []

    def step(n: int, request: Any, result: str) -> str:
        seen.append((n, request.path, result))
        return "next"

    api.add_get("/<n:int>", lambda n: str(n * n), async_=True, then=[step, lambda result: seen.append(result)])
    with pytest.raises(TypeError, match="asks for 'request'"):
        api.add_post("/", lambda request: None, async_=True)
    with TestClient(api) as client:
        assert client.get("/12").text() == "144"
    assert seen == [(12, "/12", "144"), "next"]


def test_a_failing_request_handler_is_a_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    api = portico.api(port=0).add_get("/", lambda: 1 / 0).add_get("/later", lambda: 1 / 0, async_=True)
    with TestClient(api) as client:
        for path in ("/", "/later"):
            answer = client.get(path)
            assert (answer.status, answer.text()) == (500, "500 Internal Server Error\n")
    assert len(errors(caplog)) == 2


def test_a_header_handler_answers_before_the_body_or_lets_it_come() -> None:
    api = portico.api(port=0)

    def guard(request: Any, id: int) -> object:
        return None if "x-key" in request.headers else portico.Response.text("who are you?\n", 401)

    api.add_post("/<id:int>", guard, header=True)
    api.add_post("/<id:int>", lambda id, body: f"{id} {body!r}")
    with pytest.raises(TypeError, match="asks for 'body'"):
        api.add_get("/", lambda body: None, header=True)
    with TestClient(api) as client:
        assert client.post("/5", body=b"x").status == 401
        assert client.post("/5", body=b"x", headers={"X-Key": "1"}).text() == "5 b'x'"


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        ("/old", 308, "/new"),
        ("/old/a%20b/c", 307, "/a%20b/new/c"),
        ("/all//evil.example/x", 307, "/evil.example/x"),
        ("/all/%5C%5Cevil.example", 307, "/evil.example"),
    ],
)
def test_redirects_lead_to_where_they_say(target: str, status: int, location: str) -> None:
    api = portico.api(port=0)
    api.redirect("get", "/old", "/new")
    api.redirect("get", "/old/<a>/<b>", "/<a>/new/<b>", permanent=False)
    api.redirect("any", "/all/<rest:path>", "/<rest>", permanent=False)
    with pytest.raises(ValueError, match="names <c>, which '/x/<a>' has not"):
        api.redirect("get", "/x/<a>", "/<c>")
    with TestClient(api) as client:
        answer = client.get(target)
        assert (answer.status, answer.headers["location"]) == (status, location)


@pytest.mark.parametrize("is_running", [False, True])
def test_what_clashes_is_refused_and_changes_nothing(is_running: bool) -> None:
    api = portico.api(port=0).add_get("/a", lambda: "a").redirect("get", "/b", "/c")

    def clash() -> None:
        for change in (
            lambda: api.add_get("/a", lambda: "other"),
            lambda: api.add_get("/b", lambda: "b"),
            lambda: api.redirect("get", "/a", "/c"),
            lambda: api.redirect("get", "/b", "/d"),
        ):
            with pytest.raises(ValueError, match="two handlers for the same requests"):
                change()
        api.add_get("/c", lambda: "c")

    if not is_running:
        clash()
    with TestClient(api) as client:
        if is_running:
            clash()
        answers = [client.get(path) for path in ("/a", "/b", "/c")]
        assert [(answer.status, answer.text()) for answer in answers] == [(200, "a"), (308, ""), (200, "c")]
        assert answers[1].headers["location"] == "/c"


# Events


def test_events_come_in_order(caplog: pytest.LogCaptureFixture) -> None:
    api, told = portico.api(port=0), []

    def tell(event: str) -> None:
        api.on(event, lambda **values: told.append((event, *sorted(values.keys() - {"server"}))))

    for event in EVENTS:
        tell(event)
    api.add_message(lambda message: message)
    api.add_get("/", lambda: "ok")
    for _ in range(2):  # it may run again
        with TestClient(api) as client:
            client.get("/")
            with client.websocket("/ws") as ws:
                ws.send("x")
    about = ("client_id", "message", "request")
    assert told == 2 * [
        ("start",),
        ("header", "request"),
        ("before-request", "request"),
        ("after-request", "request", "response"),
        ("header", "request"),
        ("websocket-opened", "client_id", "request"),
        ("before-message", *about),
        ("send", "client_id", "message"),
        ("after-message", *about),
        ("websocket-closed", "client_id", "request"),
        ("end",),
    ]
    assert errors(caplog) == []


def test_the_hook_before_a_message_may_replace_it() -> None:
    api = portico.api(port=0).add_message(lambda message: message)
    api.on("before-message", lambda message: message.upper())
    api.on("before-message", lambda message: 5)
    with TestClient(api) as client, client.websocket("/") as ws:
        ws.send("quiet")
        assert ws.receive() == "QUIET"


def test_the_header_hook_refuses_requests_and_handshakes() -> None:
    api = portico.api(port=0).add_message(lambda: None).add_get("/", lambda: "ok")
    answers: dict[str, object] = {"a": True, "b": None, "c": False, "d": {"status": 418}}
    api.on("header", lambda request: answers[request.headers["x-which"]], id="guard")
    with TestClient(api) as client:
        for which, status in (("a", 200), ("b", 200), ("c", 403), ("d", 418)):
            headers = {"X-Which": which}
            assert client.get("/", headers=headers).status == status
            if status == 200:
                client.websocket("/", headers=headers).close()
            else:
                with pytest.raises(Refused) as caught:
                    client.websocket("/", headers=headers)
                assert caught.value.answer.status == status
        api.off("guard")  # while it runs
        assert client.get("/").text() == "ok"
        with pytest.raises(KeyError, match="no event handler is called 'guard'"):
            api.off("guard")


def test_events_of_ones_own_return_what_their_handlers_do_by_id(caplog: pytest.LogCaptureFixture) -> None:
    api = portico.api(port=0)
    assert api.on("tick", lambda n, server: n + 1, id="plus") == "plus"
    second = api.on("tick", lambda n: n * 2)

    @api.on("tick")
    def broken(m: int) -> None: ...

    assert callable(broken)
    assert api.trigger("tick", n=5) == {"plus": 6, second: 10}
    assert errors(caplog) == ["tick handler broken raised"]
    assert api.trigger("nobody") == {}
    with pytest.raises(ValueError, match="'start' is told by Portico itself"):
        api.trigger("start")
    with pytest.raises(ValueError, match="called 'plus' already"):
        api.on("start", lambda: None, id="plus")
    with pytest.raises(TypeError, match=r"asks for 'message'.*may name request and server"):
        api.on("header", lambda message: None)

    async def later() -> None: ...

    with pytest.raises(TypeError, match="coroutine function"):
        api.on("start", later)


def test_an_event_handler_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    api, closed = portico.api(port=0).add_message(lambda message: message), []
    for event in ("start", "websocket-opened", "before-message", "send", "after-message", "websocket-closed", "end"):
        api.on(event, lambda: 1 / 0)
    api.on("websocket-closed", lambda client_id: closed.append(client_id))
    with TestClient(api) as client:
        with client.websocket("/") as ws:
            ws.send("x")
            assert ws.receive() == "x"
    assert closed == [str(ws.id)]
    assert len(errors(caplog)) == 7


def test_log_writes_a_line_with_its_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "portico.api"):
        portico.api().log("message", "received")
    assert [(one.name, one.getMessage(), one.event) for one in caplog.records] == [  # type: ignore[attr-defined]
        ("portico.api", "message: received", "message")
    ]


# Life


def test_wrong_options_are_refused_where_they_are_said() -> None:
    with pytest.raises(TypeError, match="limits"):
        portico.api(limits=5)
    with pytest.raises(TypeError, match="port must be an int"):
        portico.api(port="8080")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="slow_clint"):
        portico.api(slow_clint="close")
    with pytest.raises(ValueError, match="requires_subprotocol needs subprotocols"):
        portico.api(requires_subprotocol=True).add_message(lambda: None)


def test_options_of_routes_are_those_of_start_server(core: FakeCore) -> None:
    api = portico.api(port=0, deflate=True, gzip=True, subprotocols=["a"], slow_client="drop_new", stream_body=True)
    api.add_message(lambda: None, path="/ws").add_post("/", lambda request: request.stream.read())
    with api:
        page, ws = core.configs[number_of(portico.list_servers()[0])]["routes"]
        assert (page[4] & 8, page[7] is not None, page[6]) == (8, True, None)
        assert (ws[4], ws[7], ws[6][0], ws[6][2] is not None) == (4, None, ("a",), True)


def test_a_failed_start_leaves_nothing_behind(core: FakeCore) -> None:
    api = portico.api(port=80)
    core.listen_error = OSError(98, "Address already in use")
    with pytest.raises(OSError, match=r"127\.0\.0\.1:80"):
        api.run(block=False)
    assert not api.is_running and api.url is None
    core.listen_error = None
    with api:
        assert api.is_running and repr(api) == "<Api http://127.0.0.1:80>"
        with pytest.raises(RuntimeError, match="runs already, at http://127"):
            api.run()
    assert not api.is_running


def test_a_blocking_run_ends_with_stop_in_a_handler_and_tells_the_end(core: FakeCore) -> None:
    api, told = portico.api(port=0), []
    api.on("start", lambda server: (told.append("start"), server.stop()))
    api.on("end", lambda: told.append("end"))
    api.run(block=True)
    assert told == ["start", "end"]
    assert not api.is_running


def test_ctrl_c_ends_a_blocking_run_and_tells_the_end(core: FakeCore) -> None:
    api, told = portico.api(port=0, callbacks="service"), []

    def press() -> None:
        raise KeyboardInterrupt

    api.add_get("/", press)
    api.on("start", lambda: core.request(number_of(portico.list_servers()[0])))
    api.on("end", lambda server: told.append(server.is_running))
    api.run(block=True)
    assert told == [False]
    assert portico.list_servers() == []


def test_handlers_come_while_it_runs_and_a_bad_one_changes_nothing() -> None:
    api = portico.api(port=0).add_get("/a", lambda: "a")
    with TestClient(api) as client:
        assert client.get("/b").status == 404
        api.add_get("/b", lambda: "b")
        assert client.get("/b").text() == "b"
        with pytest.raises(ValueError, match="two handlers"):
            api.add_get("/b", lambda: "c")
        assert (client.get("/a").text(), client.get("/b").text()) == ("a", "b")


def test_static_paths_are_the_servers(core: FakeCore, tmp_path: Any) -> None:
    (tmp_path / "private").mkdir()
    api = portico.api(port=0).statics("/files", tmp_path, except_=["/files/private"])
    with api:
        assert [spec[:2] for one in core.files.values() for spec in one] == [
            ("/files", str(tmp_path)),
            ("/files/private", None),
        ]
        api.statics("/more", tmp_path)
        assert [spec[0] for one in core.files.values() for spec in one] == ["/files", "/files/private", "/more"]


def test_in_a_running_loop_it_returns_at_once(core: FakeCore) -> None:
    async def main() -> None:
        with portico.api(port=0).run() as api:
            pytest.fail(f"{api} entered twice")

    with pytest.raises(RuntimeError, match="runs already"):
        asyncio.run(main())
    portico.stop_all_servers()
