"""The ``images`` collection, as its only writer sees it."""

from collections.abc import Callable

from services.common.index import Collection, Document, DuplicateDocumentError
from services.consumer.documents import Decision

Decide = Callable[[Document | None], Decision]
"""From the document as it is (None: there is none) to what is to be set."""


class Images:
    """Writes documents so that concurrent writers never undo each other's work."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def find(self, document_id: str) -> Document | None:
        """Return a document, or None."""
        return await self._collection.find_one({"_id": document_id})

    async def change(self, document_id: str, decide: Decide) -> str:
        """Carry out a decision about a document and return its code.

        Whoever writes in between makes ``decide`` decide again, about the new state.
        """
        while True:
            document = await self.find(document_id)
            code, fields = decide(document)
            if fields is None or await self._write(document_id, document, fields):
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
        return await self._collection.update_one(as_read, {"$set": fields, "$inc": {"revision": 1}})
