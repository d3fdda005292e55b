"""Which Python has a GUI's module. Thread: the test's own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python_with(module: str) -> str:
    """A Python that has `module` and can load our extension: this one, or the system's of the same version."""
    for python in (sys.executable, "/usr/bin/python3"):
        found = subprocess.run(
            [python, "-c", f"import sys, {module}; print(sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.stdout.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip(f"no Python {sys.version_info[0]}.{sys.version_info[1]} here has {module} (see `make desktop`)")
