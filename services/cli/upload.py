"""Put images straight into the bucket: of a folder, or of an archive on this machine.

Their keys are as the OCR API would choose them. As with any upload there is no batch, and no URL
that they come from.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.table import Table

from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, counted, table
from services.cli.reading import reading_for_people
from services.cli.watch import progress_bar
from services.common.adapters.object_store import ObjectInfo, ObjectStore, open_object_store
from services.common.domain.annotations import UnacceptableAnnotationError, normalise
from services.common.domain.errors import PermanentError
from services.common.domain.image_formats import ImageFormat, sniff
from services.common.domain.provenance import Provenance, from_metadata, to_metadata
from services.common.domain.tables.table import Report
from services.common.runtime.settings import S3Settings
from services.fetcher.archives.ground_truth import GroundTruth, is_companion, may_annotate
from services.fetcher.lists.rows import MalformedListError

AT_ONCE = 16
MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""As much as the fetcher takes."""
SHOWN_REJECTIONS = 20


@dataclass(frozen=True)
class Uploaded:
    """What became of a file; ``key`` is None where it was not taken."""

    path: str
    outcome: str
    """``stored``, ``unchanged`` (the bucket had it) or ``rejected``."""
    code: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A file that may be an image."""

    path: str
    read: Callable[[], bytes]
    """Returns its content, or the first ``MAX_IMAGE_BYTES`` + 1 bytes; may raise OSError."""
    annotation: str | None = None


@dataclass(frozen=True)
class UploadOptions:
    """What a person wants of an upload.

    Args:
        strict: Whether to store nothing where a text found no image, or a table was not understood.
        dry_run: Whether only to show what would be stored.
    """

    strict: bool = False
    dry_run: bool = False


class _FolderFiles:
    """Files below a folder, for what is read of an archive's members."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """Return a file's content: the whole, or the first ``max_bytes`` + 1 bytes."""
        return _read(self._folder / name, max_bytes)


async def upload_folder(folder: Path, output: Output, options: UploadOptions) -> ExitStatus:
    """Upload all images below a folder with their texts; show what was not taken, and why.

    Raises:
        CommandError: A table of texts is too large.
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    report = Report()
    found = await asyncio.to_thread(_candidates, folder, report)
    return await upload(found, [], report, output, options, total=len(found))


def _candidates(folder: Path, report: Report) -> list[Candidate]:
    names = {readable(path.relative_to(folder)): path for path in sorted(_files(folder))}
    annotating = [name for name in names if may_annotate(name)]
    others = [name for name in names if not may_annotate(name)]
    try:
        truth = GroundTruth(_FolderFiles(folder), annotating, others, report)
        return [
            Candidate(name, partial(_read, path), truth.of(name) if name in others else None)
            for name, path in names.items()
            if name not in truth.used and not is_companion(name)
        ]
    except MalformedListError as error:
        raise CommandError(f"{folder}: {error.detail}", status=ExitStatus.REFUSED) from error


def readable(path: Path) -> str:
    """Return a path as text, also where it has bytes that are none: JSON has none."""
    return os.fsencode(path).decode(errors="replace")


async def upload_image(path: Path, output: Output, options: UploadOptions) -> ExitStatus:
    """Upload one image.

    Raises:
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    found = [Candidate(readable(path), partial(_read, path))]
    return await upload(found, [], Report(rows=1), output, options, total=1)


async def upload(
    candidates: Iterable[Candidate],
    refused: Sequence[Uploaded],
    report: Report,
    output: Output,
    options: UploadOptions,
    *,
    total: int | None = None,
) -> ExitStatus:
    """Upload what is an image; show what was not taken, and why.

    Args:
        candidates: In the order in which they are shown; only so many as are uploaded at once are
            taken beforehand.
        refused: What is none of them already; read after the candidates.
        report: What became of the texts; complete when both are read.
        output: Where to show it.
        options: What else is wanted; with ``strict`` the report and ``refused`` are complete.
        total: How many candidates there are; None: not known.

    Raises:
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    problems = bool(report.note_count or report.texts_without_image)
    if options.dry_run or (options.strict and (problems or refused)):
        return await asyncio.to_thread(_show_only, candidates, refused, report, output, options)
    found: list[Uploaded] = []
    texts: dict[str, str] = {}
    async with open_object_store(S3Settings()) as store:
        await store.check()
        with progress_bar(output.asides) as bar:
            task = bar.add_task("uploading", total=total, words="")
            left = iter(candidates)
            while some := await asyncio.to_thread(list, islice(left, AT_ONCE)):
                found += await asyncio.gather(*(_upload(store, each, texts) for each in some))
                bar.advance(task, len(some))
    found = [*refused, *found]
    rejected = [each for each in found if each.outcome == "rejected"]
    output.answer(
        {**_document(found), "reading": asdict(report)},
        *_for_people(found, rejected),
        *reading_for_people(report),
    )
    return ExitStatus.INCOMPLETE if rejected or not found else ExitStatus.OK


