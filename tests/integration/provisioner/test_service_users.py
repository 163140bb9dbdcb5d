"""The services' own users in real servers: what each may do, and what it may not."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import ClientSession, encode_basic_auth
from pydantic import AmqpDsn, HttpUrl, MongoDsn, SecretStr
from pymongo import MongoClient

from infra.local.stack import Addresses
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import ObjectStore, open_object_store, sibling
from services.common.adapters.rabbitmq.messaging import check_broker
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES
from services.common.domain.errors import (
    BrokerUnavailableError,
    DatabaseUnavailableError,
    ObjectNotFoundError,
    ObjectStoreUnavailableError,
)
from services.common.runtime.settings import (
    AmqpSettings,
    MongoSettings,
    RabbitmqManagementSettings,
    S3Settings,
)
from services.provisioner.main import provision
from services.provisioner.settings import ProvisionerSettings, UsersSettings
from services.reconciler.compare import State
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.uploads import listen, notifications
from tests.support.indexing import open_queues
from tests.support.servers import s3_settings_of

DEFINITIONS = Path(__file__).parents[3] / "rabbitmq" / "definitions.json"
PASSWORD = SecretStr("only-for-tests-1")
USERS = UsersSettings(
    ocr_api_password=PASSWORD,
    fetcher_password=PASSWORD,
    consumer_password=PASSWORD,
    reconciler_password=PASSWORD,
    segmenter_password=PASSWORD,
    review_password=PASSWORD,
    minio_password=PASSWORD,
    monitoring_password=PASSWORD,
)
NOTHING = "^$"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioned(
    servers: Addresses, s3_admin: ObjectStore, mongo_client: MongoClient[dict[str, object]]
) -> AsyncIterator[S3Settings]:
    """A bucket that all tests here share, and users who are given rights in it."""
    s3 = s3_settings_of(servers)
    url = MongoDsn(servers.mongo_url.get_secret_value())
    mongo = MongoSettings(url=url, database=f"test-{uuid4().hex}")
    management = RabbitmqManagementSettings(
        url=HttpUrl(servers.rabbitmq_management_url),
        user=servers.rabbitmq_management_user,
        password=servers.rabbitmq_management_password,
    )
    for _ in range(2):  # each step may be repeated
        await provision(
            ProvisionerSettings(definitions=DEFINITIONS, wait_seconds=20, mongo_users=True),
            management=management,
            s3=s3,
            mongo=mongo,
            users=USERS,
        )
    yield s3
    mongo_client.drop_database(mongo.database)
    for bucket in (s3.bucket, s3.pages_bucket, s3.submitted_bucket):
        await s3_admin.client.delete_bucket(Bucket=bucket)


async def store_of(name: str, settings: S3Settings, stack: AsyncExitStack) -> ObjectStore:
    update = {"access_key_id": name, "secret_access_key": PASSWORD}
    return await stack.enter_async_context(open_object_store(settings.model_copy(update=update)))


async def test_services_use_the_bucket_as_far_as_their_work_goes(provisioned: S3Settings) -> None:
    fetched, upload = "fetched/ab/abcd.png", "upload.png"
    async with AsyncExitStack() as stack:
        administrator = await stack.enter_async_context(open_object_store(provisioned))
        fetcher = await store_of("fetcher", provisioned, stack)
        consumer = await store_of("consumer", provisioned, stack)
        await administrator.write(upload, b"x", content_type="image/png", metadata={})

        await fetcher.write(fetched, b"y", content_type="image/png", metadata={})
        assert (info := await fetcher.head(fetched))
        assert await fetcher.write_metadata(info, {"batch-id": "b2"})
        assert await fetcher.head("fetched/none.png") is None
        await fetcher.check()
        with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
            await fetcher.write(upload, b"z", content_type="image/png", metadata={})
        with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
            await fetcher.delete(fetched)

        assert (await consumer.read(fetched, max_bytes=10)).content == b"y"
        assert (await consumer.read(upload, max_bytes=10)).content == b"x"
        await consumer.check()
        with pytest.raises(ObjectNotFoundError):
            await consumer.read("none.png", max_bytes=10)
        with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
            await consumer.write(fetched, b"z", content_type="image/png", metadata={})
        assert await consumer.erase(upload, etag="of other bytes") == 0
        assert await consumer.erase(upload) == 1  # what was forgotten and came back


async def test_pages_are_written_by_prefix(provisioned: S3Settings) -> None:
    async with AsyncExitStack() as stack:
        names = ("fetcher", "segmenter", "review", "consumer")
        fetcher, segmenter, review, consumer = [
            sibling(await store_of(name, provisioned, stack), provisioned.pages_bucket)
            for name in names
        ]
        page: dict[str, Any] = {"content_type": "image/png", "metadata": {}}

        for key in ("fetched/ab/abcd.pdf", "given/ab/abcd.png"):
            await fetcher.write(key, b"y", **page)
            assert (await review.read(key, max_bytes=10)).content == b"y"
        await segmenter.write("rendered/abcd/0001.webp", b"y", **page)
        for refused in (
            fetcher.write("scan.png", b"z", **page),
            fetcher.read("rendered/abcd/0001.webp", max_bytes=10),
            fetcher.delete("fetched/ab/abcd.pdf"),
            segmenter.write("fetched/ab/abcd.pdf", b"z", **page),
            review.write("fetched/ab/abcd.pdf", b"z", **page),
            review.delete("fetched/ab/abcd.pdf"),
            consumer.read("given/ab/abcd.png", max_bytes=10),
        ):
            with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
                await refused


async def test_ocr_api_sees_only_what_it_collects(provisioned: S3Settings) -> None:
    own, other = "api/a.png", "fetched/ab/abcd.png"
    async with AsyncExitStack() as stack:
        administrator = await stack.enter_async_context(open_object_store(provisioned))
        ocr_api = await store_of("ocr-api", provisioned, stack)
        await administrator.write(other, b"x", content_type="image/png", metadata={})

        assert await ocr_api.head(own) is None
        await ocr_api.write(own, b"y", content_type="image/png", metadata={})
        assert await ocr_api.head(own)
        for refused in (
            ocr_api.read(other, max_bytes=10),
            ocr_api.write(other, b"z", content_type="image/png", metadata={}),
            ocr_api.delete(own),
            anext(ocr_api.list()),
            ocr_api.check(),
        ):
            with pytest.raises(ObjectStoreUnavailableError, match=r"AccessDenied|403"):
                await refused


async def test_what_is_submitted_is_the_fetchers_alone(provisioned: S3Settings) -> None:
    async with AsyncExitStack() as stack:
        others = ("ocr-api", "consumer", "reconciler", "review")
        stores = {
            name: sibling(await store_of(name, provisioned, stack), provisioned.submitted_bucket)
            for name in ("fetcher", *others)
        }
        fetcher = stores["fetcher"]

        await fetcher.write_file("a", BytesIO(bytes(9 * 2**20)))
        await fetcher.write_file("a", BytesIO(b"x"))
        async with fetcher.stream("a") as pieces:
            assert b"".join([each async for each in pieces]) == b"x"
        with pytest.raises(ObjectNotFoundError):
            await fetcher.read("none", max_bytes=10)
        for name in others:
            for refused in (stores[name].read("a", max_bytes=10), anext(stores[name].list())):
                with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
                    await refused


async def test_review_deletes_on_request_and_stores_nothing(provisioned: S3Settings) -> None:
    async with AsyncExitStack() as stack:
        administrator = await stack.enter_async_context(open_object_store(provisioned))
        review = await store_of("review", provisioned, stack)
        await administrator.write("fetched/a.png", b"x", content_type="image/png", metadata={})

        await review.check()
        assert (await review.read("fetched/a.png", max_bytes=10)).content == b"x"
        for key in ("uploads/b.png", "fetched/a.png"):
            with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
                await review.write(key, b"z", content_type="image/png", metadata={})
        assert await review.erase("fetched/a.png") == 1
        assert await administrator.head("fetched/a.png") is None


@pytest.mark.usefixtures("provisioned")
async def test_rights_in_rabbitmq_are_the_least_that_work_needs(servers: Addresses) -> None:
    password = servers.rabbitmq_management_password.get_secret_value()
    login = encode_basic_auth(servers.rabbitmq_management_user, password)
    async with (
        ClientSession(headers={"Authorization": login}) as session,
        session.get(f"{servers.rabbitmq_management_url}/api/permissions") as response,
    ):
        found = {each["user"]: each for each in await response.json() if each["vhost"] == "/"}

    def rights(name: str) -> Sequence[str]:
        return [found[name][kind] for kind in ("configure", "write", "read")]

    publish = r"^amq\.default$"
    events = r"^raw\.events$|^pages\.events$"
    assert rights("minio") == [events, events, NOTHING]
    assert rights("fetcher") == [
        NOTHING,
        rf"{publish}|^fetch\.hosts$|^fetch\.retry\.5s$|^fetch\.retry\.1m$|^fetch\.retry\.10m$",
        r"^fetch\.jobs\.[0-9]+$|^fetch\.members$",
    ]
    assert rights("consumer") == [NOTHING, publish, r"^ocr\.jobs$|^ocr\.repredict$"]
    assert rights("reconciler") == [
        NOTHING,
        rf"{publish}|^ocr\.jobs$|^pages\.jobs$",
        r"^ocr\.parked$|^pages\.parked$",
    ]
    assert rights("segmenter") == [NOTHING, rf"{publish}|^ocr\.jobs$", r"^pages\.jobs$"]
    assert rights("review") == [NOTHING, publish, r"^ocr\.parked$|^fetch\.parked$"]
    assert rights("monitoring") == [NOTHING, NOTHING, NOTHING]


@pytest.mark.usefixtures("provisioned")
async def test_monitoring_user_reads_queue_depths_but_changes_nothing(servers: Addresses) -> None:
    login = encode_basic_auth("monitoring", PASSWORD.get_secret_value())
    queues = f"{servers.rabbitmq_management_url}/api/queues/%2F"
    async with ClientSession(headers={"Authorization": login}) as session:
        async with session.get(queues) as response:
            assert "ocr.jobs" in {each["name"] for each in await response.json()}
        async with session.delete(f"{queues}/ocr.jobs/contents") as response:
            assert response.status in {401, 403}


@pytest.mark.usefixtures("provisioned")
@pytest.mark.parametrize("name", ["fetcher", "consumer", "reconciler", "review", "minio"])
async def test_service_may_connect_with_its_password(servers: Addresses, name: str) -> None:
    async def connect(password: str) -> None:
        url = f"amqp://{name}:{password}@{whole.host}:{whole.port}/"
        await check_broker(AmqpSettings(url=AmqpDsn(url)))

    whole = AmqpDsn(servers.amqp_url.get_secret_value())
    await connect(PASSWORD.get_secret_value())
    with pytest.raises(BrokerUnavailableError):
        await connect("wrong")


@pytest.mark.usefixtures("provisioned")
@pytest.mark.parametrize("name", ["fetcher", "consumer", "reconciler", "review"])
async def test_service_may_log_in_to_mongodb(mongo_settings: MongoSettings, name: str) -> None:
    async def log_in(password: SecretStr) -> None:
        login = {"user": name, "password": password}
        async with open_database(mongo_settings.model_copy(update=login)) as database:
            await database.check()

    await log_in(PASSWORD)
    with pytest.raises(DatabaseUnavailableError):
        await log_in(SecretStr("wrong"))


async def test_only_reconciler_listens_to_uploads(provisioned: S3Settings) -> None:
    login = {"secret_access_key": PASSWORD}
    mine, other = (
        provisioned.model_copy(update={"access_key_id": name, **login})
        for name in ("reconciler", "consumer")
    )
    assert not list(notifications(await listen(mine)))
    with pytest.raises(ObjectStoreUnavailableError, match="403"):
        list(notifications(await listen(other)))


async def test_reconciler_user_can_reconcile_but_not_write(
    provisioned: S3Settings, servers: Addresses, mongo_settings: MongoSettings
) -> None:
    whole = AmqpDsn(servers.amqp_url.get_secret_value())
    url = f"amqp://reconciler:{PASSWORD.get_secret_value()}@{whole.host}:{whole.port}/"
    async with AsyncExitStack() as stack:
        owner = await stack.enter_async_context(open_object_store(provisioned))
        store = await store_of("reconciler", provisioned, stack)
        database = await stack.enter_async_context(open_database(mongo_settings))
        await owner.write("lost.png", b"x", content_type="image/png", metadata={})
        # Queued where no consumer works
        others = await stack.enter_async_context(open_queues(AmqpSettings(url=whole)))
        settings = ReconcilerSettings().model_dump() | {"min_age_seconds": -1}

        report = await make_pass(
            ReconcilerSettings.model_construct(**settings),
            store=store,
            images=ImageRepository(database.images),
            amqp=AmqpSettings(url=AmqpDsn(url)),
            queues=replace(OCR_QUEUES, work=others.work),
        )

        stored = [each.key async for each in owner.list()]
        assert report.found[State.MISSING] == report.queued == len(stored)
        with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
            await store.write("lost.png", b"z", content_type="image/png", metadata={})
        with pytest.raises(ObjectStoreUnavailableError, match="AccessDenied"):
            await store.delete("lost.png")
