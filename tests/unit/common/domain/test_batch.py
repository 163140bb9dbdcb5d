"""A batch: the order of its pages, what is published, counts and state."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.batch import (
    NO_ITEMS,
    Batch,
    BatchState,
    Counts,
    DispatchState,
    PageProgress,
    RetryScope,
)
from services.common.domain.batch_item import ItemOutcome

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def batch_of(pages: int = 0, *, following: int = 0, counted: Any = (), **fields: Any) -> Batch:
    """Return a batch of pages, of which the first ``following`` are published."""
    progress = PageProgress(count=pages, next=following, counted=counted)
    return Batch(id="b", created_at=NOW, pages=progress, **fields)


def counts_of(**items: int) -> Counts:
    return Counts({each: items.get(each, 0) for each in ItemOutcome}, NOW)


def published(batch: Batch) -> tuple[int, int, bool]:
    return batch.pages.next, batch.pages.published, batch.dispatch.done


@given(st.integers(1, 3000))
def test_every_page_has_its_turn_once(count: int) -> None:
    batch = batch_of(count)

    assert sorted(batch.page_at(position) for position in range(count)) == list(range(count))


def test_first_pages_are_from_all_over_the_list() -> None:
    first = sorted(batch_of(1000).page_at(position) for position in range(20))

    assert max(after - before for before, after in pairwise(first)) <= 100


@pytest.mark.parametrize(
    ("begun", "counted", "uncounted"),
    [
        (0, (), []),
        (3, (), [0, 3, 1]),
        (3, (3, 2), [0, 1]),
        (9, (3,), [0, 1, 4, 2]),
        (5, range(5), []),
    ],
)
def test_uncounted_pages_are_those_begun(
    begun: int, counted: tuple[int, ...], uncounted: list[int]
) -> None:
    assert batch_of(5, counted=tuple(counted)).uncounted_pages(begun) == uncounted


def test_batch_is_dispatched_with_its_last_page() -> None:
    batch = batch_of(2)

    first = batch.page_published(1000)
    last = first.page_published(7)

    assert [published(each) for each in (batch, first, last)] == [
        (0, 0, False),
        (1, 1000, False),
        (2, 1007, True),
    ]
    assert published(last.page_published(0)) == published(last)


@pytest.mark.parametrize(
    ("following", "up_to", "done"),
    [(1, "b/7", False), (2, "b/7", False), (1, None, False), (2, None, True)],
)
def test_redispatch_ends_when_nothing_is_left(
    following: int, up_to: str | None, *, done: bool
) -> None:
    batch = batch_of(2, following=following, dispatch=DispatchState(after="b/1"))

    dispatch = batch.published_again(up_to).dispatch

    assert (dispatch.after, dispatch.done) == (up_to, done)


def test_retry_starts_over_with_the_first_item() -> None:
    batch = batch_of(2, following=1, requeue=RetryScope.ALL).requeued()

    assert (batch.requeue, batch.dispatch.after, batch.pages.next) == (None, "", 1)


@pytest.mark.parametrize(
    ("cancelled_at", "rest"), [(None, ItemOutcome.QUEUED), (NOW, ItemOutcome.CANCELLED)]
)
def test_items_without_document_are_counted(
    cancelled_at: datetime | None, rest: ItemOutcome
) -> None:
    batch = batch_of(accepted=9, cancelled_at=cancelled_at)
    known = replace(counts_of(stored=3, failed=1, queued=1, cancelled=1), finished_at=None)

    counts = batch.completed(known)

    expected = Counter(known.by_outcome) + Counter({rest: 3})
    by_outcome = {**NO_ITEMS.by_outcome, **expected}
    assert counts == replace(known, by_outcome=by_outcome, finished_at=cancelled_at)
    assert counts.total == 9


@pytest.mark.parametrize(
    ("counts", "cancelled_at", "state"),
    [
        (counts_of(stored=1, queued=1), None, BatchState.RUNNING),
        (counts_of(stored=1, failed=1), None, BatchState.COMPLETED),
        (NO_ITEMS, None, BatchState.COMPLETED),
        (counts_of(stored=1, queued=1), NOW, BatchState.CANCELLED),
    ],
)
def test_state_follows_from_its_items(
    counts: Counts, cancelled_at: datetime | None, state: BatchState
) -> None:
    assert batch_of(cancelled_at=cancelled_at).state(counts) is state


def test_counts_of_pages_add_up() -> None:
    first = replace(counts_of(stored=1, failed=2), failure_codes={"timeout": 2}, size_bytes=5)
    later = counts_of(failed=1, queued=1)
    later = replace(
        later, finished_at=NOW + timedelta(hours=1), failure_codes={"timeout": 1}, size_bytes=1
    )

    both = first + later

    assert both.by_outcome == counts_of(stored=1, failed=3, queued=1).by_outcome
    assert (both.failure_codes, both.size_bytes) == ({"timeout": 3}, 6)
    assert both.finished_at == later.finished_at
    assert (first.is_done, both.is_done, NO_ITEMS.is_done) == (True, False, False)
    assert first + NO_ITEMS == first
