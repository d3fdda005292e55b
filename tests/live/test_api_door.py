"""plumber2's door on real sockets: a function that computes long keeps no other client waiting."""

import threading
import urllib.request

from websockets.sync.client import connect

import portico

DEADLINE_S = 10


def test_on_real_sockets_a_slow_thread_keeps_nobody_waiting() -> None:
    finish = threading.Event()
    api = portico.api(port=0, callbacks="thread", quiet=True)

    @api.message(async_=True, then=[lambda server, result: server.send(f"then {result}")])
    def main(message: str) -> str | None:
        return "slow" if message == "slow" and finish.wait(DEADLINE_S) else None

    api.add_message(lambda message, client_id: f"{client_id}: {message}" if message != "slow" else None)
    api.add_get("/n/<n:int>", lambda n: str(n + 1))
    with api:
        assert api.url is not None
        url = api.url.replace("http", "ws")
        with connect(f"{url}/", open_timeout=DEADLINE_S) as slow, connect(f"{url}/x", open_timeout=DEADLINE_S) as quick:
            slow.send("slow")
            quick.send("hi")
            assert str(quick.recv(timeout=DEADLINE_S)).endswith(": hi")
            assert quick.recv(timeout=DEADLINE_S) == "then None"
            with urllib.request.urlopen(f"{api.url}/n/41", timeout=DEADLINE_S) as answer:
                assert answer.read() == b"42"
            finish.set()
            heard = [slow.recv(timeout=DEADLINE_S) for _ in range(3)]
            assert heard == ["then None", "slow", "then slow"]
