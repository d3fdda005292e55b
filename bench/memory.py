"""What an idle WebSocket costs the server in resident memory: `python bench/memory.py --connections 5000,10000`.

Everything counts: descriptors' state in the server, the connection, the Python object, its request with all header
fields, and the listener that echoes. Each line is a server of its own. `short` is the handshake of a program,
`browser` one with the header fields of Chromium; `deflate` has permessage-deflate agreed on, and one compressed message
sent each way.
"""

from __future__ import annotations

import argparse
import resource
import time

import raw

import portico

WARM = 100
SETTLE_S = 0.5
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
BROWSER = (
    b"Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 "
    b"(KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Accept-Language: en-GB,en;q=0.9\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
)


def serve(home: str) -> None:
    def on_ws_open(ws: portico.WebSocket) -> None:
        ws.on_message(lambda binary, message: ws.send(message))

    limits = portico.Limits(max_connections=100_000)
    options = {"limits": limits, "deflate": True, "quiet": True}
    server = portico.start_server("127.0.0.1", 0, {"on_ws_open": on_ws_open}, callbacks="service", **options)  # type: ignore[arg-type]
    print(server.port, flush=True)
    server.serve()


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))


def measure(connections: int, head: bytes) -> float:
    handshake = raw.HANDSHAKE[:-2] + head + b"\r\n"
    with raw.ServerProcess(__file__, "service") as server:
        warm = [raw.open_websocket(server.address, handshake) for _ in range(WARM)]
        for client in warm:
            raw.echo(client, is_compressed=DEFLATE in head)
        time.sleep(SETTLE_S)
        before = resident_kib(server.process.pid)
        clients = [raw.open_websocket(server.address, handshake) for _ in range(connections)]
        if DEFLATE in head:
            for client in clients:
                raw.echo(client, is_compressed=True)
        time.sleep(SETTLE_S)
        after = resident_kib(server.process.pid)
        for client in clients + warm:
            client.close()
    return (after - before) / connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", default="5000,10000", help="default: %(default)s")
    parser.add_argument("--serve", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve[0])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    heads = {"short": b"", "browser": BROWSER, "short, deflate": DEFLATE, "browser, deflate": BROWSER + DEFLATE}
    for connections in map(int, options.connections.split(",")):
        for name, head in heads.items():
            print(f"{connections:6} connections, {name:17} {measure(connections, head):6.2f} KiB each", flush=True)
    return None


if __name__ == "__main__":
    main()
