"""What a download is: an image that can be read, or something else."""

import asyncio
import hashlib
from dataclasses import dataclass

from services.common.domain.image_formats import ImageFormat, sniff
from services.common.download.client import Download
from services.common.download.errors import RefusedDownloadError
from services.common.download.headers import Validators

HASHED_IN_PLACE_BYTES = 1024 * 1024
"""A larger body is hashed in a thread: it would hold up every other download."""


@dataclass(frozen=True)
class Image:
    """A download that is an image."""

    content: bytes
    format: ImageFormat
    sha256: str
    http_status: int
    validators: Validators | None = None

    @property
    def key(self) -> str:
        """Where it is stored: by its content, so a repeat writes the same object."""
        return f"fetched/{self.sha256[:2]}/{self.sha256}.{self.format.extension}"


async def to_image(download: Download) -> Image:
    """Return a download as an image, by its content, whatever the host calls it.

    Raises:
        RefusedDownloadError: It is none.
    """
    found = sniff(download.content)
    if found is None:
        raise RefusedDownloadError(
            "not_an_image", _describe(download), http_status=download.http_status
        )
    if len(download.content) > HASHED_IN_PLACE_BYTES:
        digest = await asyncio.to_thread(hashlib.sha256, download.content)
    else:
        digest = hashlib.sha256(download.content)
    return Image(
        download.content,
        found,
        digest.hexdigest(),
        download.http_status,
        download.validators,
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
