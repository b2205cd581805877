"""Where a webhook may go: every address of a name is checked, whatever its form, and only plain addresses are used."""

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from workers.webhook_address import RefusedError, check, resolve

PRIVATE = (
    "0.0.0.0",  # noqa: S104 - refused, not bound to
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%lo", "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = ("1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::1")


def gives(*addresses: str) -> Callable[[str, int], list[str]]:
    """A resolver that knows one answer."""
    return lambda _host, _port: list(addresses)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    with pytest.raises(RefusedError, match="not on the public internet"):
        check("https://hooks.example/x", (), gives(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_name_that_leads_to_a_public_address_is_used_by_that_address(address: str) -> None:
    target = check("https://Hooks.Example/x?y=1", (), gives(address))

    assert (target.host, target.port, target.path, target.addresses) == ("hooks.example", 443, "/x?y=1", (address,))


def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(RefusedError, match=r"10\.0\.0\.1"):
        check("https://hooks.example/", (), gives("1.1.1.1", "10.0.0.1"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "0x7f000001", "127.1", "[::1]", "[::ffff:7f00:1]", "0"]
)
def test_every_form_in_which_loopback_can_be_written_is_refused(host: str) -> None:
    with pytest.raises((RefusedError, OSError)) as caught:
        check(f"https://{host}/", (), resolve)
    assert isinstance(caught.value, RefusedError) or host.startswith("0x")  # musl's resolver knows no hexadecimal


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://hooks.example/", "no http"),
        ("file:///etc/passwd", "no http"),
        ("gopher://hooks.example/", "no http"),
        ("https://", "no http"),
        ("hooks.example", "no http"),
        ("", "no http"),
        ("https://user:word@hooks.example/", "user or a password"),
        ("https://user@hooks.example/", "user or a password"),
        ("https://hooks.example\\@127.0.0.1/", "no http"),
        ("https://hooks.example/\r\nhost: x", "no http"),
        ("https://hooks.example /", "no http"),
        ("https://hooks.example:0/", "no port"),
        ("https://hooks.example:99999/", "no "),
        (f"https://hooks.example/{'x' * 2000}", "no http"),
    ],
)
def test_what_is_no_plain_address_is_refused(url: str, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        check(url, (), gives("1.1.1.1"))


def test_without_tls_only_allowed_networks_are_reached() -> None:
    allowed = (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))

    assert (
        check("http://inside.example:8080/", allowed, gives("10.1.2.3", "fd00::1")).authority == "inside.example:8080"
    )
    assert check("http://mapped.example/", allowed, gives("::ffff:10.1.2.3")).authority == "mapped.example"
    with pytest.raises(RefusedError, match="without TLS"):
        check("http://outside.example/", allowed, gives("1.1.1.1"))
    with pytest.raises(RefusedError, match="not on the public internet"):
        check("http://inside.example/", allowed, gives("10.2.0.1"))
