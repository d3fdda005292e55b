"""plumber2's example as an annotated route file, routes/hello.py. Try: python examples/api_annotated.py 8080"""

import logging
import sys
from pathlib import Path

import portico

logging.basicConfig(level=logging.INFO, format="%(message)s")
routes = Path(__file__).with_name("routes")
api = portico.api(routes, port=int(sys.argv[1]) if len(sys.argv) > 1 else 0, quiet=True)


@api.on("start")
def tell(server):
    print(server.url, flush=True)


api.run(block=True)
