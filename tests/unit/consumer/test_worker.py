"""The consumer's worker, with a store, an OCR API and documents of the test."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from typing_extensions import override

from services.cli.repredict import job_for
from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.adapters.synthetic_events import removed_notification, stored_notification
from services.common.domain.batch_item import BatchItem
from services.common.domain.errors import (
    ForeignEventError,
    ObjectNotFoundError,
    PipelineError,
    PredictionRefusedError,
)
from services.common.domain.image import ImageDocument
from services.common.domain.objects import LoadedObject, ObjectInfo, ObjectTooLargeError
from services.common.domain.provenance import Provenance, to_metadata, to_source
from services.common.domain.records import Annotation
from services.consumer.ocr_client import OcrAnswer
from services.consumer.worker import Worker

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
IMAGE = b"bytes of a line"
LIMIT = 100


class Store:
    """A bucket in memory."""

    bucket = "raw"

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def put(self, content: bytes = IMAGE, provenance: Provenance | None = None) -> Delivery:
        """Store ``a.png``; return its event."""
        return self.event(provenance, content=content)

    def remove(self) -> Delivery:
        """Remove ``a.png``; return its event."""
        del self.contents["a.png"]
        return self.removal()

    def removal(self) -> Delivery:
        body = removed_notification(self.bucket, "a.png", sequencer="20", occurred_at=NOW)
        return Delivery(body)

    def event(
        self,
        provenance: Provenance | None = None,
        sequencer: str = "10",
        content: bytes | None = None,
    ) -> Delivery:
        if content is not None:
            self.contents["a.png"] = content
        info = self.info(to_metadata(provenance or Provenance()))
        return Delivery(stored_notification(self.bucket, info, sequencer=sequencer))

    def info(self, metadata: dict[str, str] | None = None) -> ObjectInfo:
        content = self.contents.get("a.png", IMAGE)
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return ObjectInfo("a.png", etag, len(content), NOW, "image/png", metadata or {})

    async def head(self, key: str) -> ObjectInfo | None:
        return self.info() if key in self.contents else None

    async def read(self, key: str, *, max_bytes: int) -> LoadedObject:
        if key not in self.contents:
            raise ObjectNotFoundError(self.bucket, key)
        if len(self.contents[key]) > max_bytes:
            raise ObjectTooLargeError(self.info(), max_bytes)
        return LoadedObject(self.info(), self.contents[key])


class OcrApi:
    """Reads each image as ``text``, or refuses it."""

    def __init__(self) -> None:
        self.text, self.version = "industrie", "1"
        self.error: PipelineError | None = None
        self.reads = 0

    async def predict(self, image: bytes) -> OcrAnswer:
        assert image
        self.reads += 1
        if self.error is not None:
            raise self.error
        return OcrAnswer(
            text=self.text,
            score=0.5,
            engine="fake",
            model_version=self.version,
            width=3,
            height=2,
            duration_ms=1,
        )


class Documents(ImageRepository):
    """Documents in memory; ``meanwhile`` is what another writer does before the next write."""

    def __init__(self) -> None:
        super().__init__(cast("Collection", None))
        self.stored: dict[str, ImageDocument] = {}
        self.meanwhile: Callable[[ImageDocument], ImageDocument] | None = None

    @property
    def image(self) -> ImageDocument:
        return self.stored["raw/a.png"]

    @override
    async def get(self, document_id: str) -> ImageDocument | None:
        return self.stored.get(document_id)

    @override
    async def _write(self, before: ImageDocument, after: ImageDocument, changed: set[str]) -> bool:
        if self.meanwhile is not None:
            self.stored[before.id] = self.meanwhile(before)
            self.meanwhile = None
            return False
        self.stored[before.id] = after
        return True


class Found:
    """A collection that finds these documents."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    async def find_one(self, _: object) -> None:
        return None

    async def find(self, *_: object, **__: object) -> Any:
        for each in self.found:
            yield each


