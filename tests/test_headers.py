"""Headers: what came, in order, found by name in any case."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico import Headers

TOKEN = st.text("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters, min_size=1, max_size=20)
# What the native half lets through: visible characters, blanks inside, and obs-text.
VALUE = st.text(
    st.characters(max_codepoint=0xFF, exclude_characters="".join(map(chr, [*range(0x20), 0x7F]))), max_size=40
).map(lambda text: text.strip(" "))
FIELDS = st.lists(st.tuples(TOKEN, VALUE), max_size=12)


def block(*fields: tuple[str, str]) -> bytes:
    return b"".join(f"{name}:{value}\r\n".encode("latin-1") for name, value in fields)


def headers(*fields: tuple[str, str]) -> Headers:
    return Headers(block(*fields))


@given(FIELDS)
def test_items_are_what_was_sent(fields: list[tuple[str, str]]) -> None:
    assert list(headers(*fields).items()) == fields


@given(FIELDS)
def test_every_name_is_found_in_any_case(fields: list[tuple[str, str]]) -> None:
    found = headers(*fields)
    for name, _ in fields:
        values = [value for other, value in fields if other.lower() == name.lower()]
        assert found.get_all(name.swapcase()) == values
        assert found[name.upper()] == ("; " if name.lower() == "cookie" else ", ").join(values)
        assert name.lower() in found
    assert len(found) == len(list(found)) == len({name.lower() for name, _ in fields})


def test_repeated_fields_are_joined_with_comma_and_cookies_with_semicolon() -> None:
    found = headers(("Accept", "a"), ("Cookie", "x=1"), ("accept", "b"), ("cookie", "y=2"))
    assert found["ACCEPT"] == "a, b"
    assert found["Cookie"] == "x=1; y=2"
    assert found.keys() == ("Accept", "Cookie")
    assert found.values() == ("a", "x=1", "b", "y=2")
    assert dict(found) == {"Accept": "a, b", "Cookie": "x=1; y=2"}


def test_missing_name() -> None:
    found = headers(("A", "1"))
    assert found.get("b") is None
    assert found.get("b", "?") == "?"
    assert found.get_all("b") == []
    assert 7 not in found
    with pytest.raises(KeyError):
        found["b"]


def test_none_at_all() -> None:
    assert list(Headers()) == []
    assert not Headers()
    assert Headers().items() == ()


def test_colons_and_line_separators_of_unicode_stay_in_the_value() -> None:
    assert headers(("Host", "[::1]:80"), ("X", "a\x85b"))["x"] == "a\x85b"
    assert headers(("Host", "[::1]:80"))["host"] == "[::1]:80"


def test_equality_ignores_the_case_of_names() -> None:
    assert headers(("A", "1")) == headers(("a", "1"))
    assert hash(headers(("A", "1"))) == hash(headers(("a", "1")))
    assert headers(("A", "1")) != headers(("A", "2"))
    assert headers(("A", "1")) != {"A": "1"}


def test_what_get_all_returns_is_the_callers_own() -> None:
    found = headers(("A", "1"))
    found.get_all("a").append("2")
    assert found["a"] == "1"
