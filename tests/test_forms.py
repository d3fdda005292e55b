"""Forms: what comes back is what was sent, and nothing else is a form."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portico import Form, Request, Upload
from portico.forms import MAX_PART_HEAD_BYTES, read_form
from portico.parameters import decode, read_parameters
from portico.testing import request_parts

MIB = 1024 * 1024
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"]), max_size=20)
FILE_NAME = NAME.filter(lambda name: name not in (".", "..") and not set(name) & set("/\\"))


def form(body: bytes, content_type: str | None = MULTIPART, **limits: int) -> Form:
    fields = [] if content_type is None else [("Content-Type", content_type)]
    return Request(request_parts(1, "/", method="POST", headers=fields, body=body), ("127.0.0.1", 80)).form(**limits)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def part(disposition: str, body: bytes = b"", *lines: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *lines])
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n"


def parts(*each: bytes) -> bytes:
    return b"".join(each) + b"--b--\r\n"


# What was sent comes back


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_urlencoded_round_trip(pairs: list[tuple[str, str]]) -> None:
    assert list(form(urlencode(pairs).encode(), URLENCODED).pairs) == pairs


@given(st.lists(st.tuples(NAME, TEXT), max_size=6), st.lists(st.tuples(NAME, FILE_NAME, st.binary()), max_size=4))
def test_multipart_round_trip(fields: list[tuple[str, str]], files: list[tuple[str, str, bytes]]) -> None:
    boundary = "x" * 70  # the longest; hypothesis won't write it by accident
    body = [part(f"name={quoted(name)}", text.encode()) for name, text in fields]
    body += [part(f"name={quoted(a)}; filename={quoted(b)}", data, "Content-Type: x/y") for a, b, data in files]
    sent = b"".join(piece.replace(b"--b", f"--{boundary}".encode(), 1) for piece in body)
    found = form(sent + f"--{boundary}--".encode(), f"multipart/form-data; boundary={boundary}")
    assert list(found.pairs) == fields
    uploads = [(name, upload.filename, upload.body) for name, upload in found.files.pairs]
    assert uploads == [file for file in files if file[1] or file[2]]


@given(st.binary(max_size=300), st.sampled_from([MULTIPART, URLENCODED, f"{URLENCODED}; charset=utf-16", "text/x"]))
@example(b"--b\r\n\r\n\r\n\r\n--b--", MULTIPART)
def test_any_bytes_are_a_form_or_a_value_error(body: bytes, content_type: str) -> None:
    try:
        assert isinstance(form(body, content_type), Form)
    except ValueError:
        pass


PIECES = [
    b"--b",
    b"\r\n",
    b"--",
    b'Content-Disposition: form-data; name="a"',
    b'; filename="',
    b'"',
    b"x",
    b"\r",
    b"\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=16).map(b"".join), st.lists(st.sampled_from(PIECES), max_size=6))
def test_nearly_a_form_is_one_or_a_value_error(start: bytes, rest: list[bytes]) -> None:
    for body in (start, parts(part('name="a"', start)), parts(part('name="a"'), *rest)):
        try:
            found = form(body)
        except ValueError:
            continue
        assert body.count(b"--b\r\n") >= len(found.pairs) + len(found.files.pairs)
        for value in [value.encode() for _, value in found.pairs] + [file.body for _, file in found.files.pairs]:
            assert b"\r\n--b" not in value  # the reader that stops at the first boundary saw the same


@given(st.text(max_size=60))
def test_any_content_type_is_read_or_a_value_error(text: str) -> None:
    try:
        value, parameters = read_parameters(text)
    except ValueError:
        return
    assert text.lower().startswith(value)
    assert all(name == name.lower() for name in parameters)


@given(st.text("%4aFg", max_size=12).map(str.encode))
def test_escapes_mean_what_they_mean_to_urllib(name: bytes) -> None:
    assert form(name + b"=", f"{URLENCODED}; charset=latin1").pairs == ((unquote_to_bytes(name).decode("latin1"), ""),)


# What a form looks like


def test_fields_and_files() -> None:
    found = form(
        parts(
            part('name="a"', b"1"),
            part('name="f"; filename="x.bin"', b"\r\n--\x00\xff", "Content-Type: image/x", "X-More: yes"),
            part('name="a"', "zwei ü".encode()),
            part('name="f"; filename="y"', b""),
        )
    )
    assert dict(found) == {"a": "1"}
    assert found.get_all("a") == ["1", "zwei ü"]
    assert found.get_all("none") == []
    first, second = found.files.get_all("f")
    assert found.files["f"] is first
    assert (first.filename, first.content_type, first.body) == ("x.bin", "image/x", b"\r\n--\x00\xff")
    assert first.headers["x-more"] == "yes"
    assert (second.filename, second.content_type, second.body) == ("y", "text/plain", b"")
    assert repr(found) == (
        "Form([('a', '1'), ('a', 'zwei ü')], files=[('f', Upload(filename='x.bin', content_type='image/x')), "
        "('f', Upload(filename='y', content_type='text/plain'))])"
    )


def test_urlencoded_is_what_browsers_send() -> None:
    found = form("a=1+2&b&=c&&d=%C3%A9&e=é&f=100%&a=x=y".encode(), URLENCODED)
    assert found.pairs == (("a", "1 2"), ("b", ""), ("", "c"), ("d", "é"), ("e", "é"), ("f", "100%"), ("a", "x=y"))
    assert found.files == {}
    assert form(b"", URLENCODED) == {}


def test_charset_of_a_form_and_of_a_field() -> None:
    assert form(b"a=%E9", f"{URLENCODED}; charset=ISO-8859-1")["a"] == "é"
    assert form(parts(part('name="a"', b"\xe9", "Content-Type: text/plain; charset=windows-1252")))["a"] == "é"


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('name="f"; filename="C:\\dir\\x.txt"', "x.txt"),  # backslashes as browsers on Windows sent them
        ('name="f"; filename="../../etc/passwd"', "passwd"),
        ('name="f"; filename=".."', ""),
        ('name="f"; filename="/"', ""),
        ('name="f"; filename="a\\"b"', 'a"b'),
        ('name="f"; filename="a%22b"', "a%22b"),
        ('NAME="f"; FileName=plain.txt', "plain.txt"),
        ("name=f; filename*=utf-8''%c3%a9.txt", "é.txt"),
        ("name=f; filename*=UTF-8'de'..%2F%2e", ""),
        ('name="f" ;\tfilename="a;b" ; size=1', "a;b"),
    ],
)
def test_name_of_a_file_has_no_directories(disposition: str, filename: str) -> None:
    assert form(parts(part(disposition, b"data"))).files["f"].filename == filename


def test_file_field_without_a_file_is_not_there() -> None:
    empty = part('name="f"; filename=""', b"", "Content-Type: application/octet-stream")
    assert form(parts(empty)).files == {}
    assert form(parts(part('name="f"; filename=""', b"x"))).files["f"].filename == ""


@pytest.mark.parametrize("body", [b"--b--", b"--b--\r\n", b"\r\n--b--\r\n"])
def test_form_without_fields(body: bytes) -> None:
    assert form(body) == {}
    assert form(body, 'Multipart/Form-Data; boundary="b"') == {}


def test_upload_cannot_be_changed() -> None:
    upload = form(parts(part('name="f"; filename="x"', b"1"))).files["f"]
    with pytest.raises(AttributeError):
        upload.filename = "y"  # type: ignore[misc]
    assert isinstance(upload, Upload)


# What isn't one

CONTENT_TYPE = "a form is application/x-www-form-urlencoded or multipart/form-data; this body "
DISPOSITION = "does not say Content-Disposition"


@pytest.mark.parametrize(
    ("content_type", "says"),
    [
        (None, CONTENT_TYPE + "has no Content-Type"),
        ("application/json", CONTENT_TYPE + "is 'application/json'"),
        ("multipart/mixed; boundary=b", "this body is 'multipart/mixed; boundary=b'"),
        ("x/" + "y" * 200, "y…'"),
        ("", "not a value with parameters: ''"),
        (f"{URLENCODED}, {URLENCODED}", "not a value"),
        ("multipart/form-data", "not a boundary: ''"),
        ("multipart/form-data; boundary=", "not a value"),
        ('multipart/form-data; boundary=""', "not a boundary"),
        ('multipart/form-data; boundary="b ', "not a value"),
        ('multipart/form-data; boundary="b "', "not a boundary: 'b '"),
        ('multipart/form-data; boundary="a\x80"', "not a boundary"),
        ("multipart/form-data; boundary=" + "b" * 71, "not a boundary"),
        ("multipart/form-data; boundary=b; Boundary=c", "'boundary' is there twice"),
        (f"{URLENCODED}; charset=punycode", "unknown charset: 'punycode'"),
    ],
)
def test_content_type_that_is_no_forms(content_type: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        form(b"--b--", content_type)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "does not begin with its boundary"),
        (b"preamble\r\n--b--", "does not begin"),
        (b"--b", "does not end its line"),
        (b"--bb\r\n", "does not end its line"),
        (b"--b \r\n", "does not end its line"),
        (b"--b\n", "does not end its line"),
        (b"--b--\r\n\r\n", "something follows"),
        (b"--b--epilogue", "something follows"),
        (part('name="a"', b"1"), "the last boundary is missing"),
        (part('name="a"', b"1") + b"--b", "does not end its line"),
        (part('name="a"', b"1") + b"--bx", "does not end its line"),
        (b"--b\r\n--b--", "a part has no head"),
        (b"--b\r\n\r\nbody\r\n--b--", "not a header field: ''"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n--b--', "a part has no head"),
        (b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b--', "a part has no head"),
        (parts(part('name="a"', b"", "X: " + "x" * MAX_PART_HEAD_BYTES)), "no head of at most 8192 bytes"),
        (parts(part('name="a"', b"", "no colon")), "not a header field: 'no colon'"),
        (parts(part('name="a"', b"", "X : blank")), "not a header field"),
        (parts(part('name="a"', b"", "X: a", " folded")), "not a header field"),
        (parts(part('name="a"', b"", "X: \x00")), "not a header field"),
        (parts(part('name="a"', b"", "X: a\nY: b")), "not a header field"),
        (
            parts(part('name="a"', b"", "Content-Disposition: form-data; name=b")),
            "'content-disposition' is there twice",
        ),
        (parts(part('name="a"', b"", "Content-Type: a/b", "content-type: a/c")), "'content-type' is there twice"),
        (parts(part('name="a"', b"", "Content-Transfer-Encoding: base64")), "has a Content-Transfer-Encoding"),
        (parts(part('filename="x"')), DISPOSITION),
        (parts(part("")), DISPOSITION),
        (b"--b\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--", DISPOSITION),
        (parts(part('name="a"').replace(b"form-data", b"attachment")), DISPOSITION),
        (parts(part('name="a"; name="b"')), "'name' is there twice"),
        (parts(part('name="a')), "not a value with parameters"),
        (parts(part('name="a" x')), "not a value with parameters"),
        (parts(part("name=a; filename=x; filename*=utf-8''y")), "filename*=\"utf-8''y\""),
        (parts(part("name=a; filename*=latin-1''y")), "filename*="),
        (parts(part("name=a; filename*=utf-8''%0d%0a")), "control characters in filename"),
        (parts(part("name=a; filename*=utf-8''%ff")), "invalid start byte (utf-8)"),
        (parts(part('name="a\tb"')), "control characters in name"),
        (parts(part('name="a"', b"\xff")), "invalid start byte (utf-8)"),
        (parts(part('name="a"', b"", "Content-Type: text/plain; charset=rot13")), "unknown charset: 'rot13'"),
        (parts(part('name="a"', b"", "Content-Type: ;")), "not a value with parameters"),
    ],
)
def test_malformed_parts(body: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        form(body)


def test_wrong_utf_8_is_not_repaired() -> None:
    with pytest.raises(ValueError, match=r"invalid start byte \(utf-8\)"):
        form(b"a=%FF", URLENCODED)


# Bounds


@pytest.mark.parametrize("content_type", [URLENCODED, MULTIPART])
def test_limits(content_type: str) -> None:
    def body(*values: bytes) -> bytes:
        if content_type == URLENCODED:
            return b"&".join(b"a=" + value for value in values)
        return parts(*(part("name=a", value) for value in values))

    assert len(form(body(b"xxx", b"yyy"), content_type, max_fields=2, max_field_bytes=3).pairs) == 2
    with pytest.raises(ValueError, match="at most 2 fields and files"):
        form(body(b"", b"", b""), content_type, max_fields=2)
    with pytest.raises(ValueError, match="at most 3 bytes"):
        form(body(b"xxxx"), content_type, max_field_bytes=3)
    with pytest.raises(ValueError, match="at most 1000 fields"):
        form(body(*[b""] * 1001), content_type)
    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        form(body(bytes(MIB + 1)), content_type)


def test_files_count_as_fields_but_may_be_longer() -> None:
    file = part('name="f"; filename=""', b"")
    assert form(parts(part('name="f"; filename="x"', b"12345")), max_field_bytes=1).files["f"].body == b"12345"
    with pytest.raises(ValueError, match="at most 2 fields and files"):
        form(parts(file, file, file), max_fields=2)


class Counted(bytes):
    """Bytes that know how many of them were searched."""

    searched = 0

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(what, start, len(self) if end is None else end)
        self.searched += (found if found >= 0 else len(self) if end is None else end) - start
        return found


@pytest.mark.parametrize(
    "body",
    [
        parts(*[part("name=a")] * 900),
        parts(part("name=a; filename=x", b"\r\n--" * (MIB // 4))),
        parts(part("name=a; filename=x", b"\r\n--a\r\n\r\n" * (MIB // 9))),
        parts(*[part("name=a; filename=x", bytes(1000))] * 900),
        part("name=a; filename=x", b"\r\n\r\n" * (MIB // 4)),
        b"--b\r\n" * (MIB // 5),
        b"--b" + b"\r\n\r\n" * (MIB // 4),
    ],
)
def test_parts_are_searched_twice_at_most(body: bytes) -> None:
    counted = Counted(body)
    try:
        read_form(counted, MULTIPART, max_fields=10**6, max_field_bytes=MIB)
    except ValueError:
        pass
    assert counted.searched <= 2 * len(body)


def calls(f: Callable[[], object]) -> int:
    """How many functions ran: what can be counted instead of timed."""
    count = 0

    def tally(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(tally)
    try:
        f()
    except ValueError:
        pass
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("piece", [b"&", b"a&", b"=&", b"%41&", b"%", b"+", b"%41"])
def test_work_of_an_urlencoded_form_is_bounded_by_its_limits(piece: bytes) -> None:
    for size in (MIB, 4 * MIB):
        body = piece * (size // len(piece))
        assert calls(lambda body=body: form(body, URLENCODED, max_field_bytes=1000)) < 30_000  # type: ignore[misc]


@pytest.mark.parametrize("piece", ["; ", ";a=b", '"', "\\", 'a="', "=", " "])
def test_work_of_a_content_type_grows_with_it(piece: str) -> None:
    def count(size: int) -> int:
        return calls(lambda: read_parameters("a/b; c=" + piece * size))

    assert count(20_000) <= 2 * count(10_000) + 50


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "unicode_escape", "zip", "x" * 1000, "", "utf-8\0"])
def test_charsets_that_are_not_the_webs(charset: str) -> None:
    with pytest.raises(LookupError, match="unknown charset"):
        decode(b"a", charset)


def test_every_charset_in_the_list_exists() -> None:
    from portico.parameters import _CHARSETS

    assert {decode(b"", charset) for charset in _CHARSETS} == {""}
