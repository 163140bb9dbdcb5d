"""The fetcher's worker, with a source, a store and items of the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from typing_extensions import override

from services.common.adapters import mongo
from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.retry_policy import (
    ATTEMPT_HEADER,
    COPIES_HEADER,
    DELIVERY_COUNT_HEADER,
    FETCH_QUEUES,
    MOST_COPIES,
    MOST_RETURNS,
    POSTPONED_HEADER,
    RETURNED_OFTEN,
    DeliveryOutcome,
    decide_retry,
    to_delivery,
)
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.errors import ObjectStoreUnavailableError, PipelineError
from services.common.domain.objects import ObjectInfo
from services.common.download.client import Download
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.responses import NotModifiedError, Validators
from services.fetcher.batches.item_repository import ItemRepository, ItemResult
from services.fetcher.batches.repository import BatchRepository, Cancellations
from services.fetcher.images import ImageWriter
from services.fetcher.jobs import FetchJob
from services.fetcher.politeness.host import HostState
from services.fetcher.politeness.scheduler import SlotLimits
from services.fetcher.sources.spool import NoSpaceError
from services.fetcher.worker import MOST_POSTPONED, Worker
from tests.support.hosts import MemoryRepository, make_scheduler
from tests.support.images import png_header

JOB = FetchJob("b/0000000001", "b", "http://x.test/a.png")
AGAIN = replace(JOB, fetch_id="c/0000000001", batch_id="c")
FOUND = Download(png_header(3, 2), 200, "image/png", etag='"1"')
NOT_MODIFIED = NotModifiedError(304, Validators('"1"'))
BUSY = FailedDownloadError("http_server_error", "the host answered 500", http_status=500)
DOWN = ObjectStoreUnavailableError("down")
NO_HEADERS: Mapping[str, Any] = {}
EXHAUSTED = {DELIVERY_COUNT_HEADER: MOST_RETURNS, COPIES_HEADER: MOST_COPIES}


async def at_once() -> None:
    pass


class Web:
    """Answers each request with ``answer``, after ``meanwhile``."""

    def __init__(self) -> None:
        self.answer: Download | Exception = FOUND
        self.meanwhile: Callable[[], Awaitable[None]] = at_once
        self.conditions: list[Validators | None] = []

    async def get(
        self, url: str, *, validators: Validators | None = None, max_bytes: int | None = None
    ) -> Download:
        assert (url, max_bytes) == (JOB.url, None)
        self.conditions.append(validators)
        await self.meanwhile()
        if isinstance(self.answer, NotModifiedError) and validators is None:
            return FOUND
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Store:
    """A bucket in memory, of which the metadata tell the batches."""

    bucket = "raw"

    def __init__(self) -> None:
        self.objects: dict[str, ObjectInfo] = {}
        self.writes: list[str] = []
        self.error: Exception | None = None

    @property
    def batches(self) -> list[str]:
        return [each.metadata["batch-id"] for each in self.objects.values()]

    async def head(self, key: str) -> ObjectInfo | None:
        return self.objects.get(key)

    async def write(
        self, key: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> str:
        if self.error is not None:
            raise self.error
        self.writes.append(key)
        at = datetime.now(tz=UTC)
        self.objects[key] = ObjectInfo(key, "e", len(content), at, content_type, metadata)
        return "e"

    async def write_metadata(self, info: ObjectInfo, metadata: Mapping[str, str]) -> bool:
        self.objects[info.key] = replace(info, metadata=metadata)
        return True


class Items(ItemRepository):
    """Items in memory."""

    def __init__(self) -> None:
        super().__init__(cast("mongo.Collection", None))
        self.stored: dict[str, BatchItem] = {}

    def _change(self, job: FetchJob, attempts: int, **fields: Any) -> bool:
        known = {"_id": job.fetch_id, "batch_id": job.batch_id, "url": job.url}
        before = self.stored.get(job.fetch_id)
        before = before or BatchItem.model_validate(known | {"outcome": "queued"})
        if not before.is_queued:
            return False
        self.stored[before.id] = before.having(**fields, attempts=before.attempts + attempts)
        return True

    @override
    async def find(self, item_id: str) -> BatchItem | None:
        return self.stored.get(item_id)

    @override
    async def last_success(self, url: str) -> BatchItem | None:
        kept = {ItemOutcome.STORED, ItemOutcome.UNCHANGED}
        found = [each for each in self.stored.values() if each.url == url and each.outcome in kept]
        return found[-1] if found else None

    @override
    async def finish(self, job: FetchJob, result: ItemResult, *, attempts: int = 1) -> bool:
        return self._change(job, attempts, **result.to_fields())

    @override
    async def note_attempt(
        self, job: FetchJob, *, code: str, detail: str, attempts: int = 1
    ) -> None:
        self._change(job, attempts, code=code, detail=detail)


class Batches:
    """Of which some are cancelled."""

    def __init__(self) -> None:
        self.called_off: set[str] = set()

    async def cancelled(self, batch_ids: Collection[str]) -> set[str]:
        return self.called_off & set(batch_ids)


class Nothing:
    """A collection without documents."""

    async def find(self, *_: object) -> AsyncIterator[mongo.Document]:
        for each in list[mongo.Document]():
            yield each


class Bench:
    """A worker and its surroundings."""

    def __init__(self) -> None:
        self.web, self.store, self.items, self.batches = Web(), Store(), Items(), Batches()
        self.hosts = MemoryRepository()
        self.cancellations = Cancellations(cast("BatchRepository", self.batches))
        store = cast("ObjectStore", self.store)
        forgotten = Forgotten(cast("mongo.Collection", Nothing()))
        self.worker = Worker(
            source=self.web,
            scheduler=make_scheduler(SlotLimits(1, 1), self.hosts),
            writer=ImageWriter(store, store, self.items, forgotten, redact=str),
            items=self.items,
            cancellations=self.cancellations,
            max_attempts=3,
            max_page_bytes=1000,
        )

    async def settle(
        self, job: FetchJob = JOB, headers: Mapping[str, Any] = NO_HEADERS
    ) -> tuple[DeliveryOutcome, str]:
        """Handle a delivery; return how the consumer settles it."""
        delivery = to_delivery(job.body(), headers, FETCH_QUEUES)
        try:
            return DeliveryOutcome.ACKED, await self.worker.handle(delivery)
        except (PipelineError, RuntimeError) as error:
            disposition = decide_retry(error, delivery, FETCH_QUEUES)
        return disposition.outcome, disposition.code

    def item(self, job: FetchJob = JOB) -> tuple[str, str | None, int]:
        """Return outcome, code and attempts of the item of a job."""
        item = self.items.stored[job.fetch_id]
        return item.outcome.value, item.code, item.attempts


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_image_is_stored_and_its_item_says_where(bench: Bench) -> None:
    assert await bench.settle() == (DeliveryOutcome.ACKED, "stored")

    item = bench.items.stored[JOB.fetch_id]
    assert bench.item() == ("stored", "stored", 1)
    assert [item.key] == bench.store.writes
    assert (item.http_status, item.size_bytes) == (200, len(FOUND.content))
    assert bench.store.batches == ["b"]


async def test_finished_item_is_not_fetched_again(bench: Bench) -> None:
    await bench.settle()

    assert await bench.settle() == (DeliveryOutcome.ACKED, "done_already")
    assert await bench.settle(headers={DELIVERY_COUNT_HEADER: 1}) == (
        DeliveryOutcome.ACKED,
        "done_already",
    )

    assert (len(bench.web.conditions), bench.item()) == (1, ("stored", "stored", 1))


async def test_same_bytes_are_unchanged_and_of_both_batches(bench: Bench) -> None:
    await bench.settle()

    assert await bench.settle(AGAIN) == (DeliveryOutcome.ACKED, "unchanged")

    assert bench.item(AGAIN) == ("unchanged", "unchanged", 1)
    assert (len(bench.store.writes), bench.store.batches) == (1, ["c"])


async def test_same_bytes_with_another_text_are_stored_again(bench: Bench) -> None:
    await bench.settle()

    assert await bench.settle(replace(AGAIN, annotation="text")) == (
        DeliveryOutcome.ACKED,
        "stored",
    )

    assert (len(bench.store.writes), bench.store.batches) == (2, ["c"])


@pytest.mark.parametrize(("is_lost", "code"), [(False, "unchanged"), (True, "stored")])
async def test_not_modified_means_unchanged_unless_it_is_lost(
    bench: Bench, *, is_lost: bool, code: str
) -> None:
    await bench.settle()
    bench.web.answer = NOT_MODIFIED
    if is_lost:
        bench.store.objects.clear()

    assert await bench.settle(AGAIN) == (DeliveryOutcome.ACKED, code)

    asked = [None, FOUND.validators, *([None] if is_lost else [])]
    assert (bench.web.conditions, bench.store.batches) == (asked, ["c"])
    first, again = (bench.items.stored[each.fetch_id] for each in (JOB, AGAIN))
    assert (again.key, again.size_bytes) == (first.key, len(FOUND.content))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (RefusedDownloadError("not_found", "the host answered 404", http_status=404), "not_found"),
        (Download(b"<html>", 200, "image/png"), "not_an_image"),
    ],
)
async def test_refused_item_fails_for_good(
    bench: Bench, answer: Download | Exception, code: str
) -> None:
    bench.web.answer = answer

    assert await bench.settle() == (DeliveryOutcome.ACKED, code)

    assert bench.item() == ("failed", code, 1)
    assert not bench.items.stored[JOB.fetch_id].is_transient


async def test_transient_failure_is_retried_until_the_last_attempt(bench: Bench) -> None:
    bench.web.answer = BUSY

    for attempt in (1, 2):
        settled = await bench.settle(headers={ATTEMPT_HEADER: attempt})
        assert settled == (DeliveryOutcome.RETRIED, BUSY.code)
        assert bench.item() == ("queued", BUSY.code, attempt)
    assert await bench.settle(headers={ATTEMPT_HEADER: 3}) == (DeliveryOutcome.ACKED, BUSY.code)

    assert bench.item() == ("failed", BUSY.code, 3)
    assert bench.items.stored[JOB.fetch_id].is_transient


async def test_failure_of_its_own_limit_is_not_retried_beyond_it(bench: Bench) -> None:
    bench.web.answer = FailedDownloadError("timeout", "no answer", most_attempts=1)

    assert await bench.settle() == (DeliveryOutcome.ACKED, "timeout")

    assert bench.item() == ("failed", "timeout", 1)


async def test_item_of_a_paused_host_is_postponed_untouched(bench: Bench) -> None:
    bench.hosts.stored[JOB.host] = HostState(pause_seconds=100)

    assert await bench.settle() == (DeliveryOutcome.POSTPONED, "postponed")

    assert (bench.web.conditions, bench.items.stored) == ([], {})


async def test_cancelled_item_is_not_fetched_and_waits_for_no_host(bench: Bench) -> None:
    bench.hosts.stored[JOB.host] = HostState(pause_seconds=100)
    bench.batches.called_off = {"b"}

    assert await bench.settle() == (DeliveryOutcome.ACKED, "cancelled")

    assert (bench.web.conditions, bench.item()) == ([], ("cancelled", "cancelled", 0))


async def test_download_in_progress_ends_with_its_batch(bench: Bench) -> None:
    stop = asyncio.Event()

    async def cancel_and_hang() -> None:
        bench.batches.called_off = {"b"}
        await asyncio.Event().wait()

    bench.web.meanwhile = cancel_and_hang
    interrupting = asyncio.create_task(bench.cancellations.run(stop))
    assert await bench.settle() == (DeliveryOutcome.ACKED, "cancelled")
    stop.set()
    await interrupting

    assert (bench.store.writes, bench.item()) == ([], ("cancelled", "cancelled", 0))


@pytest.mark.parametrize("attempt", [1, 3])
async def test_item_waits_for_room_on_the_disk_but_not_for_ever(bench: Bench, attempt: int) -> None:
    bench.web.answer = NoSpaceError("full")
    headers = {ATTEMPT_HEADER: attempt}

    for postponed in (0, MOST_POSTPONED - 1):
        settled = await bench.settle(headers=headers | {POSTPONED_HEADER: postponed})
        assert settled == (DeliveryOutcome.POSTPONED, "postponed")
        assert bench.item() == ("queued", "no_space", 0)
    settled = await bench.settle(headers=headers | {POSTPONED_HEADER: MOST_POSTPONED})

    is_last = attempt == 3
    assert settled == (DeliveryOutcome.ACKED if is_last else DeliveryOutcome.RETRIED, "no_space")
    assert bench.item() == ("failed" if is_last else "queued", "no_space", 1)


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, DOWN.code), (EXHAUSTED | {COPIES_HEADER: MOST_COPIES - 1}, RETURNED_OFTEN)],
)
async def test_item_waits_for_a_server_that_is_down(
    bench: Bench, headers: Mapping[str, Any], code: str
) -> None:
    bench.store.error = DOWN

    assert await bench.settle(headers=headers) == (DeliveryOutcome.RETURNED, code)

    assert bench.items.stored == {}


async def test_item_is_given_up_when_its_message_is_parked(bench: Bench) -> None:
    bench.store.error = DOWN

    assert await bench.settle(headers=EXHAUSTED) == (DeliveryOutcome.PARKED, DOWN.code)

    assert bench.item() == ("failed", "gave_up", 1)
    assert bench.items.stored[JOB.fetch_id].is_transient


async def test_bug_ends_its_item_and_parks_its_message(bench: Bench) -> None:
    bench.web.answer = RuntimeError("a bug")

    assert await bench.settle() == (DeliveryOutcome.PARKED, "bug")

    assert bench.item() == ("failed", "internal_error", 1)
    assert bench.items.stored[JOB.fetch_id].is_transient
    assert await bench.settle(headers={DELIVERY_COUNT_HEADER: 1}) == (
        DeliveryOutcome.ACKED,
        "done_already",
    )
