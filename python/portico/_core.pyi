"""The seam: everything Python and Rust say to each other.

Rust never calls Python. It puts plain events into a mailbox and makes one descriptor readable; Python
takes a batch when it chooses (`Core.take`) and answers with plain commands. Connections, listeners and
routes are numbers; connection and server numbers are unique in the process and never used again, so a
command on a dead number is harmless and says so.

Threads: `take` and iterating a `Batch` belong to the home thread. Every other method may be called from
any thread, returns at once, and never waits for the network; only `wait_drained` and `wait_body` are there to wait.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias, final

# What happened. Every event is `(kind, number, payload)`; `number` is the connection's, but the server's for
# STOPPED, LOGGED and TROUBLE.
HEAD: Final = 0  # a request head, only on routes that want it; the body waits for `proceed` or `respond`
REQUEST: Final = 1  # a request; answer it with `respond`. It is whole, unless the route has WANTS_BODY
OPEN: Final = 2  # a WebSocket handshake was accepted (the 101 is on its way)
MESSAGE: Final = 3  # a whole WebSocket message, `str` from text frames and `bytes` from binary ones
CLOSED: Final = 4  # a WebSocket connection is over; the last event of its number
GONE: Final = 5  # the client left before the end of the answer to HEAD or REQUEST; that request's last event
STOPPED: Final = 6  # a stopped server's last connection has ended; the last event of its number
DRAINED: Final = 7  # nothing is queued any more; asked for by `drain` or `watch_drained`, in an answer by `resume`
LOGGED: Final = 8  # a line for the access log of the server `number`, if its `logs_access` is set
ARRIVED: Final = 9  # `receive` has something to say, as it was asked to tell
TROUBLE: Final = 10  # a failure that concerns no callback, for the log (a disk that is full)
CONNECTED: Final = 11  # a WebSocket that `connect` asked for is open; MESSAGE … and CLOSED follow as for any other
FAILED: Final = 12  # it will not be; the last event of its number

# What `send`, `close`, `ping`, `begin` and `write` answer (nanonext's convention).
SENT: Final = 0
BODILESS: Final = 1  # `begin`: this answer has no body (HEAD, 204, 304): it is complete
SHUT: Final = 7  # closing, closed, or never there
FULL: Final = 8  # `send`, `ping`: refused, the outbox holds max_outbox_bytes; `write`: taken, but wait now

# What happens to a client that reads too slowly, once a message finds no room; an item of a `WebSocketSpec`.
SLOW_CLOSE: Final = 0  # the message is refused (FULL) and the connection closes with 1013
SLOW_DROP_NEW: Final = 1  # the message is refused (FULL) and the connection stays
SLOW_DROP_OLDEST: Final = 2  # the message is taken (SENT) and older ones that have not begun to leave are dropped

# What the messages of a WebSocket are, both ways; an item of a `WebSocketSpec`.
FRAMES_BY_TYPE: Final = 0  # what their sender made them
FRAMES_TEXT: Final = 1  # text: a binary message that is UTF-8 is delivered as `str`, another closes with 1007
FRAMES_BINARY: Final = 2  # binary: a text message closes with 1003

# What of the requests at and below a static path is its own; the last option of a `FilesSpec`.
REACH_BELOW: Final = 0  # all, whatever it has there
REACH_EXACT: Final = 1  # of one file: the path itself
REACH_ALL: Final = 2  # of one file: all, answered with the file

# Why FAILED; the first item of `FailureParts`.
WHY_SYSTEM: Final = 0  # an `errno` says it: refused, unreachable, reset …
WHY_TIMED_OUT: Final = 1  # open_timeout_s is over
WHY_ANSWERED: Final = 2  # the server answered with another status than 101
WHY_PROTOCOL: Final = 3  # what it answered is no HTTP, or no agreement to our handshake
WHY_CANCELLED: Final = 4  # `close` or `shutdown` came first
WHY_CERTIFICATE: Final = 5  # the server's certificate is not to be trusted
WHY_ENDED: Final = 6  # the server closed the connection before it had answered

# Which events a route wants; the third item of a `RouteSpec`.
WANTS_HEAD: Final = 1
WANTS_REQUEST: Final = 2
WANTS_WEBSOCKET: Final = 4
WANTS_BODY: Final = 8  # with WANTS_REQUEST: REQUEST when the head is there, its body by `receive`

Address: TypeAlias = tuple[str, int] | str
"""An IP literal and port, or the path of a unix socket (`""` for its unnamed clients)."""

Fields: TypeAlias = Sequence[tuple[str, str]]

RequestParts: TypeAlias = tuple[int, int, str, str, str, bytes, bytes, Address, bool, bytes | None]
"""`(server, route, method, target, http_version, fields, body, client, is_websocket, tls)`.

