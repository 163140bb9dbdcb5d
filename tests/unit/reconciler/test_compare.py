from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.common.adapters.synthetic_events import sequencer_at
from services.common.domain.image import ImageDocument
from services.common.domain.objects import ObjectInfo
from services.reconciler.compare import MOST_PARTS, BucketPart, Pair, State, judge, pairs
from services.reconciler.main import publish
from services.reconciler.walk import PassReport
from tests import factories

T = TypeVar("T")
NOW = datetime(2026, 11, 24, 12, 0, 0, 500000, tzinfo=UTC)
OLD = NOW - timedelta(hours=2)
CUTOFF = NOW - timedelta(hours=1)
KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)


def listed(etag: str = "e1", at: datetime = OLD, key: str = "a.png", size: int = 3) -> ObjectInfo:
    return ObjectInfo(key, etag, size, at)


def document(etag: str = "e1", at: datetime = OLD, status: str = "predicted") -> ImageDocument:
    return factories.document(etag=etag, status=status, sequencer=sequencer_at(at))


@pytest.mark.parametrize(
    ("info", "shown", "state"),
    [
        (listed(), document(), State.IN_ORDER),
        (listed(), document(status="rejected"), State.IN_ORDER),
        (listed(), None, State.MISSING),
        (listed(at=NOW), None, State.YOUNG),
        (listed("e2"), document("e1"), State.CHANGED),
        (listed("e2", at=NOW), document("e1"), State.YOUNG),
        (listed("e2"), document("e1", at=NOW), State.YOUNG),
        (listed(at=OLD + timedelta(minutes=1)), document(), State.CHANGED),
        (listed(), document(status="removed"), State.CHANGED),
        (None, document(), State.GONE),
        (None, document(at=NOW), State.YOUNG),
        (None, document(status="removed"), State.REMOVED),
        (listed(key="scans/", size=0), None, State.FOLDER),
        (listed(key="scans/", size=9), None, State.MISSING),
    ],
)
def test_difference_is_judged_by_bytes_time_and_status(
    info: ObjectInfo | None, shown: ImageDocument | None, state: State
) -> None:
    assert judge(Pair("a.png", info, shown), CUTOFF) is state


@given(stored=KEYS, indexed=KEYS)
async def test_merge_pairs_what_has_the_same_key_and_loses_nothing(
    stored: list[str], indexed: list[str]
) -> None:
    objects = [listed(key=key) for key in sorted(stored, key=str.encode)]
    documents = [factories.document(key=key) for key in sorted(indexed, key=str.encode)]

    merged = [pair async for pair in pairs(stream(objects), stream(documents))]

    assert [pair.key for pair in merged] == sorted({*stored, *indexed}, key=str.encode)
    for pair in merged:
        assert (pair.listed is not None) == (pair.key in stored)
        assert (pair.document is not None) == (pair.key in indexed)


async def stream(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


@pytest.mark.parametrize(
    ("part", "documents", "most"),
    [
        *(
            (BucketPart(), 0, 5),
            (BucketPart(), 501, 5),
            (BucketPart(), 700, 7),
            (BucketPart(), 50_000_000, 10_000),
        ),
        *(
            (BucketPart(3, 24), 99, 0),
            (BucketPart(3, 24), 700, 7),
            (BucketPart(3, 24), 2_000_000, 416),
        ),
        (BucketPart(1, 2), 0, 2),
    ],
)
def test_share_that_a_pass_may_remove(part: BucketPart, documents: int, most: int) -> None:
    assert part.most_removals(documents) == most


@given(
    st.integers(1, MOST_PARTS),
    st.sampled_from(["", "fetched/", "fetched/0", "lines/f", "api/", "z"]),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_each_key_is_in_one_part(parts: int, prefix: str, rest: str) -> None:
    key = f"{prefix}{rest}".encode()
    held = [
        keys
        for number in range(parts)
        for keys in BucketPart(number, parts).ranges
        if keys.after.encode() < key and (not keys.upto or key <= keys.upto.encode())
    ]
    assert len(held) == (1 if key else 0)


def test_metrics_are_of_all_parts() -> None:
    reports = {0: PassReport(found=Counter({State.GONE: 9}), held=9), 1: PassReport(objects=4)}

    publish(reports, last=1)

    assert REGISTRY.get_sample_value("reconciler_removals_held") == 9
    assert REGISTRY.get_sample_value("reconciler_objects", {"state": "gone"}) == 9
