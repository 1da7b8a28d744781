"""Networks that the service may be made to call, and the addresses that are nobody's business outside."""

import ipaddress
from collections.abc import Sequence
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's registries of special-purpose addresses (RFC 6890 and what was added since), in words for people.
_SPECIAL: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ipaddress.ip_network(network), words)
    for network, words in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "of this machine itself"),
        ("168.63.129.16/32", "a cloud's own, for its machines"),  # Azure's, which looks like a public one
        ("169.254.0.0/16", "link-local, where clouds have their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "of this machine itself"),
        ("2001::/23", "reserved"),  # Teredo among them, which hides an IPv4 address
        ("2001:db8::/32", "for documentation"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
)
# RFC 4291, section 2.4: all others are no unicast addresses of the whole network.
_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
# RFC 6052, section 2.1.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks with blanks between them, such as `10.1.0.0/16 fd00::/8`; an address alone is a network of one.

    Raises:
        ValueError: one is none.
    """
    return tuple(ipaddress.ip_network(part) for part in text.split())


def lies_in(address: Address, networks: Sequence[Network]) -> bool:
    """Whether an address, or the IPv4 address that it stands for, is in one of these networks."""
    inner = _embedded(address)
    return any(one in network for one in (address, inner) if one is not None for network in networks)


def why_refused(address: Address, allowed: Sequence[Network]) -> str | None:
    """What keeps the service from calling an address, as an adjective for people; None: it may.

    Refused is what is not public, also as an IPv6 address that stands for an IPv4 one, unless it is in `allowed`.
    """
    if lies_in(address, allowed):
        return None
    inner = _embedded(address)
    if inner is not None:
        return why_refused(inner, allowed)
    for network, words in _SPECIAL:
        if address in network:
            return words
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL:
        return "reserved"
    return None if address.is_global else "not public"


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: mapped (RFC 4291), 6to4 (RFC 3056), or behind NAT64 (RFC 6052)."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
