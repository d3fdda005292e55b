"""A chat in one file: the page is answered without Python, every message passes through it."""

import sys

import portico

PAGE = b"""<!doctype html><meta charset="utf-8"><title>Chat</title>
<form><input autofocus aria-label="Message"> <button>Send</button></form><ul></ul>
<script>
const socket = new WebSocket("ws://" + location.host + "/chat"), input = document.querySelector("input");
document.forms[0].onsubmit = (event) => { event.preventDefault(); socket.send(input.value); input.value = ""; };
socket.onmessage = ({ data }) => {
  const line = document.createElement("li");
  line.textContent = data;
  document.querySelector("ul").prepend(line);
};
</script>"""


class Chat:
    def on_ws_open(self, ws):
        server.broadcast(f"Guest {ws.id} is here")
        ws.on_message(lambda binary, message: server.broadcast(f"Guest {ws.id}: {message}"))
        ws.on_close(lambda: server.broadcast(f"Guest {ws.id} has left"))


server = portico.start_server(
    "127.0.0.1",
    int(sys.argv[1]) if len(sys.argv) > 1 else 0,
    Chat(),
    quiet=True,
    inline={"/": ("text/html; charset=utf-8", PAGE)},
)
print(server.url, flush=True)
server.serve()
