"""The disk under MinIO's folder of events fills up while RabbitMQ is away."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infra.local import servers
from infra.local.locate import locate_minio
from infra.local.ports import pick_free_ports
from infra.local.servers import Home, notification_environment
from infra.local.settings import LocalSettings
from infra.local.stack import BUCKET, located
from infra.local.supervisor import Supervisor
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.runtime.settings import AmqpSettings, MongoSettings
from services.provisioner.bucket import set_up_bucket
from services.reconciler.passes import make_pass
from services.reconciler.settings import ReconcilerSettings
from tests.support.indexing import indexing, open_event_queues
from tests.support.notifying import USUAL_ARN
from tests.support.ocr_api import scripted_ocr_api
from tests.support.servers import s3_settings_at
from tests.support.slow_link import open_slow_link
from tests.support.waiting import eventually

pytestmark = pytest.mark.integration

FOLDER_BYTES = 64 * 1024
MOST_EVENTS = FOLDER_BYTES // 4096
"""Each takes a page."""
IMAGES = 40


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of ``FOLDER_BYTES`` at a folder."""
    folder.mkdir(parents=True)
    options = f"size={FOLDER_BYTES},mode=0700,uid={os.getuid()},gid={os.getgid()}"
    mounted = subprocess.run(  # noqa: S603  a list of arguments, no shell
        ["mount", "-t", "tmpfs", "-o", options, "docreco-test", str(folder)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode and "CI" not in os.environ:
        pytest.skip(f"mounting a small disk needs root: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607


@asynccontextmanager
async def open_store(folder: Path, amqp_url: str) -> AsyncIterator[ObjectStore]:
    """Run a MinIO that tells its events to a RabbitMQ which need not be there."""
    home = Home(LocalSettings(folder=folder), pick_free_ports())
    usual = servers.minio(located("MinIO", locate_minio), home)
    told = notification_environment(amqp_url, queue_dir=str(events_folder(folder)))
    settings = s3_settings_at(home, bucket=BUCKET)
    async with Supervisor(on_event=pytest.fail) as supervisor:
        await supervisor.start(replace(usual, env={**usual.env, **told}))
        async with open_object_store(settings) as store:
            await set_up_bucket(store, notification_arn=USUAL_ARN)
            yield store


def events_folder(folder: Path) -> Path:
    return folder / "minio" / "events"


async def test_reconciler_finds_events_that_a_full_disk_lost(
    tmp_path: Path,
    private_amqp_settings: AmqpSettings,
    mongo_settings: MongoSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    amqp, port = private_amqp_settings, pick_free_ports().rabbitmq_port
    url = str(amqp.url).replace(f":{amqp.url.port}/", f":{port}/")
    with small_disk(events_folder(tmp_path)):
        async with (
            open_event_queues(amqp) as queues,
            open_store(tmp_path, url) as store,
            open_database(mongo_settings) as database,
            scripted_ocr_api() as ocr_api,
            indexing(ocr_api, store=store, database=database, amqp=amqp, queues=queues),
        ):

            async def indexed(count: int) -> None:
                async def enough() -> bool:
                    return await database.images.count({"status": "predicted"}) >= count

                await eventually(enough)

            for number in range(IMAGES):  # each is acknowledged, event or not
                await store.write(
                    f"full/{number}.png", b"%d" % number, content_type="image/png", metadata={}
                )
            async with open_slow_link(str(amqp.url.host), int(amqp.url.port or 0), own_port=port):
                await indexed(1)
                written = await store.now()

                async def is_old_enough() -> bool:  # its clock counts whole seconds
                    return await store.now() > written

                await eventually(is_old_enough)
                report = await make_pass(
                    ReconcilerSettings(min_age_seconds=0),
                    store=store,
                    images=ImageRepository(database.images),
                    amqp=amqp,
                    queues=queues,
                )
                assert report.queued >= IMAGES - MOST_EVENTS
                await indexed(IMAGES)
            assert await database.images.count({}) == IMAGES
    with capsys.disabled():
        print(f"\nfull disk: {report.queued} of {IMAGES} queued by the reconciler")  # noqa: T201
