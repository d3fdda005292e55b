"""Route and Limits: values that refuse nonsense early."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from portico import Limits
from portico.routes import Route


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
    ],
)
def test_nonsense_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


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
        with pytest.raises(ValueError, match="either a callable or an inline"):
            Route(**options)


def test_route_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begins with"):
        Route(path="chat", on_request=print)


def test_any_websocket_callable_wants_handshakes() -> None:
    assert not Route(on_request=print).wants_websocket
    for name in ("on_open", "on_message", "on_close"):
        assert Route(**{name: print}).wants_websocket  # type: ignore[arg-type]
