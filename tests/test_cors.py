"""What `cors=` and `Cors` take, and what they refuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import portico
from portico.cors import Cors, read_cors
from portico.testing import FakeCore, number_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def test_what_cors_takes() -> None:
    own = Cors(["https://a.example"])
    assert read_cors(None) is read_cors(False) is None
    assert read_cors(True) == read_cors("*") == read_cors(["*"]) == Cors() == Cors("*")
    assert read_cors("https://a.example") == read_cors(["https://a.example"]) == own
    assert read_cors(own) is own
    assert read_cors([]) == Cors(())
    for wrong in (1, 1.0, b"*", {"https://a.example"}, Cors, print):
        with pytest.raises(TypeError, match=r"cors must be True|origins must be a list"):
            read_cors(wrong)


def test_defaults() -> None:
    assert dataclasses.asdict(Cors()) == {
        "origins": ("*",),
        "methods": METHODS,
        "headers": ("*",),
        "expose": (),
        "credentials": False,
        "max_age_s": 600,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cors().credentials = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        Cors("*", "GET")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://App.Example", "https://app.example"),
        ("HTTPS://app.example/", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://127.0.0.1:8888", "http://127.0.0.1:8888"),
        ("http://[::1]:8888", "http://[::1]:8888"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("tauri://localhost", "tauri://localhost"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_origins_become_what_browsers_write(given: str, read: str) -> None:
    assert Cors(given).origins == (read,)
    assert Cors([given, read]).origins == (read,)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"origins": "app.example"}, ValueError, "'app.example' is no origin; expected 'https://app.example'"),
        ({"origins": "https://app.example/page"}, ValueError, "is no origin"),
        ({"origins": "https://*.example"}, ValueError, "is no origin"),
        ({"origins": "https://user@app.example"}, ValueError, "is no origin"),
        ({"origins": "https://app.example\n"}, ValueError, "is no origin"),
        ({"origins": "https://bücher.example"}, ValueError, "xn--"),
        ({"origins": "http://a.example:70000"}, ValueError, "port of 'http://a.example:70000' must be between"),
        ({"origins": "http://a.example:0"}, ValueError, "between 1 and 65535"),
        ({"origins": ""}, ValueError, "'' is no origin"),
        ({"origins": ["null"]}, ValueError, "'null' is that of every sandboxed frame"),
        ({"origins": ["*", "https://a.example"]}, ValueError, "nothing can stand beside it"),
        ({"origins": [b"https://a.example"]}, TypeError, "origins: expected a str, not bytes"),
        ({"origins": None}, TypeError, "origins must be a list of str, or '\\*'; got None"),
        ({"methods": ["GET", "P T"]}, ValueError, "methods: a name is made of .* got 'P T'"),
        ({"methods": ["*", "GET"]}, ValueError, "nothing can stand beside it"),
        ({"headers": ["X-A\r\nX-B"]}, ValueError, "headers: a name is made of"),
        ({"expose": [""]}, ValueError, "expose: a name is made of"),
        ({"expose": 3}, TypeError, "expose must be a list"),
        ({"credentials": 1}, ValueError, "credentials must be True or False; got 1"),
        ({"credentials": True}, ValueError, "credentials need origins by name"),
        ({"origins": ["*"], "credentials": True}, ValueError, "credentials need origins by name"),
        ({"origins": ["https://a.example"], "credentials": True, "expose": "*"}, ValueError, "name the fields"),
        ({"max_age_s": -1}, ValueError, "max_age_s must be a whole number of seconds"),
        ({"max_age_s": 1.5}, ValueError, "max_age_s must be a whole number of seconds"),
        ({"max_age_s": True}, ValueError, "max_age_s must be a whole number of seconds"),
        ({"max_age_s": 2**31}, ValueError, "max_age_s must be a whole number of seconds"),
    ],
)
def test_nonsense_is_refused_by_name(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Cors(**options)


def test_the_core_is_told(core: FakeCore) -> None:
    def told(**options: Any) -> Any:
        server = portico.start_server("127.0.0.1", 0, lambda req: "", quiet=True, **options)
        return core.configs[number_of(server)]["cors"]

    assert told() is None
    assert told(cors=False) is None
    assert told(cors=True) == (None, METHODS, None, (), False, 600)
    full = Cors(["http://a.example"], methods="*", headers=["X-A"], expose=["X-B"], credentials=True, max_age_s=None)
    assert told(cors=full) == (("http://a.example",), None, ("X-A",), ("X-B",), True, None)
    with pytest.raises(ValueError, match="is no origin"):
        told(cors=["a.example"])


def test_other_doors_take_it_too(core: FakeCore, tmp_path: Any) -> None:
    server = portico.start_pipe_server(str(tmp_path / "s"), None, lambda req: "", True, cors="*")
    assert core.configs[number_of(server)]["cors"][0] is None
