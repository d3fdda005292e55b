"""The pages in docs/ say what the code says, and their examples run."""

import asyncio
import hashlib
import inspect
import json
import logging
import re
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

import portico
from portico.access_log import AccessEntry, format_json
from portico.doors.annotations import TAGS, VERBS
from portico.events import EVENTS
from portico.forms import MAX_PART_HEAD_BYTES
from portico.routes import SlowClient
from portico.testing import FakeCore, TestClient, number_of

DEADLINE_S = 10
DOCS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLES = [
    pytest.param(page.stem, example, id=f"{page.stem}-{index}")
    for page in sorted(DOCS.glob("*.md"))
    for index, example in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def examples(*pages: str) -> list[Any]:
    return [example for example in EXAMPLES if example.values[0] in pages]


def test_table_of_limits_is_complete_and_true() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE)
    assert written == [(field.name, str(field.default)) for field in fields(portico.Limits)]


def test_ways_to_treat_a_slow_client_are_complete() -> None:
    page = (DOCS / "websockets.md").read_text(encoding="utf-8")
    assert re.findall(r'^\| `"(\w+)"`', page, re.MULTILINE) == list(get_args(SlowClient))


def test_table_of_static_options_is_complete_and_true() -> None:
    page = (DOCS / "static-files.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", page, re.MULTILINE)
    parameters = inspect.signature(portico.static_path_options).parameters.values()
    assert written == [(parameter.name, repr(parameter.default).replace("'", '"')) for parameter in parameters]


@pytest.mark.parametrize(("page", "value"), [("answers", portico.Gzip), ("cors", portico.Cors)])
def test_tables_of_values_are_complete_and_true(page: str, value: Any) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    table = text.partition(f"| `{value.__name__}(…)` | default |")[2].partition("\n\n")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    defaults = {
        field.name: repr(field.default).replace("'", '"') for field in fields(value) if not field.name.startswith("_")
    }
    assert written.keys() == defaults.keys()
    for name, default in written.items():  # long lists are told in words
        assert not default.startswith("`") or default.strip("`") == defaults[name]


def test_table_of_the_bounds_of_a_form_is_true() -> None:
    page = (DOCS / "requests.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| `(\d+)` \|", page, re.MULTILINE)
    parameters = list(inspect.signature(portico.Request.form).parameters.values())[1:]
    assert written == [(parameter.name, repr(parameter.default)) for parameter in parameters]
    assert f"| | {MAX_PART_HEAD_BYTES} |" in page


def test_every_example_is_tried() -> None:
    pages = (
        *("websockets", "static-files", "answers", "requests", "handlers", "access-log", "cors"),
        *("loops", "notebooks", "tls", "client", "context", "api", "testing"),
    )
    assert len(EXAMPLES) == len(examples(*pages))


@pytest.mark.parametrize(("page", "example"), examples("websockets"))
def test_example_serves_a_websocket(core: FakeCore, caplog: pytest.LogCaptureFixture, page: str, example: str) -> None:
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    number = core.open(number_of(names["server"]), subprotocol="chat.v2")
    for step in (lambda: core.message(number, "text"), lambda: core.drained(number), lambda: core.closed(number)):
        step()
        for _ in range(3):  # a coroutine takes its steps between the batches
            portico.service(0)
    assert core.said("send") or core.said("publish")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(("page", "example"), examples("static-files"))
