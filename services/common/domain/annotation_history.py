"""The valid annotation of an image and its history.

A person's annotation takes precedence over lists. Of two lists the later one is valid, unless the
image is a placeholder: then differing texts are not ground truth.
"""

from datetime import datetime
from typing import NamedTuple

from services.common.domain.annotations import collapse, given_annotation
from services.common.domain.double_reading import DoubleReading
from services.common.domain.provenance import Provenance
from services.common.domain.records import Annotation

MOST_EARLIER = 100
"""Limit of ``annotation_history``; ``annotation_history_count`` has none."""
API = "api"
"""Batch id of annotations that came with a request to the OCR API."""


class Annotations(NamedTuple):
    """The valid annotation, and the earlier ones, oldest first."""

    current: Annotation | None = None
    earlier: tuple[Annotation, ...] = ()
    double: DoubleReading | None = None
    """Of tombstones: the double reading that has the valid one."""

    def replaced_by(self, annotation: Annotation | None) -> "Annotations":
        """Return these with a new valid annotation; the previous one joins the history."""
        if self.current is None or annotation == self.current:
            return Annotations(annotation, self.earlier)
        return Annotations(annotation, (*self.earlier, self.current))

    def of_other_bytes(self, now: datetime) -> "Annotations":
        """Return these after the bytes were replaced: none can become valid again."""
        ended = self.earlier if self.current is None else (*self.earlier, self.current)
        return Annotations(
            None,
            tuple(
                each if each.bytes_replaced_at else each.having(bytes_replaced_at=now)
                for each in ended
            ),
        )

    def or_else(self, kept: "Annotations") -> "Annotations":
        """Return these, or the tombstones of the same bytes if there are none."""
        current, double = (self.current, None) if self.current else (kept.current, kept.double)
        return Annotations(current, self.earlier or kept.earlier, double)

    def with_given(self, provenance: Provenance, now: datetime) -> "Annotations":
        """Add an event's text, unless a person has annotated the image.

        A text from the OCR API does not replace one from a list.
        """
        came, current = _given(provenance, now), self.current
        if came is None:
            return self
        if current is not None and (
            not current.is_given
            or collapse(current.text) == came.text
            or (provenance.batch_id is None and current.by != came.by)
        ):
            return self
        return self.replaced_by(came)

    def with_late(self, provenance: Provenance, now: datetime) -> "Annotations":
        """Add the text of an outdated event to a placeholder.

        It replaces nothing, but may conflict with other texts.
        """
        late = _given(provenance, now)
        if late is None or (self.current is not None and not self.current.is_given):
            return self
        others = self.replaced_by(None).given_texts
        if not others or late.text in others:
            return self
        return Annotations(self.current, (*self.earlier, late)).without_dispute(now)

    def without_dispute(self, now: datetime) -> "Annotations":
        """Move a list's text to the history if other lists' texts differ from it."""
        current = self.current
        if current is not None and not current.is_given:
            return self
        given = self
        if current is not None and collapse(current.text) not in self.given_texts:
            given = self.replaced_by(None)
        if len(given.given_texts) < 2:
            return self
        if len(self.earlier) >= MOST_EARLIER and len(self.given_texts) > 1:
            return Annotations(None, self.earlier)  # the conflict is recorded
        disputed = (
            each.having(disputed_at=now) if each.is_given and not each.disputed_at else each
            for each in given.earlier
        )
        return Annotations(None, tuple(disputed))

    def reverted(self, now: datetime) -> "Annotations":
        """Revert the valid annotation to the last earlier one that has not ended."""
        if self.current is None:
            return self
        valid = [at for at, each in enumerate(self.earlier) if not each.has_ended]
        again = self.earlier[valid[-1]] if valid else None
        left = tuple(each for at, each in enumerate(self.earlier) if at not in valid[-1:])
        return Annotations(again, (*left, self.current.having(undone_at=now)))

    def kept(self) -> tuple[Annotation, ...]:
        """Truncate the history: lists' annotations are dropped before people's."""
        surplus = max(0, len(self.earlier) - MOST_EARLIER)
        by_worth = sorted(range(len(self.earlier)), key=lambda at: not self.earlier[at].is_given)
        gone = set(by_worth[:surplus])
        return tuple(each for at, each in enumerate(self.earlier) if at not in gone)

    @property
    def given_texts(self) -> set[str]:
        """Earlier texts of lists for these bytes, normalised."""
        return {
            collapse(each.text)
            for each in self.earlier
            if each.is_given and not each.bytes_replaced_at and not each.undone_at
        }

    @property
    def is_disputed(self) -> bool:
        """Whether lists' texts conflict and none is valid."""
        return self.current is None and len(self.given_texts) > 1


def _given(provenance: Provenance, now: datetime) -> Annotation | None:
    if provenance.annotation is None:
        return None
    return given_annotation(
        provenance.annotation,
        batch=provenance.batch_id or API,
        at=provenance.fetched_at or now,
        how=provenance.details.how,
    )
