"""The context door against a fake core: late lookup, answers now and later, what is text, and what it refuses."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import (
    Context,
    RequestHeader,
    SendResult,
    create_context,
    create_server,
    daemonize,
    http_response,
    http_vars,
    set_callback,
    static_file_service,
    static_text_service,
    websocket,
    websocket_broadcast,
    websocket_close,
    websocket_write,
)
from portico._core import WHY_SYSTEM
from portico.request import Request
from portico.testing import FakeCore, number_of, request_parts

HTML = [("Content-Type", "text/html; charset=utf-8")]
TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def start(webpage: Any = None, **options: Any) -> Context:
    return create_server(0, webpage, quiet=True, **options)


def number(context: Context) -> int:
    assert context.server is not None
    return number_of(context.server)


def answers(core: FakeCore) -> list[tuple[Any, ...]]:
    """Status, fields and body of every answer so far."""
    return [(answer[1], answer[3], answer[4]) for answer in core.said("respond")]


# Servers


def test_a_context_is_a_namespace_with_a_running_server(core: FakeCore) -> None:
    with start() as context:
        context.anything = [1]
        assert context.server is not None and context.server.is_running
        assert context.port == context.server.port
        assert context.url == f"http://127.0.0.1:{context.port}"
        assert (context.established, context.receive, context.closed, context.static) == (None,) * 4
        assert repr(context) == f"<Context <Server {context.url} running clients=0>>"
    assert context.server.state == "stopped"


def test_any_number_of_servers_and_one_service_for_all(core: FakeCore) -> None:
    heard: list[Any] = []
    contexts = [start() for _ in range(3)]
    for context in contexts:
        context.established = lambda ws, context=context: heard.append(context)
        core.open(number(context))
    assert len({context.port for context in contexts}) == 3
    assert portico.service(contexts[0], 0) == 3
    assert heard == contexts
    core.open(number(contexts[0]))
    assert portico.service(0) == 1


def test_the_default_page_is_the_demo(core: FakeCore) -> None:
    context = create_server(0, quiet=True)
    page = core.request(number(context), "/any/path")
    portico.service(context, 0)
    [(_, status, _, fields, size, _)] = core.said("respond_file")
    assert (status, fields, size) == (200, HTML, len(core.bodies[page]))
    assert b"Talk to your Python session" in core.bodies[page]


def test_options_are_the_servers_and_the_routes(core: FakeCore) -> None:
    context = start(subprotocols=["chat"], deflate=True, limits=portico.Limits(max_message_bytes=7), host="::1")
    config = core.configs[number(context)]
    [(_, path, prefix, methods, _, _, spec, _)] = config["routes"]
    assert (path, prefix, methods, spec[0], spec[2] is not None) == ("/", True, (), ("chat",), True)
    assert config["limits"]["max_message_bytes"] == 7
    assert context.server is not None and context.server.host == "::1"


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing(core: FakeCore) -> None:
    core.listen_error = OSError(errno.EADDRINUSE, "Address already in use")
    with pytest.raises(OSError, match=r"cannot listen on http://127\.0\.0\.1:7681: Address already in use"):
        create_server()
    core.listen_error = None
    assert portico.list_servers() == []
    assert create_server().port == 7681


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: create_server("80"), TypeError, "port must be an int"),  # type: ignore[arg-type]
        (lambda: create_server(99999), ValueError, "between 0 and 65535"),
        (lambda: create_server(0, "<html>"), TypeError, "static must be callable or None, not str"),  # type: ignore[arg-type]
        (lambda: create_server(0, None, 1), TypeError, "is_binary must be True or False"),  # type: ignore[arg-type]
        (lambda: create_server(0, nonsense=1), TypeError, "nonsense"),
        (lambda: create_context(0, None, False, host="::1"), TypeError, "without a server has no host"),
    ],
)
def test_what_makes_no_server_is_refused(core: FakeCore, make: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        make()
    assert portico.list_servers() == []


def test_create_context_makes_the_same_or_none(core: FakeCore) -> None:
    assert (context := create_context(0, None, True, True, quiet=True)).is_binary
    assert context.server is not None and context.server.is_running
    unbound = create_context(server=False)
    assert (unbound.server, unbound.client, unbound.port, unbound.url) == (None,) * 4
    assert repr(unbound) == "<Context unbound>"
    with pytest.raises(RuntimeError, match="neither a server nor a client"):
        portico.service(unbound, 0)


def test_service_takes_only_what_has_callbacks(core: FakeCore) -> None:
    with pytest.raises(TypeError, match="needs a Server, a Context or a number of seconds, not str"):
        portico.service("context", 0)  # type: ignore[arg-type]
    context = start()
    with pytest.raises(TypeError, match="timeout must be a number"):
        portico.service(context, "1")  # type: ignore[arg-type]


# Callbacks


def test_callbacks_are_looked_up_when_the_event_comes(core: FakeCore) -> None:
    context = start()
    heard: list[Any] = []
    ws = core.open(number(context))
    core.message(ws, "nobody hears this")
    portico.service(0)
    set_callback("receive", lambda data, ws, *rest: heard.append(("first", data)), context)
    core.message(ws, "a")
    portico.service(0)

    def replace(data: bytes, ws: Any, header: Any) -> None:
        heard.append(("second", data))
        context.receive = lambda data, ws, header: heard.append(("third", data))

    context.receive = replace
    core.message(ws, "b")
    core.message(ws, "c")
    portico.service(0)
    set_callback("receive", None, context)
    context.closed = lambda ws: heard.append((ws.id, ws.close_code, ws.close_reason))
    core.message(ws, "d")
    core.closed(ws, 4001, "bye")
    portico.service(0)
    assert heard == [("first", b"a"), ("second", b"b"), ("third", b"c"), (ws, 4001, "bye")]


def test_a_subclass_is_a_context_of_methods(core: FakeCore) -> None:
    class Chat(Context):
        def receive(self, data: bytes, ws: Any, header: Any) -> None:  # type: ignore[override]
            websocket_write(data.upper(), ws)

    context = Chat()
    client = websocket_in_callbacks(core, context)
    core.message(client, "hi")
    while len(core.said("send")) < 2:
        portico.service(1)
    assert core.said("send") == [(client, "GREETING"), (client, "HI")]


def test_receive_gets_bytes_and_the_header_of_the_frame(core: FakeCore) -> None:
    context = start()
    heard: list[Any] = []
    context.receive = lambda data, ws, header: heard.append((data, header.opcode, header))
    ws = core.open(number(context))
    for message in ("Grüße", b"\xff", "", b""):
        core.message(ws, message)
    portico.service(0)
    assert [one[:2] for one in heard] == [("Grüße".encode(), 1), (b"\xff", 2), (b"", 1), (b"", 2)]
    header = heard[0][2]
    assert (header.fin, header.rsv1, header.rsv2, header.rsv3) == (True, False, False, False)


def test_established_may_refuse_and_callbacks_may_be_coroutines(core: FakeCore) -> None:
    context = start()
    heard: list[Any] = []

    async def receive(data: bytes, ws: Any, header: Any) -> None:
        await asyncio.sleep(0)
        heard.append(data)

    context.receive = receive
    context.established = lambda ws: websocket_close(ws, 1013, "full") if ws.request.path == "/full" else None
    refused, taken = core.open(number(context), "/full"), core.open(number(context), "/")
    core.message(refused, "a")
    core.message(taken, "b")
    for _ in range(3):
        portico.service(0)
    assert heard == [b"b"]
    assert core.said("close") == [(refused, 1013, "full")]


@pytest.mark.parametrize("name", ["established", "receive", "closed"])
def test_a_callback_that_raises_ends_its_connection_only(
    core: FakeCore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    context = start()
    heard: list[Any] = []
    bad, good = core.open(number(context)), core.open(number(context))

    def fail(*arguments: Any) -> None:
        ws = next(one for one in arguments if isinstance(one, portico.WebSocket))
        if ws.id == bad:
            raise LookupError("secret")
        heard.append(name)

    set_callback(name, fail, context)
    for ws in (bad, good):
        core.message(ws, "x")
        core.closed(ws)
    portico.service(0)
    assert heard == [name]
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]
    assert [close[:2] for close in core.said("close")] == ([] if name == "closed" else [(bad, 1011)])


def test_names_that_are_no_callbacks_are_refused(core: FakeCore) -> None:
    context = start()
    with pytest.raises(ValueError, match="established, receive, closed, static; got 'recieve'"):
        set_callback("recieve", print, context)
    with pytest.raises(TypeError, match="receive must be callable or None, not int"):
        set_callback("receive", 3, context)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="closed must be callable"):
        context.closed = "f"  # type: ignore[assignment]
    for wrong in (None, context.server, "context"):
        with pytest.raises(TypeError, match="expected what create_server"):
            set_callback("receive", print, wrong)  # type: ignore[arg-type]


# Writing


@pytest.mark.parametrize(
    ("is_binary", "sent"),
    [(False, ["text", "bytes", "array", "view", ""]), (True, [b"text", b"bytes", b"array", b"view", b""])],
)
def test_is_binary_decides_what_is_sent(core: FakeCore, is_binary: bool, sent: list[Any]) -> None:
    context = start(is_binary=is_binary)
    seen: list[Any] = []
    context.established = seen.append
    core.open(number(context))
    portico.service(0)
    for data in ("text", b"bytes", bytearray(b"array"), memoryview(b"view"), ""):
        assert websocket_write(data, seen[0]) is SendResult.SENT
        assert websocket_broadcast(data, context) == 1
    assert [data for _, data in core.said("send")] == sent
    assert [data for _, data in core.said("broadcast")] == sent
    context.is_binary = not is_binary  # late, as everything here
    websocket_write("x", seen[0])
    assert type(core.said("send")[-1][1]) is (str if is_binary else bytes)


def test_what_cannot_be_written_says_why(core: FakeCore) -> None:
    context = start()
    seen: list[Any] = []
    context.established = seen.append
    ws = core.open(number(context))
    portico.service(0)
    with pytest.raises(ValueError, match="not UTF-8 can't be sent as text, which is_binary=True would change"):
        websocket_write(b"\xff", seen[0])
    with pytest.raises(ValueError, match="is_binary=True"):
        websocket_broadcast(b"\xff", context)
    for wrong in (1, {"a": 1}, None):
        with pytest.raises(TypeError, match="str"):
            websocket_write(wrong, seen[0])  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="str"):
            websocket_broadcast(wrong, context)  # type: ignore[arg-type]
    for other in (context, ws, None):  # a server has many; a number is no WebSocket
        with pytest.raises(TypeError, match="expected what a context's callback got as ws"):
            websocket_write("x", other)  # type: ignore[arg-type]
    core.full.add(ws)
    assert websocket_write("x", seen[0]) is SendResult.FULL
    core.closed(ws)
    portico.service(0)
    assert websocket_write("x", seen[0]) is SendResult.CLOSED
    assert websocket_close(seen[0]) is SendResult.CLOSED
    assert websocket_broadcast("x", context) == 0


def test_websockets_of_other_doors_are_not_ours(core: FakeCore) -> None:
    seen: list[Any] = []
    server = portico.start_server("127.0.0.1", 0, {"on_ws_open": seen.append}, quiet=True)
    core.open(number_of(server))
    portico.service(0)
    with pytest.raises(TypeError, match="expected what a context's callback got"):
        websocket_write("x", seen[0])


def test_closing_a_context_stops_its_server_once(core: FakeCore) -> None:
    context = start()
    closed: list[Any] = []
    context.closed = lambda ws: closed.append((ws.id, ws.close_code))
    numbers = [core.open(number(context)) for _ in range(2)]
    portico.service(0)
    assert websocket_close(context) is SendResult.SENT
    assert closed == [(one, 1001) for one in numbers]
    assert websocket_close(context) is SendResult.CLOSED
    assert websocket_broadcast("x", context) == 0


def test_nothing_of_a_connection_is_left(core: FakeCore) -> None:
    from portico.doors import context as door

    asked: list[int] = []
    context = start(lambda socket, header: asked.append(socket))
    for _ in range(3):
        core.closed(core.open(number(context)))
        core.gone(core.request(number(context)))
    for _ in range(3):
        portico.service(0)
    assert [ws for ws, one in door._contexts.items() if one is context] == []
    assert [socket for socket in asked if socket in door._unanswered] == []


# HTTP


def test_static_answers_at_once(core: FakeCore) -> None:
    context = start(lambda socket, header: http_response(socket, content=header["RESOURCE"]))
    for target in ("/a", "/b?c"):
        core.request(number(context), target)
    portico.service(0)
    assert answers(core) == [(200, HTML, "/a"), (200, HTML, "/b?c")]


def test_without_static_and_without_an_answer_it_is_404(core: FakeCore) -> None:
    context = start()
    core.request(number(context))
    portico.service(0)
    context.static = lambda socket, header: True
    core.request(number(context))
    portico.service(0)
    assert answers(core) == [(404, TEXT, "404 Not Found\n")] * 2


def test_an_answer_that_is_returned_is_an_error_and_not_a_request_that_hangs(
    core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    async def static(socket: int, header: Any) -> bytes:
        return b"page"

    for webpage in (lambda socket, header: "page", static):
        core.request(number(start(webpage)))
    while len(core.said("respond")) < 2:
        portico.service(1)
    assert [answer[0] for answer in answers(core)] == [500, 500]
    assert "static answers by http_response(socket, content=…), and returned a bytes" in caplog.text


def test_a_callback_that_is_deleted_is_none(core: FakeCore) -> None:
    context = start(static_text_service("page"))
    del context.static
    core.request(number(context))
    portico.service(0)
    assert [answer[0] for answer in answers(core)] == [404]


def test_an_answer_may_come_later_from_any_thread_and_only_once(core: FakeCore) -> None:
    asked: list[int] = []
    said: list[bool] = []
    context = start(lambda socket, header: asked.append(socket))
    first, second = core.request(number(context)), core.request(number(context))
    portico.service(0)
    assert answers(core) == []
    assert len(set(asked)) == 2
    other = threading.Thread(target=lambda: said.append(http_response(asked[1], 201, None, b"late", {"X-A": "b"})))
    other.start()
    other.join()
    said += [http_response(asked[1]), http_response(asked[0], content="x"), http_response(asked[0])]
    while len(core.said("respond")) < 2:
        portico.service(1)
    assert said == [True, False, True, False]
    by_number = {answer[0]: (answer[1], answer[3], answer[4]) for answer in core.said("respond")}
    assert by_number == {second: (201, [("X-A", "b")], b"late"), first: (200, HTML, "x")}


def test_a_client_that_left_has_nobody_to_answer(core: FakeCore) -> None:
    asked: list[int] = []
    context = start(lambda socket, header: asked.append(socket))
    one = core.request(number(context))
    portico.service(0)
    core.gone(one)
    for _ in range(2):
        portico.service(0)
    assert http_response(asked[0]) is False
    assert http_response(10**9) is False
    for _ in range(2):
        portico.service(0)
    assert [answer for answer in answers(core) if answer[0] == 200] == []


def test_static_may_be_a_coroutine(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    async def static(socket: int, header: Any) -> object:
        await asyncio.sleep(0)
        if header["RESOURCE"] == "/now":
            http_response(socket, content="now")
        elif header["RESOURCE"] == "/late":
            asked.append(socket)
        elif header["RESOURCE"] == "/bad":
            raise LookupError("secret")
        return header["RESOURCE"] == "/none"

    context = start(static)
    numbers = [core.request(number(context), target) for target in ("/now", "/late", "/bad", "/none")]
    while len(core.said("respond")) < 3:
        portico.service(1)
    assert http_response(asked[0], content="late")
    while len(core.said("respond")) < 4:
        portico.service(1)
    by_number = {answer[0]: (answer[1], answer[4]) for answer in core.said("respond")}
    assert [by_number[one] for one in numbers] == [
        (200, "now"),
        (200, "late"),
        (500, "500 Internal Server Error\n"),
        (404, "404 Not Found\n"),
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_coroutine_whose_client_left_has_nobody_to_answer(core: FakeCore) -> None:
    asked: list[int] = []

    async def static(socket: int, header: Any) -> None:
        asked.append(socket)

    context = start(static)
    one = core.request(number(context))
    while not asked:
        portico.service(0)
    core.gone(one)
    for _ in range(3):
        portico.service(0)
    assert http_response(asked[0]) is False


def test_static_that_raises_is_a_500_and_the_log_knows(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    context = start(lambda socket, header: http_response(socket, headers={"X": "a\r\nSet-Cookie: b"}))
    core.request(number(context))
    portico.service(0)
    assert answers(core) == [(500, TEXT, "500 Internal Server Error\n")]
    assert "no header can be called 'X'" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"status": "200"}, TypeError, "status must be an int"),
        ({"status": 99}, ValueError, "between 200 and 599"),
        ({"content": None}, TypeError, "content must be str or bytes, not NoneType"),
        ({"content": {"file": "/etc/passwd"}}, TypeError, "content must be str or bytes, not dict"),
        ({"content_type": 1}, TypeError, "the value must be a str"),
        ({"content_type": "a\nb"}, ValueError, "no header can be called 'Content-Type'"),
        ({"headers": {"a b": "c"}}, ValueError, "no header can be called 'a b'"),
        ({"headers": {"a": "c\0"}}, ValueError, "no header can be called 'a'"),
        ({"headers": ["a: b"]}, TypeError, "pairs"),
    ],
)
def test_what_http_cannot_carry_is_refused_where_it_is_said(arguments: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        http_response(1, **arguments)


def test_headers_of_an_answer(core: FakeCore) -> None:
    fields: list[Any] = [{"content-type": "text/csv"}, {"Set-Cookie": ["a=1", "b=2"]}, [("X-A", "1"), ("X-A", "2")]]
    context = start(lambda socket, header: http_response(socket, headers=fields.pop(0)))
    for _ in range(3):
        core.request(number(context))
    portico.service(0)
    assert [answer[1] for answer in answers(core)] == [
        [("content-type", "text/csv")],
        [*HTML, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        [*HTML, ("X-A", "1"), ("X-A", "2")],
    ]


def header(target: str = "/", **parts: Any) -> RequestHeader:
    return RequestHeader(Request(request_parts(0, target, **parts), ("127.0.0.1", 1)))


def test_a_header_is_a_mapping_of_the_request() -> None:
    fields = [("Host", "h"), ("X-Two", "1"), ("x-two", "2"), ("TYPE", "forged"), ("raw", "forged")]
    read = header("/a%20b?c=d", method="PUT", headers=fields)
    assert (read["GET"], read["TYPE"], read["PROT"]) == ("PUT /a%20b?c=d HTTP/1.1", "PUT", "HTTP/1.1")
    assert read["RESOURCE"] == "/a%20b?c=d"
    assert read["host"] == read["Host"] == "h"
    assert read["X-TWO"] == "1, 2"
    assert read["raw"].startswith("PUT /a%20b?c=d HTTP/1.1\r\nHost: h\r\nX-Two: 1\r\nx-two: 2\r\n")
    assert read["raw"].endswith("\r\n\r\n")
    assert list(read) == ["raw", "GET", "TYPE", "PROT", "RESOURCE", "Host", "X-Two"]
    assert (len(read), "host" in read, "cookie" in read, read.get("cookie")) == (7, True, False, None)
    assert read.request.path == "/a b"
    assert repr(read) == "<RequestHeader PUT /a%20b?c=d HTTP/1.1>"


FORM = [("Content-Type", "application/x-www-form-urlencoded")]


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"target": "/"}, None),
        ({"target": "/?"}, None),
        ({"target": "/?a=1&b=%C3%A9+x&c=&d"}, {"a": "1", "b": "é x", "c": "", "d": None}),
        ({"target": "/?a=1&a=2"}, {"a": "1"}),
        ({"target": "/?a+b"}, {"a b": None}),
        ({"target": "/?a=1", "method": "HEAD"}, {"a": "1"}),
        ({"method": "POST", "headers": FORM, "body": b"a=1&b=%C3%A9+x&c="}, {"a": "1", "b": "é x", "c": ""}),
        ({"method": "POST", "headers": FORM, "body": b""}, None),
        ({"method": "POST", "target": "/?q=1", "headers": FORM, "body": b"a=1"}, {"a": "1"}),
        ({"method": "POST", "headers": [("Content-Type", "application/json")], "body": b"{}"}, None),
        ({"method": "POST", "body": b"x"}, None),
    ],
)
def test_vars_of_a_request(parts: Any, found: Any) -> None:
    assert http_vars(1, header(**parts)) == found


def test_vars_of_a_form_with_a_file() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\nA\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n\x00\xff\r\n--x--\r\n'
    )
    content_type = ("content-type", 'Multipart/Form-Data; boundary="x"')
    found = http_vars(1, header(method="POST", headers=[content_type], body=body))
    assert found is not None
    assert (found["title"], found["file"].filename, found["file"].body) == ("A", "f.bin", b"\x00\xff")


def test_vars_that_are_none() -> None:
    with pytest.raises(ValueError, match="malformed form"):
        http_vars(1, header(method="POST", headers=[("Content-Type", "multipart/form-data; boundary=x")], body=b"y"))
    with pytest.raises(ValueError, match="at most 1000"):
        http_vars(1, header("/?" + "a&" * 1001))
    with pytest.raises(TypeError, match="needs the header that static got, not dict"):
        http_vars(1, {})  # type: ignore[arg-type]


def test_a_file_is_served_as_it_is_then(core: FakeCore, tmp_path: Path) -> None:
    file = tmp_path / "page.svg"
    file.write_text("one")
    context = start(static_file_service(file))

    def ask() -> tuple[Any, ...]:
        one = core.request(number(context), "/any")
        portico.service(0)
        return core.commands[-1][2], core.commands[-1][4], bytes(core.bodies.get(one, b""))

    assert ask() == (200, [("Content-Type", "image/svg+xml")], b"one")
    file.write_text("two, of the same minute")
    assert ask()[2] == b"two, of the same minute"
    times = file.stat()
    file.write_text("3")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # whatever its date says
    assert ask()[2] == b"3"
    file.unlink()
    assert ask()[:2] == (404, TEXT)
    file.write_text("again")
    assert ask()[2] == b"again"


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        static_file_service(tmp_path / "nothing.html")
    with pytest.raises(IsADirectoryError):
        static_file_service(tmp_path)
    with pytest.raises(TypeError, match="a path must be"):
        static_file_service(3)  # type: ignore[arg-type]


def test_a_text_is_served(core: FakeCore) -> None:
    context = start(static_text_service("Grüße"))
    core.request(number(context))
    portico.service(0)
    context.static = static_text_service(b"{}", "application/json")
    core.request(number(context))
    portico.service(0)
    assert answers(core) == [(200, HTML, "Grüße"), (200, [("Content-Type", "application/json")], b"{}")]


# daemonize


def test_a_script_is_daemonized_on_a_thread(cores: list[FakeCore]) -> None:
    context = start()
    port, before = context.port, context.server
    opened = threading.Event()
    context.established = lambda ws: opened.set()
    daemonize(context)
    assert before is not None and before.state == "stopped"
    assert context.port == port
    daemonize(context)
    assert len(cores) == 2
    cores[1].open(number(context))
    assert opened.wait(10)
    assert websocket_close(context) is SendResult.SENT
    assert context.server is not None
    context.server.wait_closed()


def test_a_loop_is_a_daemon_already(core: FakeCore) -> None:
    async def main() -> None:
        context = start()
        before = context.server
        daemonize(context)
        assert context.server is before
        heard = asyncio.Event()
        context.established = lambda ws: heard.set()
        core.open(number(context))
        await asyncio.wait_for(heard.wait(), 10)
        websocket_close(context)
        assert before is not None
        await before.wait_closed()

    asyncio.run(main())


def test_daemonize_needs_a_server_and_an_idle_thread(core: FakeCore) -> None:
    stopped = start()
    websocket_close(stopped)
    for wrong in (create_context(server=False), stopped):
        with pytest.raises(ValueError, match=r"needs a context whose server runs; for a client: websocket"):
            daemonize(wrong)
    told: list[str] = []

    def established(ws: Any) -> None:
        with pytest.raises(RuntimeError) as caught:
            daemonize(context)
        told.append(str(caught.value))

    context = start()
    context.established = established
    core.open(number(context))
    portico.service(0)
    assert told == ["daemonize() was called inside a callback; callbacks do not nest, so return instead"]
    assert context.server is not None and context.server.is_running


# Clients


def websocket_in_callbacks(core: FakeCore, context: Context | None = None, **options: Any) -> int:
    """A client that the core agrees to at once; its connection's number."""
    connect = core.connect

    def connect_and_agree(address: Any, config: Any) -> int:
        number = connect(address, config)
        core.connected(number, subprotocol=(config["websocket"][0] or [None])[0])
        core.message(number, "greeting")
        return number

    core.connect = connect_and_agree  # type: ignore[method-assign]
    try:
        made.append(websocket("ws://127.0.0.1:8000/chat", context=context, **options))
    finally:
        core.connect = connect  # type: ignore[method-assign]
    client = made[-1].client
    assert client is not None
    return client.id


