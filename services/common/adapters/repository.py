"""Repositories of typed documents, and the only compare-and-set on them.

Several services and commands write ``images``, each only if the document's ``revision`` is
unchanged since it was read; otherwise they read and decide again.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from services.common.adapters.documents import typed
from services.common.adapters.mongo import (
    Collection,
    Document,
    DuplicateDocumentError,
    Sort,
)
from services.common.domain.records import StoredRecord

C = TypeVar("C")
D = TypeVar("D", bound=StoredRecord)
F = TypeVar("F")


class Repository(Generic[D, F]):
    """Reads and changes the documents of a collection.

    Every method raises DatabaseUnavailableError if MongoDB does not answer, and
    InvalidDocumentError if a document does not match the type.
    """

    def __init__(
        self, collection: Collection, kind: type[D], to_query: Callable[[F], Document]
    ) -> None:
        self._collection = collection
        self._to_query = to_query
        self._kind = kind

    async def get(self, document_id: str) -> D | None:
        """Return a document, or None."""
        found = await self._collection.find_one({"_id": document_id})
        return None if found is None else typed(self._kind, found)

    async def load(self, document_id: str) -> D:
        """Return a document, or an empty one if it does not exist."""
        return await self.get(document_id) or self._kind.absent(document_id)

    async def find(
        self,
        where: F,
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Mapping[str, int] | None = None,
    ) -> AsyncIterator[D]:
        """Yield matching documents, with all or some of their fields (``limit`` 0: no limit)."""
        query = self._to_query(where)
        async for found in self._collection.find(query, sort=sort, limit=limit, fields=fields):
            yield typed(self._kind, found)

    async def find_range(
        self,
        where: F,
        between: Document,
        *,
        sort: Sort,
        limit: int,
        fields: Mapping[str, int] | None,
    ) -> AsyncIterator[D]:
        """Yield matching documents within a range, whose first field is that of their order."""
        within, rest = self._narrowed(self._to_query(where), between)
        found = self._collection.find(rest, sort=sort, limit=limit, fields=fields, within=within)
        async for each in found:
            yield typed(self._kind, each)

    async def scan(
        self,
        where: F | None,
        *,
        page: int,
        fields: Mapping[str, int],
        after: str = "",
        upto: str = "",
    ) -> AsyncIterator[list[D]]:
        """Yield matching documents by ``_id``, in pages, as idle cursors expire.

        Args:
            where: Filter; None: all.
            page: Documents per page.
            fields: Projection.
            after: Only those behind this ``_id``.
            upto: The last ``_id``; empty: there is no limit.
        """
        last, query = after, {} if where is None else self._to_query(where)
        end = {"$lte": upto} if upto else {}
        while True:
            query["_id"] = {"$gt": last, **end}
            found = self._collection.find(query, sort=[("_id", 1)], limit=page, fields=fields)
            documents = [typed(self._kind, each) async for each in found]
            if not documents:
                return
            yield documents
            last = documents[-1].id

    async def count(self, where: F, *, most: int | None = None) -> int:
        """Count matching documents, up to ``most``."""
        return await self._collection.count(self._to_query(where), most=most)

    async def change(
        self,
        document_id: str,
        decide: Callable[[D], tuple[C, D]],
        *,
        is_inferred: bool = False,
    ) -> C:
        """Apply a decision to a document by compare-and-set; return its code.

        Args:
            document_id: ``bucket/key``.
            decide: Makes the decision; called again after a conflict.
            is_inferred: Whether it follows from a comparison, not from an event.
        """
        while True:
            before = await self.load(document_id)
            code, after = decide(before)
            if await self.save(before, after, is_inferred=is_inferred):
                return code

    async def save(self, before: D, after: D, *, is_inferred: bool = False) -> bool:
        """Write the difference of two states of a document by compare-and-set.

        Args:
            before: As read.
            after: New state; nothing is written if equal.
            is_inferred: Whether it follows from a comparison, not from an event.

        Returns:
            Whether it was written; False: the document has changed since it was read.
        """
        changed = {
            name
            for name in after.model_fields_set
            if name not in before.model_fields_set or getattr(after, name) != getattr(before, name)
        }
        if not changed:
            return True
        await self._before_write(before, after, is_inferred=is_inferred)
        return await self._write(before, after, changed)

    def _narrowed(self, query: Document, between: Document) -> tuple[Document, Document]:
        """Split a range query into an indexed stage and the rest."""
        return between, query

    async def _before_write(self, before: D, after: D, *, is_inferred: bool) -> None:
        """Prepare a change; a hook for subclasses."""

    async def _write(self, before: D, after: D, changed: set[str]) -> bool:
        if before.exists:
            as_read = {"_id": before.id, "revision": before.revision}
            return await self._collection.update_one(as_read, _update(before, after, changed))
        with suppress(DuplicateDocumentError):
            await self._collection.insert({**after.to_mongo(), "revision": 1})
            return True
        return False


def _update(before: StoredRecord, after: StoredRecord, changed: set[str]) -> Document:
    """Return the update that sets fields, with ``$push`` for a list that only grew.

    An image may have a thousand sources, each added by an event.
    """
    fields, grown = after.to_mongo(only=changed), {}
    for name in changed:
        known, value = getattr(before, name), getattr(after, name)
        if isinstance(known, tuple) and known and value[: len(known)] == known:
            grown[name] = {"$each": fields.pop(name)[len(known) :]}
    update: Document = {"$inc": {"revision": 1}}
    return update | ({"$set": fields} if fields else {}) | ({"$push": grown} if grown else {})
