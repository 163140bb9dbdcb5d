"""MongoDB adapter, the only user of the driver.

Motor is at its end of life (docs/decisions/0004-motor-in-one-file.md): all other code uses
``Database`` and ``Collection``, so that a new driver changes one file.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne, WriteConcern
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from services.common.adapters import collections
from services.common.domain.errors import (
    DatabaseUnavailableError,
    DocumentRefusedError,
    DuplicateDocumentError,
)
from services.common.runtime.settings import MongoSettings

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]

USERS_DATABASE = "admin"
"""MongoDB's default database of users."""


class Collection:
    """One collection; every method raises DatabaseUnavailableError if MongoDB fails."""

    def __init__(self, collection: AsyncIOMotorCollection[Document]) -> None:
        self._collection = collection

    async def find_one(self, where: Filter) -> Document | None:
        """Return one matching document, or None."""
        with _translate_errors():
            return await self._collection.find_one(where)

    async def find(
        self,
        where: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Mapping[str, int] | None = None,
        within: Filter | None = None,
    ) -> AsyncIterator[Document]:
        """Yield matching documents, read in batches (``limit`` 0: no limit).

        Args:
            where: Filter.
            sort: Order.
            limit: Most documents.
            fields: Projection; None: all.
            within: Filter by whose index the documents are found, beside ``where``.
        """
        with _translate_errors():
            async for document in self._cursor(where, within, sort, limit, fields):
                yield document

    def _cursor(
        self,
        where: Filter,
        within: Filter | None,
        sort: Sort,
        limit: int,
        fields: Mapping[str, int] | None,
    ) -> AsyncIterable[Document]:
        if within is None:
            cursor = self._collection.find(where, projection=fields, limit=limit)
            return cursor.sort(list(sort)) if sort else cursor
        stages: list[Document] = [{"$match": within}, {"$match": where}]
        stages += [{"$sort": dict(sort)}] if sort else []
        stages += [{"$limit": limit}] if limit else []
        stages += [{"$project": fields}] if fields else []
        return self._collection.aggregate(stages)

    async def count(self, where: Filter, *, most: int | None = None) -> int:
        """Count matching documents, up to ``most``."""
        limit: dict[str, Any] = {} if most is None else {"limit": most}
        with _translate_errors():
            return await self._collection.count_documents(where, **limit)

    async def size(self) -> int:
        """Return the estimated number of documents."""
        with _translate_errors():
            return await self._collection.estimated_document_count()

    async def insert(self, document: Document) -> None:
        """Insert a document.

        Raises:
            DuplicateDocumentError: It exists already.
        """
        with _translate_errors():
            await self._collection.insert_one(document)

    async def insert_missing(self, documents: Sequence[Document]) -> set[int]:
        """Insert documents with a new ``_id``; return the positions of the others.

        Raises:
            DocumentRefusedError: Some were rejected; the others may be written.
        """
        if not documents:
            return set()
        with _translate_errors():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                problems = error.details.get("writeErrors", [])
                if any(problem.get("code") != _DUPLICATE_KEY for problem in problems):
                    raise
                return {problem["index"] for problem in problems}
        return set()

    async def update_one(self, where: Filter, change: Document, *, upsert: bool = False) -> bool:
        """Update one matching document; return whether one matched or was inserted.

        Raises:
            DuplicateDocumentError: The upsert met a document that ``where`` excludes.
        """
        with _translate_errors():
            result = await self._collection.update_one(where, change, upsert=upsert)
            return result.matched_count > 0 or result.upserted_id is not None

    async def update_each(self, changes: Sequence[tuple[Filter, Document]]) -> int:
        """Update one document per filter, unordered; return how many matched.

        Raises:
            DocumentRefusedError: Some were rejected; the others may be written.
        """
        if not changes:
            return 0
        updates = [UpdateOne(where, change) for where, change in changes]
        with _translate_errors():
            result = await self._collection.bulk_write(updates, ordered=False)
            return result.matched_count

    async def update_many(self, where: Filter, change: Document) -> int:
        """Update all matching documents; return how many were changed."""
        with _translate_errors():
            result = await self._collection.update_many(where, change)
            return int(result.modified_count)

    async def delete_many(self, where: Filter) -> int:
        """Delete all matching documents; return how many."""
        with _translate_errors():
            return (await self._collection.delete_many(where)).deleted_count

    async def find_and_update(
        self, where: Filter, change: Document, *, sort: Sort = ()
    ) -> Document | None:
        """Update one matching document and return its new state, or None."""
        with _translate_errors():
            return await self._collection.find_one_and_update(
                where, change, sort=list(sort) or None, return_document=ReturnDocument.AFTER
            )

    async def aggregate(self, stages: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Run an aggregation and return its (small) result."""
        with _translate_errors():
            return await self._collection.aggregate(list(stages)).to_list(None)


class Database:
    """The project's database."""

    def __init__(self, database: AsyncIOMotorDatabase[Document]) -> None:
        options: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
        self._database = database.with_options(
            codec_options=options, write_concern=WriteConcern(w="majority", j=True)
        )
        self.images = Collection(self._database[collections.IMAGES])
        self.pages = Collection(self._database[collections.PAGES])
        self.batches = Collection(self._database[collections.BATCHES])
        self.fetches = Collection(self._database[collections.FETCHES])
        self.lists = Collection(self._database[collections.LISTS])
        self.hosts = Collection(self._database[collections.HOSTS])
        self.review_leases = Collection(self._database[collections.REVIEW_LEASES])
        self.label_studio = Collection(self._database[collections.LABEL_STUDIO])
        self.forgotten = Collection(self._database[collections.FORGOTTEN])
        self.tombstones = Collection(self._database[collections.TOMBSTONES])

    @property
    def name(self) -> str:
        """The database's name."""
        return self._database.name

    async def create_or_update(self, create: Document, update: Document) -> None:
        """Create a user or role by command, or update an existing one."""
        users = self._database.client[USERS_DATABASE]
        with _translate_errors():
            try:
                await users.command(create)
            except OperationFailure as error:
                if error.code not in _EXISTS:
                    raise
                await users.command(update)

    async def check(self) -> None:
        """Raise DatabaseUnavailableError unless the server answers."""
        with _translate_errors():
            await self._database.command("ping")

    async def create_indexes(self) -> list[str]:
        """Create missing indexes; return the names of all."""
        names: list[str] = []
        with _translate_errors():
            for collection, indexes in collections.INDEXES.items():
                models = [_to_model(each) for each in indexes]
                created = await self._database[collection].create_indexes(models)
                names.extend(f"{collection}.{name}" for name in created)
        return names

    async def require_schema(self, collection: str, schema: Document) -> None:
        """Set a JSON schema as the validator of a collection.

        Existing invalid documents may still be updated.
        """
        command = {"collMod": collection, "validator": {"$jsonSchema": schema}}
        with _translate_errors():
            await self._database.command({**command, "validationLevel": "moderate"})


@asynccontextmanager
async def open_database(
    settings: MongoSettings, *, answer_seconds: float | None = None
) -> AsyncIterator[Database]:
    """Open a client for an ``async with`` block; it connects lazily.

    It waits for an answer for ``answer_seconds``, by default four times the timeout.
    """
    timeout_ms = int(settings.timeout_seconds * 1000)
    login: dict[str, Any] = {}
    if settings.user is not None and settings.password is not None:
        password = settings.password.get_secret_value()
        login = {"username": settings.user, "password": password, "authSource": USERS_DATABASE}
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        str(settings.url),
        serverSelectionTimeoutMS=timeout_ms,
        connectTimeoutMS=timeout_ms,
        socketTimeoutMS=timeout_ms * 4 if answer_seconds is None else int(answer_seconds * 1000),
        appname="docreco",
        **login,
    )
    try:
        yield Database(client[settings.database])
    finally:
        client.close()


