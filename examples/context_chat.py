"""A chat with broadcast over two servers in one program: a page on one port, a plain feed for programs on another."""

import sys

from portico import create_server, service, websocket_broadcast, websocket_close, websocket_write

people = {}
chat = create_server(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
feed = create_server(port=0, webpage=None, is_binary=True)  # everything that is said, as bytes


def tell(text):
    websocket_broadcast(text, chat)
    websocket_broadcast(text, feed)


def established(ws):
    people[ws] = f"Guest {ws.id}"
    websocket_write(f"You are {people[ws]}. The feed is at {feed.url.replace('http', 'ws')}", ws)
    tell(f"{people[ws]} is here")


def receive(data, ws, header):
    tell(f"{people[ws]}: {data.decode(errors='replace')}")


def closed(ws):
    tell(f"{people.pop(ws)} has left")


chat.established, chat.receive, chat.closed = established, receive, closed
print(chat.url, flush=True)
try:
    while True:
        service(1.0)  # both servers live in this thread
except KeyboardInterrupt:
    websocket_close(feed)
    websocket_close(chat)
