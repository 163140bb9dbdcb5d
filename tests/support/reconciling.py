"""A bucket without notifications that the reconciler compares with its documents."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.objects import ObjectInfo
from services.common.domain.provenance import Provenance, to_metadata
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.reconciler.compare import WHOLE, BucketPart, State
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import PassReport
from tests.support.indexing import IMAGE, Indexed, Settlements, indexing, open_queues
from tests.support.ocr_api import ScriptedOcrApi, scripted_ocr_api


@dataclass
class Site(Indexed):
    """A bucket without notifications: what it holds has no event."""

    amqp: AmqpSettings
    queues: Queues
    ocr_api: ScriptedOcrApi

    async def upload(
        self, key: str, content: bytes = IMAGE, provenance: Provenance | None = None
    ) -> ObjectInfo:
        metadata = to_metadata(provenance or Provenance())
        await self.store.write(key, content, content_type="image/png", metadata=metadata)
        async for info in self.store.list():
            if info.key == key:
                return info
        raise AssertionError(key)

    async def reconcile(
        self,
        *,
        min_age: float = 0,
        allows_gone: bool = False,
        part: BucketPart = WHOLE,
        **settings: int,
    ) -> PassReport:
        # The clock of the server is in whole seconds, and tests make times up to 0.5 s ahead
        return await make_pass(
            ReconcilerSettings.model_construct(
                **{**ReconcilerSettings().model_dump(), "min_age_seconds": min_age - 2, **settings}
            ),
            store=self.store,
            images=ImageRepository(self.database.images),
            amqp=self.amqp,
            queues=self.queues,
            part=part,
            allows_gone=allows_gone,
        )

    async def publish(self, body: bytes) -> None:
        async with open_publisher(self.amqp) as publisher:
            await publisher.publish(body, queue=self.queues.work)

    def consuming(self) -> AbstractAsyncContextManager[Settlements]:
        return indexing(
            self.ocr_api,
            store=self.store,
            database=self.database,
            amqp=self.amqp,
            queues=self.queues,
        )


@asynccontextmanager
async def open_site(
    s3: S3Settings, mongo: MongoSettings, amqp: AmqpSettings
) -> AsyncIterator[Site]:
    """Make the bucket and the queues for the length of an ``async with`` block."""
    async with (
        open_object_store(s3) as store,
        open_database(mongo) as database,
        open_queues(amqp) as queues,
        scripted_ocr_api() as ocr_api,
    ):
        await store.client.create_bucket(Bucket=store.bucket)
        yield Site(store, database, amqp, queues, ocr_api)


def found(report: PassReport) -> dict[State, int]:
    """Return what a pass found, without zeros."""
    return {state: count for state, count in report.found.items() if count}
