"""What an HTML form sends: fields as text, and files. Both encodings, from a body that is all there.

The standard library has a parser for the parts, `email`; but it repairs what is malformed instead of refusing it, which
is how a filter in front of an app gets deceived, and it takes files for lines of text. Everything here reads each byte
a bounded number of times. Thread: any (pure).
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from portico.body import RequestStream, SpooledBytes
from portico.headers import Headers
from portico.parameters import decode, read_parameters, shorten

V = TypeVar("V")

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
MAX_PART_HEAD_BYTES: Final = 8 * 1024

# RFC 2046 §5.1.1.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\x00-\x08\x0a-\x1f\x7f]*)")
_EXTENDED: Final = re.compile(r"[Uu][Tt][Ff]-8'[0-9A-Za-z-]*'((?:%[0-9A-Fa-f]{2}|[!#$&+.^_`|~0-9A-Za-z-])*)")
_ESCAPES: Final = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")


class Pairs(Mapping[str, V]):
    """Names with values: `pairs["a"]` is the first value, `get_all("a")` has every one, `pairs.pairs` the order."""

    __slots__ = ("_values", "pairs")

    def __init__(self, pairs: Iterable[tuple[str, V]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._values: dict[str, list[V]] = {}
        for name, value in self.pairs:
            self._values.setdefault(name, []).append(value)

    def get_all(self, name: str) -> list[V]:
        """Every value of `name`, in order; empty if there is none."""
        return list(self._values.get(name, ()))

    def __getitem__(self, name: str) -> V:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self.pairs)!r})"


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form.

    filename: the name it has at the client, without directories; `""` if it says none. Don't write to it: two clients
        may send the same one, or the name of a file that you have.
    content_type: what the client says it is; `text/plain` if it doesn't (RFC 7578 §4.4).
    headers: all that was said about it.
    """

    filename: str
    content_type: str
    headers: Headers = field(repr=False)
    _content: bytes | SpooledBytes = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self._content)

    @property
    def body(self) -> bytes:
        """All of it. Of a body that is in a file, this reads it into memory each time; `stream` doesn't."""
        return self._content[:]

    @property
    def stream(self) -> RequestStream:
        """A stream over it, at its beginning: `shutil.copyfileobj(upload.stream, file)`."""
        return RequestStream(self._content)


class Form(Pairs[str]):
    """The fields of a form: `form["a"]` is the first value of `a`, `get_all("a")` and `pairs` have them all.

    `files` holds the files in the same way, as `Upload`s. A file field in which nothing was chosen is not there.
    """

    __slots__ = ("files",)

    def __init__(self, fields: Iterable[tuple[str, str]] = (), files: Iterable[tuple[str, Upload]] = ()) -> None:
        super().__init__(fields)
        self.files: Pairs[Upload] = Pairs(files)

    def __repr__(self) -> str:
        return f"Form({list(self.pairs)!r}, files={list(self.files.pairs)!r})"


def read_form(body: bytes | SpooledBytes, content_type: str | None, *, max_fields: int, max_field_bytes: int) -> Form:
    """Read the body of a request that has this Content-Type. Raises: ValueError."""
    if content_type is None:
        raise ValueError(f"a form is {URLENCODED} or {MULTIPART}; this body has no Content-Type")
    kind, parameters = read_parameters(content_type)
    if kind == URLENCODED:
        return Form(_read_urlencoded(body[:], parameters.get("charset", "utf-8"), max_fields, max_field_bytes))
    if kind == MULTIPART:
        return _read_multipart(body, _read_boundary(parameters), max_fields, max_field_bytes)
    raise ValueError(f"a form is {URLENCODED} or {MULTIPART}; this body is {shorten(content_type)}")


def _read_urlencoded(body: bytes, charset: str, max_fields: int, max_field_bytes: int) -> Iterator[tuple[str, str]]:
    """https://url.spec.whatwg.org/#urlencoded-parsing, to which any bytes are a form; but not wrong UTF-8."""
    pieces = body.replace(b"+", b" ").split(b"&", max_fields)
    if len(pieces) > max_fields:
        raise _too_many(max_fields)

    def read(encoded: bytes) -> str:
        # Decoding leaves at least a third of the bytes, and is what takes long here.
        if len(encoded) > 3 * max_field_bytes or len(data := _unquote(encoded)) > max_field_bytes:
            raise _too_long(max_field_bytes)
        return _read_text(data, charset)

    for piece in filter(None, pieces):
        name, _, value = piece.partition(b"=")
        yield read(name), read(value)


def _read_boundary(parameters: Mapping[str, str]) -> bytes:
    boundary = parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError(f"malformed form: not a boundary: {shorten(boundary)}")
    return boundary.encode("ascii")


