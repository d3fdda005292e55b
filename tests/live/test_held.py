"""While Python is busy: what the server answers by itself, and what waits and is answered afterwards.

The server is a process of its own, because a held interpreter holds its clients too.
"""

from __future__ import annotations

import time

import pytest

from .process import Program
from .wire_client import PING, PONG, Address, Client, Frame, WebSocketClient, ask, request

HOLD_S = 1.0

# `/call/…` holds the interpreter lock in one C call, `/loop/…` computes; `…/outside` happens between two services.
HOLDER = f"""
HOLD_S = {HOLD_S}
wanted = []

def hold(how):
    say("holding")
    if how == "call":
        ctypes.PyDLL(None).usleep(int(HOLD_S * 1e6))
    else:
        until = time.monotonic() + HOLD_S
        while time.monotonic() < until:
            pass
    return "held"

class App:
    def call(self, req):
        kind = req.path.strip("/")
        if kind.endswith("-outside"):
            wanted.append(kind.removesuffix("-outside"))
            return "later"
        return hold(kind) if kind else "python"

    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: ws.send(message))

async def in_loop():
    start(App(), "asyncio", inline=INLINE)
    while True:
        while not wanted:
            await asyncio.sleep(0.001)
        hold(wanted.pop())

INLINE = {{"/inline": ("text/plain", b"native")}}
home = sys.argv[1]
if home == "asyncio":
    asyncio.run(in_loop())
elif home == "thread":
    live(App(), home, inline=INLINE)
else:
    server = start(App(), home, inline=INLINE)
    while True:
        server.service()
        while wanted:
            hold(wanted.pop())
"""


@pytest.mark.parametrize("how", ["call", "loop", "call-outside", "loop-outside"])
@pytest.mark.parametrize("home", ["service", "asyncio", "thread"])
def test_a_held_interpreter_does_not_hold_the_server(home: str, how: str) -> None:
    if home == "thread" and how.endswith("-outside"):
        pytest.skip("that thread has no outside")
    with Program(HOLDER, home) as program:
        address = program.address()
        with WebSocketClient(address) as early, Client(address) as holder, Client(address) as waiting:
            early.send_text("ready")
            assert early.receive_text() == "ready"
            holder.send(request(target=f"/{how}"))
            assert program.line() == "holding"
            began = time.monotonic()
            with answer_probes(address, early) as late:
                waiting.send(request())
                early.send_text("early")
                late.send_text("late")
                took_s = time.monotonic() - began
                assert took_s < HOLD_S / 2
                if not how.endswith("-outside"):
                    assert holder.is_silent()
                assert waiting.is_silent() and early.is_silent() and late.is_silent()
                # And then what Python answers is answered.
                assert holder.receive_reply().body == (b"later" if how.endswith("-outside") else b"held")
                assert waiting.receive_reply().body == b"python"
                assert early.receive_text() == "early"
                assert late.receive_text() == "late"
                assert time.monotonic() - began < HOLD_S * 2


def answer_probes(address: Address, early: WebSocketClient) -> WebSocketClient:
    """Ask for everything that needs no Python, five times over; return the last of the new WebSockets."""
    for round in range(5):
        early.send_frame(PING, b"%d" % round)
        assert early.receive_frame() == Frame(PONG, b"%d" % round)
        late = WebSocketClient(address)
        assert ask(address, request(target="/inline")).body == b"native"
        assert ask(address, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status == 400
        if round < 4:
            late.close()
            late.socket.close()
    return late


def test_a_client_that_leaves_during_a_hold_is_told_to_python_afterwards() -> None:
    source = """
    def on_ws_open(ws):
        ws.on_close(lambda: say("closed", ws.close_code))

        @ws.on_message
        def hold(binary, message):
            say("holding")
            ctypes.PyDLL(None).usleep(500_000)

    live({"on_ws_open": on_ws_open}, "service")
    """
    with Program(source) as program:
        address = program.address()
        with WebSocketClient(address) as holder, WebSocketClient(address) as other:
            holder.send_text("hold")
            assert program.line() == "holding"
            assert other.close(3001, "bye") == (3001, "")
            assert program.line() == "closed 3001"
