import socket
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.download.guard import AddressGuard, ForbiddenAddressError

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4007:80e::200e",
]
FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.9",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "localhost",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_allowed(address: str) -> None:
    assert AddressGuard().allows(address)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_address_that_is_not_public_is_forbidden(address: str) -> None:
    assert not AddressGuard().allows(address)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "fd00::5%1"])
def test_allowed_network_may_be_reached_in_either_form(address: str) -> None:
    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/64")])

    assert guard.allows(address)


@pytest.mark.parametrize("address", ["10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fd00:0:0:1::1"])
def test_allowed_network_opens_nothing_beside_it(address: str) -> None:
    guard = AddressGuard([ip_network("10.1.0.0/16"), ip_network("fd00::/64")])

    assert not guard.allows(address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_spelling_of_an_ipv4_address_opens_a_forbidden_one(address: IPv4Address) -> None:
    guard = AddressGuard()
    for prefix in (0, 0xFFFF << 32, 0x64FF9B << 96, 0x2002 << 112):
        shift = 80 if prefix == 0x2002 << 112 else 0
        assert not guard.allows(str(IPv6Address(prefix | int(address) << shift)))
    if not address.is_global:
        assert not guard.allows(str(address))


def test_socket_is_made_for_a_public_address_only() -> None:
    guard = AddressGuard()
    kind, protocol = socket.SOCK_STREAM, socket.IPPROTO_TCP

    with guard.open_socket((socket.AF_INET, kind, protocol, "", ("1.1.1.1", 80))) as made:
        assert made.family == socket.AF_INET
    with pytest.raises(ForbiddenAddressError) as caught:
        guard.open_socket((socket.AF_INET6, kind, protocol, "", ("::1", 80, 0, 0)))
    assert caught.value.address == "::1"
