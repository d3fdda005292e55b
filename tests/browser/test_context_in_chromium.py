"""The page of a context, and the example that draws pictures, in a real browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portico import create_server, websocket_broadcast, websocket_close, websocket_write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DEADLINE_S = 20
PICTURES = Path(__file__).resolve().parents[2] / "examples" / "context_pictures.py"
# One transparent pixel.
GIF = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab; fails if a script in it does."""
    errors: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(DEADLINE_S * 1000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def lines(page: Page, kind: str) -> list[str]:
    return page.locator(f"#log .{kind}").all_inner_texts()


def test_the_page_of_a_context_talks_to_it(page: Page) -> None:
    context = create_server(0, quiet=True, callbacks="thread")
    heard: list[Any] = []

    def receive(data: bytes, ws: Any, header: Any) -> None:
        heard.append((data, header.opcode))
        websocket_write(b"echo: " + data, ws)

    context.receive = receive
    assert context.url is not None
    page.goto(context.url)
    page.wait_for_selector("body.open")
    page.fill("#text", "<b>Grüße</b>")
    page.press("#text", "Enter")
    page.check("#binary")
    page.fill("#text", "bytes")
    page.click("button")
    page.wait_for_function("() => document.querySelectorAll('#log .theirs').length === 2")
    assert lines(page, "own") == ["<b>Grüße</b>", "bytes"]
    assert lines(page, "theirs") == ["echo: <b>Grüße</b>", "echo: bytes"]
    assert heard == [("<b>Grüße</b>".encode(), 1), (b"bytes", 2)]
    for _ in range(2):  # the second takes the place of the first
        assert websocket_broadcast(GIF, context) == 1
    context.is_binary = True
    assert websocket_broadcast(b"\xff\x00", context) == 1
    page.wait_for_function("() => document.querySelectorAll('#log .theirs').length >= 4")
    page.wait_for_function("() => document.querySelectorAll('#log img').length === 1")
    assert "ff 00" in lines(page, "theirs")

    port = context.port
    websocket_close(context)
    page.wait_for_selector("body:not(.open)")
    assert context.server is not None and port is not None
    context.server.wait_closed()
    again = create_server(port, quiet=True, callbacks="thread")
    page.wait_for_selector("body.open")
    assert lines(page, "note") == ["connected", "closed: 1001", "connected"]
    websocket_close(again)
    assert again.server is not None
    again.server.wait_closed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone(browser: Browser, scheme: Any) -> None:
    context = create_server(0, quiet=True, callbacks="thread")
    assert context.url is not None and context.server is not None
    with browser.new_context(viewport={"width": 360, "height": 640}, color_scheme=scheme) as tab:
        page = tab.new_page()
        page.goto(context.url)
        page.wait_for_selector("body.open")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(244, 246, 247)", "dark": "rgb(14, 19, 23)"}[scheme]
    websocket_close(context)
    context.server.wait_closed()


def test_pictures_are_drawn_as_they_come(page: Page) -> None:
    command = [sys.executable, "-W", "error", str(PICTURES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            page.goto(process.stdout.readline().strip())
            look = "Array.from(document.querySelector('canvas').getContext('2d').getImageData(0, 0, 160, 100).data)"
            page.wait_for_function("+document.querySelector('p').textContent >= 2")
            first = page.evaluate(look)
            count = int(page.inner_text("p"))
            page.wait_for_function(f"+document.querySelector('p').textContent > {count}")
            second = page.evaluate(look)
        finally:
            process.kill()
    assert len(set(first)) > 50  # shades of grey
    assert first != second
