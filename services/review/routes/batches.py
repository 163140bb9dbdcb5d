"""Routes of batches and uploads."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import URL, UploadFile

from services.common.adapters.fetcher_api import FetcherRefusedError, FetcherUnavailableError
from services.common.domain.batch import RejectedRow, RetryScope
from services.common.domain.fetcher_answers import ItemStatus, ListRequest, Submission
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.image_formats import PDF_START_BYTES, begins_as_image, is_pdf
from services.common.domain.packing import END, tar_member
from services.common.domain.provenance import PLACEHOLDER_SOURCES
from services.common.domain.tables.report import Report
from services.common.domain.texts import Plural, Text
from services.common.runtime.problems import ProblemError
from services.review.access import AppState, CurrentUser, StateDep, VerifiedForm, text_of

LIST_OPTIONS = ("collection", "licence", "url_column", "text_column", "group_column", "encoding")
"""Form fields passed on to the fetcher."""
SHOWN_FAILURES = 200
SHOWN_BATCHES = 50
MOST_NAME = 200
"""Characters of a batch's name."""

NONE_RETRIED = Text("No failure is temporary: fix the list or its server, then retry all.")
RETRIED = Plural("One item is fetched again.", "%(count)s items are fetched again.")

BatchId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z/-]{1,100}$")]
router = APIRouter()


