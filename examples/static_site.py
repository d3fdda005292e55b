"""Files that need no Python, beside an answer that does. Try: python examples/static_site.py 8080, or 8080 DIRECTORY"""

import sys
import tempfile
import time
from pathlib import Path

import portico

PAGE = """<!doctype html><title>Static site</title>
<p>This page is served even while Python sleeps: open <a href="/api/nap">a nap</a> in another tab, and reload.</p>"""


class Site:
    static_path_options = portico.static_path_options(headers={"Cache-Control": "no-cache"})

    def __init__(self, directory):
        self.static_paths = {"/": directory, "/api": portico.exclude_static_path()}

    def call(self, req):
        began = time.monotonic()
        time.sleep(2 if len(sys.argv) > 1 else 0.5)
        return f"slept {time.monotonic() - began:.1f} seconds\n"


with tempfile.TemporaryDirectory() as directory:
    Path(directory, "index.html").write_text(PAGE, encoding="utf-8")
    site = Site(sys.argv[2] if len(sys.argv) > 2 else directory)
    with portico.start_server("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0, site, quiet=True) as server:
        print(server.url, flush=True)
        server.serve()
