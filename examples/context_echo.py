"""The first example of R websockets, in Python: an echo that knows what is text, and the page that tries it."""

import sys

from portico import create_server, http_response, http_vars, service, set_callback, websocket_close, websocket_write

context = create_server(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
page = context.static


def established(ws):
    websocket_write("Connection established", ws)


def receive(data, ws, header):
    if data == b"bye":
        websocket_close(ws)
    else:
        kind = "text" if header.opcode == 1 else "bytes"
        websocket_write(f"You sent {data.decode(errors='replace')}, {len(data)} bytes of {kind}", ws)


def static(socket, header):
    if header["RESOURCE"].startswith("/vars"):
        http_response(socket, content_type="text/plain; charset=utf-8", content=repr(http_vars(socket, header)))
    else:
        page(socket, header)


set_callback("established", established, context)
set_callback("receive", receive, context)
set_callback("static", static, context)
print(context.url, flush=True)
try:
    while True:
        service(context, 1.0)
except KeyboardInterrupt:
    websocket_close(context)
