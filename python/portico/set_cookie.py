"""What a Set-Cookie field may say (RFC 6265 §4.1), and what browsers would drop without a word.

Thread: any (pure).
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Final, Literal, TypeAlias, get_args

from portico.routes import TOKEN

SameSite: TypeAlias = Literal["Lax", "Strict", "None"]

_VALUE: Final = re.compile(r"[!#-+\--:<-\[\]-~]*")
_PATH: Final = re.compile(r"/[ -:<-~]*")
_LABEL: Final = "[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_DOMAIN: Final = re.compile(rf"\.?{_LABEL}(?:\.{_LABEL})*")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# RFC 6265bis §5.6: browsers ignore a cookie beyond the first, and an attribute beyond the second.
_MAX_BYTES: Final = 4096
_MAX_ATTRIBUTE_BYTES: Final = 1024


def format_set_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None,
    expires: datetime | None,
    domain: str | None,
    path: str | None,
    secure: bool,
    httponly: bool,
    samesite: SameSite | None,
    partitioned: bool,
) -> str:
    """The value of a Set-Cookie field. Raises: TypeError, ValueError."""
    _check_text("name", name, TOKEN, "letters, digits and !#$%&'*+-.^_`|~")
    inner = value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value
    _check_text("value", inner, _VALUE, 'printable ASCII without spaces and ",;\\ (encode what is not)')
    if len(name) + len(value) > _MAX_BYTES:
        raise ValueError(f"cookie {name!r} has {len(name) + len(value)} bytes; browsers drop it beyond {_MAX_BYTES}")
    for flag, given in (("secure", secure), ("httponly", httponly), ("partitioned", partitioned)):
        if not isinstance(given, bool):
            raise TypeError(f"{flag} must be True or False; got {given!r}")
    if samesite is not None and samesite not in get_args(SameSite):
        raise ValueError(f"samesite must be 'Lax', 'Strict', 'None' or None; got {samesite!r}")
    if not secure and (samesite == "None" or partitioned):
        raise ValueError("samesite='None' and partitioned=True need secure=True; browsers drop the cookie without it")
    _check_prefix(name.lower(), domain, path, secure)

    parts = [f"{name}={value}"]
    if max_age is not None:
        if isinstance(max_age, bool) or not isinstance(max_age, int):
            raise TypeError(f"max_age must be an int, in seconds, or None; got {max_age!r}")
        parts.append(f"Max-Age={int(max_age)}")
    if expires is not None:
        parts.append(f"Expires={_format_date(expires)}")
    if domain is not None:
        _check_text("domain", domain, _DOMAIN, "a host name (for other alphabets its xn-- form)")
        parts.append(f"Domain={domain}")
    if path is not None:
        _check_text("path", path, _PATH, "ASCII that begins with '/', without control characters and ';'")
        parts.append(f"Path={path}")
    flags = (("Secure", secure), ("HttpOnly", httponly), ("Partitioned", partitioned))
    parts += [flag for flag, is_set in flags if is_set]
    if samesite is not None:
        parts.append(f"SameSite={samesite}")
    return "; ".join(parts)


def _check_text(what: str, text: object, allowed: re.Pattern[str], told: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a cookie's {what} must be a str, not {type(text).__name__} ({text!r})")
    if not allowed.fullmatch(text):
        raise ValueError(f"a cookie's {what} is {told}; got {text!r}")
    if what in ("domain", "path") and len(text) > _MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"a cookie's {what} has at most {_MAX_ATTRIBUTE_BYTES} bytes; got {len(text)}")


def _check_prefix(name: str, domain: str | None, path: str | None, secure: bool) -> None:
    # RFC 6265bis §4.1.3: browsers take these names as promises, in any case of letters.
    if name.startswith("__secure-") and not secure:
        raise ValueError("a cookie called __Secure-… needs secure=True")
    if name.startswith("__host-") and not (secure and domain is None and path == "/"):
        raise ValueError("a cookie called __Host-… needs secure=True, path='/' and no domain")


def _format_date(moment: datetime) -> str:
    """RFC 9110 §5.6.7, whatever the locale."""
    if not isinstance(moment, datetime):
        raise TypeError(f"expires must be a datetime or None, not {type(moment).__name__} ({moment!r})")
    if moment.utcoffset() is None:
        raise ValueError("expires must be a datetime with a time zone, or nobody knows when it is")
    moment = moment.astimezone(timezone.utc)
    if moment.year < 1601:
        raise ValueError(f"a cookie's date begins in 1601 (RFC 6265 §5.1.1); got {moment.year}")
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year} {moment:%H:%M:%S} GMT"
