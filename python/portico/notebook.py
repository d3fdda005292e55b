"""How a server shows itself in a notebook: plain HTML, which needs nothing of IPython. Thread: any."""

from __future__ import annotations

import html
import re
from typing import Final

# Nothing that could end the attribute, or add another property to it.
_LENGTH: Final = re.compile(r"\d+(\.\d+)?(px|%|em|rem|vh|vw)", re.ASCII)


class Frame:
    """A page in an inline frame. A notebook displays it where it is the last line of a cell."""

    def __init__(self, url: str, width: int | str, height: int | str) -> None:
        self.url = url
        self._style = f"width: {_length('width', width)}; height: {_length('height', height)}; border: 0"

    def __repr__(self) -> str:
        return f"<Frame {self.url}>"

    def _repr_html_(self) -> str:
        return f'<iframe src="{html.escape(self.url)}" style="{self._style}"></iframe>'


def link(url: str) -> str:
    """A link that opens another tab: following it in this one would leave the notebook."""
    url = html.escape(url)
    return f'<a href="{url}" target="_blank" rel="noopener">{url}</a>'


def _length(name: str, length: int | str) -> str:
    if isinstance(length, int) and not isinstance(length, bool) and length >= 0:
        return f"{length}px"
    if isinstance(length, str) and _LENGTH.fullmatch(length):
        return length
    raise ValueError(f"{name} must be a number of pixels or a CSS length such as '100%' or '30em'; got {length!r}")
