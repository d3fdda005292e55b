"""A script that calls `service` in a loop of its own."""

import app

server = app.start()
while True:
    server.service()
