"""Label Studio during annotation, and responses of other servers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import HttpUrl, SecretStr
from typing_extensions import override

from services.common.adapters.image_repository import ImageRepository
from services.label_studio.client import LabelStudio, open_label_studio
from services.label_studio.pull import Pull, PullReport
from services.label_studio.push import Push, SyncAction
from services.label_studio.settings import LabelStudioSettings
from services.label_studio.tasks import TaskAddresses
from tests.support.datasets import Collected
from tests.support.label_studio import TOKEN, Json, LabelStudioFake
from tests.support.review import known

PROJECT = 1


@pytest.fixture
async def collected(collected: Collected) -> Collected:
    await collected.add("a.png", "line")
    return collected


def settings_of(studio: LabelStudioFake) -> LabelStudioSettings:
    return LabelStudioSettings(url=HttpUrl(studio.url), token=SecretStr(TOKEN))


class Client(LabelStudio):
    """Does something between the moment a page was listed and the moment it is used."""

    meanwhile: Callable[[], Any]

    @override
    async def tasks(self, project: int, **wanted: Any) -> Any:
        async for page in super().tasks(project, **wanted):
            if page:
                await self.meanwhile()
            yield page


@asynccontextmanager
async def client(studio: LabelStudioFake, meanwhile: Callable[[], Any]) -> AsyncIterator[Client]:
    async with open_label_studio(settings_of(studio)) as plain:
        made = Client(plain._transport, plain.url)
        made.meanwhile = meanwhile
        yield made


async def nothing() -> None:
    """Do nothing."""


async def push(studio: LabelStudioFake, collected: Collected, *doing: Any, limit: int = 10) -> Any:
    async with client(studio, *(doing or (nothing,))) as asked:
        addresses = TaskAddresses(settings_of(studio), collected.store)
        step = Push(asked, ImageRepository(collected.database.images), addresses, collected.store)
        return (await step.run(PROJECT, limit=limit)).counts


async def pull(studio: LabelStudioFake, collected: Collected, *doing: Any) -> PullReport:
    async with client(studio, *(doing or (nothing,))) as asked:
        return await Pull(asked, collected.database, PROJECT).changed(everything=True)


def says(studio: LabelStudioFake, task: int, text: str, **more: Any) -> Json:
    result = [{"from_name": "text", "type": "textarea", "value": {"text": [text]}}]
    return studio.add_annotation(task, {"result": result, **more})


async def text_of(collected: Collected, key: str = "a.png") -> str | None:
    said = (await collected.document(key))["annotation"]
    return said and str(said["text"])


async def task_by_webhook(studio: LabelStudioFake, collected: Collected, task: int) -> None:
    async with open_label_studio(settings_of(studio)) as asked:
        await Pull(asked, collected.database, PROJECT).task(task)


@pytest.mark.parametrize("earlier", [None, "at first"])
async def test_listing_does_not_undo_what_a_webhook_brought_meanwhile(
    collected: Collected, studio: LabelStudioFake, earlier: str | None
) -> None:
    await push(studio, collected)
    (task,) = studio.tasks
    if earlier is not None:
        says(studio, task, earlier)

    async def webhook() -> None:
        says(studio, task, "just now")
        await task_by_webhook(studio, collected, task)

    report = await pull(studio, collected, webhook)

    assert await text_of(collected) == "just now"
    assert report.counts == {"unchanged": 1}


async def test_second_task_that_was_annotated_since_the_listing_stays(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await push(studio, collected)
    (task,) = studio.tasks
    second = studio.add_task(PROJECT, dict(studio.tasks[task]["data"]))["id"]

    async def annotate() -> None:
        if not studio.annotations:
            says(studio, second, "said at the second")

    assert (await push(studio, collected, annotate))[SyncAction.ANNOTATED] == 1
    await pull(studio, collected)
    assert await text_of(collected) == "said at the second"


async def test_task_that_cannot_be_stored_does_not_block_others(
    collected: Collected, studio: LabelStudioFake
) -> None:
    strange = studio.add_task(PROJECT, {"image_id": "\ud800", "etag": "e", "pushed": "x"})["id"]
    await collected.add("late.png", "line")
    assert await push(studio, collected) == {SyncAction.FOREIGN: 1, SyncAction.CREATED: 2}
    late, last = [number for number in studio.tasks if number != strange]
    says(studio, strange, "nowhere")
    says(studio, late, "after all time", updated_at="9999-12-31T23:59:59-14:00")
    says(studio, last, "last")

    report = await pull(studio, collected)

    assert report.counts == {"foreign": 1, "rejected": 1, "written": 1}
    image = studio.tasks[last]["data"]["image_id"]
    assert await text_of(collected, image.split("/")[1]) == "last"


async def test_task_without_its_annotations_reverts_none(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await push(studio, collected)
    (task,) = studio.tasks.values()
    says(studio, task["id"], "kept")
    await pull(studio, collected)
    untold = {"id": task["id"], "project": PROJECT, "data": task["data"]}
    studio.faults = [web.json_response({}), web.json_response({"tasks": [untold]})]

    report = await pull(studio, collected)

    assert report.counts == {"open": 1}
    assert await text_of(collected) == "kept"


@pytest.mark.parametrize("limit", [0, 100, 150])
async def test_limit_is_kept_where_the_worst_images_are_annotated(
    collected: Collected, studio: LabelStudioFake, limit: int
) -> None:
    bucket = collected.store.bucket
    lines = [known(f"line {number:03}", number / 1000) for number in range(450)]
    for line in lines[:250]:
        line["annotation"] = {"text": "right", "quality": "ok", "by": "ada"}
    await collected.database.images.insert_missing([each | {"bucket": bucket} for each in lines])

    counts = await push(studio, collected, limit=limit)

    images = [task["data"]["image_id"] for task in studio.tasks.values()]
    best = f"{bucket}/a.png"
    assert images == [*(each["_id"] for each in lines[250:]), best][:limit]
    assert counts[SyncAction.CREATED] == min(limit, 201)
