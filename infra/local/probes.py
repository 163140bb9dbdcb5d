"""Readiness probes by protocol, each with a timeout of seconds."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aiohttp
from aiohttp import ClientSession, ClientTimeout, encode_basic_auth
from pydantic import AmqpDsn, MongoDsn

from infra.local.ports import HOST
from services.common.adapters.mongo import open_database
from services.common.adapters.rabbitmq.messaging import check_broker
from services.common.domain.errors import PipelineError
from services.common.runtime.settings import AmqpSettings, MongoSettings

Probe = Callable[[], Awaitable[bool]]
PROBE_TIMEOUT_SECONDS = 2.0


def accepts(port: int) -> Probe:
    """Return a probe: does this port of 127.0.0.1 accept connections?"""

    async def probe() -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            return True
        return False

    return probe


def answers(url: str, *, user: str | None = None, password: str = "") -> Probe:
    """Return a probe: does a GET answer 2xx?"""

    async def probe() -> bool:
        timeout = ClientTimeout(total=PROBE_TIMEOUT_SECONDS)
        headers = {"Authorization": encode_basic_auth(user, password)} if user else None
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with (
                ClientSession(timeout=timeout, headers=headers) as session,
                session.get(url) as response,
            ):
                return response.ok
        return False

    return probe


def speaks_amqp(port: int, url: str) -> Probe:
    """Return a probe: does RabbitMQ accept this user?"""

    async def probe() -> bool:
        if await accepts(port)():
            with suppress(PipelineError, TimeoutError):
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    await check_broker(AmqpSettings(url=AmqpDsn(url)))
                    return True
        return False

    return probe


def speaks_mongo(port: int, url: str) -> Probe:
    """Return a probe: does MongoDB, or its stand-in, answer a ping?"""
    settings = MongoSettings(
        url=MongoDsn(url), database="admin", timeout_seconds=PROBE_TIMEOUT_SECONDS
    )

    async def probe() -> bool:
        if await accepts(port)():
            with suppress(PipelineError):
                async with open_database(settings) as database:
                    await database.check()
                    return True
        return False

    return probe


def all_of(*probes: Probe) -> Probe:
    """Return a probe that runs others in order until one fails."""

    async def probe() -> bool:
        for each in probes:
            if not await each():
                return False
        return True

    return probe
