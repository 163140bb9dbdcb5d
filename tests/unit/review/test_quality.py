"""The figures of the quality page, and its count, which goes on whatever documents it meets."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.domain.accuracy import character_errors, confusions
from services.common.domain.annotations import collapse
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import Limits
from services.common.domain.records import Quality
from services.quality.annotated import AnnotatedImage
from services.review.chart import dots
from services.review.figures import Figures
from services.review.gallery import Filters, where
from services.review.quality import QualityCounter, choices
from tests.support.review import NOW, known
from tests.support.waiting import eventually


class Images:
    """Has a document out of shape the first time it is asked, and none afterwards."""

    def __init__(self) -> None:
        self.asked = 0

    async def find(self, *_: Any, **__: Any) -> AsyncIterator[Document]:
        self.asked += 1
        if self.asked == 1:
            yield known("line", 0.0005, sources=["no source"])


async def test_document_out_of_shape_does_not_end_the_page() -> None:
    quality = QualityCounter(ImageRepository(cast("Collection", Images())), refresh_seconds=0)
    stop = asyncio.Event()
    counting = asyncio.create_task(quality.run(stop))

    async def figures() -> Figures | None:
        return quality.figures or (Figures() if counting.done() else None)

    await eventually(figures)
    stop.set()
    await counting
    assert quality.figures is not None


def image(text: str | None, read: str, score: float = 0.95, **changes: Any) -> AnnotatedImage:
    note = text and {"text": text, "quality": "ok", "by": "ada", "at": NOW, "how": "corrected"}
    return AnnotatedImage.of(
        [ImageDocument.model_validate(known(read, score, annotation=note, **changes))]
    )


def figures(*images: AnnotatedImage) -> Figures:
    found = Figures(counted_at=NOW)
    for each in images:
        found.add(each)
    return found


def test_choices_leave_numbers_to_the_language_of_the_page() -> None:
    found = figures(image("a", "a", sources=[{"collection": "letters"}]))
    offered = choices(found, Limits(collection="new"))
    assert offered["collection"] == [("new", "new"), ("letters", "letters", 1)]


def test_score_is_worth_the_share_read_without_an_error() -> None:
    right, wrong = image("lines", "lines", 0.9), image("lines", "limes", 0.9)
    found = figures(right, wrong, image("a", "b", 0.1), image(None, "not annotated", 0.5))

    whole = found.reliability()

    assert {band: each.annotated for band, each in whole.bands.items()} == {1: 1, 9: 2}
    assert whole.calibration_error == pytest.approx((2 * 0.4 + 0.1) / 3)
    assert [(each.along, each.up) for each in dots(whole)] == [(10, 100), (90, 50)]
    assert [each.name for each in found.reliabilities()] == ["rapidocr 1"]


def test_confusions_and_lengths_are_counted() -> None:
    source: dict[str, Any] = {"sources": [{"collection": "letters"}]}
    found = figures(image("été là", "ete la!", **source), image("dé", "de"), image(None, "dc"))

    assert {each.words: times for each, times in found.confusions.items()} == {
        "é→e": 3,
        "à→a": 1,
        "→!": 1,
    }
    part = next(iter(found.parts.values()))
    assert part.confusions.total() == 4
    assert [(name, each.annotated) for name, each in found.by_length()] == [
        ("1 to 4", 1),
        ("5 to 9", 1),
    ]


@given(st.text("abé ", max_size=8).map(collapse), st.text("abé ", max_size=8).map(collapse))
def test_confusions_are_the_errors_that_are_counted(right: str, read: str) -> None:
    found = confusions(reference=right, hypothesis=read)
    assert len(found) == character_errors(reference=right, hypothesis=read).errors
    assert all(each.reference != each.hypothesis for each in found)


def test_week_is_compared_with_the_one_before() -> None:
    now, before = ({"stored_at": NOW - timedelta(days=days)} for days in (1, 8))
    good = [image("line", "line", 0.9, **before)] * 40
    bad = [image("line", "lime", 0.9, **now)] * 40
    old = image("line", "lime", stored_at=NOW - timedelta(days=30))

    score, errors, exact = figures(*good, *bad, old).drift()

    assert score.difference is not None
    assert not score.difference.excludes_zero
    assert errors.difference is not None
    assert (errors.difference.value, errors.difference.excludes_zero) == (0.25, True)
    assert exact.difference is not None
    assert (exact.difference.value, exact.difference.excludes_zero) == (-1, True)
    assert [each.difference for each in figures(*good).drift()] == [None] * 3


@pytest.mark.parametrize(
    ("filters", "is_shown"),
    [
        ({"misread": "é→e"}, True),
        ({"misread": "é→a"}, False),
        ({"errors": "none"}, False),
        ({"errors": "some", "how": "corrected", "length": "1 to 4"}, True),
        ({"how": "given"}, False),
        ({"length": "5 to 9"}, False),
        ({"model": "rapidocr 1"}, True),
        ({"model": "trocr 1"}, False),
    ],
)
def test_gallery_finds_the_images_of_a_figure(filters: dict[str, str], *, is_shown: bool) -> None:
    document = image("été", "ete").document
    assert Filters.model_validate(filters).match_reading(document) is is_shown


@pytest.mark.parametrize(
    ("annotated", "wanted"),
    [("", Quality.OK), ("yes", Quality.OK), ("no", False), ("unreadable", Quality.UNREADABLE)],
)
def test_filter_of_errors_does_not_replace_that_of_annotations(
    annotated: str, wanted: object
) -> None:
    filters = Filters.model_validate({"errors": "some", "annotated": annotated})
    assert where(filters).annotated == wanted
