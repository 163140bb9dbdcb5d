"""The ``images`` collection, as its only writer sees it."""

from collections.abc import Callable

from services.common.adapters.mongo import Collection, Document, DuplicateDocumentError
from services.common.adapters.tombstones import Tombstones
from services.consumer.documents import Code, Decision, ends_bytes

Decide = Callable[[Document | None], Decision]
"""From the document as it is (None: there is none) to what is to be set."""


class Images:
    """Writes documents so that concurrent writers never undo each other's work.

    Args:
        collection: The documents.
        tombstones: Where annotations are kept whose bytes are gone.
    """

    def __init__(self, collection: Collection, tombstones: Tombstones) -> None:
        self._collection = collection
        self._tombstones = tombstones

    async def find(self, document_id: str) -> Document | None:
        """Return a document, or None."""
        return await self._collection.find_one({"_id": document_id})

    async def kept(self, document_id: str, sha256: str | None) -> Document | None:
        """Return what is kept of the annotations of these bytes, or None."""
        return await self._tombstones.find(document_id, sha256)

    async def change(self, document_id: str, decide: Decide, *, is_inferred: bool = False) -> Code:
        """Carry out a decision about a document and return its code.

        Whoever writes in between makes ``decide`` decide again, about the new state. Annotations
        that the decision takes away with their bytes are kept aside first.

        Args:
            document_id: ``bucket/key``.
            decide: Makes the decision.
            is_inferred: Whether it follows from a comparison and not from an event.
        """
        while True:
            document = await self.find(document_id)
            code, fields = decide(document)
            if fields is None:
                return code
            if document is not None and ends_bytes(document, fields):
                await self._tombstones.keep(document, is_inferred=is_inferred)
            if await self._write(document_id, document, fields):
                return code

    async def _write(self, document_id: str, document: Document | None, fields: Document) -> bool:
        """Write unless somebody else has written since ``document`` was read."""
        if document is None:
            try:
                await self._collection.insert({"_id": document_id, "revision": 1, **fields})
            except DuplicateDocumentError:
                return False
            return True
        as_read = {"_id": document_id, "revision": document.get("revision")}
        return await self._collection.update_one(as_read, _update(document, fields))


def _update(document: Document, fields: Document) -> Document:
    """Return the update that sets fields; of a list that only grew, what it grew by.

    An image may have a thousand sources, and each further one is an event.
    """
    kept, grown = {}, {}
    for name, value in fields.items():
        before = document.get(name)
        if (
            not isinstance(value, list)
            or not isinstance(before, list)
            or before != value[: len(before)]
        ):
            kept[name] = value
        elif len(value) > len(before):
            grown[name] = {"$each": value[len(before) :]}
    update: Document = {"$inc": {"revision": 1}}
    return update | ({"$set": kept} if kept else {}) | ({"$push": grown} if grown else {})
