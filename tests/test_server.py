"""A server's life, and what it says about itself."""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import home
from portico.routes import Deflate, Route
from portico.server import Server
from portico.testing import FakeCore, number_of

DEADLINE_S = 10

ROUTES = [Route(prefix=True, on_request=lambda req: "x", on_open=lambda ws: None)]


def make(host: str = "127.0.0.1", port: int = 0, **options: Any) -> Server:
    return Server(ROUTES, (host, port), quiet=True, **options)


def config(core: FakeCore, server: Server) -> Any:
    return core.configs[number_of(server)]


# Facts


def test_port_is_the_bound_one(core: FakeCore) -> None:
    server = make().start()
    assert server.port != 0
    assert (server.host, server.name, server.url) == ("127.0.0.1", None, f"http://127.0.0.1:{server.port}")
    assert repr(server) == f"<Server {server.url} running clients=0>"
    assert f'<a href="{server.url}"' in server._repr_html_()
    core.open(number_of(server))
    core.open(number_of(server))
    assert server.clients == 2
    assert repr(server).endswith("running clients=2>")
    assert server.broadcast("x") == 2
    assert server.stats() == {"batches": 0}


@pytest.mark.parametrize(
    ("host", "url"), [("::1", "http://[::1]:81"), ("0.0.0.0", "http://127.0.0.1:81"), ("::", "http://[::1]:81")]
)
def test_url_is_one_a_browser_can_open(core: FakeCore, host: str, url: str) -> None:
    server = make(host, 81).start()
    assert (server.url, server.host) == (url, host)


def test_unix_socket(core: FakeCore, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = Server(ROUTES, path, quiet=True, mode=0o600).start()
    assert (server.name, server.host, server.port, server.url) == (path, None, None, f"unix:{path}")
    assert config(core, server)["mode"] == 0o600
    assert config(core, server)["allowed_hosts"] is None
    assert "<a" not in server._repr_html_()


def test_frame_shows_a_page_in_a_notebook(core: FakeCore) -> None:
    server = make().start()
    assert repr(server.frame()) == f"<Frame {server.url}/>"
    assert server.frame()._repr_html_() == (
        f'<iframe src="{server.url}/" style="width: 100%; height: 400px; border: 0"></iframe>'
    )
    shown = server.frame('/a?b=1&c="', prefix="/me/proxy/81/", width=300, height="50.5vh")._repr_html_()
    assert shown == (
        '<iframe src="/me/proxy/81/a?b=1&amp;c=&quot;" style="width: 300px; height: 50.5vh; border: 0"></iframe>'
    )


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("a", {}, "begins with '/'; got 'a'"),
        (b"/", {}, "begins with '/'"),
        ("/", {"height": -1}, "height must be a number of pixels or a CSS length"),
        ("/", {"height": True}, "height must be"),
        ("/", {"width": 1.5}, "width must be"),
        ("/", {"width": "100"}, "width must be"),
        ("/", {"width": '1px" onload="x'}, "width must be"),
        ("/", {"width": "1px; position: fixed"}, "width must be"),
        ("/", {"width": "1px\n"}, "width must be"),
        ("/", {"prefix": 81}, "prefix must be a str or None, not int"),
    ],
)
def test_frame_says_what_it_needs(core: FakeCore, path: Any, options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make().frame(path, **options)


def test_frame_of_a_unix_socket_needs_a_proxy(core: FakeCore, tmp_path: Path) -> None:
    server = Server(ROUTES, str(tmp_path / "s"), quiet=True)
    with pytest.raises(ValueError, match="unix socket; prefix="):
        server.frame()
    assert server.frame(prefix="/proxy").url == "/proxy/"


def test_replace_needs_a_port(core: FakeCore) -> None:
    with pytest.raises(ValueError, match=r"replace=True needs a port .* port 0"):
        make(replace=True)


def test_unstarted_server(core: FakeCore) -> None:
    server = make()
    assert repr(server) == "<Server http://127.0.0.1:0 new clients=0>"
    assert (server.is_running, server.clients, server.broadcast("x"), server.stats()) == (False, 0, 0, {})
    for job in (server.service, server.wait_closed):
        with pytest.raises(RuntimeError, match="has not been started"):
            job()
    server.stop()
    with pytest.raises(RuntimeError, match="does not start again"):
        server.start()


def test_broadcast_checks_the_type(core: FakeCore) -> None:
    with make() as server, pytest.raises(TypeError, match="str or bytes-like"):
        server.broadcast(7)  # type: ignore[arg-type]


# Addresses


@pytest.mark.parametrize("port", ["80", 80.0, None, True])
def test_port_of_another_type_is_refused(port: Any) -> None:
    with pytest.raises(TypeError, match="port must be an int"):
        make(port=port)


@pytest.mark.parametrize("port", [-1, 65536, 74469])
def test_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 65535"):
        make(port=port)


def test_host_must_be_named() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        make("")
    with pytest.raises(TypeError, match="host must be a str"):
        make(None)  # type: ignore[arg-type]


def test_name_binds_its_first_address(core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("::1", 0, 0, 0)), (0, 0, 0, "", ("127.0.0.1", 0))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    assert make("somewhere").start().host == "::1"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "1.2.3.4.5", "a..b", "x" * 70])
def test_host_that_does_not_resolve_is_named(host: str) -> None:
    with pytest.raises((OSError, ValueError), match=host):
        make(host)