@dataclass(frozen=True)
class UploadResult:
    """Result of an uploaded file."""

    name: str
    batch_id: str = ""
    """Of an accepted list."""
    rejected: list[RejectedRow] = field(default_factory=list)
    """The first rejected lines."""
    rejected_count: int = 0
    problem: Text | str = ""
    """Reason of a refused file; a string is that of the fetcher, in English."""
    reading: Report | None = None
    """The fetcher's reading report of a list."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.problem or self.rejected_count or self._has_reading)

    @property
    def _has_reading(self) -> bool:
        """Whether a person should check the reading: columns, accents, notes."""
        if (reading := self.reading) is None:
            return False
        is_plain = reading.encoding in {None, "utf-8-sig"}
        return bool(reading.columns or reading.notes) or not is_plain

    @property
    def lacks_columns(self) -> bool:
        """Whether its columns must be named."""
        return any(each.code == "no_url_column" for each in self.rejected)


@router.get("/batches")
async def batches_page(
    request: Request, state: StateDep, user: CurrentUser, cursor: Cursor = None
) -> Response:
    """Show batches, newest first, and the upload form."""
    found = await state.fetcher.batches(cursor, limit=SHOWN_BATCHES)
    address = URL(request.url.path).replace(query=request.url.query)
    return state.templates.render("batches", user, found=found, address=address)


@router.get("/batches/{batch_id}")
async def batch_page(
    state: StateDep,
    user: CurrentUser,
    batch_id: BatchId,
    retried: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """Show progress and failures of a batch."""
    try:
        batch = await state.fetcher.batch(batch_id)
        failures = await _failures(state, batch_id) if batch.counts.failed else []
    except FetcherRefusedError as error:
        raise ProblemError(404, "batch_not_found", str(error)) from error
    where = ImageFilter(Limits(batch=batch_id), is_placeholder=True)
    return state.templates.render(
        "batch",
        user,
        batch=batch,
        message=None if retried is None else RETRIED.of(retried) if retried else NONE_RETRIED,
        failures=failures,
        placeholders=await state.images.count(where),
        placeholder_sources=PLACEHOLDER_SOURCES,
    )


@router.post("/batches/{batch_id}/retry")
async def retry(state: StateDep, _: CurrentUser, batch_id: BatchId, form: VerifiedForm) -> Response:
    """Fetch failed items of a batch again."""
    try:
        scope = RetryScope(text_of(form, "scope"))
    except ValueError as error:
        raise ProblemError(422, "invalid_request", "unknown scope") from error
    retried = await state.fetcher.retry(batch_id, scope)
    return RedirectResponse(f"/batches/{batch_id}?retried={retried}", status_code=303)


@router.post("/submit")
async def submit(state: StateDep, user: CurrentUser, form: VerifiedForm) -> Response:
    """Submit lists, archives, images and PDFs to the fetcher; show refused ones.

    PDFs are pages in any case; the others are if the form says so.
    """
    files = [
        each for each in form.getlist("file") if isinstance(each, UploadFile) and each.filename
    ]
    if not files:
        raise ProblemError(422, "no_file", "no file was sent")
    options: dict[str, Any] = {name: text_of(form, name).strip() or None for name in LIST_OPTIONS}
    asked = ListRequest(**options, by=user.name, pages=text_of(form, "pages") == "yes")
    starts = [await _beginning(file) for file in files]
    documents = [file for file, start in zip(files, starts, strict=True) if is_pdf(start)]
    images = [file for file, start in zip(files, starts, strict=True) if begins_as_image(start)]
    rest = [file for file in files if file not in images and file not in documents]
    done = [await _take(state, file, asked) for file in rest]
    if asked.pages:
        images, documents = [], [*images, *documents]
    if images:
        done.append(await _take_images(state, images, asked))
    if documents:
        done.append(await _take_images(state, documents, replace(asked, pages=True)))
    if len(done) == 1 and done[0].is_well:
        return RedirectResponse(f"/batches/{done[0].batch_id}", status_code=303)
    status = 422 if any(each.problem for each in done) else 200
    asks_for_columns = any(each.lacks_columns for each in done)
    return state.templates.render(
        "submitted", user, status=status, files=done, asks_for_columns=asks_for_columns
    )


async def _failures(state: AppState, batch_id: str) -> list[ItemStatus]:
    """Return the first failed items of a batch."""
    failures: list[ItemStatus] = []
    async with aclosing(state.fetcher.items(batch_id, outcome="failed")) as found:
        async for item in found:
            failures.append(item)
            if len(failures) == SHOWN_FAILURES:
                break
    return failures


async def _take(state: AppState, file: UploadFile, asked: ListRequest) -> UploadResult:
    """Submit a list or an archive to the fetcher."""
    name = file.filename or "list.txt"
    request = replace(asked, name=name[:MOST_NAME])
    sent = state.fetcher.submit_file(file.file, file_name=name, request=request)
    return await _submitted(name, sent)


async def _take_images(
    state: AppState, images: Sequence[UploadFile], asked: ListRequest
) -> UploadResult:
    """Submit images or pages to the fetcher as one batch, with their names."""
    name = images[0].filename or "image"
    if len(images) > 1:
        name = f"{len(images)} {'pages' if asked.pages else 'images'}"
    request = replace(asked, name=name[:MOST_NAME], kind="upload")
    sent = state.fetcher.submit_file(_packed(images), file_name="images.tar", request=request)
    return await _submitted(name, sent)


async def _submitted(name: str, answer: Awaitable[Submission]) -> UploadResult:
    """Return the result of a file; an error does not affect the others."""
    try:
        told = await answer
    except FetcherRefusedError as error:
        return UploadResult(name, rejected=error.problem.rejected, problem=str(error))
    except FetcherUnavailableError:
        return UploadResult(name, problem=Text("the fetcher does not answer; retry later"))
    return UploadResult(
        name, told.batch_id, told.rejected, told.rejected_count, reading=told.reading
    )


async def _beginning(file: UploadFile) -> bytes:
    start = await file.read(PDF_START_BYTES)
    await file.seek(0)
    return start


async def _packed(images: Sequence[UploadFile]) -> AsyncIterator[bytes]:
    """Stream images as a tar archive with unique names."""
    taken: set[str] = set()
    for number, image in enumerate(images, start=1):
        name = (image.filename or "image").replace("\\", "/").rpartition("/")[2]
        if name in taken:
            name = f"{number} {name}"
        taken.add(name)
        yield tar_member(name, await image.read())
    yield END
