from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.page import PageOfLine
from services.common.domain.provenance import Provenance, from_metadata, to_metadata

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100).filter(str.strip))
def test_annotation_survives_the_headers(annotation: str) -> None:
    metadata = to_metadata(Provenance("http://example.test/a%20b", "b1", annotation, NOW, "b1/1"))

    assert all(value.isascii() for value in metadata.values())
    assert from_metadata(metadata) == Provenance(
        "http://example.test/a%20b", "b1", annotation, NOW, metadata.get("fetch-id")
    )


PAGES = st.builds(
    PageOfLine,
    id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    line=st.from_regex("[0-9a-f]{16}", fullmatch=True),
    group=st.none() | st.just("pages/scans/\u00e9t\u00e9.pdf"),
    quad=st.none() | st.tuples(*[st.integers(0, 20_000)] * 8),
    number=st.none() | st.integers(1, 500),
    order=st.none() | st.integers(0, 2000),
    score=st.none() | st.floats(0, 1),
    name=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    tags=st.none() | st.lists(st.text(max_size=9), max_size=2).map(tuple),
    polygon=st.none() | st.lists(st.integers(0, 9000), min_size=6, max_size=6).map(tuple),
)


@given(PAGES)
def test_place_on_a_page_survives_the_headers(page: PageOfLine) -> None:
    metadata = to_metadata(Provenance("http://example.test/", "b1", "text", NOW, page=page))

    assert all(value.isascii() for value in metadata.values())
    assert from_metadata(metadata).page == page.having(group=page.group or page.id)


def test_a_long_polygon_leaves_the_fetch_id() -> None:
    page = PageOfLine(id="pages/given/0", line="0", polygon=(1000,) * 600)
    metadata = to_metadata(Provenance(None, "b1", "text", NOW, "b1/1", page=page))

    assert metadata["fetch-id"] == "b1/1"
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048


@pytest.mark.parametrize(
    "metadata",
    [{"page-id": "pages/a.png"}, {"page-line": "0"}, {"page-id": "", "page-line": "0"}]
    + [{"page-id": "a", "page-line": "0", "page-quad": text} for text in ("", "1,2", "x" * 8)],
)
def test_foreign_place_on_a_page_is_left_out(metadata: dict[str, str]) -> None:
    assert from_metadata(metadata).page is None


def test_plain_upload_has_no_provenance() -> None:
    assert from_metadata({"content-type": "image/png"}) == Provenance()


@pytest.mark.parametrize(
    ("url", "annotation", "kept"),
    [
        ("http://example.test/" + "a" * 1700, "short", {"annotation"}),
        ("http://example.test/", "é" * 400, {"source-url"}),
        ("http://example.test/" + "a" * 1700, "é" * 400, set()),
    ],
)
def test_what_does_not_fit_leaves_the_fetch_id(url: str, annotation: str, kept: set[str]) -> None:
    metadata = to_metadata(Provenance(url, "b1", annotation, NOW, "b1/1"))

    assert metadata["fetch-id"] == "b1/1"
    assert {"source-url", "annotation"} & metadata.keys() == kept
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 2048


def test_short_metadata_has_no_fetch_id() -> None:
    assert "fetch-id" not in to_metadata(Provenance("http://example.test/", "b", "a", NOW, "b/1"))


@pytest.mark.parametrize(
    "time", ["yesterday", "2026-11-24T12:00:00", "", "0001-01-01T00:00:00+05:00"]
)
def test_foreign_time_is_left_out(time: str) -> None:
    assert from_metadata({"fetched-at": time}).fetched_at is None


def test_text_that_is_none_is_no_annotation() -> None:
    for value in ("", " ", "%20%0A"):
        assert from_metadata({"annotation": value}).annotation is None
