"""Opens what was sent, or fetched by its address: a list, an archive, or images."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from email.message import Message
from functools import partial
from os import SEEK_END
from pathlib import PurePosixPath
from typing import IO

from yarl import URL

from services.common.domain.image_formats import PDF_MARK, PDF_REFUSED, begins_as_image, sniff
from services.common.domain.provenance import DEFAULT_COLLECTION, UPLOADS, SourceKind
from services.common.domain.tables.columns import ReadingOptions
from services.common.domain.tables.list_format import (
    PARQUET_MARK,
    ListFormat,
    find_format,
    sniff_format,
)
from services.common.domain.tables.names import is_image
from services.common.domain.tables.table import Report
from services.common.runtime.problems import ProblemError
from services.common.runtime.stoppable import run_stoppable
from services.fetcher.sources.addresses import is_archive_path, stem_of, submitted_url
from services.fetcher.sources.archives.formats import SNIFFED_BYTES, sniff_archive
from services.fetcher.sources.archives.opening import list_archive
from services.fetcher.sources.archives.parquet_archive import pack_images
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.archives.unpacking import check_size, unzipped
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.lists.parquet_images import open_images
from services.fetcher.sources.lists.reading import counted, open_bounded
from services.fetcher.sources.lists.rows import Item, MalformedListError
from services.fetcher.sources.spool import Spool
from services.fetcher.sources.submitted import SubmittedFiles, digest_of_file, hash_of

OPENED_AT_ONCE = 4
MAX_FILE_NAME = 200
_ARCHIVE_TYPES = frozenset({"application/zip", "application/x-zip-compressed", "application/x-tar"})


@dataclass(frozen=True)
class ListLimits:
    """How large a list may be: in bytes, as sent and after decompression, and in rows."""

    any_bytes: int
    json_bytes: int
    rows: int

    def of(self, list_format: ListFormat | None) -> int:
        """Return the limit of a format."""
        return self.json_bytes if list_format is ListFormat.JSON else self.any_bytes


@dataclass(frozen=True)
class Sent:
    """A file as it came, which gzip may have packed."""

    file: IO[bytes]
    file_name: str = ""
    content_type: str = ""
    url: str | None = None
    """Where it was fetched from; None: it was sent."""

    @property
    def format(self) -> ListFormat | None:
        """Of a list, as its name or else its content type says."""
        return find_format(content_type=self.content_type, file_name=self.file_name)

    @property
    def is_archive(self) -> bool:
        """Whether it is called one."""
        is_typed = self.content_type.partition(";")[0].strip().lower() in _ARCHIVE_TYPES
        return is_archive_path(self.file_name) or (is_typed and self.format is None)


@dataclass(frozen=True)
class Opened:
    """What was sent, ready to be read once."""

    contents: OpenList
    kind: SourceKind = "url"
    collection: str | None = None
    """That its own name suggests."""
    digest: str = ""
    """Of its bytes after decompression, and of what is said of them."""
    keep: Callable[[], Awaitable[None]] | None = None
    """Keeps what its items are read from; to be called when all rows are read."""


class Openings:
    """Opens files.

    Args:
        spool: Where they are while they are read.
        lists: How large a list may be.
        archives: How large an archive may be.
        files: Where those are kept whose members are read later.
        max_item_bytes: Of an image.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        lists: ListLimits,
        archives: ArchiveSettings,
        files: SubmittedFiles,
        max_item_bytes: int,
    ) -> None:
        self._spool = spool
        self._lists = lists
        self._archives = archives
        self._files = files
        self._max_item_bytes = max_item_bytes
        self._threads = ThreadPoolExecutor(OPENED_AT_ONCE, "lists")

    def limit_of(self, sent: Sent) -> int:
        """Return how many bytes may be sent; what it is may be known only when it is here."""
        if sent.format in {None, ListFormat.PARQUET}:
            return self.most_bytes
        return self._lists.of(sent.format)

    @property
    def most_bytes(self) -> int:
        """Of whatever is sent."""
        return max(self._archives.max_archive_bytes, self._lists.any_bytes)

    @asynccontextmanager
    async def open(
        self, sent: Sent, options: ReadingOptions, *said: object
    ) -> AsyncIterator[Opened]:
        """Give what a file holds, for the length of an ``async with`` block.

        Args:
            sent: The file.
            options: How to read it.
            said: Of the file, for its digest.

        Raises:
            ProblemError: 413, it is too large; 415, it is nothing that is read.
            MalformedListError: It cannot be read; also while its rows are.
            NoSpaceError: There is no room for it now.
        """
        with ExitStack() as stack:
            check = partial(self._check_size, sent, sent.file.seek(0, SEEK_END))
            whole = await run_stoppable(
                self._threads, lambda stop: unzipped(sent.file, self._spool, check, stop)
            )
            if whole is not sent.file:
                stack.callback(self._spool.discard, whole)
            # Tells a list from others: all its bytes, and what is said of it
            digest = await asyncio.to_thread(hash_of, whole, after=repr(said).encode())
            async with self._open_whole(sent, whole, options) as opened:
                yield replace(opened, digest=digest)

    @asynccontextmanager
    async def _open_whole(
        self, sent: Sent, whole: IO[bytes], options: ReadingOptions
    ) -> AsyncIterator[Opened]:
        size = whole.seek(0, SEEK_END)
        whole.seek(0)
        start = whole.read(SNIFFED_BYTES)
        if sent.is_archive or sniff_archive(start):
            yield await self._open_archive(sent, whole, options)
        elif start.startswith(PDF_MARK):
            raise ProblemError(415, "unsupported_list_format", PDF_REFUSED)
        elif begins_as_image(start) and await self._is_image(whole, size):
            yield await self._open_image(sent, whole)
        else:
            async with self._open_rows(sent, whole, size, start, options) as opened:
                yield opened

    async def _open_archive(self, sent: Sent, whole: IO[bytes], options: ReadingOptions) -> Opened:
        keep, address = None, sent.url
        if address is None:
            digest = await asyncio.to_thread(digest_of_file, sent.file)
            address = submitted_url(digest, sent.file_name)
            keep = partial(self._files.keep, digest, sent.file)
        report = Report()
        rows = list_archive(whole, address, self._archives.limits, report, options)
        contents = OpenList(None, counted(rows, self._lists.rows), report)
        return Opened(contents, "archive", stem_of(sent.file_name), keep=keep)

    async def _is_image(self, whole: IO[bytes], size: int) -> bool:
        whole.seek(0)
        content = await asyncio.to_thread(whole.read, self._max_item_bytes)
        if await asyncio.to_thread(sniff, content) is None:
            return False
        if size > self._max_item_bytes:
            detail = f"an image has more than {self._max_item_bytes} bytes"
            raise ProblemError(413, "image_too_large", detail)
        return True

    async def _open_image(self, sent: Sent, whole: IO[bytes]) -> Opened:
        report = Report(rows=1)
        if sent.url is not None:
            return Opened(OpenList(None, iter([Item(1, sent.url)]), report))
        digest = await asyncio.to_thread(digest_of_file, whole)
        rows = iter([Item(1, submitted_url(digest, sent.file_name))])
        keep = partial(self._files.keep, digest, whole)
        return Opened(OpenList(None, rows, report), "upload", UPLOADS, keep=keep)

    @asynccontextmanager
    async def _open_rows(
        self, sent: Sent, whole: IO[bytes], size: int, start: bytes, options: ReadingOptions
    ) -> AsyncIterator[Opened]:
        if start.startswith(PARQUET_MARK) and sent.url is None and not options.url_column:
            report = Report()
            digest = await asyncio.to_thread(digest_of_file, whole)
            found = open_images(whole, options, report)
            with self._spool.file() as archive, ExitStack() as stack:
                images = await asyncio.to_thread(stack.enter_context, found)
                if images is not None:
                    address = submitted_url(digest, sent.file_name)
                    rows = pack_images(
                        images, archive, self._spool, self._archives.limits, (address, size)
                    )
                    keep = partial(self._files.keep, digest, archive)
                    contents = OpenList(None, counted(rows, self._lists.rows), report)
                    yield Opened(contents, "archive", stem_of(sent.file_name), keep=keep)
                    return
        async with self._open_list(sent, whole, size, options) as contents:
            yield Opened(contents, collection=stem_of(sent.file_name))

    @asynccontextmanager
    async def _open_list(
        self, sent: Sent, whole: IO[bytes], size: int, options: ReadingOptions
    ) -> AsyncIterator[OpenList]:
        list_format = sent.format
        if list_format is None and sent.url is None:
            raise _unknown(sent)
        list_format = list_format or sniff_format(whole)
        if size > self._lists.of(list_format):
            raise too_large(self._lists.of(list_format))
        options, most = _with_charset(options, sent), self._lists.rows
        async with open_bounded(whole, list_format, options, max_rows=most) as contents:
            if sent.url is not None and contents.list_url is not None:
                raise MalformedListError("the list names another list: submit that one")
            yield contents

    def _check_size(self, sent: Sent, packed_bytes: int, start: bytes, size: int) -> None:
        """Refuse what becomes too large as its gzip is undone."""
        limit = (
            self.limit_of(sent) if start.startswith(PARQUET_MARK) else self._lists.of(sent.format)
        )
        if sniff_archive(start):
            check_size(size, packed_bytes, self._archives.limits)
        elif size > limit:
            raise too_large(limit)


