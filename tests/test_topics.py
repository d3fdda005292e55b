"""Topics: who subscribes, and what a server publishes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import portico
from conversation import DEADLINE_S
from portico import Server, WebSocket
from portico.testing import FakeCore, number_of


@pytest.fixture
def sockets() -> list[WebSocket]:
    return []


@pytest.fixture
def server(core: FakeCore, sockets: list[WebSocket]) -> Server:
    """A server with three open WebSockets."""
    server = portico.start_server("127.0.0.1", 0, {"on_ws_open": sockets.append}, quiet=True)
    for _ in range(3):
        core.open(number_of(server))
    portico.service(0)
    return server


def test_members_and_topics(server: Server, sockets: list[WebSocket], core: FakeCore) -> None:
    first, second, _ = sockets
    assert first.subscribe("news") is second.subscribe("news") is first.subscribe("Wetter ☂") is True
    assert first.subscribe("news") is True  # once more changes nothing
    assert server.topics == {"news": 2, "Wetter ☂": 1}
    assert first.unsubscribe("Wetter ☂") is True
    assert first.unsubscribe("Wetter ☂") is second.unsubscribe("never there") is False
    assert server.topics == {"news": 2}
    assert core.said("subscribe")[0] == (first.id, "news")
    assert core.said("unsubscribe")[0] == (first.id, "Wetter ☂")


@pytest.mark.parametrize("data", ["text", b"bytes", bytearray(b"b"), memoryview(b"m"), ""])
def test_publish_says_how_many_took_it(server: Server, sockets: list[WebSocket], core: FakeCore, data: Any) -> None:
    for ws in sockets[:2]:
        ws.subscribe("news")
    assert server.publish("news", data) == 2
    assert server.publish("news", data, exclude=None) == 2
    assert server.publish("news", data, exclude=sockets[0]) == 1
    assert server.publish("news", data, exclude=sockets[2]) == 2
    assert server.publish("nobody", data) == 0
    number = number_of(server)
    assert core.said("publish") == [
        (number, "news", data, 0),
        (number, "news", data, 0),
        (number, "news", data, sockets[0].id),
        (number, "news", data, sockets[2].id),
        (number, "nobody", data, 0),
    ]


def test_exclude_may_be_another_servers_or_closed(server: Server, sockets: list[WebSocket], core: FakeCore) -> None:
    others: list[WebSocket] = []
    other = portico.start_server("127.0.0.1", 0, {"on_ws_open": others.append}, quiet=True)
    core.open(number_of(other))
    portico.service(0)
    sockets[0].subscribe("news")
    others[0].subscribe("news")
    assert server.publish("news", "x", exclude=others[0]) == 1
    assert (server.topics, other.topics) == ({"news": 1}, {"news": 1})
    core.closed(others[0].id)
    portico.service(0)
    assert server.publish("news", "x", exclude=others[0]) == 1
    assert other.topics == {}


def test_membership_ends_with_the_connection(server: Server, sockets: list[WebSocket]) -> None:
    sockets[0].subscribe("news")
    sockets[0].close()
    assert server.topics == {}
    assert server.publish("news", "x") == 0
    assert sockets[0].subscribe("news") is sockets[0].unsubscribe("news") is False


@pytest.mark.parametrize("topic", [b"news", None, 7, ["news"]])
def test_topic_must_be_a_str(server: Server, sockets: list[WebSocket], core: FakeCore, topic: Any) -> None:
    for job in (sockets[0].subscribe, sockets[0].unsubscribe, lambda topic: server.publish(topic, "x")):
        with pytest.raises(TypeError, match=f"a topic must be a str, not {type(topic).__name__}"):
            job(topic)
    assert core.commands == []


def test_publish_checks_the_rest_too(server: Server, sockets: list[WebSocket], core: FakeCore) -> None:
    wrong: list[Any] = [7, None, ["x"]]
    for data in wrong:
        with pytest.raises(TypeError, match="a message must be str or bytes-like, not"):
            server.publish("news", data)
        if data is not None:
            with pytest.raises(TypeError, match="exclude must be a WebSocket or None, not"):
                server.publish("news", "x", exclude=data)
    with pytest.raises(TypeError, match="positional"):
        server.publish("news", "x", sockets[0])  # type: ignore[misc]
    assert core.commands == []


def test_server_that_does_not_run_has_no_topics(server: Server) -> None:
    unstarted = Server([], "/x")
    server.stop()
    for one in (unstarted, server):
        assert (one.topics, one.publish("news", "x")) == ({}, 0)
        with pytest.raises(TypeError):
            one.publish("news", 7)  # type: ignore[arg-type]


def test_any_thread_may_publish(server: Server, sockets: list[WebSocket]) -> None:
    found: list[Any] = []

    def elsewhere() -> None:
        found.extend([sockets[0].subscribe("news"), server.publish("news", "x"), server.topics])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(DEADLINE_S)
    assert found == [True, 1, {"news": 1}]
