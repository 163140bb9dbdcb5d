"""A walk meets every document once, in order, whatever the windows."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.index import Collection, Document
from services.review import windows
from services.review.windows import Axis, Position, best, by_hash, walk, worst


class InMemory:
    """A collection as ``walk`` uses it: ranges, equality, sort and limit."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents
        self.asked = 0

    async def find(
        self, where: Document, *, sort: list[tuple[str, int]], limit: int, **_: Any
    ) -> AsyncIterator[Document]:
        self.asked += 1
        found = [each for each in self.documents if _meets(each, where)]
        for name, direction in reversed(sort):
            found.sort(key=lambda each: _value(each, name), reverse=direction < 0)
        for document in found[:limit]:
            yield document


def _value(document: Document, path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = value[name]
    return value


def _meets(document: Document, where: Document) -> bool:
    tests = {
        "$gt": lambda value, edge: value > edge,
        "$gte": lambda value, edge: value >= edge,
        "$lt": lambda value, edge: value < edge,
        "$lte": lambda value, edge: value <= edge,
    }
    return all(
        all(tests[name](_value(document, path), edge) for name, edge in condition.items())
        if isinstance(condition, dict)
        else _value(document, path) == condition
        for path, condition in where.items()
    )


def read(documents: list[Document], axis: Axis, after: Position | None = None) -> list[str]:
    async def work() -> list[str]:
        images = cast("Collection", InMemory(documents))
        return [
            each["_id"]
            async for window in walk(images, axis, {}, after=after)
            for each in window.documents
        ]

    return asyncio.run(work())


SCORES = st.lists(st.sampled_from([0.0, 0.0, 1e-9, 0.3, 0.3001, 0.9999, 1.0]), max_size=40)


@pytest.mark.parametrize("axis", [worst(), best()])
@given(scores=SCORES)
def test_each_document_is_met_once_and_in_order(axis: Axis, scores: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "MOST", 3)
        patch.setattr(windows, "FEW", 1)
        documents = [
            {"_id": f"{number:02}", "prediction": {"score": score}}
            for number, score in enumerate(scores)
        ]
        sign = -1 if axis.is_down else 1
        expected = sorted(
            documents, key=lambda each: (sign * _value(each, axis.field), each["_id"])
        )
        assert read(documents, axis) == [each["_id"] for each in expected]


def test_hashes_are_met_from_any_start_to_the_end() -> None:
    documents = [{"_id": str(number), "sha256": f"{number:x}" * 64} for number in range(16)]
    assert read(documents, by_hash(0.0)) == [str(number) for number in range(16)]
    assert read(documents, by_hash(0.5)) == [str(number) for number in range(8, 16)]


def test_walk_over_nothing_asks_a_few_times_only() -> None:
    images = InMemory([])

    async def work() -> None:
        async for _ in walk(cast("Collection", images), worst(), {}):
            pass

    asyncio.run(work())
    assert images.asked < 15
