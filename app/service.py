"""Process a request, from the received bytes to the prediction."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

import structlog

from app.collect import Collector
from app.errors import (
    INTERNAL_ERROR,
    BusyError,
    InvalidRequestError,
    OverloadedError,
    RefusedError,
    SourceFailedError,
    SourceRefusedError,
)
from app.metrics import OcrMetrics
from app.predictor import Predictor
from app.schemas import Failure, Prediction, Predictions, Problem, UrlRequest
from app.uploads import Hold, check_size
from services.common.domain.provenance import MAX_COLLECTION_LENGTH, Provenance, to_metadata
from services.common.domain.redaction import Redactor
from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError, to_url

log = structlog.stdlib.get_logger(__name__)

DOWNLOADS = 4
"""Concurrent downloads by URL; their bytes are counted only when complete."""
CONNECTIONS = 2 * DOWNLOADS
"""One for the image and one for robots.txt, each."""


class OcrService:
    """Reads uploaded images, and images by URL."""

    def __init__(
        self,
        predictor: Predictor,
        metrics: OcrMetrics,
        *,
        downloads: DownloadSettings,
        max_image_bytes: int,
        collector: Collector | None = None,
    ) -> None:
        self.predictor = predictor
        self._metrics = metrics
        self._downloads = downloads
        self._max_image_bytes = max_image_bytes
        self._collector = collector
        self._redactor = Redactor(downloads.redact_query)
        self._downloader: Downloader | None = None
        self._places = asyncio.Semaphore(DOWNLOADS)

    @asynccontextmanager
    async def running(self, *, wait_for_model: bool = False) -> AsyncIterator[None]:
        """Serve during an ``async with`` block.

        Args:
            wait_for_model: Enter the block only when the model is loaded or failed to load.
        """
        async with (
            open_downloader(
                self._downloads, connections=CONNECTIONS, metrics=self._metrics.downloads
            ) as self._downloader,
            self._collecting(),
            self.predictor.running(wait_for_model=wait_for_model),
        ):
            yield

    def provenance(self, fields: Mapping[str, str]) -> Provenance:
        """Return the provenance of a request's image.

        Args:
            fields: ``source_url``, ``annotation`` and ``collection``, all optional.

        Raises:
            InvalidRequestError: Not a URL, or too long for object metadata.
        """
        source_url, annotation, collection = (
            fields.get(name) or None for name in ("source_url", "annotation", "collection")
        )
        if collection is not None and len(collection) > MAX_COLLECTION_LENGTH:
            detail = f"collection: more than {MAX_COLLECTION_LENGTH} characters"
            raise InvalidRequestError(detail)
        try:
            url = self._redactor.redact(str(to_url(source_url))) if source_url else None
        except UnacceptableUrlError as error:
            raise InvalidRequestError(f"source_url: {error.detail}") from error
        now = datetime.now(UTC)
        origin = Provenance(url, annotation=annotation, fetched_at=now, collection=collection)
        if self._collector is not None and not _fits(origin):
            detail = "source_url, annotation and collection are too long to be stored"
            raise InvalidRequestError(detail)
        return origin

    async def predict(self, content: bytes, origin: Provenance | None) -> Prediction:
        """Read an image.

        Args:
            content: The file.
            origin: Its provenance; None: do not collect it.

        Raises:
            RefusedError: A retry can't succeed.
            BusyError: A retry may succeed.
        """
        check_size(content, self._max_image_bytes)
        if self._collector is None or origin is None:
            return await self.predictor.predict(content)
        keep = partial(self._collector.offer, content, origin)
        return await self.predictor.predict(content, when_measured=keep)

    async def predict_url(self, asked: UrlRequest, hold: Hold, *, may_collect: bool) -> Prediction:
        """Download an image under the fetcher's rules, and read it.

        Args:
            asked: Its address.
            hold: Counts its bytes.
            may_collect: Whether it may be collected.

        Raises:
            RefusedError: A retry can't succeed.
            BusyError: A retry may succeed.
        """
        try:
            known = {"source_url": str(to_url(asked.url)), **asked.known}
        except UnacceptableUrlError as error:
            raise SourceRefusedError(error) from error
        origin = self.provenance(known) if may_collect else None
        content = await self._download(asked.url)
        hold(len(content))
        return await self.predict(content, origin)

    async def predict_all(self, files: list[bytes], origin: Provenance | None) -> Predictions:
        """Read images concurrently; return a prediction or an error for each.

        Args:
            files: At least one.
            origin: Their provenance; None: do not collect them.
        """
        places = asyncio.Semaphore(self.predictor.places)

        async def read(content: bytes) -> Prediction | Failure:
            async with places:
                return await self._predict_item(content, origin)

        return Predictions(items=await asyncio.gather(*(read(each) for each in files)))

    async def _download(self, url: str) -> bytes:
        assert self._downloader is not None  # noqa: S101  opened by running()
        if self._places.locked():
            raise OverloadedError("too many concurrent URL downloads; retry later")
        async with self._places:
            try:
                return (await self._downloader.get(url, max_bytes=self._max_image_bytes)).content
            except RefusedDownloadError as error:
                raise SourceRefusedError(error) from error
            except FailedDownloadError as error:
                raise SourceFailedError(error) from error

    async def _predict_item(
        self, content: bytes, origin: Provenance | None
    ) -> Prediction | Failure:
        try:
            return await self.predict(content, origin)
        except (RefusedError, BusyError) as error:
            self._metrics.count_rejection(error.code)
            return _failure(error.status, error.code, str(error))
        except Exception:
            log.exception("image of a batch failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return _failure(status, INTERNAL_ERROR, "an error in this service; it has been logged")

    @asynccontextmanager
    async def _collecting(self) -> AsyncIterator[None]:
        async with self._collector.running() if self._collector else nullcontext():
            yield


def _fits(origin: Provenance) -> bool:
    """Whether a provenance fits into the object's metadata."""
    known = {
        "source-url": origin.source_url,
        "annotation": origin.annotation,
        "collection": origin.collection,
    }
    return {name for name, value in known.items() if value is not None} <= to_metadata(
        origin
    ).keys()


def _failure(status: HTTPStatus, code: str, detail: str) -> Failure:
    return Failure(error=Problem(title=status.phrase, status=status, code=code, detail=detail))
