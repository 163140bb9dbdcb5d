"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator

import pytest

from services.common.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.fetcher import Surroundings, open_surroundings


@pytest.fixture
async def surroundings(
    s3_settings: S3Settings, fetch_amqp_settings: AmqpSettings, mongo_settings: MongoSettings
) -> AsyncIterator[Surroundings]:
    """Give a fetcher servers that nobody else uses meanwhile."""
    async with open_surroundings(s3_settings, fetch_amqp_settings, mongo_settings) as made:
        yield made
