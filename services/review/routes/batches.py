"""Batches and their progress; what is dropped onto the page."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import UploadFile

from services.common.images import ImageFormat, sniff
from services.common.problems import ProblemError
from services.review.access import Me, Of, Parts, Posted
from services.review.fetcher import FetcherRefusedError

HEADER_BYTES = 2**20
"""Enough of a file to tell whether it is an image."""

BatchId = Annotated[str, Path(pattern=r"^[0-9A-Za-z-]{1,64}$")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9A-Za-z/-]{1,100}$")]
router = APIRouter()


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
    return parts.pages.page("batch", me, batch=batch, failures=failures)


@router.post("/submit")
async def submit(parts: Of, _: Me, form: Posted) -> Response:
    """Store images in the bucket, and give lists to the fetcher."""
    files = [
        each for each in form.getlist("file") if isinstance(each, UploadFile) and each.filename
    ]
    if not files:
        raise ProblemError(422, "no_file", "there is no file")
    stored, batch_id = 0, ""
    for file in files:
        if known := sniff(await _beginning(file)):
            await _store(parts, file, known)
            stored += 1
        else:
            batch_id = await _submit_list(parts, file)
    address = f"/batches/{batch_id}" if batch_id else f"/batches?stored={stored}"
    return RedirectResponse(address, status_code=303)


async def _beginning(file: UploadFile) -> bytes:
    beginning = await file.read(HEADER_BYTES)
    await file.seek(0)
    return beginning


async def _store(parts: Parts, file: UploadFile, known: ImageFormat) -> None:
    limit = parts.settings.max_object_bytes
    if (file.size or 0) > limit:
        raise ProblemError(413, "image_too_large", f"an image has more than {limit} bytes")
    content = await file.read()
    # By content: whatever name a person's file has, it never replaces another image
    key = f"uploads/{hashlib.sha256(content).hexdigest()}.{known.extension}"
    await parts.store.write(key, content, content_type=known.content_type, metadata={})


async def _submit_list(parts: Parts, file: UploadFile) -> str:
    try:
        answer = await parts.fetcher.submit(file.file, file_name=file.filename or "list.txt")
    except FetcherRefusedError as error:
        raise ProblemError(422, error.code, f"{file.filename}: {error}") from error
    return str(answer["batch_id"])
