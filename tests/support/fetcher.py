"""A fetcher to test: in this process, or in one of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from typing import Any

import aio_pika
import aiohttp
import structlog
from aio_pika.abc import AbstractChannel, AbstractQueue

from infra.local.ports import pick_free_ports
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.messaging import (
    Message,
    connect,
    consumers_of,
    open_publisher,
)
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, HOST_HEADER
from services.common.adapters.repository import TYPES, schema_of
from services.common.download.settings import DownloadSettings
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.fetcher.batches.dispatcher import Dispatcher
from services.fetcher.main import Configuration, make_dispatcher, make_shared, run
from services.fetcher.settings import FetcherSettings
from services.fetcher.sources.archives.settings import ArchiveSettings
from tests.support.waiting import DEADLINE_SECONDS, deadline, eventually

DELAY_MS = 100
DELIVERY_LIMIT = 100
"""As in ``rabbitmq/definitions.json``."""
QUORUM: Mapping[str, Any] = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Surroundings:
    """Exclusive resources: a bucket, a virtual host, a database."""

    s3: S3Settings
    amqp: AmqpSettings
    mongo: MongoSettings
    store: ObjectStore
    database: Database

    def environment(self) -> dict[str, str]:
        """Tell the same to a process."""
        return {
            "S3_ENDPOINT_URL": str(self.s3.endpoint_url),
            "S3_ACCESS_KEY_ID": self.s3.access_key_id,
            "S3_SECRET_ACCESS_KEY": self.s3.secret_access_key.get_secret_value(),
            "S3_BUCKET": self.s3.bucket,
            "S3_PAGES_BUCKET": self.s3.pages_bucket,
            "S3_SUBMITTED_BUCKET": self.s3.submitted_bucket,
            "AMQP_URL": str(self.amqp.url),
            "MONGO_URL": str(self.mongo.url),
            "MONGO_DATABASE": self.mongo.database,
            "FETCHER_ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8",
            "FETCHER_HOST_RATE": "0",
        }


@asynccontextmanager
async def open_surroundings(
    s3: S3Settings,
    amqp: AmqpSettings,
    mongo: MongoSettings,
    *,
    delays_ms: Sequence[int] = (DELAY_MS,) * len(FETCH_QUEUES.delays),
) -> AsyncIterator[Surroundings]:
    """Set the servers up, with short delays before each retry, and queues that are empty.

    The queues stay: to declare so many takes longer than most tests.
    """
    async with open_object_store(s3) as store, open_database(mongo) as database:
        for bucket in (s3.bucket, s3.pages_bucket, s3.submitted_bucket):
            await store.client.create_bucket(Bucket=bucket)
        await database.create_indexes()
        for collection in TYPES:
            await database.require_schema(collection, schema_of(collection))
        async with await aio_pika.connect(str(amqp.url)) as connection:
            channel = await connection.channel()
            for queue in await _declare_queues(channel, delays_ms):
                await _empty(channel, queue)
        yield Surroundings(s3, amqp, mongo, store, database)


async def _declare_queues(
    channel: AbstractChannel, delays_ms: Sequence[int]
) -> list[AbstractQueue]:
    """Declare what is not there; return all, in the order in which they are to be emptied."""
    hosts = await channel.declare_exchange(
        FETCH_QUEUES.exchange,
        "x-consistent-hash",
        durable=True,
        arguments={"hash-header": HOST_HEADER},
    )
    back = {**QUORUM, "x-dead-letter-exchange": FETCH_QUEUES.exchange}
    one = {
        **QUORUM,
        "x-single-active-consumer": True,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": FETCH_QUEUES.parked,
    }
    arguments: dict[str, dict[str, Any]] = {
        **{
            name: {**back, "x-message-ttl": delay}
            for name, delay in zip(FETCH_QUEUES.delays, delays_ms, strict=True)
        },
        **dict.fromkeys(FETCH_QUEUES.partitions, one),
        FETCH_QUEUES.members: dict(QUORUM),
        FETCH_QUEUES.parked: dict(QUORUM),
    }
    queues = [
        await channel.declare_queue(name, durable=True, arguments=each)
        for name, each in arguments.items()
    ]
    for queue in queues:
        if queue.name in FETCH_QUEUES.partitions:
            await queue.bind(hosts, "10")
    return queues


async def _empty(channel: AbstractChannel, queue: AbstractQueue) -> None:
    """Take away what an earlier test left; most left nothing."""
    found = queue.declaration_result
    if found.consumer_count:
        await eventually(partial(_is_free, channel, queue.name))
    if found.consumer_count or found.message_count:
        await queue.purge()


async def _is_free(channel: AbstractChannel, name: str) -> bool:
    """Return whether a queue has no consumer, so that earlier deliveries are back in it."""
    return not await consumers_of(channel, name)


async def hosts_by_partition(
    surroundings: Surroundings, hosts: Sequence[str]
) -> dict[str, list[str]]:
    """Return which hosts' jobs are in which partition; no fetcher may run meanwhile."""
    found: dict[str, list[str]] = {}
    arrived = asyncio.Queue[tuple[str, str]]()

    async def take(partition: str, message: Message) -> None:
        arrived.put_nowait((partition, message.body.decode()))

    async with (
        deadline(),
        connect(surroundings.amqp) as connection,
        open_publisher(surroundings.amqp) as publisher,
    ):
        channel = await connection.channel()
        for name in FETCH_QUEUES.partitions:
            queue = await channel.get_queue(name)
            await queue.consume(partial(take, name), no_ack=True)
        for host in hosts:
            await publisher.publish(
                host.encode(),
                queue=FETCH_QUEUES.work,
                exchange=FETCH_QUEUES.exchange,
                headers={HOST_HEADER: host},
            )
            partition, body = await arrived.get()
            found.setdefault(partition, []).append(body)
    return found


