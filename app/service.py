"""The story of a request, from the bytes that were received to the answer."""

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
from services.common.domain.provenance import Provenance, to_metadata
from services.common.domain.redaction import Redactor
from services.common.download.client import Downloader, open_downloader
from services.common.download.errors import FailedDownloadError, RefusedDownloadError
from services.common.download.settings import DownloadSettings
from services.common.download.urls import UnacceptableUrlError, to_url

log = structlog.stdlib.get_logger(__name__)

DOWNLOADS = 4
"""At once, for requests with a URL; their bytes are held only once they are all there."""
CONNECTIONS = 2 * DOWNLOADS
"""Each may ask for a robots.txt besides."""


class OcrService:
    """Reads images that were sent, or whose URL was.

    Args:
        predictor: Reads them.
        metrics: Counts downloads, and the errors of batches' items.
        downloads: What a download may reach.
        max_image_bytes: Largest file.
        collector: Keeps them; None: nothing is kept.
    """

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
        """Serve for the length of an ``async with`` block.

        Args:
            wait_for_model: Whether the block begins when the model is loaded, or failed to load.
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
        """Return what a request says of its image.

        Args:
            fields: ``source_url`` and ``annotation``, each where it is known.

        Raises:
            InvalidRequestError: It is not a URL, or they are too long to be kept.
        """
        source_url, annotation = fields.get("source_url"), fields.get("annotation")
        try:
            url = self._redactor.redact(str(to_url(source_url))) if source_url else None
        except UnacceptableUrlError as error:
            raise InvalidRequestError(f"source_url: {error.detail}") from error
        origin = Provenance(url, annotation=annotation or None, fetched_at=datetime.now(UTC))
        if self._collector is not None and not _fits(origin):
            raise InvalidRequestError("source_url and annotation are too long to be kept")
        return origin

    async def predict(self, content: bytes, origin: Provenance | None) -> Prediction:
        """Read an image.

        Args:
            content: The file.
            origin: What is known of it; None: it is not to be collected.

        Raises:
            RefusedError: It can never be read.
            BusyError: It can't be read now.
        """
        check_size(content, self._max_image_bytes)
        if self._collector is None or origin is None:
            return await self.predictor.predict(content)
        keep = partial(self._collector.offer, content, origin)
        return await self.predictor.predict(content, when_measured=keep)

    async def predict_url(self, asked: UrlRequest, hold: Hold, *, may_collect: bool) -> Prediction:
        """Fetch an image under the fetcher's rules, and read it.

        Args:
            asked: Its address.
            hold: Counts its bytes.
            may_collect: Whether it may be kept.

        Raises:
            RefusedError: It can never be fetched or read.
            BusyError: It can't be fetched or read now.
        """
        try:
            known = {"source_url": str(to_url(asked.url)), "annotation": asked.annotation or ""}
        except UnacceptableUrlError as error:
            raise SourceRefusedError(error) from error
        origin = self.provenance(known) if may_collect else None
        content = await self._download(asked.url)
        hold(len(content))
        return await self.predict(content, origin)

    async def predict_all(self, files: list[bytes], origin: Provenance | None) -> Predictions:
        """Read images, as many at once as the engine can; each has its own prediction or error.

        Args:
            files: At least one.
            origin: When they came; None: they are not to be collected.
        """
        places = asyncio.Semaphore(self.predictor.places)

        async def read(content: bytes) -> Prediction | Failure:
            async with places:
                return await self._predict_item(content, origin)

        return Predictions(items=await asyncio.gather(*(read(each) for each in files)))

    async def _download(self, url: str) -> bytes:
        assert self._downloader is not None  # noqa: S101  opened by running()
        if self._places.locked():
            raise OverloadedError("as many images are fetched as may be; try again shortly")
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
            log.exception("an image of a batch failed")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            return _failure(status, INTERNAL_ERROR, "an error in this service; it has been logged")

    @asynccontextmanager
    async def _collecting(self) -> AsyncIterator[None]:
        async with self._collector.running() if self._collector else nullcontext():
            yield


def _fits(origin: Provenance) -> bool:
    """Whether all that is known of an image fits into its metadata."""
    known = {"source-url": origin.source_url, "annotation": origin.annotation}
    return {name for name, value in known.items() if value is not None} <= to_metadata(
        origin
    ).keys()


def _failure(status: HTTPStatus, code: str, detail: str) -> Failure:
    return Failure(error=Problem(title=status.phrase, status=status, code=code, detail=detail))
