"""Repositories of typed documents, and the only compare-and-set on them.

Several services and commands write ``images``, each only if the document's ``revision`` is
unchanged since it was read; otherwise they read and decide again.
The provisioner sets the types' schemas as validators; ``docs/schemas`` has copies for readers.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from services.common.adapters.collections import BATCHES, FETCHES, IMAGES, PAGES
from services.common.adapters.mongo import Collection, Document, Sort
from services.common.domain.batch import Batch
from services.common.domain.batch_item import BatchItem
from services.common.domain.errors import DuplicateDocumentError, PermanentError
from services.common.domain.image import ImageDocument
from services.common.domain.page_document import PageDocument
from services.common.domain.records import Record, StoredRecord, first_problem

T = TypeVar("T", bound=Record)

TYPES: Mapping[str, type[Record]] = {
    IMAGES: ImageDocument,
    PAGES: PageDocument,
    BATCHES: Batch,
    FETCHES: BatchItem,
}
"""Types by collection."""

_KEPT = ("description", "required", "enum", "minimum", "maximum")
"""Keywords of JSON Schema that MongoDB supports."""
_TYPES = {"integer": ["int", "long"], "number": ["double", "int", "long"], "boolean": "bool"}

C = TypeVar("C")
D = TypeVar("D", bound=StoredRecord)
F = TypeVar("F")


class InvalidDocumentError(PermanentError):
    """A document does not match its type."""

    code = "invalid_document"


def typed(kind: type[T], found: Document) -> T:
    """Parse a document of MongoDB.

    Raises:
        InvalidDocumentError: It does not match the type.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise InvalidDocumentError(f"{found['_id']}: {first_problem(error)}") from error


def schema_of(collection: str) -> Document:
    """Return the schema of a collection's documents for ``$jsonSchema``."""
    schema = TYPES[collection].model_json_schema(by_alias=True)
    return _to_bson(schema, schema.get("$defs", {}))


def _to_bson(node: Document, definitions: Document) -> Document:
    """Translate a schema: MongoDB has its own types, and neither references nor formats."""
    if (reference := node.get("$ref")) is not None:
        node = {**definitions[reference.rpartition("/")[2]], **node}
    made: Document = {}
    for each in node.get("anyOf", []):  # a type, or null
        part = _to_bson(each, definitions)
        made |= {**part, "bsonType": [*_types(made), *_types(part)]}
    if "enum" in made and "null" in _types(made):
        made["enum"] = [*made["enum"], None]
    made |= {name: node[name] for name in _KEPT if name in node}
    if (kind := node.get("type")) is not None:
        made["bsonType"] = "date" if node.get("format") == "date-time" else _TYPES.get(kind, kind)
    if "properties" in node:
        fields: dict[str, Any] = node["properties"]
        made["properties"] = {name: _to_bson(each, definitions) for name, each in fields.items()}
    if "items" in node:
        made["items"] = _to_bson(node["items"], definitions)
    return made


def _types(node: Document) -> list[str]:
    types = node.get("bsonType", [])
    return [types] if isinstance(types, str) else types


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
