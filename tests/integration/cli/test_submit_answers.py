"""``docreco submit`` against a fetcher that is slow."""

import asyncio

import pytest
from aiohttp import web
from pydantic import HttpUrl

from services.cli.errors import ServiceDownError
from services.cli.fetcher import open_fetcher
from services.cli.settings import CliSettings
from services.cli.submit import send
from tests.support.waiting import until
from tests.support.web import WebSite


async def test_submission_outlasts_the_usual_timeout(site: WebSite) -> None:
    is_read = asyncio.Event()

    async def answer_when_read(_: web.Request) -> web.Response:
        await is_read.wait()
        return web.json_response({"batch_id": "b", "accepted": 1}, status=202)

    site.add("/batches", answer_when_read)
    site.add("/batches/b", answer_when_read)
    settings = CliSettings(fetcher_url=HttpUrl(site.base_url), timeout_seconds=1)

    async with open_fetcher(settings) as fetcher:
        sending = asyncio.create_task(send(fetcher, "https://h.test/large.zip"))
        await until(lambda: site.hits["/batches"] == 1)
        with pytest.raises(ServiceDownError, match="timeout"):
            async with open_fetcher(settings) as other:
                await other.batch("b")
        is_read.set()
        assert (await sending).batch_id == "b"
