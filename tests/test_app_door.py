"""httpuv's door: what an app may be, and the functions around it."""

from __future__ import annotations

import asyncio
import errno
import threading
import webbrowser
from pathlib import Path
from typing import Any

import pytest

import portico
from portico.testing import FakeCore, number_of


def start(app: Any, **options: Any) -> portico.Server:
    return portico.start_server("127.0.0.1", 0, app, True, **options)


def answers(core: FakeCore) -> list[tuple[int, Any]]:
    portico.service(0)
    return [(answer[1], answer[4]) for answer in core.said("respond")]


class Hello:
    def call(self, req: portico.Request) -> str:
        return "hello"


class WithCall:
    """A callable object; the method named in the contract wins."""

    def call(self, req: portico.Request) -> str:
        return "hello"

    def __call__(self, req: portico.Request) -> str:
        return "never"


@pytest.mark.parametrize(
    "app",
    [
        Hello(),
        {"call": lambda req: "hello"},
        lambda req: "hello",
        Hello().call,
        WithCall(),
        {"call": Hello().call, "on_headers": None},
    ],
)
def test_forms_of_an_app(core: FakeCore, app: Any) -> None:
    core.request(number_of(start(app)))
    assert answers(core) == [(200, "hello")]


@pytest.mark.parametrize("app", [None, 7, {}, object(), type("Empty", (), {}), "app", {"static_paths": {}}])
def test_app_without_a_callable_is_refused(core: FakeCore, app: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="an app is a function"):
        start(app)
    assert portico.list_servers() == []


def test_misspelt_member_of_a_mapping_is_refused(core: FakeCore) -> None:
    with pytest.raises(ValueError, match=r"'onHeaders'.*expected.*on_headers"):
        start({"call": print, "onHeaders": print})
    with pytest.raises(TypeError, match="on_headers must be callable"):
        start({"call": print, "on_headers": "x"})


def test_static_paths_are_read_at_the_start(core: FakeCore, tmp_path: Path) -> None:
    class App(Hello):
        static_paths: Any = {"www": tmp_path, "/www/private/": portico.exclude_static_path()}  # noqa: RUF012
        static_path_options = portico.static_path_options(listing=True)

    app = App()
    server = start(app)
    app.static_paths["/later"] = tmp_path
    assert [spec[:2] for spec in core.files[number_of(server)]] == [("/www", str(tmp_path)), ("/www/private", None)]
    assert server.static_path_options.listing
    core.request(number_of(server))
    assert answers(core) == [(200, "hello")]


def test_app_may_be_nothing_but_static_paths(core: FakeCore, tmp_path: Path) -> None:
    server = start({"static_paths": {"/": tmp_path}, "static_path_options": {"fallthrough": True}})
    assert [spec[:2] for spec in core.files[number_of(server)]] == [("/", str(tmp_path))]
    core.request(number_of(server), "/missing")
    assert answers(core) == [(404, b"404 Not Found\n")]


def test_empty_static_members_are_none(core: FakeCore) -> None:
    for app in ({"call": print, "static_paths": {}, "static_path_options": {}}, {"call": print, "static_paths": None}):
        assert core.files[number_of(start(app))] == []


