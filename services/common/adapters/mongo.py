"""MongoDB: the only file that knows the driver.

Motor is at its end of life (docs/decisions/0004-motor-in-one-file.md): everything else sees
``Database`` and ``Collection``, so that its successor replaces one file.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC
from typing import Any

from bson.codec_options import CodecOptions
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import (
    ASCENDING,
    DESCENDING,
    IndexModel,
    ReturnDocument,
    UpdateOne,
    WriteConcern,
)
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WriteError,
)

from services.common.domain.errors import IndexUnavailableError, PermanentError
from services.common.runtime.settings import MongoSettings

Document = dict[str, Any]
Filter = Mapping[str, Any]
Sort = Sequence[tuple[str, int]]

IMAGES = "images"
BATCHES = "batches"
FETCHES = "fetches"
LISTS = "lists"
HOSTS = "hosts"
REVIEW_LEASES = "review_leases"
LABEL_STUDIO = "label_studio"
TOMBSTONES = "tombstones"
FORGOTTEN = "forgotten"

USERS_DATABASE = "admin"
"""Where MongoDB keeps users unless told otherwise."""

INDEXES: Mapping[str, Sequence[IndexModel]] = {
    IMAGES: (
        IndexModel(
            [
                ("status", ASCENDING),
                ("annotation.quality", ASCENDING),
                ("prediction.score", ASCENDING),
                ("_id", ASCENDING),
            ]
        ),
        IndexModel([("sources.url", ASCENDING)]),
        IndexModel(
            [("sources.batch_id", ASCENDING), ("prediction.score", ASCENDING), ("_id", ASCENDING)]
        ),
        IndexModel([("sources.name", ASCENDING)]),
        IndexModel([("sources.collection", ASCENDING), ("_id", ASCENDING)]),
        # `_id` last: pages go on behind a document (keyset.py)
        IndexModel([("indexed_at", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("prediction.score", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("sha256", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("disagreement", DESCENDING)], sparse=True),
        IndexModel([("placeholder", ASCENDING)], sparse=True),
    ),
    BATCHES: (
        IndexModel([("created_at", DESCENDING)]),
        IndexModel([("idempotency_key", ASCENDING)], unique=True, sparse=True),
    ),
    FETCHES: (
        IndexModel([("batch_id", ASCENDING), ("outcome", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("url", ASCENDING), ("finished_at", DESCENDING)]),
        IndexModel([("page", ASCENDING), ("outcome", ASCENDING)]),
        IndexModel([("sha256", ASCENDING)], sparse=True),
        IndexModel([("key", ASCENDING), ("finished_at", ASCENDING)]),
    ),
    LISTS: (IndexModel([("batch_id", ASCENDING), ("last_line", ASCENDING)]),),
    HOSTS: (IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),),
    REVIEW_LEASES: (
        IndexModel([("until", ASCENDING)]),
        IndexModel([("skipped", ASCENDING)]),
        IndexModel([("done_by", ASCENDING), ("done_at", DESCENDING)]),
        IndexModel([("answering_by", ASCENDING), ("answering_at", DESCENDING)], sparse=True),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    ),
    TOMBSTONES: (
        IndexModel([("document", ASCENDING)]),
        IndexModel([("sha256", ASCENDING)]),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    ),
}


class DuplicateDocumentError(PermanentError):
    """A document with this ``_id``, or this value of a unique index, is there already."""

    code = "duplicate_document"


class DocumentRefusedError(PermanentError):
    """MongoDB answers, and will never take this document: too large, or not valid."""

    code = "document_refused"


class Collection:
    """One collection; every method raises IndexUnavailableError where MongoDB fails."""

    def __init__(self, collection: AsyncIOMotorCollection[Document]) -> None:
        self._collection = collection

    async def find_one(self, where: Filter) -> Document | None:
        """Return one matching document, or None."""
        with _errors():
            return await self._collection.find_one(where)

    async def find(
        self,
        where: Filter,
        *,
        sort: Sort = (),
        limit: int = 0,
        fields: Mapping[str, int] | None = None,
    ) -> AsyncIterator[Document]:
        """Yield matching documents, read from the server in batches (``limit`` 0: all)."""
        with _errors():
            cursor = self._collection.find(where, projection=fields, limit=limit)
            if sort:
                cursor = cursor.sort(list(sort))
            async for document in cursor:
                yield document

    async def count(self, where: Filter, *, most: int | None = None) -> int:
        """Return how many documents match, counting no further than ``most``."""
        limit: dict[str, Any] = {} if most is None else {"limit": most}
        with _errors():
            return await self._collection.count_documents(where, **limit)

    async def size(self) -> int:
        """Return about how many documents there are, without counting them."""
        with _errors():
            return await self._collection.estimated_document_count()

    async def insert(self, document: Document) -> None:
        """Insert a document.

        Raises:
            DuplicateDocumentError: It is there already.
        """
        with _errors():
            await self._collection.insert_one(document)

    async def insert_missing(self, documents: Sequence[Document]) -> set[int]:
        """Insert those documents whose ``_id`` is not there yet; return positions of the others.

        Raises:
            DocumentRefusedError: Of some of them; the others may be written.
        """
        if not documents:
            return set()
        with _errors():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                problems = error.details.get("writeErrors", [])
                if any(problem.get("code") != _DUPLICATE_KEY for problem in problems):
                    raise
                return {problem["index"] for problem in problems}
        return set()

    async def update_one(self, where: Filter, change: Document, *, upsert: bool = False) -> bool:
        """Change one matching document; return whether one matched or was inserted.

        Raises:
            DuplicateDocumentError: The upsert met a document that ``where`` excludes.
        """
        with _errors():
            result = await self._collection.update_one(where, change, upsert=upsert)
            return result.matched_count > 0 or result.upserted_id is not None

    async def update_each(self, changes: Sequence[tuple[Filter, Document]]) -> int:
        """Change one matching document for each filter, in any order; return how many matched.

        Raises:
            DocumentRefusedError: Of some of them; the others may be written.
        """
        if not changes:
            return 0
        updates = [UpdateOne(where, change) for where, change in changes]
        with _errors():
            result = await self._collection.bulk_write(updates, ordered=False)
            return result.matched_count

    async def update_many(self, where: Filter, change: Document) -> int:
        """Change all matching documents; return how many were changed."""
        with _errors():
            result = await self._collection.update_many(where, change)
            return int(result.modified_count)

    async def delete_many(self, where: Filter) -> int:
        """Delete all matching documents; return how many."""
        with _errors():
            result = await self._collection.delete_many(where)
            return result.deleted_count

    async def find_and_update(
        self, where: Filter, change: Document, *, sort: Sort = ()
    ) -> Document | None:
        """Change one matching document and return it as it is then, or None."""
        with _errors():
            return await self._collection.find_one_and_update(
                where, change, sort=list(sort) or None, return_document=ReturnDocument.AFTER
            )

    async def aggregate(self, stages: Sequence[Mapping[str, Any]]) -> list[Document]:
        """Run an aggregation and return all it gives: for small results only."""
        with _errors():
            return await self._collection.aggregate(list(stages)).to_list(None)


class Database:
    """The project's database."""

    def __init__(self, database: AsyncIOMotorDatabase[Document]) -> None:
        options: CodecOptions[Document] = CodecOptions(tz_aware=True, tzinfo=UTC)
        self._database = database.with_options(
            codec_options=options, write_concern=WriteConcern(w="majority", j=True)
        )
        self.images = Collection(self._database[IMAGES])
        self.batches = Collection(self._database[BATCHES])
        self.fetches = Collection(self._database[FETCHES])
        self.lists = Collection(self._database[LISTS])
        self.hosts = Collection(self._database[HOSTS])
        self.review_leases = Collection(self._database[REVIEW_LEASES])
        self.label_studio = Collection(self._database[LABEL_STUDIO])
        self.forgotten = Collection(self._database[FORGOTTEN])
        self.tombstones = Collection(self._database[TOMBSTONES])

    @property
    def name(self) -> str:
        """The database's name."""
        return self._database.name

    async def create_or_update(self, create: Document, update: Document) -> None:
        """Run an administrator's command that makes a user or role, or the one that changes it."""
        users = self._database.client[USERS_DATABASE]
        with _errors():
            try:
                await users.command(create)
            except OperationFailure as error:
                if error.code not in _EXISTS:
                    raise
                await users.command(update)

    async def check(self) -> None:
        """Raise IndexUnavailableError unless the server answers."""
        with _errors():
            await self._database.command("ping")

    async def create_indexes(self) -> list[str]:
        """Create the indexes that are missing; return the names of all."""
        names: list[str] = []
        with _errors():
            for collection, models in INDEXES.items():
                created = await self._database[collection].create_indexes(list(models))
                names.extend(f"{collection}.{name}" for name in created)
        return names

    async def require_schema(self, collection: str, schema: Document) -> None:
        """Have MongoDB refuse documents of a collection that do not meet a JSON schema.

        One that did not meet it before may still be changed.
        """
        command = {"collMod": collection, "validator": {"$jsonSchema": schema}}
        with _errors():
            await self._database.command({**command, "validationLevel": "moderate"})


