"""Paths, links and special files that must not get anything served, and clients that mean harm: over real sockets.

Where a case comes from an attack that worked on another server, it says which.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portico import exclude_static_path, static_path

from .conftest import Live, Serve, end, start
from .process import Program
from .test_static_files import CONTENT, MIB, by_app, is_of_app, serve_files, write
from .wire_client import DEADLINE_S, Client, Reply, request, wait_until

SECRET = b"the secret"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`root` is served; what is beside it, or hidden in it, must not be."""
    top = tmp_path_factory.mktemp("attacks")
    root = top / "root"
    for name in (
        "secret.txt",
        "root-secret/secret.txt",
        "rootsecret.txt",
        "root/.env",
        "root/.git/config",
        "root/dir/.htpasswd",
        "root/dir/.well-known/secret.txt",
        "root/.well-known/.secret",
        "root/.well-known-secret/x.txt",
        "root/back\\slash.txt",
        "root/..\\secret.txt",
        "root/C:secret.txt",
        "root/C:/secret.txt",
        "root/nul.txt",
        "root/con",
        "root/Aux.tar.gz",
        "root/com1.txt",
        "root/lpt9 .x",
    ):
        write(top / name, SECRET)
    for name in ("open.txt", "dir/open.txt", "dir/deep/open.txt", "console", "comb.txt", "a:b"):
        write(root / name, "open")
    return top


@pytest.fixture(scope="module")
def live(top: Path) -> Iterator[Live]:
    root = top / "root"
    paths = {
        "/": root,
        "/static": root,
        "/list": static_path(root, listing=True),
        "/through": static_path(root, fallthrough=True),
        "/links": static_path(root, symlinks=True),
        "/all": static_path(root, dotfiles=True, symlinks=True, listing=True),
        "/file": root / "open.txt",
        "/admin": exclude_static_path(),
    }
    started = start({"call": by_app, "static_paths": paths})
    yield started
    end(started.server)


PLACES = ["", "/static", "/list", "/links", "/all", "/through", "/file"]


def ask_raw(live: Live, target: bytes) -> Reply:
    """For targets that are no text; the request line is what it is."""
    with live.connect() as client:
        client.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.receive_reply()


def is_refused(reply: Reply) -> bool:
    return SECRET not in reply.body and b"root:" not in reply.body and (reply.status in (400, 404) or is_of_app(reply))


UP = [
    b"..",
    b"%2e%2e",
    b"%2E%2e",
    b".%2e",
    b"%2e.",
    b"%252e%252e",  # decoded twice by Apache 2.4.50, CVE-2021-42013
    b"%25252e%25252e",
    b"..%00",
    b"%00..",
    b"..%5c",
    b"..\\",
    b"%c0%ae%c0%ae",  # a dot in overlong UTF-8
    b"%e0%80%ae%e0%80%ae",
    b"%f0%80%80%ae%f0%80%80%ae",
    b"%c0%2e%c0%2e",
    b"%u002e%u002e",
    b"%uff0e%uff0e",
    b"%ef%bc%8e%ef%bc%8e",  # full width
    b"..;",  # a path parameter, to Java
    b"..;x=y",
    b"...",
    b"....",
    b"..%20",
    b"..%09",
    b"..%0d%0a",
    b".. ",
    b"%2e%2e%2f",
    b"..%2f",  # sanic, CVE-2017-16762
    b"..%252f",
    b"..%c0%af",
    b"..%255c",
    b".",
    b"",
]


@pytest.mark.parametrize("up", UP)
def test_climbing(live: Live, up: bytes) -> None:
    wrong = []
    for place in PLACES:
        for depth in (1, 2, 8):
            for down in (b"", b"/dir", b"/dir/deep", b"/missing", b"/open.txt"):
                for rest in (b"secret.txt", b"root-secret/secret.txt", b"etc/passwd", b"root/.env", b""):
                    target = place.encode() + down + (b"/" + up) * depth + b"/" + rest
                    reply = ask_raw(live, target)
                    allowed = is_refused(reply) or (up == b"" and depth == 0)
                    if not allowed:
                        wrong.append((target, reply.status))
    assert not wrong


