"""A value with parameters, as in Content-Type and Content-Disposition, and the charsets that such a value may name.

Strict: what isn't the grammar raises, because two readers who repair it differently can be played off against each
other. Linear in the length of the value. Thread: any (pure).
"""

from __future__ import annotations

import re
from typing import Final

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?")
_PARAMETER: Final = re.compile(rf'[ \t]*;[ \t]*(?:({_TOKEN})=(?:({_TOKEN})|"([^"\\]*(?:\\.[^"\\]*)*)"))?')
_ESCAPED: Final = re.compile(r'\\(["\\])')

# The encodings of the web (https://encoding.spec.whatwg.org) that Python has. The client chooses, so not just any:
# Python remembers every name that it was ever asked for, and some of its own codecs, as punycode, take quadratic time.
_CHARSETS: Final = frozenset(
    "utf-8 utf8 us-ascii ascii latin1 utf-16 utf-16be utf-16le ibm866 koi8-r koi8-u macintosh gbk gb2312 gb18030 big5 "
    "euc-jp iso-2022-jp shift_jis sjis euc-kr".split()
    + [f"iso-8859-{part}" for part in range(1, 17) if part != 12]
    + [f"{prefix}{page}" for prefix in ("windows-", "cp") for page in range(1250, 1259)]
)


def read_parameters(text: str) -> tuple[str, dict[str, str]]:
    """The value and its parameters, both names in lower case. Raises: ValueError.

    In quotes a backslash stands for itself, unless a quote or another backslash follows: browsers send file names so.
    """
    found = _VALUE.match(text)
    if found is None:
        raise ValueError(f"not a value with parameters: {shorten(text)}")
    value, parameters, end = found[0].lower(), dict[str, str](), found.end()
    text = text.rstrip(" \t")
    while end < len(text):
        found = _PARAMETER.match(text, end)
        if found is None:
            raise ValueError(f"not a value with parameters: {shorten(text)}")
        end = found.end()
        if found[1] is not None:
            name = found[1].lower()
            if name in parameters:
                raise ValueError(f"{name!r} is there twice: {shorten(text)}")
            parameters[name] = _ESCAPED.sub(r"\1", found[3]) if found[2] is None else found[2]
    return value, parameters


def decode(data: bytes, charset: str, errors: str = "strict") -> str:
    """Bytes as text. Raises: LookupError for a charset that the web doesn't have; UnicodeDecodeError."""
    if charset.lower() not in _CHARSETS:
        raise LookupError(f"unknown charset: {shorten(charset)}")
    return data.decode(charset, errors)


def shorten(text: str) -> str:
    """What came, for a message: quoted, and not the whole of it if it is long."""
    return repr(text if len(text) <= 100 else text[:99] + "…")
