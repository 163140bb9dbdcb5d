"""Validate downloads as images."""

import asyncio
import hashlib
from dataclasses import dataclass

from services.common.domain.image_formats import ImageFormat, sniff, sniff_page
from services.common.domain.page import PageOfLine
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.download.headers import Validators
from services.fetcher.sources.archives.cut_pages import LineDownload, PageFile
from services.fetcher.sources.archives.cutting import CutLine

HASHED_IN_PLACE_BYTES = 1024 * 1024
"""Larger bodies are hashed in a thread, so as not to block the event loop."""


@dataclass(frozen=True)
class Image:
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
        return f"fetched/{self.sha256[:2]}/{self.sha256}.{self.format.extension}"


async def to_image(download: Download, *, is_page: bool = False) -> Image:
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
    return Image(
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
