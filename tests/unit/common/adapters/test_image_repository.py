"""Writes of document changes."""

from datetime import timedelta
from typing import Any, cast

import pytest

from services.common.adapters.forgotten import Forgotten, Tombstones
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.domain.errors import DuplicateDocumentError
from services.common.domain.image import Decision, ImageDocument
from services.common.domain.records import Annotation


class OneDocument:
    """A collection of at most one document, which notes what is written, and is first refused."""

    def __init__(self, document: Document | None, refusals: int = 0) -> None:
        self.document = document
        self.refusals = refusals
        self.written: list[Document] = []

    async def find_one(self, _: Document) -> Document | None:
        return self.document

    async def update_one(self, where: Document, change: Document, **_: Any) -> bool:
        self.refusals -= 1
        if self.refusals >= 0:
            return False
        self.written.append(change)
        return "revision" in where

    async def insert(self, document: Document) -> None:
        self.refusals -= 1
        if self.refusals >= 0:
            raise DuplicateDocumentError
        self.written.append(document)


STORED: Document = {"_id": "raw/a.png", "revision": 1, "status": "predicted"}


async def written(stored: Document | None, refusals: int = 0, **changes: Any) -> Document:
    """Return what is written for a change of a document."""
    collection = OneDocument(stored and STORED | stored, refusals)
    documents = cast("Collection", collection)
    images = ImageRepository(documents, Tombstones(documents, timedelta(0), Forgotten(documents)))
    seen = []

    def decide(document: ImageDocument) -> Decision[str]:
        seen.append(document)
        given = ImageDocument.model_validate({"_id": document.id, **changes})
        return Decision("done", document.having(**{each: getattr(given, each) for each in changes}))

    assert await images.change("raw/a.png", decide) == "done"
    assert len(seen) == refusals + 1
    [change] = collection.written
    return change


async def test_list_that_grew_is_not_written_as_a_whole() -> None:
    sources = [{"url": f"http://a.test/{number}"} for number in range(1000)]
    history = [{"text": "same"}]

    change = await written(
        {"sources": sources[:-1], "annotation_history": history},
        sources=sources,
        sources_count=1000,
        annotation_history=history,
    )

    assert change == {
        "$inc": {"revision": 1},
        "$set": {"sources_count": 1000},
        "$push": {"sources": {"$each": (sources[-1],)}},
    }


async def test_list_that_changed_otherwise_is_set() -> None:
    texts = [{"text": f"{number}"} for number in range(3)]

    change = await written({"history": texts, "sources": None}, history=texts[1:2], sources=[])

    assert change == {"$inc": {"revision": 1}, "$set": {"history": (texts[1],)}}


@pytest.mark.parametrize("stored", [None, {"size": 1}])
async def test_writer_who_lost_a_race_decides_again(stored: Document | None) -> None:
    change = await written(stored, refusals=2, status="predicted", size=3)

    assert change.get("$set", change)["size"] == 3


async def test_fields_of_another_version_are_kept() -> None:
    given = {"text": "a", "by": "ada", "reviewed_by": "bob"}
    kept = Annotation.model_validate(given)

    change = await written({"annotation": given}, annotation=None, annotation_history=[given])

    assert (kept.to_mongo(), change["$set"]["annotation_history"]) == (given, (given,))


def test_field_that_does_not_exist_is_not_set() -> None:
    with pytest.raises(TypeError, match="Annotation has no quallity"):
        Annotation(text="a").having(quallity="ok")
