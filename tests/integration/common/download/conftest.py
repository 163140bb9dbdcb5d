"""A downloader that may reach this machine, and a web site on it."""

from collections.abc import AsyncIterator

import pytest

from services.common.download.client import Downloader, open_downloader
from tests.support.adversary import GOOD, loopback_settings
from tests.support.web import WebSite, open_site


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    async with open_downloader(loopback_settings(), connections=8) as downloader:
        yield downloader


@pytest.fixture
async def site() -> AsyncIterator[WebSite]:
    """A web site without pages, at the address that downloaders with strict settings may reach."""
    async with open_site(GOOD) as site:
        yield site
