"""Selection and order of the queue."""

import random
from dataclasses import dataclass, replace
from enum import StrEnum

from services.common.adapters.keyset import Cursor, SortKey, by_disagreement, by_score, by_sha256
from services.common.domain.double_reading import DoubleState
from services.common.domain.image_filter import NO_LIMITS, ImageFilter, Limits


class Mode(StrEnum):
    """Selection and order of images."""

    WORST = "worst"
    """Those about which two models disagree, then by score."""
    DISAGREEMENT = "disagreement"
    RANDOM = "random"
    TEACHING = "teaching"
    """In the order of ``docreco suggest``, then as ``WORST``."""
    SUSPECTS = "suspects"
    """Images whose annotation may be wrong, the most suspect first."""
    DECIDE = "decide"
    """Images that two people have read differently, for a reviewer."""

    @property
    def shows_annotation(self) -> bool:
        """Whether a person is shown the annotation, to confirm or correct it."""
        return self in {Mode.SUSPECTS, Mode.DECIDE}


@dataclass(frozen=True)
class QueueFilter:
    """Filter of the queue."""

    mode: Mode = Mode.WORST
    limits: Limits = NO_LIMITS
    host: str = ""
    after: Cursor | None = None
    """Cursor of an earlier search that timed out."""
    wait: bool = True
    """Whether the person waits for a long search; else it is cut short soon."""


def sort_keys(mode: Mode) -> list[SortKey]:
    """Return the sort keys of the passes over the images."""
    if mode is Mode.RANDOM:
        start = random.random()  # noqa: S311  not security-relevant
        return [by_sha256(start), by_sha256()]
    return [by_disagreement(), *([] if mode is Mode.DISAGREEMENT else [by_score()])]


def where(wanted: QueueFilter) -> ImageFilter:
    """Return which images are left."""
    left = ImageFilter(wanted.limits, host=wanted.host or None, status=("predicted",))
    if wanted.mode is Mode.DECIDE:
        return replace(left, double=(DoubleState.DIFFERENT,))
    return replace(left, annotated=False)


def of_second_reader(wanted: QueueFilter, person: str) -> ImageFilter:
    """Return which images wait for a second reading that this person may give."""
    return replace(where(wanted), annotated=None, double=(DoubleState.WAITING,), not_reader=person)