def _show_only(
    candidates: Iterable[Candidate],
    refused: Sequence[Uploaded],
    report: Report,
    output: Output,
    options: UploadOptions,
) -> ExitStatus:
    """Show how images and texts would be taken; store nothing."""
    left = iter(candidates)
    first = list(islice(left, SHOWN_REJECTIONS))
    count = len(first) + sum(1 for _ in left)
    rows = [[cell(each.path), cell(each.annotation or "")] for each in first]
    document = {
        "dry_run": options.dry_run,
        "files": [{"path": each.path, "annotation": each.annotation} for each in first],
        "refused": [asdict(each) for each in refused],
        "reading": asdict(report),
    }
    words = f"nothing was stored: {count} files, {len(refused)} refused"
    output.answer(
        document,
        table("as it would be taken", ("file", "text"), rows),
        words,
        *reading_for_people(report),
    )
    return ExitStatus.OK if options.dry_run else ExitStatus.REFUSED


async def _upload(store: ObjectStore, candidate: Candidate, texts: dict[str, str]) -> Uploaded:
    """Store an image, unless one of the same bytes has another text; ``texts`` are by key."""
    name = candidate.path
    try:
        content = await asyncio.to_thread(candidate.read)
        image_format = await asyncio.to_thread(_format_of, content)
        key = f"api/{hashlib.sha256(content).hexdigest()}.{image_format.extension}"
        _check_text(texts, key, candidate.annotation)
        known = await store.head(key)
        metadata = _metadata_of(candidate, known)
    except OSError:
        return Uploaded(name, "rejected", "unreadable_file")
    except (MalformedListError, UnacceptableAnnotationError, _RejectedError) as error:
        # the first: its archive is broken there
        return Uploaded(name, "rejected", error.code)
    if known is not None and metadata.items() <= known.metadata.items():
        return Uploaded(name, "unchanged", key=key)
    await store.write(key, content, content_type=image_format.content_type, metadata=metadata)
    return Uploaded(name, "stored", key=key)


def _check_text(texts: dict[str, str], key: str, text: str | None) -> None:
    if text is not None and texts.setdefault(key, text) != text:
        raise _RejectedError("texts_disagree")


class _RejectedError(PermanentError):
    """A file is not taken."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def _metadata_of(candidate: Candidate, known: ObjectInfo | None) -> dict[str, str]:
    """Return what the bucket is to say of an image, and what it says already."""
    if not (text := normalise(candidate.annotation or "")):
        return {}
    origin = Provenance() if known is None else from_metadata(dict(known.metadata))
    metadata = to_metadata(replace(origin, annotation=text))
    if "annotation" not in metadata:
        raise _RejectedError("annotation_too_long")
    return metadata


def _format_of(content: bytes) -> ImageFormat:
    if len(content) > MAX_IMAGE_BYTES:
        raise _RejectedError("too_large")
    if (image_format := sniff(content)) is None:
        raise _RejectedError("not_an_image")
    return image_format


def _files(folder: Path) -> Iterator[Path]:
    """Yield files, but no links, and none whose name, or folder's, begins with a dot."""
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and path.is_file() and not path.is_symlink():
            yield path


def _read(path: Path, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    with path.open("rb") as file:
        return file.read(max_bytes + 1)


def _counts(found: list[Uploaded]) -> dict[str, int]:
    outcomes = [each.outcome for each in found]
    return {name: outcomes.count(name) for name in ("stored", "unchanged", "rejected")}


def _document(found: list[Uploaded]) -> dict[str, Any]:
    return {"counts": _counts(found), "files": [asdict(each) for each in found]}


def _for_people(found: list[Uploaded], rejected: list[Uploaded]) -> list[Table | str]:
    shown: list[Table | str] = []
    if rejected:
        rows = [[cell(each.path), cell(each.code, "red")] for each in rejected[:SHOWN_REJECTIONS]]
        title = f"{len(rejected)} rejected"
        if len(rejected) > SHOWN_REJECTIONS:
            title += f", the first {SHOWN_REJECTIONS}"
        shown.append(table(title, ("file", "code"), rows))
    shown.append(f"{counted(_counts(found))}: see them with docreco images")
    return shown
