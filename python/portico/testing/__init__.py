"""Tests without sockets: `TestClient` runs an app, a server or an Api in process, `FakeCore` plays the native half.

Nothing here listens or connects, so tests are quick, and run anywhere. Thread: home.
"""

from portico.testing.answer import Answer, Refused
from portico.testing.client import TestClient
from portico.testing.fake_core import FakeBatch, FakeCore, FakeSpool, number_of, request_parts
from portico.testing.socket import TestSocket

__all__ = [
    "Answer",
    "FakeBatch",
    "FakeCore",
    "FakeSpool",
    "Refused",
    "TestClient",
    "TestSocket",
    "number_of",
    "request_parts",
]