def test_bind_failure_names_address_and_reason(core: FakeCore) -> None:
    core.listen_error = OSError(errno.EADDRINUSE, "Address already in use")
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:81: Address already in use") as caught:
        make(port=81).start()
    assert caught.value.errno == errno.EADDRINUSE
    core.listen_error = OSError(errno.EACCES, "Permission denied")
    with pytest.raises(PermissionError):
        make(port=81).start()
    assert portico.list_servers() == []
    core.listen_error = None
    assert make(port=81).start().is_running


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        Server(ROUTES, path)


def test_path_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(OSError, match=r"has 201 bytes, at most 10\d fit") as caught:
        Server(ROUTES, "/" + "x" * 200)
    assert caught.value.errno == errno.ENAMETOOLONG


# Policy


@pytest.mark.parametrize(
    ("host", "option", "expected"),
    [
        ("127.0.0.1", None, []),
        ("127.9.9.9", None, []),
        ("::1", None, []),
        ("::ffff:127.0.0.1", None, []),
        ("0.0.0.0", None, None),
        ("::", None, None),
        ("192.0.2.1", None, None),
        ("127.0.0.1", "*", None),
        ("127.0.0.1", ["*"], None),
        ("127.0.0.1", "me.example", ["me.example"]),
        ("0.0.0.0", ("a", "b"), ["a", "b"]),
        ("0.0.0.0", [], []),
    ],
)
def test_hosts_are_checked_on_loopback(core: FakeCore, host: str, option: Any, expected: Any) -> None:
    server = make(host, allowed_hosts=option).start()
    assert config(core, server)["allowed_hosts"] == expected


@pytest.mark.parametrize(("option", "expected"), [(None, []), ("*", None), (["http://a"], ["http://a"])])
def test_origins_are_checked_everywhere(core: FakeCore, option: Any, expected: Any) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        server = make(host, allowed_origins=option).start()
        assert config(core, server)["allowed_origins"] == expected


@pytest.mark.parametrize(
    "origin",
    ["app.example", "localhost:3000", "https://app.example/page", "null", "", "http://*.example", "http://ü.example"],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        make(allowed_origins=["http://a", origin])
    with pytest.raises(ValueError, match="origin"):
        Route(on_message=print, allowed_origins=[origin])


def test_origins_are_compared_as_browsers_write_them(core: FakeCore) -> None:
    given = ["HTTPS://App.example:443/", "http://a:8000", "vscode-webview://1a-b", "file://"]
    server = make(allowed_origins=given).start()
    assert config(core, server)["allowed_origins"] == [
        "https://app.example",
        "http://a:8000",
        "vscode-webview://1a-b",
        "file://",
    ]


@pytest.mark.parametrize("host", ["http://a", "*.example", "a/b", "", "a:b", "::1", "ü.example", "a b"])
def test_a_host_that_no_browser_sends_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"allowed_hosts: .* is no host; expected 'lab\.example'"):
        make(allowed_hosts=["a", host])


URL = "http://127.0.0.1:0"


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (lambda **options: portico.http_server(URL, **options), "http_server"),
        (lambda **options: portico.create_server(0, **options), "create_server"),
        (lambda **options: portico.create_context(0, **options), "create_server"),
        (lambda **options: portico.api(port=0, **options), "api"),
        (lambda **options: portico.run_server("127.0.0.1", 0, print, **options), "run_server"),
    ],
)
def test_an_option_that_is_none_is_told_from_those_that_are(core: FakeCore, make: Any, who: str) -> None:
    with pytest.raises(TypeError, match=rf"^{who}\(\) takes no 'nonsense'; its options are access_log, .*\btls\b"):
        make(nonsense=1, quiet=True)