def _to_model(index: collections.Index) -> IndexModel:
    keys = [
        (each.removeprefix("-"), DESCENDING if each.startswith("-") else ASCENDING)
        for each in index.fields
    ]
    given = {name: True for name in ("unique", "sparse") if getattr(index, name)}
    return IndexModel(keys, **given, **({"expireAfterSeconds": 0} if index.expires else {}))


_DUPLICATE_KEY = 11000
_EXISTS = frozenset({51002, 51003})
"""MongoDB's codes for an existing role or user."""
_REFUSALS = frozenset({121, 10334, 17280, 17419})
"""MongoDB's codes for a document that is invalid or too large (document, key, or update)."""


def _is_refused_in_part(error: PyMongoError) -> bool:
    """Whether all errors of a bulk write are rejected documents."""
    if not isinstance(error, BulkWriteError) or error.details.get("writeConcernErrors"):
        return False
    problems = error.details.get("writeErrors", [])
    return bool(problems) and all(problem.get("code") in _REFUSALS for problem in problems)


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateDocumentError("document exists already") from error
    except (BSONError, OverflowError, UnicodeError) as error:
        # raised by the client: a value that BSON can't encode
        raise DocumentRefusedError(f"{type(error).__name__}: {error}"[:500]) from error
    except PyMongoError as error:
        if (
            isinstance(error, DocumentTooLarge)
            or (isinstance(error, WriteError) and error.code in _REFUSALS)
            or _is_refused_in_part(error)
        ):
            raise DocumentRefusedError(f"{type(error).__name__}: {error}"[:500]) from error
        raise DatabaseUnavailableError(f"{type(error).__name__}: {error}"[:500]) from error
