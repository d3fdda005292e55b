"""What a callback reads: one HTTP request, or the handshake of a WebSocket.

An immutable snapshot that shares nothing with the connection, but for a body that is still on its way. Everything is
worked out on first use, because most callbacks look at two things. Thread: any; the body has one reader at a time.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import parse_qsl, unquote

from portico.body import Inflow, RequestStream
from portico.forms import Form, Pairs, read_form
from portico.headers import Headers
from portico.parameters import decode
from portico.proxies import Forwarded, ProxiedAddress
from portico.tls import Certificate

if TYPE_CHECKING:
    from portico._core import Address
    from portico.body import Source

# RFC 9112 §3.2.2: a server accepts the absolute form, though only proxies should get it.
_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\s\";]+)", re.IGNORECASE)

Parts: TypeAlias = "tuple[int, int, str, str, str, bytes, Source, Address, bool, bytes | None]"
"""The seam's `BodyParts`, but for a body that is not in memory: it can be read here, without the core."""

MAX_FIELDS: Final = 1000
MAX_FIELD_BYTES: Final = 1024 * 1024


class Request:
    """One request, whole. `request.headers["accept"]`, `request.query["page"]`, `request.text()`."""

    __slots__ = ("__weakref__", "_headers", "_parts", "_path", "_rare", "_server")

    def __init__(self, parts: Parts, server: Address | ProxiedAddress) -> None:
        self._parts = parts
        self._server = server
        self._path: str | None = None
        self._headers: Headers | None = None
        self._rare: _Rare | None = None

    @property
    def method(self) -> str:
        """`"GET"`, `"POST"` …, as sent."""
        return self._parts[2]

    @property
    def uri(self) -> str:
        """Raw path and query, as sent."""
        uri = self._parts[3]
        if uri[:1] != "/" and (origin := _ORIGIN.match(uri)):
            rest = uri[origin.end() :]
            uri = rest if rest[:1] == "/" else "/" + rest
        return uri

    @property
    def raw_path(self) -> str:
        """The path, still percent-encoded; here `%2F` can be told from `/`."""
        return self.uri.partition("?")[0]

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        path = self._path
        if path is None:
            path = self.raw_path
            if "%" in path:
                path = unquote(path, errors="replace")
            self._path = path
        return path

    @property
    def query_string(self) -> str:
        """What follows the `?`, still encoded and without it."""
        return self.uri.partition("?")[2]

    @property
    def query(self) -> Query:
        """The decoded query, as `Query`. Raises: ValueError if it has more than a thousand fields."""
        rare = self._rare_values()
        if rare.query is None:
            rare.query = Query(self.query_string)
        return rare.query

    @property
    def headers(self) -> Headers:
        """The header fields, in order."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers(self._parts[5])
        return headers

    @property
    def cookies(self) -> Mapping[str, str]:
        """Cookies by name. Of two with one name the first counts: browsers send the most specific path first."""
        rare = self._rare_values()
        if rare.cookies is None:
            rare.cookies = _parse_cookies(self.headers.get("cookie", ""))
        return dict(rare.cookies)

    @property
    def body(self) -> bytes:
        """The whole body; `b""` if there is none.

        One over `max_body_in_memory_bytes` is in a file, and is read into memory now; `stream` reads it piece by piece.
        With `stream_body` it is waited for. Raises: BodyError; RuntimeError if a part of it was read from `stream`, and
        in coroutines, where it needs `load`.
        """
        body = self._parts[6]
        if isinstance(body, bytes):
            return body
        rare = self._rare_values()
        if rare.body is None:
            rare.body = self._whole_stream().read() if isinstance(body, Inflow) else body[:]
        return rare.body

    async def load(self) -> None:
        """Wait until all of a body that comes while the handler runs is here, in memory; others are.

        Then `body`, `text()`, `json()` and `form()` have it, also in coroutines. Raises: BodyError; RuntimeError if a
        part of it was read from `stream`.
        """
        rare = self._rare_values()
        if isinstance(self._parts[6], Inflow) and rare.body is None:
            rare.body = b"".join([piece async for piece in self._whole_stream()])

    @property
    def stream(self) -> RequestStream:
        """The body as a file that is read piece by piece; see `RequestStream`. Always the same one."""
        rare = self._rare_values()
        if rare.stream is None:
            rare.stream = RequestStream(self._parts[6] if rare.body is None else rare.body)
        return rare.stream

    def _whole_stream(self) -> RequestStream:
        stream = self.stream
        if stream.tell():
            raise RuntimeError("a part of the body has been read from req.stream already; the rest is there")
        return stream

    @property
    def client(self) -> Address:
        """The peer's `(address, port)`; for a unix socket its path, `""` if it has none.

        Behind one of the server's `trusted_proxies` it is whom the proxy was asked by; the port is 0 if it didn't say.
        """
        forwarded = self._read_forwarded()
        return self._parts[7] if forwarded is None else forwarded.client

    @property
    def server(self) -> Address:
        """Where the request arrived: the server's `(address, port)`, or the path of its unix socket."""
        server = self._server
        return server.address if isinstance(server, ProxiedAddress) else server

    @property
    def scheme(self) -> str:
        """`"https"` over TLS, or if a trusted proxy says so; else `"http"`, also for a WebSocket's handshake."""
        forwarded = self._read_forwarded()
        return (forwarded and forwarded.scheme) or ("http" if self._parts[9] is None else "https")

    @property
    def client_cert(self) -> Certificate | None:
        """The certificate that the client showed and that was verified, as `tls_config(client=…)` asks for it."""
        der = self._parts[9]
        return Certificate(der) if der else None

    @property
    def host(self) -> str:
        """The name that was asked for, with the port if it was said; from the trusted proxy, or from Host.

        `""` only in HTTP/1.0, which may leave it out.
        """
        forwarded = self._read_forwarded()
        if forwarded is not None and forwarded.host is not None:
            return forwarded.host
        # RFC 9112 §3.2.2: an absolute target wins.
        origin = _ORIGIN.match(self._parts[3])
        return origin[1] if origin else self.headers.get("host", "")

    @property
    def http_version(self) -> str:
        """`"1.1"` or `"1.0"`."""
        return self._parts[4]

    @property
    def is_websocket(self) -> bool:
        """Whether it is the handshake of a WebSocket."""
        return self._parts[8]

    def text(self) -> str:
        """The body as text, by the charset of its Content-Type, else UTF-8. Undecodable bytes become U+FFFD."""
        charset = _CHARSET.search(self.headers.get("content-type", ""))
        try:
            return decode(self.body, charset[1] if charset else "utf-8", "replace")
        except LookupError:  # a charset nobody has heard of
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed as JSON. Raises: ValueError."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None

    def form(self, *, max_fields: int = MAX_FIELDS, max_field_bytes: int = MAX_FIELD_BYTES) -> Form:
        """The body, parsed as what an HTML form sends: fields as text, and files.

        max_fields: how many fields and files there may be, together.
        max_field_bytes: how long one field may be; a file may be as long as the body. Of a body in a file, files stay
            there: `upload.stream` reads them piece by piece.

        Raises: ValueError for more than that, for another Content-Type, and for a body that isn't what it says.
        """
        content_type = self.headers.get("content-type")
        body = self._parts[6]
        source = self.body if isinstance(body, Inflow) else body
        return read_form(source, content_type, max_fields=max_fields, max_field_bytes=max_field_bytes)

    @property
    def environ(self) -> dict[str, Any]:
        """The request in Rook's words (CGI names, `rook.input`, `HEADERS`), which are also WSGI's.

        `PATH_INFO` is percent-decoded, like `path`, and `QUERY_STRING` has no leading `?`.
        """
        rare = self._rare_values()
        if rare.environ is None:
            rare.environ = _build_environ(self)
        return rare.environ

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"

    def _read_forwarded(self) -> Forwarded | None:
        server = self._server
        if not isinstance(server, ProxiedAddress):
            return None
        rare = self._rare_values()
        if rare.forwarded is None:
            rare.forwarded = server.proxies.read(self._parts[7], self.headers)
        return rare.forwarded

    def _rare_values(self) -> _Rare:
        rare = self._rare
        if rare is None:
            rare = self._rare = _Rare()
        return rare