@pytest.mark.parametrize(
    ("members", "error", "says"),
    [
        ({"static_paths": "www"}, TypeError, "must be a mapping of URL paths.*'www'"),
        ({"static_paths": {"/": "/no/such/directory"}}, FileNotFoundError, "/no/such/directory"),
        ({"static_paths": {"/": 7}}, TypeError, r"not int \(7\)"),
        ({"static_paths": {"": "/"}}, ValueError, "must not be empty"),
        ({"static_path_options": {"index": True}}, ValueError, "unknown static path options: 'index'; expected dotfil"),
        ({"static_path_options": True}, TypeError, "or a mapping; got True"),
    ],
)
def test_wrong_static_members_are_refused(core: FakeCore, members: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        start({"call": print, **members})
    with pytest.raises(error, match=says):
        portico.run_server("127.0.0.1", 0, {"call": print, **members})
    assert portico.list_servers() == []


def test_missing_call_is_404_and_websocket_only_is_left_to_native(core: FakeCore) -> None:
    headers_only = start({"on_headers": lambda req: None})
    core.request(number_of(headers_only))
    assert answers(core) == [(404, b"404 Not Found\n")]
    server = start({"on_ws_open": print})
    assert [route[:7] for route in core.configs[number_of(server)]["routes"]] == [(0, "/", True, (), 4, None, None)]


def test_call_only_wants_no_handshakes_and_no_heads(core: FakeCore) -> None:
    [route] = core.configs[number_of(start(Hello()))]["routes"]
    assert route[:7] == (0, "/", True, (), 2, None, None)


def test_on_headers_guards(core: FakeCore) -> None:
    server = start(
        {"call": lambda req: "x", "on_headers": lambda req: None if "token" in req.headers else {"status": 401}}
    )
    refused = core.head(number_of(server))
    passed = core.head(number_of(server), headers=[("Token", "1")])
    portico.service(0)
    assert core.commands == [("respond", refused, 401, None, [], b"", False), ("proceed", passed)]


def test_websocket_echo(core: FakeCore) -> None:
    server = start({"on_ws_open": lambda ws: ws.on_message(lambda binary, message: ws.send(message))})
    number = core.open(number_of(server))
    core.message(number, "x")
    portico.service(0)
    assert core.said("send") == [(number, "x")]


WEBSOCKETS: dict[str, Any] = {
    "subprotocols": ["chat.v2", "chat"],
    "requires_subprotocol": True,
    "deflate": portico.Deflate(level=1, window_bits=12, min_bytes=0, context_takeover=True),
    "slow_client": "drop_oldest",
}
WEBSOCKETS_SPEC = (("chat.v2", "chat"), True, (1, 12, 0, True), 2, 0, None)


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, None),
        ({"deflate": False, "subprotocols": [], "slow_client": "close"}, None),
        ({"deflate": True}, ((), False, (6, 15, 860, False), 0, 0, None)),
        ({"slow_client": "drop_new"}, ((), False, None, 1, 0, None)),
        (WEBSOCKETS, WEBSOCKETS_SPEC),
    ],
)
def test_websocket_options_reach_the_apps_route_only(core: FakeCore, options: Any, spec: Any) -> None:
    server = start({"on_ws_open": print}, inline={"/x": ("text/plain", "x")}, **options)
    assert [route[6] for route in core.configs[number_of(server)]["routes"]] == [spec, None]


