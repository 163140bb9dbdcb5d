"""A walk meets every document once, in order, whatever the windows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from services.common.adapters import windows
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.windows import (
    LONG_SECONDS,
    Axis,
    Position,
    best,
    by_hash,
    newest,
    walk,
    worst,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)


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
        images = ImageRepository(cast("Collection", InMemory(documents)))
        return [
            each.id
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
    asyncio.run(_walk(images, worst()))
    assert images.asked < 15


class Slow(InMemory):
    """A collection whose answers take a while, by the clock that ``walk`` looks at."""

    def __init__(self, documents: list[Document], took: Callable[[float], float]) -> None:
        super().__init__(documents)
        self.took = took
        self.now = 0.0
        self.slowest = 0.0

    @override
    async def find(self, where: Document, **how: Any) -> AsyncIterator[Document]:
        edges = next((each for each in where.values() if isinstance(each, dict)), {})
        took = self.took(_extent(list(edges.values())))
        self.slowest = max(self.slowest, took)
        self.now += took
        async for document in super().find(where, **how):
            yield document


def _extent(edges: list[Any]) -> float:
    if len(edges) != 2 or not isinstance(edges[0], float):
        return 0.0
    return abs(float(edges[1]) - edges[0])


def _read_slowly(images: Slow, axis: Axis) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "monotonic", lambda: images.now)
        return asyncio.run(_walk(images, axis))


async def _walk(images: InMemory, axis: Axis) -> list[str]:
    found: list[str] = []
    async for window in walk(ImageRepository(cast("Collection", images)), axis, {}):
        found += [each.id for each in window.documents]
        assert images.asked < 2000, "the walk does not end"
    return found


@pytest.mark.parametrize("axis", [worst(), best(), by_hash(0.0), newest(NOW)])
@pytest.mark.parametrize("seconds", [0.03, 0.1, 0.2])
def test_server_that_is_far_away_is_asked_a_few_times_only(axis: Axis, seconds: float) -> None:
    images = Slow([], lambda _: seconds)
    _read_slowly(images, axis)
    assert images.asked <= 10


@given(scores=SCORES, delays=st.lists(st.sampled_from([0.0, 0.001, 0.05, 0.1, 5.0]), min_size=1))
def test_walk_ends_and_meets_all_however_long_answers_take(
    scores: list[float], delays: list[float]
) -> None:
    documents = [
        {"_id": f"{number:02}", "prediction": {"score": score}}
        for number, score in enumerate(scores)
    ]
    delay = cycle(delays)
    found = _read_slowly(Slow(documents, lambda _: next(delay)), worst())
    assert sorted(found) == [each["_id"] for each in documents]


@pytest.mark.parametrize("axis", [worst(), by_hash(0.0), newest(NOW)])
@pytest.mark.parametrize(
    "delays", [[0.001, 0.06, 0.03, 0.09], [0.001, 0.2, 0.4], [0.001, *[0.9] * 5000]]
)
def test_load_of_the_machine_does_not_keep_windows_narrow(axis: Axis, delays: list[float]) -> None:
    delay = cycle(delays)
    images = Slow([], lambda _: next(delay))
    _read_slowly(images, axis)
    assert images.asked < 60


def test_window_that_takes_long_to_look_through_does_not_grow_on() -> None:
    images = Slow([], lambda extent: 0.001 + 10 * extent)
    _read_slowly(images, worst())
    assert images.slowest < 2 * LONG_SECONDS + 0.1
    assert images.asked < 300


def test_many_documents_of_one_moment_do_not_stop_the_walk() -> None:
    documents = [{"_id": f"{number:04}", "indexed_at": NOW} for number in range(200)]
    documents.append({"_id": "z", "indexed_at": NOW - timedelta(days=9000)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "MOST", 3)
        patch.setattr(windows, "FEW", 1)
        found = asyncio.run(_walk(InMemory(documents), newest(NOW)))
    assert found == [each["_id"] for each in documents]
