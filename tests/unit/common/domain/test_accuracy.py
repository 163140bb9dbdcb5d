"""Character errors, as the consumer's metrics and the report count them."""

import pytest

from services.common.domain.accuracy import character_errors


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counted"),
    [
        ("Wikipedia", "Wikipedia", (0, 9)),
        ("Wikipedia", "Wikipcdia", (1, 9)),
        ("abc", "", (3, 3)),
        ("abc", "abcdef", (3, 3)),
        ("café", "cafe", (1, 4)),
        ("", "anything", (0, 0)),
        (None, "anything", (0, 0)),
    ],
)
def test_errors_are_edits_of_a_text_that_is_known(
    reference: str | None, hypothesis: str, counted: tuple[int, int]
) -> None:
    assert character_errors(reference=reference, hypothesis=hypothesis) == counted
