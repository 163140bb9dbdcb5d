"""The search for suspect labels, without servers."""

import asyncio
from typing import Any

import pytest

from services.review.suspects import SuspectList


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
