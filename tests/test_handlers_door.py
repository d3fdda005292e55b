"""The handlers door against a fake core: what its words mean, and what it refuses."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import (
    Response,
    format_sse,
    handler,
    handler_directory,
    handler_file,
    handler_inline,
    handler_redirect,
    handler_stream,
    handler_ws,
    http_server,
)
from portico.testing import FakeCore, number_of

TEXT = ("Content-Type", "text/plain; charset=utf-8")


def start(*handlers: Any, **options: Any) -> portico.Server:
    return http_server("http://127.0.0.1:0", handlers, quiet=True, **options).start()


def specs(core: FakeCore, server: portico.Server) -> list[Any]:
    return [spec[1:6] for spec in core.configs[number_of(server)]["routes"]]


def nothing(*_: Any) -> None: ...


# http_server


def test_server_listens_only_when_started(core: FakeCore) -> None:
    server = http_server("http://127.0.0.1:0", handler("/", nothing))
    assert (server.state, server.url, core.configs) == ("new", "http://127.0.0.1:0", {})
    assert server.start() is server
    assert server.start() is server
    assert (server.state, server.url) == ("running", f"http://127.0.0.1:{server.port}")
    assert server.port != 0
    server.close()
    assert server.state == "stopped"
    server.close()
    with pytest.raises(RuntimeError, match="a stopped server does not start again"):
        server.start()
    with http_server("http://127.0.0.1:0", [handler("/", nothing)]) as other:
        assert other.is_running
    assert other.state == "stopped"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("http://127.0.0.1:8000/", ("127.0.0.1", 8000)),
        ("ws://127.0.0.1", ("127.0.0.1", 80)),
        ("HTTP://[::1]:1", ("::1", 1)),
        ("http://localhost:0", ("127.0.0.1", 0)),
    ],
)
def test_url_says_where(url: str, address: Any) -> None:
    server = http_server(url)
    assert (server.host, server.port) in (address, ("::1", address[1]))


def test_url_can_be_a_unix_socket(tmp_path: Path) -> None:
    assert http_server(f"unix:{tmp_path}/s").name == f"{tmp_path}/s"


@pytest.mark.parametrize(
    ("url", "error", "says"),
    [
        ("127.0.0.1:8000", ValueError, "can't be at url '127.0.0.1:8000'; expected http://host:port"),
        ("http://", ValueError, "can't be at"),
        ("http://:80", ValueError, "can't be at"),
        ("ftp://h:1", ValueError, "can't be at"),
        ("http://h:1/path", ValueError, "can't be at"),
        ("http://h:1?q", ValueError, "can't be at"),
        ("http://user@h:1", ValueError, "can't be at"),
        ("http://127.0.0.1:99999", ValueError, "[Pp]ort"),
        ("http://127.0.0.1:x", ValueError, "[Pp]ort"),
        ("http://[::1", ValueError, "in url"),
        (8000, TypeError, "url must be a str, not int"),
        ("unix:", ValueError, "not a path for a unix socket"),
    ],
)
def test_url_of_another_kind_is_refused(url: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        http_server(url)


def test_what_is_no_handler_is_refused() -> None:
    for wrong in (nothing, "/", ("/", nothing)):
        with pytest.raises(TypeError, match="a handler is made by handler"):
            http_server("http://127.0.0.1:0", [wrong])  # type: ignore[list-item]


def test_a_clash_is_an_error_when_made_and_names_both() -> None:
    with pytest.raises(ValueError, match=r"GET '/a' \(nothing\) and GET '/a' \(an inline answer\)"):
        http_server("http://127.0.0.1:0", [handler("/a", nothing), handler_inline("/a", "x")])


# handler


def test_handlers_say_path_method_and_reach(core: FakeCore) -> None:
    server = start(
        handler("/a", nothing),
        handler("/a", nothing, "POST"),
        handler("/b", nothing, ["PUT", "PATCH"], True),
        handler("/c", nothing, method="*", prefix=True),
        handler("/d", nothing, stream_body=True),
    )
    assert specs(core, server) == [
        ("/a", False, ("GET",), 2, None),
        ("/a", False, ("POST",), 2, None),
        ("/b", True, ("PUT", "PATCH"), 2, None),
        ("/c", True, (), 2, None),
        ("/d", False, ("GET",), 2 | 8, None),
    ]
    with pytest.raises(ValueError, match="stream_body must be True or False; got 1"):
        handler("/", nothing, stream_body=1)  # type: ignore[arg-type]


def later(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


async def soon() -> str:
    return "x"


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("x", (200, [TEXT], "x")),
        (b"x", (200, [], b"x")),
        (None, (200, [], b"")),
        ({"status": 201, "body": "x"}, (201, [TEXT], "x")),
        ({"body": "x", "headers": {"content-TYPE": "text/csv"}}, (200, [("content-TYPE", "text/csv")], "x")),
        ({"body": b"x", "headers": {"A": "b"}}, (200, [("A", "b")], b"x")),
        ({"status": 204, "headers": {}}, (204, [], b"")),
        (Response(418, [("A", "b")], "x"), (418, [TEXT, ("A", "b")], "x")),
        (
            {"headers": {"Set-Cookie": ["a=1", "b=2"]}, "body": b""},
            (200, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b""),
        ),
        (later({"body": "x"}), (200, [TEXT], "x")),
    ],
)
def test_answer_is_what_was_said_and_a_content_type_for_text(core: FakeCore, value: Any, answer: Any) -> None:
    server = start(handler("/", lambda req: value))
    core.request(number_of(server))
    for _ in range(3):
        portico.service(0)
    [(_, status, _, fields, body, _)] = core.said("respond")
    assert (status, list(fields), body) == answer


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"status": 200.0, "body": "x"}, r"status must be an int, not float \(200.0\)"),
        ({"status": "404"}, "status must be an int, not str"),
        ({"status": True}, "status must be an int, not bool"),
        ({"status": 99}, "between 200 and 599; got 99"),
        ({"headers": ["Content-Type: text/html"]}, r"must hold \(name, value\) pairs"),
        ({"headers": {"A": 1}}, "header 'A': the value must be a str"),
        ({"headers": "A: b"}, "headers must be a mapping or a list"),
        ({"body": 7}, "a body must be .* not int"),
        (7, "a body must be .* not int"),
        ({"statsu": 200}, "unknown keys in a response: 'statsu'"),
    ],
)
def test_answer_of_a_wrong_kind_is_a_500_and_an_error_that_says_why(
    core: FakeCore, caplog: pytest.LogCaptureFixture, value: Any, says: str
) -> None:
    server = start(handler("/", lambda req: value))
    core.request(number_of(server))
    portico.service(0)
    [(_, status, _, _, body)] = core.said("respond")
    assert (status, body) == (500, "500 Internal Server Error\n")
    [record] = caplog.records
    assert record.levelno == logging.ERROR and record.exc_info is not None
    with pytest.raises((TypeError, ValueError), match=says):
        raise record.exc_info[1]  # type: ignore[misc]


def test_callbacks_must_be_callable_and_methods_methods(tmp_path: Path) -> None:
    wrong: list[Any] = [
        lambda: handler("/", "x"),  # type: ignore[arg-type]
        lambda: handler_ws("/", None),  # type: ignore[arg-type]
        lambda: handler_ws("/", nothing, "x"),  # type: ignore[arg-type]
        lambda: handler_ws("/", nothing, None, 7),  # type: ignore[arg-type]
        lambda: handler_stream("/", None),  # type: ignore[arg-type]
        lambda: handler_stream("/", nothing, "x"),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with pytest.raises(TypeError, match="must be callable"):
            make()
    for method in ("get", "", [], None, 7, [7]):
        with pytest.raises((TypeError, ValueError), match="method"):
            handler("/", nothing, method)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="begins with '/'"):
        handler("a", nothing)


# Answers without Python


def test_inline_and_redirect_are_native(core: FakeCore) -> None:
    server = start(
        handler_inline("/a", "é"),
        handler_inline("/b", b"\0", "image/gif", prefix=True),
        handler_redirect("/c", "/a"),
        handler_redirect("/d", "https://example.org/é", 308, True),
    )
    assert specs(core, server) == [
        ("/a", False, ("GET",), 0, (200, [("Content-Type", "application/octet-stream")], "é".encode())),
        ("/b", True, ("GET",), 0, (200, [("Content-Type", "image/gif")], b"\0")),
        ("/c", False, (), 0, (302, [("Location", "/a")], b"")),
        ("/d", True, (), 0, (308, [("Location", "https://example.org/%C3%A9")], b"")),
    ]


def test_inline_and_redirect_refuse_nonsense_when_made() -> None:
    for data in (None, 7, ["x"], {"file": "x"}):
        with pytest.raises(TypeError, match="data must be str or bytes"):
            handler_inline("/", data)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="content_type must be a str or None"):
        handler_inline("/", "x", 7)  # type: ignore[arg-type]
    for status in (200, 300, 304, 305, 306, 404, 302.0, True, "302"):
        with pytest.raises((TypeError, ValueError), match=r"one of 301, 302, 303, 307, 308|status must be an int"):
            handler_redirect("/", "/a", status)  # type: ignore[arg-type]
    for location in ("", "/a\r\nSet-Cookie: a=1", 7):
        with pytest.raises((TypeError, ValueError), match="a location must"):
            handler_redirect("/", location)  # type: ignore[arg-type]


def test_files_are_native(core: FakeCore, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    server = start(
        handler_directory("/d/", tmp_path, listing=True),
        handler_file("/f", tmp_path / "f"),
        handler_file("/g", str(tmp_path / "f"), prefix=True, headers={"A": "b"}),
    )
    files = core.configs[number_of(server)]["files"]
    assert [(name, root, options[7], options[9]) for name, root, options in files] == [
        ("/d", f"{tmp_path}", True, 0),
        ("/f", f"{tmp_path}/f", False, 1),
        ("/g", f"{tmp_path}/f", False, 2),
    ]
    assert files[2][2][3] == (("A", "b"),)


def test_files_that_are_not_there_are_refused_when_made(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(FileNotFoundError, match="missing"):
        handler_file("/", tmp_path / "missing")
    with pytest.raises(ValueError, match="handler_file needs a file"):
        handler_file("/", tmp_path)
    with pytest.raises(ValueError, match="handler_directory needs a directory"):
        handler_directory("/", tmp_path / "f")
    with pytest.raises(TypeError, match="unknown"):
        handler_directory("/", tmp_path, unknown=True)


# handler_ws


def test_websocket_callbacks_get_what_the_seed_says(core: FakeCore) -> None:
    calls: list[Any] = []
    server = start(
        handler_ws(
            "/ws",
            lambda ws, data: calls.append(("message", ws.id, data)),
            lambda ws, req: calls.append(("open", ws.id, req.uri, req.headers["authorization"])),
            lambda ws: calls.append(("close", ws.id, ws.close_code, ws.close_reason)),
        )
    )
    number = core.open(number_of(server), "/ws?a=1", headers=[("Authorization", "me")])
    core.message(number, b"x")
    core.closed(number, 4001, "bye")
    portico.service(0)
    assert calls == [
        ("open", number, "/ws?a=1", "me"),
        ("message", number, b"x"),
        ("close", number, 4001, "bye"),
    ]


def test_websocket_options_reach_the_route(core: FakeCore) -> None:
    server = start(
        handler_ws("/a", nothing),
        handler_ws("/b", nothing, textframes=True, allowed_origins="*", slow_client="drop_new"),
        handler_ws("/c", nothing, textframes=None),
        handler_ws("/d", nothing, None, nothing, None, deflate=True, subprotocols=["x"], allowed_origins=["http://a"]),
    )
    assert [spec[6] for spec in core.configs[number_of(server)]["routes"]] == [
        ((), False, None, 0, 2, None),
        ((), False, None, 1, 1, ("*",)),
        None,
        (("x",), False, (6, 15, 860, False), 0, 0, ("http://a",)),
    ]
    for wrong in ({"textframes": "text"}, {"textframes": 1}, {"allowed_origins": 7}, {"deflate": 1}):
        with pytest.raises(TypeError):
            handler_ws("/", nothing, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("textframes", "sent"),
    [
        (True, ["é", "é", "é", "é"]),
        (False, [b"\xc3\xa9", "é".encode(), bytearray(b"\xc3\xa9"), memoryview(b"\xc3\xa9")]),
        (None, ["é", "é".encode(), bytearray(b"\xc3\xa9"), memoryview(b"\xc3\xa9")]),
    ],
)
def test_textframes_fix_what_is_sent(core: FakeCore, textframes: Any, sent: Any) -> None:
    data = ["é", "é".encode(), bytearray("é".encode()), memoryview("é".encode())]
    server = start(handler_ws("/", lambda ws, _: [ws.send(one) for one in data], textframes=textframes))
    core.message(core.open(number_of(server)), b"")
    portico.service(0)
    assert [said[1] for said in core.said("send")] == sent


def test_bytes_that_are_no_text_are_an_error_on_a_text_route(core: FakeCore) -> None:
    errors: list[ValueError] = []

    def on_message(ws: portico.WebSocket, data: str) -> None:
        for wrong in (b"\xff", memoryview(b"\xc3"), bytearray(b"\xed\xa0\x80")):
            with pytest.raises(ValueError, match="bytes that are not UTF-8 can't be sent as text") as caught:
                ws.send(wrong)
            errors.append(caught.value)
        with pytest.raises(TypeError):
            ws.send(7)  # type: ignore[arg-type]

    server = start(handler_ws("/", on_message, textframes=True))
    core.message(core.open(number_of(server)), "x")
    portico.service(0)
    assert len(errors) == 3 and core.said("send") == []


@pytest.mark.parametrize("is_async", [False, True])
def test_on_open_may_refuse_and_no_message_is_heard(core: FakeCore, is_async: bool) -> None:
    calls: list[Any] = []

    def refuse(ws: portico.WebSocket, req: portico.Request) -> None:
        ws.close(4403, "not you")

    async def refuse_later(ws: portico.WebSocket, req: portico.Request) -> None:
        refuse(ws, req)

    server = start(
        handler_ws(
            "/",
            lambda ws, data: calls.append(data),
            refuse_later if is_async else refuse,
            lambda ws: calls.append((ws.close_code, ws.close_reason)),
        )
    )
    number = core.open(number_of(server))
    core.message(number, b"too early")
    for _ in range(4):
        portico.service(0)
    assert core.said("close") == [(number, 4403, "not you")]
    assert calls == [(4403, "not you")]


# format_sse


@pytest.mark.parametrize(
    ("arguments", "event"),
    [
        ({"data": "test"}, "data: test\n\n"),
        ({"data": ""}, "data: \n\n"),
        ({"data": "a\nb\r\nc\rd\n"}, "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
        ({"data": "test", "event": "e", "id": "2", "retry": 500}, "event: e\nid: 2\nretry: 500\ndata: test\n\n"),
        ({"data": "x", "id": 7}, "id: 7\ndata: x\n\n"),
        ({"data": "x", "id": ""}, "id: \ndata: x\n\n"),
        ({"data": None, "comment": ""}, ": \n\n"),
        ({"data": "x", "comment": "a\nb"}, ": a\n: b\ndata: x\n\n"),
        ({"data": None, "retry": 0}, "retry: 0\n\n"),
    ],
)
def test_events_are_formatted(arguments: Any, event: str) -> None:
    assert format_sse(**arguments) == event


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"data": "x", "event": "a\nb"}, ValueError, "event must have no line ends"),
        ({"data": "x", "event": "a\rdata: y"}, ValueError, "event must have no line ends"),
        ({"data": "x", "id": "a\n\ndata: y"}, ValueError, "id must have no line ends"),
        ({"data": "x", "id": "\0"}, ValueError, "id must have no line ends or NULs"),
        ({"data": "x", "id": 1.5}, TypeError, "id must be a str"),
        ({"data": "x", "retry": -1}, ValueError, "retry must be a whole number"),
        ({"data": "x", "retry": 1.5}, ValueError, "retry must be a whole number"),
        ({"data": "x", "retry": "1\ndata: y"}, ValueError, "retry must be a whole number"),
        ({"data": b"x"}, TypeError, "data must be a str, not bytes"),
        ({"data": {"a": 1}}, TypeError, "json.dumps"),
        ({"data": None}, ValueError, "an event of nothing"),
    ],
)
def test_events_of_somebody_elses_making_are_refused(arguments: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        format_sse(**arguments)