made: list[Context] = []


def test_a_client_hears_what_came_before_its_callbacks_were_set(core: FakeCore) -> None:
    client = websocket_in_callbacks(core, subprotocol="chat")
    context = made[-1]
    heard: list[Any] = []
    context.established = lambda ws: heard.append(("established", ws.subprotocol))
    context.receive = lambda data, ws, header: heard.append((data, header.opcode, websocket_write("back", ws)))
    context.closed = lambda ws: heard.append(("closed", ws.close_code))
    while len(heard) < 2:
        portico.service(context, 1)
    core.message(client, b"x")
    portico.service(context, 0)
    assert heard == [("established", "chat"), (b"greeting", 1, 0), (b"x", 2, 0)]
    assert websocket_write("more", context) is SendResult.SENT
    assert websocket_broadcast(b"all", context) == 1
    assert core.said("send") == [(client, one) for one in ("back", "back", "more", "all")]
    assert websocket_close(context, 4000, "done") is SendResult.SENT
    portico.service(context, 0)
    assert heard[-1] == ("closed", 4000)
    assert websocket_close(context) is SendResult.CLOSED
    assert websocket_write("late", context) is SendResult.CLOSED
    assert websocket_broadcast("late", context) == 0


def test_a_context_that_is_ready_hears_everything(core: FakeCore) -> None:
    context = create_context(server=False, is_binary=True)
    heard: list[Any] = []
    context.established = lambda ws: heard.append("established")
    context.receive = lambda data, ws, header: heard.append(data)
    client = websocket_in_callbacks(core, context)
    while len(heard) < 2:
        portico.service(context, 1)
    assert heard == ["established", b"greeting"]
    websocket_write("x", context)
    assert core.said("send") == [(client, b"x")]
    with pytest.raises(ValueError, match=r"<Context <Client .*>> is taken; websocket\(\) needs one of its own"):
        websocket("ws://127.0.0.1:1", context=context)
    with pytest.raises(ValueError, match="is taken"):
        websocket("ws://127.0.0.1:1", context=start())
    with context:
        pass
    assert core.said("close")[-1][:2] == (client, 1000)
    portico.service(0)
    again = websocket_in_callbacks(core, context)  # it is over, and may come back
    assert again != client
    while len(heard) < 4:
        portico.service(context, 1)
    assert heard[2:] == ["established", b"greeting"]


