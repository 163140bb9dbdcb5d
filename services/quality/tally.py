"""Images counted together: their scores, and their errors against what people have written."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.common.domain.records import Prediction
from services.quality.annotated import misreading


@dataclass
class Tally:
    """Images that one or several models have read.

    Errors are of images with a right text only: edits over the characters of those texts.
    """

    images: int = 0
    low: int = 0
    """Those with a low score."""
    score_sum: float = 0.0
    annotated: int = 0
    """Those with a text that a person, or a list, says is right."""
    exact: int = 0
    """Those of them that are read without an error."""
    errors: int = 0
    characters: int = 0
    """Of the right texts."""

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
        """Character error rate; None without right texts."""
        return self.errors / self.characters if self.characters else None

    @property
    def exact_share(self) -> float | None:
        """Share of annotated images that are read without an error; None without such images."""
        return self.exact / self.annotated if self.annotated else None


def accepted_remark(total: Tally, accepted: Tally) -> str:
    """Return what texts that were only accepted do to an error rate; empty without any.

    Args:
        total: All images.
        accepted: Those of them whose text is a prediction that a person accepted.
    """
    if not accepted.annotated:
        return ""
    others = Tally(
        errors=total.errors - accepted.errors, characters=total.characters - accepted.characters
    )
    rest = "unknown" if others.error_rate is None else f"{others.error_rate:.1%}"
    return (
        f"{accepted.annotated} of {total.annotated} texts are predictions that a person accepted "
        f"as shown, which makes the character error rate too low: without them it is {rest}."
    )


def add_to_each(
    tallies: Iterable[Tally], prediction: Prediction, right: str | None, *, low_score: float = 0.0
) -> None:
    """Count an image in each of some tallies, comparing its texts once.

    Args:
        tallies: One for each group that the image belongs to.
        prediction: What was read.
        right: What the image reads; None: nobody has written it.
        low_score: A lower score is low.
    """
    errors = misreading(prediction.text, right=right).errors if right else 0
    for tally in tallies:
        tally.images += 1
        tally.low += prediction.score < low_score
        tally.score_sum += prediction.score
        tally.annotated += bool(right)
        tally.exact += bool(right) and not errors
        tally.errors += errors
        tally.characters += len(right or "")
