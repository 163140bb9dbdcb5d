"""The search for suspect labels, without servers."""

import asyncio
from typing import Any

import pytest

from services.common.domain.image_filter import Limits
from services.review.suspects import SuspectList, is_within
from tests.factories import NOW, document


async def test_search_that_failed_is_not_shown_as_one_without_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = asyncio.Event()

    async def search(*_: object, **__: object) -> None:
        stop.set()
        raise ValueError("a foreign document")

    monkeypatch.setattr("services.review.suspects.find_suspects", search)
    images: Any = None
    suspects = SuspectList(images, refresh_seconds=300)

    await suspects.run(stop)

    assert not suspects.is_ready


@pytest.mark.parametrize(
    ("limits", "is_shown"),
    [
        ({"since": "2026-11-24"}, True),
        ({"until": "2026-11-24"}, False),
        ({"since": "2026-11-24T12:00", "until": "2026-11-24T12:01"}, True),
    ],
)
def test_times_of_an_address_are_in_utc(limits: dict[str, str], *, is_shown: bool) -> None:
    assert is_within(document(stored_at=NOW), Limits.model_validate(limits)) is is_shown
