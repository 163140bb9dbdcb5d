"""``docreco submit`` against a fetcher that is slow."""

import asyncio

import pytest
from aiohttp import web
from pydantic import HttpUrl

from services.cli.errors import ServiceDownError
from services.cli.fetcher import open_fetcher
from services.cli.settings import CliSettings
from services.cli.submit import send
from tests.support.web import WebSite


async def test_list_is_waited_for_as_long_as_the_fetcher_takes_to_read_it(site: WebSite) -> None:
    async def answer_slowly(_: web.Request) -> web.Response:
        await asyncio.sleep(0.6)
        return web.json_response({"batch_id": "b", "accepted": 1}, status=202)

    site.add("/batches", answer_slowly)
    site.add("/batches/b", answer_slowly)
    settings = CliSettings(fetcher_url=HttpUrl(site.base_url), timeout_seconds=0.2)

    async with open_fetcher(settings) as fetcher:
        assert (await send(fetcher, "https://h.test/large.zip")).batch_id == "b"
    with pytest.raises(ServiceDownError, match="timeout"):
        async with open_fetcher(settings) as fetcher:
            await fetcher.batch("b")
