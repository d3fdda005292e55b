"""The command line: argparse over the public functions, nothing else. Thread: main.

Exit codes: 0 done (Ctrl-C is how a server is ended), 1 the server could not start, 2 a wrong command line.
"""

import argparse
import errno
import logging
import os
import sys
import webbrowser
from collections.abc import Sequence
from importlib import metadata

import portico
from portico import demo


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return run_demo(options.host, options.port, options.browser)
    except KeyboardInterrupt:
        print()
        return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico", description="An HTTP and WebSocket server inside your Python.")
    parser.add_argument("--version", action="version", version=f"portico {metadata.version('portico')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    command = commands.add_parser("demo", help="a page that shows what happens while Python is busy")
    command.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s, this machine only)")
    command.add_argument("--port", type=parse_port, default=8000, help="default: %(default)s, or a free one if taken")
    command.add_argument("--no-browser", dest="browser", action="store_false", help="do not open a browser")
    return parser


def parse_port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535, 0 for any free one")
    return int(text)


def run_demo(host: str, port: int, browser: bool) -> int:
    # That nobody services the events for five seconds is what this one shows; no need to warn of it.
    logging.getLogger("portico").setLevel(logging.ERROR)
    app = demo.Demo()
    try:
        server = start_demo(host, port, app)
    except (OSError, ValueError) as error:
        print(f"portico: {error}", file=sys.stderr)
        return 1
    with server:
        print(f"Portico's demo is at {server.url} (Ctrl-C ends it)", flush=True)
        if browser and has_screen():
            webbrowser.open(server.url)
        demo.serve(server, app)
    return 0


def start_demo(host: str, port: int, app: demo.Demo) -> portico.Server:
    try:
        return demo.start(host, port, app)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        server = demo.start(host, 0, app)
        print(f"Port {port} is taken; using {server.port} instead", flush=True)
        return server


def has_screen() -> bool:
    # Without one, webbrowser would start a text browser in the terminal that is waiting for Ctrl-C.
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
