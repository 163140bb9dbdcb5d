"""A server that means harm, for the downloader to survive."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from services.common.domain.image_formats import sniff
from services.common.download.client import Downloader
from services.common.download.errors import DownloadError, FailedDownloadError, RefusedDownloadError
from services.common.download.settings import DownloadSettings
from tests.support.web import NO_ROBOTS

HOSTILE, GOOD, INNER = "127.0.0.66", "127.0.0.67", "127.0.0.1"
"""Addresses: of the server that means harm, of a good one, and of one that must not be reached."""
LIMIT_BYTES = 64 * 1024
OK = b"HTTP/1.1 200 OK\r\n"

Behaviour = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Bytes that the server sends before it closes the connection."""


def strict_settings(*, patient: bool = True, **changes: Any) -> DownloadSettings:
    """Return settings with tight limits that let nothing but two addresses be reached.

    Args:
        patient: Wait longer than any machine takes, since what ends does so for a reason of its
            own; without, a host that hangs is given up soon.
        changes: Of the settings.
    """
    values: dict[str, Any] = {
        "allowed_private_networks": (ip_network(f"{HOSTILE}/32"), ip_network(f"{GOOD}/32")),
        "max_item_bytes": LIMIT_BYTES,
        "connect_timeout_seconds": 60 if patient else 1,
        "idle_timeout_seconds": 60 if patient else 1,
        "total_timeout_seconds": 60 if patient else 3,
        "max_redirects": 3,
    }
    return DownloadSettings(**(values | changes))


def loopback_settings(**changes: Any) -> DownloadSettings:
    """Return settings by which all addresses of this machine, and no others, can be reached."""
    return strict_settings(**{"allowed_private_networks": (ip_network("127.0.0.0/8"),), **changes})


async def outcome(downloader: Downloader, url: str) -> str:
    """Fetch a URL; return the code of what became of it: ``image`` where it is one."""
    try:
        download = await downloader.get(url)
    except (RefusedDownloadError, FailedDownloadError) as error:
        return error.code
    return "image" if sniff(download.content) else "not_an_image"


async def failure(downloader: Downloader, url: str) -> DownloadError:
    """Fetch a URL that fails; return the error."""
    with pytest.raises((RefusedDownloadError, FailedDownloadError)) as caught:
        await downloader.get(url)
    assert isinstance(caught.value, DownloadError)
    return caught.value


@asynccontextmanager
async def open_adversary(behaviour: Behaviour, **options: Any) -> AsyncIterator[str]:
    """Answer each request with a behaviour, but that for robots.txt, which is not there.

    Args:
        behaviour: Of the server.
        options: Of ``asyncio.start_server``.

    Yields:
        Base URL without a slash at its end.
    """
    tasks: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            await _behave(NO_ROBOTS if b" /robots.txt " in request else behaviour, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client had enough, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, HOSTILE, 0, **options)
    scheme = "https" if "ssl" in options else "http"
    try:
        yield f"{scheme}://{HOSTILE}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _behave(behaviour: Behaviour, writer: asyncio.StreamWriter) -> None:
    if callable(behaviour):
        await behaviour(writer)
    else:
        writer.write(behaviour)
        await writer.drain()


def silence_after(start: bytes) -> Behaviour:
    """Send a beginning, and nothing more; the connection stays open."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await asyncio.Event().wait()

    return behave


def drip(start: bytes, piece: bytes, *, seconds: float = 0.1) -> Behaviour:
    """Send a piece again and again, each just before patience ends."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(seconds)

    return behave


def flood(start: bytes, piece: bytes) -> Behaviour:
    """Send a piece again and again, as fast as it goes."""
    return drip(start, piece, seconds=0)


def reset_after(start: bytes) -> Behaviour:
    """Send a beginning and reset the connection."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        linger = b"\1\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return behave


class Names(AbstractResolver):
    """A name server that gives the answers of each name in turn, then the last one for ever."""

    def __init__(self, answers: Mapping[str, list[list[str] | OSError | None]]) -> None:
        self._answers = {name: list(each) for name, each in answers.items()}

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answers = self._answers[host]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer or ()
        ]

    @override
    async def close(self) -> None:
        """Nothing is open."""
