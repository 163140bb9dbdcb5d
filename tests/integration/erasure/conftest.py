"""A bucket that notifies, and a running consumer."""

from collections.abc import AsyncIterator

import pytest

from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.provisioner.bucket import set_up_bucket
from tests.support.forgetting import Site
from tests.support.indexing import indexing, open_event_queues, open_queues
from tests.support.ocr_api import scripted_ocr_api


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    notification_arn: str,
    mongo_settings: MongoSettings,
    amqp_settings: AmqpSettings,
) -> AsyncIterator[Site]:
    async with (
        open_event_queues(amqp_settings) as queues,
        open_queues(amqp_settings) as fetch_queues,
        open_object_store(s3_settings) as store,
        open_database(mongo_settings) as database,
        scripted_ocr_api() as ocr_api,
    ):
        await set_up_bucket(store, notification_arn=notification_arn)
        async with indexing(
            ocr_api, store=store, database=database, amqp=amqp_settings, queues=queues
        ):
            yield Site(store, database, amqp_settings, queues, fetch_queues, ocr_api)
