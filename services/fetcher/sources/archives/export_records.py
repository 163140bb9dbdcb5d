"""Read the names and metadata of images from a resubmitted export."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from services.common.domain.details import Details, of_export
from services.common.domain.keys import page_hash
from services.common.domain.page import PageOfLine, line_name
from services.common.domain.tables.json_rows import load_json
from services.fetcher.sources.archives.members import Archive, ArchiveRefusedError

MAX_RECORDS_BYTES = 128 * 1024 * 1024
"""Limit of a manifest, which is read as a whole: about 300,000 images."""


def records_of_exports(names: Iterable[str]) -> Iterator[str]:
    """Yield the records of a ``docreco export``."""
    known = set(names)
    for name in known:
        path = PurePosixPath(name)
        if path.name == "manifest.jsonl" and str(path.with_name("manifest.json")) in known:
            yield name


def add_details(
    archive: Archive,
    name: str,
    images: Iterable[str],
    details: dict[str, Details],
    labels: dict[str, str],
) -> str:
    """Add records to the details of images; return their problem, or empty.

    Args:
        archive: Open.
        name: Of the member that has the records.
        images: Members that are images; each is named by the hash that its record has.
        details: Of images, by their names, and of lines of pages, by ``line_of``.
        labels: Likewise, as they were exported.
    """
    by_hash = {PurePosixPath(image).stem: image for image in images}
    try:
        content = archive.read(name, max_bytes=MAX_RECORDS_BYTES)
        if len(content) > MAX_RECORDS_BYTES:
            return f"names and metadata ignored: more than {MAX_RECORDS_BYTES} bytes"
        for line in content.splitlines():
            record = load_json(line)
            if not isinstance(record, Mapping):
                continue
            image = by_hash.get(str(record.get("sha256"))) or _line(record)
            if image is not None:
                details[image] = of_export(record)
                labels[image] = str(record.get("label"))
    except (ArchiveRefusedError, ValueError, RecursionError) as error:
        return f"names and metadata ignored: {error}"
    return ""


def line_of(page_sha256: str, line: str) -> str:
    """Return the name that a line of an exported page has here.

    Args:
        page_sha256: Of the page's image.
        line: Its id in the transcription.
    """
    return f"{page_sha256}#{line}"


def _line(record: Mapping[str, Any]) -> str | None:
    page_sha256 = page_hash(str(record.get("key")))
    try:
        page = PageOfLine.model_validate(record.get("page"))
    except ValidationError:
        return None
    return line_of(page_sha256, line_name(page)) if page_sha256 else None
