"""A client without sockets: it runs an app in process, over the fake core, and waits for what it answers.

Routes are found as natively; what else needs bytes is not there: no limits, no Host and Origin checks, no compression,
no Date, no static files. Thread: one, which is the home of what it runs.
"""

from __future__ import annotations

import contextlib
import itertools
import json as json_module
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

from portico._core import (
    WANTS_BODY,
    WANTS_HEAD,
    WANTS_REQUEST,
    WANTS_WEBSOCKET,
)
from portico.doors.app import build_server
from portico.home import Home, lend_core, require_idle
from portico.response_fields import read_fields
from portico.routes import Route
from portico.server import Server
from portico.testing.answer import Answer, Refused, plain_answer, read_headers
from portico.testing.fake_core import FakeCore, number_of
from portico.testing.fake_routes import find_route
from portico.testing.socket import TestSocket

T = TypeVar("T")

_body_keys = itertools.count(1)


class TestClient:
    """`with TestClient(app) as client:` runs `app` for as long as the block lasts.

    app: what `start_server` takes, with its `options`; a Server that has not started; an Api, or whatever else has
        `run(block=False)` and `stop()`; routes, as of `handler(…)`, one or a list.
    make: instead of `app`, a function that starts a server when it is called.
    timeout_s: how long to wait for an answer or a message before a TimeoutError.

    Callbacks run on this thread, while the client waits; coroutines and executors too. Raises: RuntimeError in a
    running loop, and for servers with a thread of their own.
    """

    __test__ = False  # pytest takes it for a test otherwise

    def __init__(
        self, app: object = None, *, make: Callable[[], object] | None = None, timeout_s: float = 10.0, **options: Any
    ) -> None:
        if (app is None) == (make is None):
            raise TypeError("TestClient needs an app, or make=: a function that starts one")
        self.core = FakeCore()
        self.timeout_s = timeout_s
        self._app, self._make, self._options = app, make, options
        self._stack = contextlib.ExitStack()
        self._home: Home | None = None
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """What answers."""
        if self._server is None:
            raise RuntimeError("the client is not in use: with TestClient(app) as client: …")
        return self._server

    def get(self, target: str, **request: Any) -> Answer:
        """`request("GET", …)`."""
        return self.request("GET", target, **request)

    def post(self, target: str, **request: Any) -> Answer:
        """`request("POST", …)`."""
        return self.request("POST", target, **request)

    def put(self, target: str, **request: Any) -> Answer:
        """`request("PUT", …)`."""
        return self.request("PUT", target, **request)

    def delete(self, target: str, **request: Any) -> Answer:
        """`request("DELETE", …)`."""
        return self.request("DELETE", target, **request)

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: object = (),
        body: bytes | str = b"",
        json: Any = None,
    ) -> Answer:
        """Ask, and wait for the whole answer. `json` is sent as such, with its Content-Type.

        Raises: TimeoutError; NotImplementedError for a static path, which is served natively.
        """
        fields = list(read_fields(headers))
        if json is not None:
            body = json_module.dumps(json)
            fields.append(("Content-Type", "application/json"))
        parts: dict[str, Any] = {
            "method": method,
            "headers": fields,
            "body": body.encode() if isinstance(body, str) else body,
        }
        found = self._find(target, method, False)
        if isinstance(found, Answer):
            return found
        number = None
        if found[4] & WANTS_HEAD:
            number = self.core.head(self._number, target, route=found[0], **{**parts, "body": b""})
            answer = self._wait(lambda: self._passed(number), f"no answer to {method} {target}")
            if isinstance(answer, Answer) or not found[4] & WANTS_REQUEST:
                return answer if isinstance(answer, Answer) else plain_answer(404, "Not Found")
        if found[4] & WANTS_BODY:
            key = next(_body_keys)
            self.core.arrive(0, key, *filter(None, [parts["body"]]), b"")
            parts["body"] = key
        if number is None:
            number = self.core.request(self._number, target, route=found[0], **parts)
        else:
            self.core.request_again(number, self._number, target, route=found[0], **parts)
        asked = number
        answer = self._wait(lambda: self._answer(asked), f"no answer to {method} {target}")
        return Answer(answer.status, answer.reason, answer.headers, b"") if method == "HEAD" else answer

    def websocket(self, target: str, *, subprotocols: Sequence[str] = (), headers: object = ()) -> TestSocket:
        """Open a WebSocket; its `on_open` has run. Raises: Refused; TimeoutError."""
        fields = list(read_fields(headers))
        found = self._find(target, "GET", True)
        if isinstance(found, Answer):
            raise Refused(found)
        if not found[4] & WANTS_WEBSOCKET:
            raise Refused(self.request("GET", target, headers=fields))
        if found[4] & WANTS_HEAD:
            head = self.core.head(self._number, target, route=found[0], headers=fields, is_websocket=True)
            answer = self._wait(lambda: self._passed(head), f"no answer to the handshake of {target}")
            if answer is not None:
                raise Refused(answer)
        offered, requires, _, _, frames, _ = found[6] or ((), False, None, 0, 0, None)
        chosen = next((name for name in offered if name in subprotocols), None)
        if requires and chosen is None:
            raise Refused(plain_answer(400, "Bad Request"))
        number = self.core.open(self._number, target, route=found[0], headers=fields, subprotocol=chosen)
        self.run()
        return TestSocket(self, number, chosen, frames)

    def run(self) -> int:
        """Run the callbacks that are ready; return how many ran."""
        require_idle("the test client", "a plain test function")
        return self._require_home().service(0)

    def __enter__(self) -> TestClient:
        require_idle("the test client", "a plain test function")
        self._home = self._stack.enter_context(lend_core(cast(Any, self.core)))
        try:
            self._stack.callback(self._start())
            servers = [one for one in self._home.residents.values() if isinstance(one, Server)]
            if not servers:
                raise RuntimeError(
                    "no server has started on this thread; callbacks='thread' is not for tests like this"
                )
            self._server = servers[0]
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._home = self._server = None

    # Behind it

    def _start(self) -> Callable[[], object]:
        """Start what is to be tested; return what stops it."""
        app = self._app
        if self._make is not None:
            self._make()
            return self._stop_all
        if isinstance(app, Route) or (isinstance(app, list) and app and all(isinstance(one, Route) for one in app)):
            app = Server([app] if isinstance(app, Route) else app, ("127.0.0.1", 0), quiet=True, **self._options)
        elif callable(getattr(app, "run", None)) and callable(getattr(app, "stop", None)):
            running = cast(Any, app)
            running.run(block=False)
            return lambda: running.stop()
        elif not isinstance(app, Server):
            app = build_server(app, ("127.0.0.1", 0), quiet=True, **self._options)
        return app.start().stop

    def _stop_all(self) -> None:
        for one in list(self._require_home().residents.values()):
            if isinstance(one, Server):
                one.stop()

    def _require_home(self) -> Home:
        if self._home is None:
            raise RuntimeError("the client is not in use: with TestClient(app) as client: …")
        return self._home

    @property
    def _number(self) -> int:
        return number_of(self.server)

    def _wait(self, ask: Callable[[], T | None], otherwise: str) -> Any:
        """Run callbacks until `ask` knows; its answer, but `()` stands for None."""
        require_idle("the test client", "a plain test function")
        home, deadline = self._require_home(), time.monotonic() + self.timeout_s
        while (told := ask()) is None:
            if time.monotonic() > deadline or not home.is_alive:
                raise TimeoutError(f"{otherwise} within {self.timeout_s} s")
            # Short, because other threads may send, too, and that is no event here.
            home.run_until(lambda: ask() is not None, 0.02, "the test client")
        return None if told == () else told

    def _find(self, target: str, method: str, is_handshake: bool) -> Any:
        if not target.startswith("/"):
            raise ValueError(f"a target begins with '/'; got {target!r}")
        path = target.partition("?")[0]
        routes = self.core.routes[self._number]
        found = find_route(routes, target, method, is_handshake)
        if not is_handshake and self._is_file(path, found):
            raise NotImplementedError(
                f"{path!r} is a static path, served natively; try that with a server that listens"
            )
        if found is None:
            return plain_answer(404, "Not Found")
        if isinstance(found, str):
            return plain_answer(405, "Method Not Allowed", Allow=found)
        if found[5] is not None:
            status, fields, body = found[5]
            return Answer(status, None, read_headers(fields), b"" if method == "HEAD" else bytes(body))
        if found[4] == WANTS_WEBSOCKET and not is_handshake:
            return plain_answer(426, "Upgrade Required: this is a WebSocket", Upgrade="websocket")
        return found

    def _is_file(self, path: str, found: Any) -> bool:
        names = [name for name, *_ in self.core.files.get(self._number, ()) if _is_below(path, name)]
        longest = max(names, key=len, default=None)
        mounts = {name: directory for name, directory, _ in self.core.files.get(self._number, ())}
        if longest is None or mounts[longest] is None:
            return False
        return not isinstance(found, tuple) or len(longest) >= len(found[1])

    def _passed(self, number: int | None) -> Any:
        """The answer to a head; `()` once it goes on."""
        if (number,) in self.core.said("proceed"):
            return ()
        return self._answer(cast(int, number))

    def _answer(self, number: int) -> Answer | None:
        for name, told, *rest in reversed(self.core.commands):
            if told != number:
                continue
            if name == "respond":
                status, reason, fields, body = rest[:4]
                return Answer(
                    status, reason, read_headers(fields), body.encode() if isinstance(body, str) else bytes(body)
                )
            if name in ("begin", "respond_file") and number not in self.core.streaming:
                status, reason, fields = rest[:3]
                return Answer(status, reason, read_headers(fields), bytes(self.core.bodies.get(number, b"")))
        return None


def _is_below(path: str, name: str) -> bool:
    own = name.rstrip("/")
    return path == own or path.startswith(own + "/")