def _read_multipart(body: bytes | SpooledBytes, boundary: bytes, max_fields: int, max_field_bytes: int) -> Form:
    """RFC 7578. What RFC 2046 lets stand around the parts (a preamble, an epilogue, blanks) nobody sends: refused."""
    delimiter = b"\r\n--" + boundary
    fields: list[tuple[str, str]] = []
    files: list[tuple[str, Upload]] = []
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    elif body.startswith(delimiter):
        at = len(delimiter)
    else:
        raise ValueError("malformed form: it does not begin with its boundary")
    left = max_fields
    while not body.startswith(b"--", at):
        left -= 1
        if left < 0:
            raise _too_many(max_fields)
        if not body.startswith(b"\r\n", at):
            raise ValueError("malformed form: a boundary does not end its line")
        end = body.find(delimiter, at)
        if end < 0:
            raise ValueError("malformed form: the last boundary is missing")
        # Both searches begin at the end of the boundary's own line, and stay before the next boundary: a part without
        # a head must not take the next one's.
        head_end = body.find(b"\r\n\r\n", at, min(end, at + MAX_PART_HEAD_BYTES))
        if head_end < 0:
            raise ValueError(f"malformed form: a part has no head of at most {MAX_PART_HEAD_BYTES} bytes")
        _read_part(body, at + 2, head_end, end, max_field_bytes, fields, files)
        at = end + len(delimiter)
    if body[at + 2 :] not in (b"", b"\r\n"):
        raise ValueError("malformed form: something follows the last boundary")
    return Form(fields, files)


def _read_part(
    body: bytes | SpooledBytes,
    start: int,
    head_end: int,
    end: int,
    max_field_bytes: int,
    fields: list[tuple[str, str]],
    files: list[tuple[str, Upload]],
) -> None:
    headers, lines = _read_head(body[start:head_end])
    name, filename = _read_disposition(lines)
    if lines.get("content-transfer-encoding", "binary").lower() not in ("7bit", "8bit", "binary"):
        # RFC 7578 §4.7: not to be used. Passing on what somebody encoded would be worse than saying so.
        raise ValueError("malformed form: a part has a Content-Transfer-Encoding")
    content_type = lines.get("content-type", "text/plain")
    start = head_end + 4
    if filename is None:
        if end - start > max_field_bytes:
            raise _too_long(max_field_bytes)
        charset = read_parameters(content_type)[1].get("charset", "utf-8")
        fields.append((name, _read_text(body[start:end], charset)))
    elif filename or start < end:  # else it is a file field in which nothing was chosen
        content = body[start:end] if isinstance(body, bytes) else body.cut(start, end)
        files.append((name, Upload(filename, content_type, headers, content)))


def _read_head(head: bytes) -> tuple[Headers, dict[str, str]]:
    """The fields of a part, as they came and by name. The ones that decide are there once, or not at all."""
    block = bytearray()
    found: dict[str, str] = {}
    for line in head.split(b"\r\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"malformed form: not a header field: {shorten(line.decode('latin-1'))}")
        value = match[2].strip(b" \t")
        name = match[1].decode("ascii").lower()
        if name in found and name.startswith("content-"):
            raise ValueError(f"malformed form: {name!r} is there twice")
        found[name] = _read_text(value, "utf-8")  # RFC 7578 §5.1: names of fields and files come so
        block += match[1] + b":" + value + b"\r\n"
    return Headers(bytes(block)), found


def _read_disposition(lines: Mapping[str, str]) -> tuple[str, str | None]:
    """The names of the field and of the file."""
    # `"` comes as %22 from browsers and curl; but `%` comes as itself, so nobody can tell, and it stays as it is.
    kind, parameters = read_parameters(lines.get("content-disposition", "none"))
    name = _read_name(parameters, "name")
    if kind != "form-data" or name is None:
        raise ValueError('malformed form: a part does not say Content-Disposition: form-data; name="…"')
    filename = _read_name(parameters, "filename")
    if filename is not None:
        # RFC 7578 §4.2: directories mean nothing here, and can be an attack.
        filename = filename.replace("\\", "/").rpartition("/")[2]
        filename = "" if filename in (".", "..") else filename
    return name, filename


def _read_name(parameters: Mapping[str, str], key: str) -> str | None:
    """`key`, or `key*` (RFC 8187), which is forbidden here but sent by urllib3 1: taken if it stands alone. If both are
    there, a filter may have looked at the other one."""
    plain, extended = parameters.get(key), parameters.get(f"{key}*")
    if extended is not None:
        found = _EXTENDED.fullmatch(extended)
        if plain is not None or found is None:
            raise ValueError(f"malformed form: {key}*={shorten(extended)}")
        plain = _read_text(_unquote(found[1].encode("ascii")), "utf-8")
    if plain is not None and _CONTROLS.search(plain):
        raise ValueError(f"malformed form: control characters in {key}")
    return plain


def _unquote(encoded: bytes) -> bytes:
    # Five times as fast at its slowest as urllib's, and here the client decides how much there is to do.
    return _ESCAPES.sub(lambda found: unhexlify(found[0].replace(b"%", b"")), encoded)


def _read_text(data: bytes, charset: str) -> str:
    try:
        return decode(data, charset)
    except UnicodeDecodeError as error:
        raise ValueError(f"malformed form: {error.reason} ({charset})") from None
    except LookupError as error:
        raise ValueError(f"malformed form: {error}") from None


def _too_many(max_fields: int) -> ValueError:
    return ValueError(f"a form has at most {max_fields} fields and files here")


def _too_long(max_field_bytes: int) -> ValueError:
    return ValueError(f"a field of a form has at most {max_field_bytes} bytes here")
