"""Images of requests that are kept: in the bucket, with what is known of them, and never twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from aiohttp import FormData
from prometheus_client import CollectorRegistry
from pydantic import HttpUrl

from app.collect import ATTEMPTS, Collector
from app.metrics import CollectMetrics
from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import ObjectStoreUnavailableError
from services.common.domain.image_formats import ImageFormat, sniff
from services.common.domain.objects import ObjectInfo
from services.common.domain.provenance import Provenance, from_metadata
from services.common.runtime.settings import S3Settings
from services.consumer.ocr_client import open_ocr_client
from services.consumer.settings import ConsumerSettings
from tests.support.images import damaged_images, line_image
from tests.support.ocr_api import predict
from tests.support.running_ocr_api import collected, collecting_api
from tests.support.waiting import until


def key_of(content: bytes, extension: str) -> str:
    return f"api/{sha256(content).hexdigest()}.{extension}"


async def keys(store: ObjectStore) -> set[str]:
    return {info.key async for info in store.list()}


async def test_image_is_kept_with_what_is_known_of_it(
    s3_settings: S3Settings, store: ObjectStore
) -> None:
    content = line_image("kept", image_format="JPEG")
    before = datetime.now(UTC)
    async with collecting_api(s3_settings) as api:
        status = await predict(
            api.session,
            content,
            source_url="https://example.org/é?token=secret&page=1#top",
            annotation="déjà vu",
            collection="märz",
        )
        await collected(api, 1)

    stored = await store.read(key_of(content, "jpg"), max_bytes=len(content))
    known = from_metadata(dict(stored.info.metadata))
    assert status == 200
    assert stored.content == content
    assert stored.info.content_type == "image/jpeg"
    assert known.source_url == "https://example.org/%C3%A9?token=REDACTED&page=1"
    assert (known.annotation, known.collection) == ("déjà vu", "märz")
    assert known.fetched_at is not None
    assert before <= known.fetched_at <= datetime.now(UTC)


async def test_unreadable_images_are_kept_but_other_files_are_not(
    s3_settings: S3Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sniffed: list[bytes] = []

    def remember(content: bytes) -> ImageFormat | None:
        sniffed.append(content)
        return sniff(content)

    monkeypatch.setattr("app.collect.sniff", remember)
    half = damaged_images()["half a PNG"]
    async with collecting_api(s3_settings) as api:
        # Written in order: once the last one is there, an earlier one would be
        assert await predict(api.session, b"text") == 415
        assert await predict(api.session, half) == 422
        await collected(api, 1)

    assert sniffed == [half]
    assert await keys(store) == {key_of(half, "png")}


async def test_images_of_a_batch_are_kept(s3_settings: S3Settings, store: ObjectStore) -> None:
    images = [line_image(text) for text in ("one", "two")]
    form = FormData()
    for content in images:
        form.add_field("files", content, filename="a")
    async with collecting_api(s3_settings) as api:
        async with api.session.post("/predict/batch", data=form) as response:
            assert response.status == 200
        await collected(api, 2)

    assert await keys(store) == {key_of(content, "png") for content in images}


async def test_what_is_not_to_be_kept_is_not(s3_settings: S3Settings, store: ObjectStore) -> None:
    async with collecting_api(s3_settings) as api:
        assert await predict(api.session, line_image("no"), {"X-DocReco-Collect": "No"}) == 200
    async with collecting_api(s3_settings, collect_rate=0.0) as api:
        assert await predict(api.session, line_image("no")) == 200

    assert await keys(store) == set()


async def test_the_consumers_own_requests_are_never_kept(
    s3_settings: S3Settings, store: ObjectStore
) -> None:
    async with collecting_api(s3_settings) as api:
        settings = ConsumerSettings(ocr_url=HttpUrl(str(api.session._base_url)))
        async with open_ocr_client(settings) as client:
            assert (await client.predict(line_image("from the bucket"))).text == "read"
        # Written in order: once this one is there, an earlier one would be
        assert await predict(api.session, line_image("from a person")) == 200
        await collected(api, 1)

    assert await keys(store) == {key_of(line_image("from a person"), "png")}


async def test_an_image_seen_again_keeps_its_source(
    s3_settings: S3Settings, store: ObjectStore
) -> None:
    content, other = line_image("again"), line_image("other")
    async with collecting_api(s3_settings) as api:
        await predict(api.session, content, source_url="https://example.org/a.png")
        await predict(api.session, content)
        await predict(api.session, content, source_url="https://example.org/a.png")
        await predict(api.session, other)
        await predict(api.session, other, collection="march")
        await predict(api.session, other, collection="march")
        await predict(api.session, line_image("last"))
        await collected(api, 4)

    stored = await store.head(key_of(content, "png"))
    assert stored is not None
    assert stored.metadata["source-url"] == "https://example.org/a.png"
    stored = await store.head(key_of(other, "png"))
    assert stored is not None
    assert stored.metadata["collection"] == "march"


@pytest.mark.parametrize(
    "fields",
    [
        {"source_url": "ftp://example.org/a.png"},
        {"source_url": "not a url"},
        {"source_url": f"https://example.org/{'a' * 2000}"},
        {"annotation": "漢" * 500},
        {"collection": "c" * 201},
    ],
)
async def test_what_could_not_be_kept_is_refused(
    s3_settings: S3Settings, fields: dict[str, str]
) -> None:
    async with collecting_api(s3_settings) as api:
        assert await predict(api.session, line_image("a"), **fields) == 422


class StuckStore:
    """Answers once it is let go, then fails so many times, and always for one key."""

    def __init__(self, failures: int = 0, *, refused: str | None = None) -> None:
        self.gate = asyncio.Event()
        self.failures = failures
        self.refused = refused
        self.written: list[str] = []

    async def head(self, _: str) -> ObjectInfo | None:
        return None

    async def write(self, key: str, _: bytes, **__: object) -> str:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise ObjectStoreUnavailableError("down")
        if key == self.refused:
            raise ObjectStoreUnavailableError("InvalidArgument")
        self.written.append(key)
        return ""


@asynccontextmanager
async def collector(
    store: StuckStore, registry: CollectorRegistry, **limits: Any
) -> AsyncIterator[Collector]:
    @asynccontextmanager
    async def open_store() -> AsyncIterator[Any]:
        yield store

    limits = {"max_bytes": 10**6, "max_images": 10, "drain_seconds": 10} | limits
    limits |= {"longest_pause_seconds": 0.01}
    collector = Collector(open_store, CollectMetrics(registry), rate=1, **limits)
    async with collector.running():
        yield collector


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


async def test_a_stuck_store_costs_images_never_time_or_memory() -> None:
    store, registry = StuckStore(), CollectorRegistry()
    contents = [line_image(str(number)) for number in range(6)]
    most = sum(len(content) for content in contents[:3])
    async with collector(store, registry, max_bytes=most) as keeps:
        for content in contents:
            keeps.offer(content, Provenance())
        assert sample(registry, "ocr_collect_dropped_total", reason="buffer_full") == 3
        store.gate.set()

    assert store.written == [key_of(content, "png") for content in contents[:3]]
    assert sample(registry, "ocr_collected_total") == 3


async def test_no_more_images_wait_than_may() -> None:
    store, registry = StuckStore(), CollectorRegistry()
    async with collector(store, registry, max_images=2) as keeps:
        for number in range(5):
            keeps.offer(line_image(str(number)), Provenance())
        store.gate.set()

    assert len(store.written) == 2
    assert sample(registry, "ocr_collect_dropped_total", reason="buffer_full") == 3


async def test_image_waits_while_the_store_is_away() -> None:
    store, registry = StuckStore(failures=5 * ATTEMPTS), CollectorRegistry()
    store.gate.set()
    async with collector(store, registry) as keeps:
        keeps.offer(line_image("a"), Provenance())
        assert sample(registry, "ocr_collect_waiting") == 1

    assert len(store.written) == 1
    assert sample(registry, "ocr_collect_waiting") == 0


async def test_image_that_is_refused_keeps_no_other_waiting() -> None:
    refused, other = line_image("refused"), line_image("other")
    store, registry = StuckStore(refused=key_of(refused, "png")), CollectorRegistry()
    store.gate.set()
    async with collector(store, registry, drain_seconds=0.01) as keeps:
        keeps.offer(refused, Provenance())
        keeps.offer(other, Provenance())
        await until(lambda: store.written == [key_of(other, "png")])

    assert sample(registry, "ocr_collect_dropped_total", reason="stopped") == 1


def test_series_exist_before_the_first_image() -> None:
    registry = CollectorRegistry()
    CollectMetrics(registry)

    assert sample(registry, "ocr_collected_total") == 0
    for reason in ("buffer_full", "stopped", "not_an_image", "internal_error"):
        assert sample(registry, "ocr_collect_dropped_total", reason=reason) == 0


async def test_what_still_waits_at_the_end_is_counted() -> None:
    store, registry = StuckStore(), CollectorRegistry()
    async with collector(store, registry, drain_seconds=0.05) as keeps:
        for number in range(3):
            keeps.offer(line_image(str(number)), Provenance())

    assert store.written == []
    assert sample(registry, "ocr_collect_dropped_total", reason="stopped") == 3
