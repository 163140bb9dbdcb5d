"""The segmenter's worker, with stores, documents and a detector of the test."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import pytest
from typing_extensions import override

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageFilter, PageRepository
from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.adapters.synthetic_events import removed_notification, stored_notification
from services.common.domain.errors import (
    ForeignEventError,
    ObjectNotFoundError,
    PostponedError,
    TransientError,
)
from services.common.domain.objects import LoadedObject, ObjectInfo, ObjectTooLargeError
from services.common.domain.page import Quad
from services.common.domain.page_document import PageDocument
from services.segmenter.detection import DetectedLine, Pixels
from services.segmenter.line_store import LineStore
from services.segmenter.settings import SegmenterSettings
from services.segmenter.worker import Worker
from tests.support.pages import page_file

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PAGE = page_file()
REMOVAL = Delivery(removed_notification("pages", "a.png", sequencer="20", occurred_at=NOW))
BELOW: Quad = (100, 210, 700, 210, 700, 260, 100, 260)
TOP: Quad = (100, 120, 700, 120, 700, 170, 100, 170)
MAX_BYTES, MAX_WAITING = 100_000, 10


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Store:
    """A bucket in memory; ``reads`` counts objects that were read."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.objects: dict[str, LoadedObject] = {}
        self.reads = 0

    async def write_once(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        info = ObjectInfo(key, sha256(content), len(content), NOW, content_type, metadata)
        stored = LoadedObject(info, content)
        return self.objects.setdefault(key, stored) is stored

    async def head(self, key: str) -> ObjectInfo | None:
        return self.objects[key].info if key in self.objects else None

    async def read(self, key: str, *, max_bytes: int) -> LoadedObject:
        if key not in self.objects:
            raise ObjectNotFoundError(self.bucket, key)
        if (stored := self.objects[key]).info.size > max_bytes:
            raise ObjectTooLargeError(stored.info, max_bytes)
        self.reads += 1
        return stored

    async def delete(self, key: str) -> None:
        del self.objects[key]

    async def erase(self, key: str, *, etag: str) -> None:
        assert self.objects.pop(key).info.etag == etag

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        for each in [*self.objects.values()]:
            if each.info.key.startswith(prefix):
                yield each.info


class Documents:
    """A collection with these documents, whatever is asked for."""

    def __init__(self) -> None:
        self.found: list[Document] = []

    async def find(self, *_: object, **__: object) -> AsyncIterator[Document]:
        for each in self.found:
            yield each


class Pages(PageRepository):
    """Documents in memory; ``meanwhile`` is what another writer does before the next write."""

    def __init__(self) -> None:
        super().__init__(cast("Collection", Documents()))
        self.stored: dict[str, PageDocument] = {}
        self.meanwhile: Callable[[PageDocument], PageDocument] | None = None

    @override
    async def get(self, document_id: str) -> PageDocument | None:
        return self.stored.get(document_id)

    @override
    async def count(self, where: PageFilter, *, most: int | None = None) -> int:
        others = [each for each in self.stored.values() if each.id != where.besides]
        return sum(each.sha256 == where.sha256 and each.status != "removed" for each in others)

    @override
    async def _write(self, before: PageDocument, after: PageDocument, changed: set[str]) -> bool:
        if self.meanwhile is not None:
            self.stored[before.id] = self.meanwhile(before)
            self.meanwhile = None
            return False
        self.stored[before.id] = after
        return True


@dataclass
class Detector:
    """Finds these lines."""

    quads: Sequence[Quad] = (TOP,)
    version: str = "1"
    name: str = "fake"

    def find(self, pixels: Pixels) -> list[DetectedLine]:
        assert pixels.size
        return [DetectedLine(quad, 0.9) for quad in self.quads]


class Bench:
    """A worker and its surroundings."""

    def __init__(self) -> None:
        self.store, self.lines, self.pages = Store("pages"), Store("raw"), Pages()
        self.forgotten, self.detector, self.queued = Documents(), Detector(), 0
        nothing = cast("Collection", Documents())
        self.worker = Worker(
            store=cast("ObjectStore", self.store),
            lines=LineStore(cast("ObjectStore", self.lines), ImageRepository(nothing)),
            pages=self.pages,
            items=FetchedItems(nothing),
            forgotten=Forgotten(cast("Collection", self.forgotten)),
            detector=self.detector,
            waiting=self.waiting,
            settings=SegmenterSettings(max_object_bytes=MAX_BYTES, max_waiting=MAX_WAITING),
        )

    async def waiting(self) -> int:
        return self.queued

    async def put(self, content: bytes = PAGE, key: str = "a.png") -> Delivery:
        """Store a page; return its event."""
        await self.store.write_once(key, content, content_type="image/png", metadata={})
        return Delivery(stored_notification("pages", self.store.objects[key].info, sequencer="10"))

    @property
    def page(self) -> PageDocument:
        return self.pages.stored["pages/a.png"]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_page_is_segmented_once(bench: Bench) -> None:
    event = await bench.put()

    codes = [await bench.worker.handle(event) for _ in range(2)]

    assert (codes, bench.store.reads) == (["segmented", "duplicate"], 1)
    assert [line.quad for line in bench.page.lines] == [TOP]
    assert list(bench.lines.objects) == [line.key for line in bench.page.lines]


async def test_newer_detector_segments_again(bench: Bench) -> None:
    event = await bench.put()
    await bench.worker.handle(event)
    bench.detector.version, bench.detector.quads = "2", (BELOW,)

    assert await bench.worker.handle(event) == "segmented"

    assert [line.quad for line in bench.page.lines] == [BELOW]
    assert list(bench.lines.objects) == [line.key for line in bench.page.lines]


async def test_page_removed_meanwhile_leaves_no_lines(bench: Bench) -> None:
    bench.pages.meanwhile = lambda page: page.having(status="removed", sequencer="20")

    assert await bench.worker.handle(await bench.put()) == "stale"

    assert (bench.page.lines, bench.lines.objects) == ((), {})


async def test_removal_takes_the_lines_along(bench: Bench) -> None:
    event = await bench.put()
    await bench.worker.handle(event)

    assert await bench.worker.handle(REMOVAL) == "stale", "it is there"
    await bench.store.delete("a.png")
    assert await bench.worker.handle(REMOVAL) == "removed"

    assert (bench.page.status, bench.page.lines, bench.lines.objects) == ("removed", (), {})
    assert await bench.worker.handle(event) == "stale"
    assert bench.store.reads == 1


@pytest.mark.parametrize(
    ("key", "content", "reads", "code"),
    [
        ("a.png", PAGE, 1, "no_lines"),
        ("a.png", PAGE[:200], 1, "not_an_image"),
        ("a.pdf", b"%PDF-1.4", 1, "unreadable_document"),
        ("a.png", bytes(MAX_BYTES + 1), 0, "image_too_large"),
        ("/".join(["é" * 60] * 3), PAGE, 1, "key_too_long"),
    ],
)
async def test_refused_page_has_its_reason(
    bench: Bench, key: str, content: bytes, reads: int, code: str
) -> None:
    bench.detector.quads = ()

    assert await bench.worker.handle(await bench.put(content, key)) == "rejected"

    page = bench.pages.stored[f"pages/{key}"]
    assert page.error is not None
    assert (page.status, page.error.code, bench.store.reads) == ("rejected", code, reads)


async def test_page_deleted_before_it_is_read_has_no_document(bench: Bench) -> None:
    event = await bench.put()
    bench.store.objects.clear()

    assert await bench.worker.handle(event) == "gone"

    assert bench.pages.stored == {}


async def test_forgotten_page_is_deleted_undecoded(bench: Bench) -> None:
    bench.forgotten.found = [{"_id": f"image:{sha256(b'no image')}"}]

    assert await bench.worker.handle(await bench.put(b"no image")) == "forgotten"

    assert (bench.store.objects, bench.pages.stored) == ({}, {})


async def test_page_waits_unread_while_many_images_do(bench: Bench) -> None:
    bench.queued = MAX_WAITING

    with pytest.raises(PostponedError):
        await bench.worker.handle(await bench.put())

    assert (bench.store.reads, bench.pages.stored) == (0, {})


async def test_page_turned_meanwhile_is_retried(bench: Bench) -> None:
    await bench.worker.handle(await bench.put())
    bench.detector.version = "2"
    bench.pages.meanwhile = lambda page: page.having(turn=180)

    with pytest.raises(TransientError):
        await bench.worker.handle(await bench.put())

    assert [line.quad for line in bench.page.lines] == [TOP]


async def test_event_of_another_bucket_is_refused(bench: Bench) -> None:
    event = await bench.put()
    bench.store.bucket = "other"

    with pytest.raises(ForeignEventError):
        await bench.worker.handle(event)


async def test_folder_of_the_console_is_no_page(bench: Bench) -> None:
    assert await bench.worker.handle(await bench.put(b"", "scans/")) == "folder"

    assert bench.pages.stored == {}
