"""The client under test: `python echo_client.py STYLE HOST:PORT` goes through every case that a fuzzing server has.

It echoes what each connection says until that connection ends, and then asks for the report. STYLE: how it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

import portico
from portico import ConnectionClosed, SendResult

OPTIONS = {"deflate": True}
"""What each case is opened with: its test is what is offered by default."""


def case_urls(server: str, agent: str) -> Iterator[str]:
    """Every case that this server has, and at last the request for its report."""
    with portico.connect(f"ws://{server}/getCaseCount") as ws:
        count = int(ws.recv(timeout=60))
    for number in range(1, count + 1):
        yield f"ws://{server}/runCase?case={number}&agent={agent}"
    yield f"ws://{server}/updateReports?agent={agent}"


def echo_blocking(url: str) -> None:
    with portico.connect(url, **OPTIONS) as ws:
        for message in ws:
            while ws.send(message) is SendResult.FULL:
                ws.wait_drained()


async def echo_in_loop(url: str) -> None:
    async with portico.connect(url, **OPTIONS) as ws:
        async for message in ws:
            while ws.send(message) is SendResult.FULL:
                await ws.drain()


async def echo_received(url: str) -> None:
    """The same with `receive()`."""
    async with portico.connect(url, **OPTIONS) as ws:
        with contextlib.suppress(ConnectionClosed):
            while True:
                ws.send(await ws.receive())


def echo_in_callbacks(url: str) -> None:
    over = threading.Event()
    portico.connect(
        url,
        on_message=lambda ws, message: ws.send(message),
        on_close=lambda ws: over.set(),
        callbacks="thread",
        **OPTIONS,
    )
    if not over.wait(300):
        raise TimeoutError(url)


def echo_on_uvloop(url: str) -> None:
    import uvloop

    uvloop.run(echo_received(url))


STYLES: dict[str, Callable[[str], None]] = {
    "blocking": echo_blocking,
    "asyncio": lambda url: asyncio.run(echo_in_loop(url)),
    "uvloop": echo_on_uvloop,
    "callbacks": echo_in_callbacks,
}

if __name__ == "__main__":
    style, server = sys.argv[1:]
    echo = STYLES[style]
    for url in case_urls(server, style):
        echo(url)
