"""Tasks that hold large bodies."""

import asyncio

from services.common.download.transport import LargeBodyLimiter
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_wait_for_room_does_not_count_as_download_time() -> None:
    limiter = LargeBodyLimiter(1)

    async def download() -> None:
        async with asyncio.timeout(3) as deadline:
            await asyncio.sleep(1)
            await limiter.acquire(deadline)
            await asyncio.sleep(1)
        await asyncio.sleep(60)  # the body is held until the task ends

    await asyncio.gather(download(), download(), download())
