"""A bucket without notifications."""

from collections.abc import AsyncIterator

import pytest

from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.reconciling import Site, open_site


@pytest.fixture
async def site(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    async with open_site(s3_settings, mongo_settings, amqp_settings) as site:
        yield site
