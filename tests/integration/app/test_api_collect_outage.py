"""Images of requests while MinIO is away: they are answered at once, and kept when it is back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from infra.local import locate, servers
from infra.local.ports import pick_free_ports
from infra.local.servers import Home
from infra.local.settings import LocalSettings
from infra.local.stack import located
from infra.local.supervisor import Program, Supervisor
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from tests.support.images import line_image
from tests.support.running_ocr_api import Api, collected, collecting_api
from tests.support.servers import s3_settings_at


@dataclass
class Store:
    """A MinIO of this test's own, which does not run yet."""

    settings: S3Settings
    program: Program
    supervisor: Supervisor

    async def start(self) -> None:
        await self.supervisor.start(self.program)

    async def stop(self) -> None:
        await self.supervisor.stop(self.program.name)

    async def keys(self) -> set[str]:
        async with open_object_store(self.settings) as store:
            return {info.key async for info in store.list()}


@pytest.fixture
async def minio(tmp_path: Path) -> AsyncIterator[Store]:
    home = Home(LocalSettings(folder=tmp_path), pick_free_ports())
    program = servers.minio(located("MinIO", locate.locate_minio), home)
    settings = s3_settings_at(home)
    async with Supervisor(on_event=print) as supervisor:
        yield Store(settings, program, supervisor)


@pytest.fixture
async def api(minio: Store) -> AsyncIterator[Api]:
    """An API that collects; it starts before MinIO does."""
    async with collecting_api(minio.settings, drain_seconds=0.1) as api:
        yield api


async def test_images_wait_for_a_store_that_is_away(minio: Store, api: Api) -> None:
    contents = [line_image(text) for text in ("before it starts", "while it is away")]

    assert (await api.predict(contents[0]))[0] == 200
    assert api.metric("ocr_collect_waiting") == 1
    await minio.start()
    async with open_object_store(minio.settings) as store:
        await store.client.create_bucket(Bucket=store.bucket)
    await collected(api, 1)
    await minio.stop()
    assert (await api.predict(contents[1]))[0] == 200
    await minio.start()
    await collected(api, 2)

    assert await minio.keys() == {f"api/{sha256(each).hexdigest()}.png" for each in contents}
    assert api.metric("ocr_collect_waiting") == 0
