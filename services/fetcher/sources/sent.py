"""A received file: its name, its type, its digest, and its size limit."""

import hashlib
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import PurePosixPath
from typing import IO

from yarl import URL

from services.common.domain.image_formats import PDF, PDF_REFUSED
from services.common.domain.tables.list_format import ListFormat, ReadingOptions, find_format
from services.common.domain.tables.names import is_image
from services.fetcher.sources.addresses import is_archive_path
from services.fetcher.sources.errors import UnsupportedListFormatError

MAX_FILE_NAME = 200
_ARCHIVE_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-tar"})

_BLOCK_BYTES = 1024 * 1024
_PURPOSE = b"docreco submitted file\0"
"""Prefix of the hash: the plain SHA-256 may be public, and must not give access to the file."""


@dataclass(frozen=True)
class ListLimits:
    """Limits of a list: in bytes, also after decompression, and in rows."""

    any_bytes: int
    json_bytes: int
    rows: int

    def of(self, list_format: ListFormat | None) -> int:
        """Return the limit of a format."""
        return self.json_bytes if list_format is ListFormat.JSON else self.any_bytes


@dataclass(frozen=True)
class Sent:
    """A received file, which may be compressed by gzip."""

    file: IO[bytes]
    file_name: str = ""
    content_type: str = ""
    url: str | None = None
    """URL of a download; None for an upload."""

    @property
    def format(self) -> ListFormat | None:
        """Of a list, by its name or content type."""
        return find_format(content_type=self.content_type, file_name=self.file_name)

    @property
    def is_archive(self) -> bool:
        """Whether its name or content type is an archive's."""
        is_typed = self.content_type.partition(";")[0].strip().lower() in _ARCHIVE_TYPES
        return is_archive_path(self.file_name) or (is_typed and self.format is None)

    def with_charset(self, options: ReadingOptions) -> ReadingOptions:
        """Return options with the content type's encoding as default."""
        message = Message()
        message["Content-Type"] = self.content_type
        charset = message.get_content_charset()
        return options if options.encoding or not charset else replace(options, encoding=charset)

    def refusal(self) -> UnsupportedListFormatError:
        """Return the error of an unsupported file, with supported formats."""
        what = self.content_type.partition(";")[0].strip().lower()[:100]
        if what == PDF.content_type or self.file_name.lower().endswith(".pdf"):
            detail = PDF_REFUSED
        elif what.startswith("image/") or is_image(self.file_name):
            detail = "declared as an image, but not one of PNG, JPEG, WebP, TIFF, BMP, GIF"
        else:
            detail = (
                f"{what or 'no content type'} is not supported: send text/plain (one URL a line), "
                "CSV, JSON (lines), Parquet, a .zip or .tar(.gz) of images, or an image"
            )
        return UnsupportedListFormatError(detail)


def digest_of_file(file: IO[bytes]) -> str:
    """Return the key of a submitted file: a salted hash of its bytes."""
    file.seek(0)
    digest = hashlib.sha256(_PURPOSE)
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def clean_file_name(name: str | None) -> str:
    """Return the last part of a file's name, truncated."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return last.encode(errors="replace").decode()[-MAX_FILE_NAME:]


def name_of_url(url: str) -> str:
    """Return the file name of a URL's path."""
    return clean_file_name(URL(url).path)
