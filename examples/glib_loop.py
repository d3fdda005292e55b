"""A GLib main loop, as in every GTK program: GLib watches one descriptor, and callbacks run on its thread."""

import sys

from gi.repository import GLib

import portico

loop = GLib.MainLoop()
paths = []


def call(req):
    if req.path == "/close":
        GLib.timeout_add(100, loop.quit)
    paths.append(req.path)
    return f"The program says: Last: {paths[-1]}\n"


def run_callbacks(*_):
    portico.service(0)
    return GLib.SOURCE_CONTINUE


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with portico.start_server("127.0.0.1", port, call, quiet=True) as server:
    print(server.url, flush=True)
    GLib.io_add_watch(portico.fileno(), GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN, run_callbacks)
    loop.run()  # until somebody quits it; then the server stops
