"""Receives a list over HTTP: into a file on disk, so that its length costs no memory."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from email.message import Message
from typing import IO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from services.common.domain.image_formats import PDF_REFUSED
from services.common.domain.tables.columns import ReadingOptions
from services.common.domain.tables.list_format import ListFormat, find_format
from services.common.domain.tables.names import is_image
from services.common.runtime.bodies import bounded_body
from services.common.runtime.problems import ProblemError
from services.fetcher.archives.addresses import is_archive_path
from services.fetcher.gunzip import gunzipped, is_gzip
from services.fetcher.list_parameters import ListParameters, refuse_unknown
from services.fetcher.lists.formats import OpenList
from services.fetcher.lists.reading import open_bounded
from services.fetcher.spool import Spool, space_errors

_BLOCK_BYTES = 1024 * 1024
_MAX_FIELDS = 16
_MAX_FIELD_BYTES = 64 * 1024
_PARAMETERS = frozenset(ListParameters.model_fields)
_ARCHIVE_TYPES = frozenset(
    {
        *("application/zip", "application/x-zip-compressed"),
        *("application/x-tar", "application/gzip", "application/x-gzip"),
    }
)


@dataclass(frozen=True)
class ListLimits:
    """How large a list may be: in bytes, as sent and after decompression, and in rows."""

    any_bytes: int
    json_bytes: int
    rows: int

    def of(self, list_format: ListFormat) -> int:
        """Return the limit of a format."""
        return self.json_bytes if list_format is ListFormat.JSON else self.any_bytes


@dataclass(frozen=True)
class ReceivedList:
    """A list that arrived whole."""

    contents: OpenList
    parameters: ListParameters
    """Of its address, form and JSON document."""
    digest: str
    """Of its bytes after decompression, its format, its name, and what is said of it."""


@dataclass(frozen=True)
class _Sent:
    """What was sent, before it is read."""

    file: IO[bytes]
    format: ListFormat
    content_type: str
    fields: Sequence[tuple[str, object]] = ()
    """Of its form, besides the file."""
    is_body: bool = False
    """Whether it is the body itself, and not a file in a form."""


@asynccontextmanager
async def receive_list(
    request: Request, limits: ListLimits, spool: Spool, query: ListParameters
) -> AsyncIterator[ReceivedList]:
    """Receive the list of a request; it can be read inside the ``async with`` block.

    It may be compressed by gzip: its first bytes say so, whatever its name and content type do.

    Raises:
        ProblemError: 413 ``list_too_large``, 415 ``unsupported_list_format``,
            422 ``malformed_request``, ``unknown_parameter``, ``conflicting_parameters``.
        RequestValidationError: A value in its form or document is none of its parameter.
        MalformedListError: The list cannot be read.
        NoSpaceError: There is no room for it now.
    """
    content_type = request.headers.get("Content-Type", "")
    is_form = content_type.lower().startswith("multipart/form-data")
    receive = _sent_in_form if is_form else _sent_as_body
    async with receive(request, content_type, limits, spool) as sent:
        parameters = query.merge(sent.fields, where="form")
        limit = limits.of(sent.format)
        with spool.file() as room:
            content = await asyncio.to_thread(decompressed, sent.file, spool, room, limit)
            described = (_kind(sent.format), parameters.name, *parameters.list_options.given)
            digest = await asyncio.to_thread(digest_of, content, *described)
            async with _opened(content, sent, parameters, limits.rows) as (contents, merged):
                named = replace(contents, name=parameters.name or contents.name)
                yield ReceivedList(named, merged, digest)


@asynccontextmanager
async def _opened(
    content: IO[bytes], sent: _Sent, parameters: ListParameters, max_rows: int
) -> AsyncIterator[tuple[OpenList, ListParameters]]:
    """Give a list, and the parameters together with those that stand in it as a JSON document."""
    options = _with_charset(parameters.list_options, sent)
    async with open_bounded(content, sent.format, options, max_rows=max_rows) as contents:
        merged = _with_members(parameters, contents, is_body=sent.is_body)
        if contents.list_url is not None or merged.list_options == parameters.list_options:
            yield contents, merged
            return
    options = _with_charset(merged.list_options, sent)
    async with open_bounded(content, sent.format, options, max_rows=max_rows) as contents:
        yield contents, merged


def _with_members(
    parameters: ListParameters, contents: OpenList, *, is_body: bool
) -> ListParameters:
    """Add what a JSON document says; what else a file has is data, in a body it is a wish."""
    members = contents.members
    if is_body:
        refuse_unknown(members, _PARAMETERS | {"items", "list_url"}, "JSON document")
        members = {"name": contents.name, **members}
    known = [(name, value) for name, value in members.items() if name in _PARAMETERS]
    return parameters.merge(known, where="json")


def _kind(list_format: ListFormat) -> str:
    """Return the kind of a list for its digest, in which tables with tabs are tables as ever."""
    return (ListFormat.TABLE if list_format is ListFormat.TSV else list_format).value


def _with_charset(options: ReadingOptions, sent: _Sent) -> ReadingOptions:
    """Return options with the encoding that the content type declares, where none is given."""
    message = Message()
    message["Content-Type"] = sent.content_type
    charset = message.get_content_charset()
    return options if options.encoding or not charset else replace(options, encoding=charset)


@asynccontextmanager
async def _sent_in_form(
    request: Request, _: str, limits: ListLimits, spool: Spool
) -> AsyncIterator[_Sent]:
    async with _form(request, limits.any_bytes, spool) as form:
        refuse_unknown(form, _PARAMETERS | {"file"}, "form")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ProblemError(422, "malformed_request", 'the form has no file named "file"')
        found = find_format(content_type=file.content_type, file_name=file.filename)
        list_format = _known(found, file.content_type or "", file.filename)
        if (file.size or 0) > limits.of(list_format):
            raise too_large(limits.of(list_format))
        fields = [(name, value) for name, value in form.multi_items() if name != "file"]
        yield _Sent(file.file, list_format, file.content_type or "", fields)


@asynccontextmanager
async def _sent_as_body(
    request: Request, content_type: str, limits: ListLimits, spool: Spool
) -> AsyncIterator[_Sent]:
    list_format = _known(find_format(content_type=content_type), content_type)
    with spool.file() as body:
        async with aclosing(bounded_body(request, limits.of(list_format), too_large)) as chunks:
            async for chunk in chunks:
                spool.write(body, chunk)
        spool.flush(body)
        yield _Sent(body, list_format, content_type, is_body=True)


@asynccontextmanager
async def _form(request: Request, limit: int, spool: Spool) -> AsyncIterator[FormData]:
    try:
        form = await _parse(request, limit, spool)
        try:
            yield form
        finally:
            await form.close()
    finally:
        spool.give_back(request)


async def _parse(request: Request, limit: int, spool: Spool) -> FormData:
    """Read a form, whose file the parser keeps on disk."""
    chunks = bounded_body(request, limit, too_large)

    async def counted() -> AsyncGenerator[bytes]:
        async for chunk in chunks:
            spool.take(request, len(chunk))
            yield chunk

    async with aclosing(chunks), aclosing(counted()) as stream:
        parser = MultiPartParser(
            request.headers,
            stream,
            max_files=1,
            max_fields=_MAX_FIELDS,
            max_part_size=_MAX_FIELD_BYTES,
        )
        try:
            with space_errors():
                return await parser.parse()
        except (MultiPartException, KeyError, ValueError) as error:  # the form's charset may raise
            detail = f"not a valid form: {error}"
            raise ProblemError(422, "malformed_request", detail) from error


def _known(
    list_format: ListFormat | None, content_type: str, file_name: str | None = None
) -> ListFormat:
    if list_format is not None:
        return list_format
    raise ProblemError(415, "unsupported_list_format", _what_to_send(content_type, file_name or ""))


def _what_to_send(content_type: str, file_name: str) -> str:
    """Say what to do with a file that is no list."""
    what = content_type.partition(";")[0].strip().lower()[:100]
    if what == "application/pdf" or file_name.lower().endswith(".pdf"):
        return PDF_REFUSED
    if what.startswith("image/") or is_image(file_name):
        return (
            "an image is not a list of URLs: store it by docreco submit FILE, or drop it onto the "
            "review page"
        )
    if what in _ARCHIVE_TYPES or is_archive_path(file_name):
        return (
            'an archive is taken from its address, {"list_url": "https://…"}; one that is here '
            "is stored by docreco submit FILE"
        )
    return (
        f"{what or 'no content type'} is not read: send text/plain (one URL a line), text/csv, "
        "application/json, application/jsonl or Parquet"
    )


def too_large(limit: int) -> ProblemError:
    """Describe a list that is larger than ``limit`` bytes."""
    return ProblemError(413, "list_too_large", f"more than {limit} bytes")


def decompressed(file: IO[bytes], spool: Spool, room: IO[bytes], limit: int) -> IO[bytes]:
    """Return ``file`` as it is, or else ``room`` with what gzip made it of.

    Raises:
        ProblemError: 413, it is larger than ``limit`` bytes.
        GzipError: It is no whole gzip file.
        NoSpaceError: There is no room for it now.
    """
    if not is_gzip(file):
        return file
    size = 0
    for block in gunzipped(file):
        size += len(block)
        if size > limit:
            raise too_large(limit)
        spool.write(room, block)
    spool.flush(room)
    return room


def digest_of(file: IO[bytes], *described: object) -> str:
    """Return what tells a list from others: a hash of all its bytes, and what is said of it."""
    file.seek(0)
    digest = hashlib.sha256(repr(described).encode())
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
