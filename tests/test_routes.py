"""Route, Deflate and Limits: values that refuse nonsense early."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from portico import Deflate, Gzip, Limits, static_path
from portico.routes import ANY_METHOD, Route, check_clashes


def test_defaults_are_finite_except_connections_per_address() -> None:
    values = dataclasses.asdict(Limits())
    assert [name for name, value in values.items() if value is None] == ["max_connections_per_address"]
    assert values["max_head_bytes"] == 131072
    assert values["max_message_bytes"] == 16 * 1024 * 1024
    assert values["ping_interval_s"] == 20


def test_none_switches_a_timeout_off_but_not_a_size() -> None:
    assert Limits(idle_timeout_s=None).idle_timeout_s is None
    with pytest.raises(ValueError, match="max_message_bytes"):
        Limits(max_message_bytes=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_headers", 0),
        ("max_headers", -1),
        ("max_headers", 1.5),
        ("max_headers", True),
        ("max_headers", "128"),
        ("max_connections_per_address", 0),
        ("head_timeout_s", 0),
        ("head_timeout_s", -1.0),
        ("head_timeout_s", float("nan")),
        ("head_timeout_s", float("inf")),
        ("head_timeout_s", "10"),
        ("max_body_bytes", -1),
        ("max_body_in_memory_bytes", 2**63),
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("path", ["/search?q", "/page#part", "/#"])
def test_a_path_is_no_more_than_that(path: str) -> None:
    with pytest.raises(ValueError, match=r"what stands before '\?' and '#' in a URL; got"):
        Route(path=path, on_request=print)


def test_no_uploads_is_a_limit() -> None:
    assert Limits(max_body_bytes=0).max_body_bytes == 0


def test_limits_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().max_headers = 1  # type: ignore[misc]


def test_route_needs_a_callable_or_an_inline_answer_and_not_both() -> None:
    inline = (200, [("Content-Type", "text/plain")], b"hi")
    assert Route(inline=inline).inline is inline
    wrong: list[Any] = [{}, {"inline": inline, "on_request": print}]
    for options in wrong:
        with pytest.raises(ValueError, match="callables, an inline answer or files"):
            Route(**options)


@pytest.mark.parametrize(
    ("methods", "error", "says"),
    [
        ("GET", TypeError, "list of str or None; got 'GET'"),
        (7, TypeError, "list of str or None; got 7"),
        ([b"GET"], TypeError, "a method must be a str, not bytes"),
        (["get"], ValueError, r"a word in capitals, like 'GET', or '\*' for any; got 'get'"),
        (["GET "], ValueError, "got 'GET '"),
        ([""], ValueError, "got ''"),
        (["GET", "POST", "GET"], ValueError, "method 'GET' is there twice"),
    ],
)
def test_methods_are_words_in_capitals(methods: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        Route(on_request=print, methods=methods)


def test_methods_are_any_but_for_inline_answers() -> None:
    inline = (200, [], b"")
    assert Route(on_request=print).methods == ()
    assert Route(on_request=print, methods=["PUT", "X-OWN"]).methods == ("PUT", "X-OWN")
    assert Route(inline=inline).methods == ("GET",)
    assert Route(inline=inline, methods=ANY_METHOD).methods == ()
    with pytest.raises(ValueError, match="prefix must be True or False"):
        Route(on_request=print, prefix="yes")  # type: ignore[arg-type]


def first(req: Any) -> None: ...


def second(req: Any) -> None: ...


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ({"methods": ["GET"]}, {"methods": ["POST", "GET"]}, ["GET '/a' (first)", "POST/GET '/a' (second)"]),
        ({}, {}, ["any '/a' (first)", "any '/a' (second)"]),
        ({"prefix": True}, {"prefix": True, "path": "/a/"}, ["'/a' and below (first)", "'/a/' and below (second)"]),
        (
            {"on_request": None, "on_open": first},
            {"on_request": None, "on_message": second},
            ["WebSocket '/a' (first)"],
        ),
        ({}, {"on_open": first, "path": "/a"}, ["any '/a' (first)", "any '/a' (second)"]),
    ],
)
def test_a_clash_names_both(one: Any, other: Any, names: list[str]) -> None:
    with pytest.raises(ValueError, match="two handlers for the same requests") as caught:
        check_clashes(
            [
                Route(**{"path": "/a", "on_request": first, **one}),
                Route(**{"path": "/a", "on_request": second, **other}),
            ]
        )
    for name in names:
        assert name in str(caught.value)


def test_what_can_be_told_apart_does_not_clash(tmp_path: Path) -> None:
    check_clashes(
        [
            Route(path="/a", on_request=first, methods=["GET"]),
            Route(path="/a", on_request=first, methods=["POST"]),
            Route(path="/a", on_request=first),
            Route(path="/a", on_request=first, prefix=True),
            Route(path="/a", on_open=first),
            Route(path="/a/", on_request=first),
            Route(path="/A", files=static_path(tmp_path), prefix=True),
            Route(path="/A", on_request=first, prefix=True, methods=["POST"]),
        ]
    )
    same = Route(path="/a", inline=(200, [], b""))
    with pytest.raises(ValueError, match="an inline answer"):
        check_clashes([same, same])
    with pytest.raises(ValueError, match="files in"):
        check_clashes(
            [
                Route(path="/a", prefix=True, files=static_path(tmp_path)),
                Route(path="/a", prefix=True, on_request=first),
            ]
        )


def test_route_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begins with"):
        Route(path="chat", on_request=print)


def test_any_websocket_callable_wants_handshakes() -> None:
    assert not Route(on_request=print).wants_websocket
    for name in ("on_open", "on_message", "on_close"):
        assert Route(**{name: print}).wants_websocket  # type: ignore[arg-type]


def test_subprotocols_are_kept_in_order_and_cannot_change() -> None:
    names = ["v2.chat", "!#$%&'*+-.^_`|~09azAZ"]
    route = Route(on_open=print, subprotocols=names)
    names.clear()
    assert route.subprotocols == ("v2.chat", "!#$%&'*+-.^_`|~09azAZ")
    assert not route.requires_subprotocol
    assert Route(on_open=print, subprotocols=["a"], requires_subprotocol=True).requires_subprotocol


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        ("chat", TypeError, "list of names; got 'chat'"),
        ({"chat"}, TypeError, "list of names"),
        (None, TypeError, "list of names"),
        (7, TypeError, "list of names"),
        ([b"chat"], TypeError, "must be a str, not bytes"),
        ([None], TypeError, "must be a str, not NoneType"),
        ([""], ValueError, "got ''"),
        (["a b"], ValueError, "got 'a b'"),
        (["a,b"], ValueError, "got 'a,b'"),
        (["a\n"], ValueError, "letters, digits"),
        (["é"], ValueError, "got 'é'"),
        (["a", "b", "a"], ValueError, "'a' is there twice"),
    ],
)
def test_subprotocols_that_no_header_could_carry_are_refused(names: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        Route(on_open=print, subprotocols=names)


def test_required_subprotocol_must_exist() -> None:
    with pytest.raises(ValueError, match="every client would be refused"):
        Route(on_open=print, requires_subprotocol=True)
    with pytest.raises(ValueError, match="requires_subprotocol must be True or False; got 1"):
        Route(on_open=print, subprotocols=["a"], requires_subprotocol=1)  # type: ignore[arg-type]


def test_deflate_is_off_unless_told() -> None:
    assert Route(on_open=print).deflate is None
    assert dataclasses.astuple(Deflate()) == (6, 15, 860, False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Deflate().level = 1  # type: ignore[misc]
    wrong: list[Any] = [True, False, 6, "deflate", Deflate]
    for deflate in wrong:
        with pytest.raises(TypeError, match="must be a Deflate or None; got"):
            Route(on_open=print, deflate=deflate)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("level", 0, "level must be a whole number, from 1 to 9; got 0"),
        ("level", 10, "from 1 to 9"),
        ("level", True, "from 1 to 9"),
        ("level", "6", "got '6'"),
        ("level", None, "got None"),
        ("window_bits", 8, "window_bits must be a whole number, from 9 to 15; got 8"),
        ("window_bits", 16, "from 9 to 15"),
        ("window_bits", 15.0, "from 9 to 15"),
        ("min_bytes", -1, "min_bytes must be a whole number, at least 0; got -1"),
        ("min_bytes", None, "at least 0"),
        ("context_takeover", 1, "context_takeover must be True or False; got 1"),
        ("context_takeover", None, "True or False"),
    ],
)
def test_nonsense_about_deflate_is_refused_by_name(name: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Deflate(**{name: value})


@pytest.mark.parametrize("value", ["drop", "", None, 0, True, ["close"]])
def test_slow_client_is_one_of_three(value: Any) -> None:
    assert Route(on_open=print).slow_client == "close"
    with pytest.raises(ValueError, match="one of 'close', 'drop_new', 'drop_oldest'; got"):
        Route(on_open=print, slow_client=value)


@pytest.mark.parametrize("value", ["bytes", "", 0, True])
def test_frames_are_of_one_type_or_any(value: Any) -> None:
    assert Route(on_open=print).frames is None
    with pytest.raises(ValueError, match="frames must be 'text', 'binary' or None; got"):
        Route(on_open=print, frames=value)


@pytest.mark.parametrize(
    "options",
    [{"subprotocols": ["a"]}, {"deflate": Deflate()}, {"slow_client": "drop_new"}],
    ids=lambda o: next(iter(o)),
)
def test_websocket_options_need_websockets(options: Any) -> None:
    for callback in ("on_open", "on_message", "on_close"):
        Route(**{callback: print}, **options)
    for other in ({"on_request": print}, {"inline": (200, [], b"")}):
        with pytest.raises(ValueError, match="route '/' takes no WebSockets"):
            Route(**other, **options)


def test_gzip_is_off_unless_told() -> None:
    assert Route(on_request=print).gzip is None
    assert (Gzip().level, Gzip().min_bytes) == (6, 860)
    assert {"text/*", "application/json", "*+json", "*+xml", "application/wasm"} <= set(Gzip().types)
    wrong: list[Any] = [True, False, 6, "gzip", Gzip]
    for gzip in wrong:
        with pytest.raises(TypeError, match="must be a Gzip or None; got"):
            Route(on_request=print, gzip=gzip)


def test_gzip_needs_answers() -> None:
    for answers in ({"on_head": print}, {"on_request": print}, {"inline": (200, [], b"")}):
        Route(**answers, gzip=Gzip())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="answers no requests, which gzip is about; deflate is for WebSockets"):
        Route(on_open=print, gzip=Gzip())


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"level": 0}, ValueError, "level must be a whole number, from 1 to 9; got 0"),
        ({"level": 10}, ValueError, "from 1 to 9"),
        ({"min_bytes": -1}, ValueError, "min_bytes must be a whole number"),
        ({"min_bytes": 2**63}, ValueError, "min_bytes must be a whole number"),
        ({"min_bytes": None}, ValueError, "got None"),
        ({"types": "text/html"}, TypeError, "types must be a list of media types; got 'text/html'"),
        ({"types": None}, TypeError, "types must be a list"),
        ({"types": [b"text/html"]}, TypeError, "must be a str, not bytes"),
        ({"types": ["text"]}, ValueError, "expected 'type/subtype', .* got 'text'"),
        ({"types": ["text/html; charset=utf-8"]}, ValueError, "expected 'type/subtype'"),
        ({"types": ["*/json"]}, ValueError, "expected 'type/subtype'"),
        ({"types": ["te*/html"]}, ValueError, "expected 'type/subtype'"),
        ({"types": ["*+"]}, ValueError, "expected 'type/subtype'"),
        ({"types": ["text/html\n"]}, ValueError, "expected 'type/subtype'"),
    ],
)
def test_nonsense_about_gzip_is_refused_by_name(options: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Gzip(**options)


def test_types_of_gzip_are_kept_as_given() -> None:
    given = ["text/*", "*+JSON", "*/*", "Image/SVG+xml"]
    assert Gzip(types=given).types == tuple(given)
    assert hash(Gzip(types=given)) == hash(Gzip(types=tuple(given)))