`server` is the server's number, `route` what its RouteSpec begins with. `target` is as sent, `http_version` is
`"1.0"` or `"1.1"`. `fields` are the header fields in order, as `b"Name:value\\r\\n"` lines whose grammar was checked
and whose surrounding white space is gone. `is_websocket` tells a handshake from a request. `tls` is None for plain TCP,
otherwise the certificate that the client showed and that was verified, as DER, or `b""`.
"""

LogParts: TypeAlias = tuple[Address, bytes, bytes, int, int, float, float, bool, int | None, int]
"""`(client, line, fields, status, body_bytes, began, duration_s, is_whole, close_code, lost)`.

`line` is the request line as it came, or the beginning of what was no request, or `b""`; anything may be in it.
`fields` are as in RequestParts, `b""` if there was no whole head. `body_bytes` left after the head of the answer;
`began` is in seconds since 1970; `is_whole` tells whether all of the answer left. `status` 499: the client left before
there was one. `close_code` is None but for the record of a WebSocket's end. `lost` records before this one found no
room: at most 10,000, or 16 MiB with the heads they are about, wait.
"""

BodyParts: TypeAlias = tuple[int, int, str, str, str, bytes, bytes | Spool | int, Address, bool, bytes | None]
"""RequestParts with a body, as in REQUEST: all of it, in memory or in a file, or the number that `receive` wants."""

FailureParts: TypeAlias = tuple[int, int, str, tuple[int, str, bytes, bytes] | None]
"""`(why, errno, text, answer)`.

`why` is one of WHY_…; `errno` is 0 but for WHY_SYSTEM, `text` says what `why` alone does not. `answer` is there for
WHY_ANSWERED: `(status, reason, fields, body)`, with `fields` as in `RequestParts` and at most 64 KiB of body.
"""

Event: TypeAlias = (
    tuple[Literal[0], int, RequestParts]
    | tuple[Literal[1], int, BodyParts]
    | tuple[Literal[2], int, tuple[RequestParts, str | None]]
    | tuple[Literal[3], int, str | bytes]
    | tuple[Literal[4], int, tuple[int, str]]
    | tuple[Literal[5, 6, 7, 9], int, None]
    | tuple[Literal[8], int, LogParts]
    | tuple[Literal[10], int, str]
    | tuple[Literal[11], int, tuple[bytes, str | None]]
    | tuple[Literal[12], int, FailureParts]
)
"""`(kind, number, payload)`. The payload of OPEN is `(parts, subprotocol)`: the one agreed on, or None.

That of CONNECTED is `(fields, subprotocol)`: the server's header fields, as in `RequestParts`."""

WebSocketSpec: TypeAlias = tuple[Sequence[str], bool, tuple[int, int, int, bool] | None, int, int, Sequence[str] | None]
"""`(subprotocols, requires_subprotocol, deflate, slow_client, frames, allowed_origins)`.

`subprotocols` are in the order of the server's preference; with `requires_subprotocol` a handshake that agrees on none
is refused. `deflate` is `(level, window_bits, min_bytes, context_takeover)`, or None: no compression is agreed on.
`slow_client` is one of SLOW_…, `frames` one of FRAMES_…. `allowed_origins` None is the server's; `*` in it: any.
"""

GzipSpec: TypeAlias = tuple[int, int, Sequence[str]]
"""`(level, min_bytes, types)`: from 1 to 9; the least body; `type/subtype`, `type/*`, `*+suffix` or `*/*`.

Types are compared in any case, without their parameters.
"""

