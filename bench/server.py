"""What the load generators talk to: `python bench/server.py PORT [service|asyncio|uvloop|thread [DIR]]`.

`/ws` echoes, `/chat` sends each message to everybody, `/` says hello, `/json` makes a document per request, `/static`
has the files of DIR, `/busy` holds the interpreter in one C call for `BENCH_HOLD` seconds. With `BENCH_CERT=cert:key`
it speaks TLS.
"""

import asyncio
import ctypes
import json
import os
import sys

import portico

DOCUMENT = {"message": "Hello world!", "id": 42, "ok": True, "x": 1}
HELLO = portico.Response(200, {"Content-Type": "text/plain"}, "Hello world!")


def hold() -> str:
    ctypes.PyDLL(None).usleep(int(float(os.environ.get("BENCH_HOLD", "3")) * 1e6))
    return "done"


def call(req: portico.Request) -> object:
    if req.path == "/json":
        return {"headers": {"Content-Type": "application/json"}, "body": json.dumps(DOCUMENT)}
    if req.path == "/busy":
        return hold()
    return HELLO


def on_ws_open(ws: portico.WebSocket) -> None:
    if ws.request.path == "/chat":
        ws.on_message(lambda binary, message: server.broadcast(message))
    elif ws.request.path == "/busy":
        ws.send(hold())
    else:
        send = ws.send
        ws.on_message(lambda binary, message: send(message))


def start(port: int, callbacks: str = "auto") -> portico.Server:
    app = {"call": call, "on_ws_open": on_ws_open}
    if len(sys.argv) > 3:
        app["static_paths"] = {"/static": sys.argv[3]}
    inline = {"/ping": ("text/plain", b"pong")}
    cert, _, key = os.environ.get("BENCH_CERT", "").partition(":")
    tls = portico.tls_config(server=(cert, key)) if cert else None
    return portico.start_server("127.0.0.1", port, app, tls=tls, callbacks=callbacks, inline=inline)  # type: ignore[arg-type]


async def serve_in_loop(port: int) -> None:
    global server
    async with start(port) as server:
        await server.wait_closed()


if __name__ == "__main__":
    port, home = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "service"
    if home == "asyncio":
        asyncio.run(serve_in_loop(port))
    elif home == "uvloop":
        import uvloop

        uvloop.run(serve_in_loop(port))
    else:
        server = start(port, "thread" if home == "thread" else "service")
        server.serve() if home == "service" else server.wait_closed()
