"""Topics: "+news" subscribes, "-news" ends that, "news Rain!" tells all others who have subscribed to "news"."""

import sys

import portico


class Topics:
    async def on_ws_open(self, ws):
        async for message in ws:
            if isinstance(message, str):
                ws.send(self.answer(ws, message))

    def answer(self, ws, message):
        if message.startswith("+"):
            ws.subscribe(message[1:])
        elif message.startswith("-"):
            ws.unsubscribe(message[1:])
        else:
            topic, _, text = message.partition(" ")
            return f"{server.publish(topic, text, exclude=ws)} heard it"
        return ", ".join(f"{topic}: {members}" for topic, members in server.topics.items()) or "nobody listens"


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
server = portico.start_server("127.0.0.1", port, Topics(), quiet=True, deflate=True)
print(server.url, flush=True)
server.serve()
