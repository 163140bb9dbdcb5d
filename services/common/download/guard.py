"""SSRF guard: allow connections to public addresses and those of the settings only.

The address of each new connection is checked, after DNS and after each redirect, so neither DNS
rebinding nor unusual spellings of an address bypass it.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""An item of ``socket.getaddrinfo``."""

_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_NEVER_PUBLIC = tuple(
    ip_network(network)
    for network in (
        # IANA's special-purpose registries (RFC 6890), listed where ``is_global`` differs
        # between Python versions
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent, in every virtual network there
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4 holds an IPv4 address
        "3fff::/20",
    )
)

RESOLVING_AT_ONCE = 64
"""A name whose server does not answer blocks a thread for 10 to 20 s, even after cancellation."""


class ForbiddenAddressError(OSError):
    """The address is not public and not allowed.

    An OSError: the connector then tries the name's next address, and raises this error after the
    last one.
    """

    def __init__(self, address: str) -> None:
        super().__init__("the address is not public")
        self.address = address


class AddressGuard:
    """Checks addresses.

    Args:
        allowed: Non-public networks that are allowed.
    """

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def allows(self, text: str) -> bool:
        """Return whether an address is allowed; invalid ones are not."""
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or IPv6Address(int(address))  # without its zone
            is_mapped = isinstance(address, IPv4Address)
        else:
            is_mapped = False
        if any(address in network for network in self._allowed):
            return True
        return not is_mapped and _is_public(address)

    def open_socket(self, info: AddressInfo) -> socket.socket:
        """Create the socket of a new connection; aiohttp's ``socket_factory``.

        Raises:
            ForbiddenAddressError: Its address is not allowed.
        """
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            raise ForbiddenAddressError(str(address[0]))
        return socket.socket(family, kind, protocol)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST_6:
        return False  # NAT64, unique local, link-local, multicast, IPv4-compatible, …
    return address.is_global and not any(address in network for network in _NEVER_PUBLIC)


class SystemResolver(AbstractResolver):
    """Resolves names by ``getaddrinfo``, like aiohttp's default resolver.

    That one uses the loop's few threads, which also read files and unpack archives: a few
    unresponsive name servers would block them all.
    """

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            OSError: It has none.
        """
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(
                host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            ),
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    @override
    async def close(self) -> None:
        """Do nothing: the threads belong to the caller."""


@contextmanager
def open_resolver() -> Iterator[SystemResolver]:
    """Yield a resolver; look-ups still running at the end are abandoned."""
    threads = ThreadPoolExecutor(RESOLVING_AT_ONCE, thread_name_prefix="dns")
    try:
        yield SystemResolver(threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