class _Rare:
    """What few callbacks ask for; an idle WebSocket's handshake should not have room for it."""

    __slots__ = ("body", "cookies", "environ", "forwarded", "query", "stream")

    def __init__(self) -> None:
        self.query: Query | None = None
        self.cookies: dict[str, str] | None = None
        self.environ: dict[str, Any] | None = None
        self.forwarded: Forwarded | None = None
        self.body: bytes | None = None
        self.stream: RequestStream | None = None


class Query(Pairs[str]):
    """The decoded query: `query["a"]` is the first value, `get_all("a")` and `pairs` have them all."""

    __slots__ = ()

    def __init__(self, query_string: str) -> None:
        if query_string.count("&") >= MAX_FIELDS:
            raise ValueError(f"a query has at most {MAX_FIELDS} fields")
        super().__init__(parse_qsl(query_string, keep_blank_values=True, errors="replace"))


def _parse_cookies(header: str) -> dict[str, str]:
    cookies: dict[str, str] = {}
    # RFC 6265 §6.1: no browser sends this many. The rest is left out, like whatever else in it isn't a cookie.
    for part in header.split(";", MAX_FIELDS)[:MAX_FIELDS]:
        name, equals, value = part.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if equals and name:
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            cookies.setdefault(name, value[1:-1] if quoted else value)
    return cookies


