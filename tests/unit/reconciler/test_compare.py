from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.adapters.synthetic_events import sequencer_at
from services.common.domain.image import ImageDocument
from services.common.domain.objects import ObjectInfo
from services.reconciler.compare import Pair, State, judge, pairs
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
