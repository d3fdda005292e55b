"""TLS as clients see it: who is believed, who is refused, how it ends, and what attackers get out of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets.sync.client

import portico
from portico.request import Request

from .conftest import Live, Recorder, Serve, end, needs_curl, start
from .process import Program
from .tls_client import CERTIFICATES, TlsAddress, TlsSocket, careless, trusting
from .wire_client import (
    BINARY,
    CLOSE,
    DEADLINE_S,
    Client,
    WebSocketClient,
    close_payload,
    handshake,
    request,
    wait_until,
)

PAIR = portico.write_cert(["127.0.0.1", "localhost"])
CONFIG = portico.tls_config(server=PAIR.server)
CA = (CERTIFICATES / "ca.pem").read_text()


def identity(name: str) -> tuple[Path, Path]:
    return CERTIFICATES / f"{name}.pem", CERTIFICATES / f"{name}-key.pem"


@pytest.fixture(scope="module")
def shared() -> Iterator[Live]:
    live = start(Recorder(), tls=CONFIG)
    yield live
    end(live.server)


@pytest.fixture
def tls(shared: Live) -> Iterator[Live]:
    """A server with TLS, shared by the tests of this file."""
    shared.settle()
    yield shared
    assert shared.server.stats()["panics"] == 0


def connect(live: Live, context: ssl.SSLContext | None = None, name: str = "localhost") -> Client:
    """A client that believes the server's own certificate, or what `context` believes."""
    host, port = live.address
    client = Client((host, port))
    try:
        client.socket = TlsSocket(client.socket, context or trusting(PAIR.client[0]), name)
    except BaseException:
        client.socket.close()
        raise
    return client


def ask(live: Live, context: ssl.SSLContext | None = None, name: str = "localhost") -> bytes:
    with connect(live, context, name) as client:
        client.send(request("GET", "/asked"))
        return client.receive_reply().body


def refusal(live: Live, context: ssl.SSLContext | None = None) -> str:
    """The alert that ends the handshake; in TLS 1.3 it may come after the client believes it done."""
    try:
        with connect(live, context) as client:
            with contextlib.suppress(OSError):
                client.send(request())
            client.receive_rest()
    except ssl.SSLError as error:
        return str(error).lower().replace("_", " ")
    raise AssertionError("the handshake was accepted")


def raw(live: Live) -> Client:
    """A client that does not shake hands."""
    host, port = live.address
    return Client((host, port))


def client_hello(name: str = "localhost") -> bytes:
    outgoing = ssl.MemoryBIO()
    session = careless().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


# Who is believed


def test_https_and_wss_share_a_port(tls: Live) -> None:
    assert tls.server.url == f"https://127.0.0.1:{tls.server.port}"
    assert ask(tls) == b"/asked"
    with connect(tls) as client:
        client.send(handshake("/ws"))
        assert client.receive_reply().status == 101
    assert tls.server.stats()["handshakes"] >= 2


def test_a_client_that_trusts_somebody_else_hangs_up(tls: Live) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(tls, trusting(CA))
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connect(tls, name="example.org")
    assert ask(tls) == b"/asked"


def test_requests_say_https(serve: Serve) -> None:
    live = serve(lambda req: f"{req.scheme} {req.client_cert} {req.environ['wsgi.url_scheme']}", tls=CONFIG)
    assert ask(live) == b"https None https"


def test_one_of_several_certificates_is_for_the_name(serve: Serve) -> None:
    config = portico.tls_config(server=[identity("a-example"), identity("b-example")])
    live = serve(lambda req: "hello", tls=config)
    for asked, shown in [("a.example", "a.example"), ("x.b.example", "*.b.example"), ("other.example", "a.example")]:
        with connect(live, careless(), asked) as client:
            der = client.socket.tls.getpeercert(binary_form=True)
            assert portico.Certificate(der).common_name == shown
    assert ask(live, trusting(CA), "y.b.example") == b"hello"


def test_a_client_without_elliptic_curves_gets_the_other_certificate(serve: Serve) -> None:
    live = serve(lambda req: "hello", tls=portico.tls_config(server=[identity("a-example"), identity("rsa")]))
    context = trusting(CA)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+aRSA")
    assert ask(live, context, "a.example") == b"hello"