RouteSpec: TypeAlias = tuple[
    int, str, bool, Sequence[str], int, tuple[int, Fields, bytes] | None, WebSocketSpec | None, GzipSpec | None
]
"""`(number, path, prefix, methods, wants, inline, websocket, gzip)`.

`number` is what events call it; one that has been another route's must not be used again. `path` begins with `/` and is
compared with the percent-decoded path of the request, and if nobody has that, without the slash at its end; `prefix`
also takes everything below it, on whole segments. Of the routes that take the method the longest path wins; of equal
ones the exact, then the one that names the method, then the first. `methods` empty: any; GET takes HEAD too, unless
another route of the path names it. If there are routes and none takes the method: 405 with Allow, natively. Handshakes
go to WANTS_WEBSOCKET whatever its methods; other requests get a 426 from a route that wants nothing else. `inline` is
`(status, fields, body)`, answered natively, without an event. `websocket` None means
`((), False, None, SLOW_CLOSE, FRAMES_BY_TYPE, None)`. `gzip` says which answers are compressed where the client takes
it (`respond`, `begin`, `inline`); None: none.
"""

CorsSpec: TypeAlias = tuple[
    Sequence[str] | None, Sequence[str] | None, Sequence[str] | None, Sequence[str], bool, int | None
]
"""`(origins, methods, headers, expose, credentials, max_age_s)`: which pages of other origins may read answers.

`origins` are written as browsers do; None: any, and no `credentials` then. `methods` and `headers` None: whichever a
pre-flight asks for. Pre-flights are answered natively, on every path.
"""

FilesSpec: TypeAlias = tuple[
    str, str | None, tuple[bool, bool, str, Fields, tuple[str, str] | None, bool, bool, bool, bool, int] | None
]
"""`(path, root, options)`: a static path.

`path` begins with `/` and ends with none unless that is all; it takes itself and everything below, on whole segments
of the percent-decoded path. The longest one wins, also over routes that are not longer, unless such a route is the
exact path. `root` is the absolute path of a directory or a file; None makes a hole: requests below go to the routes,
and `options` is None too.

`options` is `(indexhtml, fallthrough, html_charset, headers, validation, dotfiles, symlinks, listing, precompressed,
reach)`, nothing left to inherit. `html_charset` is `""` for none; `validation` is the field and the value that a
request must carry, or None. With `fallthrough`, what would be an error goes to the routes, but for a failed validation:
always 403.
"""

TlsSpec: TypeAlias = tuple[Sequence[tuple[bytes, bytes]], str | None, bytes, bytes, bool, bool]
"""`(identities, password, trusted, revoked, requires_peer, is_13_only)`.

`identities` are pairs of PEM: a certificate, with what leads to its issuer behind it, and its private key, which may be
encrypted with `password`. A server shows the one that is for the name the client asks for, or the first. `trusted` and
`revoked` are PEM too, and may be empty: the CAs that the peer's certificate has to lead to, and their revocation lists.
With `requires_peer` a server refuses clients without a certificate, and a client verifies its server.
"""

def check_tls(spec: TlsSpec) -> list[bytes]:
    """Whether a server (with identities) or a client could use `spec`; the certificates of the identities, as DER.

    Raises: ValueError that says what is wrong.
    """

def read_certificate(der: bytes) -> tuple[str, str | None, int, int]:
    """`(subject, common_name, not_before, not_after)`: RFC 4514 text, its CN, Unix seconds. Raises: ValueError."""

def write_certificate(names: Sequence[str], valid_s: int) -> tuple[str, str]:
    """A self-signed ECDSA P-256 certificate for these names and addresses, and its key, as PEM. Raises: ValueError."""

@final
class Spool:
    """A body in a file without a name. The file is closed, and its room on the disk free, when this is gone."""

    def fileno(self) -> int:
        """For `os.pread`; its position means nothing."""

    def __len__(self) -> int: ...

@final
class Batch:
    """The events of one `take`, once. Asking for the next event says that the one before has been handled.

    Bytes that callbacks sent to the connection whose events are being handled leave together, soon after its last
    event; what they sent to others leaves when the batch ends. Both leave within milliseconds if Python stays away.
    Dropping a batch half-way puts the rest back in front; so does a batch that ends early, because its callbacks have
    taken 10 ms.
    """

    def __iter__(self) -> Iterator[Event]: ...
    def __next__(self) -> Event: ...
    def __len__(self) -> int:
        """How many events are left."""

    @property
    def ran(self) -> int:
        """How many events have been handed out, but for LOGGED, which no callback is for."""

    @property
    def waited_s(self) -> float:
        """How long the oldest event of this batch had been waiting."""

