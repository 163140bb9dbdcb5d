"""``docreco label-studio`` against a stand-in for Label Studio and real stores."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from pydantic import HttpUrl, SecretStr
from yarl import URL

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.annotations import NORMALISATION, to_annotation
from services.label_studio import transport
from services.label_studio.answers import MAX_RESULTS
from services.label_studio.client import open_label_studio
from services.label_studio.errors import LabelStudioUnavailableError
from services.label_studio.settings import LabelStudioSettings
from tests.support.datasets import Collected, answer, docreco, prediction
from tests.support.label_studio import TOKEN, Json, LabelStudioFake
from tests.support.review import known
from tests.support.waiting import deadline


async def push(*options: object, status: int = 0) -> dict[str, Any]:
    return await answer("label-studio", "push", *options, status=status)


async def pull(*options: object, status: int = 0) -> dict[str, Any]:
    return await answer("label-studio", "pull", *options, status=status)


def done(told: dict[str, Any]) -> dict[str, int]:
    """Return the counts that are not 0."""
    return {name: count for name, count in told.items() if isinstance(count, int) and count}


def task_of(studio: LabelStudioFake, key: str) -> Json:
    return next(
        task
        for task in studio.tasks.values()
        if str(task["data"].get("image_id")).endswith(f"/{key}")
    )


def says(studio: LabelStudioFake, key: str, text: str = "", choice: str = "", **more: Any) -> Json:
    """Annotate as a person at Label Studio does."""
    results: list[Json] = []
    if text:
        results.append({"from_name": "text", "type": "textarea", "value": {"text": [text]}})
    if choice:
        results.append({"from_name": "quality", "type": "choices", "value": {"choices": [choice]}})
    return studio.add_annotation(task_of(studio, key)["id"], {"result": results, **more})


async def annotation_of(collected: Collected, key: str) -> Json:
    said: Json = (await collected.document(key))["annotation"]
    return said


async def test_worst_images_become_tasks_that_a_browser_can_show(
    collected: Collected, studio: LabelStudioFake
) -> None:
    for key, score in (("good.png", 0.9), ("bad.png", 0.1), ("fair.png", 0.5)):
        source = f"https://site.example/{key}?token=%5Bredacted%5D"
        read = prediction("a line", score=score)
        await collected.add(key, "a line", urls=(source,), prediction=read)
    await collected.add("known.png", "known", right="Known")
    await collected.add("rejected.png", "", status="rejected")

    told = await push("--limit", 2)
    assert (told["created"], told["open_tasks"]) == (2, 2)
    first, second = studio.tasks.values()
    assert [task["data"]["image_id"].split("/")[1] for task in (first, second)] == [
        "bad.png",
        "fair.png",
    ]
    assert first["data"]["source_urls"] == ["https://site.example/bad.png?token=%5Bredacted%5D"]
    (said,) = (each for each in studio.predictions.values() if each["task"] == first["id"])
    assert (said["model_version"], said["score"]) == ("fake fake-1", 0.1)
    assert said["result"][0]["value"] == {"text": ["a line"]}
    async with (
        ClientSession() as browser,
        browser.get(URL(first["data"]["image"], encoded=True)) as response,
    ):
        assert response.status == 200
        assert (await response.read()).startswith(b"\x89PNG")


async def test_thousand_tasks_are_pushed_once(
    collected: Collected, studio: LabelStudioFake
) -> None:
    lines = [known(f"line {number}", number / 1000) for number in range(1000)]
    bucket = collected.store.bucket
    await collected.database.images.insert_missing([each | {"bucket": bucket} for each in lines])

    assert done(await push()) == {"created": 1000, "open_tasks": 1000}
    assert studio.writes() == [
        "POST /api/projects/",
        *["POST /api/projects/1/import"] * 10,
    ]
    assert done(await push()) == {"unchanged": 1000, "open_tasks": 1000}
    listings = [each for each in studio.exchanges if each.path == "/api/tasks/"]
    assert len(listings) == 11
    assert studio.writes() == []


async def test_push_is_limited_to_a_collection(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "a", sources=[{"kind": "archive", "collection": "march"}])
    await collected.add("b.png", "b")
    assert (await push("--collection", "march"))["created"] == 1
    assert [task["data"]["image_id"][-5:] for task in studio.tasks.values()] == ["a.png"]
    status, said = await docreco("label-studio", "push", "--collection", "may")
    assert (status, "Collections: march (1)." in said) == (4, True)


async def test_dry_run_tells_and_writes_nothing(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "a")
    assert (await push("--dry-run"))["created"] == 1
    assert studio.writes() == []
    await push()
    says(studio, "a.png", "A")
    assert done(await pull("--dry-run"))["written"] == 1
    assert await annotation_of(collected, "a.png") is None
    assert done(await pull())["written"] == 1


async def test_only_what_changed_is_pushed_again(
    collected: Collected, studio: LabelStudioFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("same.png", "reread.png", "known.png", "replaced.png", "removed.png"):
        await collected.add(key, "line")
    await push()
    studio.writes()
    reread, replaced, removed = (
        task_of(studio, f"{name}.png")["id"] for name in ("reread", "replaced", "removed")
    )
    await collected.set("reread.png", prediction=prediction("better", version="fake-2"))
    await collected.set("known.png", annotation={"text": "Known", "quality": "ok", "by": "ada"})
    await collected.set("replaced.png", etag="other")
    await collected.set("removed.png", status="removed", prediction=None)

    told = await push()
    changed = {"created": 1, "updated": 1, "deleted": 2, "unchanged": 1, "annotated": 1}
    assert done(told) == {**changed, "open_tasks": 3}
    assert set(studio.writes()) == {
        f"DELETE /api/tasks/{replaced}/",
        f"DELETE /api/tasks/{removed}/",
        f"PATCH /api/tasks/{reread}/",
        "POST /api/predictions/",
        "POST /api/projects/1/import",
    }
    versions = [p["model_version"] for p in studio.predictions.values() if p["task"] == reread]
    assert versions == ["fake fake-1", "fake fake-2"]
    await push()
    assert studio.writes() == []

    await collected.set("reread.png", prediction=prediction("best", version="fake-2"))
    await push()
    assert sum(each.startswith("PATCH /api/predictions/") for each in studio.writes()) == 1
    monkeypatch.setenv("LABEL_STUDIO_ADDRESS_SECONDS", str(2 * 86_400))
    assert done(await push()) == {"unchanged": 3, "annotated": 1, "open_tasks": 3}
    for task in studio.tasks.values():
        task["data"]["valid_until"] = datetime.now(tz=UTC).isoformat()
    assert (await push())["updated"] == 3
    monkeypatch.setenv("LABEL_STUDIO_ADDRESSES", "s3")
    assert (await push())["updated"] == 3
    address = task_of(studio, "same.png")["data"]["image"]
    assert address == f"s3://{collected.store.bucket}/same.png"


async def test_tasks_of_others_and_second_tasks_do_no_harm(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("known.png", "a")
    await push()
    task = task_of(studio, "known.png")
    strange: list[Json] = [{}, {"image_id": 7}, {"image_id": "raw/b.png"}, {"image": "x" * 10_000}]
    for data in strange:
        studio.add_task(1, data)
    studio.add_task(1, task["data"] | {"image_id": f"{collected.store.bucket}/unknown.png"})
    second = studio.add_task(1, dict(task["data"]))
    studio.add_task(2, dict(task["data"]))
    broken = studio.add_task(1, {})
    broken["data"] = "no object"
    studio.writes()

    assert done(await push()) == {"unchanged": 1, "deleted": 1, "foreign": 6, "open_tasks": 1}
    assert studio.writes() == [f"DELETE /api/tasks/{second['id']}/"]
    stolen = {"from_name": "text", "value": {"text": ["stolen"]}}
    for each in studio.tasks.values():
        if each is not task:
            studio.add_annotation(each["id"], {"result": [stolen]})
    says(studio, "known.png", "A")
    told = await pull(status=1)
    assert done(told) == {"written": 1, "unknown": 1, "foreign": 5}
    assert (await annotation_of(collected, "known.png"))["text"] == "A"


async def test_annotations_come_back_with_who_and_when(
    collected: Collected, studio: LabelStudioFake
) -> None:
    for key in ("text.png", "dark.png", "photo.png", "skipped.png", "open.png"):
        await collected.add(key, "line")
    await push()
    said = says(studio, "text.png", "  l'e\u0301te\u0301\n ")
    says(studio, "dark.png", "half of it", "unreadable")
    says(studio, "photo.png", choice="not_a_line", completed_by=99)
    says(studio, "skipped.png", "never mind", was_cancelled=True)

    assert done(await pull()) == {"written": 3, "open": 2}
    written = await annotation_of(collected, "text.png")
    at = datetime.fromisoformat(said["updated_at"])
    assert written == {
        "text": "l'été",
        "quality": "ok",
        "by": "ada@example.org",
        "at": at.replace(microsecond=at.microsecond // 1000 * 1000),
        "how": "corrected",
        "normalisation": NORMALISATION,
        "origin": f"{studio.url}/projects/1/data?task={task_of(studio, 'text.png')['id']}",
    }
    dark = await annotation_of(collected, "dark.png")
    assert (dark["text"], dark["quality"]) == ("", "unreadable")
    photo = await annotation_of(collected, "photo.png")
    assert (photo["quality"], photo["by"]) == ("not_a_line", "user 99")
    assert done(await pull("--all")) == {"unchanged": 3, "open": 2}
    assert await annotation_of(collected, "text.png") == written


async def test_predictions_of_a_task_tell_how_its_text_was_made(
    collected: Collected, studio: LabelStudioFake
) -> None:
    for key in ("accepted.png", "foreign.png"):
        await collected.add(key, "line")
    await push()
    for key in ("accepted.png", "foreign.png"):
        says(studio, key, "line")
    other = {"result": [{"from_name": "text", "value": {"text": ["another model's"]}}]}
    studio.add_prediction(task_of(studio, "foreign.png")["id"], other)

    await pull()

    said = [await annotation_of(collected, key) for key in ("accepted.png", "foreign.png")]
    assert [each.get("how") for each in said] == ["accepted", None]


async def test_later_pull_reads_only_what_changed_since(
    collected: Collected, studio: LabelStudioFake
) -> None:
    for key in ("a.png", "b.png"):
        await collected.add(key, "line")
    await push()
    says(studio, "a.png", "A")
    for task in studio.tasks.values():
        task["updated_at"] = "2026-01-01T00:00:00.000000Z"
    assert done(await pull()) == {"written": 1, "open": 1}
    assert done(await pull()) == {}
    says(studio, "b.png", "B")
    assert done(await pull()) == {"written": 1}
    assert done(await pull()) == {"unchanged": 1}


async def test_other_peoples_annotations_stay_unless_overwritten(
    collected: Collected, studio: LabelStudioFake
) -> None:
    for key in ("a.png", "b.png"):
        await collected.add(key, "line")
    await push()
    says(studio, "a.png", "from there")
    images, image = collected.database.images, f"{collected.store.bucket}/a.png"
    here = to_annotation("from here", by="bob", at=datetime(2026, 1, 1, tzinfo=UTC))
    await ImageRepository(images).annotate(image, here)

    told = await pull(status=1)
    assert told["conflict"] == 1
    assert told["remarks"][0]["image"] == image
    assert (await annotation_of(collected, "a.png"))["by"] == "bob"
    assert done(await pull("--all", "--overwrite"))["written"] == 1
    document = await collected.document("a.png")
    assert document["annotation"]["text"] == "from there"
    assert [each["by"] for each in document["annotation_history"]] == ["bob"]
    later = to_annotation("corrected here", by="bob")
    await ImageRepository(images).annotate(image, later, overwrite=True)
    assert (await pull("--all", "--overwrite", status=1))["conflict"] == 1
    assert (await annotation_of(collected, "a.png"))["text"] == "corrected here"


async def test_correction_and_deletion_there_are_followed(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "line")
    await push()
    first = says(studio, "a.png", "first")
    await pull()
    second = says(studio, "a.png", "second")
    assert done(await pull()) == {"written": 1}
    first["ground_truth"] = True
    assert done(await pull()) == {"written": 1}
    assert (await annotation_of(collected, "a.png"))["text"] == "first"

    for said in (first, second):
        del studio.annotations[said["id"]]
    assert done(await pull()) == {"withdrawn": 1}
    document = await collected.document("a.png")
    assert document["annotation"] is None
    assert {each["text"] for each in document["annotation_history"]} == {"first", "second"}
    assert done(await pull()) == {"open": 1}


SENSELESS: list[list[Any]] = [
    ["no object"],
    [{"from_name": "text", "value": {"text": ["one", "two"]}}],
    [{"from_name": "text", "value": {"text": {"a": 1}}}],
    [{"from_name": "text", "value": {"text": ["\x1b[2J"]}}],
    [{"from_name": "text", "value": {"text": ["x" * 10_001]}}],
    [{"from_name": "quality", "value": {"choices": ["perfect"]}}],
    [{"from_name": "quality", "value": {"choices": ["unreadable", "not_a_line"]}}],
    [{"from_name": "other", "value": {"text": ["elsewhere"]}}],
    [{"from_name": "text", "value": {"text": ["one of very many"]}}, *[{}] * MAX_RESULTS],
    [],
]


async def test_answer_without_sense_is_told_and_not_written(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "line")
    await push()
    task = task_of(studio, "a.png")
    for result in SENSELESS:
        made = studio.add_task(1, task["data"])
        studio.add_annotation(made["id"], {"result": result})
    told = await pull(status=1)
    assert done(told) == {"rejected": len(SENSELESS), "open": 1}
    assert len(told["remarks"]) == len(SENSELESS)
    assert await annotation_of(collected, "a.png") is None


async def test_answer_about_other_bytes_is_not_written(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "line")
    await push()
    says(studio, "a.png", "what it was")
    await collected.set("a.png", etag="other")
    assert (await pull(status=1))["unknown"] == 1
    assert await annotation_of(collected, "a.png") is None


async def test_what_fails_for_a_moment_is_asked_again(
    collected: Collected, studio: LabelStudioFake
) -> None:
    await collected.add("a.png", "line")
    now = {"Retry-After": "0"}
    studio.faults = [
        web.Response(status=503, headers=now),
        web.Response(status=429, headers=now),
        web.Response(status=502),
    ]
    assert (await push())["created"] == 1
    assert [each.status for each in studio.exchanges[:4]] == [503, 429, 502, 200]

    await collected.add("b.png", "line")
    studio.exchanges.clear()
    studio.faults = []
    listed = [web.json_response({"results": [{"id": 1, "title": "DocReco"}]})]
    empty = [web.json_response({"tasks": []})]
    studio.faults = [*listed, *empty, web.Response(status=500)]
    status, said = await docreco("label-studio", "push")
    assert (status, "500" in said) == (3, True)
    assert len(studio.writes()) == 1  # it may have been done: asked once


@pytest.mark.usefixtures("collected")
async def test_command_says_what_to_do(
    studio: LabelStudioFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = await docreco("label-studio", "pull")
    assert (status, "docreco label-studio push creates it" in said) == (4, True)
    studio.faults = [web.Response(status=301, headers={"Location": "https://other.example/"})]
    status, said = await docreco("label-studio", "pull")
    assert (status, "set LABEL_STUDIO_URL to the target" in said) == (4, True)
    studio.faults = [web.Response(text="<html>")]
    status, said = await docreco("label-studio", "pull")
    assert (status, "is not JSON" in said) == (4, True)
    studio.faults = [web.json_response({"results": [], "padding": "x" * 10_000})]
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 9_000)
    status, said = await docreco("label-studio", "pull")
    assert (status, "more than 9000 bytes" in said) == (4, True)
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", "of another user")
    status, said = await docreco("label-studio", "push")
    assert (status, "Set LABEL_STUDIO_TOKEN" in said) == (4, True)
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url.replace("//", "//ada:secret@"))
    status, said = await docreco("label-studio", "push")
    assert (status, "must not contain credentials" in said, "secret" in said) == (5, True, False)
    monkeypatch.delenv("LABEL_STUDIO_TOKEN")
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    status, said = await docreco("label-studio", "push")
    assert (status, "LABEL_STUDIO_TOKEN must both be set" in said) == (5, True)


@pytest.mark.usefixtures("collected")
async def test_missing_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", TOKEN)
    status, said = await docreco("label-studio", "push")
    assert (status, "connection refused" in said) == (3, True)


async def test_answer_that_never_ends_is_given_up() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.01)

    application = web.Application()
    application.add_routes([web.post("/api/projects/", trickle)])
    async with TestServer(application) as server:
        settings = LabelStudioSettings(
            url=HttpUrl(str(server.make_url("/"))), token=SecretStr(TOKEN), timeout_seconds=0.1
        )
        async with deadline(), open_label_studio(settings) as client:
            with pytest.raises(LabelStudioUnavailableError):
                await client.create_project("DocReco", "<View/>")
