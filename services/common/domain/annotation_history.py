"""What is said of an image now, and what was said before: how both change.

A person's annotation stays, whatever lists say. Of two lists the later one counts, unless the
image is a placeholder: then texts that differ are no ground truth.
"""

from datetime import datetime
from typing import NamedTuple

from services.common.domain.annotations import collapse, given_annotation
from services.common.domain.provenance import Provenance
from services.common.domain.records import Annotation

MOST_EARLIER = 100
"""Annotations in ``annotation_history``; ``annotation_history_count`` goes on."""
API = "api"
"""Instead of a batch, where an annotation came with a request to the OCR API."""


class Annotations(NamedTuple):
    """The valid annotation, and the earlier ones, earliest first."""

    current: Annotation | None = None
    earlier: tuple[Annotation, ...] = ()

    def replaced_by(self, annotation: Annotation | None) -> "Annotations":
        """Return these with another valid annotation; the one before it is an earlier one."""
        if self.current is None or annotation == self.current:
            return Annotations(annotation, self.earlier)
        return Annotations(annotation, (*self.earlier, self.current))

    def of_other_bytes(self, now: datetime) -> "Annotations":
        """Return these once the bytes gave way to others: none is valid again, by undo or else."""
        ended = self.earlier if self.current is None else (*self.earlier, self.current)
        return Annotations(
            None,
            tuple(
                each if each.bytes_replaced_at else each.having(bytes_replaced_at=now)
                for each in ended
            ),
        )

    def or_else(self, kept: "Annotations") -> "Annotations":
        """Return these, or where there are none what is kept of the same bytes."""
        return Annotations(self.current or kept.current, self.earlier or kept.earlier)

    def with_given(self, provenance: Provenance, now: datetime) -> "Annotations":
        """Add the text that came with an event, unless a person has written another.

        What anyone sends to the OCR API does not replace what a list said.
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
        """Add the text of an event that is older than what a placeholder's document shows.

        It replaces nothing, but may differ from what others say.
        """
        late = _given(provenance, now)
        if late is None or (self.current is not None and not self.current.is_given):
            return self
        others = self.replaced_by(None).given_texts
        if not others or late.text in others:
            return self
        return Annotations(self.current, (*self.earlier, late)).without_dispute(now)

    def without_dispute(self, now: datetime) -> "Annotations":
        """Make a list's text an earlier one where other lists' texts differ from it."""
        current = self.current
        if current is not None and not current.is_given:
            return self
        given = self
        if current is not None and collapse(current.text) not in self.given_texts:
            given = self.replaced_by(None)
        if len(given.given_texts) < 2:
            return self
        if len(self.earlier) >= MOST_EARLIER and len(self.given_texts) > 1:
            return Annotations(None, self.earlier)  # enough is known of the dispute
        disputed = (
            each.having(disputed_at=now) if each.is_given and not each.disputed_at else each
            for each in given.earlier
        )
        return Annotations(None, tuple(disputed))

    def reverted(self, now: datetime) -> "Annotations":
        """Take the valid annotation back: the last one before it that has not ended is valid."""
        if self.current is None:
            return self
        valid = [at for at, each in enumerate(self.earlier) if not each.has_ended]
        again = self.earlier[valid[-1]] if valid else None
        left = tuple(each for at, each in enumerate(self.earlier) if at not in valid[-1:])
        return Annotations(again, (*left, self.current.having(undone_at=now)))

    def kept(self) -> tuple[Annotation, ...]:
        """Return the earlier annotations that a document keeps: people's longer than lists'."""
        surplus = max(0, len(self.earlier) - MOST_EARLIER)
        by_worth = sorted(range(len(self.earlier)), key=lambda at: not self.earlier[at].is_given)
        gone = set(by_worth[:surplus])
        return tuple(each for at, each in enumerate(self.earlier) if at not in gone)

    @property
    def given_texts(self) -> set[str]:
        """What lists said of these bytes before, in the form in which texts are compared."""
        return {
            collapse(each.text)
            for each in self.earlier
            if each.is_given and not each.bytes_replaced_at and not each.undone_at
        }

    @property
    def is_disputed(self) -> bool:
        """Whether lists differ about the text, and nothing is valid."""
        return self.current is None and len(self.given_texts) > 1


def _given(provenance: Provenance, now: datetime) -> Annotation | None:
    if provenance.annotation is None:
        return None
    return given_annotation(
        provenance.annotation, batch=provenance.batch_id or API, at=provenance.fetched_at or now
    )
