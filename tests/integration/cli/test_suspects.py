"""Suspect labels: listed by ``docreco suspects``, confirmed and corrected on the review page."""

import csv
from collections.abc import AsyncIterator
from functools import partial
from hashlib import sha256
from io import StringIO
from typing import Any

import pytest

from services.common.adapters.mongo import Document
from services.common.runtime.settings import MongoSettings, S3Settings
from tests.support.datasets import answer, docreco
from tests.support.review import NOW, OpenReview, Person, Site, fields_of, image_of, known
from tests.support.servers import set_environment
from tests.support.waiting import eventually

DAMAGED = "au cafÃ© du front, en 1916"


def said(text: str, by: str = "batch:7") -> Document:
    return {"text": text, "quality": "ok", "by": by, "at": NOW}


def line(read: str, text: str | None = None, **changes: Any) -> Document:
    changes.setdefault("annotation", said(read if text is None else text))
    changes.setdefault("sources", [{"kind": "archive", "collection": "letters", "name": read}])
    return known(read, 0.9, width=20 * len(read), height=40, **changes)


LINES = [
    line("au café du front, en 1916", DAMAGED),
    line(
        "le matin du 6 novembre 1916",
        annotation=said("le matin du 5 novembre 1916", by="bob"),
        annotation_history=[said("le matin du 6 novembre 1916", by="eve")],
    ),
    *(line(sha256(bytes([number])).hexdigest()[:25]) for number in range(25)),
]


@pytest.fixture
async def site(
    s3_settings: S3Settings,
    mongo_settings: MongoSettings,
    review_with: OpenReview,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """A review page with two suspect labels, that judges them again all the time."""
    set_environment(monkeypatch, s3_settings, mongo_settings)
    async with review_with(quality_refresh_seconds=0.5) as site:
        await site.database.create_indexes()
        await site.add(*(dict(each) for each in LINES))
        yield site


async def first(person: Person, text: str) -> str:
    """Wait until the queue of suspects begins with an image of this text; return the page."""

    async def page() -> str:
        html = await person.see("/suspects")
        return html if fields_of(html).get("text") == text else ""

    return await eventually(page)


async def has_suspects(person: Person) -> bool:
    return "2 labels may be wrong" in await person.see("/quality?collection=letters")


@pytest.mark.usefixtures("site")
async def test_command_lists_suspects_with_reasons() -> None:
    told = await answer("suspects")
    assert (told["annotated"], told["suspects"]) == (27, 2)
    assert told["reasons"] == {"mojibake": 1, "annotators_differ": 1}
    assert [each["reasons"][0] for each in told["images"]] == ["mojibake", "annotators_differ"]
    assert (told["images"][0]["annotation"], told["images"][0]["collection"]) == (
        DAMAGED,
        "letters",
    )

    assert (await answer("suspects", "--reason", "annotators_differ"))["suspects"] == 1
    _, table = await docreco("suspects", "--collection", "letters", "--csv")
    rows = list(csv.DictReader(StringIO(table)))
    assert [(each["reasons"], each["by"]) for each in rows] == [
        ("mojibake", "batch:7"),
        ("annotators_differ", "bob"),
    ]


async def test_confirmed_or_corrected_suspects_do_not_come_back(site: Site) -> None:
    async with site.person() as ada:
        page = await first(ada, DAMAGED)
        assert "wrong encoding" in page
        assert "given by batch:7" in page
        await eventually(partial(has_suspects, ada))
        second = await ada.do(page, "save")
        assert "Confirmed" in second
        third = await ada.do(second, "save", "le matin du 6 novembre 1916")
        assert (fields_of(second)["text"], image_of(third)) == ("le matin du 5 novembre 1916", "")
        assert "2</strong> by you" in await ada.see("/queue/progress")
        given, typed = [
            (await site.document(image_of(each)))["annotation"] for each in (page, second)
        ]
        assert (given["text"], given["by"], given["confirmed"]["by"]) == (DAMAGED, "batch:7", "ada")
        assert (typed["text"], typed["by"], typed["confirmed"]["by"]) == (
            "le matin du 6 novembre 1916",
            "ada",
            "ada",
        )
        assert (await answer("suspects"))["suspects"] == 0

        again = await ada.do(third, "undo")
        assert fields_of(again)["text"] == "le matin du 6 novembre 1916"
        await ada.do(again, "undo")
    left = [(await site.document(image_of(each)))["annotation"] for each in (page, second)]
    assert (left[0]["text"], left[0]["confirmed"]) == (DAMAGED, None)
    assert left[1] == said("le matin du 5 novembre 1916", by="bob")
    assert (await answer("suspects"))["suspects"] == 2


async def test_annotation_that_changed_meanwhile_is_kept(site: Site) -> None:
    async with site.person() as ada:
        page = await first(ada, DAMAGED)
        changed = {"$set": {"annotation": said("l'été 1917", by="eve")}}
        await site.database.images.update_one({"_id": image_of(page)}, changed)
        assert "theirs is kept" in await ada.do(page, "save")
    assert (await site.document(image_of(page)))["annotation"]["text"] == "l'été 1917"