def test_keys_may_be_encrypted(serve: Serve) -> None:
    key = CERTIFICATES / "a-example-key-encrypted.pem"
    config = portico.tls_config(server=(CERTIFICATES / "a-example.pem", key), password="secret")
    assert ask(serve(lambda req: "hello", tls=config), trusting(CA), "a.example") == b"hello"


def test_http_1_1_is_what_is_spoken(tls: Live) -> None:
    def offering(*protocols: str) -> ssl.SSLContext:
        context = trusting(PAIR.client[0])
        context.set_alpn_protocols(list(protocols))
        return context

    with connect(tls, offering("h2", "http/1.1")) as client:
        assert client.socket.tls.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        connect(tls, offering("h2"))


# Versions


def with_versions(least: ssl.TLSVersion, most: ssl.TLSVersion) -> ssl.SSLContext:
    context = trusting(PAIR.client[0])
    context.minimum_version, context.maximum_version = least, most
    return context


def test_tls_1_2_and_1_3_are_spoken(tls: Live) -> None:
    for version, name in [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]:
        with connect(tls, with_versions(version, version)) as client:
            assert client.socket.tls.version() == name
            client.send(request("GET", "/version"))
            assert client.receive_reply().body == b"/version"


def test_min_version_can_be_1_3(serve: Serve) -> None:
    live = serve(lambda req: "hello", tls=portico.tls_config(server=PAIR.server, min_version="1.3"))
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        connect(live, with_versions(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2))
    assert ask(live) == b"hello"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
@pytest.mark.parametrize("version", ["ssl3", "tls1", "tls1_1", "tls1_2", "tls1_3"])
def test_openssl_finds_nothing_older(tls: Live, version: str) -> None:
    # A build of openssl without the old version says so itself; the bytes below need none.
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tls.server.port}", f"-{version}"]
    command += ["-cipher", "ALL:@SECLEVEL=0"] if version != "tls1_3" else []
    done = subprocess.run(command, input=b"", capture_output=True, timeout=DEADLINE_S, check=False)
    if version in ("tls1_2", "tls1_3"):
        assert done.returncode == 0 and b"BEGIN CERTIFICATE" in done.stdout
    else:
        assert done.returncode != 0 and b"BEGIN CERTIFICATE" not in done.stdout


@pytest.mark.parametrize("version", [b"\3\0", b"\3\1", b"\3\2"])
def test_old_hellos_get_an_alert(tls: Live, version: bytes) -> None:
    body = version + bytes(32) + b"\0" + b"\0\4\xc0\x13\0\x2f" + b"\1\0"  # two suites of those days, no extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    with raw(tls) as client:
        client.send(b"\x16\3\1" + len(message).to_bytes(2, "big") + message)
        # A fatal alert: protocol_version, or handshake_failure since there are no extensions either (RFC 8446 §6).
        assert client.receive_rest() in (b"\x15\3\3\0\2\2\x46", b"\x15\3\3\0\2\2\x28")


# Both sides have certificates


def showing(name: str) -> ssl.SSLContext:
    context = trusting(PAIR.client[0])
    context.load_cert_chain(*identity(name))
    return context


def who(req: Request) -> str:
    return "nobody" if req.client_cert is None else str(req.client_cert.subject)


def test_clients_without_a_certificate_are_refused_where_it_is_required(serve: Serve) -> None:
    live = serve(who, tls=portico.tls_config(CERTIFICATES / "ca.pem", PAIR.server, auth=True))
    assert ask(live, showing("alice")) == rb"CN=alice,O=Lab\, Inc."
    assert "alert certificate required" in refusal(live)
    stranger = trusting(PAIR.client[0])
    load(stranger, portico.write_cert("alice").server)
    assert "alert unknown ca" in refusal(live, stranger)
    assert live.server.stats()["panics"] == 0


