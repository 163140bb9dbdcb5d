"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator

import pytest

from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.fetcher import Surroundings, open_surroundings
from tests.support.review import Person, Site, open_review
from tests.support.web import WebSite, open_site


@pytest.fixture
async def surroundings(
    s3_settings: S3Settings, fetch_amqp_settings: AmqpSettings, mongo_settings: MongoSettings
) -> AsyncIterator[Surroundings]:
    """Give a fetcher servers that nobody else uses meanwhile."""
    async with open_surroundings(s3_settings, fetch_amqp_settings, mongo_settings) as made:
        yield made


@pytest.fixture
async def site() -> AsyncIterator[WebSite]:
    """A web site without pages, for tests that have no site of another kind."""
    async with open_site() as site:
        yield site


@pytest.fixture
async def review(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> AsyncIterator[Site]:
    """A review page with an empty bucket and no documents."""
    async with open_review(s3_settings, mongo_settings, amqp_settings) as site:
        await site.store.client.create_bucket(Bucket=site.store.bucket)
        await site.index.create_indexes()
        yield site


@pytest.fixture
async def ada(review: Site) -> AsyncIterator[Person]:
    """Somebody who is logged in there."""
    async with review.person() as person:
        yield person
