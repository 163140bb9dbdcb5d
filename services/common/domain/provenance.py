"""Origin of an image: in the metadata of its object, and as sources of its document.

The user metadata of an object in ``raw`` is header-safe ASCII. A document lists a bounded number
of sources (docs/decisions/0029-placeholder-images.md).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, cast, get_args
from urllib.parse import quote, unquote

from services.common.domain.details import NO_DETAILS, Details, to_details
from services.common.domain.keys import COLLECTED, FETCHED, REVIEWED
from services.common.domain.page import PageOfLine, page_from_metadata, page_to_metadata
from services.common.domain.records import UNKNOWN_HOW, How, Source
from services.common.domain.sizes import MEBIBYTE

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

MOST_SOURCES = 1000
"""Limit of stored sources; ``sources_count`` has none."""

MOST_SOURCES_LENGTH = 3 * MEBIBYTE
"""Limit of their lengths as JSON. A document of MongoDB has 16 MiB, in which numbers are longer."""
FEW_SOURCES = 50
"""Number that always has room."""

MOST_BATCHES = 100
"""Limit of sources with one URL, or name, and collection."""

FETCHED_KINDS = ("url", "archive")
"""Kinds of sources that earlier versions wrote without their collection."""
_OF_REVIEW_PAGE = re.compile(rf"{REVIEWED}[0-9a-f]{{64}}\.[a-z]+")
"""Keys made by the review page of earlier versions."""


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
        if size_of(metadata) + len(name) + len(value) <= MAX_METADATA_BYTES:
            metadata[name] = value
        elif provenance.fetch_id is not None:
            metadata[FETCH_ID] = provenance.fetch_id
    return metadata


def _of_page(provenance: Provenance) -> dict[str, str]:
    metadata = page_to_metadata(provenance.page) if provenance.page else {}
    if provenance.fetch_id is None or size_of(metadata) <= MAX_PAGE_BYTES:
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


def size_of(metadata: Mapping[str, str]) -> int:
    """Return the bytes of user metadata, names included, as S3 counts them."""
    return sum(len(name) + len(value) for name, value in metadata.items())


def _parse_time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def kind_of(url: str) -> tuple[SourceKind, str | None]:
    """Return the kind of a source URL, and the name of a member: only theirs had a fragment."""
    _, _, member = url.partition("#")
    return ("archive", unquote(member)) if member else ("url", None)


def completed(provenance: Provenance, key: str, at: datetime) -> Provenance:
    """Infer the origin of an object without metadata from its key; ``at``: its time."""
    if provenance.kind is not None:
        return provenance
    if provenance.fetched_at is None and not key.startswith(FETCHED):
        provenance = replace(provenance, fetched_at=at)
    if key.startswith(COLLECTED):
        return replace(provenance, kind="api", collection=provenance.collection or "api")
    if provenance.source_url is not None:
        kind, name = kind_of(provenance.source_url)
        return replace(provenance, kind=kind, name=provenance.name or name)
    if key.startswith(FETCHED):
        return provenance
    if _OF_REVIEW_PAGE.fullmatch(key):
        return replace(provenance, kind="upload", collection=UPLOADS)
    folder, _, name = key.rpartition("/")
    collection = folder.partition("/")[0] or UPLOADS
    return replace(provenance, kind="console", collection=collection, name=name)


def to_source(provenance: Provenance) -> Source | None:
    """Return the source to store for an image; None: unknown."""
    if provenance.kind is None and provenance.source_url is None:
        return None
    known = {
        "kind": provenance.kind or "url",
        "collection": provenance.collection,
        "name": provenance.name,
        "url": provenance.source_url,
        "batch_id": provenance.batch_id,
        **replace(provenance.details, how=None, is_page=None).to_fields(),
        "at": provenance.fetched_at,
        "by": provenance.by,
    }
    return Source.model_validate({name: value for name, value in known.items() if value})


def is_one_of(source: Source, known: Iterable[Source]) -> bool:
    """Return whether a source is a duplicate.

    It is if its URL or name is known in its collection and batch; without metadata, if any
    source is known.
    """
    if source.url is None and source.batch_id is None and source.kind in {None, "console"}:
        return any(True for _ in known)
    same = [each.batch_id for each in _same(source, known)]
    return bool(same) and (source.batch_id is None or source.batch_id in same)


def with_details(known: tuple[Source, ...], source: Source) -> tuple[Source, ...]:
    """Update group, split, licence and metadata of a known source."""
    said = Details.from_fields(vars(source))
    if said == NO_DETAILS:
        return known
    wanted = _identity(source)
    return tuple(
        _completed(each, source, said) if _identity(each) == wanted else each for each in known
    )


def _completed(known: Source, source: Source, said: Details) -> Source:
    """Return a source with both details: where they differ, what was said later is right."""
    before = Details.from_fields(vars(known))
    is_later = not (known.came_at and source.came_at and source.came_at < known.came_at)
    both = said.completed_by(before) if is_later else before.completed_by(said)
    return known if both == before else known.having(**both.to_fields())


def _same(source: Source, known: Iterable[Source]) -> list[Source]:
    wanted = _identity(source)
    return [each for each in known if _identity(each) == wanted]


def _identity(source: Source) -> tuple[str | None, ...]:
    where = (source.url,) if source.url else (source.kind, source.name)
    return (*where, source.collection)


def with_source(known: tuple[Source, ...], source: Source) -> tuple[Source, ...]:
    """Add a source below the limit, or as the first of its batch.

    The images of a batch are found by their sources, so at least one per batch is stored. Of one
    URL, or name, in a collection the first one and the latest are, each with all details.

    See docs/decisions/0040-batches-of-unchanged-images.md.
    """
    known = with_details(known, source)
    if same := _same(source, known):
        source = source.having(**Details.from_fields(vars(same[-1])).to_fields())
    if len(same) >= MOST_BATCHES:
        return (*(each for each in known if each is not same[1]), source)
    kept, batches = list(known), Counter(each.batch_id for each in known)
    length = sum(each.length for each in (*known, source))
    while len(kept) >= MOST_SOURCES or (len(kept) >= FEW_SOURCES and length > MOST_SOURCES_LENGTH):
        largest, number = batches.most_common(1)[0]
        if source.batch_id in batches or number == 1:
            return known
        latest = max(at for at, each in enumerate(kept) if each.batch_id == largest)
        length -= kept.pop(latest).length
        batches[largest] -= 1
    return (*kept, source)
