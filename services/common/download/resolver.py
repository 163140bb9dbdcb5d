"""The system's name resolution, on threads of its own."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

RESOLVING_AT_ONCE = 64
"""A name whose server does not answer holds a thread for 10 to 20 s, whoever gave up on it."""


class SystemResolver(AbstractResolver):
    """Asks ``getaddrinfo``, as aiohttp does where it is given nothing else.

    That would use the loop's few threads, which read files and unpack archives too: some names that
    nobody answers for would hold up everything.

    Args:
        threads: Whose threads wait.
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
        """Leave the threads to whoever made them."""


@contextmanager
def open_resolver() -> Iterator[SystemResolver]:
    """Resolve names for the length of a ``with`` block; who still waits then is left alone."""
    threads = ThreadPoolExecutor(RESOLVING_AT_ONCE, thread_name_prefix="dns")
    try:
        yield SystemResolver(threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
