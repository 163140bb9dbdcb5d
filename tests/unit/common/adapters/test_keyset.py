"""Pages hold every document once, in order, whatever ranges they were read in."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import (
    Cursor,
    Page,
    SortKey,
    by_change,
    by_score,
    by_score_descending,
    by_sha256,
    paginate,
)
from services.common.adapters.mongo import Collection, Document
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter

NOW = datetime(2026, 11, 24, tzinfo=UTC)
LIMIT = 3
TESTS = {
    "$gt": lambda value, edge: value > edge,
    "$gte": lambda value, edge: value >= edge,
    "$lt": lambda value, edge: value < edge,
    "$lte": lambda value, edge: value <= edge,
}
SCORES = st.lists(st.sampled_from([0.0, 0.0, 1e-9, 0.3, 0.3001, 0.9999, 1.0]), max_size=40)


class InMemory:
    """A collection as ``paginate`` uses it: ranges, equality, sort and limit."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents
        self.ranges: list[list[Any]] = []

    async def find(
        self, _: Document, *, within: Document, sort: list[tuple[str, int]], limit: int, **__: Any
    ) -> AsyncIterator[Document]:
        where = within
        self.ranges.append([list(each.values()) for each in where.values() if _is_range(each)])
        found = [each for each in self.documents if _meets(each, where)]
        for name, direction in reversed(sort):
            found.sort(key=lambda each: _value(each, name), reverse=direction < 0)
        for document in found[:limit]:
            yield document


def _is_range(condition: Any) -> bool:
    return isinstance(condition, dict)


def _value(document: Document, path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value[name]
    return value


def _meets(document: Document, where: Document) -> bool:
    return all(
        all(TESTS[name](_value(document, path), edge) for name, edge in condition.items())
        if _is_range(condition)
        else _value(document, path) == condition
        for path, condition in where.items()
    )


def read(
    images: InMemory,
    key: SortKey,
    after: Cursor | None = None,
    *,
    seconds: float = 0.001,
    limit: int = LIMIT,
) -> list[Page[ImageDocument]]:
    """Read all pages, by a clock on which each query takes as long."""
    looks = itertools.count(step=seconds)

    async def work() -> list[Page[ImageDocument]]:
        repository = ImageRepository(cast("Collection", images))
        pages = paginate(
            *(repository, ImageFilter(), key), after=after, limit=limit, clock=lambda: next(looks)
        )
        return [page async for page in pages]

    return asyncio.run(work())


def ids(pages: list[Page[ImageDocument]]) -> list[str]:
    return [document.id for page in pages for document in page.documents]


def scored(scores: list[float]) -> list[Document]:
    return [
        {"_id": f"{number:02}", "prediction": {"score": score}}
        for number, score in enumerate(scores)
    ]


@pytest.mark.parametrize("key", [by_score(), by_score_descending()])
@given(scores=SCORES, data=st.data())
def test_pages_hold_each_document_once_and_in_order(
    key: SortKey, scores: list[float], data: st.DataObject
) -> None:
    images = InMemory(scored(scores))
    expected = sorted(
        images.documents,
        key=lambda each: (_value(each, key.field), each["_id"]),
        reverse=key.direction < 0,
    )
    pages = read(images, key)
    assert ids(pages) == [each["_id"] for each in expected]

    count = data.draw(st.integers(0, len(pages) - 1))
    start = pages[count - 1].next if count else None
    assert ids(pages[:count]) + ids(read(images, key, start)) == ids(pages)


def test_hashes_are_read_from_any_start_to_the_end() -> None:
    images = InMemory([{"_id": str(number), "sha256": f"{number:x}" * 64} for number in range(16)])
    assert ids(read(images, by_sha256())) == [str(number) for number in range(16)]
    assert ids(read(images, by_sha256(0.5))) == [str(number) for number in range(8, 16)]


@pytest.mark.parametrize("key", [by_score(), by_score_descending(), by_change(NOW), by_sha256()])
def test_empty_collection_costs_few_queries(key: SortKey) -> None:
    images = InMemory([])
    assert ids(read(images, key)) == []
    assert len(images.ranges) < 30


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_search_ends_where_each_query_takes_long(seconds: float) -> None:
    images = InMemory([])
    assert ids(read(images, by_change(NOW), seconds=seconds)) == []
    assert len(images.ranges) < 80


def test_ranges_do_not_shrink_behind_the_first_page() -> None:
    """Most are found a few at a time, as they are rare."""
    images = InMemory(scored([step / 500 for step in range(500)]))
    read(images, by_score(), limit=200)
    assert len(images.ranges) < 40


def test_range_is_as_wide_as_the_missing_documents_need() -> None:
    images = InMemory(scored([step / 1000 for step in range(0, 1000, 3)]))
    read(images, by_score())
    first, second = (edges[0] for edges in images.ranges[:2])
    assert second[1] - second[0] <= first[1] - first[0] + 1e-9


def test_range_is_at_most_twice_the_one_before() -> None:
    images = InMemory(scored([0.5, 0.5, 0.5, 0.5, 0.5001, 0.9]))
    read(images, by_score())
    extents = [abs(edges[0][1] - edges[0][0]) for edges in images.ranges if len(edges[0]) == 2]
    assert len(extents) > 5
    assert all(later <= 2 * before + 1e-9 for before, later in itertools.pairwise(extents))


def test_many_documents_of_one_moment_do_not_stop_the_pages() -> None:
    images = InMemory([{"_id": f"{number:04}", "indexed_at": NOW} for number in range(200)])
    images.documents.append({"_id": "z", "indexed_at": NOW - timedelta(days=9000)})
    found = ids(read(images, by_change(NOW)))
    assert found == [*(f"{number:04}" for number in reversed(range(200))), "z"]
