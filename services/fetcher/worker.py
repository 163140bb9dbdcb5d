"""What the fetcher does with one job, top to bottom."""

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from services.common.download.client import Download
from services.common.download.errors import (
    DownloadError,
    FailedDownloadError,
    RefusedDownloadError,
)
from services.common.errors import PermanentError, UnavailableError
from services.common.images import ImageFormat, sniff
from services.common.index import Document
from services.common.metadata import Provenance, to_metadata
from services.common.object_store import ObjectStore
from services.common.settlement import Delivery, is_worn_out
from services.fetcher.cancellations import Cancellations
from services.fetcher.ledger import CANCELLED, ItemOutcome, Ledger, Result

log = structlog.stdlib.get_logger(__name__)

HASHED_IN_PLACE_BYTES = 1024 * 1024
"""A larger body is hashed in a thread: it would hold up every other download."""

_BUG = Result(
    ItemOutcome.FAILED,
    "internal_error",
    "an error in this service; it has been logged",
    is_transient=True,
)
_GAVE_UP = Result(
    ItemOutcome.FAILED,
    "gave_up",
    "a server of this pipeline refused the work again and again, for more than half an hour",
    is_transient=True,
)


class InvalidJobError(PermanentError):
    """The message names no item of a batch."""

    code = "invalid_job"


class Source(Protocol):
    """Where images come from."""

    async def get(self, url: str) -> Download:
        """Return the content of a URL."""
        ...


@dataclass(frozen=True)
class Image:
    """A download that is an image."""

    content: bytes
    format: ImageFormat
    sha256: str
    http_status: int

    @property
    def key(self) -> str:
        """Where it is stored: by its content, so a repeat writes the same object."""
        return f"fetched/{self.sha256[:2]}/{self.sha256}.{self.format.extension}"


def to_job(item_id: str) -> bytes:
    """Write the message that asks for an item to be fetched."""
    return json.dumps({"fetch_id": item_id}).encode()


class Worker:
    """Turns queued items into objects, and records what became of them.

    Args:
        source: Downloads.
        store: The bucket that images go to.
        ledger: The items.
        cancellations: Which batches were called off.
        max_attempts: For failures that may pass; the message's own queues may set a lower limit.
    """

    def __init__(
        self,
        *,
        source: Source,
        store: ObjectStore,
        ledger: Ledger,
        cancellations: Cancellations,
        max_attempts: int,
    ) -> None:
        self._source = source
        self._store = store
        self._ledger = ledger
        self._cancellations = cancellations
        self._max_attempts = max_attempts

    async def handle(self, delivery: Delivery) -> str:
        """Fetch one item and return its code; an item that is done already is left alone.

        Raises:
            InvalidJobError: The message names no item.
            FailedDownloadError: Another attempt may help, and there is one.
            DocumentRefusedError: What became of the item cannot be written down.
            UnavailableError: A server of ours is missing, and the job may be returned once more.
        """
        item = await self._ledger.find(_item_id(delivery.body))
        if item is None:
            raise InvalidJobError("no such item")
        if item["outcome"] != ItemOutcome.QUEUED:
            return "done_already"
        if await self._cancellations.is_cancelled(item["batch_id"]):
            await self._ledger.finish(item["_id"], CANCELLED, attempts=0)
            return CANCELLED.code
        try:
            return await self._finish(item, delivery)
        except UnavailableError:
            if is_worn_out(delivery):  # the message is about to be parked
                await self._ledger.finish(item["_id"], _GAVE_UP)
            raise
        except FailedDownloadError:
            raise
        except Exception:
            # the message goes to the parking queue as evidence; the batch must end all the same
            await self._ledger.finish(item["_id"], _BUG)
            raise

    async def _finish(self, item: Document, delivery: Delivery) -> str:
        result = await self._attempt(item, delivery, time.perf_counter())
        is_first = await self._ledger.finish(item["_id"], result)
        log.info(
            "fetched" if result.outcome != ItemOutcome.FAILED else "not fetched",
            fetch_id=item["_id"],
            code=result.code,
            attempt=delivery.attempt,
        )
        return result.code if is_first else "done_already"

    async def _attempt(self, item: Document, delivery: Delivery, started: float) -> Result:
        try:
            image = await self._image(item["url"])
            return await self._keep(item, image, time.perf_counter() - started)
        except RefusedDownloadError as error:
            return _failed(error, started)
        except FailedDownloadError as error:
            if self._is_last(delivery, error):
                return _failed(error, started)
            await self._ledger.note_attempt(item["_id"], code=error.code, detail=error.detail)
            raise

    def _is_last(self, delivery: Delivery, error: FailedDownloadError) -> bool:
        most = min(self._max_attempts, error.most_attempts)
        return delivery.is_last_attempt or delivery.attempt >= most

    async def _image(self, url: str) -> Image:
        download = await self._source.get(url)
        found = sniff(download.content)
        if found is None:
            raise RefusedDownloadError(
                "not_an_image", _describe(download), http_status=download.http_status
            )
        if len(download.content) > HASHED_IN_PLACE_BYTES:
            digest = await asyncio.to_thread(hashlib.sha256, download.content)
        else:
            digest = hashlib.sha256(download.content)
        return Image(download.content, found, digest.hexdigest(), download.http_status)

    async def _keep(self, item: Document, image: Image, duration_seconds: float) -> Result:
        """Store an image unless the same URL brought it here before, and say which it was."""
        outcome = ItemOutcome.STORED
        if await self._is_unchanged(item, image.key):
            outcome = ItemOutcome.UNCHANGED
        elif await self._cancellations.is_cancelled(item["batch_id"]):
            return CANCELLED
        else:
            provenance = Provenance(
                source_url=item["url"],
                batch_id=item["batch_id"],
                annotation=item["annotation"],
                fetched_at=datetime.now(tz=UTC),
                fetch_id=item["_id"],
            )
            await self._store.write(
                image.key,
                image.content,
                content_type=image.format.content_type,
                metadata=to_metadata(provenance),
            )
        return Result(
            outcome,
            code=outcome.value,
            http_status=image.http_status,
            size_bytes=len(image.content),
            duration_seconds=duration_seconds,
            sha256=image.sha256,
            key=image.key,
        )

    async def _is_unchanged(self, item: Document, key: str) -> bool:
        earlier = await self._ledger.last_success(item["url"])
        if earlier is None or earlier["key"] != key:
            return False
        # a list without annotations says nothing of them: it must not erase the one that is there
        if item["annotation"] not in {None, earlier["annotation"]}:
            return False
        return await self._store.head(key) is not None


def _item_id(body: bytes) -> str:
    try:
        item_id = json.loads(body)["fetch_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidJobError(f"not a job: {error!r}"[:200]) from error
    if not isinstance(item_id, str):
        raise InvalidJobError("fetch_id is not text")
    return item_id


def _failed(error: DownloadError, started: float) -> Result:
    return Result(
        ItemOutcome.FAILED,
        error.code,
        error.detail,
        is_transient=isinstance(error, FailedDownloadError),
        http_status=error.http_status,
        duration_seconds=time.perf_counter() - started,
    )


def _describe(download: Download) -> str:
    start = download.content[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        found = "an HTML page"
    elif start.startswith((b"<?xml", b"<svg")):
        found = "an XML or SVG document"
    elif start.startswith((b"{", b"[")):
        found = "a JSON document"
    elif start.startswith(b"%pdf"):
        found = "a PDF document"
    else:
        found = "no image that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF)"
    claimed = (download.content_type or "nothing")[:100]
    return f"the content is {found}; the host calls it {claimed}"
