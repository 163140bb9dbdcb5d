"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiohttp import ClientSession

from services.common.adapters.collections import IMAGES
from services.common.adapters.repository import schema_of
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from tests.support.datasets import Collected, open_collected
from tests.support.fetcher import Surroundings, open_surroundings, running_fetcher
from tests.support.label_studio import TOKEN, LabelStudioFake, open_label_studio_fake
from tests.support.review import OpenReview, Person, Site, open_review
from tests.support.servers import set_environment
from tests.support.web import WebSite, open_site


@pytest.fixture
async def surroundings(
    s3_settings: S3Settings, fetch_amqp_settings: AmqpSettings, mongo_settings: MongoSettings
) -> AsyncIterator[Surroundings]:
    """Give a fetcher exclusive servers."""
    async with open_surroundings(s3_settings, fetch_amqp_settings, mongo_settings) as made:
        yield made


@pytest.fixture
async def site() -> AsyncIterator[WebSite]:
    """A web site without pages, for tests that have no site of another kind."""
    async with open_site() as site:
        yield site


@pytest.fixture
def review_with(
    s3_settings: S3Settings, mongo_settings: MongoSettings, amqp_settings: AmqpSettings
) -> OpenReview:
    """Open a review page with settings of its own."""
    return partial(open_review, s3_settings, mongo_settings, amqp_settings)


@pytest.fixture
async def review(review_with: OpenReview) -> AsyncIterator[Site]:
    """A review page with an empty bucket and no documents."""
    async with review_with() as site:
        await site.store.client.create_bucket(Bucket=site.store.bucket)
        await site.database.create_indexes()
        await site.database.require_schema(IMAGES, schema_of(IMAGES))
        yield site


@pytest.fixture
async def ada(review: Site) -> AsyncIterator[Person]:
    """A logged-in user."""
    async with review.person() as person:
        yield person


@pytest.fixture
async def api(surroundings: Surroundings) -> AsyncIterator[ClientSession]:
    """A running fetcher."""
    async with running_fetcher(surroundings) as api:
        yield api


@pytest.fixture
async def collected(
    s3_settings: S3Settings, mongo_settings: MongoSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Collected]:
    """An empty collection that the commands find through their settings."""
    async with open_collected(s3_settings, mongo_settings, monkeypatch) as collected:
        yield collected


@pytest.fixture
def mongo_environment(mongo_settings: MongoSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty database that the commands find through their settings."""
    set_environment(monkeypatch, mongo_settings)


@pytest.fixture
async def studio(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LabelStudioFake]:
    """A Label Studio that the commands find through their settings."""
    async with open_label_studio_fake() as studio:
        monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
        monkeypatch.setenv("LABEL_STUDIO_TOKEN", TOKEN)
        yield studio
