"""What a client without sockets gets: an answer, or the refusal of a WebSocket. Thread: any (values)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from portico.headers import Headers


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` are those that the app says; Date and Content-Length are the native half's."""

    status: int
    reason: str | None
    headers: Headers
    body: bytes = field(repr=False)

    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, parsed as JSON. Raises: ValueError."""
        return json.loads(self.body)


class Refused(ConnectionError):
    """A WebSocket was refused; `answer` says how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the WebSocket was refused with {answer.status}: {answer.text().strip()}")
        self.answer = answer


def plain_answer(status: int, text: str, **headers: str) -> Answer:
    """One that the native half would give by itself."""
    fields = [("Content-Type", "text/plain; charset=utf-8"), *headers.items()]
    return Answer(status, None, read_headers(fields), f"{status} {text}\n".encode())


def read_headers(fields: Iterable[tuple[str, str]]) -> Headers:
    """Fields that an app has said, as its client reads them."""
    return Headers(b"".join(f"{name}:{value}\r\n".encode("latin-1", "replace") for name, value in fields))
