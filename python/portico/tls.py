"""TLS in nanonext's words: `tls_config(client, server, password, auth)` and `write_cert(cn, valid_days)`.

Reads and checks; encrypting is the native half's business. Thread: any (pure, but for reading files).
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

from portico._core import check_tls, read_certificate, write_certificate

if TYPE_CHECKING:
    from portico._core import TlsSpec

logger = logging.getLogger("portico")

Pem: TypeAlias = "str | bytes | os.PathLike[str]"
"""PEM text, or the path of a file with it. What contains `-----BEGIN` is text."""
Identity: TypeAlias = "Pem | tuple[Pem, Pem]"
"""A certificate (what leads to its issuer follows it) and its private key: in one file or text, or as a pair."""
MinVersion: TypeAlias = Literal["1.2", "1.3"]

_DAY_S: Final = 86400
_BEGIN: Final = b"-----BEGIN"
_SYSTEM_CAS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, the BSDs, macOS
)


class TlsConfig:
    """What `tls_config` read: for the `tls` of a server, or of a client. Holds private keys, and shows none."""

    __slots__ = ("_auth", "_identities", "_is_13_only", "_password", "_revoked", "_trusted", "certificates")

    def __init__(
        self,
        identities: Sequence[tuple[bytes, bytes]],
        password: str | None,
        trusted: bytes,
        revoked: bytes,
        auth: bool | None,
        min_version: MinVersion,
    ) -> None:
        self._identities = tuple(identities)
        self._password = password
        self._trusted = trusted
        self._revoked = revoked
        self._auth = auth
        self._is_13_only = min_version == "1.3"
        self.certificates: tuple[Certificate, ...] = ()
        if identities:
            self.certificates = tuple(map(Certificate, check_tls(self.server_spec())))
        elif trusted:
            check_tls(self.client_spec())

    def server_spec(self) -> TlsSpec:
        """For the native half of a server. Raises: ValueError if there is no certificate to show."""
        if not self._identities:
            raise ValueError("a server needs a certificate and its key: tls_config(server=…)")
        return self._spec(bool(self._auth))

    def client_spec(self) -> TlsSpec:
        """For the native half of a client, which verifies its server unless `auth=False`."""
        return self._spec(self._auth is not False)

    def _spec(self, requires_peer: bool) -> TlsSpec:
        return (self._identities, self._password, self._trusted, self._revoked, requires_peer, self._is_13_only)

    def __repr__(self) -> str:
        names = ", ".join(certificate.subject for certificate in self.certificates)
        return f"<TlsConfig server={names or None} client={'a CA' if self._trusted else None}>"


class Certificate:
    """Whose a certificate is, and until when. `der` is all of it, for other libraries."""

    __slots__ = ("common_name", "der", "not_after", "not_before", "subject")

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.subject, self.common_name, not_before, not_after = read_certificate(der)
        self.not_before = _date(not_before)
        self.not_after = _date(not_after)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, in hexadecimal: who pins one compares this."""
        return hashlib.sha256(self.der).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject} until {self.not_after:%Y-%m-%d}>"


class CertPair(NamedTuple):
    """What `write_cert` made: `tls_config(server=pair.server)` is for one end, `tls_config(client=pair.client)` for the
    other."""

    server: tuple[str, str]
    """The certificate and its private key, PEM."""
    client: tuple[str, str]
    """The certificate, to be trusted, and no revocation list."""


def tls_config(
    client: Pem | tuple[Pem, Pem] | None = None,
    server: Identity | list[Identity] | None = None,
    password: str | None = None,
    auth: bool | None = None,
    *,
    min_version: MinVersion = "1.2",
) -> TlsConfig:
    """Read certificates for `tls=`. PEM throughout: a path, or the text itself.

    client: the CA that the other side's certificate has to lead to, or a pair of it and a revocation list.
    server: the own certificate and its private key, in one or as a pair (a tuple). A list of them is for several names:
        a client gets the first that is for the name it asks for (SNI), or else the first of all. A client with a
        certificate of its own names it here, too.
    password: of encrypted private keys (PKCS #8 with PBES2).
    auth: of a server, True refuses clients that show no certificate. None or False lets them in; if `client` is there,
        those that show one are verified, and `req.client_cert` tells. Of a client, False believes any server; never do
        that but in tests.
    min_version: "1.2" or "1.3". There is nothing older.

    Warns on the `portico` logger of a certificate that has expired.
    Raises: OSError that names the file; ValueError that says what is wrong in it; TypeError.
    """
    if password is not None and not isinstance(password, str):
        raise TypeError(f"password must be a str, not {type(password).__name__}")
    if auth is not None and not isinstance(auth, bool):
        raise TypeError(f"auth must be True, False or None; got {auth!r}")
    if min_version not in get_args(MinVersion):
        raise ValueError(f"min_version must be '1.2' or '1.3'; got {min_version!r}")
    trusted, revoked = _read_trusted(client)
    listed = [] if server is None else server if isinstance(server, list) else [server]
    if auth and listed and not trusted:
        raise ValueError("auth=True needs client=, the CA that certificates of clients have to lead to")
    identities = [_read_identity(identity, password) for identity in listed]
    config = TlsConfig(identities, password, trusted, revoked, auth, min_version)
    _warn_of_dates(config)
    return config


