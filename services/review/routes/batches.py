"""Routes of batches and uploads."""

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import UploadFile

from services.common.domain.image_formats import begins_as_image
from services.common.domain.packing import END, tar_member
from services.common.domain.provenance import PLACEHOLDER_SOURCES
from services.common.runtime.problems import ProblemError
from services.review.access import Me, Of, Parts, Posted, text_of
from services.review.fetcher import FetcherRefusedError, FetcherUnavailableError

HEADER_BYTES = 32
"""First bytes read to detect an image."""

LIST_OPTIONS = (
    *("collection", "licence", "url_column", "text_column", "group_column", "encoding"),
)
"""Form fields passed on to the fetcher."""

BatchId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z/-]{1,100}$")]
router = APIRouter()


@dataclass(frozen=True)
class Submitted:
    """Result of an uploaded file."""

    name: str
    batch_id: str = ""
    """Of an accepted list."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """The first rejected lines."""
    rejected_count: int = 0
    problem: str = ""
    """Reason of a refused file."""
    reading: dict[str, Any] = field(default_factory=dict)
    """The fetcher's reading report of a list."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to report."""
        return not (self.problem or self.rejected_count or self._has_reading)

    @property
    def _has_reading(self) -> bool:
        """Whether a person should check the reading: columns, accents, notes."""
        is_plain = self.reading.get("encoding") in {None, "utf-8-sig"}
        return bool(self.reading.get("columns") or self.reading.get("notes")) or not is_plain

    @property
    def lacks_columns(self) -> bool:
        """Whether its columns must be named."""
        return any(each.get("code") == "no_url_column" for each in self.rejected)


@router.get("/batches")
async def batches_page(parts: Of, me: Me, cursor: Cursor = None) -> Response:
    """Show batches, newest first, and the upload form."""
    found = await parts.fetcher.batches(cursor)
    return parts.pages.page("batches", me, found=found)


@router.get("/batches/{batch_id}")
async def batch_page(parts: Of, me: Me, batch_id: BatchId) -> Response:
    """Show progress and failures of a batch."""
    try:
        batch = await parts.fetcher.batch(batch_id)
        failures = await parts.fetcher.failures(batch_id) if batch["counts"]["failed"] else []
    except FetcherRefusedError as error:
        raise ProblemError(404, "batch_not_found", str(error)) from error
    where = {"placeholder": True, "sources.batch_id": batch_id}
    return parts.pages.page(
        "batch",
        me,
        batch=batch,
        failures=failures,
        placeholders=await parts.images.count(where),
        placeholder_sources=PLACEHOLDER_SOURCES,
    )


@router.post("/submit")
async def submit(parts: Of, me: Me, form: Posted) -> Response:
    """Submit lists, archives and images to the fetcher; show refused ones."""
    files = [
        each for each in form.getlist("file") if isinstance(each, UploadFile) and each.filename
    ]
    if not files:
        raise ProblemError(422, "no_file", "no file was sent")
    options = {name: value for name in LIST_OPTIONS if (value := text_of(form, name).strip())}
    options["by"] = me.name
    images = [file for file in files if await _is_image(file)]
    done = [await _take(parts, file, options) for file in files if file not in images]
    if images:
        done.append(await _take_images(parts, images, options))
    if len(done) == 1 and done[0].is_well:
        return RedirectResponse(f"/batches/{done[0].batch_id}", status_code=303)
    status = 422 if any(each.problem for each in done) else 200
    asks_for_columns = any(each.lacks_columns for each in done)
    return parts.pages.page(
        "submitted", me, status=status, files=done, asks_for_columns=asks_for_columns
    )


async def _take(parts: Parts, file: UploadFile, options: Mapping[str, str]) -> Submitted:
    """Submit a list or an archive to the fetcher."""
    name = file.filename or "list.txt"
    return await _submitted(name, parts.fetcher.submit(file.file, name=name, options=options))


async def _take_images(
    parts: Parts, images: Sequence[UploadFile], options: Mapping[str, str]
) -> Submitted:
    """Submit images to the fetcher as one batch, with their names."""
    name = images[0].filename or "image"
    if len(images) > 1:
        name = f"{len(images)} images"
    content = parts.fetcher.submit(
        _packed(images), name=name, file_name="images.tar", options={**options, "kind": "upload"}
    )
    return await _submitted(name, content)


async def _submitted(name: str, answer: Awaitable[dict[str, Any]]) -> Submitted:
    """Return the result of a file; an error does not affect the others."""
    try:
        told = await answer
    except FetcherRefusedError as error:
        return Submitted(name, rejected=error.rejected, problem=str(error))
    except FetcherUnavailableError:
        return Submitted(name, problem="the fetcher does not answer; retry later")
    rejected, count = told.get("rejected") or [], int(told.get("rejected_count") or 0)
    reading = told.get("reading") or {}
    return Submitted(name, str(told["batch_id"]), rejected, count, reading=reading)


async def _is_image(file: UploadFile) -> bool:
    start = await file.read(HEADER_BYTES)
    await file.seek(0)
    return begins_as_image(start)


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