@pytest.mark.parametrize(
    "target",
    [
        # What is refused as malformed, since no honest client sends it.
        "/..",
        "/../",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/static/..",
        "/static/../",
        "/static/../x",
        "/static/%2e%2e",
        "/dir/./open.txt",
        "/dir/%2e/open.txt",
        "/.",
        "/dir/..",
        "/dir/../open.txt",
        "/back\\slash.txt",
        "/back%5cslash.txt",
        "/..\\secret.txt",
        "/..%5Csecret.txt",
        "/dir%2fopen.txt",
        "/dir%2Fopen.txt",
        "/%2fetc%2fpasswd",
        "/open.txt%00",
        "/open.txt%00.html",
        "/%00",
        "/open%0a.txt",
        "/open%7f.txt",
        "/%",
        "/%4",
        "/%zz",
        "/open.txt%",
        "/%-1",
        "/% 41",
        "/%+41",
    ],
)
def test_malformed(live: Live, target: str) -> None:
    assert ask_raw(live, target.encode()).status == 400


@pytest.mark.parametrize(
    "target",
    [
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/%2Egit/config",
        "/.git",
        "/.git/",
        "/dir/.htpasswd",
        "/dir/.well-known/secret.txt",
        "/.well-known/.secret",
        "/.well-known-secret/x.txt",
        "/C:secret.txt",
        "/C%3asecret.txt",
        "/C:/secret.txt",
        "/nul.txt",
        "/NUL.txt",
        "/con",
        "/Aux.tar.gz",
        "/com1.txt",
        "/lpt9%20.x",
        "//open.txt",
        "/dir//open.txt",
        "///open.txt",
        "//",
        "/dir//",
        "//localhost/open.txt",
        "//etc/passwd",
        "/static//etc/passwd",
        "/open.txt/",
        "/open.txt/.",
        "/open.txt/open.txt",
        "/open.txt;x=y",
        "/open.txt%20",
        "/open.txt.",
        "/open.txt::$DATA",
        "/dir/open.txt~",
        "/~root/x",
        "/proc/self/environ",
        "/%ff%fe",
    ],
)
def test_never_served(live: Live, target: str) -> None:
    reply = live.ask("GET", target)
    assert reply.status in (400, 404) and SECRET not in reply.body
    assert reply.status == 404 or target.endswith("/.")
    # Spelt otherwise it is the same to other options, but for dotfiles where they are wanted.
    if "/." not in target and "%2" not in target:
        assert is_refused(live.ask("GET", "/all" + target))


def test_only_what_was_asked_for_is_hidden(live: Live) -> None:
    for name in ("console", "comb.txt", "dir/deep/open.txt"):
        assert live.ask("GET", f"/{name}").body == b"open"
    assert live.ask("GET", "/all/.env").body == SECRET
    assert live.ask("GET", "/all/dir/.htpasswd").body == SECRET


@pytest.mark.parametrize(
    "target", ["/root-secret/secret.txt", "/static-secret/secret.txt", "/staticsecret.txt", "/static../secret.txt"]
)
def test_a_prefix_is_whole_segments(live: Live, target: str) -> None:
    # starlette, CVE-2023-29159: "/static" served "/static-secret"; nginx's alias without a slash: "/static../".
    assert live.ask("GET", target).status in (400, 404)


@pytest.mark.parametrize(
    "target",
    [
        "/admin",
        "/admin/",
        "/admin/x",
        "/%61dmin/x",
        "/admin/../admin",
        "/admin/..",
        "/admin//x",
        "/admin/%00",
        "/admin?/",
    ],
)
def test_the_app_guards_a_hole_however_it_is_spelt(live: Live, target: str) -> None:
    assert is_of_app(live.ask("GET", target))


@pytest.mark.parametrize(
    "target", ["/x/../admin", "//admin", "/./admin", "/admin%2f", "/%2fadmin", "/static/../admin/x"]
)
def test_a_hole_is_not_got_round(live: Live, top: Path, target: str) -> None:
    write(top / "root/admin/x", SECRET)
    write(top / "root/admin/index.html", SECRET)
    assert is_refused(live.ask("GET", target))