def write_cert(cn: str | Sequence[str] = "127.0.0.1", valid_days: float = 365) -> CertPair:
    """Make a self-signed certificate (ECDSA P-256) for a host name or an address, or for several, and its key.

    Raises: ValueError, TypeError.
    """
    names = [cn] if isinstance(cn, str) else list(cn)
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f"cn must be a host name or an address, or several; got {cn!r}")
    if "" in names:
        raise ValueError("cn must not be empty; use '127.0.0.1' for this machine only")
    if isinstance(valid_days, bool) or not isinstance(valid_days, (int, float)):
        raise TypeError(f"valid_days must be a number, not {type(valid_days).__name__}")
    if not 0 < valid_days <= 36_500:
        raise ValueError(f"valid_days must be more than 0 and at most 36500; got {valid_days!r}")
    try:
        certificate, key = write_certificate(names, int(valid_days * _DAY_S))
    except ValueError as error:
        raise ValueError(f"write_cert({cn!r}): {error}") from None
    return CertPair((certificate, key), (certificate, ""))


@functools.cache
def system_trust() -> TlsConfig:
    """For a client that trusts whom this system trusts: SSL_CERT_FILE, or where distributions keep their CAs.

    Read once. Raises: OSError, ValueError.
    """
    named = os.environ.get("SSL_CERT_FILE")
    path = named or next(filter(os.path.exists, _SYSTEM_CAS), None)
    if path is None:
        raise ValueError("this system has no CAs in a known place; give them by SSL_CERT_FILE, or tls_config(client=…)")
    return tls_config(client=path)


def _read_trusted(client: object) -> tuple[bytes, bytes]:
    if client is None:
        return b"", b""
    if not isinstance(client, tuple):
        return _read_pem("client", client), b""
    if len(client) != 2:
        raise TypeError(f"client must be a CA, or a pair of a CA and a revocation list; got {len(client)} values")
    ca, revoked = client
    return _read_pem("client", ca), b"" if revoked in ("", b"", None) else _read_pem("client", revoked)


def _read_identity(identity: object, password: str | None) -> tuple[bytes, bytes]:
    if isinstance(identity, tuple) and len(identity) != 2:
        raise TypeError(f"server must be a certificate with its key, or a pair of them; got {len(identity)} values")
    parts = identity if isinstance(identity, tuple) else (identity, identity)
    chain, key = (_read_pem("server", part) for part in parts)
    try:
        check_tls(([(chain, key)], password, b"", b"", False, False))
    except ValueError as error:
        names = [os.fspath(part) for part in parts if not _is_text(part)]
        where = f" ({', '.join(dict.fromkeys(map(str, names)))})" if names else ""
        hint = "; a certificate and its key are a tuple" if not isinstance(identity, tuple) else ""
        raise ValueError(f"server{where}: {error}{hint}") from None
    return chain, key


def _is_text(pem: object) -> bool:
    return isinstance(pem, bytes) or (isinstance(pem, str) and _BEGIN.decode() in pem)


def _read_pem(name: str, pem: object) -> bytes:
    if isinstance(pem, bytes):
        return pem
    if not isinstance(pem, (str, os.PathLike)):
        raise TypeError(f"{name} must be PEM text or the path of a file, not {type(pem).__name__}")
    if isinstance(pem, str) and _is_text(pem):
        return pem.encode()
    path = os.fspath(pem)
    if not path:
        raise ValueError(f"{name} must be PEM text or the path of a file; got an empty str")
    with open(path, "rb") as file:
        return file.read()


def _warn_of_dates(config: TlsConfig) -> None:
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    for certificate in config.certificates:
        if certificate.not_after < now:
            logger.warning("the certificate of %s has expired: %s", certificate.subject, certificate.not_after)
        elif certificate.not_before > now:
            logger.warning("the certificate of %s is not valid before %s", certificate.subject, certificate.not_before)


def _date(seconds: int) -> datetime:
    # 9999-12-31 is how a certificate says "for ever" (RFC 5280 §4.1.2.5).
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), timezone.utc)
