"""httpuv's door: what an app may be, and the functions around it."""

from __future__ import annotations

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


def test_static_paths_are_announced_for_later(core: FakeCore) -> None:
    class App(Hello):
        static_paths = {"/": "."}  # noqa: RUF012

    for app in (App(), {"call": print, "static_paths": {"/": "."}}, {"call": print, "static_path_options": {"x": 1}}):
        with pytest.raises(ValueError, match="not available yet"):
            start(app)
    App.static_paths = {}
    start(App())


def test_missing_call_is_404_and_websocket_only_is_left_to_native(core: FakeCore) -> None:
    headers_only = start({"on_headers": lambda req: None})
    core.request(number_of(headers_only))
    assert answers(core) == [(404, "404 Not Found\n")]
    server = start({"on_ws_open": print})
    assert core.configs[number_of(server)]["routes"] == [("/", True, 4, None, None)]


def test_call_only_wants_no_handshakes_and_no_heads(core: FakeCore) -> None:
    assert core.configs[number_of(start(Hello()))]["routes"] == [("/", True, 2, None, None)]


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
WEBSOCKETS_SPEC = (("chat.v2", "chat"), True, (1, 12, 0, True), 2)


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, None),
        ({"deflate": False, "subprotocols": [], "slow_client": "close"}, None),
        ({"deflate": True}, ((), False, (6, 15, 860, False), 0)),
        ({"slow_client": "drop_new"}, ((), False, None, 1)),
        (WEBSOCKETS, WEBSOCKETS_SPEC),
    ],
)
def test_websocket_options_reach_the_apps_route_only(core: FakeCore, options: Any, spec: Any) -> None:
    server = start({"on_ws_open": print}, inline={"/x": ("text/plain", "x")}, **options)
    assert [route[4] for route in core.configs[number_of(server)]["routes"]] == [spec, None]


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
    assert [config["routes"] for config in core.configs.values()] == [[("/", True, 4, None, WEBSOCKETS_SPEC)]] * 2


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
    assert core.configs[number_of(server)]["routes"][1:] == [
        ("/", False, 0, (200, [("Content-Type", "text/html")], "<p>é".encode()), None),
        ("/b", False, 0, (200, [("Content-Type", "application/octet-stream")], b"\0"), None),
        ("/r", False, 0, (410, [("A", "1"), ("A", "2")], b"gone"), None),
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
