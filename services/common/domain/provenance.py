"""User metadata of an object in ``raw``: where the image came from, as header-safe ASCII."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast, get_args
from urllib.parse import quote, unquote

from services.common.domain.details import NO_DETAILS, Details, to_details
from services.common.domain.page import PageOfLine, page_from_metadata, page_to_metadata
from services.common.domain.records import UNKNOWN_HOW, How

MAX_METADATA_BYTES = 1700
"""S3 allows 2 KiB of user metadata, names included; the rest is reserved for ``fetch-id``."""
MAX_PAGE_BYTES = 1200
"""Of them, what says where a line is on its page: a polygon may be of any length."""
FETCH_ID = "fetch-id"
"""Metadata name of the reference to values that do not fit."""

SUBMITTED = "submitted:"
"""Prefix of addresses of submitted files, which are not URLs."""
DEFAULT_COLLECTION = "default"
MAX_COLLECTION_LENGTH = 200
UPLOADS = "uploads"
"""Default collection of single images."""
SourceKind = Literal["url", "archive", "folder", "upload", "console", "api", "page"]
"""Origins of images: a list of URLs, an archive, a folder, a single file, the store's console (or
another writer of the bucket), a request to the OCR API, a page that it is a line of."""
KINDS = frozenset(get_args(SourceKind))

PLACEHOLDER_SOURCES = 100
"""Images of more URLs are shown as placeholders: a logo, or "photo unavailable"."""


@dataclass(frozen=True)
class Provenance:
    """Origin of a stored image; all fields are None for a plain upload, which has no batch.

    Docs: docs/decisions/0052-console-and-api-have-no-batch.md.
    """

    source_url: str | None = None
    """ASCII, percent-encoded like the URL."""
    batch_id: str | None = None
    annotation: str | None = None
    fetched_at: datetime | None = None
    fetch_id: str | None = None
    """``_id`` in ``fetches``; in metadata only if a value is too long for a header."""
    kind: SourceKind | None = None
    collection: str | None = None
    name: str | None = None
    """Of the file, or path of the member, as given."""
    details: Details = NO_DETAILS
    by: str | None = None
    """Submitter."""
    page: PageOfLine | None = None
    """Of a line that was cut out of a page."""


def to_metadata(provenance: Provenance, needed: Mapping[str, str] | None = None) -> dict[str, str]:
    """Encode as user metadata; ``fetch-id`` refers to values that do not fit.

    Args:
        provenance: What is encoded.
        needed: Further values, for which there must be room.
    """
    metadata = {**(needed or {}), **_of_page(provenance)}
    if provenance.batch_id is not None:
        metadata["batch-id"] = provenance.batch_id
    if provenance.fetched_at is not None:
        metadata["fetched-at"] = provenance.fetched_at.isoformat()
    if provenance.kind is not None:
        metadata["kind"] = provenance.kind
    details = provenance.details
    kept = None if details.metadata is None else json.dumps(details.metadata, separators=(",", ":"))
    long_values = {
        "source-url": provenance.source_url,
        "annotation": _quoted(provenance.annotation),
        "collection": _quoted(provenance.collection),
        "name": _quoted(provenance.name),
        "group": _quoted(details.group),
        "split": details.split,
        "licence": _quoted(details.licence),
        "by": _quoted(provenance.by),
        "how": details.how,
        "metadata": _quoted(kept),
    }
    for name, value in long_values.items():
        if value is None:
            continue
        if _size(metadata) + len(name) + len(value) <= MAX_METADATA_BYTES:
            metadata[name] = value
        elif provenance.fetch_id is not None:
            metadata[FETCH_ID] = provenance.fetch_id
    return metadata


def _of_page(provenance: Provenance) -> dict[str, str]:
    metadata = page_to_metadata(provenance.page) if provenance.page else {}
    if provenance.fetch_id is None or _size(metadata) <= MAX_PAGE_BYTES:
        return metadata
    return {"page-id": metadata["page-id"], FETCH_ID: provenance.fetch_id}


def from_metadata(metadata: dict[str, str]) -> Provenance:
    """Decode user metadata; invalid values of other writers are left out."""
    kind = metadata.get("kind")
    said = {name: _unquoted(metadata.get(name)) for name in ("group", "split", "licence")}
    details, _ = to_details(said, [("metadata", _unquoted(metadata.get("metadata")))])
    how = metadata.get("how")
    details = replace(details, how=how if how in {*How, UNKNOWN_HOW} else None)
    return Provenance(
        source_url=metadata.get("source-url") or None,
        batch_id=metadata.get("batch-id") or None,
        annotation=_unquoted(metadata.get("annotation")),
        fetched_at=_parse_time(metadata.get("fetched-at")),
        fetch_id=metadata.get(FETCH_ID) or None,
        kind=cast("SourceKind", kind) if kind in KINDS else None,
        collection=_unquoted(metadata.get("collection")),
        name=_unquoted(metadata.get("name")),
        details=details,
        by=_unquoted(metadata.get("by")),
        page=page_from_metadata(metadata),
    )


def _quoted(text: str | None) -> str | None:
    return None if text is None else quote(text, safe="")


def _unquoted(text: str | None) -> str | None:
    value = unquote(text or "", errors="replace")
    return value if value.strip() else None


def _size(metadata: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in metadata.items())


def _parse_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
