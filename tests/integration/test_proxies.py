"""Proxies that the environment names are not asked: every server is connected to directly."""

import pytest

from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import S3Settings

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name proxies that do not answer, as a company's machine may."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)


@pytest.mark.usefixtures("behind_a_proxy")
async def test_object_store_is_reached_directly(s3_settings: S3Settings) -> None:
    async with open_object_store(s3_settings) as store:
        await store.client.create_bucket(Bucket=store.bucket)
        await store.write("a.png", b"bytes", content_type="image/png", metadata={})

        assert (await store.read("a.png", max_bytes=5)).content == b"bytes"
        await store.check()
