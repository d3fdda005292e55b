"""A script that answers WebSocket messages until Ctrl-C. Try: python examples/script_echo.py 8080"""

import sys

import portico


class Echo:
    def call(self, req):
        return f"Open a WebSocket here: {req.path}\n"

    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: ws.send(message))


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with portico.start_server("127.0.0.1", port, Echo(), quiet=True) as server:
    print(server.url, flush=True)
    server.serve()  # returns on Ctrl-C
