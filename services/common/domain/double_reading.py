"""Double reading: two people read an image, each without the text of the other.

See docs/decisions/0051-two-annotators.md.
"""

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Final, Self

from services.common.domain.annotations import is_same
from services.common.domain.records import EMPTY_IF_NULL, Annotation, Confirmation, Record, required

_SALT = b"double reading "
_BITS: Final = 32


class DoubleState(StrEnum):
    """State of a double reading."""

    WAITING = "waiting"
    """For the second person."""
    AGREED = "agreed"
    DIFFERENT = "different"
    """For a reviewer, who decides."""
    DECIDED = "decided"


READ_TWICE = (DoubleState.AGREED, DoubleState.DIFFERENT, DoubleState.DECIDED)


def is_chosen(image_hash: str | None, share: float) -> bool:
    """Whether an image is read by two people.

    The hash is of its own, as those of the bytes choose splits of exports and random samples.
    """
    digest = sha256(_SALT + (image_hash or "").encode()).digest()
    number = int.from_bytes(digest[: _BITS // 8], "big")
    return number < share * float(2**_BITS)


class DoubleReading(Record):
    """Readings of an image by two people."""

    model_config = required("state", "readings")

    state: DoubleState = DoubleState.WAITING
    readings: Annotated[tuple[Annotation, ...], EMPTY_IF_NULL] = ()
    """That of the first person, which was the annotation of the image, and of the second."""
    decided: Confirmation | None = None
    """The person who chose or wrote the annotation after both readings."""

    @classmethod
    def begun(cls, reading: Annotation) -> Self:
        """Return one that waits for the second person."""
        return cls(state=DoubleState.WAITING, readings=(reading,))

    @property
    def second(self) -> Annotation | None:
        """The second reading."""
        return self.readings[1] if len(self.readings) > 1 else None

    @property
    def is_undecided(self) -> bool:
        """Whether both differ, and a reviewer has to decide."""
        return self.state is DoubleState.DIFFERENT

    def waits_for(self, person: str) -> bool:
        """Whether this person may be the second one."""
        readers = {each.by for each in self.readings}
        return self.state is DoubleState.WAITING and person not in readers

    def with_second(self, reading: Annotation) -> Self:
        """Add the second reading, and compare."""
        readings = (*self.readings[:1], reading)
        return self.having(readings=readings, state=_compare(readings))

    def decided_by(self, person: str, at: datetime | None) -> Self:
        """Set who decided."""
        return self.having(state=DoubleState.DECIDED, decided=Confirmation(by=person, at=at))

    def undecided(self) -> Self:
        """Take a decision away."""
        return self.having(state=_compare(self.readings), decided=None)

    def following(self, annotation: Annotation) -> Self:
        """Return this after a person replaced the annotation of the image."""
        if self.state is DoubleState.WAITING:
            return self.having(readings=(annotation,))
        return self.decided_by(annotation.by, annotation.at)


def _compare(readings: tuple[Annotation, ...]) -> DoubleState:
    return DoubleState.AGREED if is_same(*readings) else DoubleState.DIFFERENT
