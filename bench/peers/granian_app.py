"""The same application for granian, in its fastest interface (RSGI): hello at /, echo at /ws, everybody at /chat."""

everybody = set()


async def app(scope, protocol):
    if scope.proto == "http":
        protocol.response_str(200, [("content-type", "text/plain")], "Hello world!")
        return
    transport = await protocol.accept()
    targets = everybody if scope.path == "/chat" else {transport}
    targets.add(transport)
    try:
        while (message := await transport.receive()).kind in (1, 2):
            for target in list(targets):
                await (target.send_bytes if message.kind == 1 else target.send_str)(message.data)
    finally:
        everybody.discard(transport)