def test_every_way_to_start_takes_websocket_options(core: FakeCore, tmp_path: Path) -> None:
    app = {"on_ws_open": print}
    portico.start_pipe_server(tmp_path / "s", None, app, True, **WEBSOCKETS)
    listen = core.listen

    def interrupt(address: Any, config: Any) -> Any:
        found = listen(address, config)
        core.open(found[0])
        return found

    core.listen = interrupt  # type: ignore[method-assign]
    portico.run_server("::1", 0, {"on_ws_open": lambda ws: portico.interrupt()}, quiet=True, **WEBSOCKETS)
    told = [[route[:7] for route in config["routes"]] for config in core.configs.values()]
    assert told == [[(0, "/", True, (), 4, None, WEBSOCKETS_SPEC)]] * 2


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"deflate": 6}, TypeError, r"deflate must be True, False or portico\.Deflate.*got 6"),
        ({"deflate": None}, TypeError, "got None"),
        ({"subprotocols": "chat"}, TypeError, "list of names; got 'chat'"),
        ({"requires_subprotocol": True}, ValueError, "needs subprotocols"),
        ({"slow_client": "drop"}, ValueError, "'close', 'drop_new', 'drop_oldest'; got 'drop'"),
        ({"compression": True}, TypeError, "compression"),
    ],
)
def test_websocket_options_are_checked(core: FakeCore, options: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        start({"on_ws_open": print}, **options)
    with pytest.raises(error, match=says):
        portico.run_server("127.0.0.1", 0, {"on_ws_open": print}, **options)
    assert portico.list_servers() == []


def test_websocket_options_of_an_app_without_websockets_are_refused(core: FakeCore) -> None:
    with pytest.raises(ValueError, match="takes no WebSockets"):
        start(Hello(), deflate=True)


def test_inline_answers_become_native_routes(core: FakeCore) -> None:
    inline: Any = {
        "/": ("text/html", "<p>é"),
        "/b": ("application/octet-stream", b"\0"),
        "/r": portico.Response(410, {"A": ["1", "2"]}, "gone"),
    }
    server = start(Hello(), inline=inline)
    assert [route[:7] for route in core.configs[number_of(server)]["routes"][1:]] == [
        (1, "/", False, ("GET",), 0, (200, [("Content-Type", "text/html")], "<p>é".encode()), None),
        (2, "/b", False, ("GET",), 0, (200, [("Content-Type", "application/octet-stream")], b"\0"), None),
        (3, "/r", False, ("GET",), 0, (410, [("A", "1"), ("A", "2")], b"gone"), None),
    ]
    for bad, error in (({"x": ("a", b"")}, ValueError), ({"/x": b"abc"}, TypeError), ({"/x": (b"a", b"")}, TypeError)):
        with pytest.raises(error):
            start(Hello(), inline=bad)


def test_pipe_server(core: FakeCore, tmp_path: Path) -> None:
    modes = []
    for number, mask in enumerate((None, -1, 0o177, 0o777)):
        server = portico.start_pipe_server(tmp_path / str(number), mask, Hello(), quiet=True)
        assert server.name == str(tmp_path / str(number))
        modes.append(core.configs[number_of(server)]["mode"])
    assert modes == [None, None, 0o600, 0]
    wrong: list[Any] = ["177", 1.0, True]
    for mask in wrong:
        with pytest.raises(TypeError, match="mask"):
            portico.start_pipe_server("x", mask, Hello())
    with pytest.raises(TypeError, match="name"):
        portico.start_pipe_server(b"x", None, Hello())  # type: ignore[arg-type]


def test_run_server_serves_until_interrupted(core: FakeCore) -> None:
    def call(req: portico.Request) -> str:
        portico.interrupt()
        return "x"

    push = core.listen

    def listen(address: Any, config: Any) -> Any:
        found = push(address, config)
        core.request(found[0])
        return found

    core.listen = listen  # type: ignore[method-assign]
    portico.run_server("127.0.0.1", 0, call, quiet=True, inline={"/x": ("text/plain", "x")})
    assert len(core.said("respond")) == 1
    assert portico.list_servers() == []


def test_stopping(core: FakeCore) -> None:
    servers = [start(Hello()) for _ in range(3)]
    portico.stop_server(servers[0])
    assert portico.list_servers() == servers[1:]
    portico.stop_all_servers()
    assert portico.list_servers() == []
    with pytest.raises(TypeError, match="needs a Server"):
        portico.stop_server(7)  # type: ignore[arg-type]


def test_lone_number_for_service_is_the_timeout(core: FakeCore) -> None:
    server = start(Hello())
    assert portico.service(0) == portico.service(0.0) == portico.service(timeout=0) == portico.service(server, 0) == 0
    for arguments in ((1, 2), ("x",), (True,)):
        with pytest.raises(TypeError):
            portico.service(*arguments)
    with pytest.raises(ValueError, match="at least 0"):
        portico.service(-1)


def test_fileno_is_readable_when_there_is_something_to_do(core: FakeCore) -> None:
    import select

    server = start(Hello())
    assert select.select([portico.fileno()], [], [], 0)[0] == []
    core.request(number_of(server))
    assert select.select([portico.fileno()], [], [], 0)[0] == [portico.fileno()]


# A site without an app


def interrupt_after_listening(core: FakeCore) -> None:
    listen = core.listen

    def listen_and_interrupt(*arguments: Any) -> Any:
        found = listen(*arguments)
        threading.Timer(0.05, portico.interrupt).start()
        return found

    core.listen = listen_and_interrupt  # type: ignore[method-assign]


def test_static_server_serves_until_interrupted(
    core: FakeCore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after_listening(core)
    assert portico.run_static_server(tmp_path, listing=True) is None
    assert capsys.readouterr().out == f"Serving: '{tmp_path}'\nView at: http://127.0.0.1:7446\n"
    [config] = core.configs.values()
    [(name, root, options)] = config["files"]
    assert (name, root, options[7]) == ("/", str(tmp_path), True)
    assert [route[2:6] for route in config["routes"]] == [
        (True, ("GET",), 0, (404, [("Content-Type", "text/plain; charset=utf-8")], b"404 Not Found\n"))
    ]
    assert portico.list_servers() == []


def test_static_server_that_cannot_say_where_it_is_stops(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", fail)
    with pytest.raises(BrokenPipeError):
        portico.run_static_server(tmp_path, background=True)
    assert portico.list_servers() == []
    for thread in threading.enumerate():
        if thread.name == "portico":
            thread.join(10)  # it ends with its server
            assert not thread.is_alive()


def test_static_server_in_the_background(
    cores: list[FakeCore], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    server = portico.run_static_server(port=81, background=True)
    assert server is not None and server.is_running and server.port == 81
    assert cores[1].files[number_of(server)][0][:2] == ("/", str(tmp_path))
    assert server.static_paths == {"/": portico.static_path(tmp_path)}
    server.stop()
    server.wait_closed()


def test_static_server_takes_a_free_port_only_if_none_was_named(core: FakeCore, tmp_path: Path) -> None:
    interrupt_after_listening(core)
    ports: list[int] = []
    listen = core.listen

    def refuse(address: Any, config: Any) -> Any:
        ports.append(address[1])
        if address[1]:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return listen(address, config)

    core.listen = refuse  # type: ignore[method-assign]
    portico.run_static_server(tmp_path)
    assert ports == [7446, 0]
    with pytest.raises(OSError, match=r"127\.0\.0\.1:7446: Address already in use"):
        portico.run_static_server(tmp_path, port=7446)
    core.listen_error = PermissionError(errno.EACCES, "Permission denied")
    core.listen = listen  # type: ignore[method-assign]
    with pytest.raises(PermissionError):
        portico.run_static_server(tmp_path)


def test_static_server_checks_what_it_gets(core: FakeCore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        portico.run_static_server(tmp_path / "missing")
    with pytest.raises(TypeError, match="index"):
        portico.run_static_server(tmp_path, index=True)
    for port, error in (("80", TypeError), (70000, ValueError)):
        with pytest.raises(error, match="port must be"):
            portico.run_static_server(tmp_path, port=port)  # type: ignore[arg-type]

    async def main() -> None:
        portico.run_static_server(tmp_path)

    with pytest.raises(RuntimeError, match=r"would block the running event loop; use:.*background=True"):
        asyncio.run(main())
    assert core.configs == {}


def test_static_server_opens_a_browser_if_there_is_one(
    cores: list[FakeCore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    opened: list[str] = []

    def broken(url: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    says = []
    for way in (lambda url: opened.append(url) or True, lambda url: False, broken):
        monkeypatch.setattr(webbrowser, "open", way)
        caplog.clear()
        server = portico.run_static_server(tmp_path, port=81, browse=True, background=True)
        assert server is not None
        server.close()
        server.wait_closed()
        says += [caplog.messages]
    assert opened == ["http://127.0.0.1:81"]
    assert says == [
        [],
        ["no browser was opened: none was found"],
        ["no browser was opened: could not locate runnable browser"],
    ]


def test_gzip_is_for_all_answers(core: FakeCore) -> None:
    def told(app: Any = lambda req: "", **options: Any) -> list[Any]:
        server = portico.start_server("127.0.0.1", 0, app, quiet=True, **options)
        return [spec[7] for spec in core.configs[number_of(server)]["routes"]]

    inline = {"/a": ("text/plain", b"a")}
    default = (6, 860, portico.Gzip().types)
    assert told(inline=inline) == [None, None]
    assert told(inline=inline, gzip=True) == [default, default]
    assert told(gzip=portico.Gzip(level=1, min_bytes=0, types=["*/*"])) == [(1, 0, ("*/*",))]
    assert told({"on_ws_open": print}, inline=inline, gzip=True) == [None, default]
    with pytest.raises(ValueError, match="deflate is for WebSockets"):
        told({"on_ws_open": print}, gzip=True)
    for wrong in (1, None, "gzip", portico.Deflate()):
        with pytest.raises(TypeError, match=r"gzip must be True, False or portico.Gzip\(…\)"):
            told(gzip=wrong)
