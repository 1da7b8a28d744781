"""Which addresses the service may be made to call."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.networks import lies_in, networks_of, why_refused

NAT64 = ipaddress.ip_network("64:ff9b::/96")
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"]
# Public ones in IPv6 clothes: mapped, 6to4, NAT64.
PUBLIC_INSIDE = ["::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"]
REFUSED = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "2002:7f00:1::1", "64:ff9b::7f00:1"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],  # noqa: S104  # looked at, not bound
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.0.0.1", "2002:a00:1::"],
    "link-local": ["169.254.169.254", "169.254.0.1", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"],
    "metadata": ["100.100.100.200", "168.63.129.16", "fd00:ec2::254", "192.0.0.192"],
    "unique-local": ["fc00::1", "fdff::1"],
    "carrier": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "192.88.99.1", "192.0.0.1", "2001::1", "2001:10::1", "4000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255"],
    "not-global-unicast": ["::8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b:1::1", "100::1", "fec0::1", "5f00::1"],
}


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_INSIDE])
def test_a_public_address_may_be_called(address: str) -> None:
    assert why_refused(ipaddress.ip_address(address), ()) is None


@pytest.mark.parametrize(
    "address", [pytest.param(one, id=f"{kind}-{one}") for kind, several in REFUSED.items() for one in several]
)
def test_any_other_may_not(address: str) -> None:
    assert why_refused(ipaddress.ip_address(address), ())


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        pytest.param("10.1.0.0/16", "10.1.2.3", id="inside"),
        pytest.param("192.168.0.0/24 127.0.0.1", "127.0.0.1", id="an-address-alone"),
        pytest.param("127.0.0.0/8", "::ffff:127.0.0.1", id="mapped"),
        pytest.param("fd00::/8", "fd12::1", id="ipv6"),
    ],
)
def test_what_the_operator_allows_may_be_called(networks: str, address: str) -> None:
    assert why_refused(ipaddress.ip_address(address), networks_of(networks)) is None


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        pytest.param("10.1.0.0/16", "10.2.0.1", id="beside"),
        pytest.param("10.1.0.0/16", "127.0.0.1", id="elsewhere"),
        pytest.param("::1", "127.0.0.1", id="of-the-other-kind"),
        pytest.param("10.1.0.0/16", "::ffff:10.2.0.1", id="mapped"),
    ],
)
def test_nothing_else_becomes_allowed_by_it(networks: str, address: str) -> None:
    assert why_refused(ipaddress.ip_address(address), networks_of(networks))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_treated_alike_in_every_dress(address: ipaddress.IPv4Address) -> None:
    number, plain = int(address), why_refused(address, ())

    dressed = [(0xFFFF << 32) | number, (0x2002 << 112) | (number << 80), (0x64FF9B << 96) | number]

    assert {why_refused(ipaddress.IPv6Address(value), ()) for value in dressed} == {plain}


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_python_does_not_call_global_is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assume(not address.is_global)
    if isinstance(address, ipaddress.IPv6Address):
        # These stand for an IPv4 address, and it is that which counts.
        assume(address not in NAT64 and not address.sixtofour and not address.ipv4_mapped)

    assert why_refused(address, ())


def test_no_network_is_allowed_unless_one_is_named() -> None:
    assert networks_of("") == ()
    assert not lies_in(ipaddress.ip_address("10.0.0.1"), ())
