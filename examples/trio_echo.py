"""Inside a trio program: trio watches one descriptor; callbacks run in its thread and may start tasks."""

import sys
from concurrent.futures import Future
from contextlib import suppress

import trio

import portico


class Echo:
    def __init__(self, nursery):
        self.nursery = nursery

    def call(self, req):  # `async def` would be asyncio's; a future is answered by whoever keeps its promise
        answer = Future()
        self.nursery.start_soon(self.answer, req, answer)
        return answer

    async def answer(self, req, answer):
        with trio.CancelScope() as scope:
            answer.add_done_callback(lambda _: scope.cancel())  # also when the client leaves
            await trio.sleep(0.01)
            answer.set_result(f"You asked for {req.path}\n")

    def on_ws_open(self, ws):
        ws.on_message(lambda binary, message: ws.send(message))


async def main(port):
    async with trio.open_nursery() as nursery:
        with portico.start_server("127.0.0.1", port, Echo(nursery)) as server, suppress(KeyboardInterrupt):
            print(server.url, flush=True)
            while True:
                await trio.lowlevel.wait_readable(portico.fileno())
                portico.service(0)


trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
