"""System name resolution on its own threads."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

RESOLVING_AT_ONCE = 64
"""A name whose server does not answer blocks a thread for 10 to 20 s, even after cancellation."""


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
