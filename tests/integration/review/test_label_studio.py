"""Label Studio's webhooks, taken by a running review page."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession, web
from prometheus_client import REGISTRY
from pydantic import HttpUrl, SecretStr

from services.common.adapters.mongo import Document
from services.label_studio.client import open_label_studio
from services.label_studio.errors import LabelStudioNotSetError
from services.label_studio.pull import Pull
from services.label_studio.settings import LabelStudioSettings
from services.label_studio.tasks import LABEL_CONFIG
from services.label_studio.transport import ATTEMPTS
from services.review.label_studio import MAX_WAITING, Inbox
from tests.support.label_studio import TOKEN, Json, LabelStudioFake, open_label_studio_fake
from tests.support.review import OpenReview, Site, known
from tests.support.waiting import eventually, until

HOOK = "/webhooks/label-studio"
SECRET = "known to both of them"
BEARER = {"Authorization": f"Bearer {SECRET}"}
PROJECT = 1


@pytest.fixture
async def studio() -> AsyncIterator[LabelStudioFake]:
    async with open_label_studio_fake() as studio:
        title = {"id": studio.number(), "title": "DocReco", "label_config": LABEL_CONFIG}
        studio.projects[PROJECT] = title
        yield studio


def settings_of(studio: LabelStudioFake) -> LabelStudioSettings:
    return LabelStudioSettings(
        url=HttpUrl(studio.url), token=SecretStr(TOKEN), webhook_secret=SecretStr(SECRET)
    )


@pytest.fixture
async def site(studio: LabelStudioFake, review_with: OpenReview) -> AsyncIterator[Site]:
    async with review_with(label_studio=settings_of(studio)) as site:
        hook = {"url": f"{site.url}{HOOK}", "headers": BEARER}
        studio.webhooks[studio.number()] = hook
        yield site


async def add(site: Site, studio: LabelStudioFake, key: str, project: int = PROJECT) -> int:
    """Have an image with a task; return the task's number."""
    await site.add(known("a line", 0.3, key=key))
    task = studio.add_task(project, {"image_id": f"raw/{key}", "etag": "e1"})
    return int(task["id"])


def text(said: str) -> Json:
    return {"result": [{"from_name": "text", "value": {"text": [said]}}]}


async def annotation_of(site: Site, key: str, wanted: str | None) -> Document | None:
    """Wait until an image's annotation has a text, or is none."""

    async def is_so() -> bool:
        said = (await site.document(f"raw/{key}"))["annotation"]
        return bool((said and said["text"]) == wanted)

    await eventually(is_so)
    said: Document | None = (await site.document(f"raw/{key}"))["annotation"]
    return said


async def send(site: Site, body: Any, headers: Json | None = None) -> int:
    async with (
        ClientSession(site.url) as client,
        client.post(HOOK, json=body, headers=BEARER if headers is None else headers) as response,
    ):
        return response.status


async def test_annotation_is_here_at_once_and_follows_its_changes(
    site: Site, studio: LabelStudioFake
) -> None:
    task = await add(site, studio, "a.png")
    headers = {"Authorization": f"Token {TOKEN}"}
    async with ClientSession(f"{studio.url}/api/", headers=headers) as ada:
        async with ada.post(f"tasks/{task}/annotations/", json=text("first")) as response:
            number = (await response.json())["id"]
        written = await annotation_of(site, "a.png", "first")
        assert written is not None
        assert written["by"] == "ada@example.org"
        await ada.patch(f"annotations/{number}/", json=text("second"))
        await annotation_of(site, "a.png", "second")
        await ada.delete(f"annotations/{number}/")
        await annotation_of(site, "a.png", None)


async def test_event_sent_again_changes_nothing(site: Site, studio: LabelStudioFake) -> None:
    task, last = [await add(site, studio, key) for key in ("a.png", "b.png")]
    studio.add_annotation(task, text("A"))
    event = {"action": "ANNOTATION_CREATED", "task": {"id": task}}
    assert await send(site, event) == 202
    await annotation_of(site, "a.png", "A")
    document = await site.document("raw/a.png")
    for _ in range(3):
        assert await send(site, event) == 202
    studio.add_annotation(last, text("B"))
    assert await send(site, {**event, "task": {"id": last}}) == 202
    await annotation_of(site, "b.png", "B")
    assert await site.document("raw/a.png") == document


