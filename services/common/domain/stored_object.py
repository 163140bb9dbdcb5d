"""Describe what the documents of objects have in common: images and pages."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BeforeValidator

from services.common.domain.details import ERASED
from services.common.domain.events import ObjectEvent
from services.common.domain.provenance import (
    Provenance,
    is_one_of,
    to_source,
    with_details,
    with_source,
)
from services.common.domain.records import EMPTY_IF_NULL, Rejection, Source, StoredRecord

Count = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)]


class StoredObject(StoredRecord):
    """The document of one object of a bucket."""

    bucket: str = ""
    key: str = ""
    etag: str | None = None
    size: int | None = None
    """Bytes."""
    content_type: str | None = None
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    sources: Annotated[tuple[Source, ...], EMPTY_IF_NULL] = ()
    sources_count: Count = 0
    """Number of sources, including those that the document does not store."""
    uploaded_by: str | None = None
    """User of the event."""
    stored_at: datetime | None = None
    indexed_at: datetime | None = None
    removed_at: datetime | None = None
    error: Rejection | None = None
    sequencer: str | None = None
    """Of the latest event; older events never overwrite it."""

    @property
    def urls(self) -> list[str]:
        """Every source URL."""
        return [each.url for each in self.sources if each.url]

    @property
    def origins(self) -> list[str]:
        """Its sources, for display."""
        return [each.origin for each in self.sources]

    def with_source(self, provenance: Provenance, *, is_repeated: bool = False) -> Self:
        """Add a source, unless it is known.

        Args:
            provenance: Of the event.
            is_repeated: Whether this event is in the document already; otherwise a source that it
                does not store is counted again.
        """
        count = max(self.sources_count, len(self.sources))
        source = to_source(provenance)
        is_known = source is not None and is_one_of(source, self.sources)
        if source is None or is_known or (is_repeated and count > len(self.sources)):
            known = self.sources if source is None else with_details(self.sources, source)
            is_same = self.exists and known == self.sources
            return self if is_same else self.having(sources=known, sources_count=count)
        return self.having(sources=with_source(self.sources, source), sources_count=count + 1)

    def without_details(self) -> Self:
        """Erase what sources say beside their origin: of a removed object it stays away."""
        if not any(getattr(each, name) for each in self.sources for name in ERASED):
            return self
        erased = (each.having(**dict.fromkeys(ERASED)) for each in self.sources)
        return self.having(sources=tuple(erased))

    def after_write(self, event: ObjectEvent, now: datetime) -> Self:
        """Set what the event of a write says of the object."""
        return self.having(
            bucket=event.bucket,
            key=event.key,
            sequencer=event.sequencer,
            uploaded_by=event.uploaded_by,
            stored_at=event.occurred_at,
            indexed_at=now,
        )

    def after_removal(self, event: ObjectEvent, now: datetime) -> Self:
        """Set what the event of a removal says; the sources stay as proof, even where none are."""
        return self.having(
            bucket=event.bucket,
            key=event.key,
            sequencer=event.sequencer,
            status="removed",
            removed_at=event.occurred_at,
            indexed_at=now,
            sources=self.sources,
        )