def default_collection(opened: Opened, kind: SourceKind, name: str | None) -> str:
    """Return the collection of a batch for which nobody names one."""
    match kind:
        case "upload":
            return UPLOADS
        case "archive" | "folder":
            return opened.collection or name or DEFAULT_COLLECTION
        case _:
            return name or opened.collection or DEFAULT_COLLECTION


def clean_file_name(name: str | None) -> str:
    """Return the last part of a file's name as text of a bounded length."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return last.encode(errors="replace").decode()[-MAX_FILE_NAME:]


def name_of_url(url: str) -> str:
    """Return the file name that a URL's path ends in."""
    return clean_file_name(URL(url).path)


def too_large(limit: int) -> ProblemError:
    """Describe a list that is larger than ``limit`` bytes."""
    return ProblemError(413, "list_too_large", f"more than {limit} bytes")


def _with_charset(options: ReadingOptions, sent: Sent) -> ReadingOptions:
    """Return options with the encoding that the content type declares, where none is given."""
    message = Message()
    message["Content-Type"] = sent.content_type
    charset = message.get_content_charset()
    return options if options.encoding or not charset else replace(options, encoding=charset)


def _unknown(sent: Sent) -> ProblemError:
    """Say what to do with a file that is nothing that is read."""
    what = sent.content_type.partition(";")[0].strip().lower()[:100]
    if what == "application/pdf" or sent.file_name.lower().endswith(".pdf"):
        detail = PDF_REFUSED
    elif what.startswith("image/") or is_image(sent.file_name):
        detail = "it is called an image, and is none that is read: PNG, JPEG, WebP, TIFF, BMP, GIF"
    else:
        detail = (
            f"{what or 'no content type'} is not read: send text/plain (one URL a line), CSV, "
            "JSON (lines), Parquet, a .zip or .tar(.gz) of images, or an image"
        )
    return ProblemError(415, "unsupported_list_format", detail)
