"""Merge documents of equal bytes to one image: its label and its source."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, PRESENT, ImageFilter, Limits
from services.common.domain.labels import (
    Exclusion,
    Label,
    Origin,
    is_undecided,
    label_of,
    without_overruled,
)
from services.common.domain.page import PageOfLine
from services.common.domain.records import Quality, Source
from services.datasets.splits import hosts_of

_NAMES = ("key", "etag", "sha256", "status", "stored_at", "annotation", "annotation_conflict")
_OF_SOURCES = (
    *("url", "batch_id", "kind", "collection", "name", "at", "fetched_at"),
    *("group", "split", "metadata", "licence"),
)
_PARTS = (
    *(f"sources.{name}" for name in _OF_SOURCES),
    *("history.text", "history.model_version", "page", "double_reading.state"),
)
FIELDS = dict.fromkeys((*_NAMES, "prediction", *_PARTS), 1)
"""Fields of a document that its image needs."""
LATEST = datetime.max.replace(tzinfo=UTC)
_NAMED = ("name", "collection", "group", "licence", "metadata")
_VAGUE = {Exclusion.NOT_READ, Exclusion.NOT_ANNOTATED}


async def find_copies(
    images: ImageRepository, bucket: str, hashes: Iterable[str]
) -> dict[str, list[ImageDocument]]:
    """Return all documents of each hash, except removed ones, sorted by key."""
    where = ImageFilter(hashes=frozenset(hashes), bucket=bucket, status=PRESENT)
    copies: dict[str, list[ImageDocument]] = {}
    async for document in images.find(where, fields=FIELDS):
        copies.setdefault(str(document.sha256), []).append(document)
    return {sha256: sorted(found, key=lambda each: each.id) for sha256, found in copies.items()}


def decide(
    copies: Sequence[ImageDocument],
    *,
    only_annotated: bool,
    min_agreement: float,
    only_corrected: bool = False,
    only_agreed: bool = False,
) -> tuple[ImageDocument, Label] | Exclusion:
    """Return the label of an image and its document, or the reason for none.

    Precedence: a person's text for any copy, a person's judgement that it is not a text, a list's
    text, a prediction; then the first key. None while two people differ about any copy.
    """
    if is_undecided(copies):
        return Exclusion.ANNOTATORS_DIFFER
    label = partial(
        label_of,
        only_annotated=only_annotated,
        min_agreement=min_agreement,
        only_corrected=only_corrected,
        only_agreed=only_agreed,
    )
    copies = without_overruled(copies)
    labels = [(each, label(each)) for each in copies]
    labelled = [(each, label) for each, label in labels if isinstance(label, Label)]
    written = [pair for pair in labelled if pair[1].origin is Origin.ANNOTATION]
    refused = [quality for each in copies if (quality := _refusal(each))]
    if written:
        return written[0]
    if refused:
        return refused[0]
    if labelled:
        return labelled[0]
    reasons = [label for _, label in labels if isinstance(label, Exclusion)]
    return next((reason for reason in reasons if reason not in _VAGUE), reasons[0])


@dataclass(frozen=True)
class ImageOrigin:
    """Origin of an image, over all its keys."""

    key: str
    """The first one stored."""
    sources: list[Source]
    """Those that match the limits first, then by time; those without time are last."""
    pages: list[PageOfLine]
    """Pages that it is a line of."""

    @property
    def hosts(self) -> list[str]:
        """The distinct hosts of its sources, in their order."""
        return hosts_of(self.sources)

    def naming(self, limits: Limits) -> dict[str, Any]:
        """Return what an export says of where the image is from, all of one source.

        That is the earliest with a collection or name of those that match the limits.
        """
        sources = [each for each in self.sources if limits.match(each)] or self.sources
        named = next((each for each in sources if each.collection or each.name), None)
        named = named or next(iter(sources), Source())
        fields = {field: getattr(named, field) or None for field in _NAMED}
        fields["group"] = fields["group"] or next(iter(self.page_groups), None)
        return fields

    @property
    def page_groups(self) -> list[str]:
        """Groups of the pages that it is a line of."""
        return [each.group or each.document or each.id for each in self.pages]

    @property
    def collection(self) -> str | None:
        """The first one that it was submitted in."""
        submitted = (each.collection for each in self.sources if each.batch_id)
        return next((each for each in submitted if each), None)


def provenance_of(copies: Sequence[ImageDocument], limits: Limits = NO_LIMITS) -> ImageOrigin:
    """Return the origin of an image, given all its documents and the limits of an export."""
    first = min(copies, key=lambda each: (each.stored_at or LATEST, each.id))
    sources = [source for each in copies for source in each.sources]
    by_time = sorted(sources, key=lambda each: each.came_at or LATEST)
    return ImageOrigin(
        first.key, limits.first(by_time), [each.page for each in copies if each.page]
    )


def _refusal(document: ImageDocument) -> Exclusion | None:
    annotation = document.annotation
    if document.is_undecided:
        return Exclusion.ANNOTATORS_DIFFER
    if annotation is None:
        return Exclusion.SOURCES_DISAGREE if document.annotation_conflict else None
    return None if annotation.quality is Quality.OK else Exclusion(annotation.quality)