@asynccontextmanager
async def open_index(settings: MongoSettings) -> AsyncIterator[Database]:
    """Open a client for the length of an ``async with`` block; nothing is sent yet."""
    timeout_ms = int(settings.timeout_seconds * 1000)
    login: dict[str, Any] = {}
    if settings.user is not None and settings.password is not None:
        password = settings.password.get_secret_value()
        login = {"username": settings.user, "password": password, "authSource": USERS_DATABASE}
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        str(settings.url),
        serverSelectionTimeoutMS=timeout_ms,
        connectTimeoutMS=timeout_ms,
        socketTimeoutMS=timeout_ms * 4,
        appname="docreco",
        **login,
    )
    try:
        yield Database(client[settings.database])
    finally:
        client.close()


_DUPLICATE_KEY = 11000
_EXISTS = frozenset({51002, 51003})
"""MongoDB's codes for a role, or a user, that is there already."""
_REFUSALS = frozenset({121, 10334, 17280, 17419})
"""MongoDB's codes for a document that is not valid, or too large (whole, key, or as changed)."""


def _is_refused_in_part(error: PyMongoError) -> bool:
    """Whether all that went wrong with a bulk of writes is that documents are refused."""
    if not isinstance(error, BulkWriteError) or error.details.get("writeConcernErrors"):
        return False
    problems = error.details.get("writeErrors", [])
    return bool(problems) and all(problem.get("code") in _REFUSALS for problem in problems)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateDocumentError("a document with this identity exists") from error
    except (BSONError, OverflowError, UnicodeError) as error:
        # no server was asked: a value that BSON has no form for
        raise DocumentRefusedError(f"{type(error).__name__}: {error}"[:500]) from error
    except PyMongoError as error:
        if (
            isinstance(error, DocumentTooLarge)
            or (isinstance(error, WriteError) and error.code in _REFUSALS)
            or _is_refused_in_part(error)
        ):
            raise DocumentRefusedError(f"{type(error).__name__}: {error}"[:500]) from error
        raise IndexUnavailableError(f"{type(error).__name__}: {error}"[:500]) from error
