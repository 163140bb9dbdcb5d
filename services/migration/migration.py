"""Write today's form of documents that earlier versions wrote.

Every step is idempotent: a run that was interrupted is resumed by another one, which finds only
what is left. Writers that run meanwhile lose nothing: images are changed by compare-and-set, and
of other documents only missing fields are set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Database, Document, Filter
from services.common.adapters.repository import typed
from services.common.domain.batch import Batch
from services.common.domain.batch_item import BatchItem
from services.common.domain.errors import DocumentRefusedError, PermanentError
from services.common.domain.image import Decision, ImageDocument
from services.common.domain.records import Record
from services.migration.rules import (
    OUTDATED_BATCH,
    OUTDATED_FETCH,
    OUTDATED_IMAGE,
    Collections,
    batch_fields,
    fetch_fields,
    image_today,
)

SCAN_SECONDS = 3600.0
"""Longest wait for an answer: all documents of a collection are looked at, or indexed."""
PAGE = 500
WRITES_AT_ONCE = 20
MOST_INVALID = 20
"""Invalid documents that a report names; all are counted."""


@dataclass
class MigrationProgress:
    """Documents of one collection."""

    outdated: int = 0
    """Found at the beginning."""
    migrated: int = 0


@dataclass
class MigrationReport:
    """Result of a migration, by collection."""

    is_dry_run: bool
    collections: dict[str, MigrationProgress] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    """The first documents of no version's form, each with its problem; they are left alone."""
    invalid_count: int = 0

    def count_invalid(self, problem: str) -> None:
        """Count a document that can't be migrated."""
        self.invalid_count += 1
        if len(self.invalid) < MOST_INVALID:
            self.invalid.append(problem)


class Migration:
    """Migrates batches, then their items, then images.

    Every method raises DatabaseUnavailableError if MongoDB does not answer.
    """

    def __init__(
        self,
        database: Database,
        *,
        is_dry_run: bool = False,
        on_progress: Callable[[MigrationReport], object] = lambda _: None,
    ) -> None:
        self._database = database
        self._images = ImageRepository(database.images)
        self._on_progress = on_progress
        self.report = MigrationReport(is_dry_run)

    async def run(self) -> MigrationReport:
        """Migrate what is outdated; what is of no version's form is reported and left alone."""
        database = self._database
        await self._each("batches", database.batches, OUTDATED_BATCH, self._batches)
        await self._each("fetches", database.fetches, OUTDATED_FETCH, self._fetches)
        await self._each("images", database.images, OUTDATED_IMAGE, self._migrate_images)
        return self.report

    async def _each(
        self,
        name: str,
        collection: Collection,
        outdated: Filter,
        migrate: Callable[[Sequence[Document]], Awaitable[int]],
    ) -> None:
        """Migrate the outdated documents of a collection, some at a time, in one scan."""
        progress = self.report.collections[name] = MigrationProgress(
            await collection.count(outdated)
        )
        self._on_progress(self.report)
        if self.report.is_dry_run or not progress.outdated:
            return
        page: list[Document] = []
        async for document in collection.find(outdated):
            page.append(document)
            if len(page) >= PAGE:
                progress.migrated += await migrate(page)
                self._on_progress(self.report)
                page = []
        progress.migrated += await migrate(page)
        self._on_progress(self.report)

    async def _batches(self, page: Sequence[Document]) -> int:
        return await self._complete(self._database.batches, Batch, page, batch_fields)

    async def _fetches(self, page: Sequence[Document]) -> int:
        collections = await self._collections(page)
        missing = partial(fetch_fields, collections=collections)
        return await self._complete(self._database.fetches, BatchItem, page, missing)

    async def _complete(
        self,
        collection: Collection,
        kind: type[Record],
        page: Sequence[Document],
        missing: Callable[[Document], Document],
    ) -> int:
        """Set what documents lack; return how many are complete."""
        changes: list[tuple[Filter, Document]] = []
        for each in page:
            try:
                typed(kind, each)
                changes.append(({"_id": each["_id"]}, {"$set": missing(each)}))
            except PermanentError as error:
                self.report.count_invalid(str(error))
            except KeyError as error:
                self.report.count_invalid(f"{each['_id']}: {error} is missing")
        try:
            return await collection.update_each(changes)
        except DocumentRefusedError:
            return sum([await self._complete_one(collection, *each) for each in changes])

    async def _complete_one(self, collection: Collection, where: Filter, change: Document) -> int:
        try:
            return await collection.update_one(where, change)
        except DocumentRefusedError as error:
            self.report.count_invalid(f"{where['_id']}: {error}")
            return 0

    async def _migrate_images(self, page: Sequence[Document]) -> int:
        lists = [found for each in page if isinstance(found := each.get("sources"), list)]
        sources = [each for some in lists for each in some if isinstance(each, dict)]
        collections = await self._collections(sources)
        places = asyncio.Semaphore(WRITES_AT_ONCE)

        def decide(document: ImageDocument) -> Decision[int]:
            after = image_today(document, collections) if document.exists else document
            return Decision(1, after)

        async def migrate(document_id: str) -> int:
            async with places:
                try:
                    return await self._images.change(document_id, decide)
                except DocumentRefusedError as error:
                    self.report.count_invalid(f"{document_id}: {error}")
                except PermanentError as error:
                    self.report.count_invalid(str(error))
                return 0

        return sum(await asyncio.gather(*(migrate(each["_id"]) for each in page)))

    async def _collections(self, documents: Sequence[Document]) -> Collections:
        """Return the collections of the batches that documents or sources refer to."""
        ids = [each.get("batch_id") for each in documents]
        where = {"_id": {"$in": sorted({each for each in ids if isinstance(each, str)})}}
        found = self._database.batches.find(where, fields={"collection": 1})
        known = {each["_id"]: each.get("collection") async for each in found}
        return {name: value for name, value in known.items() if isinstance(value, str)}
