"""Trusted proxies: whom they speak for, and that nobody else is believed."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import portico
from portico.headers import Headers
from portico.proxies import Forwarded, ProxiedAddress, read_proxies
from portico.request import Request
from portico.testing import FakeCore, number_of, request_parts

SERVER = ("192.0.2.1", 8080)
PROXY = ("10.0.0.1", 50000)
STRANGER = ("203.0.113.7", 50000)
FORWARDED = [
    ("Host", "10.0.0.1:8080"),
    ("X-Forwarded-For", "198.51.100.9"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "example.org"),
]


def request(*fields: tuple[str, str], client: Any = PROXY, trusted: Any = ("10.0.0.0/8", "fd00::/8")) -> Request:
    proxies = read_proxies(trusted)
    server = SERVER if proxies is None else ProxiedAddress(SERVER, proxies)
    return Request(request_parts(1, "/", headers=fields, client=client), server)


def client_of(*values: str, **options: Any) -> Any:
    return request(*(("X-Forwarded-For", value) for value in values), **options).client


def test_a_trusted_proxy_says_who_it_was() -> None:
    req = request(*FORWARDED)
    assert (req.client, req.scheme, req.host) == (("198.51.100.9", 0), "https", "example.org")
    assert req.server == SERVER
    env = req.environ
    assert (env["REMOTE_ADDR"], env["REMOTE_PORT"]) == ("198.51.100.9", "")
    assert (env["rook.url_scheme"], env["wsgi.url_scheme"], env["HTTP_HOST"]) == ("https", "https", "example.org")
    assert (env["SERVER_NAME"], env["SERVER_PORT"]) == ("192.0.2.1", "8080")
    assert req.headers["host"] == "10.0.0.1:8080"  # headers stay what was sent


@pytest.mark.parametrize(
    ("client", "trusted"),
    [
        (STRANGER, ["10.0.0.0/8"]),
        (PROXY, None),
        (PROXY, ()),
        (PROXY, "unix"),
        ("", ["10.0.0.0/8"]),
        (("fe80::1", 1), ["10.0.0.0/8"]),
        (("not an address", 1), ["10.0.0.0/8"]),
    ],
)
def test_nobody_else_is_believed(client: Any, trusted: Any) -> None:
    req = request(*FORWARDED, client=client, trusted=trusted)
    assert (req.client, req.scheme, req.host) == (client, "http", "10.0.0.1:8080")
    assert req.environ["REMOTE_ADDR"] == (client if isinstance(client, str) else client[0])
    assert req.environ["wsgi.url_scheme"] == "http"
    assert req.environ["HTTP_HOST"] == "10.0.0.1:8080"


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ("10.0.0.1", PROXY),
        (["192.0.2.0/24", "10.0.0.1/32"], PROXY),
        ([ipaddress.ip_address("10.0.0.1")], PROXY),
        (ipaddress.ip_network("10.0.0.0/8"), PROXY),
        ((name for name in ["10.0.0.1"]), PROXY),
        ("::ffff:10.0.0.0/104", PROXY),
        ("10.0.0.1", ("::ffff:10.0.0.1", 1)),
        ("::1", ("::1", 1)),
        ("unix", ""),
        (["10.0.0.1", "unix"], "/tmp/client.sock"),
        (["0.0.0.0/0"], STRANGER),
    ],
)
def test_ways_to_name_a_proxy(trusted: Any, client: Any) -> None:
    assert client_of("198.51.100.9", trusted=trusted, client=client) == ("198.51.100.9", 0)


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["198.51.100.9"], ("198.51.100.9", 0)),
        (["6.6.6.6, 198.51.100.9"], ("198.51.100.9", 0)),  # what the client invents stands on the left
        (["6.6.6.6", "198.51.100.9"], ("198.51.100.9", 0)),  # also on a line of its own
        (["6.6.6.6, 198.51.100.9, 10.0.0.3,10.0.0.2"], ("198.51.100.9", 0)),
        (["10.0.0.3\t,  10.0.0.2"], ("10.0.0.3", 0)),  # everybody is trusted: the farthest
        (["unknown, 10.0.0.2"], ("10.0.0.2", 0)),
        (["198.51.100.9, _hidden"], PROXY),
        (["198.51.100.9,"], PROXY),
        (["198.51.100.9, , 10.0.0.2"], ("10.0.0.2", 0)),
        ([""], PROXY),
        ([], PROXY),
        (["198.51.100.9:4711"], ("198.51.100.9", 4711)),
        (["198.51.100.9:65536"], PROXY),
        (["198.51.100.9:"], PROXY),
        (["198.51.100.09"], PROXY),
        (["198.51.100.9/32"], PROXY),
        (["2001:DB8:0::1"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:443"], ("2001:db8::1", 443)),
        (["[2001:db8::1]"], ("2001:db8::1", 0)),
        (["[198.51.100.9]"], PROXY),
        (["::ffff:198.51.100.9"], ("198.51.100.9", 0)),
        (["198.51.100.9, ::ffff:10.0.0.2"], ("198.51.100.9", 0)),
        (["198.51.100.9, fd00::2"], ("198.51.100.9", 0)),
        (["fe80::1%eth0"], PROXY),
        (["3232235777"], PROXY),
        (["¹.2.3.4"], PROXY),
        (["unix:"], ""),
        (["198.51.100.9, unix:"], ""),
    ],
)
def test_rightmost_untrusted_address_wins(values: list[str], client: Any) -> None:
    assert client_of(*values) == client


def test_proxies_on_unix_sockets_may_stand_in_a_row() -> None:
    assert client_of("198.51.100.9, unix:", client="", trusted="unix") == ("198.51.100.9", 0)
    assert client_of("unix:", client="", trusted="unix") == ""


def test_a_list_without_end_is_not_read_to_its_end() -> None:
    longest = ", ".join(["198.51.100.9"] + ["10.0.0.2"] * 31)
    assert client_of(longest) == ("198.51.100.9", 0)
    assert client_of("198.51.100.9, " + ", ".join(["10.0.0.2"] * 32)) == ("198.51.100.9", 0)
    assert client_of("198.51.100.9, " + ", ".join(["10.0.0.2"] * 33)) == ("10.0.0.2", 0)


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], "https"),
        (["HTTPS"], "https"),
        (["http"], "http"),
        (["wss"], "https"),
        (["ws"], "http"),
        (["https, http"], "http"),
        (["http", "https"], "https"),
        (["javascript"], "http"),
        ([""], "http"),
        ([], "http"),
    ],
)
def test_scheme(values: list[str], scheme: str) -> None:
    assert request(*(("X-Forwarded-Proto", value) for value in values)).scheme == scheme


@pytest.mark.parametrize(
    ("values", "host"),
    [
        (["example.org"], "example.org"),
        (["example.org:8443"], "example.org:8443"),
        (["[2001:db8::1]:443"], "[2001:db8::1]:443"),
        (["evil.example, example.org"], "example.org"),
        (["evil.example", "example.org"], "example.org"),
        (["example.org:65536"], None),
        (["example.org:"], None),
        (["example.org/path"], None),
        (["user@example.org"], None),
        (["exämple.org"], None),
        (["[1.2.3.4]"], None),
        (["[::g]"], None),
        ([""], None),
        ([], None),
    ],
)
def test_host(values: list[str], host: str | None) -> None:
    fields = [("Host", "inside"), *(("X-Forwarded-Host", value) for value in values)]
    assert request(*fields).host == (host or "inside")


def test_underscores_are_another_name() -> None:
    assert request(("X_Forwarded_For", "198.51.100.9"), ("X_Forwarded_Proto", "https")).client == PROXY


LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=60)
NEARLY = st.lists(
    st.sampled_from(["10.0.0.1", "198.51.100.9", ",", " ", ":", "::", "[", "]", "1", ".", "%", "unix:"])
).map("".join)


@given(LATIN | NEARLY, LATIN | NEARLY, LATIN | NEARLY)
def test_nothing_in_these_fields_crashes(clients: str, scheme: str, host: str) -> None:
    block = f"X-Forwarded-For:{clients}\r\nX-Forwarded-Proto:{scheme}\r\nX-Forwarded-Host:{host}\r\n".encode("latin-1")
    proxies = read_proxies("10.0.0.1")
    assert proxies is not None
    found = proxies.read(PROXY, Headers(block))
    assert found.scheme in ("http", "https", None)
    assert found.host is None or not set(found.host) & set("/?#@ ,")
    if found.client != "":
        assert str(ipaddress.ip_address(found.client[0])) == found.client[0]
    assert proxies.read(STRANGER, Headers(block)) == Forwarded(STRANGER)


@given(st.lists(st.ip_addresses(), max_size=5), st.ip_addresses(v=4).filter(lambda ip: ip.packed[0] != 10))
def test_what_clients_invent_never_counts(invented: list[Any], client: Any) -> None:
    assert client_of(", ".join(map(str, [*invented, client]))) == (str(client), 0)


@pytest.mark.parametrize(
    ("trusted", "error", "says"),
    [
        ("nginx", ValueError, "'nginx' does not appear to be an IPv4 or IPv6 network; expected IP addresses, netw"),
        ("*", ValueError, "expected IP addresses, networks such as '10.0.0.0/8', or 'unix'"),
        (["10.0.0.1/8"], ValueError, "has host bits set"),
        (["127.0.0.1", ""], ValueError, "expected IP addresses"),
        ([127], TypeError, r"trusted_proxies holds str, not int \(127\)"),
        (b"\x7f", TypeError, "must be a list of IP addresses"),
        (7, TypeError, "must be a list of IP addresses"),
        (True, TypeError, "must be a list of IP addresses"),
    ],
)
def test_wrong_option_is_refused(core: FakeCore, trusted: Any, error: type[Exception], says: str) -> None:
    for start in (portico.start_server, portico.run_server):
        with pytest.raises(error, match=says):
            start("127.0.0.1", 0, print, trusted_proxies=trusted)
    assert portico.list_servers() == []


def test_option_reaches_requests_and_websockets(core: FakeCore) -> None:
    seen: list[Any] = []
    app = {
        "on_headers": lambda req: seen.append(req.client),
        "call": lambda req: repr((req.client, req.scheme, req.host, req.server)),
        "on_ws_open": lambda ws: seen.append((ws.request.client, ws.request.scheme, ws.request.server)),
    }
    server = portico.start_server("127.0.0.1", 8080, app, True, trusted_proxies=["10.0.0.0/8"])
    number = number_of(server)
    for fields in (FORWARDED, FORWARDED[:1]):
        core.head(number, headers=fields, client=PROXY)
        core.request(number, headers=fields, client=PROXY)
        core.open(number, headers=fields, client=PROXY)
    portico.service(0)
    address = ("127.0.0.1", 8080)
    client = ("198.51.100.9", 0)
    assert seen == [client, (client, "https", address), PROXY, (PROXY, "http", address)]
    assert [answer[4] for answer in core.said("respond")] == [
        repr((client, "https", "example.org", address)),
        repr((PROXY, "http", "10.0.0.1:8080", address)),
    ]


def test_option_of_a_pipe_server(core: FakeCore) -> None:
    server = portico.start_pipe_server("/tmp/x", None, lambda req: repr(req.client), True, trusted_proxies="unix")
    core.request(number_of(server), headers=FORWARDED, client="")
    portico.service(0)
    assert [answer[4] for answer in core.said("respond")] == ["('198.51.100.9', 0)"]


def test_without_the_option_a_request_holds_the_address_itself(core: FakeCore) -> None:
    """Nothing between a request and its answer is any different then."""
    found: list[Any] = []
    server = portico.start_server("127.0.0.1", 8080, found.append, True)
    core.request(number_of(server))
    portico.service(0)
    assert found[0]._server == ("127.0.0.1", 8080)
    assert (found[0].client, found[0].scheme, found[0]._rare) == (("127.0.0.1", 50000), "http", None)
