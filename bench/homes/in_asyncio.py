"""An asyncio program."""

import asyncio

import app


async def main() -> None:
    async with app.start() as server:
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
