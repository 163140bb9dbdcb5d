"""Our client and the stand-in for Label Studio, held to what its SDK and Label Studio itself do.

exchanges.json has each request of the SDK with the answer of a real Label Studio (record.py).
"""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl, SecretStr

from services.common.domain.image import ImageDocument
from services.label_studio.answers import from_label_studio, latest
from services.label_studio.client import LabelStudio, open_label_studio
from services.label_studio.schemas import StudioTask
from services.label_studio.settings import LabelStudioSettings
from services.label_studio.tasks import LABEL_CONFIG, Address, to_task
from services.review.label_studio import Event
from tests.support.label_studio import (
    PERSONAL_TOKEN,
    TOKEN,
    Exchange,
    LabelStudioFake,
    open_label_studio_fake,
)
from tests.support.review import known

FOLDER = Path(__file__).parent / "label_studio"
RECORDED = json.loads((FOLDER / "exchanges.json").read_text())
TASKS = json.loads((FOLDER / "tasks.json").read_text())
STEPS = dict.fromkeys(each["step"] for each in RECORDED["exchanges"])
SECRET = "a-secret-of-a-webhook"
NUMBERS = {"project", "task", "url"}
UNTIL = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def recorded(*steps: str) -> list[Exchange]:
    """Return the exchanges of some steps of record.py, in their order."""
    found = [dict(each) for each in RECORDED["exchanges"] if each["step"] in steps]
    return [Exchange(**{name: each[name] for name in each if name != "step"}) for each in found]


ANNOTATING = recorded("annotate")
REAL = recorded(*(step for step in STEPS if step != "personal_token"))


@pytest.fixture
async def fake() -> AsyncIterator[LabelStudioFake]:
    async with open_label_studio_fake() as fake:
        yield fake


def settings(fake: LabelStudioFake, token: str = TOKEN) -> LabelStudioSettings:
    return LabelStudioSettings(url=HttpUrl(fake.url), token=SecretStr(token))


def lines() -> list[tuple[ImageDocument, Address]]:
    source = [{"url": "https://site.example/a.png?token=%5Bredacted%5D"}]
    presigned = Address("https://minio.example/raw/a.png?X-Amz-Signature=f00", UNTIL)
    first = known("Wat it says", 0.31, key="a.png", sources=source)
    second = known("", 0.0, key="b.png")
    return [
        (ImageDocument.model_validate(first), presigned),
        (ImageDocument.model_validate(second), Address("s3://raw/b.png")),
    ]


def test_sdk_finds_our_configuration_and_tasks_valid() -> None:
    """The SDK's recording (record.py) is of the current configuration and tasks."""
    assert RECORDED["validity"]["config"] == LABEL_CONFIG
    assert [to_task(document, address, "kind") for document, address in lines()] == TASKS
    assert RECORDED["validity"]["tasks"] == [True, True]
    assert RECORDED["validity"]["prediction_errors"] == [[], []]


async def _use(studio: LabelStudio, hook: str) -> None:
    """Do what record.py does with the SDK."""
    await studio.find_project("Lines")
    project = (await studio.create_project("Lines", LABEL_CONFIG)).id
    await studio.import_tasks(project, TASKS)
    first, second = [
        each.id for each in await anext(studio.tasks(project, fields="task_only")) if each
    ]
    await studio.update_task(first, TASKS[1]["data"])
    kept = (await studio.predictions(first))[0].id
    said = TASKS[0]["predictions"][0]
    await studio.create_prediction(first, said)
    await studio.update_prediction(kept, said)
    await studio.users()
    await studio.now()
    await studio.create_webhook(project, hook, SECRET)
    await studio.update_webhook((await studio.webhooks(project))[0].id, hook, SECRET)
    people = studio._transport
    created, updated, skipped = (each.body for each in ANNOTATING[:3])
    number = (await people.ask("POST", f"api/tasks/{first}/annotations/", body=created))["id"]
    await people.ask("PATCH", f"api/annotations/{number}/", body=updated)
    await people.ask("POST", f"api/tasks/{second}/annotations/", body=skipped)
    await studio.task(first)
    await anext(studio.tasks(project, fields="all", since=datetime(2026, 1, 1, tzinfo=UTC)))
    await people.ask("DELETE", f"api/annotations/{number}/")
    await studio.delete_task(first)


async def test_client_and_stand_in_match_the_recorded_exchanges(fake: LabelStudioFake) -> None:
    hook = f"{fake.url}/api/version/"
    async with open_label_studio(settings(fake)) as studio:
        await _use(studio, hook)
    ours = [each for each in fake.exchanges if each.scheme != "Bearer"]

    assert [_request(each) for each in ours] == [_request(each) for each in REAL]
    for one, real in zip(ours, REAL, strict=True):
        assert (one.scheme, one.status) == (real.scheme, real.status), one
        _assert_form(one.answer, real.answer, one.path)


def _request(exchange: Exchange) -> tuple[Any, ...]:
    """Return a request without the numbers that a server gives."""
    path = re.sub(r"\d+", "N", exchange.path)
    query = {name: "N" if name in NUMBERS else value for name, value in exchange.query.items()}
    body = exchange.body
    if isinstance(body, dict):
        body = {name: "N" if name in NUMBERS else value for name, value in body.items()}
    return exchange.method, path, query, body


def _assert_form(ours: Any, real: Any, where: str) -> None:
    """Assert that all that ours has is in the real answer too, and is of the same kind."""
    if ours is None or real is None:
        return
    assert type(ours) is type(real), where
    if isinstance(ours, dict):
        for name, value in ours.items():
            assert name in real, f"{where}: {name}"
            _assert_form(value, real[name], f"{where}.{name}")
    if isinstance(ours, list):
        assert len(ours) == len(real), where
        for one, other in zip(ours, real, strict=True):
            _assert_form(one, other, f"{where}[]")


async def test_personal_token_is_exchanged_as_by_the_sdk(fake: LabelStudioFake) -> None:
    async with open_label_studio(settings(fake, PERSONAL_TOKEN)) as studio:
        await studio.users()
        fake.access.clear()  # expired
        await studio.users()
    sdk = [(each.method, each.path, each.scheme) for each in recorded("personal_token")]
    ours = [(each.method, each.path, each.scheme) for each in fake.exchanges]
    assert ours == [*sdk, ("GET", "/api/users/", "Bearer"), *sdk]


def test_annotations_of_label_studio_are_understood() -> None:
    (page,) = (each.answer for each in recorded("changed_tasks"))
    first, second = (StudioTask.model_validate(each) for each in page["tasks"])
    said = latest(first)
    assert said is not None
    annotation = from_label_studio(said, "ada@example.org", "https://studio.example/1")
    assert (annotation.text, annotation.quality) == ("", "unreadable")
    assert annotation.at is not None
    assert latest(second) is None  # skipped
    (alone,) = (StudioTask.model_validate(each.answer) for each in recorded("task"))
    assert (alone.annotations[0].model_dump()["completed_by"]["email"]) == "ada@example.org"


def test_events_of_label_studio_are_understood() -> None:
    events = RECORDED["events"]
    assert {each["authorization"] for each in events} == {f"Bearer {SECRET}"}
    told = [Event.model_validate(each["body"]) for each in events]
    first, second = (each["id"] for each in recorded("tasks")[0].answer["tasks"])
    assert [(event.action, event.task and event.task.id) for event in told] == [
        ("ANNOTATION_CREATED", first),
        ("ANNOTATION_UPDATED", first),
        ("ANNOTATION_CREATED", second),
        ("ANNOTATIONS_DELETED", None),
    ]
