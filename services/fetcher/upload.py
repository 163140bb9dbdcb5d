"""Receive a file over HTTP into the spool, in constant memory."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from services.common.domain.tables.list_format import ListFormat
from services.common.runtime.problems import ProblemError
from services.common.runtime.server import FormLimits, bounded_body, read_form
from services.fetcher.list_parameters import ListParameters, refuse_unknown
from services.fetcher.sources.errors import ListTooLargeError
from services.fetcher.sources.lists.formats import OpenList
from services.fetcher.sources.openings import Opened, Openings
from services.fetcher.sources.sent import Sent, clean_file_name
from services.fetcher.sources.spool import Spool, space_errors

_FORM_LIMITS = FormLimits(fields=16, field_bytes=64 * 1024)
_FORM_BYTES = 64 * 1024
"""Allowance of a form beside its file."""
_PARAMETERS = frozenset(ListParameters.model_fields)


@dataclass(frozen=True)
class Received:
    """A completely received file."""

    opened: Opened
    parameters: ListParameters
    """Of query, form and JSON document."""


@dataclass(frozen=True)
class _Request:
    """The body of a request, before it is opened."""

    sent: Sent
    fields: Sequence[tuple[str, object]] = ()
    """Fields of its form beside the file."""
    is_body: bool = False
    """Whether the file is the body itself, and not in a form."""


@asynccontextmanager
async def receive(
    request: Request, openings: Openings, spool: Spool, query: ListParameters
) -> AsyncIterator[Received]:
    """Receive the file of a request; it can be read inside the ``async with`` block.

    It may be compressed by gzip, detected by its first bytes.

    Raises:
        ProblemError: 422 ``malformed_request``, ``unknown_parameter``,
            ``conflicting_parameters``.
        ListTooLargeError, ItemTooLargeError, UnsupportedListFormatError: It is refused.
        RequestValidationError: A parameter in its form or document is invalid.
        UnreadableFileError: It can't be read.
        NoSpaceError: The spool is full.
    """
    content_type = request.headers.get("Content-Type", "")
    is_form = content_type.lower().startswith("multipart/form-data")
    take = _sent_in_form if is_form else _sent_as_body
    async with take(request, openings, spool) as got:
        parameters = query.merge(got.fields, where="form")
        async with _opened(openings, got, parameters) as received:
            yield received


@asynccontextmanager
async def _opened(
    openings: Openings, got: _Request, parameters: ListParameters
) -> AsyncIterator[Received]:
    """Return a list, and the parameters merged with those of its JSON document."""
    said = (_kind(got.sent.format), parameters.name, *parameters.given)
    async with openings.open(got.sent, parameters.list_options, *said) as opened:
        merged = _with_members(parameters, opened.contents, is_body=got.is_body)
        is_read_so = merged.list_options == parameters.list_options
        if opened.contents.list_url is not None or is_read_so:
            yield Received(opened, merged)
            return
    async with openings.open(got.sent, merged.list_options, *said) as opened:
        yield Received(opened, merged)


def _with_members(
    parameters: ListParameters, contents: OpenList, *, is_body: bool
) -> ListParameters:
    """Merge parameters of a JSON document; in an uploaded file other members are data."""
    members = contents.members
    if is_body:
        refuse_unknown(members, _PARAMETERS | {"items", "list_url"}, "JSON document")
        members = {"name": contents.name, **members}
    known = [(name, value) for name, value in members.items() if name in _PARAMETERS]
    return parameters.merge(known, where="json")


def _kind(list_format: ListFormat | None) -> str | None:
    """Return the kind of a list for its digest, which is stable for tables with tabs."""
    found = ListFormat.TABLE if list_format is ListFormat.TSV else list_format
    return None if found is None else found.value


@asynccontextmanager
async def _sent_in_form(
    request: Request, openings: Openings, spool: Spool
) -> AsyncIterator[_Request]:
    async with _form(request, openings.most_bytes + _FORM_BYTES, spool) as form:
        refuse_unknown(form, _PARAMETERS | {"file"}, "form")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ProblemError(422, "malformed_request", 'the form has no file named "file"')
        sent = Sent(file.file, clean_file_name(file.filename), file.content_type or "")
        if (file.size or 0) > openings.limit_of(sent):
            raise ListTooLargeError(openings.limit_of(sent))
        fields = [(name, value) for name, value in form.multi_items() if name != "file"]
        yield _Request(sent, fields)


@asynccontextmanager
async def _sent_as_body(
    request: Request, openings: Openings, spool: Spool
) -> AsyncIterator[_Request]:
    with spool.file() as body:
        sent = Sent(body, content_type=request.headers.get("Content-Type", ""))
        async with aclosing(
            bounded_body(request, openings.limit_of(sent), ListTooLargeError)
        ) as chunks:
            async for chunk in chunks:
                spool.write(body, chunk)
        spool.flush(body)
        yield _Request(sent, is_body=True)


@asynccontextmanager
async def _form(request: Request, limit: int, spool: Spool) -> AsyncIterator[FormData]:
    body = bounded_body(request, limit, ListTooLargeError, partial(spool.take, request))
    try:
        with space_errors():  # the parser stores its file on disk
            form = await read_form(request, body, _FORM_LIMITS, _malformed)
        try:
            yield form
        finally:
            await form.close()
    finally:
        spool.give_back(request)


def _malformed(reason: str) -> ProblemError:
    return ProblemError(422, "malformed_request", f"not a valid form: {reason}")