def load(context: ssl.SSLContext, pair: tuple[str, str]) -> None:
    """What `load_cert_chain` takes only from files."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(pair))
        file.flush()
        context.load_cert_chain(file.name)


def test_clients_may_show_a_certificate_where_it_is_welcome(serve: Serve) -> None:
    live = serve(who, tls=portico.tls_config(CERTIFICATES / "ca.pem", PAIR.server))
    assert ask(live) == b"nobody"
    assert ask(live, showing("alice")) == rb"CN=alice,O=Lab\, Inc."
    stranger = trusting(PAIR.client[0])
    load(stranger, portico.write_cert("alice").server)
    assert "alert unknown ca" in refusal(live, stranger)


def test_revoked_certificates_are_refused(serve: Serve) -> None:
    trusted = (CERTIFICATES / "ca.pem", CERTIFICATES / "revoked.pem")
    live = serve(who, tls=portico.tls_config(trusted, PAIR.server, auth=True))
    assert ask(live, showing("alice")).startswith(b"CN=alice")
    assert "alert certificate revoked" in refusal(live, showing("mallory"))


def test_websockets_tell_who_they_are_of(serve: Serve) -> None:
    seen: list[Any] = []
    app = {"on_ws_open": lambda ws: (seen.append(ws.request.client_cert), ws.send("hello"))}
    live = serve(app, tls=portico.tls_config(CERTIFICATES / "ca.pem", PAIR.server, auth=True))
    with connect(live, showing("alice")) as client:
        client.send(handshake())
        client.receive_until(b"hello")
    assert [certificate.common_name for certificate in seen] == ["alice"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed_with_all_that_was_known(serve: Serve, version: ssl.TLSVersion) -> None:
    live = serve(who, tls=portico.tls_config(CERTIFICATES / "ca.pem", PAIR.server, auth=True))
    context = showing("alice")
    context.minimum_version = context.maximum_version = version
    host, port = live.address

    def talk(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None, bytes]:
        with socket.create_connection((host, port), DEADLINE_S) as below:
            with context.wrap_socket(below, server_hostname="localhost", session=session) as client:
                client.sendall(request("GET", "/", "Connection: close"))
                received = b"".join(iter(lambda: client.recv(1 << 16), b""))
                return client.session, client.session_reused, received

    session, was_reused, _ = talk(None)
    _, is_reused, answer = talk(session)
    assert (was_reused, is_reused) == (False, True)
    assert answer.endswith(rb"CN=alice,O=Lab\, Inc.")


# Renewal


def test_new_connections_use_a_new_certificate_and_old_ones_go_on(serve: Serve) -> None:
    renewed = portico.write_cert("localhost")
    live = serve(lambda req: "hello", tls=CONFIG)
    with connect(live) as old:
        live.server.tls = portico.tls_config(server=renewed.server)
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(live)
        assert ask(live, trusting(renewed.client[0])) == b"hello"
        old.send(request())
        assert old.receive_reply().body == b"hello"


def test_a_configuration_that_cannot_serve_changes_nothing(serve: Serve) -> None:
    live = serve(lambda req: "hello", tls=CONFIG)
    with pytest.raises(ValueError):
        live.server.reload_tls(portico.tls_config(client=CA))
    assert live.server.tls is CONFIG
    assert ask(live) == b"hello"


# What isn't TLS, and what is where it shouldn't be


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"P", b"CONNECT x:1 HTTP/1.1\r\n"])
def test_plain_http_is_told_that_this_is_tls(tls: Live, first: bytes) -> None:
    with raw(tls) as client:
        client.send(first)
        reply = client.receive_reply()
        assert reply.status == 400 and reply["Connection"] == "close"
        assert b"TLS port" in reply.body and b"https://" in reply.body
        assert client.receive_rest() == b""
    assert tls.app.drain() == []


def test_tls_on_a_plain_port_is_told_so(recorder: Live) -> None:
    with recorder.connect() as client:
        client.send(client_hello())
        assert client.receive_last_reply().status == 400


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:{port}", "null", "https://example.org"])
def test_pages_that_came_without_tls_open_no_websockets(tls: Live, origin: str) -> None:
    host = f"Host: localhost:{tls.server.port}"
    with connect(tls) as client:
        lines = handshake("/", f"Origin: {origin.format(port=tls.server.port)}").replace(
            b"Host: localhost", host.encode()
        )
        client.send(lines)
        assert client.receive_reply().status == 403
    with connect(tls) as client:
        own = f"Origin: https://localhost:{tls.server.port}"
        client.send(handshake("/", own).replace(b"Host: localhost", host.encode()))
        assert client.receive_reply().status == 101


# How it ends


def test_an_answer_up_to_the_end_ends_with_close_notify(serve: Serve) -> None:
    def stream(req: Request) -> Any:
        yield b"one"
        yield b"two"

    live = serve(stream, tls=CONFIG)
    with connect(live) as client:
        client.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert client.receive_rest().endswith(b"onetwo")  # without close_notify this raises


def test_an_answer_that_broke_off_does_not_look_whole(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def stream(req: Request) -> Any:
        yield b"one"
        raise RuntimeError("in the middle")

    live = serve(stream, tls=CONFIG)
    with connect(live) as client:
        client.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        with pytest.raises((ssl.SSLEOFError, AssertionError)):
            client.receive_rest()
    wait_until(lambda: "in the middle" in caplog.text, "the error was reported")


def test_a_client_that_closes_its_half_gets_its_answer(tls: Live) -> None:
    with connect(tls) as client:
        client.send(request("GET", "/half", "Connection: close"))
        client.end()
        assert client.receive_reply().body == b"/half"
        assert client.receive_rest() == b""


def test_close_notify_in_the_segment_of_the_request_is_seen(tls: Live) -> None:
    with connect(tls) as client:
        records = client.socket.encrypt(request("GET", "/together"))
        with contextlib.suppress(ssl.SSLWantReadError):
            client.socket.tls.unwrap()
        client.socket.below.sendall(records + client.socket.encrypt(b""))
        assert client.receive_reply().body == b"/together"
        assert client.receive_rest() == b""


def test_close_notify_behind_messages_that_wait_is_seen(serve: Serve) -> None:
    app = Recorder()
    live = serve(app, callbacks="service", tls=CONFIG, limits=portico.Limits(max_inbox_messages=4))
    texts = [str(index) for index in range(100)]
    with WebSocketClient(live.address) as client:
        client.send_text(*texts)
        client.end()  # TLS's, not TCP's
        seen = live.service_to_the_end()
    assert seen == [("open", "/"), *(("text", text) for text in texts), ("close", (1006, ""))]


def test_a_websocket_that_is_cut_was_lost(tls: Live) -> None:
    for how in ("close", "reset", "notify"):
        with WebSocketClient(tls.address, f"/{how}") as client:
            assert tls.app.next() == ("open", f"/{how}")
            if how == "reset":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "notify":
                client.end()
        assert tls.app.next() == ("close", (1006, ""))


def test_websockets_close_cleanly(tls: Live) -> None:
    with WebSocketClient(tls.address) as client:
        client.send_text("hello")
        assert client.receive_text() == "hello"
        assert client.close(4000, "bye") == (4000, "")


# Attacks


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\3\1\x02\x00\1\0\1\xfc\3\3" + bytes(100),  # a hello that does not go on, then nonsense
        b"\x16\3\1\0\5hello",
        b"\x16\3\1\xff\xff" + b"x" * 1000,
        b"\0" * 100,
        b"\x80\x2e\1\0\2" + bytes(41),  # SSL 2
        b"\x17\3\3\0\x10" + bytes(16),  # data before any handshake
        b"\x15\3\3\0\2\2\x28",  # an alert
        b"get / http/1.1\r\n\r\n",
        bytes(range(256)),
    ],
)
def test_garbage_ends_the_connection_and_nothing_else(tls: Live, data: bytes) -> None:
    with raw(tls) as client:
        client.send(data)
        client.end()
        assert b"HTTP" not in client.receive_rest()
    assert ask(tls) == b"/asked"


def test_random_bytes_do_no_harm(tls: Live) -> None:
    for size in (1, 5, 6, 100, 5000, 100_000):
        with raw(tls) as client, contextlib.suppress(OSError, AssertionError):
            client.send(b"\x16" + os.urandom(size))
            client.end()
            client.receive_rest()
    assert ask(tls) == b"/asked"


def test_damaged_records_end_the_connection(tls: Live) -> None:
    with connect(tls) as client:
        record = bytearray(client.socket.encrypt(request()))
        record[-1] ^= 1
        client.socket.below.sendall(record)
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            client.receive_rest()
    assert tls.app.drain() == []


def test_handshake_and_records_may_come_byte_by_byte(tls: Live) -> None:
    class Dripping:
        """A socket each of whose bytes is a segment."""

        def __init__(self, below: socket.socket) -> None:
            self._below = below

        def sendall(self, data: bytes) -> None:
            for byte in data:
                self._below.sendall(bytes([byte]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._below, name)

    with raw(tls) as client:
        client.socket = TlsSocket(Dripping(client.socket), trusting(PAIR.client[0]))  # type: ignore[arg-type]
        client.send(request("GET", "/drip"), request("GET", "/drop"))
        assert [client.receive_reply().body, client.receive_reply().body] == [b"/drip", b"/drop"]


def test_records_of_one_byte_are_put_together(tls: Live) -> None:
    with connect(tls) as client:
        client.send_bytewise(request("POST", "/bytes", "Content-Length: 300", body=bytes(300)))
        assert client.receive_reply().body == bytes(300)


def test_a_handshake_has_its_time(serve: Serve) -> None:
    live = serve(Recorder(), tls=CONFIG, limits=portico.Limits(handshake_timeout_s=0.3))
    hello = client_hello()
    for first in (b"", hello[:1], hello[: len(hello) // 2], hello):
        with raw(live) as client:
            client.send(first)
            assert b"HTTP" not in client.receive_rest()
    with raw(live) as client:  # a byte now and then gains nothing
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in hello:
                client.send(bytes([byte]))
                time.sleep(0.02)
        assert time.monotonic() - began < len(hello) * 0.02
    with connect(live) as client:  # and who has finished it has no such limit
        time.sleep(0.5)
        client.send(request("GET", "/later"))
        assert client.receive_reply().body == b"/later"


def test_the_time_for_a_head_begins_after_the_handshake(serve: Serve) -> None:
    live = serve(Recorder(), tls=CONFIG, limits=portico.Limits(head_timeout_s=0.2))
    with connect(live) as client:
        client.send(b"GET / HT")
        assert client.receive_reply().status == 408


def test_abandoned_handshakes_leave_nothing(serve: Serve) -> None:
    live = serve(Recorder(), tls=CONFIG)
    hello = client_hello()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before, accepted = descriptors(), live.server.stats()["accepted"]
    for _ in range(10):
        crowd = [raw(live) for _ in range(100)]
        for index, client in enumerate(crowd):
            with contextlib.suppress(OSError):
                client.send(hello[: (index * 7) % (len(hello) + 1)])
        for client in crowd:
            client.socket.close()
    wait_until(lambda: live.server.stats()["accepted"] == accepted + 1000)
    wait_until(lambda: descriptors() <= before, "descriptors came back")
    assert ask(live) == b"/asked"
    assert live.server.stats()["panics"] == 0


def test_a_server_that_is_full_shakes_no_more_hands(serve: Serve) -> None:
    live = serve(Recorder(), tls=CONFIG, limits=portico.Limits(max_connections=2))
    with connect(live) as one, raw(live):
        with raw(live) as third:
            third.send(client_hello())
            assert third.receive_rest() == b""
        one.send(request("GET", "/one"))
        assert one.receive_reply().body == b"/one"


def test_stopping_does_not_wait_for_handshakes(serve: Serve) -> None:
    live = serve(Recorder(), tls=CONFIG)
    with raw(live) as silent, raw(live) as half, WebSocketClient(live.address) as client:
        half.send(client_hello()[:50])
        wait_until(lambda: live.server.stats()["accepted"] == 3)
        with ThreadPoolExecutor() as pool:
            stopping = pool.submit(live.server.stop, DEADLINE_S)
            assert client.receive_close() == (1001, "")
            for one in (silent, half):
                one.receive_rest()
            client.send_frame(CLOSE, close_payload(1001))
            assert client.receive_rest() == b""
            stopping.result(DEADLINE_S)
        assert live.server.state == "stopped"


# Much, and slowly


def test_long_bodies_go_both_ways(serve: Serve) -> None:
    live = serve(lambda req: req.body, tls=CONFIG)
    body = os.urandom(1 << 20) * 12
    with connect(live) as client:
        client.send(request("POST", "/", f"Content-Length: {len(body)}", body=body))
        assert client.receive_reply().body == body
        client.send(request("POST", "/", "Content-Length: 5", body=b"again"))
        assert client.receive_reply().body == b"again"


def test_a_client_that_reads_late_gets_it_all(serve: Serve) -> None:
    body = os.urandom(1 << 20) * 24
    live = serve(lambda req: body, tls=CONFIG)
    clients = [connect(live) for _ in range(3)]
    for client in clients:
        client.send(request())
    assert ask(live) == body  # who reads at once does not wait for them
    for client in clients:
        with client:
            assert client.receive_reply().body == body


def test_what_is_dropped_for_a_slow_client_was_not_encrypted_yet(serve: Serve) -> None:
    sockets: list[portico.WebSocket] = []
    limits = portico.Limits(max_outbox_bytes=1 << 20)
    app = {"on_ws_open": sockets.append}
    live = serve(app, tls=CONFIG, limits=limits, slow_client="drop_oldest")
    with WebSocketClient(live.address) as client:
        wait_until(lambda: bool(sockets))
        count = 3000
        for index in range(count):
            assert sockets[0].send(index.to_bytes(4, "big") * 1000) == portico.SendResult.SENT
        seen = []
        while not seen or seen[-1] != count - 1:
            got = client.receive_frame()
            assert got.opcode == BINARY
            assert len(got.payload) == 4000
            seen.append(int.from_bytes(got.payload[:4], "big"))
            assert got.payload == seen[-1].to_bytes(4, "big") * 1000
    assert seen == sorted(set(seen))
    assert len(seen) < count and live.server.stats()["dropped"] == count - len(seen)


def test_static_files_are_served(serve: Serve, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "large.bin").write_bytes(data)
    (tmp_path / "small.txt").write_text("small")
    live = serve({"static_paths": {"/": tmp_path}}, tls=CONFIG)
    with connect(live) as client:
        client.send(request("GET", "/large.bin"), request("GET", "/small.txt"))
        assert client.receive_reply().body == data
        assert client.receive_reply().body == b"small"
        client.send(request("GET", "/large.bin", "Range: bytes=1000000-2999999"))
        reply = client.receive_reply()
        assert (reply.status, reply.body) == (206, data[1_000_000:3_000_000])


def test_a_unix_socket_can_speak_tls(tmp_path: Path) -> None:
    name = str(tmp_path / "socket")
    server = portico.start_pipe_server(name, None, lambda req: req.scheme, True, tls=CONFIG, callbacks="thread")
    try:
        with Client(name) as client:
            client.socket = TlsSocket(client.socket, trusting(PAIR.client[0]))
            client.send(request())
            assert client.receive_reply().body == b"https"
    finally:
        end(server)


# Clients that others wrote


def test_websockets_talks(tls: Live) -> None:
    context = trusting(PAIR.client[0])
    url = f"wss://localhost:{tls.server.port}/websockets"
    below = socket.create_connection(tls.address, DEADLINE_S)
    with websockets.sync.client.connect(url, ssl=context, sock=below) as client:
        for message in ("text", b"bytes", "x" * 300_000):
            client.send(message)
            assert client.recv(DEADLINE_S) == message


def test_aiohttp_talks(tls: Live) -> None:
    async def talk() -> None:
        context = trusting(PAIR.client[0])
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
            url = f"{tls.server.url}/aiohttp"
            async with session.post(url, data=b"x" * 200_000) as response:
                assert await response.read() == b"x" * 200_000
            async with session.ws_connect(url) as ws:
                await ws.send_str("hello")
                assert await ws.receive_str() == "hello"
        await asyncio.sleep(0)

    asyncio.run(talk())


@needs_curl
def test_curl_talks(tls: Live, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(PAIR.client[0])
    url = f"https://localhost:{tls.server.port}/curl"

    def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = ["curl", "--silent", "--show-error", "--max-time", "10", "--ipv4", *arguments, url]
        return subprocess.run(command, capture_output=True, check=False)

    done = curl("--cacert", str(authority))
    assert (done.stdout, done.stderr, done.returncode) == (b"/curl", b"", 0)
    assert curl().returncode == 60  # the certificate is nobody's that curl knows


# While Python is busy


def test_hands_are_shaken_while_the_interpreter_is_held() -> None:
    source = """
        pair = portico.write_cert("127.0.0.1")
        def hold(req):
            say("holding")
            ctypes.PyDLL(None).usleep(1_500_000)
            return "held"
        app = {"call": hold, "on_ws_open": lambda ws: None}
        config = portico.tls_config(server=pair.server)
        live(app, "thread", tls=config, inline={"/inline": ("text/plain", "native")})
    """
    with Program(source) as program:
        address = TlsAddress(program.address())
        with Client(address) as holder:
            holder.send(request("GET", "/hold"))
            assert program.line() == "holding"
            for _ in range(5):
                with Client(address) as client:
                    client.send(request("GET", "/inline"))
                    assert client.receive_reply().body == b"native"
            with WebSocketClient(address):
                pass
            assert holder.is_silent(), "the hold ended before the handshakes did"
            assert holder.receive_reply().body == b"held"