@final
class Core:
    """One reactor, its mailbox, and the watchman that drives it while the home thread is busy.

    Raises: OSError if descriptors run out.
    """

    def __init__(self) -> None: ...
    def take(self, max_events: int, timeout: float | None) -> Batch:
        """Drive the I/O from this thread until there are events; return at most `max_events` of them.

        `timeout` in seconds: 0 takes only what is ready, None waits until something happens or `wake` is called.
        Returns an empty batch at the time-out and on `wake`. Raises: KeyboardInterrupt (and what other signal
        handlers raise) while waiting; RuntimeError after `shutdown`.
        """

    def fileno(self) -> int:
        """A descriptor that is readable when `take(…, 0)` has something to do; watch it, never read it."""

    def mailbox_fileno(self) -> int:
        """A descriptor that is readable while events wait that no `take` has found; watch it, never read it."""

    def oldest_s(self) -> float:
        """How long the oldest event in the mailbox has been waiting; 0.0 if there is none."""

    def wake(self) -> None:
        """Make a waiting `take` return, or the next one if none waits."""

    def listen(self, address: Address, config: Mapping[str, object]) -> tuple[int, str, int]:
        """Bind and listen; return `(server, host, port)` (`(server, path, 0)` for a unix socket).

        `config`: `routes` (list of RouteSpec), `limits` (mapping of the names in `Limits` to numbers or None),
        `allowed_hosts` and `allowed_origins` (list of str, or None to switch the check off; a loopback name or the
        request's own host needs no entry), `mode` (permission bits of a unix socket, or None), `files` (list of
        FilesSpec; may be left out), `logs_access` (True: LOGGED follows every answer; may be left out), `cors` (a
        CorsSpec or None; may be left out), `tls` (a TlsSpec, or None: plain; may be left out), `spool_directory` (where
        bodies over `max_body_in_memory_bytes` go).
        Raises: OSError (errno kept; `filename` is the root that cannot be opened, None if it is the address),
        ValueError for an address that is not a literal, a header that HTTP cannot carry, an unusable `tls`.
        """

    def connect(self, address: Address, config: Mapping[str, object]) -> int:
        """Begin to open a WebSocket at `address`; return its number at once. CONNECTED follows, or FAILED.

        `config`: `host` (the Host field), `target` (path and query), `fields` (more header fields), `websocket` (a
        WebSocketSpec: what is offered; with requires_subprotocol the server must choose one), `limits` as in `listen`,
        `open_timeout_s` (connecting and handshakes; None: no bound), `tls` (None, or a TlsSpec and the name that the
        server's certificate has to be for).
        Raises: OSError (errno kept) if it can't even begin; ValueError for an address that is not a literal, and for
        what HTTP cannot carry or the handshake sets itself.
        """

    def set_routes(self, server: int, routes: Sequence[RouteSpec]) -> list[int] | None:
        """Have these routes from now on, instead of those before. None: that server isn't there.

        Returns the numbers that later events may still have besides these: requests under way keep the route they
        found, and the event being handled keeps its own until the next is asked for.
        Raises: ValueError as `listen`; nothing has changed then.
        """

    def set_files(self, server: int, files: Sequence[FilesSpec]) -> bool:
        """Serve these static paths from now on, instead of those before. False: that server isn't listening.

        Raises: OSError (errno and filename kept) for a root that cannot be opened, ValueError for a header that HTTP
        cannot carry; nothing has changed then.
        """

    def set_tls(self, server: int, tls: TlsSpec) -> bool:
        """New connections use this. False: that server isn't listening, or speaks no TLS. Raises: ValueError."""

    def stop(self, server: int, grace_s: float) -> bool:
        """Stop listening; close WebSockets with 1001; let requests and outboxes finish for `grace_s`, then cut.

        STOPPED follows when the last connection is gone. Returns False for a number that isn't listening.
        """

    def connections(self, server: int) -> int:
        """How many WebSocket connections of `server` are open."""

    def respond(
        self, number: int, status: int, reason: str | None, fields: Fields, body: bytes | str, close: bool = False
    ) -> bool:
        """Answer the HEAD or REQUEST of a connection, once. False: it is gone or already answered.

        Date and Content-Length are added. The body is left out where HTTP has none (HEAD, 1xx, 204, 304). Where the
        route says so and the client takes it, it is compressed; so are the pieces that follow `begin`.
        `close` ends the connection afterwards; so does answering a HEAD whose body was announced, or a REQUEST whose
        body has not come to its end.
        Raises: ValueError for a status, reason, name or value that HTTP cannot carry; nothing was sent then.
        """

    def respond_file(
        self,
        number: int,
        status: int,
        reason: str | None,
        fields: Fields,
        descriptor: int,
        length: int,
        close: bool = False,
        modified_ns: int | None = None,
    ) -> bool:
        """Answer with the first `length` bytes of an open file; the descriptor is duplicated. As `respond` otherwise.

        `modified_ns`, since 1970: an answer to GET or HEAD whose status is 200 gets ETag, Last-Modified and
        Accept-Ranges, unless `fields` has its own; and where the request has conditions, or asks for parts, it is what
        a static path would say: also 206, 304, 412 or 416. If the file turns out to be shorter, the connection is cut.
        Raises: also OSError.
        """

    def begin(
        self,
        number: int,
        status: int,
        reason: str | None,
        fields: Fields,
        length: int | None,
        close: bool = False,
        tells_end: bool = False,
    ) -> int:
        """Begin an answer whose body follows by `write` or `offer` and `finish`, or ends in `abort`.

        SENT: go on. BODILESS: it is complete. SHUT: the connection is gone or the request already answered.
        `length` None: unknown (chunks in HTTP/1.1, up to the end of the connection in HTTP/1.0). `tells_end`: GONE
        follows however it ends, also by `finish`, by `abort`, or at once if it is BODILESS.
        Raises: ValueError as `respond`; nothing was sent then.
        """

    def write(self, number: int, data: str | bytes | bytearray | memoryview) -> int:
        """Send a piece of the body now. Empty pieces send nothing.

        SENT; FULL: it was taken, but wait (`resume`) before the next one; SHUT: gone.
        Raises: TypeError; ValueError for more than `length` (the connection is cut then).
        """

    def offer(self, number: int, data: str | bytes | bytearray | memoryview) -> int:
        """As `write`, but bounded: FULL means that it was not taken, for want of room in `max_outbox_bytes`.

        It is taken if it fits there with what is queued, or if nothing is queued.
        """

    @staticmethod
    def new_number() -> int:
        """A number that nothing else of this process has, had or will have."""

    def resume(self, number: int) -> None:
        """DRAINED follows when nothing is queued for this connection, at once if nothing is; or GONE."""

    def finish(self, number: int, trailers: Fields) -> bool:
        """The body is complete. False: gone, or shorter than `length` (the connection is cut then).

        Trailers are sent only in chunked answers. Raises: ValueError for those that HTTP cannot carry; the answer is
        still under way then.
        """

    def abort(self, number: int) -> None:
        """End the connection so that the client sees that the answer is not whole. Does nothing between answers."""

    def receive(self, number: int, body: int, says_arrived: bool) -> bytes | tuple[int, str] | None:
        """What has come of a body since the last time, for at most 256 KiB or a little more are kept; `b""` is its end.

        None: nothing is here now; with `says_arrived`, ARRIVED follows when something is. `(status, line)`: it will
        never be whole (the client left, was too slow or sent too much); what had come is dropped. The first call tells
        a client that waits for 100 to go on. What is not received keeps the client waiting.
        """

    def wait_body(self, number: int, body: int, timeout: float | None) -> bool:
        """Wait until `receive` would not return None, driving the I/O, without callbacks. Any thread.

        False: `timeout` seconds have passed. Raises: KeyboardInterrupt (and what other signal handlers raise).
        """

    def proceed(self, number: int) -> bool:
        """After HEAD: read the body and deliver REQUEST, or accept the WebSocket and deliver OPEN."""

    def send(self, number: int, data: str | bytes | bytearray | memoryview) -> int:
        """Queue one message: `str` as text, bytes-like as binary. SENT, SHUT or FULL. Raises: TypeError.

        A message is taken if it fits into `max_outbox_bytes` with what is queued, or if nothing is queued. Otherwise
        the route's SLOW_… decides.
        """

    def broadcast(self, server: int, data: str | bytes | bytearray | memoryview) -> int:
        """Send one message to every open WebSocket of `server`, encoded once; return how many took it.

        Those with fixed frames get it as theirs; what is not UTF-8 can't be text, and doesn't reach FRAMES_TEXT.
        """

    def subscribe(self, number: int, topic: str) -> bool:
        """Make a WebSocket a member of `topic`; memberships end with it. False: it is closing or gone."""

    def unsubscribe(self, number: int, topic: str) -> bool:
        """End a membership. False: there was none, or the WebSocket is gone."""

    def publish(self, server: int, topic: str, data: str | bytes | bytearray | memoryview, exclude: int) -> int:
        """Send one message to every member of `topic` at `server`, as `broadcast`; return how many took it.

        `exclude` is the number of a connection that doesn't get it, or 0. Raises: TypeError.
        """

    def topics(self, server: int) -> dict[str, int]:
        """How many members each topic of `server` has. A topic without members does not exist."""

    def drain(self, number: int) -> bool:
        """Ask for DRAINED. True: something is queued; DRAINED follows when it has left, CLOSED when it is lost.

        False: nothing is queued (or the connection is gone), and nothing follows.
        """

    def watch_drained(self, number: int) -> None:
        """From now on: DRAINED each time that the system refused bytes of this connection and then took them all."""

    def wait_drained(self, number: int, timeout: float | None) -> bool:
        """Wait until nothing is queued for this connection, driving the I/O, without callbacks.

        False: `timeout` seconds have passed, or the connection is gone. Any thread may wait.
        Raises: KeyboardInterrupt (and what other signal handlers raise).
        """

    def close(self, number: int, code: int, reason: str) -> int:
        """Begin the closing handshake; before CONNECTED: give up (FAILED follows). SENT or SHUT.

        Raises: ValueError for a code that may not be sent.
        """

    def ping(self, number: int, data: bytes) -> int:
        """Send a ping of at most 125 bytes. SENT, SHUT or FULL. Raises: ValueError."""

    def info(self, number: int) -> tuple[int, float | None] | None:
        """`(bytes waiting in the outbox, last measured round trip in seconds)` of an open WebSocket, else None."""

    def round_trips(self, number: int) -> list[tuple[float, float]]:
        """The last 32 pongs of a WebSocket, oldest first: `(how many seconds ago, round trip in seconds)`."""

    def hold(self, number: int, size: int) -> None:
        """The event being handled is not finished when its callback returns (a coroutine goes on); see `release`.

        For messages only; `size` is the message's bytes, which count against `max_inbox_bytes` meanwhile.
        """

    def release(self, number: int, size: int) -> None:
        """The work of one `hold` of that `size` has finished."""

    def answer(self, number: int, handled: int | None) -> str | bytes | None:
        """`release` what was held with the size `handled`; and the next message, held instead, if it comes at once.

        None: it comes in a batch. For a client of ours without callbacks, whose reader runs in a loop. It is looked for
        as long as `expects_answer` says, and for 150 µs at most.
        """

    def expects_answer(self) -> bool:
        """Whether clients of ours have just sent something, and `take` with 150 µs will be quicker than the loop.

        So it is when the loop slept until the last answer, which came within that time, and had nothing else to do. It
        is False after half a millisecond, until the loop has had a turn.
        """

    def stats(self) -> dict[str, int]:
        """Counters since the core was made: accepted, requests, messages, refused, turns, takeovers, panics, dropped,
        files, lost_records, handshakes, failed_handshakes.

        `refused` counts what was answered with an error that Python never hears of, and `refused_404`, `refused_1009`
        … how much of that by status or close code, if there was any. `lost_records` of the access log found no room.
        `dropped` are the messages that clients did not get because they read too slowly; `files` are the requests that
        a static path answered with a file, 304s and 416s included; `handshakes` are TLS's, completed ones.
        `failed_handshakes` ended in an alert, took too long, or were one connection too many.
        """

    def shutdown(self) -> list[tuple[int, LogParts]]:
        """Cut every connection, stop the watchman, close every descriptor. Idempotent.

        Of the events that nobody has taken, returns those that no callback is for: LOGGED, as `(number, payload)`.
        """

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None:
        """Close this process's copies of all descriptors without a word to the peers; the core is dead here."""
