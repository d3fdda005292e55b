"""Server-sent events. Who comes back gets what was missed. Try: curl -d hello localhost:8080/say"""

import asyncio
import sys

from portico import SendResult, format_sse, handler, handler_inline, handler_stream, http_server

PAGE = """<!doctype html><title>Events</title><body><script>
new EventSource("/events").onmessage = ({ data }) => document.body.append(data + " ")</script>"""
said, listeners = [], set()


def event(number):
    return format_sse(said[number], id=number + 1, retry=1000)


async def listen(conn, req):
    conn.set_header("Content-Type", "text/event-stream")
    for number in range(int(req.headers.get("last-event-id", 0)), len(said)):
        conn.send(event(number))
    listeners.add(conn)
    while True:  # until the client leaves, which cancels this coroutine
        conn.send(format_sse(None, comment="heartbeat"))
        await asyncio.sleep(15)


def say(req):
    said.append(req.text())
    for conn in listeners:
        if conn.send(event(len(said) - 1)) == SendResult.FULL:
            conn.close()  # too slow: it will come back, and tell what it has seen
    return {"status": 204}


events = handler_stream("/events", listen, listeners.discard, method="GET")
handlers = [handler_inline("/", PAGE, "text/html"), events, handler("/say", say, "POST")]
with http_server(f"http://127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 0}", handlers) as server:
    print(server.url, flush=True)
    server.serve()
