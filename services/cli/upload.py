"""Put a folder of images straight into the bucket, under keys as the OCR API would choose them."""

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from services.cli.errors import ExitStatus
from services.cli.output import Output, cell, counted, table
from services.cli.watch import progress_bar
from services.common.images import sniff
from services.common.object_store import ObjectStore, open_object_store
from services.common.settings import S3Settings

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


async def upload_folder(folder: Path, output: Output) -> ExitStatus:
    """Upload all images below a folder; show what was not taken, and why.

    Raises:
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    paths = await asyncio.to_thread(lambda: sorted(_files(folder)))
    found: list[Uploaded] = []
    async with open_object_store(S3Settings()) as store:
        await store.check()
        with progress_bar(output.asides) as bar:
            task = bar.add_task("uploading", total=len(paths), words="")
            for start in range(0, len(paths), AT_ONCE):
                some = paths[start : start + AT_ONCE]
                found += await asyncio.gather(*(_upload(store, folder, path) for path in some))
                bar.update(task, completed=len(found))
    rejected = [each for each in found if each.outcome == "rejected"]
    output.answer(_document(found), *_for_people(found, rejected))
    return ExitStatus.INCOMPLETE if rejected or not found else ExitStatus.OK


async def _upload(store: ObjectStore, folder: Path, path: Path) -> Uploaded:
    name = str(path.relative_to(folder))
    try:
        content = await asyncio.to_thread(_read, path)
    except OSError:
        return Uploaded(name, "rejected", "unreadable_file")
    if len(content) > MAX_IMAGE_BYTES:
        return Uploaded(name, "rejected", "too_large")
    image_format = await asyncio.to_thread(sniff, content)
    if image_format is None:
        return Uploaded(name, "rejected", "not_an_image")
    key = f"api/{hashlib.sha256(content).hexdigest()}.{image_format.extension}"
    if await store.head(key) is not None:
        return Uploaded(name, "unchanged", key=key)
    await store.write(key, content, content_type=image_format.content_type, metadata={})
    return Uploaded(name, "stored", key=key)


def _files(folder: Path) -> Iterator[Path]:
    """Yield files, but no links, and none whose name, or folder's, begins with a dot."""
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and path.is_file() and not path.is_symlink():
            yield path


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_IMAGE_BYTES + 1)


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
