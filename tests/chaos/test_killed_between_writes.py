"""Work that takes two writes is cut off between them; docs/reliability.md has the table."""

from functools import partial

import pytest

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.domain.annotations import AnnotationOutcome
from services.common.domain.records import Quality
from services.review.leases import Leases
from services.review.queue import Queue
from services.review.refreshed_answer import RefreshedAnswer
from services.review.sessions import Session
from services.review.suspects import SuspectList, suggest
from tests.support.cutting import cut_before
from tests.support.review import known

pytestmark = pytest.mark.integration

ADA = Session("s1", "ada", 9e9)
FIRST, SECOND = known("first", 0.1), known("second", 0.2)


@pytest.fixture
async def queue(database: Database) -> Queue:
    """A queue of two images, the first of which is annotated."""
    for document in (FIRST, SECOND):
        await database.images.insert(dict(document))
    images = ImageRepository(database.images)
    leases = Leases(database.review_leases, seconds=60)
    queue = Queue(
        images,
        leases,
        SuspectList(images, refresh_seconds=60),
        RefreshedAnswer(partial(suggest, images)),
    )
    await answer(queue, FIRST["_id"], "right text")
    return queue


async def answer(queue: Queue, image: str, text: str) -> AnnotationOutcome:
    return await queue.answer(ADA, image, text=text, quality=Quality.OK, etag="e1")


async def undone(queue: Queue) -> str | None:
    taken_back = await queue.undo(ADA)
    return taken_back and taken_back.image


async def texts(database: Database) -> dict[str, str | None]:
    found = database.images.find({"_id": {"$in": [FIRST["_id"], SECOND["_id"]]}})
    names = {FIRST["_id"]: "first", SECOND["_id"]: "second"}
    return {names[each["_id"]]: (each["annotation"] or {}).get("text") async for each in found}


async def test_undo_takes_back_an_answer_that_was_cut_short(
    queue: Queue, database: Database
) -> None:
    with cut_before(Leases, "done"):
        await answer(queue, SECOND["_id"], "typo")

    assert await undone(queue) == SECOND["_id"]

    assert await texts(database) == {"first": "right text", "second": None}
    assert await undone(queue) == FIRST["_id"]


async def test_answer_that_is_given_again_can_be_undone(queue: Queue, database: Database) -> None:
    with cut_before(Leases, "done"):
        await answer(queue, SECOND["_id"], "typo")

    assert await answer(queue, SECOND["_id"], "typo") is AnnotationOutcome.UNCHANGED
    assert await undone(queue) == SECOND["_id"]
    assert await texts(database) == {"first": "right text", "second": None}


async def test_answer_that_was_cut_short_can_be_corrected(queue: Queue, database: Database) -> None:
    with cut_before(Leases, "done"):
        await answer(queue, SECOND["_id"], "typo")

    assert await answer(queue, SECOND["_id"], "right") is AnnotationOutcome.WRITTEN

    assert await texts(database) == {"first": "right text", "second": "right"}
    assert await undone(queue) == SECOND["_id"]
    assert await texts(database) == {"first": "right text", "second": None}


async def test_undo_passes_over_an_answer_that_was_not_written(
    queue: Queue, database: Database
) -> None:
    with cut_before(ImageRepository, "annotate"):
        await answer(queue, SECOND["_id"], "never written")

    assert await undone(queue) == FIRST["_id"]
    assert await texts(database) == {"first": None, "second": None}
    assert await queue.undo(ADA) is None


async def test_undo_that_was_cut_short_is_finished_by_the_next(
    queue: Queue, database: Database
) -> None:
    await answer(queue, SECOND["_id"], "typo")
    with cut_before(Leases, "undone"):
        await queue.undo(ADA)

    assert await undone(queue) == SECOND["_id"]

    assert await texts(database) == {"first": "right text", "second": None}


async def test_undo_that_was_cut_before_it_began_is_done_by_the_next(
    queue: Queue, database: Database
) -> None:
    await answer(queue, SECOND["_id"], "typo")
    with cut_before(ImageRepository, "revert"):
        await queue.undo(ADA)

    assert await undone(queue) == SECOND["_id"]

    assert await texts(database) == {"first": "right text", "second": None}


async def test_answer_of_another_leaves_the_undo_of_the_first(
    queue: Queue, database: Database
) -> None:
    bob = Session("s2", "bob", 9e9)
    second = await queue.answer(bob, FIRST["_id"], text="bob's", quality=Quality.OK, etag="e1")

    assert second is AnnotationOutcome.CONFLICT
    assert await queue.undo(bob) is None
    assert await undone(queue) == FIRST["_id"]
    assert await texts(database) == {"first": None, "second": None}