# Redirects. tornado's CVE-2023-28370: `//host/..` was sent on to `//host/`, which is another host.


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "//evil.example/",
        "//evil.example/%2e%2e",
        "//evil.example/..",
        "///evil.example",
        "/\\evil.example",
        "/%5cevil.example",
        "/%2fevil.example",
        "/%09/evil.example",
        "/.//evil.example",
        "//list/dir",
        "/list//evil.example",
        "/list/..//evil.example",
        "/list%2f",
        "http://localhost//evil.example",
        "http://localhost//evil.example/dir",
        "/list/dir%0d%0aLocation:%20http://evil.example",
        "/list/dir/..",
    ],
)
def test_nobody_is_sent_elsewhere(live: Live, target: str) -> None:
    reply = live.ask("GET", target)
    location = reply["Location"]
    assert location is None or (location.startswith("/") and location[1:2] not in ("/", "\\")), location
    assert reply.status in (301, 400, 404)


def test_a_redirect_of_a_root_that_lists(serve: Serve, tmp_path: Path) -> None:
    for name in ("evil.example", "a b", "%2f%2fevil", "ü"):
        (tmp_path / name).mkdir()
    live = serve_files(serve, {"/": static_path(tmp_path, listing=True)})
    for target, location in (
        ("/evil.example", "/evil.example/"),
        ("/evil%2Eexample", "/evil%2Eexample/"),
        ("/a%20b?//evil.example", "/a%20b/?//evil.example"),
        ("/%252f%252fevil", "/%252f%252fevil/"),
        ("/%c3%bc", "/%c3%bc/"),
    ):
        assert live.ask("GET", target)["Location"] == location
    for target in ("//evil.example", "//evil.example/", "http://localhost//evil.example"):
        reply = live.ask("GET", target)
        assert (reply.status, reply["Location"]) == (404, None)


# Links. aiohttp, CVE-2024-23334: with links allowed the path was not checked any more.


@pytest.fixture
def links(serve: Serve, tmp_path: Path) -> Live:
    root = tmp_path / "root"
    write(tmp_path / "outside/secret.txt", SECRET)
    write(tmp_path / "secret.txt.gz", SECRET)
    write(root / "a.txt", "a")
    write(root / "b.txt", "b")
    write(root / "dir/deep/c.txt", "c")
    targets: dict[str, str | Path] = {
        "in": "a.txt",
        "dir/up": "../a.txt",
        "dir/deep/up-up": "../../a.txt",
        "in-directory": "dir",
        "self": ".",
        "round": "dir/deep/../../a.txt",
        "out": "../outside/secret.txt",
        "out-directory": "../outside",
        "out-and-in": "../root/a.txt",
        "absolute": tmp_path / "outside/secret.txt",
        "absolute-in": root / "a.txt",
        "dir/far": "../../outside/secret.txt",
        "chain": "chain-2",
        "chain-2": "out",
        "slash": "/",
        "proc": "/proc/self/root",
        "cwd": "/proc/self/cwd",
        "descriptors": "/proc/self/fd",
        "loop": "loop",
        "ping": "pong",
        "pong": "ping",
        "dangling": "missing",
        "zero": "/dev/zero",
        "null": "/dev/null",
        "tty": "/dev/tty",
        "index-out/index.html": "../../outside/secret.txt",
        "b.txt.gz": "../secret.txt.gz",
    }
    for name, to in targets.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(to)
    paths = {"/no": static_path(root, listing=True), "/yes": static_path(root, symlinks=True, listing=True)}
    return serve_files(serve, paths)


INSIDE = {
    "in": b"a",
    "dir/up": b"a",
    "dir/deep/up-up": b"a",
    "in-directory/deep/c.txt": b"c",
    "self/self/in": b"a",
    "round": b"a",
}
OUTSIDE = {
    "out": SECRET,
    "out-directory/secret.txt": SECRET,
    "out-and-in": b"a",
    "absolute": SECRET,
    "absolute-in": b"a",
    "dir/far": SECRET,
    "chain": SECRET,
    "index-out/": SECRET,
    "in-directory/far": SECRET,
}


