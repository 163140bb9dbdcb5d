"""The source that an export tells of an image."""

from typing import Any

import pytest

from services.common.domain.details import FIELDS
from services.common.domain.image_filter import Limits
from services.common.domain.records import Source
from services.datasets.copies import provenance_of
from tests.factories import NOW, document

FIRST = Source(
    collection="a", group="ga", licence="CC0-1.0", metadata={"n": [1], "t": True}, split="train"
)
SECOND = Source(collection="b", group="gb", split="test", at=NOW)
"""Without a licence, so that none may be taken from elsewhere."""
BY_URL = Source(url="https://example.org/a.png", group="gu", batch_id="u", at=NOW)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({}, FIRST),
        ({"collection": "b"}, SECOND),
        ({"group": "ga"}, FIRST),
        ({"batch": "u"}, BY_URL),
        ({"where": ["metadata.n=1"]}, FIRST),
        ({"where": ["metadata.t=true"]}, FIRST),
        ({"collection": "b", "group": "ga"}, FIRST),
    ],
)
def test_all_fields_are_of_the_named_source(limits: dict[str, Any], named: Source) -> None:
    first = FIRST.having(at=NOW.replace(day=1))
    copies = [document(sources=[BY_URL, SECOND]), document(_id="raw/b.png", sources=[first])]

    told = provenance_of(copies).naming(Limits.model_validate(limits))

    assert told == {name: getattr(named, name) for name in told}
    # the split is the export's, ``how`` the annotation's; an export has no pages
    assert set(told) == {*FIELDS} - {"split", "how", "is_page"}


@pytest.mark.parametrize(
    ("limits", "first"),
    [
        ({"collection": "b", "batch": "x"}, "both"),
        ({"where": ["metadata.box.year=1916"]}, "year"),
        ({"where": ["metadata.box.year=1"]}, "none"),
    ],
)
def test_sources_that_meet_all_limits_are_first(limits: dict[str, Any], first: str) -> None:
    sources = [
        Source(name="none", collection="b", metadata={"box": {"year": True}}),
        Source(name="year", metadata={"box": {"year": 1916}}),
        Source(name="both", collection="b", batch_id="x", metadata={"box": 1916}),
    ]
    assert Limits.model_validate(limits).first(sources)[0].name == first
