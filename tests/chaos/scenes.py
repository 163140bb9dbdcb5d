"""Work that is cut off between two writes while the load enters, and what must become of it."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import ClientError, web

from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, Delivery, decide_retry
from services.common.adapters.synthetic_events import sequencer_at, stored_notification
from services.common.domain.batch_item import ItemOutcome
from services.common.domain.errors import InvalidEventError
from services.common.domain.provenance import FETCH_ID
from services.fetcher.batches.item_repository import ItemRepository, ItemResult
from services.fetcher.jobs import FetchJob
from tests.chaos.stage import PASSWORD, PATIENCE_SECONDS, Stage, without_events
from tests.chaos.windows import Window
from tests.support.review import Person, image_of, open_person
from tests.support.waiting import eventually

LONG_TEXT = " ".join(["longer than the metadata of an object may be"] * 50)
FAST = {"RECONCILER_INTERVAL_SECONDS": "1", "RECONCILER_MIN_AGE_SECONDS": "0"}
UNANNOUNCED = "fetched/scenes/unannounced.png"
"""An object whose event is in the parking queue; the reconciler hears no event of this folder."""

Play = Callable[[Stage, Window, int], Awaitable[None]]


@dataclass(frozen=True)
class Scene:
    """One sequence of writes, to be cut off once."""

    play: Play
    windows: tuple[Window, ...]
    """Between which two of its writes; the seed chooses one."""
    most: int = 1
    """The seed chooses from the first to which time that the window is passed."""

    @property
    def program(self) -> str:
        """The module of the program that is killed."""
        return self.windows[0].value.module


async def prepare(stage: Stage) -> None:
    """Store what must be there before the load comes."""
    async with without_events(stage.client.store):
        await stage.put(UNANNOUNCED, next(stage.drawn))


async def fetch_images(stage: Stage, window: Window, at: int) -> None:
    texts = ("", "text of a list", LONG_TEXT)
    async with stage.killing(window, at=at):
        await stage.submit(*(stage.serve(next(stage.drawn), text) for text in texts))


async def fetch_from_failing_host(stage: Stage, window: Window, at: int) -> None:
    image = next(stage.drawn)
    failures = [web.Response(status=500)]

    async def fail_once(_: web.Request) -> web.Response:
        return failures.pop() if failures else web.Response(body=image, content_type="image/png")

    item = stage.serve(image)
    stage.site.add(item["url"].removeprefix(stage.site.base_url), fail_once)
    async with stage.killing(window, at=at):
        await stage.submit(item)


async def retry_batch(stage: Stage, window: Window, at: int) -> None:
    image = next(stage.drawn)
    item = stage.serve(image)
    path = item["url"].removeprefix(stage.site.base_url)
    stage.site.add_body(path, b"not yet", status=404)
    batch_id = await stage.submit(item)
    counts = await stage.client.completed(batch_id, seconds=PATIENCE_SECONDS)
    assert counts["failed"] == 1
    stage.site.add_body(path, image)
    async with stage.killing(window, at=at):
        with suppress(ClientError):
            await stage.client.fetcher.post(f"/batches/{batch_id}/retry?scope=all")


async def store_images(stage: Stage, window: Window, at: int) -> None:
    async with stage.killing(window, at=at):
        for _ in range(at):
            await stage.store()


async def store_before_its_fetch_is_known(stage: Stage, window: Window, at: int) -> None:
    key, image = "uploads/scenes/late.png", next(stage.drawn)
    job = FetchJob(
        "scenes/0000000001", "scenes", "http://elsewhere.test/late.png", "text of a fetch"
    )
    async with stage.killing(window, at=at) as killed:
        await stage.put(key, image, **{FETCH_ID: job.fetch_id})
        await killed()
        result = ItemResult(ItemOutcome.STORED, "stored", key=key)
        assert await ItemRepository(stage.client.database.fetches).finish(job, result)
    stage.urls[key], stage.annotations[key] = job.url, str(job.annotation)


async def send_unknown_events(stage: Stage, window: Window, at: int) -> None:
    async with stage.killing(window, at=at):
        await stage.publish(b"no notification", OCR_QUEUES.work, {})
    await stage.depth_is(OCR_QUEUES.parked, 2)
    await stage.command("parked", "drop", "--code", InvalidEventError.code, "--yes")
    await stage.depth_is(OCR_QUEUES.parked, 0)


async def delete_annotated_image(stage: Stage, window: Window, at: int) -> None:
    key, text = await stage.store(), "by hand, and kept aside"
    await stage.annotate(key, text)
    async with stage.killing(window, at=at):
        await stage.client.store.delete(key)
    removed = {"key": key, "status": "removed", "annotation": None}
    await stage.client.document(removed, seconds=PATIENCE_SECONDS)
    await stage.put(key, stage.images[key])
    await stage.read(key, **{"annotation.text": text})
    stage.annotations[key] = text


async def answer(stage: Stage, window: Window, at: int) -> None:
    async with open_person(stage.pipeline.review_url, "ada", PASSWORD) as person:
        html = await _task(person)
        async with stage.killing(window, at=at):
            with suppress(ClientError):
                await person.do(html, "save", "read by ada")
        await person.do(html, "save", "read by ada")
    stage.annotations[_key_of(html)] = "read by ada"


async def undo(stage: Stage, window: Window, at: int) -> None:
    async with open_person(stage.pipeline.review_url, "bob", PASSWORD) as person:
        right = await _task(person)
        await person.do(right, "save", "read by bob")
        typo = await _task(person)
        html = await person.do(typo, "save", "typo")
        async with stage.killing(window, at=at):
            with suppress(ClientError):
                await person.do(html, "undo")
        html = await person.do(html, "undo")
        assert image_of(html) == image_of(typo)
        await stage.read(_key_of(typo), annotation=None)
        await person.do(html, "save", "read by bob as well")
    stage.annotations[_key_of(right)] = "read by bob"
    stage.annotations[_key_of(typo)] = "read by bob as well"


async def forget_image(stage: Stage, window: Window, at: int) -> None:
    assert at == 1
    key = await stage.store()
    await stage.annotate(key, "private")
    await stage.kill_command(window, *_forget(key))
    await stage.command(*_forget(key))
    document = await stage.client.document({"key": key})
    assert document["status"] == "removed"
    assert document["annotation"] is None
    await _store_again(stage, key)


async def store_forgotten_image(stage: Stage, window: Window, at: int) -> None:
    key = await stage.store()
    await stage.annotate(key, "private")
    await stage.command(*_forget(key))
    async with stage.killing(window, at=at):
        await stage.put(key, stage.images[key])

    async def is_deleted() -> bool:
        return await stage.client.store.head(key) is None

    await eventually(is_deleted, seconds=PATIENCE_SECONDS)
    await _store_again(stage, key)


def _forget(key: str, *options: str) -> tuple[str, ...]:
    return ("forget", key, "--yes", "--wait", str(PATIENCE_SECONDS / 2), *options)


async def _store_again(stage: Stage, key: str) -> None:
    await stage.command(*_forget(key, "--allow-again"))
    await stage.put(key, stage.images[key])
    await stage.read(key, annotation=None)


async def replay_parked_event(stage: Stage, window: Window, at: int) -> None:
    assert at == 1
    info = await stage.client.store.head(UNANNOUNCED)
    assert info is not None
    sequencer = sequencer_at(info.stored_at)
    body = stored_notification(stage.client.store.bucket, info, sequencer=sequencer)
    parked = decide_retry(InvalidEventError("parked by a test"), Delivery(body), OCR_QUEUES)
    await stage.publish(body, OCR_QUEUES.parked, dict(parked.headers))
    await stage.kill_command(window, "parked", "replay")
    await stage.depth_is(OCR_QUEUES.parked, 1)
    await stage.command("parked", "replay")
    await stage.depth_is(OCR_QUEUES.parked, 0)


async def find_lost_events(stage: Stage, window: Window, at: int) -> None:
    """To be played when everything else is in order: it also finds what that lost."""
    async with stage.killing(window, at=at), without_events(stage.client.store):
        for number in range(at):
            await stage.put(f"fetched/scenes/lost-{number}.png", next(stage.drawn))


async def _task(person: Person) -> str:
    """Return the page of an image to annotate, once there is one."""

    async def shown() -> str | None:
        html = await person.see("/queue")
        return html if image_of(html) else None

    return await eventually(shown, seconds=PATIENCE_SECONDS)


def _key_of(html: str) -> str:
    return image_of(html).partition("/")[2]


SCENES = (
    Scene(fetch_images, (Window.PAGE_WRITTEN,)),
    Scene(fetch_images, (Window.PAGE_PUBLISHED,)),
    Scene(fetch_images, (Window.ITEM_NOTED,)),
    Scene(fetch_images, (Window.IMAGE_STORED,), most=3),
    Scene(fetch_images, (Window.ITEM_FINISHED,), most=3),
    Scene(fetch_from_failing_host, (Window.JOB_COPIED,)),
    Scene(retry_batch, (Window.RETRY_ASKED, Window.RETRY_DONE)),
    Scene(store_images, (Window.DOCUMENT_WRITTEN,), most=3),
    Scene(store_before_its_fetch_is_known, (Window.EVENT_COPIED,)),
    Scene(send_unknown_events, (Window.EVENT_PARKED,)),
    Scene(delete_annotated_image, (Window.ANNOTATION_KEPT,)),
    Scene(answer, (Window.ANSWER_BEGUN, Window.ANSWER_WRITTEN)),
    Scene(undo, (Window.TAKEN_BACK,)),
    Scene(store_forgotten_image, (Window.FORGOTTEN_AGAIN,)),
    Scene(
        forget_image,
        (
            Window.IMAGE_BLOCKED,
            Window.ANNOTATIONS_ERASED,
            Window.TOMBSTONES_ERASED,
            Window.OBJECT_DELETED,
        ),
    ),
    Scene(replay_parked_event, (Window.MESSAGE_REPLAYED,)),
)
LAST_SCENE = Scene(find_lost_events, (Window.FOUND_QUEUED,), most=3)