def test_a_client_that_is_refused_raises_and_leaves_nothing(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    connect = core.connect

    def connect_and_fail(address: Any, config: Any) -> int:
        number = connect(address, config)
        core.failed(number, WHY_SYSTEM, errno.ECONNREFUSED)
        return number

    core.connect = connect_and_fail  # type: ignore[method-assign]
    context = create_context(server=False)
    with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:8000"):
        websocket("ws://127.0.0.1", 8000, context=context)
    assert context.client is None
    with pytest.raises(ConnectionRefusedError), create_context(server=False) as context:
        websocket("ws://127.0.0.1", 8000, context=context)
    assert portico.home.current_home().residents == {}
    assert caplog.records == []


def test_in_a_callback_it_returns_at_once_and_a_failure_is_logged(
    core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []

    def established(ws: Any) -> None:
        client = websocket("ws://127.0.0.1:8000")
        client.established = lambda ws: heard.append("open")
        made.append(client)

    context = start()
    context.established = established
    for _ in range(2):
        core.open(number(context))
    portico.service(0)
    good, bad = sorted(core.calling)
    core.connected(good)
    core.failed(bad, WHY_SYSTEM, errno.ECONNREFUSED)
    while not heard:
        portico.service(1)
    assert heard == ["open"]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "Connection refused: 127.0.0.1:8000" in caplog.text


def test_a_client_on_a_thread_of_its_own_is_waited_for(cores: list[FakeCore], monkeypatch: pytest.MonkeyPatch) -> None:
    connect = FakeCore.connect

    def connect_and_agree(core: FakeCore, address: Any, config: Any) -> int:
        number = connect(core, address, config)
        core.connected(number)
        return number

    monkeypatch.setattr(FakeCore, "connect", connect_and_agree)
    heard = threading.Event()
    context = websocket("ws://127.0.0.1:8000", callbacks="thread")
    context.receive = lambda data, ws, header: heard.set()
    assert context.client is not None
    cores[1].message(context.client.id, "x")
    assert heard.wait(10)
    websocket_close(context)
    context.client._home.thread.join(10)  # it ends with its last client


@pytest.mark.parametrize(
    ("url", "port", "address"),
    [
        ("ws://127.0.0.1", 80, ("127.0.0.1", 80)),
        ("ws://127.0.0.1", 7681, ("127.0.0.1", 7681)),
        ("ws://127.0.0.1:8000/a?b", 80, ("127.0.0.1", 8000)),
        ("ws://127.0.0.1:8000/a?b", 8000, ("127.0.0.1", 8000)),
        ("ws://[::1]/a", 8000, ("::1", 8000)),
        ("ws://127.0.0.1:/", 8000, ("127.0.0.1", 8000)),
        ("unix:/s", 8000, "/s"),
    ],
)
def test_url_and_port_say_where(core: FakeCore, url: str, port: int, address: Any) -> None:
    connect = core.connect

    def connect_and_agree(address: Any, config: Any) -> int:
        core.connected(number := connect(address, config))
        return number

    core.connect = connect_and_agree  # type: ignore[method-assign]
    websocket(url, port)
    assert core.said("connect") == [(address,)]


@pytest.mark.parametrize(
    ("url", "port", "error", "says"),
    [
        ("127.0.0.1", 80, ValueError, "a WebSocket URL begins with"),
        ("ws://127.0.0.1:8000", 9000, ValueError, "says another port than port=9000"),
        ("ws://127.0.0.1", "80", TypeError, "port must be an int, not str"),
        ("ws://127.0.0.1", True, TypeError, "port must be an int, not bool"),
        ("ws://127.0.0.1", 0, ValueError, "between 1 and 65535"),
        ("ws://127.0.0.1:x", 8000, ValueError, "is none"),
        (8000, 80, TypeError, "a URL must be a str"),
    ],
)
def test_urls_and_ports_that_are_none_are_refused(core: FakeCore, url: Any, port: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        websocket(url, port)
    assert core.said("connect") == []


def test_late_events_are_noticed(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    """What waits is told of as for any other door."""
    context = start()
    core.waited_s = 2.0
    core.open(number(context))
    with caplog.at_level(logging.WARNING):
        portico.service(context, 0)
    assert "events have waited 2.0 s" in caplog.text