def test_example_serves_files(
    cores: list[FakeCore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for directory in ("www", "media"):
        (tmp_path / directory).mkdir()
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    server = names["server"]
    assert any(core.files.get(number_of(server)) for core in cores)
    if len(cores) == 1:  # else it has a thread of its own, and no app
        cores[0].request(number_of(server), "/api/x")
        assert portico.service(0) == 1
        assert [answer[1] for answer in cores[0].said("respond")] == [200]
    server.stop()
    server.wait_closed()


@pytest.mark.parametrize(("page", "example"), examples("tls"))
def test_example_speaks_tls(
    core: FakeCore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    certificate, key = portico.write_cert("localhost").server
    for name, text in [("fullchain.pem", certificate), ("privkey.pem", key), ("ca.pem", certificate)]:
        (tmp_path / name).write_text(text)
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    with names["server"] as server:
        assert server.url.startswith("https://")
        assert core.configs[number_of(server)]["tls"] is not None


@pytest.mark.parametrize(("page", "example"), examples("answers"))
def test_example_answers(
    core: FakeCore,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    example: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.csv").touch()
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    for path in ("/", *re.findall(r'req\.path == "(\S+)"', example)):
        number = core.request(number_of(names["server"]), path)
        for _ in range(3):
            portico.service(0)
        core.gone(number)
        portico.service(0)
    answered = {name: len(core.said(name)) for name in ("respond", "respond_file", "write")}
    assert any(answered.values()), answered
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(("page", "example"), examples("cors"))
def test_example_allows_origins(core: FakeCore, page: str, example: str) -> None:
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    number = number_of(names["server"])
    assert core.configs[number]["cors"][0] == ("https://app.example", "http://localhost:3000")
    core.request(number)
    portico.service(0)
    assert [answer[1] for answer in core.said("respond")] == [200]


@pytest.mark.parametrize(("page", "example"), examples("handlers"))
def test_example_handles(
    core: FakeCore,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
    example: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").touch()
    names: dict[str, Any] = {}
    exec(compile(example, "docs", "exec"), names)
    server = names["server"]
    for route, handler in server._served.routes.items():
        if handler.on_request is not None:
            core.request(number_of(server), handler.path + "/1", route=route)
        if handler.wants_websocket:
            number = core.open(number_of(server), handler.path + "?name=Ada", route=route)
            core.message(number, "hello")
    for _ in range(3):
        portico.service(0)
    if "tell" in names:
        names["tell"](1, "hello")
    assert core.said("respond") or core.said("send") or core.said("write")
    assert [answer[1] for answer in core.said("respond") if answer[1] >= 500] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_table_of_handlers_is_complete() -> None:
    written = re.findall(r"^\| `(handler\w*)\(", (DOCS / "handlers.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(written) == sorted(name for name in portico.__all__ if name.split("_")[0] == "handler")


@pytest.mark.parametrize(("page", "example"), [one for one in examples("requests") if "req.stream" in one.values[1]])
def test_example_reads_a_body(core: FakeCore, page: str, example: str) -> None:
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    body: bytes | int = b"a body"
    if "stream_body=True" in example:
        body = 7
        core.arrive(0, body, b"a ", b"body", b"")
    core.request(number_of(names["server"]), method="POST", body=body)
    for _ in range(3):  # a coroutine takes its steps between the batches
        portico.service(0)
    answers = [answer[1:5:3] for answer in core.said("respond")]
    assert answers in ([(200, hashlib.sha256(b"a body").hexdigest())], [(200, "6 bytes\n")])


@pytest.mark.parametrize(
    ("page", "example"), [one for one in examples("requests") if "req.stream" not in one.values[1]]
)
def test_example_reads_a_request(core: FakeCore, page: str, example: str) -> None:
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    form = {"method": "POST", "headers": [("Host", "h"), ("Content-Type", "application/x-www-form-urlencoded")]}
    proxied = {"headers": [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"), ("Host", "h")]}
    for parts in (form, {**form, "body": b"title=x&" * 20}, {**form, "body": b"title=x"}, proxied):
        core.request(number_of(names["server"]), **parts)  # type: ignore[arg-type]
    portico.service(0)
    said = [(answer[1], answer[4]) for answer in core.said("respond")]
    assert said in (
        [
            (200, "untitled: no bytes"),
            (400, "a form has at most 20 fields and files here\n"),
            (200, "x: no bytes"),
            (
                400,
                "a form is application/x-www-form-urlencoded or multipart/form-data; this body has no Content-Type\n",
            ),
        ],
        [(200, "127.0.0.1 asked for http://h/")] * 3 + [(200, "192.0.2.1 asked for https://h/")],
    )


@pytest.mark.parametrize(("page", "example"), examples("access-log"))
def test_example_logs(core: FakeCore, capsys: pytest.CaptureFixture[str], page: str, example: str) -> None:
    names: dict[str, portico.Server] = {}
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # else basicConfig does nothing
    try:
        exec(compile(example, "docs", "exec"), names)
        core.logged(number_of(names["server"]), b"GET /a HTTP/1.1", body_bytes=5)
        portico.service(0)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert capsys.readouterr().err.endswith('"GET /a HTTP/1.1" 200 5 "-" "-"\n')


def test_fields_of_a_json_record_are_as_written() -> None:
    page = (DOCS / "access-log.md").read_text(encoding="utf-8")
    [written] = re.findall(r'^\| `"json"` \| one object on one line: (.*) \|$', page, re.MULTILINE)
    entry = AccessEntry(("192.0.2.7", 1), "GET / HTTP/1.1", portico.Headers(), 200, 0, 0.0, 0.0, True, None)
    assert re.findall(r"`(\w+)`", written) == list(json.loads(format_json(entry)))


@pytest.mark.parametrize(("page", "example"), examples("loops"))
def test_example_serves_in_its_own_loop(core: FakeCore, page: str, example: str) -> None:
    """Another thread is the client: it asks once, and stops the server when it has its answer."""

    def talk() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not portico.list_servers() and time.monotonic() < deadline:
            time.sleep(0.001)
        server = portico.list_servers()[0]
        core.request(number_of(server))
        while not core.said("respond") and time.monotonic() < deadline:
            time.sleep(0.001)
        server.stop()

    client = threading.Thread(target=talk)
    client.start()
    exec(compile(example, "docs", "exec"), {})
    client.join()
    assert [answer[1] for answer in core.said("respond")] == [200]
    assert portico.list_servers() == []


def test_table_of_guis_says_what_the_examples_do() -> None:
    table = (DOCS / "loops.md").read_text(encoding="utf-8").partition("| loop |")[2].partition("\n\n")[0]
    written = re.findall(r"`(.+)` \|$", table, re.MULTILINE)
    programs = "".join(path.read_text(encoding="utf-8") for path in (DOCS.parent / "examples").glob("*.py"))
    assert len(written) == 4
    assert [line for line in written if line not in programs] == []


@pytest.mark.parametrize(("page", "example"), examples("notebooks"))
def test_example_serves_in_a_notebook(core: FakeCore, page: str, example: str) -> None:
    names: dict[str, Any] = {}
    exec(compile(example, "docs", "exec"), names)
    core.request(number_of(names["server"]))
    assert portico.service(0) == 1
    assert [answer[1] for answer in core.said("respond")] == [200]
    names["server"].stop()


def test_texts_that_explain_why_a_callback_does_not_run_are_the_real_ones(
    core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    def call(req: Any) -> str:
        with pytest.raises(RuntimeError) as caught:
            portico.service(0)
        told.append(str(caught.value))
        return "x"

    def run_elsewhere() -> None:
        with pytest.raises(RuntimeError) as caught:
            server.service(0)
        told.append(str(caught.value))

    async def serve() -> None:
        with pytest.raises(RuntimeError) as caught:
            server.serve()
        told.append(str(caught.value))

    told: list[str] = []
    server = portico.start_server("127.0.0.1", 0, call, quiet=True, callbacks="service")
    core.request(number_of(server))
    core.waited_s = 1.04
    portico.service(0)
    elsewhere = threading.Thread(target=run_elsewhere, name="Thread-1")
    elsewhere.start()
    elsewhere.join()
    asyncio.run(serve())
    page = " ".join((DOCS / "why-did-my-callback-not-run.md").read_text(encoding="utf-8").split())
    for text in (*told, *(record.getMessage() for record in caplog.records)):
        assert text in page
    assert (len(told), len(caplog.records)) == (3, 1)


@pytest.mark.parametrize(("page", "example"), examples("client"))
def test_example_of_the_client_talks_to_its_server(capsys: pytest.CaptureFixture[str], page: str, example: str) -> None:
    exec(compile(example, "docs", "exec"), {})
    assert capsys.readouterr().out.split() in (["hello", "hello"], ["hello"], ["news"])
    assert portico.list_servers() == []


@pytest.mark.parametrize(("page", "example"), examples("context"))
def test_example_of_contexts_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, example: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.html").write_text("<title>a page</title>")
    names: dict[str, Any] = {}
    exec(compile(example, "docs", "exec"), names)
    if "waiting" in names:

        def ask(path: str, body: bytes | None = None) -> bytes:
            with urllib.request.urlopen(names["context"].url + path, body, timeout=DEADLINE_S) as answer:
                return bytes(answer.read())

        with ThreadPoolExecutor() as pool:
            polls = [pool.submit(ask, "/poll") for _ in range(2)]
            while len(names["waiting"]) < 2:
                portico.service(0.05)
            others = [pool.submit(ask, "/", b"text=news"), pool.submit(ask, "/")]
            while not all(one.done() for one in (*polls, *others)):
                portico.service(0.05)
        assert [one.result() for one in polls] == [b"news", b"news"]
        assert others[0].result() == b"" and b"<form" in others[1].result()
    assert names.get("heard", [b"hello"]) == [b"hello"]
    assert capsys.readouterr().out in ("hello You sent a message\n", "")
    portico.stop_all_servers()


@pytest.mark.parametrize(("page", "example"), [one for one in examples("api") if "#*" not in one.values[1]])
def test_example_of_the_api_answers(monkeypatch: pytest.MonkeyPatch, page: str, example: str) -> None:
    names: dict[str, Any] = {}
    with monkeypatch.context() as patched:
        patched.setattr(portico.Api, "run", lambda self: None)  # the client runs it
        exec(compile(example, "docs", "exec"), names)
    with TestClient(names["api"]) as client, client.websocket("/") as ws:
        ws.send("5" if "compute" in names else "Hello")
        assert ws.receive() == ("10" if "compute" in names else f"Hello, {ws.id}...")
        if "user" in names:
            assert client.get("/users/5?page=2").text() == "user 5, page 2\n"
            added = client.post("/users", json="Ada")
            assert (added.status, added.json()) == (201, {"added": "Ada"})


@pytest.mark.parametrize(("page", "example"), [one for one in examples("api") if "#*" in one.values[1]])
def test_example_of_a_route_file_answers(tmp_path: Path, page: str, example: str) -> None:
    (tmp_path / "routes.py").write_text(example, encoding="utf-8")
    with TestClient(portico.api(tmp_path / "routes.py")) as client, client.websocket("/") as ws:
        ws.send("Hello")
        assert (ws.receive(), client.get("/users/5").text()) == ("Hello, you...", "user 5\n")
    text = (DOCS / "api.md").read_text(encoding="utf-8").rstrip().splitlines()[-1].strip("`")
    (tmp_path / "routes.py").write_text("#* @mesage\n", encoding="utf-8")
    with pytest.raises(portico.RouteFileError) as caught:
        portico.api(tmp_path / "routes.py")
    assert str(caught.value) == f"{tmp_path}/{text}"


def test_tables_of_tags_and_events_are_complete() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    table = page.partition("| event |")[2].partition("\n\n")[0]
    events = re.findall(r"^\| `([a-z-]+)` \| (.*?) \|", table, re.MULTILINE)
    assert {event: tuple(re.findall(r"`(\w+)`", names)) for event, names in events} == EVENTS
    tags = page.partition("| tag | is |")[2]
    assert set(re.findall(r"@(\w+)", tags.partition("Comment lines")[0])) == set(TAGS)
    assert set(VERBS) < set(TAGS)


@pytest.mark.parametrize(("page", "example"), examples("testing"))
def test_example_of_a_test_passes(page: str, example: str) -> None:
    exec(compile(example, "docs", "exec"), {})