def test_options_of_handlers_are_not_the_servers() -> None:
    with pytest.raises(TypeError, match=r"takes no 'gzip'; its options are .* \(gzip: said to its handlers\)$"):
        portico.http_server(URL, gzip=True)


def test_options_of_another_type_are_refused() -> None:
    for option in (3, [1], b"a"):
        with pytest.raises(TypeError, match=r"allowed_origins must be a list of str, or '\*' for all; got"):
            make(allowed_origins=option)
    with pytest.raises(ValueError, match="replace must be True or False; got 1"):
        make(replace=1)
    with pytest.raises(TypeError, match="inline must be a mapping of paths to answers, not list"):
        portico.start_server("127.0.0.1", 0, {"call": print}, inline=["/x"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="allowed_hosts"):
        make(allowed_hosts=[1])
    with pytest.raises(TypeError, match=r"portico\.Limits"):
        make(limits={"max_headers": 1})


def test_limits_cross_the_seam_by_name(core: FakeCore) -> None:
    server = make(limits=portico.Limits(max_headers=7, idle_timeout_s=None)).start()
    limits = config(core, server)["limits"]
    assert (limits["max_headers"], limits["idle_timeout_s"], limits["max_fragments"]) == (7, None, 1 << 20)


def test_routes_say_what_they_want(core: FakeCore) -> None:
    inline = (200, [("Content-Type", "text/plain")], b"x")
    routes = [
        Route(prefix=True, on_head=print, on_request=print),
        Route(path="/ws", on_message=print),
        Route(path="/fixed", inline=inline),
    ]
    server = Server(routes, ("127.0.0.1", 0)).start()
    assert [route[:7] for route in config(core, server)["routes"]] == [
        (0, "/", True, (), 3, None, None),
        (1, "/ws", False, (), 4, None, None),
        (2, "/fixed", False, ("GET",), 0, inline, None),
    ]


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, None),
        ({"subprotocols": ["b", "a"]}, (("b", "a"), False, None, 0, 0, None)),
        ({"subprotocols": ("a",), "requires_subprotocol": True}, (("a",), True, None, 0, 0, None)),
        ({"deflate": Deflate()}, ((), False, (6, 15, 860, False), 0, 0, None)),
        (
            {"deflate": Deflate(level=9, window_bits=9, min_bytes=0, context_takeover=True)},
            ((), False, (9, 9, 0, True), 0, 0, None),
        ),
        ({"slow_client": "close"}, None),
        ({"slow_client": "drop_new"}, ((), False, None, 1, 0, None)),
        ({"slow_client": "drop_oldest"}, ((), False, None, 2, 0, None)),
    ],
)
def test_routes_say_how_their_websockets_work(core: FakeCore, options: Any, spec: Any) -> None:
    server = Server([Route(on_open=print, **options)], ("127.0.0.1", 0)).start()
    assert [route[:7] for route in config(core, server)["routes"]] == [(0, "/", False, (), 4, None, spec)]


# Handlers


def serving(*routes: Route) -> Server:
    return Server(routes, ("127.0.0.1", 0), quiet=True)


def said(name: str) -> Route:
    return Route(path=f"/{name}", on_request=lambda req: name)


def test_handlers_come_and_go_while_it_runs(core: FakeCore) -> None:
    a, b, c = said("a"), said("b"), said("c")
    server = serving(a).start()
    number = number_of(server)
    server.add_handler(b, c)
    server.remove_handler(a)
    assert server.handlers == (b, c)
    told = [[spec[:2] for spec in specs] for _, specs in core.said("set_routes")]
    assert told == [[(0, "/a"), (1, "/b"), (2, "/c")], [(1, "/b"), (2, "/c")]]
    server.add_handler(a)
    assert core.said("set_routes")[-1][1][-1][:2] == (3, "/a")  # a number is never used again
    core.request(number, route=2)
    server.service(0)
    assert [command[4] for command in core.said("respond")] == ["c"]


def test_requests_under_way_keep_the_handler_they_found(core: FakeCore) -> None:
    a, b = said("a"), said("b")
    server = serving(a, b).start()
    number = number_of(server)
    core.former_routes = [0]
    server.remove_handler(a)
    core.request(number, route=0)
    server.service(0)
    assert [command[4] for command in core.said("respond")] == ["a"]
    site = home.current_home().dispatcher.sites[number]
    assert set(site.routes) == {0, 1}
    core.former_routes = []
    server.remove_handler(b)
    assert site.routes == {}


