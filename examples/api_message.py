"""plumber2's example in Python: the same handler twice, once in a thread. Try: python examples/api_message.py 8080"""

import logging
import sys

import portico
from portico import api_message


def hello(message):
    return "Hello, you..." if message == "Hello" else None


def tell(server):
    server.log("message", "websocket message received")


logging.basicConfig(level=logging.INFO, format="%(message)s")
api = portico.api(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0, quiet=True)
api_message(api, hello)
api_message(api, hello, async_=True, then=[tell])


@api.get("/hello/<name>")
def greet(name):
    return f"Hello, {name}...\n"


api.on("start", lambda server: print(server.url, flush=True))
api.run(block=True)
