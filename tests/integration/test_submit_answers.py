"""``docreco submit`` against a fetcher that is slow, and files with odd names."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import HttpUrl

from services.cli.errors import ExitStatus, ServiceDownError
from services.cli.fetcher import FetcherClient, open_fetcher
from services.cli.output import Output
from services.cli.settings import CliSettings
from services.cli.submit import send
from services.cli.upload import UploadOptions, upload_folder
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings
from tests.support.web import WebSite, png

pytestmark = pytest.mark.integration

ODD_NAME = os.fsdecode(b"\xff.png")


@pytest.fixture
async def fetcher(site: WebSite) -> AsyncIterator[FetcherClient]:
    settings = CliSettings(fetcher_url=HttpUrl(site.base_url), timeout_seconds=0.2)
    async with open_fetcher(settings) as fetcher:
        yield fetcher


async def test_list_is_waited_for_as_long_as_the_fetcher_takes_to_read_it(
    fetcher: FetcherClient, site: WebSite
) -> None:
    async def answer_slowly(_: web.Request) -> web.Response:
        await asyncio.sleep(0.6)
        return web.json_response({"batch_id": "b", "accepted": 1}, status=202)

    site.add("/batches", answer_slowly)
    site.add("/batches/b", answer_slowly)

    assert (await send(fetcher, "https://h.test/large.zip")).batch_id == "b"
    with pytest.raises(ServiceDownError, match="no answer in time"):
        await fetcher.batch("b")


async def test_image_whose_file_name_is_no_text_is_uploaded_and_named(
    s3_settings: S3Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("S3_ENDPOINT_URL", str(s3_settings.endpoint_url))
    monkeypatch.setenv("S3_ACCESS_KEY_ID", s3_settings.access_key_id)
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", s3_settings.secret_access_key.get_secret_value())
    monkeypatch.setenv("S3_BUCKET", s3_settings.bucket)
    (tmp_path / ODD_NAME).write_bytes(png(1))
    async with open_object_store(s3_settings) as store:
        await store.client.create_bucket(Bucket=store.bucket)

    status = await upload_folder(tmp_path, Output(as_json=True), UploadOptions())

    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["path"], file["outcome"]) == ("\N{REPLACEMENT CHARACTER}.png", "stored")
    assert status is ExitStatus.OK