def dispatcher_of(surroundings: Surroundings) -> Dispatcher:
    """Return a dispatcher that a test moves by hand."""
    return make_dispatcher(
        surroundings.amqp, make_shared(DownloadSettings(), surroundings.database)
    )


@asynccontextmanager
async def running_fetcher(
    surroundings: Surroundings,
    *,
    idle_timeout_seconds: float = DEADLINE_SECONDS,
    archives: ArchiveSettings | None = None,
    **changes: Any,
) -> AsyncIterator[aiohttp.ClientSession]:
    """Run a fetcher in this process; yield a client of its API.

    It waits for a silent host so long that a busy machine is not taken for one.
    """
    port = changes.setdefault("port", pick_free_ports().fetcher_port)
    settings: dict[str, Any] = {"drain_seconds": 1.0, "host_rate": 0, **changes}
    config = Configuration(
        fetcher=FetcherSettings(**settings),
        downloads=DownloadSettings(
            allowed_private_networks=(ip_network("127.0.0.0/8"),),
            idle_timeout_seconds=idle_timeout_seconds,
            total_timeout_seconds=DEADLINE_SECONDS,
            max_item_bytes=256 * 1024,
        ),
        archives=archives or ArchiveSettings(),
        s3=surroundings.s3,
        amqp=surroundings.amqp,
        mongo=surroundings.mongo,
    )
    # a command under test has another standard output, where a log is no answer of its own
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    stop = asyncio.Event()
    service = asyncio.create_task(run(config, stop))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as api:
            await wait_ready(api)
            yield api
    finally:
        stop.set()
        await service


@contextmanager
def fetcher_process(
    surroundings: Surroundings, port: int, **settings: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a fetcher as a process of its own; it is killed where it does not end by itself."""
    environment = {**os.environ, **surroundings.environment(), "FETCHER_PORT": str(port)}
    environment |= {f"FETCHER_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.fetcher.main"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def wait_ready(api: aiohttp.ClientSession) -> None:
    """Wait until a fetcher takes jobs."""

    async def is_ready() -> bool:
        try:
            async with api.get("/readyz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False  # it does not listen yet

    await eventually(is_ready)


async def submit(api: aiohttp.ClientSession, *urls: str, **options: Any) -> dict[str, Any]:
    """Submit URLs as JSON; return the answer."""
    body = {"items": [{"url": url} for url in urls]}
    async with api.post("/batches", json=body, **options) as response:
        assert response.status == 202, await response.text()
        answer: dict[str, Any] = await response.json()
        return answer


async def get_json(api: aiohttp.ClientSession, path: str) -> Any:
    """GET a path that answers 200 with JSON."""
    async with api.get(path) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def wait_done(api: aiohttp.ClientSession, batch_id: str) -> dict[str, Any]:
    """Wait until nothing of a batch is queued; return it."""

    async def done() -> dict[str, Any] | None:
        batch: dict[str, Any] = await get_json(api, f"/batches/{batch_id}")
        return batch if batch["counts"]["queued"] == 0 else None

    return await eventually(done)


async def items_by_url(api: aiohttp.ClientSession, batch_id: str) -> dict[str, dict[str, Any]]:
    """Return all items of a small batch."""
    page = await get_json(api, f"/batches/{batch_id}/items?limit=1000")
    return {item["url"]: item for item in page["items"]}


async def post_list(
    api: aiohttp.ClientSession, content: str, content_type: str, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send a list; return the status and the answer."""
    headers = {"Content-Type": content_type, **headers}
    async with api.post("/batches", data=content.encode(), headers=headers) as response:
        return response.status, await response.json()


async def stored_keys(surroundings: Surroundings) -> list[str]:
    """Return the keys of the bucket of images."""
    listed = await surroundings.store.client.list_objects_v2(Bucket=surroundings.s3.bucket)
    return [each["Key"] for each in listed.get("Contents", [])]