def test_links(links: Live) -> None:
    for name, body in INSIDE.items():
        assert links.ask("GET", f"/no/{name}").body == body, name
        assert links.ask("GET", f"/yes/{name}").body == body, name
    for name, body in OUTSIDE.items():
        reply = links.ask("GET", f"/no/{name}")
        assert SECRET not in reply.body and (reply.status == 404 or name == "index-out/"), name
        assert links.ask("GET", f"/yes/{name}").body == body, name
    for name in ("loop", "loop/x", "ping", "dangling", "in/x", "zero", "null", "tty", "descriptors/0"):
        for place in ("/no", "/yes"):
            assert links.ask("GET", f"{place}/{name}").status == 404, name
    for name in (
        "slash/etc/passwd",
        "proc/etc/passwd",
        "cwd/pyproject.toml",
        "out-directory/",
        "slash/",
        "descriptors/",
    ):
        assert links.ask("GET", f"/no/{name}").status == 404, name
    # Allowed links do not make a path of them.
    for name in (
        "../outside/secret.txt",
        "%2e%2e/outside/secret.txt",
        "dir/../../outside/secret.txt",
        "out-directory/../x",
    ):
        assert links.ask("GET", f"/yes/{name}").status == 400, name
    assert links.ask("GET", "/yes//etc/passwd").status == 404


def test_a_form_that_is_a_link_out(links: Live) -> None:
    assert links.ask("GET", "/no/b.txt", "Accept-Encoding: gzip").body == b"b"


def test_a_listing_shows_no_links_that_lead_out(links: Live) -> None:
    page = links.ask("GET", "/no/").body.decode()
    for name in ("out", "absolute", "chain", "slash", "loop", "dangling", "proc", "zero"):
        assert f">{name}<" not in page and f">{name}/<" not in page, name
    assert ">in<" in page and ">in-directory/<" in page


def test_a_link_that_changes_while_it_is_asked_for(serve: Serve, tmp_path: Path) -> None:
    """A directory that becomes a link out, and back, a thousand times: never a byte from outside."""
    root = tmp_path / "root"
    write(root / "real/x.txt", "inside")
    write(tmp_path / "outside/x.txt", SECRET)
    live = serve_files(serve, {"/": root})
    (root / "now").symlink_to("real")
    is_over = threading.Event()

    def swap() -> None:
        for number in range(100_000):
            if is_over.is_set():
                return
            (root / "new").symlink_to("real" if number % 2 else "../outside")
            os.rename(root / "new", root / "now")

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(swap)
        try:
            seen = set()
            until = time.monotonic() + 1
            with live.connect() as client:
                while time.monotonic() < until:
                    client.send(request("GET", "/now/x.txt"))
                    seen.add(client.receive_reply().body)
        finally:
            is_over.set()
        task.result()
    assert seen <= {b"inside", b"404 Not Found\n"} and b"inside" in seen


# What is no file