async def test_event_of_another_project_or_of_nothing_writes_nothing(
    site: Site, studio: LabelStudioFake
) -> None:
    foreign = await add(site, studio, "a.png", project=PROJECT + 1)
    studio.add_annotation(foreign, text("stolen"))
    ours = await add(site, studio, "b.png")
    studio.add_annotation(ours, text("B"))
    for task in (foreign, 10**12, ours):
        event = {"action": "ANNOTATION_UPDATED", "task": {"id": task}}
        assert await send(site, {**event, "annotation": text("made up")}) == 202
    await annotation_of(site, "b.png", "B")
    assert (await site.document("raw/a.png"))["annotation"] is None


async def test_many_events_at_once_become_one_look_at_all(
    site: Site, studio: LabelStudioFake
) -> None:
    task = await add(site, studio, "a.png")
    studio.add_annotation(task, text("A"))
    stop = asyncio.Event()
    async with open_label_studio(settings_of(studio)) as client, asyncio.TaskGroup() as tasks:
        inbox = Inbox(client, site.database, "DocReco")
        for number in range(2 * MAX_WAITING):
            inbox.note(10_000 + number)
        tasks.create_task(inbox.run(stop))
        await annotation_of(site, "a.png", "A")
        stop.set()
    alone = [each.path for each in studio.exchanges if each.path.startswith("/api/tasks/1")]
    assert len(alone) < MAX_WAITING


async def test_event_waits_until_label_studio_answers(site: Site, studio: LabelStudioFake) -> None:
    task = await add(site, studio, "a.png")
    studio.add_annotation(task, text("A"))
    studio.faults = [
        web.Response(status=503, headers={"Retry-After": "0"}) for _ in range(ATTEMPTS)
    ]
    assert await send(site, {"action": "ANNOTATION_CREATED", "task": {"id": task}}) == 202
    await annotation_of(site, "a.png", "A")
    assert not studio.faults


async def test_event_that_cannot_be_read_does_not_stop_the_next(
    site: Site, studio: LabelStudioFake
) -> None:
    first, second = [await add(site, studio, key) for key in ("a.png", "b.png")]
    for task in (first, second):
        studio.add_annotation(task, text("read"))
    studio.faults = [web.json_response({"detail": "no"}, status=403)]
    for task in (first, second):
        assert await send(site, {"action": "ANNOTATION_CREATED", "task": {"id": task}}) == 202
    await annotation_of(site, "b.png", "read")
    assert (await site.document("raw/a.png"))["annotation"] is None


async def test_untrusted_sender_is_refused(site: Site, studio: LabelStudioFake) -> None:
    event = {"action": "ANNOTATION_CREATED", "task": {"id": 1}}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Token {SECRET}"}):
        assert await send(site, event, headers) == 401
    assert await send(site, event, {**BEARER, "Origin": "https://elsewhere.example"}) == 403
    async with ClientSession(site.url) as client:
        large = BytesIO(json.dumps({**event, "padding": "x" * 2**20}).encode())
        async with client.post(HOOK, data=large, headers=BEARER) as response:
            assert response.status == 413
    senseless: Any
    for senseless in (
        [],
        "text",
        {"action": 7},
        {"action": "ANNOTATION_CREATED", "task": {"id": -1}},
    ):
        assert await send(site, senseless) == 422
    assert await send(site, {"action": "PROJECT_UPDATED", "project": {"id": 1}}) == 202
    assert studio.exchanges == []


async def test_webhook_needs_a_secret_and_the_service_a_token(
    studio: LabelStudioFake, review: Site, review_with: OpenReview
) -> None:
    assert await send(review, {"action": "ANNOTATION_CREATED"}, {}) == 404
    alone = settings_of(studio).model_copy(update={"token": None})
    with pytest.raises(LabelStudioNotSetError, match="LABEL_STUDIO_TOKEN"):
        async with review_with(label_studio=alone):
            pytest.fail("it has started")


async def test_conflict_of_a_webhook_is_counted_and_told_by_a_pull(
    site: Site, studio: LabelStudioFake
) -> None:
    task = await add(site, studio, "a.png")
    note = {"text": "bob's", "quality": "ok", "by": "bob", "at": datetime.now(tz=UTC)}
    await site.database.images.update_one({"_id": "raw/a.png"}, {"$set": {"annotation": note}})
    studio.add_annotation(task, text("another"))
    before = conflicts()

    assert await send(site, {"action": "ANNOTATIONS_DELETED"}) == 202
    await until(lambda: conflicts() > before)
    assert await site.database.label_studio.find_one({}) is None
    async with open_label_studio(settings_of(studio)) as client:
        report = await Pull(client, site.database, PROJECT).changed()
    assert [each.outcome for each in report.remarks] == ["conflict"]
    assert await site.database.label_studio.find_one({}) is not None


def conflicts() -> float:
    labels = {"outcome": "conflict"}
    return REGISTRY.get_sample_value("review_label_studio_tasks_total", labels) or 0.0
