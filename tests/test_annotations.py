"""Annotated route files: what they say is what the calls say, and mistakes name file, line and tag."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

import portico
from portico.testing import TestClient

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def write(directory: Path, text: str, name: str = "routes.py") -> Path:
    file = directory / name
    file.write_text(text, encoding="utf-8")
    return file


def as_calls() -> portico.Api:
    """What examples/api_message.py says."""

    def hello(message: str) -> str | None:
        return "Hello, you..." if message == "Hello" else None

    def tell(server: portico.Api) -> None:
        server.log("message", "websocket message received")

    api = portico.api(port=0)
    portico.api_message(api, hello)
    portico.api_message(api, hello, async_=True, then=[tell])
    return api.add_get("/hello/<name>", lambda name: f"Hello, {name}...\n")


@pytest.mark.parametrize("make", [as_calls, lambda: portico.api(EXAMPLES / "routes" / "hello.py", port=0)])
def test_the_seeds_example_behaves_the_same_in_both_forms(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "portico.api"), TestClient(make()) as client, client.websocket("/") as ws:
        ws.send("Hello")
        assert [ws.receive(), ws.receive()] == ["Hello, you...", "Hello, you..."]
        ws.send("Good morning")
        client._wait(lambda: len([one for one in caplog.records if one.name == "portico.api"]) == 2 or None, "no log")
        client.run()
        assert not client.core.received[ws.id]
        assert client.get("/hello/you").text() == "Hello, you...\n"


EVERYTHING = '''
"""A module like any other."""
from __future__ import annotations
import functools

count = 0

#* Adds one.
#* @get /count
#* @post /count
def _(request):
    global count
    count += 1
    return f"{request.method} {count}"

# * @put /<n:int>
# * @async threads
@functools.lru_cache
def _(n: int):
    return str(n * n)

#* @then
def _(result):
    log.append(result)

#* @then
def _(result, n, request):
    log.append((result, n, request.path))

#* @message /rooms/<room>
async def _(room, message):
    return f"{room}: {message}"

#* @header
def _(request):
    return request.path != "/forbidden"

#* @header
#* @post /upload
def _(request):
    return {"status": 413} if int(request.headers["content-length"]) > 5 else None

#* @post /upload
def _(body):
    return repr(body)

#* @any /any
def _(request):
    return request.method

#* @statics files /static
#* @except /static/private

#* @redirect get /old /new

#* @redirect !any /gone/<x> /x/<x>

log = []
text = """
#* @get /not-a-comment
"""
'''


def test_every_tag_means_its_call(tmp_path: Path) -> None:
    (tmp_path / "files" / "private").mkdir(parents=True)
    api = portico.api(write(tmp_path, EVERYTHING, "everything.py"), port=0)
    with TestClient(api) as client:
        assert client.get("/count").text() == "GET 1"
        assert client.post("/count").text() == "POST 2"
        assert client.request("PUT", "/12").text() == "144"
        assert sys.modules["portico_routes_everything"].log == ["144", (None, 12, "/12")]
        with client.websocket("/rooms/7") as ws:
            ws.send("hi")
            assert ws.receive() == "7: hi"
        assert client.get("/forbidden").status == 403
        for size, status in (("5", 200), ("6", 413)):
            assert client.post("/upload", body=b"x", headers={"Content-Length": size}).status == status
        assert client.request("TRACE", "/any").text() == "TRACE"
        files = client.core.files[next(iter(client.core.files))]
        assert [spec[:2] for spec in files] == [("/static", str(tmp_path / "files")), ("/static/private", None)]
        for path, status, location in (("/old", 307, "/new"), ("/gone/a", 308, "/x/a")):
            answer = client.get(path)
            assert (answer.status, answer.headers["location"]) == (status, location)
        assert client.get("/not-a-comment").status == 404


def test_a_directory_stands_for_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path, f"#* @message\ndef handler():\n    return {name!r}\n", f"{name}.py")
    write(tmp_path, "no Python", "notes.txt")
    with TestClient(portico.api(tmp_path, port=0)) as client, client.websocket("/") as ws:
        ws.send("x")
        assert [ws.receive() for _ in range(3)] == ["a", "b", "c"]


F = "def f():\n    pass\n"


@pytest.mark.parametrize(
    ("text", "line", "tag", "told"),
    [
        (f"\n#* @mesage\n{F}", 2, "mesage", "there is no such tag; did you mean @message?"),
        (f"#* @xyz\n{F}", 1, "xyz", "there is no such tag; there are @get, @post"),
        (f"#* @get\n{F}", 1, "get", "expected '@get /path'; got ''"),
        (f"#* @get /a /b\n{F}", 1, "get", "expected '@get /path'; got '/a /b'"),
        (f"#* @get a\n{F}", 1, "get", "a path begins with '/'; got 'a'"),
        (f"#* @then now\n{F}", 1, "then", "expected '@then'; got 'now'"),
        (f"#* @message\n#* @message\n{F}", 2, "message", "it is there twice"),
        (f"#* @message\n\n{F}", 1, "message", "no function begins on the line below"),
        ("#* @message\nclass F:\n    pass\n", 1, "message", "no function begins on the line below"),
        (f"#* @header\n\n{F}", 1, "header", "no function begins on the line below"),
        (f"#* @then\n{F}", 1, "then", "it follows a function that is @async, or another @then"),
        (f"#* @message\n{F}#* @then\n{F}", 4, "then", "it follows a function that is @async, or another @then"),
        (f"#* @message\n#* @async\n{F}#* @then\n\n{F}", 5, "then", "no function begins on the line below"),
        (f"#* @message\n#* @async\n{F}#* @then\n#* @get /x\n{F}", 5, "then", "it stands alone"),
        (
            "class A:\n    #* @get /x\n    def f(self):\n        pass\n",
            2,
            "get",
            "tags stand at the beginning of a line",
        ),
        ("x = 5  #* @get /x\n", 1, "get", "tags stand at the beginning of a line"),
        (f"#* @async\n{F}", 1, "async", "it goes with @message or @get or @post"),
        ("#* @except /x\n", 1, "except", "it goes with @statics"),
        (f"#* @message\n#* @async fibres\n{F}", 1, "message", "async_ must be True, 'threads', 'processes'"),
        ("#* @message\ndef f(mesage):\n    pass\n", 1, "message", "message handler f asks for 'mesage'"),
        ("#* @message\n#* @async\ndef f(request):\n    pass\n", 1, "message", "message handler f asks for 'request'"),
        ("#* @statics nowhere\n", 1, "statics", "No such file or directory"),
        ("#* @redirect get /a\n", 1, "redirect", "expected '@redirect [!]method /from /to'; got 'get /a'"),
        ("#* @redirect get /a /<b>\n", 1, "redirect", "names <b>, which '/a' has not"),
        (f"#* @get /x\n{F}\n#* @get /x\n{F}", 5, "get", "two handlers for the same requests"),
        (f"#* @header\n#* @message\n{F}", 1, "header", "it goes with @get or @post"),
        (f"#* @except /x\n#* @message\n{F}", 1, "except", "it goes with @statics"),
        ("#* @async\n#* @statics .\n", 1, "async", "it goes with @message or @get"),
    ],
)
def test_mistakes_name_file_line_and_tag(tmp_path: Path, text: str, line: int, tag: str, told: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(portico.RouteFileError) as caught:
        portico.api(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: @{tag}: ")
    assert told in message


def test_what_is_wrong_with_the_file_itself_is_raised_as_ever(tmp_path: Path) -> None:
    with pytest.raises(SyntaxError, match=r"routes\.py"):
        portico.api(write(tmp_path, "def f(:\n"))
    with pytest.raises(ZeroDivisionError):
        portico.api(write(tmp_path, "1 / 0\n"))
    with pytest.raises(FileNotFoundError, match=r"missing\.py"):
        portico.api(tmp_path / "missing.py")
