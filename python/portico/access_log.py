"""The access log: what is written of each request, in which words. Off unless `access_log=` asks for it.

The native half makes the records, also while Python is busy, and keeps at most 10,000 of them or 16 MiB waiting.
Nothing that a client sends can end a line, leave its quotes or speak to a terminal (CWE-117). Thread: home.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from portico.headers import Headers

if TYPE_CHECKING:
    from portico._core import Address, LogParts
    from portico.proxies import TrustedProxies

logger = logging.getLogger("portico.access")

Format: TypeAlias = Literal["common", "combined", "json"]
AccessLog: TypeAlias = "bool | Format"
"""`access_log=`: False, a format, or True, which is "combined"."""

# As nginx does it: whatever is not visible ASCII, the quote that would end a value, and the backslash that escapes.
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One answered request, as the log record's attribute `access` has it, for formatters of one's own.

    client: as `req.client`.
    line: the request line as it came, `""` if none did; of what was no request, at most 1024 characters. Unescaped.
    status: of the answer; 499 if the client left before there was one.
    body_bytes: what was sent after the head of the answer, chunk sizes included.
    began: when the request began to arrive, in seconds since 1970.
    duration_s: from then until the last byte of the answer was given to the system.
    is_whole: whether that was all of the answer.
    close_code: None, but for the entry that follows when a WebSocket is over: its close code. That entry's
        `body_bytes` and `duration_s` are the WebSocket's.
    """

    client: Address
    line: str
    headers: Headers
    status: int
    body_bytes: int
    began: float
    duration_s: float
    is_whole: bool
    close_code: int | None


Sink: TypeAlias = "Callable[[LogParts], None]"


def read_access_log(choice: object, proxies: TrustedProxies | None) -> Sink | None:
    """What takes the records of a server; None if it logs none. Raises: ValueError."""
    if choice is False:
        return None
    name = "combined" if choice is True else choice
    if name not in get_args(Format):
        names = ", ".join(map(repr, get_args(Format)))
        raise ValueError(f"access_log must be True, False or one of {names}; got {choice!r}")
    describe = _FORMATS[name]  # type: ignore[index]

    def write(parts: LogParts) -> None:
        if parts[9]:
            _tell_lost(parts[9], name == "json")
        if not logger.isEnabledFor(logging.INFO):
            return
        entry = _read_entry(parts, proxies)
        text = describe(entry)
        if text is not None:
            logger.info("%s", text, extra={"access": entry})

    return write


def warn_if_unheard() -> None:
    """A log that nobody will see was hardly meant so."""
    if not logger.isEnabledFor(logging.INFO):
        logger.warning(
            "access_log= is on, and the logger 'portico.access' drops what it says, which is of level INFO; "
            "logging.basicConfig(level=logging.INFO) shows it"
        )


def format_common(entry: AccessEntry) -> str | None:
    """`host - - [day/Mon/year:h:m:s zone] "request" status bytes`. The end of a WebSocket has no place in it."""
    if entry.close_code is not None:
        return None
    host = entry.client if isinstance(entry.client, str) else entry.client[0]
    host = _escape(host).replace(" ", r"\x20") or "-"
    line = _escape(entry.line) or "-"
    return f'{host} - - [{_local_time(int(entry.began))}] "{line}" {entry.status} {entry.body_bytes}'


def format_combined(entry: AccessEntry) -> str | None:
    """As `format_common`, with `"referer" "user agent"` behind it."""
    common = format_common(entry)
    if common is None:
        return None
    referer, agent = (_escape(entry.headers.get(name, "")) or "-" for name in ("referer", "user-agent"))
    return f'{common} "{referer}" "{agent}"'


def format_json(entry: AccessEntry) -> str:
    """One JSON object on one line, all ASCII. Bytes beyond ASCII count as Latin-1."""
    method, target, version = _split(entry.line)
    values: dict[str, object] = {
        "time": datetime.fromtimestamp(entry.began, timezone.utc).isoformat(timespec="milliseconds"),
        "client": entry.client if isinstance(entry.client, str) else entry.client[0],
        "request": entry.line,
        "method": method,
        "target": target,
        "version": version,
        "status": entry.status,
        "bytes": entry.body_bytes,
        "duration_s": round(entry.duration_s, 3),
        "is_whole": entry.is_whole,
        "host": entry.headers.get("host"),
        "referer": entry.headers.get("referer"),
        "user_agent": entry.headers.get("user-agent"),
    }
    if entry.close_code is not None:
        values["close_code"] = entry.close_code
    return json.dumps(values)


_FORMATS: Final[dict[str, Callable[[AccessEntry], str | None]]] = {
    "common": format_common,
    "combined": format_combined,
    "json": format_json,
}


def _read_entry(parts: LogParts, proxies: TrustedProxies | None) -> AccessEntry:
    client, line, fields, status, body_bytes, began, duration_s, is_whole, close_code, _ = parts
    headers = Headers(fields)
    if proxies is not None:
        client = proxies.read(client, headers).client
    text = line.decode("latin-1")
    return AccessEntry(client, text, headers, status, body_bytes, began, duration_s, is_whole, close_code)


def _tell_lost(count: int, as_json: bool) -> None:
    text = json.dumps({"lost": count}) if as_json else f"{count} records were lost: too many waited for this thread"
    logger.warning("%s", text)


def _escape(text: str) -> str:
    return _UNSAFE.sub(_escape_one, text)


def _escape_one(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02X}" for byte in found[0].encode("latin-1", "backslashreplace"))


def _split(line: str) -> tuple[str | None, str | None, str | None]:
    """Method, target and version; nothing of what was no request line."""
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/"):
        return None, None, None
    return parts[0], parts[1], parts[2][5:]


def _local_time(seconds: int) -> str:
    at = time.localtime(seconds)
    sign, minutes = ("-", -at.tm_gmtoff // 60) if at.tm_gmtoff < 0 else ("+", at.tm_gmtoff // 60)
    # Not strftime, whose month names are the locale's.
    day = f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}"
    return f"{day}:{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02} {sign}{minutes // 60:02}{minutes % 60:02}"
