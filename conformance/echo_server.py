"""The server under test: `python echo_server.py service|asyncio|uvloop|thread` echoes every WebSocket message.

It prints its port and serves until its input ends, so it never outlives who started it. Thread: the pump's.
"""

import asyncio
import os
import sys
import threading

import portico


def on_ws_open(ws: portico.WebSocket) -> None:
    send = ws.send
    ws.on_message(lambda binary, message: send(message))


def start(callbacks: str) -> portico.Server:
    app = {"on_ws_open": on_ws_open}
    server = portico.start_server("127.0.0.1", 0, app, quiet=True, deflate=True, callbacks=callbacks)  # type: ignore[arg-type]
    print(server.port, flush=True)
    return server


async def serve_in_loop() -> None:
    async with start("loop") as server:
        await server.wait_closed()


def end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=end_with_input, daemon=True).start()
    pump = sys.argv[1]
    if pump == "asyncio":
        asyncio.run(serve_in_loop())
    elif pump == "uvloop":
        import uvloop

        uvloop.run(serve_in_loop())
    elif pump == "thread":
        start("thread").wait_closed()
    else:
        start("service").serve()
