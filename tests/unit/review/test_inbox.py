"""A task for which Label Studio returns only errors."""

import asyncio
from typing import cast

import pytest

from services.common.adapters.mongo import Database
from services.label_studio.client import LabelStudio
from services.label_studio.errors import LabelStudioUnavailableError
from services.label_studio.schemas import Project
from services.review.label_studio import MAX_TRIES, Inbox
from tests.support.waiting import until


class Studio:
    """Knows the project, and answers no question about task 1."""

    url = "http://studio.example"

    def __init__(self, outages: int) -> None:
        self.asked: list[int] = []
        self.outages = outages

    async def find_project(self, title: str) -> Project:
        self.outages -= 1
        if self.outages >= 0:
            raise LabelStudioUnavailableError("connection refused")
        return Project(id=1, title=title)

    async def task(self, number: int) -> None:
        self.asked.append(number)
        if number == 1:
            raise LabelStudioUnavailableError("500: out of range")


class Index:
    """Answers."""

    async def check(self) -> None:
        """Find nothing wrong."""


async def asked_for(studio: Studio) -> list[int]:
    """Note the two tasks; return those asked for until none is left."""
    stop = asyncio.Event()
    inbox = Inbox(cast("LabelStudio", studio), cast("Database", Index()), "DocReco")
    reading = asyncio.create_task(inbox.run(stop))
    inbox.note(1)
    inbox.note(2)

    await until(lambda: len(studio.asked) > MAX_TRIES and not inbox._waiting)
    stop.set()
    await reading
    return sorted(studio.asked)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.runtime.periodic.LARGEST_PAUSE_SECONDS", 0.001)


async def test_task_that_can_never_be_read_is_given_up() -> None:
    assert await asked_for(Studio(outages=0)) == [1] * MAX_TRIES + [2]


async def test_tasks_outlast_any_outage_of_label_studio() -> None:
    assert await asked_for(Studio(outages=3 * MAX_TRIES)) == [1] * MAX_TRIES + [2]
