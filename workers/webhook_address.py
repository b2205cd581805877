"""Where a webhook may go: names are resolved here, and every address of a name is checked before any is used.

An endpoint's owner chooses its address, and the network of the workers trusts them: what is not on the public internet
is refused unless ORDERMILL_WEBHOOKS_ALLOW has it.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from workers.errors import OrdermillError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], list[str]]
PORTS = {"http": 80, "https": 443}
LONGEST = 2000
# What Python's tables call global, or did not know of when some of them were made, and yet leads inside.
NOT_PUBLIC = tuple(
    ip_network(each)
    for each in (
        "192.0.0.0/24", "192.88.99.0/24", "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "3fff::/20", "5f00::/16", "fec0::/10",
    )
)  # fmt: skip
NAT64, SIX_TO_FOUR = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")


class RefusedError(OrdermillError):
    """A webhook may not go there."""


@dataclass(frozen=True)
class Target:
    """A checked place to connect to: `addresses` are those of `host`, all of them allowed."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def place(self) -> tuple[object, ...]:
        """What a connection is to: one to the same place can be used again."""
        return self.scheme, self.host, self.port, self.addresses

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system's resolver gives them; decimal and octal forms of an address included."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def check(url: str, allowed: Sequence[Network], lookup: Resolve = resolve) -> Target:
    """The place that an address means, when a webhook may go there; raises RefusedError, or the resolver's OSError."""
    scheme, host, port, path = parts(url)
    try:
        found = tuple(lookup(host, port))
    except UnicodeError:
        raise RefusedError(f"{host} is no host name") from None
    if not found:
        raise RefusedError(f"{host} has no address")
    for text in found:
        address = real(ip_address(text))
        inside = any(address in network for network in allowed if network.version == address.version)
        if not inside and not is_public(address):
            raise RefusedError(
                f"{host} is {text}, which is not on the public internet: where that is meant, set"
                f" ORDERMILL_WEBHOOKS_ALLOW={address}/{address.max_prefixlen} here and for the workers"
            )
        if scheme == "http" and not inside:
            raise RefusedError(f"{host} is asked without TLS: give an https:// address")
    return Target(scheme, host, port, path, found)


def parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port, and path with query; raises RefusedError for anything but a plain http or https address."""
    try:
        parsed = parse_url(url) if url.isprintable() and " " not in url and "\\" not in url else None
    except LocationParseError:
        parsed = None
    if parsed is None or len(url) > LONGEST or parsed.scheme not in PORTS or not parsed.host:
        raise RefusedError("this is no http:// or https:// address")
    if parsed.auth is not None:
        raise RefusedError("an address with a user or a password is not used")
    port = parsed.port if parsed.port is not None else PORTS[parsed.scheme]
    if not 0 < port < 65_536:
        raise RefusedError(f"there is no port {port}")
    return parsed.scheme, parsed.host.strip("[]"), port, parsed.request_uri


def real(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to (mapped, NAT64, 6to4), else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in SIX_TO_FOUR and address.sixtofour:
            return address.sixtofour
    return address


def is_public(address: Address) -> bool:
    """Whether an address is one host on the public internet."""
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in NOT_PUBLIC if network.version == address.version)
    )
