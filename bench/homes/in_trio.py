"""A trio program, which watches the descriptor itself."""

import app
import trio

import portico


async def main() -> None:
    app.start()
    while True:
        await trio.lowlevel.wait_readable(portico.fileno())
        portico.service(0)


trio.run(main)
