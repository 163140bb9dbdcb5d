"""The object store's adapter against a real MinIO."""

from dataclasses import replace

import pytest
from pydantic import HttpUrl

from services.common.adapters import object_store
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.domain.errors import ObjectNotFoundError, ObjectStoreUnavailableError
from services.common.domain.objects import ObjectTooLargeError
from services.common.runtime.settings import S3Settings
from tests.support.waiting import deadline
from tests.support.web import open_raw_server


@pytest.mark.parametrize(
    "key",
    [
        "a.png",
        "a b/ü+1 %25.png",
        "q?x=1&y#z.png",
        "日本/線.png",
        "~!*'();:@$,[]^`{|}\"<>\\.png",
        "no-such/..dots/a..b.png",
    ],
)
async def test_object_comes_back_as_it_was_written(store: ObjectStore, key: str) -> None:
    etag = await store.write(
        key, b"bytes", content_type="image/png", metadata={"source-url": "http://example.test/"}
    )

    stored = await store.read(key, max_bytes=5)
    assert stored.content == b"bytes"
    assert (stored.info.etag, stored.info.size, stored.info.content_type) == (
        etag,
        5,
        "image/png",
    )
    assert stored.info.metadata == {"source-url": "http://example.test/"}
    assert await store.head(key) == stored.info

    assert await store.write_metadata(stored.info, {"batch-id": "b2"})
    after = await store.read(key, max_bytes=5)
    info = replace(after.info, metadata=stored.info.metadata, stored_at=stored.info.stored_at)
    assert (after.content, info) == (stored.content, stored.info)
    assert after.info.metadata == {"batch-id": "b2"}

    await store.delete(key)
    assert not await store.write_metadata(stored.info, {})


async def test_large_object_is_written(store: ObjectStore) -> None:
    content = bytes(3 * 1024 * 1024)  # aiohttp warns of bytes beyond 1 MiB in one piece

    await store.write("a", content, content_type="image/png", metadata={})

    assert (await store.read("a", max_bytes=len(content))).content == content


@pytest.mark.parametrize("value", ["été", "a\r\nx-amz-acl: public-read", "a\0b", "\x7f"])
async def test_metadata_that_no_header_holds_is_refused(store: ObjectStore, value: str) -> None:
    with pytest.raises(ObjectStoreUnavailableError):
        await store.write("a", b"bytes", content_type="image/png", metadata={"a": value})
    assert await store.head("a") is None


async def test_server_that_takes_no_more_bytes_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_SLOWEST_BYTES_PER_SECOND", 10**9)
    content = bytes(20 * 1024 * 1024)  # more than sockets hold
    async with open_raw_server(b"HTTP/1.1 100 Continue\r\n\r\n", stays_open=True) as url:
        settings = S3Settings(endpoint_url=HttpUrl(url), connect_timeout_seconds=0.05)
        hasty = settings.model_copy(update={"read_timeout_seconds": 0.2})
        async with open_object_store(hasty) as store, deadline():
            with pytest.raises(ObjectStoreUnavailableError, match="TimeoutError"):
                await store.write("a", content, content_type="image/png", metadata={})


async def test_too_large_object_is_not_read(store: ObjectStore) -> None:
    await store.write("a.png", b"bytes", content_type="image/png", metadata={})

    with pytest.raises(ObjectTooLargeError, match="5 bytes, the limit is 4"):
        await store.read("a.png", max_bytes=4)


async def test_missing_object_is_told_from_a_missing_server(store: ObjectStore) -> None:
    assert await store.head("none.png") is None
    with pytest.raises(ObjectNotFoundError):
        await store.read("none.png", max_bytes=1)
    await store.delete("none.png")


async def test_check_wants_the_bucket(s3_settings: S3Settings, store: ObjectStore) -> None:
    await store.check()
    async with open_object_store(s3_settings.model_copy(update={"bucket": "no-such"})) as other:
        with pytest.raises(ObjectStoreUnavailableError):
            await other.check()


async def test_missing_server_is_unavailable() -> None:
    settings = S3Settings(endpoint_url=HttpUrl("http://127.0.0.1:9"), connect_timeout_seconds=1)
    async with open_object_store(settings) as store:
        with pytest.raises(ObjectStoreUnavailableError):
            await store.head("a.png")


async def test_body_that_ends_early_is_a_missing_server() -> None:
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nETag: "a"\r\n'
    answer += b"Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT\r\n\r\nbytes"
    async with open_raw_server(answer) as url:
        settings = S3Settings(endpoint_url=HttpUrl(url))
        async with open_object_store(settings) as store:
            with pytest.raises(ObjectStoreUnavailableError):
                await store.read("a.png", max_bytes=10_000)
