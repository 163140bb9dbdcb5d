"""Process one job of the fetcher."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from services.common.adapters.rabbitmq.retry_policy import Delivery
from services.common.domain.batch_item import BatchItem, ItemOutcome
from services.common.domain.errors import PostponedError, UnavailableError
from services.common.download.errors import DownloadError, FailedDownloadError, RefusedDownloadError
from services.common.download.responses import NotModifiedError, Validators
from services.fetcher.batches.item_repository import CANCELLED, ItemRepository, ItemResult
from services.fetcher.batches.repository import BatchCancelledError, Cancellations
from services.fetcher.images import FetchedImage, ImageWriter, adds_nothing, to_image
from services.fetcher.jobs import FetchJob, parse_job
from services.fetcher.metrics import DoneCode
from services.fetcher.politeness.scheduler import HostScheduler
from services.fetcher.politeness.source import ItemSource
from services.fetcher.sources.spool import NoSpaceError

log = structlog.stdlib.get_logger(__name__)


WRITES_AT_ONCE = 64
"""Concurrent writes to the store; each holds an image in memory."""
PAGES_AT_ONCE = 3
"""Concurrent downloads and writes of pages, which are in memory and may be large."""
MOST_POSTPONED = 20
NO_SPACE_SECONDS = 60.0
"""Delay, and number of delays, of an item while the spool is full; then it counts as an attempt."""

_BUG = ItemResult(
    ItemOutcome.FAILED,
    "internal_error",
    "an error in this service; it has been logged",
    is_transient=True,
)
_GAVE_UP = ItemResult(
    ItemOutcome.FAILED,
    "gave_up",
    "a server of this pipeline refused the work repeatedly, for more than half an hour",
    is_transient=True,
)


class Worker:
    """Downloads queued items, stores objects, and records outcomes.

    Args:
        source: Downloads.
        scheduler: Grants slots to hosts.
        writer: Stores images.
        items: Repository of items.
        cancellations: Detects cancelled batches.
        max_attempts: For transient failures; the queues may set a lower limit.
        max_page_bytes: Of a page; other images have the limit of the source.
    """

    def __init__(
        self,
        *,
        source: ItemSource,
        scheduler: HostScheduler,
        writer: ImageWriter,
        items: ItemRepository,
        cancellations: Cancellations,
        max_attempts: int,
        max_page_bytes: int,
    ) -> None:
        self._source = source
        self._scheduler = scheduler
        self._writer = writer
        self._items = items
        self._cancellations = cancellations
        self._max_attempts = max_attempts
        self._max_page_bytes = max_page_bytes
        self._writing = asyncio.Semaphore(WRITES_AT_ONCE)
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)

    async def handle(self, delivery: Delivery) -> str:
        """Download one item and return its code; finished items are skipped.

        Raises:
            InvalidJobError: The message is invalid.
            PostponedError: Its host has no slot soon, or the spool is full.
            FailedDownloadError: Transient failure, to be retried.
            DocumentRefusedError: MongoDB rejects the outcome.
            UnavailableError: A server does not answer; the job is requeued.
        """
        job = parse_job(delivery.body)
        job = replace(job, details=job.details.redacted(self._writer.redact))
        try:
            if not await self._cancellations.is_cancelled(job.batch_id):  # before further work
                await self._scheduler.delay_unless_due(job.host, due_in=delivery.due_in)
            if not delivery.is_fresh and not await self._is_queued(job):
                return "done_already"
            earlier = await self._items.last_success(job.url)
            if earlier is not None and not await self._is_news(job, earlier):
                return "done_already"
            return await self._finish(job, earlier, delivery)
        except UnavailableError as error:
            if delivery.is_last_for(error):
                await self._items.finish(job, _GAVE_UP)
            raise
        except (FailedDownloadError, PostponedError):
            raise
        except Exception:
            # the message is parked as evidence, but the batch must finish
            await self._items.finish(job, _BUG)
            raise

    async def _is_queued(self, job: FetchJob) -> bool:
        item = await self._items.find(job.fetch_id)
        return item is None or item.is_queued

    async def _is_news(self, job: FetchJob, earlier: BatchItem) -> bool:
        """Whether a job is not the copy of one whose work was done before another item's.

        A dispatcher that is killed before it writes its position publishes a page again. Such a
        duplicate looks new, and would replace a later annotation.
        """
        return earlier.id != job.fetch_id and await self._is_queued(job)

    async def _finish(self, job: FetchJob, earlier: BatchItem | None, delivery: Delivery) -> str:
        result, attempts = await self._attempt(job, earlier, delivery)
        is_first = await self._items.finish(job, result, attempts=attempts)
        is_failure = result.outcome is ItemOutcome.FAILED
        note = log.info if is_failure else log.debug  # ``fetches`` has the same, permanently
        note(
            "download failed" if is_failure else "fetched",
            fetch_id=job.fetch_id,
            code=result.code,
            attempt=delivery.attempt,
        )
        return result.code if is_first else "done_already"

    async def _attempt(
        self, job: FetchJob, earlier: BatchItem | None, delivery: Delivery
    ) -> tuple[ItemResult, int]:
        """Return the outcome of an item, and the number of attempts here."""
        started = time.perf_counter()
        try:
            if await self._cancellations.is_cancelled(job.batch_id):
                return CANCELLED, 0
            async with AsyncExitStack() as stack:
                with self._cancellations.watched(job.batch_id):
                    async with self._scheduler.slot(job.host):
                        delivery.begin()
                        started = time.perf_counter()
                        await self._writer.refuse_forgotten(job)
                        if job.is_page:
                            await stack.enter_async_context(self._pages)
                        image = await self._download(job, earlier)
                        # back-pressure: the slot is held while writes are slow
                        await stack.enter_async_context(self._writing)
                result = await self._keep(job, earlier, image)
            return replace(result, duration_seconds=time.perf_counter() - started), 1
        except BatchCancelledError:
            return CANCELLED, 0
        except RefusedDownloadError as error:
            return _failed(error, started), 1
        except FailedDownloadError as error:
            code, detail = error.code, error.detail
            if isinstance(error, NoSpaceError) and delivery.postponed < MOST_POSTPONED:
                await self._items.note_attempt(job, code=code, detail=detail, attempts=0)
                raise PostponedError(detail, seconds=NO_SPACE_SECONDS) from error
            if delivery.is_last_for(error, min(self._max_attempts, error.most_attempts)):
                return _failed(error, started), 1
            await self._items.note_attempt(job, code=code, detail=detail)
            raise

    async def _download(
        self, job: FetchJob, earlier: BatchItem | None
    ) -> FetchedImage | NotModifiedError:
        """Return an image, or that it is unchanged according to the host."""
        if earlier is not None and earlier.validators and adds_nothing(job, earlier):
            try:
                return await self._get(job, Validators(**earlier.validators))
            except NotModifiedError as answer:
                if await self._writer.add_batch(job, earlier):
                    return answer
        return await self._writer.as_stored(await self._get(job))

    async def _get(self, job: FetchJob, validators: Validators | None = None) -> FetchedImage:
        most = self._max_page_bytes if job.is_page else None
        download = await self._source.get(job.url, validators=validators, max_bytes=most)
        return await to_image(download, is_page=job.is_page)

    async def _keep(
        self, job: FetchJob, earlier: BatchItem | None, image: FetchedImage | NotModifiedError
    ) -> ItemResult:
        """Store an image unless it is unchanged; return the outcome."""
        if isinstance(image, NotModifiedError):
            return _not_modified(image, earlier)
        code: DoneCode = "stored"
        await self._writer.keep_page(job, image)
        is_same = earlier and earlier.key == image.key and adds_nothing(job, earlier)
        if earlier and is_same and await self._writer.add_batch(job, earlier, image.page):
            code = "unchanged"
        elif await self._cancellations.is_cancelled(job.batch_id):
            return CANCELLED
        else:
            await self._writer.write(job, image)
        return ItemResult(
            ItemOutcome(code),
            code=code,
            http_status=image.http_status,
            size_bytes=len(image.content),
            sha256=image.sha256,
            key=image.key,
            validators=image.validators,
        )


def _not_modified(answer: NotModifiedError, earlier: BatchItem | None) -> ItemResult:
    return ItemResult(
        ItemOutcome.UNCHANGED,
        code=ItemOutcome.UNCHANGED.value,
        http_status=answer.http_status,
        size_bytes=earlier.size_bytes if earlier else None,
        sha256=earlier.sha256 if earlier else None,
        key=earlier.key if earlier else None,
        validators=answer.validators,
    )


def _failed(error: DownloadError, started: float) -> ItemResult:
    return ItemResult(
        ItemOutcome.FAILED,
        error.code,
        error.detail,
        is_transient=isinstance(error, FailedDownloadError),
        http_status=error.http_status,
        duration_seconds=time.perf_counter() - started,
    )
