"""Tallies of images: scores, and errors against annotations.

Intervals come from these sums (docs/decisions/0044-quality-figures-from-counts.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.common.domain.accuracy import hypothesis_of
from services.common.domain.records import Prediction
from services.common.domain.texts import Share, Text
from services.quality.estimates import Estimate, Sums, share

LENGTHS = ((1, 4), (5, 9), (10, 19), (20, 39), (40, None))
"""Bands of the number of characters of a reference text."""


@dataclass(slots=True)
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
    score_squares: float = 0.0
    error_squares: int = 0
    character_squares: int = 0
    products: int = 0
    """Errors of each image times its characters."""
    expected_errors: float = 0.0
    """Expected error rate of each image times the characters read."""
    expected_characters: int = 0
    """Characters read in images whose expected error rate is known."""
    expected_images: int = 0
    """Images whose expected error rate is known: of none where nothing was read."""

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
    def expected_error_rate(self) -> float | None:
        """Expected character error rate of ``expected_images``; None without any."""
        if not self.expected_characters:
            return None
        return self.expected_errors / self.expected_characters

    @property
    def exact_share(self) -> float | None:
        """Share of annotated images read without error; None without such images."""
        return self.exact / self.annotated if self.annotated else None

    @property
    def mean_estimate(self) -> Estimate | None:
        """Mean score with its interval."""
        count, total = self.images, self.score_sum
        found = Sums(count, total, count, self.score_squares, count, total).ratio()
        if found is None or found.high is None:
            return found
        return replace(found, high=min(1.0, found.high))

    @property
    def error_estimate(self) -> Estimate | None:
        """Character error rate with its interval, of images that are independent."""
        squares = (self.error_squares, self.character_squares, self.products)
        return Sums(self.annotated, self.errors, self.characters, *squares).ratio()

    @property
    def exact_estimate(self) -> Estimate | None:
        """Share of annotated images read without error, with its interval."""
        return share(self.exact, self.annotated)

    def add(self, other: "Tally") -> None:
        """Add another tally's counts."""
        # Written out: a loop over the fields takes ten times as long, and a count makes millions
        self.images += other.images
        self.low += other.low
        self.score_sum += other.score_sum
        self.annotated += other.annotated
        self.exact += other.exact
        self.errors += other.errors
        self.characters += other.characters
        self.score_squares += other.score_squares
        self.error_squares += other.error_squares
        self.character_squares += other.character_squares
        self.products += other.products
        self.expected_errors += other.expected_errors
        self.expected_characters += other.expected_characters
        self.expected_images += other.expected_images


def compared(score: float, errors: int, characters: int) -> Tally:
    """Return the tally of an image with a reference text of so many characters."""
    return Tally(
        images=1,
        score_sum=score,
        annotated=1,
        exact=not errors,
        errors=errors,
        characters=characters,
        score_squares=score * score,
        error_squares=errors * errors,
        character_squares=characters * characters,
        products=errors * characters,
    )


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    total = Tally()
    for each in tallies:
        total.add(each)
    return total


def length_of(characters: int) -> str:
    """Return the band of a text's length."""
    return next(length_name(each) for each in LENGTHS if each[1] is None or characters <= each[1])


def length_name(band: tuple[int, int | None]) -> str:
    """Format a band."""
    low, high = band
    return f"{low} or more" if high is None else f"{low} to {high}"


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
    score, text = prediction.score, prediction.text
    if reference:
        errors = hypothesis_of(text, reference=reference).errors
        image = compared(score, errors, len(reference))
    else:
        image = Tally(images=1, score_sum=score, score_squares=score * score)
    image.low = score < low_score
    if (expected := prediction.expected_cer) is not None:
        image.expected_errors = expected * len(text)
        image.expected_characters = len(text)
        image.expected_images = 1
    for tally in tallies:
        tally.add(image)
