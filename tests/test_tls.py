"""`tls_config` and `write_cert`: what they take, and what they say of what they don't."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import portico
from portico.request import Request
from portico.server import Server
from portico.testing import FakeCore, number_of, request_parts
from portico.tls import system_trust

HERE = Path(__file__).parent / "certificates"
CA = HERE / "ca.pem"
PAIR = (HERE / "a-example.pem", HERE / "a-example-key.pem")


def text(name: str) -> str:
    return (HERE / f"{name}.pem").read_text()


def key(how: str) -> tuple[Path, Path]:
    return HERE / "a-example.pem", HERE / f"a-example-key-{how}.pem"


@pytest.mark.parametrize(
    "server",
    [
        PAIR,
        tuple(map(str, PAIR)),
        (text("a-example"), text("a-example-key")),
        text("a-example").encode() + text("a-example-key").encode(),
        text("a-example-key") + text("a-example"),
        (text("a-example") + text("ca"), HERE / "a-example-key.pem"),
        key("sec1"),
        (HERE / "rsa.pem", HERE / "rsa-key.pem"),
        (HERE / "rsa.pem", HERE / "rsa-key-pkcs1.pem"),
        [PAIR, (HERE / "b-example.pem", HERE / "b-example-key.pem")],
    ],
)
def test_certificates_and_keys_are_read_from_files_and_text(server: Any) -> None:
    config = portico.tls_config(server=server)
    assert config.certificates[0].common_name == "a.example"


def test_one_file_may_hold_both(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(text("a-example") + text("a-example-key"))
    assert portico.tls_config(server=both).certificates == portico.tls_config(server=PAIR).certificates


@pytest.mark.parametrize("how", ["encrypted", "scrypt"])
def test_encrypted_keys_open_with_their_password(how: str) -> None:
    assert portico.tls_config(server=key(how), password="secret").certificates[0].subject == "CN=a.example"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"server": key("encrypted"), "password": "wrong"}, "password is wrong"),
        ({"server": key("scrypt"), "password": "wrong"}, "password is wrong"),
        ({"server": key("encrypted")}, "encrypted; password="),
        ({"server": key("des3"), "password": "secret"}, "not supported.*PBES2 with AES"),
        ({"server": key("old"), "password": "secret"}, "openssl pkcs8 -topk8"),
        ({"server": HERE / "a-example.pem"}, r"a-example\.pem\): no private key"),
        ({"server": (HERE / "a-example-key.pem", HERE / "a-example-key.pem")}, "no certificate"),
        ({"server": (HERE / "a-example.pem", HERE / "b-example-key.pem")}, "belongs to another certificate"),
        ({"server": [*PAIR]}, "no private key.*are a tuple"),
        ({"server": "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n"}, "not PEM"),
        ({"server": "-----BEGIN CERTIFICATE-----\n"}, "not PEM"),
        ({"server": ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", PAIR[1])}, "cannot be read"),
        ({"server": (PAIR[0], "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")}, "cannot be used"),
        (
            {
                "server": (
                    PAIR[0],
                    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
                ),
                "password": "x",
            },
            "damaged",
        ),
        ({"server": (PAIR[0], "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n"), "password": "x"}, "END line"),
        ({"server": b""}, "no certificate"),
        ({"server": ""}, "empty str"),
        ({"client": HERE / "alice-key.pem"}, "client: no certificate"),
        ({"client": (CA, CA)}, "no revocation list"),
        ({"client": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}, "client: .*cannot be read"),
        ({"server": PAIR, "auth": True}, "auth=True needs client="),
        ({"server": PAIR, "min_version": "1.1"}, "min_version must be '1.2' or '1.3'"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        portico.tls_config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"server": 5},
        {"server": (1, 2)},
        {"server": (PAIR[0], PAIR[1], PAIR[1])},
        {"client": (CA,)},
        {"client": 3.5},
        {"server": PAIR, "password": b"secret"},
        {"server": PAIR, "auth": "optional"},
    ],
)
def test_wrong_types_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        portico.tls_config(**options)


@pytest.mark.parametrize("options", [{"client": "/nowhere/ca.pem"}, {"server": "/nowhere/cert.pem"}])
def test_missing_files_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError, match="/nowhere/"):
        portico.tls_config(**options)


def test_an_expired_certificate_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config = portico.tls_config(server=(HERE / "expired.pem", HERE / "expired-key.pem"))
    assert config.certificates[0].not_after == datetime(2021, 1, 1, tzinfo=timezone.utc)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "CN=127.0.0.1 has expired" in caplog.text


def test_a_certificate_of_tomorrow_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.tls.time.time", lambda: 0.0)
    portico.tls_config(server=PAIR)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is not valid before" in caplog.text


def test_a_system_without_cas_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr("portico.tls._SYSTEM_CAS", ["/nowhere/ca.pem"])
    with pytest.raises(ValueError, match="no CAs in a known place; give them by SSL_CERT_FILE"):
        system_trust.__wrapped__()  # what is read once stays with the others


def test_nothing_secret_is_shown() -> None:
    config = portico.tls_config(client=CA, server=key("encrypted"), password="secret", auth=True)
    assert "secret" not in repr(config) and "PRIVATE" not in repr(config)
    assert repr(config) == "<TlsConfig server=CN=a.example client=a CA>"


# write_cert


def test_a_written_pair_serves_both_ends() -> None:
    pair = portico.write_cert("127.0.0.1", 30)
    (certificate, private_key), (ca, revoked) = pair
    assert (pair.server, pair.client) == ((certificate, private_key), (ca, revoked))
    assert ca == certificate and revoked == "" and "PRIVATE KEY" in private_key
    found = portico.tls_config(pair.client, pair.server, auth=True).certificates[0]
    assert (found.subject, found.common_name) == ("CN=127.0.0.1", "127.0.0.1")
    now = datetime.now(timezone.utc)
    assert found.not_before < now and abs(found.not_after - now - timedelta(days=30)) < timedelta(minutes=5)
    assert portico.tls_config(server=portico.write_cert(["localhost", "::1"]).server).certificates[0] != found


@pytest.mark.parametrize(("cn", "days"), [("", 1), ("x", 0), ("x", -1), ("x", 1e9), ("x", float("nan")), ("ü", 1)])
def test_impossible_certificates_are_refused(cn: str, days: float) -> None:
    with pytest.raises(ValueError):
        portico.write_cert(cn, days)


@pytest.mark.parametrize(("cn", "days"), [(5, 1), ([], 1), ([b"x"], 1), ("x", "1"), ("x", True)])
def test_certificates_are_for_names(cn: Any, days: Any) -> None:
    with pytest.raises(TypeError):
        portico.write_cert(cn, days)


# Servers and requests


def test_servers_take_only_what_can_serve() -> None:
    with pytest.raises(TypeError, match="tls_config"):
        portico.start_server("127.0.0.1", 0, lambda req: "", tls=PAIR)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="server=…"):
        portico.start_server("127.0.0.1", 0, lambda req: "", tls=portico.tls_config(client=CA))


def test_the_request_tells_of_tls_and_who_asks() -> None:
    server = ("127.0.0.1", 443)
    plain, tls = Request(request_parts(1), server), Request(request_parts(1, tls=b""), server)
    assert (plain.scheme, tls.scheme) == ("http", "https")
    assert plain.client_cert is None and tls.client_cert is None
    alice = portico.tls_config(server=(HERE / "alice.pem", HERE / "alice-key.pem")).certificates[0]
    found = Request(request_parts(1, tls=alice.der), server).client_cert
    assert found == alice and hash(found) == hash(alice)
    assert found is not None
    assert (found.subject, found.common_name) == (r"CN=alice,O=Lab\, Inc.", "alice")
    assert len(found.fingerprint) == 64
    assert repr(found) == r"<Certificate CN=alice,O=Lab\, Inc. until 2120-01-01>"
    assert tls.environ["wsgi.url_scheme"] == "https"


def test_a_server_reloads(core: FakeCore) -> None:
    first, second = (portico.tls_config(server=portico.write_cert(name).server) for name in ("a", "b"))
    server = portico.start_server("127.0.0.1", 0, lambda req: "", tls=first)
    assert server.url.startswith("https://127.0.0.1:") and server.tls is first
    assert core.configs[number_of(server)]["tls"] == first.server_spec()
    server.tls = second
    assert core.said("set_tls") == [(number_of(server), second.server_spec())]
    assert server.tls is second
    with pytest.raises(ValueError):
        server.reload_tls(portico.tls_config(client=CA))
    server.stop()


def test_a_plain_server_stays_plain(core: FakeCore) -> None:
    with portico.start_server("127.0.0.1", 0, lambda req: "") as server:
        assert server.url.startswith("http://") and server.tls is None
        with pytest.raises(ValueError, match="speaks no TLS"):
            server.reload_tls(portico.tls_config(server=PAIR))


def test_before_the_start_and_after_the_end_nothing_is_sent(core: FakeCore) -> None:
    config = portico.tls_config(server=PAIR)
    server = Server([portico.routes.Route(on_request=lambda req: "")], ("127.0.0.1", 0), tls=config)
    server.reload_tls(config)
    server.start()
    server.stop()
    server.reload_tls(config)
    assert core.said("set_tls") == []


def test_the_handlers_door_takes_tls_with_an_https_url(core: FakeCore) -> None:
    config = portico.tls_config(server=PAIR)
    route = portico.handler("/", lambda req: "")
    with portico.http_server("https://127.0.0.1:0", route, config) as server:
        assert server.url.startswith("https://") and core.configs[number_of(server)]["tls"] == config.server_spec()
    with pytest.raises(ValueError, match="needs a certificate"):
        portico.http_server("wss://127.0.0.1:0", route)
    with pytest.raises(ValueError, match="begins with https://"):
        portico.http_server("http://127.0.0.1:0", route, config)