@pytest.mark.parametrize("symlinks", [False, True])
def test_special_files(serve: Serve, tmp_path: Path, symlinks: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write(root / "x.txt", "x")
    os.mkfifo(root / "fifo")
    os.mkfifo(root / "x.txt.gz")
    os.mkfifo(root / "written")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    names = ["fifo", "socket", "written", "fifo/x"]
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
        os.mknod(root / "block", 0o600 | 0o060000, os.makedev(7, 200))
        names += ["device", "block"]
    (root / "indexed").mkdir()
    os.mkfifo(root / "indexed/index.html")
    live = serve_files(serve, {"/": static_path(root, symlinks=symlinks, listing=True)})
    descriptor = os.open(root / "written", os.O_RDWR)
    try:
        os.write(descriptor, b"for somebody else")
        for _ in range(3):
            for name in names:
                assert live.ask("GET", f"/{name}").status == 404, name
            assert live.ask("GET", "/x.txt", "Accept-Encoding: gzip").body == b"x"
            page = live.ask("GET", "/").body.decode()
            assert not any(f">{name}<" in page for name in names) and ">x.txt<" in page
            assert live.ask("GET", "/indexed/").status in (200, 404)
        assert os.read(descriptor, 100) == b"for somebody else"
    finally:
        os.close(descriptor)
        listener.close()


def test_a_special_file_cannot_be_a_static_path(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises((OSError, ValueError)):
            serve_files(serve, {"/": path})


NOBODY = 65_534

UNPRIVILEGED = f"""
server = start({{"call": lambda req: "app", "static_paths": {{
    "/": portico.static_path(sys.argv[1], listing=True),
    "/through": portico.static_path(sys.argv[1], fallthrough=True),
    "/one": os.path.join(sys.argv[1], "forbidden.txt"),
}}}}, "thread")
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
say("ready")
server.wait_closed()
"""


def test_permissions(tmp_path: Path) -> None:
    for name in ("forbidden.txt", "open.txt", "closed/x.txt", "unlisted/x.txt", "locked/index.html", "packed.txt"):
        write(tmp_path / name, name)
    write(tmp_path / "packed.txt.gz", SECRET)
    with Program("os.umask(0)" + UNPRIVILEGED, str(tmp_path)) as program:
        address = program.address()
        assert program.line() == "ready"
        os.chmod(tmp_path, 0o755)
        for name in ("forbidden.txt", "closed", "locked/index.html", "packed.txt.gz"):
            os.chmod(tmp_path / name, 0o000)
        os.chmod(tmp_path / "unlisted", 0o711)
        try:
            with Client(address) as client:

                def ask(target: str, *lines: str) -> Reply:
                    client.send(request("GET", target, *lines))
                    return client.receive_reply()

                assert ask("/open.txt").body == b"open.txt"
                assert ask("/unlisted/x.txt").body == b"unlisted/x.txt"
                for target in ("/forbidden.txt", "/closed/x.txt", "/closed/", "/locked/", "/one", "/unlisted/"):
                    reply = ask(target)
                    assert (reply.status, reply.body) == (403, b"403 Forbidden\n"), target
                assert ask("/through/forbidden.txt").body == b"app"
                assert ask("/packed.txt", "Accept-Encoding: gzip").body == b"packed.txt"
                page = ask("/").body.decode()
                assert ">open.txt<" in page and "forbidden" not in page
        finally:
            os.chmod(tmp_path / "closed", 0o755)


# Names


@pytest.mark.parametrize("length", [255, 256, 1000, 4095, 4096, 5000])
def test_long_names(serve: Serve, tmp_path: Path, length: int) -> None:
    write(tmp_path / ("x" * 255), "long")
    live = serve_files(serve, {"/": tmp_path, "/list": static_path(tmp_path, listing=True)})
    for name in ("x" * length, "%78" * (length // 3), "y/" * (length // 2), "x" * (length - 3) + ".gz"):
        reply = live.ask("GET", f"/{name}", "Accept-Encoding: gzip")
        assert reply.status == (200 if name == "x" * 255 else 404), name[:20]
        assert reply.status != 200 or reply.body == b"long"
    assert live.ask("GET", "/list/" + "x" * 255).body == b"long"
    assert live.ask("GET", "/list/").status == 200


def test_a_name_without_room_for_a_suffix(serve: Serve, tmp_path: Path) -> None:
    for length in range(250, 256):
        write(tmp_path / ("x" * length), str(length))
    live = serve_files(serve, {"/": tmp_path})
    for length in range(250, 256):
        assert live.ask("GET", "/" + "x" * length, "Accept-Encoding: gzip, br, zstd").body == str(length).encode()


def test_names_are_bytes(serve: Serve, tmp_path: Path) -> None:
    dice = random.Random(5)
    names = {bytes(dice.choice(range(1, 256)) for _ in range(dice.randrange(1, 12))) for _ in range(200)}
    live = serve_files(serve, {"/": static_path(tmp_path, dotfiles=True)})
    for name in names - {b".", b".."}:
        if b"/" in name:
            continue
        try:
            (tmp_path / os.fsdecode(name)).write_bytes(name)
        except OSError:  # a file system that wants text
            continue
        reply = live.ask("GET", "/" + "".join(f"%{byte:02x}" for byte in name))
        is_odd = b"\\" in name or any(byte < 32 or byte == 127 for byte in name)
        if is_odd:
            assert reply.status == 400
        else:
            assert reply.body == name or (reply.status == 404 and name[1:2] == b":"), name


def test_random_targets(live: Live) -> None:
    """No answer but those that are meant, whatever is asked; and the server lives."""
    dice = random.Random(11)
    pieces = [
        b"/",
        b"..",
        b".",
        b"%2e",
        b"%2f",
        b"%5c",
        b"\\",
        b"%00",
        b"%",
        b"dir",
        b"open.txt",
        b"secret.txt",
        b"%25",
    ]
    pieces += [
        b"static",
        b"//",
        b"%c0%ae",
        b"?",
        b";",
        b":",
        b"C:",
        b"root",
        b"%ff",
        b"list",
        b"links",
        b"~",
        b"etc/passwd",
    ]
    with live.connect() as client:
        for _ in range(1500):
            target = b"/" + b"".join(dice.choice(pieces) for _ in range(dice.randrange(1, 9)))
            client.send(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = client.receive_reply()
            assert reply.status in (200, 301, 400, 404), target
            assert SECRET not in reply.body and b"root:x:" not in reply.body, target
            location = reply["Location"] or "/"
            assert location[0] == "/" and location[1:2] not in ("/", "\\"), target
    assert live.server.stats()["panics"] == 0


# Floods


def test_costly_ranges_cost_little(tmp_path: Path) -> None:
    """starlette merged ranges in quadratic time (CVE-2025-62727); Apache made a part of each (CVE-2011-3192)."""
    write(tmp_path / "a.bin", CONTENT)
    source = """
    server = start({"static_paths": {"/": sys.argv[1]}}, "thread", limits=portico.Limits(max_head_bytes=60_000))
    server.wait_closed()
    """
    overlapping = ",".join(f"{number}-" for number in range(16))
    many = ",".join(f"{number}-{number}" for number in range(0, 60_000, 200))
    with Program(source, str(tmp_path)) as program, Client(program.address()) as client:
        client.send(request("GET", "/a.bin", "Range: bytes=0-0"))
        assert client.receive_reply().status == 206
        before, began = program.memory(), time.monotonic()
        for asked, status in (
            (overlapping, 206),
            ("0-," * 15 + "0-", 206),
            (many, 200),
            ("-" * 8000, 200),
            ("," * 8000, 200),
        ):
            for method in ("HEAD", "GET"):
                client.send(request(method, "/a.bin", f"Range: bytes={asked}"))
                reply = client.receive_reply(method)
                assert reply.status == (200 if method == "HEAD" else status)
                assert len(reply.body) <= 10 * MIB
        for field in ("If-None-Match", "If-Match", "Accept-Encoding", "If-Range", "Range"):
            for value in ('"x",' * 2000, "," * 8000, "W/" * 4000, '"' * 7999, "gzip;q=0.5," * 700):
                client.send(request("HEAD", "/a.bin", f"{field}: {value}"))
                assert client.receive_reply("HEAD").status in (200, 304, 412)
        assert time.monotonic() - began < 2
        assert program.memory("VmHWM") - before < 16 * MIB


def test_many_listings_at_once(serve: Serve, tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04}<&>.txt").touch()
    write(tmp_path / "sub/a.txt", "a")
    live = serve_files(serve, {"/": static_path(tmp_path, listing=True)})

    def visit(number: int) -> int:
        with live.connect() as client:
            client.send(request("GET", "/") * 3, request("GET", "/sub/a.txt"))
            pages = {client.receive_reply().body for _ in range(3)}
            assert len(pages) == 1 and pages.pop().count(b"<li>") == 1001
            assert client.receive_reply().body == b"a"
        return number

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(visit, range(20))) == 190


def test_clients_that_leave_while_the_disk_looks(serve: Serve, tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.txt").touch()
    live = serve_files(serve, {"/": static_path(tmp_path, listing=True)})
    for number in range(100):
        with live.connect() as client:
            client.send(request("GET", "/"), request("GET", "/1.txt"))
            if number % 2:
                client.reset()
    assert live.ask("GET", "/1.txt").status == 200
    assert live.server.stats()["panics"] == 0


def test_stop_while_the_disk_looks(serve: Serve, tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.txt").touch()
    live = serve_files(serve, {"/": static_path(tmp_path, listing=True)})
    clients = [live.connect() for _ in range(10)]
    try:
        for client in clients:
            client.send(request("GET", "/"))
        wait_until(lambda: live.server.stats()["requests"] >= 10, "the requests arrive")
        live.server.stop(DEADLINE_S)
        live.server.wait_closed()
        for client in clients:
            assert client.receive_reply().body.count(b"<li>") == 3000
    finally:
        for client in clients:
            client.socket.close()
