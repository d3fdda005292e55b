"""httpuv's examples in Python: a very basic application, and one that serves static assets without Python."""

import sys
from pathlib import Path

import portico
from portico import exclude_static_path, static_path, static_path_options

HERE = Path(__file__).parent


def call(req):
    return {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "Hello world!"}


# A very basic application
basic = portico.start_server("127.0.0.1", 0, {"call": call}, quiet=True)

# An application that serves static assets at the URL paths /assets and /lib
app = {
    "call": call,
    "static_paths": {
        "/assets": HERE / "routes",
        "/lib": static_path(HERE, indexhtml=False),
        # This subdirectory of /lib should always be handled by the Python code path
        "/lib/dynamic": exclude_static_path(),
    },
    "static_path_options": static_path_options(indexhtml=True),
}
server = portico.start_server("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0, app, quiet=True)
print(server.url, basic.url, flush=True)
server.serve()
basic.stop()
