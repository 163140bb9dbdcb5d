"""Batches and their progress; what is dropped onto the page."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import UploadFile

from services.common.adapters.forgotten import Forgotten
from services.common.domain.image import FORGOTTEN
from services.common.domain.image_formats import PDF_MARK, PDF_REFUSED, ImageFormat, sniff
from services.common.domain.provenance import PLACEHOLDER_SOURCES
from services.common.runtime.problems import ProblemError
from services.review.access import Me, Of, Parts, Posted, text_of
from services.review.fetcher import FetcherRefusedError, FetcherUnavailableError

HEADER_BYTES = 2**20
"""Enough of most files that are too large to tell whether they are images."""

LIST_OPTIONS = ("url_column", "text_column", "encoding")
"""Fields of the form that the fetcher is given."""

BatchId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z/-]{1,100}$")]
router = APIRouter()


@dataclass(frozen=True)
class Submitted:
    """What became of a file that was dropped."""

    name: str
    batch_id: str = ""
    """Of a list that was taken."""
    rejected: list[dict[str, Any]] = field(default_factory=list)
    """The first lines that were not."""
    rejected_count: int = 0
    problem: str = ""
    """Why the file was not taken at all."""
    reading: dict[str, Any] = field(default_factory=dict)
    """How a list was read."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to tell of it."""
        return not (self.problem or self.rejected_count or self._has_reading)

    @property
    def _has_reading(self) -> bool:
        """Whether a person should see that it was read as it was meant: columns, accents, notes."""
        is_plain = self.reading.get("encoding") in {None, "utf-8-sig"}
        return bool(self.reading.get("columns") or self.reading.get("notes")) or not is_plain

    @property
    def lacks_columns(self) -> bool:
        """Whether its header was not understood."""
        return any(each.get("code") == "no_url_column" for each in self.rejected)


@router.get("/batches")
async def batches_page(parts: Of, me: Me, cursor: Cursor = None, stored: int = 0) -> Response:
    """Show batches, the newest first, and where to drop lists and images."""
    found = await parts.fetcher.batches(cursor)
    message = f"Images stored: {stored}. They are read within seconds." if stored else ""
    return parts.pages.page("batches", me, found=found, message=message)


@router.get("/batches/{batch_id}")
async def batch_page(parts: Of, me: Me, batch_id: BatchId) -> Response:
    """Show how far a batch is and what failed."""
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
    """Store images in the bucket, and give lists to the fetcher; tell what was not taken."""
    files = [
        each for each in form.getlist("file") if isinstance(each, UploadFile) and each.filename
    ]
    if not files:
        raise ProblemError(422, "no_file", "there is no file")
    options = {name: value for name in LIST_OPTIONS if (value := text_of(form, name).strip())}
    done = [await _take(parts, file, options) for file in files]
    told = [each for each in done if each.batch_id or not each.is_well]
    stored = len(done) - len(told)
    if not told:
        return RedirectResponse(f"/batches?stored={stored}", status_code=303)
    if len(done) == 1 and told[0].is_well:
        return RedirectResponse(f"/batches/{told[0].batch_id}", status_code=303)
    status = 422 if any(each.problem for each in told) else 200
    asks_for_columns = any(each.lacks_columns for each in told)
    return parts.pages.page(
        "submitted",
        me,
        status=status,
        files=told,
        stored=stored,
        asks_for_columns=asks_for_columns,
    )


async def _take(parts: Parts, file: UploadFile, options: Mapping[str, str]) -> Submitted:
    """Take one file; what is wrong with it does not hold up the others."""
    name = file.filename or "list.txt"
    try:
        content, known = await _read_image(file, parts.settings.max_object_bytes)
        if known:
            await _store(parts, content, known)
            return Submitted(name)
        answer = await parts.fetcher.submit(file.file, file_name=name, options=options)
    except FetcherRefusedError as error:
        return Submitted(name, rejected=error.rejected, problem=str(error))
    except FetcherUnavailableError:
        return Submitted(name, problem="the fetcher does not answer; try again shortly")
    except ProblemError as error:
        return Submitted(name, problem=error.detail)
    rejected, count = answer.get("rejected") or [], int(answer.get("rejected_count") or 0)
    reading = answer.get("reading") or {}
    return Submitted(name, str(answer["batch_id"]), rejected, count, reading=reading)


async def _read_image(file: UploadFile, limit: int) -> tuple[bytes, ImageFormat | None]:
    """Return the content of a file and its format; without one it is no image, and may be a list.

    WebP, and TIFF whose directory is at its end, are only known whole.

    Raises:
        ProblemError: It is an image of more than ``limit`` bytes.
    """
    is_small = (file.size or 0) <= limit
    content = await file.read(limit if is_small else HEADER_BYTES)
    await file.seek(0)
    known = await asyncio.to_thread(sniff, content)
    if content.startswith(PDF_MARK):
        raise ProblemError(415, "pdf_not_read", PDF_REFUSED)
    if known and not is_small:
        raise ProblemError(413, "image_too_large", f"an image has more than {limit} bytes")
    return content, known


async def _store(parts: Parts, content: bytes, known: ImageFormat) -> None:
    # By content: whatever name a person's file has, it never replaces another image
    digest = hashlib.sha256(content).hexdigest()
    if await Forgotten(parts.index.forgotten).has_image(digest):
        raise ProblemError(422, FORGOTTEN, "somebody had this image forgotten: it is not stored")
    key = f"uploads/{digest}.{known.extension}"
    await parts.store.write(key, content, content_type=known.content_type, metadata={})
