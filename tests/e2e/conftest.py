from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.pipeline import SITE_ADDRESS, Client, Pipeline, open_client, pipeline_in_a_thread
from tests.support.web import WebSite, open_site


@pytest.fixture(scope="package")
def pipeline() -> Iterator[Pipeline]:
    """The whole pipeline, one for all tests here; each test brings URLs and keys of its own.

    It ends with the last of them: idle, it would take time from the tests of other folders.
    """
    with pipeline_in_a_thread() as pipeline:
        yield pipeline


@pytest.fixture
async def client(pipeline: Pipeline) -> AsyncIterator[Client]:
    async with open_client(pipeline) as client:
        yield client


@pytest.fixture
async def site() -> AsyncIterator[WebSite]:
    """A web site that the pipeline may fetch from."""
    async with open_site(SITE_ADDRESS) as site:
        yield site
