"""nanonext's example in Python: an echo at /ws, and a chat at /chat that keeps its connections by their ids."""

import sys

import portico
from portico import handler_ws, http_server

# Simple echo server
echo = handler_ws("/ws", lambda ws, data: ws.send(data))

# With connection tracking
clients = {}


def broadcast(ws, data):
    for client in clients.values():
        client.send(data)


def joined(ws, req):
    if len(clients) >= 100:
        ws.close(1013, "the room is full")
    else:
        clients[ws.id] = ws


def left(ws):
    clients.pop(ws.id, None)


chat = handler_ws("/chat", on_message=broadcast, on_open=joined, on_close=left, textframes=True)
count = portico.handler("/clients", lambda req: str(len(clients)))

port = sys.argv[1] if len(sys.argv) > 1 else "0"
server = http_server(f"http://127.0.0.1:{port}", [echo, chat, count]).start()
print(server.url, flush=True)
server.serve()
