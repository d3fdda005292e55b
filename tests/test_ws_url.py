"""WebSocket URLs: where they lead, and which are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.ws_url import read_url


@pytest.mark.parametrize(
    ("url", "name", "port", "host", "target", "is_secure"),
    [
        ("ws://localhost", "localhost", 80, "localhost", "/", False),
        ("ws://localhost:8000/chat?room=a%20b", "localhost", 8000, "localhost:8000", "/chat?room=a%20b", False),
        ("http://127.0.0.1:53121", "127.0.0.1", 53121, "127.0.0.1:53121", "/", False),
        ("wss://example.org/", "example.org", 443, "example.org", "/", True),
        ("https://example.org:443/x", "example.org", 443, "example.org", "/x", True),
        ("wss://example.org:80/x", "example.org", 80, "example.org:80", "/x", True),
        ("ws://[::1]:9/", "::1", 9, "[::1]:9", "/", False),
        ("ws://[::1]/", "::1", 80, "[::1]", "/", False),
        ("ws://some_host.example./", "some_host.example.", 80, "some_host.example.", "/", False),
        ("ws://EXAMPLE.org?q", "example.org", 80, "example.org", "/?q", False),
        (
            "ws://bü.example/ö?ä=ü",
            "xn--b-eha.example",
            80,
            "xn--b-eha.example",
            "/%C3%B6?%C3%A4=%C3%BC",
            False,
        ),
    ],
)
def test_where_a_url_leads(url: str, name: str, port: int, host: str, target: str, is_secure: bool) -> None:
    found = read_url(url)
    assert (found.name, found.port, found.host, found.target) == (name, port, host, target)
    assert found.is_secure is is_secure
    assert found.path is None


@pytest.mark.parametrize("url", ["unix:/run/app.sock", "unix:///run/app.sock"])
def test_a_unix_socket(url: str) -> None:
    found = read_url(url)
    assert (found.path, found.target, found.host) == ("/run/app.sock", "/", "localhost")
    assert str(found) == "unix:/run/app.sock"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "begins with ws://"),
        ("localhost:80", "begins with ws://"),
        ("ftp://localhost", "begins with ws://"),
        ("ws://", "names no host"),
        ("ws:///path", "names no host"),
        ("ws://host/#part", "no fragment"),
        ("ws://host/#", "no fragment"),
        ("ws://host:99999/", "port"),
        ("ws://host:x/", "port"),
        ("ws://host:0/", "port 0"),
        ("ws://me:secret@host/", "Authorization"),
        ("ws://host/a\r\nX: y", "control characters"),
        ("ws://host/\x00", "control characters"),
        ("ws://host/a b", "no spaces"),
        ("ws://" + "ä" * 80 + "/", "is no name"),
        ("ws://" + "a" * 64 + "/", "is no name"),
        ("ws://a..b/", "is no name"),
        ("ws://a%2Fb/", "is no name"),
        ("ws://a%0d%0ab/", "is no name"),
        ("ws://a,b/", "is no name"),
        ("unix:", "names no socket"),
    ],
)
def test_what_is_no_websocket_url(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_url(url)


def test_only_text_is_a_url() -> None:
    with pytest.raises(TypeError, match="must be a str"):
        read_url(b"ws://localhost")  # type: ignore[arg-type]


def test_which_names_are_addresses() -> None:
    assert read_url("ws://localhost/").literal is None
    assert read_url("ws://127.0.0.1/").literal == "127.0.0.1"
    assert read_url("ws://[::1]/").literal == "::1"


@given(st.text(max_size=40).map(lambda text: "ws://h/" + text) | st.text(max_size=40))
def test_any_text_is_read_or_refused(url: str) -> None:
    try:
        found = read_url(url)
    except ValueError:
        return
    assert found.target.isascii() and not set(found.target) & set("\r\n \x00")
    assert found.host.isascii() and not set(found.host) & set("\r\n /")
