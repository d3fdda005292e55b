"""A program whose main thread computes while callbacks run on the server's own thread."""

import queue

import app

wanted = queue.SimpleQueue()
site = app.App()
site.compute = lambda ws, how: wanted.put((ws, how))
server = app.start("thread", site)
while True:
    app.compute(*wanted.get())
