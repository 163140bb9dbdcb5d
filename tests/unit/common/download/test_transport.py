"""Tasks that hold large bodies."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import cast

import aiohttp
from multidict import CIMultiDict
from prometheus_client import CollectorRegistry
from typing_extensions import override
from yarl import URL

from services.common.download.client import LARGE_AT_ONCE, SMALL_BYTES, Downloader
from services.common.download.responses import Validators
from services.common.download.transport import DownloadMetrics, Permit, Transport
from tests.support.adversary import strict_settings
from tests.support.virtual_time import in_virtual_time


class SlowTransport(Transport):
    """Takes a second before and after a large body."""

    @override
    async def open(
        self, url: URL, stack: AsyncExitStack, permit: Permit, validators: Validators | None = None
    ) -> aiohttp.ClientResponse:
        async def iter_chunked(_: int) -> AsyncIterator[bytes]:
            await asyncio.sleep(1)
            yield b"x" * (SMALL_BYTES + 1)
            await asyncio.sleep(1)

        content = SimpleNamespace(iter_chunked=iter_chunked)
        fields = {"status": 200, "headers": CIMultiDict[str](), "url": url, "content_length": None}
        return cast(aiohttp.ClientResponse, SimpleNamespace(content=content, **fields))


@in_virtual_time
async def test_wait_for_room_does_not_count_as_download_time() -> None:
    settings = strict_settings(total_timeout_seconds=3, max_item_bytes=2 * SMALL_BYTES)
    metrics = DownloadMetrics(CollectorRegistry(), service="unseen")
    session = cast(aiohttp.ClientSession, None)
    downloader = Downloader(SlowTransport(session, settings, metrics), settings, None, metrics)

    async def work() -> None:
        await downloader.get("http://x.test/")
        await asyncio.sleep(60)  # the body is held until the task ends

    await asyncio.gather(*(work() for _ in range(3 * LARGE_AT_ONCE)))
