"""Reliability of scores: against the share of texts that were read without an error."""

from collections.abc import Mapping
from typing import NamedTuple

from services.quality.tally import Tally, merged

BANDS = 10
"""Of scores, all of one width."""


def band_of(score: float) -> int:
    """Return the band of a score; a full score is in the last one."""
    return min(BANDS - 1, int(score * BANDS))


class Reliability(NamedTuple):
    """Scores against how many texts they were right about."""

    name: str
    bands: Mapping[int, Tally]
    """Annotated images by band of the score."""

    @property
    def total(self) -> Tally:
        """All of them."""
        return merged(self.bands.values())

    @property
    def calibration_error(self) -> float | None:
        """Mean distance of score and share read without error, by images; None without any."""
        total = self.total.annotated
        off = sum(abs(each.exact - each.score_sum) for each in self.bands.values())
        return off / total if total else None
