"""Others who live in `PyOS_InputHook`: Tk, Qt, and hooks of whom we know nothing. They go on while ours is there.

Thread: main.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

MAX_EVENTS = 100

_HOOK = ctypes.CFUNCTYPE(ctypes.c_int)


class Guests:
    """`previous`: the address of the hook that was there before ours, if any."""

    def __init__(self) -> None:
        self.previous: int | None = None

    def run(self) -> bool:
        """Give everybody a turn; whether there is anybody."""
        # The hooks of Tk and Qt don't return before a key is pressed. So we run their events ourselves.
        ran = _run_tk() | _run_qt()
        if ran or self.previous is None or _is_known(self.previous):
            return ran
        self.call_previous()
        return True

    def call_previous(self) -> None:
        """Do what would have been done without us."""
        if self.previous is not None:
            _HOOK(self.previous)()

    def leave(self, slot: ctypes.c_void_p) -> None:
        """Our hook has left. Tk installs its own only where there is none, so one that began under ours has none."""
        if slot.value is None and (root := _tk_root()) is not None:
            import tkinter

            # Making any interpreter installs it, freeing that removes it. So it stays with the window.
            root._portico_hook = tkinter.Tcl()


def _tk_root() -> Any:
    tkinter = sys.modules.get("tkinter")
    return None if tkinter is None else getattr(tkinter, "_default_root", None)


def _run_tk() -> bool:
    root = _tk_root()
    if root is None:
        return False
    for _ in range(MAX_EVENTS):
        if not root.tk.dooneevent(2):  # TCL_DONT_WAIT
            break
    return True


def _run_qt() -> bool:
    for binding in ("PyQt6", "PySide6", "PyQt5", "PySide2"):
        core = sys.modules.get(f"{binding}.QtCore")
        application = None if core is None else core.QCoreApplication.instance()
        if application is not None:
            application.processEvents()
            return True
    return False


class _Place(ctypes.Structure):
    """`Dl_info`"""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _is_known(address: int) -> bool:
    """Whether the hook at `address` is one of those whose events we run ourselves."""
    place = _Place()
    if not ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(place)):
        return False
    file = (place.file or b"").rpartition(b"/")[2].lower()
    return file.startswith((b"_tkinter", b"qtcore", b"pyside"))