def test_websockets_outlive_their_handler_and_its_link_does_not(core: FakeCore) -> None:
    messages: list[Any] = []
    chat = Route(path="/ws", on_message=lambda ws, message: messages.append(message))
    server = serving(chat).start()
    number = core.open(number_of(server))
    server.service(0)
    site = home.current_home().dispatcher.sites[number_of(server)]
    assert len(site.links) == 1
    server.remove_handler(chat)
    assert site.links == {}
    core.message(number, "still here")
    server.service(0)
    assert messages == ["still here"]


def test_handlers_are_kept_for_the_start_and_ignored_after_the_end(core: FakeCore) -> None:
    a, b = said("a"), said("b")
    server = serving(a)
    server.add_handler(b)
    server.remove_handler(a)
    assert core.said("set_routes") == []
    server.start()
    assert [spec[1] for spec in config(core, server)["routes"]] == ["/b"]
    server.stop()
    server.add_handler(a)
    assert core.said("set_routes") == []


def test_a_change_that_cannot_be_changes_nothing(core: FakeCore, tmp_path: Path) -> None:
    a, b = said("a"), said("b")
    server = serving(a).start()
    with pytest.raises(ValueError, match=r"any '/a' \(said.*and any '/a'"):
        server.add_handler(b, said("a"))
    with pytest.raises(ValueError, match="no such handler: any '/b'"):
        server.remove_handler(a, b)
    with pytest.raises(TypeError, match="a handler is made by"):
        server.add_handler(print)  # type: ignore[arg-type]
    assert core.said("set_routes") == []
    files = Route(path="/files", prefix=True, files=portico.static_path(tmp_path))
    core.files_error = FileNotFoundError(2, "No such file or directory", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        server.add_handler(b, files)
    assert [[spec[1] for spec in specs] for _, specs in core.said("set_routes")] == [["/a", "/b"], ["/a"]]
    assert server.handlers == (a,)
    assert dict(server.static_paths) == {}
    assert set(home.current_home().dispatcher.sites[number_of(server)].routes) == {0}


def test_files_come_and_go_with_their_handler(core: FakeCore, tmp_path: Path) -> None:
    files = Route(path="/files", prefix=True, files=portico.static_path(tmp_path))
    server = serving(files).start()
    assert config(core, server)["routes"] == []
    assert [spec[:2] for spec in config(core, server)["files"]] == [("/files", str(tmp_path))]
    server.remove_handler(files)
    assert core.files[number_of(server)] == []
    server.add_handler(files)
    assert list(server.static_paths) == ["/files"]
    with pytest.raises(ValueError, match="there is a static path '/files' already"):
        Server([files], ("127.0.0.1", 0), static_paths={"/files": tmp_path})


# Life


def test_states_and_registry(core: FakeCore) -> None:
    first, second = make().start(), make().start()
    assert portico.list_servers() == [first, second]
    assert first.start() is first
    first.stop()
    first.stop()
    first.close()
    assert (first.state, first.is_running, first.clients) == ("stopped", False, 0)
    assert portico.list_servers() == [second]
    assert len(core.said("stop")) == 1
    with pytest.raises(RuntimeError, match="does not start again"):
        first.start()
    first.wait_closed()


def test_stop_runs_every_on_close_first(core: FakeCore) -> None:
    ended: list[Any] = []
    server = Server([Route(on_close=lambda ws: ended.append(ws.close_code))], ("127.0.0.1", 0)).start()
    core.open(number_of(server))
    core.open(number_of(server))
    server.stop(timeout=3)
    assert ended == [1001, 1001]
    assert core.said("stop") == [(number_of(server), 3.0)]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", None, True])
def test_stop_checks_its_timeout(core: FakeCore, timeout: Any) -> None:
    with make() as server, pytest.raises(ValueError, match="timeout must be"):
        server.stop(timeout)


def test_stop_inside_a_callback_returns_at_once(core: FakeCore) -> None:
    states: list[Any] = []

    def call(req: Any) -> str:
        server.stop()
        states.append(server.state)
        return "x"

    server = Server([Route(on_request=call)], ("127.0.0.1", 0)).start()
    core.request(number_of(server))
    portico.service(0)
    assert states == ["stopping"]
    server.wait_closed()
    assert server.state == "stopped"


def test_stop_from_another_thread_never_waits_for_callbacks(cores: list[FakeCore]) -> None:
    entered, release = threading.Event(), threading.Event()

    def call(req: Any) -> str:
        entered.set()
        release.wait()
        return "x"

    server = Server([Route(on_request=call)], ("127.0.0.1", 0), callbacks="thread").start()
    cores[1].request(number_of(server))
    assert entered.wait(DEADLINE_S)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 1
    assert not server.is_running
    release.set()
    server.wait_closed()
    assert server.state == "stopped"


def test_with_starts_and_stops(core: FakeCore) -> None:
    with make() as server:
        assert server.is_running
    assert server.state == "stopped"


def test_async_with_and_wait_closed(core: FakeCore) -> None:
    async def main() -> None:
        async with make() as server:
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            assert not waiting.done()
            server.stop()
            assert not server.is_running
            await waiting
            assert server.state == "stopped"
        await server.wait_closed()

    asyncio.run(main())


def test_thread_server_can_be_awaited_elsewhere(cores: list[FakeCore]) -> None:
    async def main() -> None:
        server = make(callbacks="thread").start()
        waiting = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        server.stop()
        await asyncio.wait_for(waiting, DEADLINE_S)
        assert server.state == "stopped"

    asyncio.run(main())


def test_blocking_wait_closed_can_be_awaited_later(core: FakeCore) -> None:
    server = make().start()
    server.stop()
    done = server.wait_closed()

    async def main() -> None:
        await done

    asyncio.run(main())


def test_start_up_is_logged_unless_quiet(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico")
    make().start()
    assert caplog.records == []
    server = Server(ROUTES, ("127.0.0.1", 0)).start()
    assert caplog.messages == [f"listening on {server.url}"]


def test_replace_stops_the_predecessor_at_the_same_address(core: FakeCore) -> None:
    old, other = make(port=81).start(), make(port=82).start()
    new = make(port=81, replace=True).start()
    assert (old.state, other.state, new.state) == ("stopped", "running", "running")
    assert other.is_running


# What doors ask for


def test_handlers_are_replaced_all_at_once_and_those_that_stay_keep_their_number(core: FakeCore) -> None:
    a, b, c = (Route(path=f"/{name}", on_request=lambda req: "x") for name in "abc")
    server = Server([a, b], ("127.0.0.1", 0), quiet=True).start()
    before = server._served.routes
    server.replace_handlers(b, c)
    assert server.handlers == (b, c)
    assert [number for number, route in server._served.routes.items() if route is b] == [1]
    assert not before.keys() & (server._served.routes.keys() - {1})
    [(_, specs)] = core.said("set_routes")
    assert [spec[1] for spec in specs] == ["/b", "/c"]
    with pytest.raises(ValueError, match="two handlers for the same requests"):
        server.replace_handlers(a, Route(path="/a", on_request=lambda req: "y"))
    with pytest.raises(TypeError, match="a handler is made by"):
        server.replace_handlers(5)  # type: ignore[arg-type]
    assert server.handlers == (b, c)


def test_a_websocket_is_found_by_its_id_at_its_own_server_only(core: FakeCore) -> None:
    server, other = make(), make()
    assert server.websocket(1) is None
    server.start(), other.start()
    number = core.open(number_of(server))
    portico.service(0)
    ws = server.websocket(number)
    assert ws is not None and ws.id == number and ws.request.path == "/"
    assert server.websocket(number) is ws  # also when its handshake has been read
    assert other.websocket(number) is None
    core.closed(number)
    portico.service(0)
    assert server.websocket(number) is None
    server.stop()
    assert server.websocket(number) is None


def test_the_end_is_told_once_when_every_on_close_has_run(core: FakeCore) -> None:
    told: list[str] = []
    routes = [Route(on_open=lambda ws: None, on_close=lambda ws: told.append("close"))]
    server = Server(routes, ("127.0.0.1", 0), quiet=True, on_end=lambda: told.append(server.state)).start()
    core.open(number_of(server))
    portico.service(0)
    server.stop()
    server.stop()
    home.current_home().close()
    assert told == ["close", "stopped"]


def test_a_lent_core_is_given_back(core: FakeCore) -> None:
    mine: Any = FakeCore()
    before = home.current_home()
    with home.lend_core(mine) as lent:
        assert home.current_home() is lent and lent.core is mine
    assert mine.is_shut and not core.is_shut
    assert home.current_home() is before
