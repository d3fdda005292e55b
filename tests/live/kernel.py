"""A real Jupyter kernel, and cells that run in it: what a notebook's front end sees."""

from __future__ import annotations

import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from .wire_client import DEADLINE_S

START_S = 30


@dataclass
class Cell:
    """One execution: what it put out so far, by the kind of message."""

    id: str
    status: str = "running"
    stdout: str = ""
    stderr: str = ""
    shown: list[dict[str, str]] = field(default_factory=list)  # results and displays, by MIME type
    error: str = ""

    def take(self, message: dict[str, Any]) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in ("execute_result", "display_data"):
            self.shown.append(content["data"])
        elif kind == "error":
            self.error = f"{content['ename']}: {content['evalue']}"
        elif kind == "status" and content["execution_state"] == "idle":
            self.status = "done"


class Kernel:
    """Started at once; `stop` it."""

    def __init__(self, directory: Path) -> None:
        # Nothing of the user's: neither settings nor history.
        names = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
        # No TCP, so that no other user of this machine can send it anything; short, as paths of sockets must be.
        self._manager = KernelManager(transport="ipc", ip=str(directory / "k"))
        self._manager.start_kernel(env=os.environ | dict.fromkeys(names, str(directory)), cwd=str(directory))
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=START_S)
        self._cells: dict[str, Cell] = {}

    def start(self, code: str) -> Cell:
        """Begin to run a cell, and return."""
        cell = Cell(self._client.execute(code))
        self._cells[cell.id] = cell
        return cell

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        cell = self.start(code)
        self.wait(lambda: cell.status == "done")
        return cell

    def wait(self, is_so: Any) -> None:
        """Take what the kernel puts out, until `is_so()`."""
        deadline = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < deadline, f"it did not come about; {list(self._cells.values())[-1]}"
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            cell = self._cells.get(message["parent_header"].get("msg_id", ""))
            if cell is not None:
                cell.take(message)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def stop(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=False)
        self._manager.cleanup_resources()
