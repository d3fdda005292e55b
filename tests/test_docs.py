"""The pages in docs/ say what the code says, and their examples run."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

import portico
from portico.routes import SlowClient
from portico.testing import FakeCore, number_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLES = [
    pytest.param(example, id=f"{page.stem}-{index}")
    for page in sorted(DOCS.glob("*.md"))
    for index, example in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )
]


def test_table_of_limits_is_complete_and_true() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE)
    assert written == [(field.name, str(field.default)) for field in fields(portico.Limits)]


def test_ways_to_treat_a_slow_client_are_complete() -> None:
    page = (DOCS / "websockets.md").read_text(encoding="utf-8")
    assert re.findall(r'^\| `"(\w+)"`', page, re.MULTILINE) == list(get_args(SlowClient))


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_serves_a_websocket(core: FakeCore, caplog: pytest.LogCaptureFixture, example: str) -> None:
    names: dict[str, portico.Server] = {}
    exec(compile(example, "docs", "exec"), names)
    number = core.open(number_of(names["server"]), subprotocol="chat.v2")
    for step in (lambda: core.message(number, "text"), lambda: core.drained(number), lambda: core.closed(number)):
        step()
        for _ in range(3):  # a coroutine takes its steps between the batches
            portico.service(0)
    assert core.said("send") or core.said("publish")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