class Bench:
    """A worker and its surroundings."""

    def __init__(self) -> None:
        self.store, self.ocr, self.documents = Store(), OcrApi(), Documents()
        self.fetches = Found()
        self.worker = Worker(
            store=cast("ObjectStore", self.store),
            recogniser=self.ocr,
            images=self.documents,
            fetches=FetchedItems(cast("Collection", self.fetches)),
            forgotten=Forgotten(cast("Collection", Found())),
            max_object_bytes=LIMIT,
        )

    def job(self) -> Delivery:
        """Return the job that has the image read again as it is now."""
        return Delivery(job_for(self.documents.image).body())

    async def read_again(self, text: str, times: int = 1) -> list[str]:
        """Have it read as a text; return what became of the job each time that it came."""
        self.ocr.text, job = text, self.job()
        return [await self.worker.handle(job) for _ in range(times)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_stored_image_is_read_and_predicted(bench: Bench) -> None:
    source = Provenance("http://a.test/a.png", "b1", "industrie", NOW)

    assert await bench.worker.handle(bench.store.put(provenance=source)) == "predicted"

    image = bench.documents.image
    assert image.prediction is not None
    assert image.annotation is not None
    assert (image.prediction.text, image.annotation.by) == ("industrie", "batch:b1")
    assert [each.url for each in image.sources] == ["http://a.test/a.png"]
    assert image.sha256 == hashlib.sha256(IMAGE).hexdigest()


async def test_event_that_comes_twice_is_read_once(bench: Bench) -> None:
    codes = [await bench.worker.handle(bench.store.put()) for _ in range(2)]

    assert (codes, bench.ocr.reads) == (["predicted", "duplicate"], 1)


async def test_event_that_is_handled_twice_at_once_counts_once(bench: Bench) -> None:
    other, event = Bench(), bench.store.put()
    other.store.put()
    await other.worker.handle(event)
    bench.documents.meanwhile = lambda _: other.documents.image

    assert await bench.worker.handle(event) == "duplicate"

    assert bench.documents.image.prediction == other.documents.image.prediction


async def test_refused_image_is_rejected_with_its_reason(bench: Bench) -> None:
    bench.ocr.error = PredictionRefusedError("undecodable_image", "broken")

    assert await bench.worker.handle(bench.store.put()) == "rejected"

    error = bench.documents.image.error
    assert error is not None
    assert (error.code, error.detail) == ("undecodable_image", "broken")


async def test_object_over_the_limit_is_rejected_unread(bench: Bench) -> None:
    assert await bench.worker.handle(bench.store.put(b"x" * (LIMIT + 1))) == "rejected"

    assert bench.ocr.reads == 0
    assert bench.documents.image.sha256 is None


async def test_object_deleted_before_it_is_read_leaves_its_source(bench: Bench) -> None:
    source = Provenance("http://a.test/a.png", "b1", None, NOW)

    assert await bench.worker.handle(bench.store.event(source)) == "gone"

    assert bench.documents.image.status == "removed"
    assert len(bench.documents.image.sources) == 1


async def test_removal_erases_what_was_read(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())

    assert await bench.worker.handle(bench.store.remove()) == "removed"

    image = bench.documents.image
    assert (image.status, image.prediction) == ("removed", None)


async def test_image_that_is_there_stays_despite_a_removal_event(
    bench: Bench,
) -> None:
    """MinIO tells of a removed version like of the object, and of many removals late."""
    await bench.worker.handle(bench.store.put())

    assert await bench.worker.handle(bench.store.removal()) == "stale"

    assert bench.documents.image.status == "predicted"


async def test_image_that_comes_back_is_of_its_group_again(bench: Bench) -> None:
    key, url = "fetched/aa/a.png", "http://a.test/a.png"
    item = BatchItem(
        id="b/1", batch_id="b", source_url=url, collection="c", group="g", annotation="text"
    )
    source = to_source(item.provenance(NOW))
    assert source is not None
    bench.documents.stored[f"raw/{key}"] = ImageDocument(
        id=f"raw/{key}", status="removed", sources=(source.having(group=None),)
    )
    bench.store.contents[key] = IMAGE
    bench.fetches.found = [item.to_mongo()]
    info = replace(bench.store.info(), key=key)

    await bench.worker.handle(Delivery(stored_notification("raw", info, sequencer="10")))

    image = bench.documents.stored[f"raw/{key}"]
    assert (image.status, image.sources, image.annotation) == ("predicted", (source,), None)


async def test_concurrent_annotation_stays_without_a_second_reading(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())
    said = Annotation(text="by hand", by="ada", at=NOW)
    bench.documents.meanwhile = lambda image: image.having(annotation=said)

    assert await bench.worker.handle(bench.store.event(sequencer="11")) == "duplicate"

    image = bench.documents.image
    assert (image.annotation, image.sequencer, bench.ocr.reads) == (said, "11", 1)


async def test_bytes_replaced_meanwhile_are_read_after_all(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())
    bench.documents.meanwhile = lambda image: image.having(etag="of other bytes")

    assert await bench.worker.handle(bench.store.event(sequencer="11")) == "predicted"

    assert (bench.ocr.reads, bench.documents.image.etag) == (2, bench.store.info().etag)


async def test_duplicate_job_reads_once_and_keeps_the_prediction(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())

    assert await bench.read_again("industry", times=2) == ["repredicted", "duplicate"]

    image = bench.documents.image
    assert [each.text for each in image.history] == ["industrie"]
    assert image.disagreement == pytest.approx(2 / 9)
    assert bench.ocr.reads == 2


async def test_same_reading_again_does_not_lengthen_the_history(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())

    assert await bench.read_again("industrie") == ["repredicted"]

    assert (bench.documents.image.history, bench.documents.image.disagreement) == ((), None)


async def test_versions_that_read_the_same_agree_again(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())
    await bench.read_again("industry")
    bench.ocr.version = "2"
    await bench.read_again("industry")

    assert [each.text for each in bench.documents.image.history] == ["industrie", "industry"]
    assert bench.documents.image.disagreement is None


@pytest.mark.parametrize("event", ["removal", "other bytes"])
async def test_history_belongs_to_the_bytes(bench: Bench, event: str) -> None:
    await bench.worker.handle(bench.store.put())
    await bench.read_again("industry")

    if event == "removal":
        await bench.worker.handle(bench.store.remove())
    else:
        await bench.worker.handle(bench.store.event(sequencer="20", content=b"other bytes"))

    assert (bench.documents.image.history, bench.documents.image.disagreement) == ((), None)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_removed_image_is_not_brought_back_by_a_job(bench: Bench, when: str) -> None:
    await bench.worker.handle(bench.store.put())
    job = bench.job()
    if when == "before":
        await bench.worker.handle(bench.store.remove())
    else:
        bench.documents.meanwhile = lambda image: image.having(status="removed", prediction=None)

    assert await bench.worker.handle(job) == "gone"

    assert bench.documents.image.prediction is None


async def test_image_that_was_replaced_is_left_to_its_own_event(bench: Bench) -> None:
    await bench.worker.handle(bench.store.put())
    job, before = bench.job(), bench.documents.image
    bench.store.put(b"other bytes")

    assert await bench.worker.handle(job) == "stale"

    assert bench.documents.image == before


async def test_event_of_another_bucket_is_refused(bench: Bench) -> None:
    body = stored_notification("pages", bench.store.info(), sequencer="1")

    with pytest.raises(ForeignEventError):
        await bench.worker.handle(Delivery(body))
