"""Forget images on request, everywhere this pipeline keeps something of them, and prove it."""

from dataclasses import asdict, dataclass
from typing import Any

from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq.settlement import FETCH_QUEUES, OCR_QUEUES, Queues
from services.common.runtime.settings import AmqpSettings
from services.erasure.removal import Target, drop_parked_events, find_targets, prove, remove
from services.erasure.submitted import (
    Erased,
    Submitted,
    drop_parked,
    erase_submitted,
    find_submitted,
)

NOT_COVERED = (
    "exports made before hold the image and its annotation: delete them by hand",
    "tasks in Label Studio show it until the next `docreco label-studio push`, which deletes them",
    "copies under keys that people chose are found once they are read: repeat it then",
    "backups of MinIO, MongoDB and RabbitMQ, and browsers' caches (two minutes)",
)
"""What is left to the person who forgets."""


@dataclass(frozen=True)
class Found:
    """What is to be forgotten."""

    targets: list[Target]
    submitted: Submitted

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of it."""
        return not self.targets and not self.submitted.items


@dataclass(frozen=True)
class Report:
    """The proof."""

    proofs: list[dict[str, Any]]
    """One for each object."""
    erased: Erased

    @property
    def is_done(self) -> bool:
        """Whether every document is erased."""
        return all(proof["removed_at"] is not None for proof in self.proofs)

    def to_answer(self) -> dict[str, Any]:
        """Return all of it, for machines."""
        return {
            "is_done": self.is_done,
            "proofs": self.proofs,
            "looked_at": asdict(self.erased),
            "not_covered": NOT_COVERED,
        }


@dataclass(frozen=True)
class Forgetting:
    """The servers that images are forgotten on."""

    store: ObjectStore
    index: Database
    amqp: AmqpSettings
    ocr_queues: Queues = OCR_QUEUES
    fetch_queues: Queues = FETCH_QUEUES

    async def find(self, what: str) -> Found:
        """Return what a URL led to, or what has a key (with or without the bucket before it).

        Raises:
            UnavailableError: A server is missing.
        """
        return await self.with_submitted(what, await find_targets(self.store, self.index, what))

    async def with_submitted(self, what: str, targets: list[Target]) -> Found:
        """Return objects together with what was submitted about them.

        Raises:
            UnavailableError: A server is missing.
        """
        hashes = {each.sha256 for each in targets if each.sha256 is not None}
        kept = {url for each in targets for url in each.sources}
        return Found(targets, await find_submitted(self.index, what, hashes=hashes, kept=kept))

    async def forget(
        self, found: Found, *, wait_seconds: float, may_be_fetched: bool = False
    ) -> Report:
        """Erase it, wait for the consumer to erase its documents, and return the proof.

        URLs are blocked first, lest a batch that runs brings the image back.

        Raises:
            UnavailableError: A server is missing; the same may be done again.
        """
        erased = await erase_submitted(self.index, found.submitted, may_be_fetched=may_be_fetched)
        erased.parked = await self._drop_parked(found)
        await remove(
            found.targets,
            store=self.store,
            index=self.index,
            amqp=self.amqp,
            queues=self.ocr_queues,
        )
        proofs = await prove(found.targets, self.store, self.index, wait_seconds=wait_seconds)
        # Again: somebody may have been looking at them, and so have held them
        for queue, count in (await self._drop_parked(found)).items():
            erased.parked[queue] += count
        return Report(proofs, erased)

    async def _drop_parked(self, found: Found) -> dict[str, int]:
        ids = {f"{self.store.bucket}/{each.key}" for each in found.targets}
        return {
            self.ocr_queues.parked: await drop_parked_events(self.amqp, self.ocr_queues, ids),
            self.fetch_queues.parked: await drop_parked(
                self.amqp, self.fetch_queues, found.submitted
            ),
        }
