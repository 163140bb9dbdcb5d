"""Tallies of images: scores, and errors against annotations."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.domain.records import Prediction
from services.common.domain.texts import Share, Text
from services.quality.annotated import hypothesis_of


@dataclass
class Tally:
    """Images read by one or several models.

    Errors are counted for images with a reference text only.
    """

    images: int = 0
    low: int = 0
    """Images with a low score."""
    score_sum: float = 0.0
    annotated: int = 0
    """Images with a reference text."""
    exact: int = 0
    """Annotated images read without error."""
    errors: int = 0
    characters: int = 0
    """Characters of the reference texts."""

    @property
    def mean(self) -> float | None:
        """Mean score; None without images."""
        return self.score_sum / self.images if self.images else None

    @property
    def low_share(self) -> float | None:
        """Share of low scores; None without images."""
        return self.low / self.images if self.images else None

    @property
    def error_rate(self) -> float | None:
        """Character error rate; None without reference texts."""
        return self.errors / self.characters if self.characters else None

    @property
    def exact_share(self) -> float | None:
        """Share of annotated images read without error; None without such images."""
        return self.exact / self.annotated if self.annotated else None

    def add(self, other: "Tally") -> None:
        """Add another tally's counts."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def accepted_remark(total: Tally, accepted: Tally) -> Text | None:
    """Describe the effect of merely accepted texts on an error rate; None without any.

    Args:
        total: All images.
        accepted: Those of them whose text is a prediction that a person accepted.
    """
    if not accepted.annotated:
        return None
    others = Tally(
        errors=total.errors - accepted.errors, characters=total.characters - accepted.characters
    )
    rest = Text("unknown") if others.error_rate is None else Share(others.error_rate)
    return Text(
        "%(accepted)s of %(count)s texts are predictions that a person accepted as shown, which "
        "makes the character error rate too low: without them it is %(rate)s.",
        {"accepted": accepted.annotated, "count": total.annotated, "rate": rest},
    )


def add_to_each(
    tallies: Iterable[Tally],
    prediction: Prediction,
    reference: str | None,
    *,
    low_score: float = 0.0,
) -> None:
    """Count an image in several tallies, comparing its texts once.

    Args:
        tallies: One per group of the image.
        prediction: Hypothesis.
        reference: None: not annotated.
        low_score: A lower score is low.
    """
    errors = hypothesis_of(prediction.text, reference=reference).errors if reference else 0
    for tally in tallies:
        tally.images += 1
        tally.low += prediction.score < low_score
        tally.score_sum += prediction.score
        tally.annotated += bool(reference)
        tally.exact += bool(reference) and not errors
        tally.errors += errors
        tally.characters += len(reference or "")
