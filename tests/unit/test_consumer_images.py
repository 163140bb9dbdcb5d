"""How decisions about a document are written."""

from datetime import timedelta
from typing import Any, cast

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.tombstones import Tombstones
from services.consumer.documents import Decision
from services.consumer.images import Images


class OneDocument:
    """A collection of one document, which notes what is written."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.written: list[Document] = []

    async def find_one(self, _: Document) -> Document:
        return self.document

    async def update_one(self, _: Document, change: Document) -> bool:
        self.written.append(change)
        return True


async def written(document: Document, fields: dict[str, Any]) -> Document:
    collection = OneDocument({"_id": "raw/a.png", "revision": 1, **document})
    documents = cast("Collection", collection)
    images = Images(documents, Tombstones(documents, timedelta(0)))
    await images.change("raw/a.png", lambda _: Decision("duplicate", fields))
    [change] = collection.written
    return change


async def test_list_that_grew_is_not_written_as_a_whole() -> None:
    sources = [{"url": f"http://a.test/{number}"} for number in range(1000)]

    change = await written(
        {"sources": sources[:-1], "annotation_history": ["same"]},
        {"sources": sources, "sources_count": 1000, "annotation_history": ["same"]},
    )

    assert change == {
        "$inc": {"revision": 1},
        "$set": {"sources_count": 1000},
        "$push": {"sources": {"$each": sources[-1:]}},
    }


async def test_list_that_changed_otherwise_is_set() -> None:
    change = await written({"history": [1, 2, 3], "sources": None}, {"history": [2], "sources": []})

    assert change == {"$inc": {"revision": 1}, "$set": {"history": [2], "sources": []}}
