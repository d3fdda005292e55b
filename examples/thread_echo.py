"""A program with work of its own; the server's callbacks run on a thread that belongs to the server."""

import sys
import threading

import portico

messages = []
enough = threading.Event()


class Echo:
    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: self.hear(ws, message))

    def hear(self, ws, message):
        messages.append(message)
        ws.send(message)
        if message == "enough":
            enough.set()


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = portico.start_server("127.0.0.1", port, Echo(), quiet=True, callbacks="thread")
print(server.url, flush=True)
enough.wait()  # the main thread does what it likes
server.stop(timeout=1)
print(f"heard {len(messages)} messages", flush=True)
