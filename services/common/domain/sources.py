"""Bounded list of the sources of an image document.

Hosts may answer every missing image with the same picture, so one document may have a hundred
thousand sources. The fetcher's collection ``fetches`` has the others.

See docs/decisions/0029-placeholder-images.md.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from urllib.parse import unquote

from services.common.domain.details import NO_DETAILS, Details
from services.common.domain.provenance import UPLOADS, Provenance, SourceKind
from services.common.domain.records import Source

MOST_SOURCES = 1000
"""Limit of stored sources; ``sources_count`` has none."""

MOST_BATCHES = 100
"""Limit of sources with one URL, or name, and collection."""

COLLECTED, FETCHED = "api/", "fetched/"
"""Key prefixes of objects stored by the OCR API and the fetcher."""
FETCHED_KINDS = ("url", "archive")
"""Kinds of sources that earlier versions wrote without their collection."""
_OF_REVIEW_PAGE = re.compile(r"uploads/[0-9a-f]{64}\.[a-z]+")
"""Keys made by the review page of earlier versions."""


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
    if len(known) < MOST_SOURCES:
        return (*known, source)
    batches = Counter(each.batch_id for each in known)
    largest, number = batches.most_common(1)[0]
    if source.batch_id in batches or number == 1:
        return known
    at = max(at for at, each in enumerate(known) if each.batch_id == largest)
    return (*known[:at], source, *known[at + 1 :])
