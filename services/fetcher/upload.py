"""Receives a list over HTTP: into a temporary file, so that its length costs no memory."""

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from tempfile import SpooledTemporaryFile
from typing import IO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.common.problems import ProblemError
from services.fetcher.lists.documents import list_url_of, load_document, to_name
from services.fetcher.lists.formats import ListFormat, OpenList, find_format, open_list
from services.fetcher.lists.rows import MalformedListError

IN_MEMORY_BYTES = 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_GZIP_MARK = b"\x1f\x8b"


@dataclass(frozen=True)
class ListLimits:
    """How large a list may be, in bytes: as sent, and after decompression."""

    any_bytes: int
    json_bytes: int

    def of(self, list_format: ListFormat) -> int:
        """Return the limit of a format."""
        return self.json_bytes if list_format is ListFormat.JSON else self.any_bytes


@dataclass(frozen=True)
class ReceivedList:
    """A list that arrived whole."""

    contents: OpenList
    digest: str
    """Of its bytes after decompression, its format and name."""
    list_url: str | None = None
    """Where the list is to be had; ``contents`` has no rows then."""


@asynccontextmanager
async def receive_list(request: Request, limits: ListLimits) -> AsyncIterator[ReceivedList]:
    """Receive the list of a request; it can be read inside the ``async with`` block.

    It may be compressed by gzip: its first bytes say so, whatever its name and content type do.

    Raises:
        ProblemError: 413 ``list_too_large``, 415 ``unsupported_list_format``,
            422 ``malformed_request``.
        MalformedListError: The list cannot be read.
    """
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        async with _form(request, limits.any_bytes) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                detail = 'the form has no file named "file"'
                raise ProblemError(422, "malformed_request", detail)
            found = find_format(content_type=file.content_type, file_name=file.filename)
            list_format = _known(found, file.content_type or "")
            limit = limits.of(list_format)
            if (file.size or 0) > limit:
                raise too_large(limit)
            with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as room:
                content = await asyncio.to_thread(decompressed, file.file, room, limit)
                name = to_name(form.get("name"))
                yield await asyncio.to_thread(_open, content, list_format, name)
        return
    list_format = _known(find_format(content_type=content_type), content_type)
    limit = limits.of(list_format)
    with (
        SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as body,
        SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as room,
    ):
        async with aclosing(_capped(request, limit)) as chunks:
            async for chunk in chunks:
                body.write(chunk)
        content = await asyncio.to_thread(decompressed, body, room, limit)
        name = to_name(request.query_params.get("name"))
        yield await asyncio.to_thread(_open, content, list_format, name)


@asynccontextmanager
async def _form(request: Request, limit: int) -> AsyncIterator[FormData]:
    async with aclosing(_capped(request, limit)) as chunks:
        try:
            form = await MultiPartParser(request.headers, chunks, max_files=1, max_fields=8).parse()
        except (MultiPartException, KeyError, ValueError) as error:  # the form's charset may raise
            detail = f"not a valid form: {error}"
            raise ProblemError(422, "malformed_request", detail) from error
    try:
        yield form
    finally:
        await form.close()


async def _capped(request: Request, limit: int) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        yield chunk


def _known(list_format: ListFormat | None, content_type: str) -> ListFormat:
    if list_format is not None:
        return list_format
    detail = (
        f"{content_type[:100] or 'no content type'} is not a list: send application/json, "
        "text/plain (one URL a line), text/csv, application/jsonl, Parquet, or one of these as "
        'the file of a form ("file"); each may be compressed by gzip'
    )
    raise ProblemError(415, "unsupported_list_format", detail)


def too_large(limit: int) -> ProblemError:
    """Describe a list that is larger than ``limit`` bytes."""
    return ProblemError(413, "list_too_large", f"more than {limit} bytes")


def decompressed(file: IO[bytes], room: IO[bytes], limit: int) -> IO[bytes]:
    """Return ``file`` as it is, or else ``room`` with what gzip made it of.

    Raises:
        ProblemError: 413, it is larger than ``limit`` bytes.
        MalformedListError: It is no whole gzip file.
    """
    file.seek(0)
    mark = file.read(len(_GZIP_MARK))
    file.seek(0)
    if mark != _GZIP_MARK:
        return file
    size = 0
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as source:
            while block := source.read(_BLOCK_BYTES):
                size += len(block)
                if size > limit:
                    raise too_large(limit)
                room.write(block)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise MalformedListError(f"not a whole gzip file: {error}") from error
    return room


def _open(file: IO[bytes], list_format: ListFormat, name: str | None) -> ReceivedList:
    digest = digest_of(file, list_format.value, name)
    if list_format is ListFormat.JSON:
        file.seek(0)
        document = load_document(file.read())
        if list_url := list_url_of(document):
            name = name or to_name(document.get("name"))
            return ReceivedList(OpenList(name, iter(())), digest, list_url)
    contents = open_list(file, list_format)
    return ReceivedList(replace(contents, name=name or contents.name), digest)


def digest_of(file: IO[bytes], *described: object) -> str:
    """Return what tells a list from others: a hash of all its bytes, and what is said of it."""
    file.seek(0)
    digest = hashlib.sha256(repr(described).encode())
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
