"""Ctrl-C for a program in a process of its own."""

import signal
import subprocess

PATIENCE_S = 3
TIMES = 5


def end_by_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C: the program ends by itself, quietly and with exit code 0.

    Again after a while, as a person would: asyncio, like any program that checks for signals and then waits, sleeps
    over one that comes in between.
    """
    for _ in range(TIMES):
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            continue
        assert (process.returncode, errors) == (0, "")
        return
    raise AssertionError(f"{process.args!r} does not end on Ctrl-C")
