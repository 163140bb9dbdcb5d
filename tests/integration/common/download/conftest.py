"""A downloader that may reach this machine."""

from collections.abc import AsyncIterator

import pytest

from services.common.download.client import Downloader, open_downloader
from tests.support.adversary import loopback_settings


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    async with open_downloader(loopback_settings(), connections=8) as downloader:
        yield downloader
