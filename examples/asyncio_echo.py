"""Inside an asyncio program: callbacks and coroutines run on its loop."""

import asyncio
import sys

import portico


class Echo:
    async def call(self, req):
        await asyncio.sleep(0.01)
        return f"You asked for {req.path}\n"

    def on_ws_open(self, ws):
        async def answer(binary, message):
            await asyncio.sleep(0.01)
            ws.send(message)

        ws.on_message(answer)


async def main(port):
    async with portico.start_server("127.0.0.1", port, Echo(), quiet=True) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()  # whatever else the program does


try:
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
except KeyboardInterrupt:
    pass
