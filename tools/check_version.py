"""Is the version written once? Compares the changelog's newest heading with Cargo.toml, where it lives."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def find_version(file: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        sys.exit(f"{file} has no version (looked for {pattern})")
    return found[1]


cargo = find_version("Cargo.toml", r'^version = "([^"]+)"')
changelog = find_version("CHANGELOG.md", r"^## (\d\S*)")
if cargo != changelog:
    sys.exit(f"Cargo.toml says {cargo}, the newest entry of CHANGELOG.md says {changelog}")
print(f"version {cargo} in Cargo.toml and CHANGELOG.md")
