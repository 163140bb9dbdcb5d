"""Validate downloads as images, and write them unless they exist or are forgotten."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.object_store import ObjectStore
from services.common.domain.batch_item import BatchItem
from services.common.domain.image import FORGOTTEN
from services.common.domain.image_formats import BY_EXTENSION, ImageFormat, sniff, sniff_page
from services.common.domain.keys import fetched_key
from services.common.domain.page import GroundTruth, PageOfLine, transcript_to_metadata
from services.common.domain.provenance import FETCH_ID, Provenance, to_metadata
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.download.responses import Validators
from services.fetcher.batches.item_repository import ItemRepository
from services.fetcher.jobs import FetchJob
from services.fetcher.sources.addresses import is_submitted, split_line, split_member
from services.fetcher.sources.archives.cut_pages import LineDownload, PageFile
from services.fetcher.sources.archives.cutting import CutLine

HASHED_IN_PLACE_BYTES = 1024 * 1024
"""Larger bodies are hashed in a thread, so as not to block the event loop."""

MAX_OTHER_BYTES = 32 * 1024 * 1024
"""By which a line may be larger than another version cuts it."""
_FORGOTTEN_URL = "this URL is forgotten; `docreco forget URL --allow-again` allows it again"
_FORGOTTEN_IMAGE = (
    "this image is forgotten, from any URL; `docreco forget KEY --allow-again` allows it again"
)


@dataclass(frozen=True)
class FetchedImage:
    """A download that is an image."""

    content: bytes
    format: ImageFormat
    sha256: str
    http_status: int
    validators: Validators | None = None
    line: CutLine | None = None
    """Its page and position; None: it is not a line of a page."""
    page_file: PageFile | None = None
    """Of the page of a line."""

    @property
    def page(self) -> PageOfLine | None:
        """Of a line: where it was cut out."""
        return self.line.page if self.line else None

    @property
    def key(self) -> str:
        """Object key by content, so a repeated write is idempotent.

        A line of a page has a key by its place there, whatever its bytes.
        """
        if self.line is not None:
            return self.line.key
        return fetched_key(self.sha256, self.format.extension)


async def to_image(download: Download, *, is_page: bool = False) -> FetchedImage:
    """Return a download as an image, detected by content.

    Args:
        download: The content.
        is_page: Whether it may be a PDF, too.

    Raises:
        RefusedDownloadError: It is not an image.
    """
    found = (sniff_page if is_page else sniff)(download.content)
    if found is None:
        raise RefusedDownloadError(
            "not_an_image", _describe(download), http_status=download.http_status
        )
    if len(download.content) > HASHED_IN_PLACE_BYTES:
        digest = await asyncio.to_thread(hashlib.sha256, download.content)
    else:
        digest = hashlib.sha256(download.content)
    of_line = (download.line, download.page) if isinstance(download, LineDownload) else ()
    return FetchedImage(
        download.content,
        found,
        digest.hexdigest(),
        download.http_status,
        download.validators,
        *of_line,
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
        found = "a PDF document, which has to be submitted as pages (--pages)"
    else:
        found = "no supported image (PNG, JPEG, WebP, TIFF, BMP, GIF)"
    claimed = (download.content_type or "nothing")[:100]
    return f"the content is {found}; declared as {claimed}"


@dataclass(frozen=True)
class ImageWriter:
    """Writes images and pages with their provenance."""

    store: ObjectStore
    pages: ObjectStore
    items: ItemRepository
    forgotten: Forgotten
    redact: Callable[[str], str]

    async def add_batch(
        self, job: FetchJob, earlier: BatchItem, page: PageOfLine | None = None
    ) -> bool:
        """Record another batch of an unchanged image; return False if the image is not stored.

        See docs/decisions/0040-batches-of-unchanged-images.md.
        """
        store = self._store_of(job)
        found = await store.head(earlier.key) if earlier.key else None
        if found is None or earlier.batch_id == job.batch_id:
            return found is not None
        # An event with the new source follows
        kept = {name: text for name, text in found.metadata.items() if name == "annotation"}
        return await store.write_metadata(found, await self._metadata(job, page, kept))

    async def as_stored(self, image: FetchedImage) -> FetchedImage:
        """Return a line of a page with its stored bytes.

        Another version of the cutter gives other bytes, for which the annotation would not be
        valid.
        """
        if image.line is None or await self.store.head(image.key) is None:
            return image
        stored = await self.store.read(image.key, max_bytes=len(image.content) + MAX_OTHER_BYTES)
        return replace(
            image, content=stored.content, sha256=hashlib.sha256(stored.content).hexdigest()
        )

    async def refuse_forgotten(self, job: FetchJob) -> None:
        """Raise RefusedDownloadError if a URL, or its redacted form, is forgotten."""
        for url in {job.url, self.redact(job.url)}:
            if await self.forgotten.has_url(url):
                raise RefusedDownloadError(FORGOTTEN, _FORGOTTEN_URL)

    async def write(self, job: FetchJob, image: FetchedImage) -> None:
        """Write an image, or a page.

        Raises:
            RefusedDownloadError: It, or its URL, is forgotten.
        """
        await self.refuse_forgotten(job)  # it may have been blocked meanwhile
        await self._refuse_forgotten_bytes(image.sha256)
        await self._store_of(job).write(
            image.key,
            image.content,
            content_type=image.format.content_type,
            metadata=await self._metadata(job, image.page),
        )

    async def keep_page(self, job: FetchJob, image: FetchedImage) -> None:
        """Store the page that a line was cut out of, once for all its lines.

        Its metadata names the transcription, so that the segmenter does not cut it again:
        docs/decisions/0039-transcribed-pages-are-kept.md.

        Raises:
            RefusedDownloadError: The page is forgotten.
        """
        line, page, of_page = image.line, image.page_file, split_line(job.url)
        if line is None or page is None or of_page is None:
            return
        await self._refuse_forgotten_bytes(line.page_sha256)
        key = line.page.id
        async with page.storing:
            if page.content is not None and await self.pages.head(key) is None:
                kind, sha256 = line.transcript_kind, page.transcript_sha256
                truth = GroundTruth(kind=kind, sha256=sha256, name=of_page.transcript)
                needed = transcript_to_metadata(truth)
                metadata = await self._metadata(_job_of_page(job), None, needed, item=job)
                content_type = BY_EXTENSION[key.rpartition(".")[2]].content_type
                await self.pages.write(
                    key, page.content, content_type=content_type, metadata=metadata
                )
            page.content = None

    def _store_of(self, job: FetchJob) -> ObjectStore:
        return self.pages if job.is_page else self.store

    async def _refuse_forgotten_bytes(self, sha256: str) -> None:
        if await self.forgotten.has_image(sha256):
            raise RefusedDownloadError(FORGOTTEN, _FORGOTTEN_IMAGE)

    async def _metadata(
        self,
        job: FetchJob,
        page: PageOfLine | None,
        needed: Mapping[str, str] | None = None,
        item: FetchJob | None = None,
    ) -> dict[str, str]:
        """Return an object's metadata, after storing what does not fit.

        Args:
            job: What is known of the object.
            page: Of a line.
            needed: Further metadata.
            item: The item of the batch; by default the job.
        """
        if page is not None:
            page = page.having(id=f"{self.pages.bucket}/{page.id}", group=job.details.group)
        provenance = Provenance(
            source_url=None if is_submitted(job.url) else self.redact(job.url),
            batch_id=job.batch_id,
            annotation=job.annotation,
            fetched_at=datetime.now(tz=UTC),
            fetch_id=job.fetch_id,
            kind=job.source_kind,
            collection=job.collection,
            name=job.name,
            details=job.details,
            by=job.by,
            page=page,
        )
        metadata = to_metadata(provenance, needed)
        if FETCH_ID in metadata:  # before the object, as its consumer reads it at once
            await self.items.queue([item or job])
            if provenance.page is not None:
                await self.items.note_page(job, provenance.page)
        return metadata


def _job_of_page(job: FetchJob) -> FetchJob:
    """Return the job that would store the page of a line."""
    page_url, _, _ = job.url.rpartition("?transcript=")
    details = replace(job.details, name=split_member(page_url)[1], is_page=True)
    details = replace(details, collection=None, metadata=None, how=None)  # of its line
    return replace(job, url=page_url, annotation=None, details=details)


def adds_nothing(job: FetchJob, earlier: BatchItem) -> bool:
    """Whether a job adds nothing except its batch: a list without a text must not erase one."""
    is_known = job.collection in {None, earlier.collection}
    has_details = job.details.completed_by(earlier.details) == earlier.details
    return is_known and has_details and job.annotation in {None, earlier.annotation}
