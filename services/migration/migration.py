"""Write today's form of documents that earlier versions wrote.

Every step is idempotent: a run that was interrupted is resumed by another one, which finds only
what is left. Writers that run meanwhile lose nothing: images are changed by compare-and-set, and
of other documents only missing fields are set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from services.common.adapters.documents import InvalidDocumentError
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Database, Document, Filter
from services.common.domain.image import Decision, ImageDocument
from services.migration.rules import (
    OUTDATED_BATCH,
    OUTDATED_FETCH,
    OUTDATED_IMAGE,
    Collections,
    batch_fields,
    fetch_fields,
    image_today,
)

PAGE = 500
WRITES_AT_ONCE = 20


@dataclass
class Progress:
    """Documents of one collection."""

    outdated: int = 0
    """Found at the beginning."""
    migrated: int = 0


@dataclass
class Report:
    """Result of a migration, by collection."""

    is_dry_run: bool
    collections: dict[str, Progress] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    """Documents of no version's form, each with its problem; they are left alone."""


class Migration:
    """Migrates batches, then their items, then images; every method raises IndexUnavailableError.

    Args:
        index: The database.
        is_dry_run: Whether to count only.
        on_progress: Called after each page.
    """

    def __init__(
        self,
        index: Database,
        *,
        is_dry_run: bool = False,
        on_progress: Callable[[Report], object] = lambda _: None,
    ) -> None:
        self._index = index
        self._images = ImageRepository(index.images)
        self._on_progress = on_progress
        self.report = Report(is_dry_run)

    async def run(self) -> Report:
        """Migrate what is outdated; what is of no version's form is reported and left alone."""
        index = self._index
        await self._each("batches", index.batches, OUTDATED_BATCH, self._batches)
        await self._each("fetches", index.fetches, OUTDATED_FETCH, self._fetches)
        await self._each("images", index.images, OUTDATED_IMAGE, self._migrate_images)
        return self.report

    async def _each(
        self,
        name: str,
        collection: Collection,
        outdated: Filter,
        migrate: Callable[[Sequence[Document]], Awaitable[int]],
    ) -> None:
        """Migrate the outdated documents of a collection, some at a time, in one scan."""
        progress = self.report.collections[name] = Progress(await collection.count(outdated))
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
        changes = [({"_id": each["_id"]}, {"$set": batch_fields(each)}) for each in page]
        return await self._index.batches.update_each(changes)

    async def _fetches(self, page: Sequence[Document]) -> int:
        collections = await self._collections({each["batch_id"] for each in page})
        changes = [
            ({"_id": each["_id"]}, {"$set": fetch_fields(each, collections)}) for each in page
        ]
        return await self._index.fetches.update_each(changes)

    async def _migrate_images(self, page: Sequence[Document]) -> int:
        lists = [found for each in page if isinstance(found := each.get("sources"), list)]
        sources = [each for some in lists for each in some if isinstance(each, dict)]
        batch_ids = {each["batch_id"] for each in sources if each.get("batch_id")}
        collections = await self._collections(batch_ids)
        places = asyncio.Semaphore(WRITES_AT_ONCE)

        def decide(document: ImageDocument) -> Decision[int]:
            after = image_today(document, collections) if document.exists else document
            return Decision(1, after)

        async def migrate(document_id: str) -> int:
            async with places:
                try:
                    return await self._images.change(document_id, decide)
                except InvalidDocumentError as error:
                    self.report.invalid.append(str(error))
                    return 0

        return sum(await asyncio.gather(*(migrate(each["_id"]) for each in page)))

    async def _collections(self, batch_ids: set[str]) -> Collections:
        where = {"_id": {"$in": sorted(batch_ids)}}
        found = self._index.batches.find(where, fields={"collection": 1})
        return {each["_id"]: each["collection"] async for each in found if "collection" in each}
