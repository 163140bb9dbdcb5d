"""Open uploads and downloads: a list, an archive, or images."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from os import SEEK_END
from typing import IO

from services.common.domain.details import NO_DETAILS, Details
from services.common.domain.image_formats import (
    PDF_MARK,
    PDF_REFUSED,
    PDF_START_BYTES,
    begins_as_image,
    is_pdf,
    sniff,
)
from services.common.domain.provenance import DEFAULT_COLLECTION, UPLOADS, SourceKind
from services.common.domain.tables.list_format import (
    PARQUET_MARK,
    ListFormat,
    ReadingOptions,
    is_lmdb,
    sniff_archive,
    sniff_format,
)
from services.common.domain.tables.report import Report
from services.fetcher.sources.addresses import stem_of, submitted_url
from services.fetcher.sources.archives.members import OFFICE_REFUSED, check_size
from services.fetcher.sources.archives.opening import list_archive
from services.fetcher.sources.archives.parquet_archive import pack_images
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.errors import (
    ItemTooLargeError,
    ListTooLargeError,
    MalformedListError,
    UnsupportedListFormatError,
)
from services.fetcher.sources.lists.documents import MAX_NAME_LENGTH
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.lmdb_images import open_lmdb
from services.fetcher.sources.lists.parquet_images import OpenSet, open_images
from services.fetcher.sources.lists.reading import counted, open_bounded
from services.fetcher.sources.lists.rows import ListItem
from services.fetcher.sources.sent import ListLimits, Sent, digest_of_file
from services.fetcher.sources.spool import SNIFFED_BYTES, Spool, run_stoppable, unzipped
from services.fetcher.sources.submitted import SubmittedFiles

OPENED_AT_ONCE = 4
_OLE_MARK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OFFICE_FILE = re.compile(
    rb"PK\x03\x04.{26}(\[Content_Types\]\.xml|_rels/\.rels|docProps/|mimetypeapplication/vnd\.oasis)",
    re.DOTALL,
)
"""The usual first member of a document (ECMA-376, part 2; OpenDocument 1.3, part 2)."""


@dataclass(frozen=True)
class _Whole:
    """A file that was sent, its gzip undone."""

    sent: Sent
    file: IO[bytes]
    key: str
    """Of the file, where it is kept."""
    size: int
    start: bytes

    @property
    def address(self) -> str:
        """Of the file, for its items."""
        return self.sent.url or submitted_url(self.key, self.sent.file_name)


@dataclass(frozen=True)
class Opened:
    """An opened file, to be read once."""

    contents: OpenList
    kind: SourceKind = "url"
    collection: str | None = None
    """Default collection, from its name."""
    file_name: str = ""
    """As it was sent, or of its URL; empty if it has none."""
    digest: str = ""
    """Of its decompressed bytes and its parameters."""
    keep: Callable[[], Awaitable[None]] | None = None
    """Stores the file that its items are read from; call it after the last row."""


class Openings:
    """Opens files."""

    def __init__(
        self,
        spool: Spool,
        *,
        lists: ListLimits,
        archives: ArchiveSettings,
        files: SubmittedFiles,
        max_item_bytes: int,
        max_page_bytes: int,
    ) -> None:
        self._spool = spool
        self._lists = lists
        self._archives = archives
        self._files = files
        self._max_item_bytes = max_item_bytes
        self._max_page_bytes = max_page_bytes
        self._threads = ThreadPoolExecutor(OPENED_AT_ONCE, "lists")

    def limit_of(self, sent: Sent) -> int:
        """Return the limit of an upload, whose format may be unknown before it is received."""
        if sent.format in {None, ListFormat.PARQUET}:
            return self.most_bytes
        return self._lists.of(sent.format)

    @property
    def most_bytes(self) -> int:
        """Limit of any upload."""
        return max(self._archives.max_archive_bytes, self._lists.any_bytes)

    @asynccontextmanager
    async def open(
        self, sent: Sent, options: ReadingOptions, *said: object
    ) -> AsyncIterator[Opened]:
        """Open a file for an ``async with`` block.

        Raises:
            ListTooLargeError, ItemTooLargeError, UnsupportedListFormatError: It is refused.
            UnreadableFileError: It can't be read; also while reading rows.
            NoSpaceError: The spool is full.
        """
        with ExitStack() as stack:
            check = partial(self._check_size, sent, sent.file.seek(0, SEEK_END))
            file = await run_stoppable(
                self._threads, lambda stop: unzipped(sent.file, self._spool, check, stop)
            )
            if file is not sent.file:
                stack.callback(self._spool.discard, file)
            whole = await asyncio.to_thread(_read_start, sent, file)
            # Identity of a list: all its bytes and its parameters
            digest = hashlib.sha256(f"{said!r} {whole.key}".encode()).hexdigest()
            async with self._open_whole(whole, options) as opened:
                yield replace(opened, digest=digest, file_name=sent.file_name)

    @asynccontextmanager
    async def _open_whole(self, whole: _Whole, options: ReadingOptions) -> AsyncIterator[Opened]:
        if whole.start.startswith(_OLE_MARK) or _OFFICE_FILE.match(whole.start):
            raise UnsupportedListFormatError(OFFICE_REFUSED)
        if whole.sent.is_archive or sniff_archive(whole.start):
            yield self._open_archive(whole, options)
        elif whole.start.startswith(PDF_MARK) and not options.pages:
            raise UnsupportedListFormatError(PDF_REFUSED)
        elif await self._is_item(whole, options):
            self._check_item(whole, options)
            details = Details(is_page=True) if options.pages else NO_DETAILS
            rows = iter([ListItem(1, whole.address, details=details)])
            keep = self._keeping(whole, whole.file)
            yield Opened(OpenList(None, rows, Report(rows=1)), *_kind_of_image(whole), keep=keep)
        else:
            async with self._open_rows(whole, options) as opened:
                yield opened

    def _open_archive(self, whole: _Whole, options: ReadingOptions) -> Opened:
        report = Report()
        rows = list_archive(whole.file, whole.address, self._archives.limits, report, options)
        contents = OpenList(None, counted(rows, self._lists.rows), report)
        keep = self._keeping(whole, whole.sent.file)
        return Opened(contents, "archive", stem_of(whole.sent.file_name), keep=keep)

    def _keeping(self, whole: _Whole, file: IO[bytes]) -> Callable[[], Awaitable[None]] | None:
        """Return what keeps a file that was sent; what was fetched is fetched again."""
        return partial(self._files.keep, whole.key, file) if whole.sent.url is None else None

    async def _is_item(self, whole: _Whole, options: ReadingOptions) -> bool:
        """Return whether a file is an image, or a PDF of pages."""
        if options.pages and is_pdf(whole.start):
            return True
        if not begins_as_image(whole.start):
            return False
        if whole.size > self._max_item_bytes:  # the worker says what it is
            return True
        whole.file.seek(0)
        content = await asyncio.to_thread(whole.file.read)
        return await asyncio.to_thread(sniff, content) is not None

    def _check_item(self, whole: _Whole, options: ReadingOptions) -> None:
        most = self._max_page_bytes if options.pages else self._max_item_bytes
        if whole.size > most:
            detail = f"{'a page' if options.pages else 'an image'} has more than {most} bytes"
            raise ItemTooLargeError(detail)

    @asynccontextmanager
    async def _open_rows(self, whole: _Whole, options: ReadingOptions) -> AsyncIterator[Opened]:
        sent = whole.sent
        if (open_set := _data_set(whole, options)) and sent.url is None:
            report = Report()
            found = open_set(whole.file, options, report)
            with self._spool.file() as archive, ExitStack() as stack:
                images = await asyncio.to_thread(stack.enter_context, found)
                if images is not None:
                    origin = (whole.address, whole.size)
                    limits = self._archives.limits
                    rows = pack_images(images, archive, self._spool, limits, origin)
                    contents = OpenList(None, counted(rows, self._lists.rows), report)
                    keep = self._keeping(whole, archive)
                    yield Opened(contents, "archive", stem_of(sent.file_name), keep=keep)
                    return
        async with self._open_list(whole, options) as contents:
            yield Opened(contents, collection=stem_of(sent.file_name))

    @asynccontextmanager
    async def _open_list(self, whole: _Whole, options: ReadingOptions) -> AsyncIterator[OpenList]:
        sent, list_format = whole.sent, whole.sent.format
        if list_format is None and sent.url is None:
            raise sent.refusal()
        list_format = list_format or sniff_format(whole.file)
        if whole.size > self._lists.of(list_format):
            raise ListTooLargeError(self._lists.of(list_format))
        options, most = sent.with_charset(options), self._lists.rows
        async with open_bounded(whole.file, list_format, options, max_rows=most) as contents:
            if sent.url is not None and contents.list_url is not None:
                raise MalformedListError("the list names another list: submit that one")
            yield contents

    def _check_size(self, sent: Sent, packed_bytes: int, start: bytes, size: int) -> None:
        """Refuse files that become too large while being decompressed."""
        limit = (
            self.limit_of(sent) if start.startswith(PARQUET_MARK) else self._lists.of(sent.format)
        )
        if sniff_archive(start):
            check_size(size, packed_bytes, self._archives.limits)
        elif size > limit:
            raise ListTooLargeError(limit)


def _read_start(sent: Sent, file: IO[bytes]) -> _Whole:
    key, size = digest_of_file(file), file.tell()
    file.seek(0)
    return _Whole(sent, file, key, size, file.read(max(SNIFFED_BYTES, PDF_START_BYTES)))


def _kind_of_image(whole: _Whole) -> tuple[SourceKind, str | None]:
    """Return by which way an image came, and its collection."""
    return ("url", None) if whole.sent.url else ("upload", UPLOADS)


def _data_set(whole: _Whole, options: ReadingOptions) -> OpenSet | None:
    """Return what opens a file that may hold images with their texts, or None."""
    if is_lmdb(whole.start):
        return open_lmdb
    is_parquet = whole.start.startswith(PARQUET_MARK) and not options.url_column
    return open_images if is_parquet else None


def default_name(opened: Opened, kind: SourceKind) -> str | None:
    """Return the displayed name of a batch that was given none; it is no part of the digest."""
    # A folder is sent as an archive of its name
    name = stem_of(opened.file_name) if kind == "folder" else opened.file_name
    return name[:MAX_NAME_LENGTH] or None


def default_collection(opened: Opened, kind: SourceKind, name: str | None) -> str:
    """Return the default collection of a batch."""
    match kind:
        case "upload":
            return UPLOADS
        case "archive" | "folder":
            return opened.collection or name or DEFAULT_COLLECTION
        case _:
            return name or opened.collection or DEFAULT_COLLECTION
