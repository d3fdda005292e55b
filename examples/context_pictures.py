"""A page that draws what the server pushes: PNGs made here, ten a second, to everybody who looks."""

import math
import struct
import sys
import time
import zlib
from contextlib import suppress

from portico import create_server, service, static_text_service, websocket_broadcast

PAGE = """<!doctype html><meta name="viewport" content="width=device-width"><title>Pictures</title>
<canvas width="160" height="100" style="width: 100%; image-rendering: pixelated"></canvas><p>0</p><script>
const canvas = document.querySelector("canvas").getContext("2d"), count = document.querySelector("p");
new WebSocket(location.href.replace("http", "ws")).onmessage = async ({ data }) => {
  canvas.drawImage(await createImageBitmap(data), 0, 0), count.textContent++;
};
</script>"""
WIDTH, HEIGHT = 160, 100


def png(rows):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def waves(t):
    columns = [math.sin(x / 9 + t) for x in range(WIDTH)]
    return [b"\0" + bytes(int(127 + 60 * (c + math.sin(y / 7 - 2 * t))) for c in columns) for y in range(HEIGHT)]


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with create_server(port, static_text_service(PAGE), is_binary=True) as context, suppress(KeyboardInterrupt):
    print(context.url, flush=True)
    while True:
        service(context, 0.1)  # returns early when something has happened
        websocket_broadcast(png(waves(time.monotonic())), context)
