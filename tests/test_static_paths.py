"""Static paths: values that refuse nonsense early, what they inherit, and the live mapping of a server."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import portico
from portico import exclude_static_path, static_path, static_path_options
from portico.routes import Route
from portico.server import Server
from portico.static_paths import read_name, read_static_paths, resolve
from portico.testing import FakeCore, number_of

DEFAULTS = (True, False, "utf-8", (), None, False, False, False, True, 0)


def options_of(mount: Any, options: Any = None) -> Any:
    [(_, _, resolved)] = resolve({"/": mount}, options or static_path_options())
    return resolved


# Paths


def test_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "www").mkdir()
    (tmp_path / "page.html").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("www", "./www/", tmp_path / "www", "~/www", f"{tmp_path}/www/"):
        assert static_path(path).path == f"{tmp_path}/www"
    assert static_path("page.html").path == f"{tmp_path}/page.html"
    assert static_path(".").path == str(tmp_path)


def test_dots_go_back_as_the_kernel_goes(tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    assert os.path.samefile(static_path(tmp_path / "link" / "..").path, tmp_path / "far")


def test_path_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        static_path("missing")
    assert caught.value.filename == f"{tmp_path}/missing"
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file/x"):
        static_path("file/x")
    os.mkfifo("fifo")
    with pytest.raises(ValueError, match=r"directory or a regular file, which .*fifo' is not"):
        static_path("fifo")


@pytest.mark.parametrize(
    ("path", "error"), [("", ValueError), ("a\0b", ValueError), (b"/", TypeError), (None, TypeError), (7, TypeError)]
)
def test_path_of_another_kind_is_refused(path: Any, error: Any) -> None:
    with pytest.raises(error):
        static_path(path)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("/", "/"),
        ("//", "/"),
        ("a", "/a"),
        ("/a", "/a"),
        ("a/", "/a"),
        ("/a/b//", "/a/b"),
        ("/.well-known", "/.well-known"),
        ("/a b?", "/a b?"),
        ("/ä…\xa0", "/ä…\xa0"),
        ("/..a", "/..a"),
    ],
)
def test_name_gets_one_slash_before_it_and_none_behind(name: str, url: str) -> None:
    assert read_name(name) == url


@pytest.mark.parametrize("name", ["", "/a//b", "//a", "/./a", "/a/..", "..", "/a\\b", "/a\nb", "/\0", "/\udcff"])
def test_name_that_no_request_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the URL path of a static path"):
        read_name(name)


@pytest.mark.parametrize("name", [None, b"/a", 7, Path("/a")])
def test_name_of_another_type_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="must be a str, not"):
        read_name(name)


def test_mapping_of_static_paths(tmp_path: Path) -> None:
    made = static_path(tmp_path, listing=True)
    assert read_static_paths({"/": str(tmp_path), "a": tmp_path, "b/": made, "/c": exclude_static_path()}) == {
        "/": static_path(tmp_path),
        "/a": static_path(tmp_path),
        "/b": made,
        "/c": exclude_static_path(),
    }
    with pytest.raises(ValueError, match="'/a' is there twice, once as 'a/'"):
        read_static_paths({"/a": tmp_path, "a/": exclude_static_path()})
    with pytest.raises(TypeError, match="must be a mapping"):
        read_static_paths([("/", tmp_path)])
    with pytest.raises(TypeError, match=r"static_path\(…\) or exclude_static_path\(\), not bool"):
        read_static_paths({"/": True})


# Options


def test_defaults(tmp_path: Path) -> None:
    assert dataclasses.astuple(static_path_options()) == DEFAULTS[:-1]
    assert options_of(static_path(tmp_path)) == DEFAULTS


@pytest.mark.parametrize(
    ("option", "value", "index", "resolved"),
    [
        ("indexhtml", False, 0, False),
        ("fallthrough", True, 1, True),
        ("html_charset", "latin-1", 2, "latin-1"),
        ("html_charset", "", 2, ""),
        ("headers", {"A": "1", "B": ["2", "3"]}, 3, (("A", "1"), ("B", "2"), ("B", "3"))),
        ("headers", [("A", "1"), ("A", "2")], 3, (("A", "1"), ("A", "2"))),
        ("headers", {}, 3, ()),
        ("validation", '"X-Key" == "a b"', 4, ("X-Key", "a b")),
        ("validation", ' "X-Key"=="x" ', 4, ("X-Key", "x")),
        ("validation", ("X-Key", 'a"b'), 4, ("X-Key", 'a"b')),
        ("validation", "", 4, None),
        ("validation", (), 4, None),
        ("dotfiles", True, 5, True),
        ("symlinks", True, 6, True),
        ("listing", True, 7, True),
        ("precompressed", False, 8, False),
    ],
)
def test_option_of_the_server_or_of_one_path(
    tmp_path: Path, option: str, value: Any, index: int, resolved: Any
) -> None:
    expected = (*DEFAULTS[:index], resolved, *DEFAULTS[index + 1 :])
    here, everywhere = {option: value}, static_path_options(**{option: value})
    assert options_of(static_path(tmp_path, **here)) == expected
    assert options_of(static_path(tmp_path), everywhere) == expected
    assert dataclasses.astuple(everywhere) == expected[:-1]
    # Made again of what it was made into.
    assert dataclasses.replace(everywhere) == everywhere
    assert dataclasses.replace(static_path(tmp_path, **here)) == static_path(tmp_path, **here)


def test_own_option_wins_over_the_servers(tmp_path: Path) -> None:
    server = static_path_options(
        indexhtml=False, fallthrough=True, html_charset="x", headers={"A": "1"}, validation=("B", "2"), listing=True
    )
    own = static_path(
        tmp_path, indexhtml=True, fallthrough=False, html_charset="", headers=(), validation="", listing=False
    )
    assert options_of(own, server) == (True, False, "", (), None, False, False, False, True, 0)
    assert options_of(static_path(tmp_path), server) == (
        *(False, True, "x", (("A", "1"),), ("B", "2")),
        *(False, False, True, True, 0),
    )
    assert resolve({"/x": exclude_static_path()}, server) == [("/x", None, None)]


@pytest.mark.parametrize(
    ("option", "value", "error", "says"),
    [
        ("indexhtml", 1, ValueError, "indexhtml must be True or False"),
        ("fallthrough", "yes", ValueError, "fallthrough must be True or False"),
        ("html_charset", 8, TypeError, "html_charset must be a str"),
        ("html_charset", "utf-8\r\nX: y", ValueError, "the name of a charset"),
        ("headers", "A: 1", TypeError, "headers must be a mapping"),
        ("headers", {"A": 1}, TypeError, "the value must be a str"),
        ("validation", "secret", ValueError, r"validation must be '\"Header\" == \"value\"'"),
        ("validation", ("A", None), ValueError, "or a .name, value. tuple of str"),
        ("validation", ("A", "1", "2"), ValueError, "or a .name, value. tuple of str"),
        ("validation", ("A b", "1"), ValueError, "'A b' is not the name of a header"),
        ("validation", ("A", ""), ValueError, "must be ASCII, not empty"),
        ("validation", '"A" == ""', ValueError, "must be ASCII, not empty"),
        ("validation", ("A", " x"), ValueError, "without white space around it"),
        ("validation", ("A", "é"), ValueError, "must be ASCII"),
        ("validation", ("A", "x\ny"), ValueError, "must be ASCII"),
    ],
)
def test_options_are_checked(tmp_path: Path, option: str, value: Any, error: Any, says: str) -> None:
    given: Any = {option: value}
    with pytest.raises(error, match=says):
        static_path_options(**given)
    with pytest.raises(error, match=says):
        static_path(tmp_path, **given)


def test_secrets_are_not_told(tmp_path: Path) -> None:
    for value in (static_path_options(validation=("A", "s3cret")), static_path(tmp_path, validation='"A" == "s3cret"')):
        assert "s3cret" not in repr(value)
    for wrong in ("s3cret", "A == s3cret", ("A", "s3cret\n"), ("A", b"s3cret")):
        with pytest.raises(ValueError) as caught:
            static_path_options(validation=wrong)  # type: ignore[arg-type]
        assert "s3cret" not in str(caught.value)


def test_values_are_values(tmp_path: Path) -> None:
    assert len({static_path(tmp_path, headers={"A": "1"}), static_path(tmp_path, headers=[("A", "1")])}) == 1
    assert exclude_static_path() == exclude_static_path()
    with pytest.raises(dataclasses.FrozenInstanceError):
        static_path_options().listing = True  # type: ignore[misc]


# A server's


def make(**options: Any) -> Server:
    return Server([Route(prefix=True, on_request=print)], ("127.0.0.1", 0), quiet=True, **options)


def served(core: FakeCore, server: Server) -> dict[str, Any]:
    """What the core serves: URL path → directory."""
    return {name: root for name, root, _ in core.files[number_of(server)]}


def test_static_paths_cross_the_seam_at_the_start(core: FakeCore, tmp_path: Path) -> None:
    server = make(static_paths={"a": tmp_path}, static_path_options={"listing": True, "validation": '"K" == "v"'})
    server.static_paths["/b"] = exclude_static_path()
    assert core.commands == []
    server.start()
    assert core.configs[number_of(server)]["files"] == [
        ("/a", str(tmp_path), (True, False, "utf-8", (), ("K", "v"), False, False, True, True, 0)),
        ("/b", None, None),
    ]
    plain = make().start()
    assert core.configs[number_of(plain)]["files"] == []


def test_changes_apply_at_once(core: FakeCore, tmp_path: Path) -> None:
    here = str(tmp_path)
    server = make(static_paths={"/a": here}).start()
    paths = server.static_paths
    paths["b/"] = tmp_path
    assert served(core, server) == {"/a": here, "/b": here}
    assert paths == {"/a": static_path(here), "/b": static_path(here)}
    paths["/b"] = static_path(here, listing=True)
    assert core.files[number_of(server)][1][2][7] is True
    assert "/b" in paths and "b" in paths and "/c" not in paths and "" not in paths and 7 not in paths
    del paths["/a/"]
    assert served(core, server) == {"/b": here}
    assert paths.pop("b") == static_path(here, listing=True)
    assert paths.pop("b", None) is None
    assert served(core, server) == {}
    paths.update({"/x": here}, y=exclude_static_path())
    paths.update([("/z", here)])
    assert served(core, server) == {"/x": here, "/y": None, "/z": here}
    assert (len(paths), list(paths)) == (3, ["/x", "/y", "/z"])
    assert "/y" in repr(paths)
    paths.clear()
    assert served(core, server) == paths == {}
    assert len(core.said("set_files")) == 7  # update and clear are one change each


def test_options_apply_at_once(core: FakeCore, tmp_path: Path) -> None:
    server = make(static_paths={"/": tmp_path}, static_path_options={"fallthrough": True}).start()
    server.static_path_options = dataclasses.replace(server.static_path_options, listing=True)
    assert core.files[number_of(server)][0][2] == (True, True, "utf-8", (), None, False, False, True, True, 0)
    server.static_path_options = {"indexhtml": False}
    assert core.files[number_of(server)][0][2] == (False, *DEFAULTS[1:])
    assert server.static_path_options == static_path_options(indexhtml=False)
    with pytest.raises(ValueError, match=r"unknown static path options: 'exclude'; expected dotfiles, .*, validation"):
        server.static_path_options = {"exclude": True}
    assert len(core.said("set_files")) == 2


def test_wrong_changes_change_nothing(core: FakeCore, tmp_path: Path) -> None:
    server = make(static_paths={"/a": tmp_path}).start()
    paths = server.static_paths
    with pytest.raises(FileNotFoundError):
        paths["/b"] = tmp_path / "missing"
    with pytest.raises(FileNotFoundError):
        paths.update({"/b": tmp_path, "/c": tmp_path / "missing"})
    with pytest.raises(ValueError, match="there twice"):
        paths.update({"/b": tmp_path, "b": tmp_path})
    with pytest.raises(TypeError):
        paths[7] = tmp_path  # type: ignore[index]
    for missing in ("/b", "", 7):
        with pytest.raises(KeyError):
            del paths[missing]  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            paths[missing]  # type: ignore[index]
    assert core.said("set_files") == []
    core.files_error = FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        paths["/b"] = tmp_path
    assert caught.value.filename == str(tmp_path)
    core.files_error = ValueError("not a header name: 'a b'")
    with pytest.raises(ValueError, match="a b"):
        server.static_path_options = {"headers": {"a b": "1"}}
    assert paths == {"/a": static_path(tmp_path)}
    assert server.static_path_options == static_path_options()


def test_directory_that_cannot_be_opened_at_the_start_is_named(core: FakeCore, tmp_path: Path) -> None:
    server = make(static_paths={"/a": tmp_path})
    core.files_error = PermissionError(errno.EACCES, "Permission denied", str(tmp_path))
    with pytest.raises(PermissionError) as caught:
        server.start()
    assert caught.value.filename == str(tmp_path)
    assert "listen" not in str(caught.value)
    assert portico.list_servers() == []
    core.files_error = None
    assert server.start().is_running


def test_nothing_is_left_after_stop(core: FakeCore, tmp_path: Path) -> None:
    server = make(static_paths={"/a": tmp_path}).start()
    paths = server.static_paths
    server.stop()
    assert paths == server.static_paths == {}
    paths["/b"] = tmp_path / "missing"
    paths.update({"/b": tmp_path})
    del paths["/a"]
    paths.clear()
    server.static_path_options = {"listing": True}
    assert core.said("set_files") == [] and paths == {}
    assert not server.static_path_options.listing
    never_started = make(static_paths={"/a": tmp_path})
    never_started.stop()
    assert never_started.static_paths == {}


def test_change_that_meets_the_end_is_forgotten(core: FakeCore, tmp_path: Path) -> None:
    server = make().start()
    del core.files[number_of(server)]  # the core stopped listening; this thread doesn't know yet
    server.static_paths["/a"] = tmp_path
    assert server.static_paths == {}


def test_changes_of_many_threads_are_all_kept(core: FakeCore, tmp_path: Path) -> None:
    server = make().start()

    def change(thread: int) -> None:
        for number in range(20):
            server.static_paths[f"/{thread}/{number}"] = tmp_path
            if number % 2:
                del server.static_paths[f"/{thread}/{number}"]

    threads = [threading.Thread(target=change, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.static_paths) == 80
    assert set(server.static_paths) == set(served(core, server))


def test_change_inside_a_change_does_not_hang(core: FakeCore, tmp_path: Path) -> None:
    server = make().start()

    class Paths(Mapping[str, Any]):  # what a signal handler might do meanwhile
        def __getitem__(self, name: str) -> Any:
            server.static_paths["/inner"] = tmp_path
            return tmp_path

        def __iter__(self) -> Any:
            return iter(["/outer"])

        def __len__(self) -> int:
            return 1

    server.static_paths.update(Paths())
    assert "/outer" in server.static_paths


def test_only_a_file_may_answer_for_more_or_less_than_what_is_below_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.touch()
    for reach in ("exact", "all"):
        assert portico.StaticPath(str(page), reach=reach).reach == reach  # type: ignore[arg-type]
    for path, reach in ((page, "none"), (tmp_path, "exact"), (tmp_path, "all")):
        with pytest.raises(ValueError, match="reach must be 'below', or of a file 'exact' or 'all'"):
            portico.StaticPath(str(path), reach=reach)  # type: ignore[arg-type]
