"""What an upload costs in memory and time: `python bench/uploads.py --megabytes 200`.

One client sends one body, with Content-Length and in chunks. `spooled` goes through a file and is read from there,
`streamed` is read while it comes. `more` is how much the server's largest resident size grew over that of a small one.
"""

from __future__ import annotations

import argparse
import time

import raw

import portico

PIECE = bytes(1_000_000)


def serve(how: str) -> None:
    def call(req: portico.Request) -> str:
        return str(sum(len(piece) for piece in req.stream))

    limits = portico.Limits(max_body_bytes=1 << 40)
    server = portico.start_server("127.0.0.1", 0, call, True, limits=limits, stream_body=how == "streamed")
    print(server.port, flush=True)
    server.serve()


def peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def upload(address: tuple[str, int], count: int, is_chunked: bool) -> float:
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {count * len(PIECE)}"
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if is_chunked else PIECE
    began = time.monotonic()
    with raw.connect(address) as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(count):
            client.sendall(piece)
        if is_chunked:
            client.sendall(b"0\r\n\r\n")
        answer = b""
        while data := client.recv(1 << 16):
            answer += data
    assert answer.endswith(b"\r\n\r\n%d" % (count * len(PIECE))), answer
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--serve", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve[0])
    for how in ("spooled", "streamed"):
        for is_chunked in (False, True):
            with raw.ServerProcess(__file__, how) as server:
                upload(server.address, 2, is_chunked)
                before = peak_kib(server.process.pid)
                took = upload(server.address, options.megabytes, is_chunked)
                more = (peak_kib(server.process.pid) - before) / 1024
            framing = "chunked" if is_chunked else "length"
            print(f"{how:9} {framing:8} {options.megabytes} MB in {took:5.2f} s, {more:5.1f} MiB more", flush=True)
    return None


if __name__ == "__main__":
    main()
