"""Debian's Chromium, driven by Playwright. Without either, the tests of this folder are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No GPU here, no sandbox for root, and no talking to anybody but us.
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright: make setup")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("browser tests need Chromium: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        with playwright.chromium.launch(executable_path=chromium, headless=True, args=FLAGS) as browser:
            yield browser
