"""What a page of one origin may do with a server of another, and compressed answers, as Chromium sees them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import portico
from portico import Cors, Response

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEADLINE_MS = 20_000

# Asks, and tells what the page may see; `failed` if the browser lets it see nothing.
FETCH = """async ([url, options]) => {
  try {
    const reply = await fetch(url, options);
    return { status: reply.status, type: reply.type, total: reply.headers.get("X-Total"), text: await reply.text() };
  } catch (error) {
    return { failed: error.name };
  }
}"""

# The data of the first events of an event stream.
LISTEN = """([url, count]) => new Promise((resolve) => {
  const seen = [];
  const source = new EventSource(url);
  source.onmessage = ({ data }) => {
    seen.push(data);
    if (seen.length === count) { source.close(); resolve(seen); }
  };
})"""

TEXT = "Ein Tür-zu-Tür-Gespräch ☂ 😀. " * 5000


class Api:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def call(self, req: portico.Request) -> Response:
        self.asked.append((req.method, req.headers.get("Cookie", "")))
        headers = {"Content-Type": "text/plain; charset=utf-8", "X-Total": "3"}
        if req.path == "/cookie":
            return Response(200, headers, "set").set_cookie("who", "me")
        if req.path == "/events":
            return Response(200, {"Content-Type": "text/event-stream"}, (f"data: {number}\n\n" for number in range(50)))
        return Response(200, headers, TEXT if req.path == "/text" else f"{req.method} {req.headers.get('X-Own')}")


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    page = browser.new_page()
    page.set_default_timeout(DEADLINE_MS)
    return page


@pytest.fixture(scope="module")
def home() -> Iterator[portico.Server]:
    """Where the page comes from."""
    html = ("text/html", "<!doctype html><title>page</title>")
    with portico.start_server("127.0.0.1", 0, lambda req: "", True, callbacks="thread", inline={"/": html}) as server:
        yield server
    server.wait_closed()


class Asking:
    """A page, and a server of another origin that it asks."""

    def __init__(self, page: Page, home: portico.Server, **options: Any) -> None:
        self.app = Api()
        self.page = page
        self.server = portico.start_server("127.0.0.1", 0, self.app, True, callbacks="thread", **options)
        page.goto(home.url)

    def fetch(self, target: str = "/", **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.page.evaluate(FETCH, [self.server.url + target, options])
        return found

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.server.wait_closed()


PUT = {"method": "PUT", "headers": {"X-Own": "1"}}


def test_a_listed_page_reads_and_changes(page: Page, home: portico.Server) -> None:
    with Asking(page, home, cors=Cors([home.url], expose=["X-Total"])) as asking:
        assert asking.fetch() == {"status": 200, "type": "cors", "total": "3", "text": "GET None"}
        assert asking.fetch(**PUT) == {"status": 200, "type": "cors", "total": "3", "text": "PUT 1"}
        assert [method for method, _ in asking.app.asked] == ["GET", "PUT"], "the pre-flight was none of Python's"


def test_any_page_reads_and_sees_no_more_than_is_exposed(page: Page, home: portico.Server) -> None:
    with Asking(page, home, cors=True) as asking:
        assert asking.fetch(**PUT) == {"status": 200, "type": "cors", "total": None, "text": "PUT 1"}
        assert asking.fetch(headers={"Authorization": "Bearer x"})["status"] == 200
        assert asking.fetch(credentials="include") == {"failed": "TypeError"}


@pytest.mark.parametrize("cors", [None, ["https://app.example"], "same port, other name"])
def test_other_pages_read_nothing(page: Page, home: portico.Server, cors: Any) -> None:
    if isinstance(cors, str):
        cors = [home.url.replace("127.0.0.1", "localhost")]
    with Asking(page, home, cors=cors) as asking:
        assert asking.fetch() == {"failed": "TypeError"}
        assert asking.fetch(**PUT) == {"failed": "TypeError"}
        assert "PUT" not in [method for method, _ in asking.app.asked]


def test_what_is_not_allowed_is_not_sent(page: Page, home: portico.Server) -> None:
    with Asking(page, home, cors=Cors([home.url], methods=["GET"], headers=[])) as asking:
        assert asking.fetch(method="DELETE") == {"failed": "TypeError"}
        assert asking.fetch(headers={"X-Own": "1"}) == {"failed": "TypeError"}
        assert asking.app.asked == []


def test_cookies_go_along_where_that_is_allowed(page: Page, home: portico.Server) -> None:
    with Asking(page, home, cors=Cors([home.url], credentials=True)) as asking:
        assert asking.fetch("/cookie", credentials="include")["status"] == 200
        assert asking.fetch(credentials="include")["status"] == 200
        assert asking.app.asked[-1] == ("GET", "who=me")


def test_compressed_answers_and_events(page: Page, home: portico.Server) -> None:
    with Asking(page, home, cors=[home.url], gzip=True) as asking:
        with page.expect_response("**/text") as response:
            assert asking.fetch("/text")["text"] == TEXT
        assert response.value.all_headers()["content-encoding"] == "gzip"
        events = [str(number) for number in range(50)]
        assert page.evaluate(LISTEN, [f"{asking.server.url}/events", 50]) == events
