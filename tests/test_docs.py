"""The pages in docs/ say what the code says."""

import re
from dataclasses import fields
from pathlib import Path

import portico

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_table_of_limits_is_complete_and_true() -> None:
    page = (DOCS / "limits.md").read_text(encoding="utf-8")
    written = re.findall(r"^\| `(\w+)` \| (\S+) \|", page, re.MULTILINE)
    assert written == [(field.name, str(field.default)) for field in fields(portico.Limits)]
