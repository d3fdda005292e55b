"""What is written of a request: the formats, and that nothing a client sends breaks out of them."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import portico
from portico.access_log import AccessEntry, format_combined, format_common, format_json, read_access_log
from portico.headers import Headers
from portico.home import Home
from portico.testing import FakeCore, number_of


def start(app: Any, **options: Any) -> portico.Server:
    return portico.start_server("127.0.0.1", 0, app, True, **options)


BEGAN = 1_700_000_000.25

# As analysers read it: no field but the quoted ones holds a space, no quote is inside quotes.
COMMON = re.compile(
    r"(?P<host>\S+) - - \[(?P<time>\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<line>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+)'
)
COMBINED = re.compile(COMMON.pattern + r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"')


def entry(line: str = "GET /a?b=1 HTTP/1.1", headers: bytes = b"", **changes: Any) -> AccessEntry:
    values: dict[str, Any] = {
        "client": ("192.0.2.7", 50000),
        "line": line,
        "headers": Headers(headers),
        "status": 200,
        "body_bytes": 512,
        "began": BEGAN,
        "duration_s": 0.0126,
        "is_whole": True,
        "close_code": None,
    }
    return AccessEntry(**{**values, **changes})


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/St_Johns"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


def test_common(zone: str) -> None:
    at = {
        "UTC": "14/Nov/2023:22:13:20 +0000",
        "Asia/Kolkata": "15/Nov/2023:03:43:20 +0530",
        "America/St_Johns": "14/Nov/2023:18:43:20 -0330",
    }[zone]
    assert format_common(entry()) == f'192.0.2.7 - - [{at}] "GET /a?b=1 HTTP/1.1" 200 512'


def test_combined() -> None:
    headers = b"Host:localhost\r\nReferer:http://localhost/\r\nUser-Agent:curl/8.0 (x)\r\n"
    text = format_combined(entry(headers=headers))
    assert text is not None
    assert text.endswith('"GET /a?b=1 HTTP/1.1" 200 512 "http://localhost/" "curl/8.0 (x)"')
    bare = format_combined(entry())
    assert bare is not None and bare.endswith(' 512 "-" "-"')


def test_json() -> None:
    headers = b"Host:localhost\r\nReferer:http://localhost/\r\nUser-Agent:curl/8.0\r\n"
    assert json.loads(format_json(entry(headers=headers))) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "client": "192.0.2.7",
        "request": "GET /a?b=1 HTTP/1.1",
        "method": "GET",
        "target": "/a?b=1",
        "version": "1.1",
        "status": 200,
        "bytes": 512,
        "duration_s": 0.013,
        "is_whole": True,
        "host": "localhost",
        "referer": "http://localhost/",
        "user_agent": "curl/8.0",
    }


def test_what_is_not_there() -> None:
    nothing = entry("", client="", status=503)
    assert format_common(nothing) is not None
    assert re.fullmatch(r'- - - \[[^]]+\] "-" 503 512', str(format_common(nothing)))
    values = json.loads(format_json(nothing))
    assert (values["client"], values["request"], values["method"], values["target"]) == ("", "", None, None)
    assert json.loads(format_json(entry("GET /a b HTTP/1.1")))["method"] is None
    assert json.loads(format_json(entry("GET / x")))["method"] is None


def test_end_of_a_websocket_is_only_in_json() -> None:
    end = entry("GET /ws HTTP/1.1", status=101, close_code=1001, duration_s=12.5)
    assert format_common(end) is None and format_combined(end) is None
    values = json.loads(format_json(end))
    assert (values["status"], values["close_code"], values["duration_s"]) == (101, 1001, 12.5)


# uvicorn wrote escape sequences of the URL into its log, and they spoke to the terminal (CVE-2020-7694).
NASTY = {
    "an escape sequence": "GET /\x1b[31m HTTP/1.1",
    "a line of its own": 'GET /\r\n192.0.2.1 - - [x] "GET / HTTP/1.1" 200 1',
    "the end of the quotes": 'GET /" 200 1 "x',
    "a backslash before the quote": "GET /\\",
    "bytes beyond ASCII": "GET /\xe4\x85\x80\xff",
    "NUL and DEL": "GET /\0\x7f",
}


@pytest.mark.parametrize("line", NASTY.values(), ids=NASTY)
def test_request_line_is_escaped(line: str) -> None:
    found = COMMON.fullmatch(str(format_common(entry(line))))
    assert found, "the line broke out of its quotes"
    back = re.sub(r"\\x([0-9A-F]{2})", lambda byte: chr(int(byte[1], 16)), found["line"])
    assert back == line


@given(st.binary(max_size=60), st.binary(max_size=30), st.binary(max_size=30))
def test_any_bytes_stay_in_their_place(line: bytes, referer: bytes, agent: bytes) -> None:
    fields = b"".join(
        name + value.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
        for name, value in ((b"Referer:", referer), (b"User-Agent:", agent))
    )
    any_entry = entry(line.decode("latin-1"), fields)
    text = str(format_combined(any_entry))
    assert COMBINED.fullmatch(text)
    assert text.isascii() and text.isprintable()
    as_json = format_json(any_entry)
    assert as_json.isascii() and as_json.isprintable()
    assert json.loads(as_json)["request"] == line.decode("latin-1")


def test_client_cannot_bring_fields_of_its_own() -> None:
    text = str(format_common(entry(client='/run/x y" 200')))
    found = COMMON.fullmatch(text)
    assert found and found["host"] == r"/run/x\x20y\x22\x20200"


@pytest.mark.parametrize("choice", ["yes", "apache", 1, 0, None, "", ["json"]])
def test_unknown_choice_is_refused(choice: Any) -> None:
    with pytest.raises(ValueError, match=r"access_log must be True, False or one of 'common', 'combined', 'json'; got"):
        read_access_log(choice, None)
    with pytest.raises(ValueError, match="access_log must be"):
        portico.start_server("127.0.0.1", 0, lambda req: "", access_log=choice)


# From the core to the logger


def test_off_unless_asked_for(core: FakeCore) -> None:
    for options, is_on in (({}, False), ({"access_log": False}, False), ({"access_log": True}, True)):
        server = start(lambda req: "", **options)
        assert core.configs[number_of(server)]["logs_access"] is is_on
        server.stop()


def test_records_reach_the_logger(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    server = start(lambda req: "", access_log=True)
    core.logged(number_of(server), b"GET /x HTTP/1.1", [("User-Agent", "me")], body_bytes=3, duration_s=0.5)
    assert server.service(0) == 0, "a record is no callback"
    [record] = [record for record in caplog.records if record.name == "portico.access"]
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith('"GET /x HTTP/1.1" 200 3 "-" "me"')
    found: AccessEntry = record.access  # type: ignore[attr-defined]
    assert (found.line, found.duration_s, found.headers["user-agent"]) == ("GET /x HTTP/1.1", 0.5, "me")
    server.stop()


def test_records_are_formatted_as_asked(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    for name, pattern in (("common", COMMON), ("combined", COMBINED)):
        server = start(lambda req: "", access_log=name)
        core.logged(number_of(server))
        server.service(0)
        assert pattern.fullmatch(caplog.messages[-1])
        server.stop()
    server = start(lambda req: "", access_log="json")
    core.logged(number_of(server), status=404)
    server.service(0)
    assert json.loads(caplog.messages[-1])["status"] == 404
    server.stop()


def test_client_is_whom_a_trusted_proxy_names(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    forwarded = [("X-Forwarded-For", "203.0.113.9")]
    for trusted, host in (("127.0.0.1", "203.0.113.9"), (None, "127.0.0.1")):
        server = start(lambda req: "", access_log=True, trusted_proxies=trusted)
        core.logged(number_of(server), headers=forwarded)
        server.service(0)
        assert caplog.messages[-1].startswith(f"{host} - - [")
        server.stop()


def test_lost_records_are_told(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    for name, text in (("combined", "7 records were lost: too many waited for this thread"), ("json", '{"lost": 7}')):
        caplog.clear()
        server = start(lambda req: "", access_log=name)
        core.logged(number_of(server), lost=7)
        server.service(0)
        assert [(record.levelno, record.getMessage()) for record in caplog.records[:1]] == [(logging.WARNING, text)]
        assert len(caplog.records) == 2
        server.stop()


def test_log_that_nobody_will_see_says_so_once(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "portico.access")
    server = start(lambda req: "", access_log=True)
    assert "logging.basicConfig(level=logging.INFO)" in caplog.text
    core.logged(number_of(server))
    server.service(0)
    assert len(caplog.records) == 1
    server.stop()


def test_filter_that_raises_costs_one_record(core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    logger = logging.getLogger("portico.access")

    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("a filter's own")

    server = start(lambda req: "", access_log=True)
    logger.addFilter(fail)
    try:
        core.logged(number_of(server))
        server.service(0)
    finally:
        logger.removeFilter(fail)
    assert "the access log raised" in caplog.text
    core.logged(number_of(server), b"GET /after HTTP/1.1")
    server.service(0)
    assert "/after" in caplog.messages[-1]
    server.stop()


def test_what_waits_is_logged_when_the_home_ends(home: Home, core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "portico.access")
    called: list[Any] = []
    server = start(called.append, access_log="json")
    core.logged(number_of(server), b"GET /first HTTP/1.1")
    core.request(number_of(server))
    core.logged(number_of(server), b"GET /last HTTP/1.1", status=404)
    home.close()
    told = [json.loads(record.getMessage()) for record in caplog.records if record.name == "portico.access"]
    assert [(one["target"], one["status"]) for one in told] == [("/first", 200), ("/last", 404)]
    assert called == [], "no callback runs any more"


def test_a_slow_log_keeps_nobody_from_ending(
    home: Home, core: FakeCore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def pass_time(record: logging.LogRecord) -> bool:
        nonlocal now
        now += 0.4
        return True

    caplog.set_level(logging.INFO, "portico.access")
    server = start(lambda req: "", access_log=True)
    for _ in range(5):
        core.logged(number_of(server))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    logger = logging.getLogger("portico.access")
    logger.addFilter(pass_time)
    try:
        home.close()
    finally:
        logger.removeFilter(pass_time)
    assert [record.name for record in caplog.records] == ["portico.access"] * 3 + ["portico"]
    assert caplog.messages[-1] == "2 records of the access log were lost: the process ends"
