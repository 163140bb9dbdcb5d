"""The health check of our containers."""

import asyncio
import socket

from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.runtime.probe import main


async def ready(_: web.Request) -> web.Response:
    return web.Response()


async def answer(path: str) -> int:
    app = web.Application()
    app.router.add_get("/readyz", ready)
    async with TestServer(app) as server:
        return await asyncio.to_thread(main, str(server.make_url(path)))


async def test_200_is_ready() -> None:
    assert await answer("/readyz") == 0


async def test_anything_else_is_not() -> None:
    assert await answer("/other") == 1


def test_no_answer_is_not_ready() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        assert main(f"http://127.0.0.1:{held.getsockname()[1]}/readyz") == 1
