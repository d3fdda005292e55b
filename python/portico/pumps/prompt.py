"""The pump for an interactive prompt: callbacks run while it waits for typing.

Here is decided whether there is a prompt, and of what kind. Each kind has a file of its own. Thread: main.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Protocol

STDIN = 0


class Source(Protocol):
    """Something with a descriptor that is readable when `turn(0)` has something to do."""

    @property
    def is_busy(self) -> bool:
        """Whether a callback is running right now."""

    def watched_fileno(self) -> int:
        """The descriptor."""

    def touch(self) -> None:
        """Let the loop that runs in this thread take over."""

    def turn(self, timeout: float | None) -> int:
        """Run one batch of callbacks."""


class PromptPump(Protocol):
    """Runs a source's callbacks while the prompt waits, until it is closed."""

    def close(self) -> None:
        """Leave the prompt as it was. Idempotent."""

    def abandon(self) -> None:
        """As `close`, in a forked child."""


def open_prompt(source: Source) -> PromptPump:
    """Run the callbacks of `source` at the prompt of this process from now on. `refusal` says whether that can be."""
    # Imported here, because most programs have no prompt and need no ctypes.
    shell = _terminal_shell()
    if shell is not None and shell.pt_app is not None:
        from portico.pumps.ipython_prompt import IPythonPrompt

        return IPythonPrompt(source, shell)
    from portico.pumps.input_hook import InputHook

    return InputHook(source)


def refusal() -> str | None:
    """Why callbacks can't run at a prompt of this thread; None if they can."""
    if threading.current_thread() is not threading.main_thread():
        return "only the main thread has a prompt"
    if not os.isatty(STDIN):
        return "stdin is not a terminal"
    if _shell() is not None and _terminal_shell() is None:
        return "this IPython has no prompt on a terminal"
    return None


def is_interactive() -> bool:
    """Whether this process shows a prompt when it has nothing else to do, or will after its script (`python -i`)."""
    # Python reads PYTHONINSPECT when the script ends, so that scripts may set it.
    return hasattr(sys, "ps1") or bool(sys.flags.inspect or os.environ.get("PYTHONINSPECT"))


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def _terminal_shell() -> Any:
    """IPython's shell, if it is the one for terminals; its `pt_app` is None where it reads plain lines."""
    shell = _shell()
    return shell if hasattr(shell, "pt_app") else None