class _Rook(io.BufferedIOBase):
    def read_lines(self, n: int = -1) -> list[str]:
        """At most `n` lines (all, if negative) as UTF-8 text, without their line ends."""
        lines: list[str] = []
        while n < 0 or len(lines) < n:
            line = self.readline()
            if not line:
                break
            lines.append(line.rstrip(b"\r\n").decode("utf-8", "replace"))
        return lines

    def rewind(self) -> None:
        """Go back to the beginning. Raises: io.UnsupportedOperation for a body that comes while the handler runs."""
        self.seek(0)


class RookInput(_Rook, io.BytesIO):
    """`rook.input`: the body as a stream. `read(n)` gives bytes, `read_lines(n)` text; `rewind()` starts again."""


class RookFile(_Rook, io.BufferedReader):
    """The same for a body that is not in memory."""


class RookErrors:
    """`rook.errors`: where an app may complain, which is standard error."""

    def cat(self, *texts: object) -> None:
        """Write the texts, separated by spaces."""
        self.write(" ".join(map(str, texts)))

    def write(self, text: str) -> int:
        """Write one text, as WSGI spells it."""
        return sys.stderr.write(text)

    def writelines(self, texts: list[str]) -> None:
        """Write several texts."""
        sys.stderr.writelines(texts)

    def flush(self) -> None:
        """Flush standard error."""
        sys.stderr.flush()


def _build_input(request: Request) -> RookInput | RookFile:
    source = request._parts[6]
    if isinstance(source, bytes):
        return RookInput(source)
    stream = request.stream if isinstance(source, Inflow) else RequestStream(source)
    return RookFile(cast(io.RawIOBase, stream))  # all that it asks for is readinto, seek and tell


def _build_environ(request: Request) -> dict[str, Any]:
    server, client = request.server, request.client
    body, errors = _build_input(request), RookErrors()
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "SERVER_NAME": server if isinstance(server, str) else server[0],
        "SERVER_PORT": "" if isinstance(server, str) else str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "REMOTE_ADDR": client if isinstance(client, str) else client[0],
        "REMOTE_PORT": "" if isinstance(client, str) or not client[1] else str(client[1]),
        "rook.version": "1.1-0",
        "rook.url_scheme": request.scheme,
        "rook.input": body,
        "rook.errors": errors,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": body,
        "wsgi.errors": errors,
        "HEADERS": request.headers,
    }
    for name in request.headers:
        # `X_Forwarded_For` and `X-Forwarded-For` would become the same key: a proxy that sets the second
        # can be bypassed with the first. Like nginx and gunicorn, leave the underscored one out.
        if "_" not in name:
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = request.headers[name]
    if request.host:
        environ["HTTP_HOST"] = request.host
    return environ
