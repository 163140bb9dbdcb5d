"""Forget images on request: erase all stored data about them, and return a proof."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.common.adapters.forgotten import Forgotten
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    Queues,
)
from services.common.domain.page import PAGES_BUCKET
from services.common.domain.page_document import PageDocument
from services.common.runtime.settings import AmqpSettings
from services.erasure.pages import find_pages, keys_of_lines, prove_pages, remove_pages
from services.erasure.removal import (
    Target,
    drop_parked_events,
    find_copies,
    find_targets,
    other_files,
    prove,
    remove,
    to_target,
)
from services.erasure.submitted import (
    Erased,
    SubmittedItems,
    drop_parked,
    erase_submitted,
    find_submitted,
)

NOT_COVERED = (
    "earlier exports hold the image and its annotation: delete them by hand",
    "tasks in Label Studio show it until the next `docreco label-studio push`, which deletes them",
    "files with other bytes (scaled, cropped, re-encoded) count as other images",
    "objects larger than CONSUMER_MAX_OBJECT_BYTES are not identified by their bytes",
    "backups of MinIO, MongoDB and RabbitMQ, and browsers' caches (two minutes)",
)
"""Remaining copies, for the person who forgets."""


@dataclass(frozen=True)
class ForgetTargets:
    """Targets to forget."""

    targets: list[Target]
    submitted: SubmittedItems
    pages: tuple[PageDocument, ...] = ()

    @property
    def hashes(self) -> set[str]:
        """SHA-256 of the bytes of images and pages."""
        of_images = {each.sha256 for each in self.targets if each.sha256 is not None}
        return of_images | {each.sha256 for each in self.pages if each.sha256 is not None}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not self.targets and not self.submitted.items and not self.pages


@dataclass(frozen=True)
class ErasureReport:
    """The proof of erasure."""

    proofs: list[dict[str, Any]]
    """One per object."""
    erased: Erased

    @property
    def is_done(self) -> bool:
        """Whether every document is erased."""
        return all(proof["removed_at"] is not None for proof in self.proofs)

    def to_answer(self) -> dict[str, Any]:
        """Return it as JSON-serialisable values."""
        return {
            "is_done": self.is_done,
            "proofs": self.proofs,
            "looked_at": asdict(self.erased),
            "not_covered": NOT_COVERED,
        }


@dataclass(frozen=True)
class Forgetting:
    """The servers to erase from."""

    store: ObjectStore
    database: Database
    amqp: AmqpSettings
    ocr_queues: Queues = OCR_QUEUES
    fetch_queues: Queues = FETCH_QUEUES
    page_queues: Queues = PAGE_QUEUES
    pages_bucket: str = PAGES_BUCKET

    async def find(self, what: str) -> ForgetTargets:
        """Find objects by a URL or key (with or without bucket), and pages with their lines."""
        pages = await find_pages(sibling(self.store, self.pages_bucket), self.database, what)
        targets = await find_targets(self.store, self.database, what)
        lines = await keys_of_lines(self.store, self.database, pages)
        lines -= {each.key for each in targets}
        targets += [await to_target(self.store, self.database, key) for key in sorted(lines)]
        return await self.with_submitted(what, targets, pages)

    async def with_submitted(
        self, what: str, targets: list[Target], pages: Sequence[PageDocument] = ()
    ) -> ForgetTargets:
        """Add what was submitted about objects."""
        found = ForgetTargets(targets, SubmittedItems(frozenset(), frozenset(), {}), tuple(pages))
        documents = (*(each.document for each in targets), *pages)
        kept = {url for each in documents for url in each.urls}
        submitted = await find_submitted(self.database, what, hashes=found.hashes, kept=kept)
        return replace(found, submitted=submitted)

    async def forget(
        self, found: ForgetTargets, *, wait_seconds: float, may_come_again: bool = False
    ) -> ErasureReport:
        """Erase it, wait for the consumer to erase its documents, and return the proof.

        URLs and bytes are blocked first, so that no running batch or pending event restores the
        image.

        Raises:
            UnavailableError: A server does not answer; repeat the call.
        """
        if may_come_again:
            await Forgotten(self.database.forgotten).remove(found.submitted.all_urls, found.hashes)
        else:
            await self._block(found)
            # The consumer checks after writing a document, so all that it missed are stored by now
            copies = await find_copies(
                self.store, self.database, found.hashes, {each.key for each in found.targets}
            )
            found = replace(found, targets=[*found.targets, *copies])
        erased = await erase_submitted(self.database, found.submitted)
        if not may_come_again:
            erased.urls_blocked = len(found.submitted.all_urls)
            erased.images_blocked = len(found.hashes)
        erased.parked = await self._drop_parked(found)
        if found.pages:
            pages = sibling(self.store, self.pages_bucket)
            await remove_pages(found.pages, store=pages, amqp=self.amqp, queues=self.page_queues)
        await remove(
            found.targets,
            store=self.store,
            database=self.database,
            amqp=self.amqp,
            queues=self.ocr_queues,
        )
        proofs = await prove_pages(found.pages, self.database, wait_seconds=wait_seconds)
        proofs += await prove(found.targets, self.store, self.database, wait_seconds=wait_seconds)
        # Again: messages may have been held by an inspection
        for queue, count in (await self._drop_parked(found)).items():
            erased.parked[queue] += count
        return ErasureReport(proofs, erased)

    async def _block(self, found: ForgetTargets) -> None:
        images: dict[str, set[str]] = {sha256: set() for sha256 in found.hashes}
        for target in found.targets:
            if target.sha256 is not None:
                images[target.sha256] |= await other_files(self.store, target)
        await Forgotten(self.database.forgotten).add(found.submitted.all_urls, images)

    async def _drop_parked(self, found: ForgetTargets) -> dict[str, int]:
        ids = {f"{self.store.bucket}/{each.key}" for each in found.targets}
        dropped = {
            self.ocr_queues.parked: await drop_parked_events(self.amqp, self.ocr_queues, ids),
            self.fetch_queues.parked: await drop_parked(
                self.amqp, self.fetch_queues, found.submitted
            ),
        }
        if found.pages:
            pages = {page.id for page in found.pages}
            queues = self.page_queues
            dropped[queues.parked] = await drop_parked_events(self.amqp, queues, pages)
        return dropped
