"""Every file in examples/ runs as its reader would run it, and a client that isn't ours talks to it."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from ctrl_c import end_by_ctrl_c

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
DEADLINE_S = 15


@contextmanager
def running(name: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start an example on a free port; give the address that it prints, and the process."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url.startswith("http://"):
                process.kill()
                pytest.fail(f"{name} printed {url!r} and {process.communicate(timeout=DEADLINE_S)[1]}")
            yield url.rstrip("/"), process
        finally:
            process.kill()


def ws_url(url: str, path: str = "/") -> str:
    return url.replace("http://", "ws://") + path


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("name", ["script_echo.py", "asyncio_echo.py", "trio_echo.py"])
def test_echo_answers_requests_and_messages_until_ctrl_c(name: str) -> None:
    with running(name) as (url, process):
        assert "/some/path" in get(url + "/some/path")
        with connect(ws_url(url), open_timeout=DEADLINE_S) as ws:
            for message in ("text", b"bytes", "Grüße"):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE_S) == message
        end_by_ctrl_c(process)


def test_thread_echo_answers_while_the_main_thread_waits() -> None:
    with running("thread_echo.py") as (url, process):
        with connect(ws_url(url), open_timeout=DEADLINE_S) as ws:
            for message in ("one", "enough"):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE_S) == message
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, output, errors) == (0, "heard 2 messages\n", "")


def test_chat_tells_everybody_what_one_says() -> None:
    with running("chat.py") as (url, process):
        assert "<title>Chat</title>" in get(url + "/")
        with connect(ws_url(url, "/chat"), open_timeout=DEADLINE_S) as first:
            assert "is here" in str(first.recv(timeout=DEADLINE_S))
            with connect(ws_url(url, "/chat"), open_timeout=DEADLINE_S) as second:
                assert "is here" in str(first.recv(timeout=DEADLINE_S))
                assert "is here" in str(second.recv(timeout=DEADLINE_S))
                second.send("hello")
                heard = [str(ws.recv(timeout=DEADLINE_S)) for ws in (first, second)]
                assert heard[0] == heard[1] and heard[0].endswith(": hello")
            assert "has left" in str(first.recv(timeout=DEADLINE_S))
        end_by_ctrl_c(process)


def test_topics_reach_their_members_only() -> None:
    with running("topics.py") as (url, process):
        with (
            connect(ws_url(url), open_timeout=DEADLINE_S) as first,
            connect(ws_url(url), open_timeout=DEADLINE_S) as second,
            connect(ws_url(url), open_timeout=DEADLINE_S) as third,
        ):

            def say(ws: ClientConnection, message: str) -> str:
                ws.send(message)
                return str(ws.recv(timeout=DEADLINE_S))

            assert say(first, "+news") == "news: 1"
            assert say(second, "+news") == "news: 2"
            assert say(third, "news Rain!") == "2 heard it"
            assert [ws.recv(timeout=DEADLINE_S) for ws in (first, second)] == ["Rain!", "Rain!"]
            assert say(first, "news Sun!") == "1 heard it"  # itself excluded
            assert second.recv(timeout=DEADLINE_S) == "Sun!"
            assert say(first, "-news") == "news: 1"
            assert say(second, "-news") == "nobody listens"
            assert say(third, "news Snow!") == "0 heard it"
        end_by_ctrl_c(process)


def test_static_site_serves_files_beside_an_app() -> None:
    with running("static_site.py") as (url, process):
        with urllib.request.urlopen(url + "/", timeout=DEADLINE_S) as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["Cache-Control"] == "no-cache"
            tag = answer.headers["ETag"]
            assert "<title>Static site</title>" in answer.read().decode()
        again = urllib.request.Request(url + "/index.html", headers={"If-None-Match": tag})
        with pytest.raises(urllib.error.HTTPError, match="304") as caught:
            urllib.request.urlopen(again, timeout=DEADLINE_S)
        caught.value.close()
        assert "slept" in get(url + "/api/nap")
        for missing in ("/missing", "/../static_site.py", "/%2e%2e/static_site.py"):
            with pytest.raises(urllib.error.HTTPError, match=r"40[04]") as caught:
                get(url + missing)
            caught.value.close()
        with ThreadPoolExecutor() as pool:  # Python sleeps, and files go on
            nap = pool.submit(get, url + "/api/nap")
            while not nap.done():
                assert "<title>" in get(url + "/")
            assert "slept" in nap.result()
        end_by_ctrl_c(process)


def test_stream_goes_on_at_the_pace_of_its_readers() -> None:
    with running("stream.py") as (url, process):
        with urllib.request.urlopen(url + "/", timeout=DEADLINE_S) as answer:
            with urllib.request.urlopen(url + "/clock", timeout=DEADLINE_S) as clock:  # while the other one waits
                assert [len(clock.readline()) for _ in range(3)] == [9, 9, 9]
            assert process.stdout is not None
            assert process.stdout.readline() == "the clock's reader has left\n"
            assert sum(1 for _ in answer) == 1_000_000
        end_by_ctrl_c(process)


def test_handlers_chat_echoes_bytes_and_tells_everybody_texts() -> None:
    with running("handlers_chat.py") as (url, process):
        with connect(ws_url(url, "/ws"), open_timeout=DEADLINE_S) as echo:
            echo.send(b"\x00\xff")
            assert echo.recv(timeout=DEADLINE_S) == b"\x00\xff"
        with connect(ws_url(url, "/chat"), open_timeout=DEADLINE_S) as first:
            with connect(ws_url(url, "/chat"), open_timeout=DEADLINE_S) as second:
                while get(url + "/clients") != "2":  # a handshake is done before its on_open has run
                    pass
                second.send("hello")
                assert [ws.recv(timeout=DEADLINE_S) for ws in (first, second)] == ["hello", "hello"]
            while get(url + "/clients") != "1":
                pass
            first.send("alone")
            assert first.recv(timeout=DEADLINE_S) == "alone"
        end_by_ctrl_c(process)


def test_events_reach_all_and_who_comes_back_gets_what_was_missed() -> None:
    def listen(last: str = "") -> urllib.request.Request:
        return urllib.request.Request(url + "/events", headers={"Last-Event-ID": last} if last else {})

    def say(text: str) -> None:
        with urllib.request.urlopen(url + "/say", data=text.encode(), timeout=DEADLINE_S) as answer:
            assert answer.status == 204

    def event(number: int, text: str) -> bytes:
        return f"id: {number}\nretry: 1000\ndata: {text}\n\n".encode()

    with running("events.py") as (url, process):
        assert "EventSource" in get(url + "/")
        with urllib.request.urlopen(listen(), timeout=DEADLINE_S) as first:
            assert first.headers["Content-Type"] == "text/event-stream"
            assert first.read(13) == b": heartbeat\n\n"
            for number, text in enumerate(("one", "two"), 1):
                say(text)
                assert first.read(len(event(number, text))) == event(number, text)
        say("three")
        for last, missed in (("1", event(2, "two") + event(3, "three")), ("3", b""), ("", event(1, "one"))):
            with urllib.request.urlopen(listen(last), timeout=DEADLINE_S) as again:
                assert again.read(len(missed) + 2).startswith(missed)
        end_by_ctrl_c(process)


def test_context_echo_tells_what_was_sent() -> None:
    with running("context_echo.py") as (url, process):
        assert "<title>Portico: talk to this server</title>" in get(url + "/")
        assert get(url + "/vars?name=Ada&name=Eve&empty=&bare") == "{'name': 'Ada', 'empty': '', 'bare': None}"
        with urllib.request.urlopen(url + "/vars", data=b"name=Ada+L.", timeout=DEADLINE_S) as answer:
            assert answer.read() == b"{'name': 'Ada L.'}"
        with connect(ws_url(url), open_timeout=DEADLINE_S) as ws:
            assert ws.recv(timeout=DEADLINE_S) == "Connection established"
            for message, said in (("Grüße", "You sent Grüße, 7 bytes of text"), (b"x", "You sent x, 1 bytes of bytes")):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE_S) == said
            ws.send("bye")
            with pytest.raises(ConnectionClosedOK):
                ws.recv(timeout=DEADLINE_S)
        end_by_ctrl_c(process)


def test_context_chat_tells_both_servers_of_its_thread() -> None:
    with running("context_chat.py") as (url, process):
        with connect(ws_url(url), open_timeout=DEADLINE_S) as first:
            greeting = str(first.recv(timeout=DEADLINE_S))
            name = greeting.removeprefix("You are ").partition(".")[0]
            assert first.recv(timeout=DEADLINE_S) == f"{name} is here"
            with connect(greeting.rpartition(" ")[2], open_timeout=DEADLINE_S) as feed:
                first.send("anybody?")
                assert first.recv(timeout=DEADLINE_S) == f"{name}: anybody?"
                assert feed.recv(timeout=DEADLINE_S) == f"{name}: anybody?".encode()
                with connect(ws_url(url), open_timeout=DEADLINE_S):
                    here = feed.recv(timeout=DEADLINE_S)
                    assert here == first.recv(timeout=DEADLINE_S).encode()
                assert feed.recv(timeout=DEADLINE_S) == here.replace(b"is here", b"has left")
        end_by_ctrl_c(process)


def test_context_pictures_are_pushed() -> None:
    with running("context_pictures.py") as (url, process):
        assert "<canvas" in get(url + "/")
        with connect(ws_url(url), open_timeout=DEADLINE_S) as ws:
            pictures = [ws.recv(timeout=DEADLINE_S) for _ in range(3)]
        assert [picture[:8] for picture in pictures] == [b"\x89PNG\r\n\x1a\n"] * 3
        assert len(set(pictures)) == 3
        end_by_ctrl_c(process)


def test_start_server_answers_from_python_and_serves_assets_without() -> None:
    with running("start_server.py") as (urls, process):
        url, basic = urls.split()
        for address in (basic + "/", url + "/", url + "/any", url + "/lib/dynamic/x"):
            with urllib.request.urlopen(address, timeout=DEADLINE_S) as answer:
                assert (answer.headers["Content-Type"], answer.read()) == ("text/html", b"Hello world!")
        assert "@message" in get(url + "/assets/hello.py")
        assert "start_server" in get(url + "/lib/start_server.py")
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get(url + "/lib/")
        caught.value.close()
        end_by_ctrl_c(process)


@pytest.mark.parametrize("name", ["api_message.py", "api_annotated.py"])
def test_api_answers_hello_as_calls_and_as_an_annotated_file(name: str) -> None:
    with running(name) as (url, process):
        with connect(ws_url(url, "/anything"), open_timeout=DEADLINE_S) as ws:
            ws.send("Good morning")  # nobody says anything
            ws.send("Hello")
            assert [ws.recv(timeout=DEADLINE_S) for _ in range(2)] == ["Hello, you..."] * 2
        assert get(url + "/hello/you") == "Hello, you...\n"
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        assert lines == ["message: websocket message received\n"] * 2
        end_by_ctrl_c(process)


def test_every_example_is_short_and_tried() -> None:
    here = Path(__file__).parent
    tried = "".join((here / test).read_text(encoding="utf-8") for test in ("test_examples.py", "test_desktop.py"))
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in tried
        assert len(example.read_text(encoding="utf-8").splitlines()) <= 40
