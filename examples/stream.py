"""Answers in pieces: "/" counts as fast as it is read, "/clock" ticks. Try: curl -N localhost:8080/clock"""

import asyncio
import sys
import time

import portico


def count():
    for number in range(1_000_000):  # never in memory all at once
        yield f"line {number}\n"


async def clock():
    try:
        while True:
            yield time.strftime("%H:%M:%S\n")
            await asyncio.sleep(0.2)
    finally:
        print("the clock's reader has left", flush=True)


def call(req):
    return portico.Response(200, {"Content-Type": "text/plain"}, clock() if req.path == "/clock" else count())


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = portico.start_server("127.0.0.1", port, call, quiet=True)
print(server.url, flush=True)
server.serve()
