"""The identity of a line is its place on the page."""

import pytest

from services.common.domain.keys import line_key
from services.common.domain.page import line_id
from services.common.domain.page_document import PageDocument

PLACE = (100, 50, 900, 52, 900, 90, 100, 88)


def test_equal_places_have_equal_ids() -> None:
    larger = tuple(2 * value for value in PLACE)

    assert line_id(PLACE, 1000, 1400) == line_id(larger, 2000, 2800)


@pytest.mark.parametrize("corner", range(8))
def test_another_place_has_another_id(corner: int) -> None:
    other = tuple(value + 5 * (at == corner) for at, value in enumerate(PLACE))

    assert line_id(other, 1000, 1400) != line_id(PLACE, 1000, 1400)


def test_key_of_a_line_image() -> None:
    assert line_key("ab" * 32, "0123") == f"lines/ab/{'ab' * 32}/0123.webp"


def test_document_comes_back_from_mongodb_as_it_was() -> None:
    page = PageDocument.model_validate(
        {
            "_id": "pages/a.jpg",
            "status": "segmented",
            "lines": [
                {"id": "b", "quad": list(PLACE), "order": 1},
                {"id": "a", "quad": list(PLACE), "order": 0, "unknown": 3},
                {"id": "c", "quad": list(PLACE), "order": 2, "state": "superseded"},
            ],
        }
    )

    assert PageDocument.model_validate(page.to_mongo()) == page
    assert [line.id for line in page.current] == ["a", "b"]
