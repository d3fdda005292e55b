"""Bytes damaged at random: a piece is cut out, put in, replaced or repeated."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Change = tuple[str, int, "int | bytes"]


def damages_with(pieces: list[bytes]) -> Any:
    """Up to four changes to make; `pieces` are what is put in, beside any few bytes."""
    where = st.integers(0, 400)
    cut = st.tuples(st.just("cut"), where, st.integers(1, 20))
    insert = st.tuples(st.just("insert"), where, st.sampled_from(pieces) | st.binary(min_size=1, max_size=8))
    replace = st.tuples(st.just("replace"), where, st.integers(0, 255))
    repeat = st.tuples(st.just("repeat"), where, st.integers(1, 40))
    return st.lists(cut | insert | replace | repeat, max_size=4)


def damage(data: bytes, changes: list[Change]) -> bytes:
    """Make these changes, each to what the one before has left."""
    for kind, where, what in changes:
        at = where % (len(data) + 1)
        before, behind = data[:at], data[at:]
        if isinstance(what, bytes):
            data = before + what + behind
        elif kind == "cut":
            data = before + behind[what:]
        elif kind == "replace":
            data = before + bytes([what]) + behind[1:]
        else:
            data = before + behind[:what] * 2 + behind[what:]
    return data
