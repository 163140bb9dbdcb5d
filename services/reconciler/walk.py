"""One pass: compare the bucket with ``images`` in constant memory, and queue differences."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict, Unpack

import structlog

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageRepository
from services.common.adapters.rabbitmq.messaging import Publisher
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.adapters.synthetic_events import (
    INFERRED,
    ORIGIN_HEADER,
    latest,
    removed_notification,
    sequencer_at,
    stored_notification,
)
from services.common.domain.objects import UnreadableObjectError
from services.reconciler.compare import (
    MOST_REMOVALS,
    TO_QUEUE,
    WHOLE,
    BucketPart,
    Document,
    KeyRange,
    Pair,
    State,
    judge,
    pairs,
)
from services.reconciler.settings import ReconcilerSettings

log = structlog.stdlib.get_logger(__name__)

CONFIRMED = "operator"
"""Value of ``x-origin`` if a person has confirmed that missing objects were removed on purpose."""
DOCUMENT_PAGE = 1000
ROOM_POLL_SECONDS = 1.0

Documents = ImageRepository | PageRepository
Parked = set[tuple[str, str | None]]
"""``_id`` and ETag of each parked notification; a removal has no ETag."""


@dataclass
class PassReport:
    """Report of a pass."""

    found: Counter[State] = field(default_factory=Counter)
    queued_by_state: Counter[State] = field(default_factory=Counter)
    held: int = 0
    """Removals not queued, as so many missing objects need a person's confirmation."""
    objects: int = 0
    documents: int = 0
    seconds: float = 0.0

    @property
    def queued(self) -> int:
        """Events that were published."""
        return self.queued_by_state.total()

    def __add__(self, other: "PassReport") -> "PassReport":
        """Return what two passes found and did together."""
        return PassReport(
            found=self.found + other.found,
            queued_by_state=self.queued_by_state + other.queued_by_state,
            held=self.held + other.held,
            objects=self.objects + other.objects,
            documents=self.documents + other.documents,
            seconds=self.seconds + other.seconds,
        )


class PassOptions(TypedDict, total=False):
    """Options of a pass."""

    part: BucketPart
    """Keys to compare; all by default."""
    allows_gone: bool
    """Whether a person has confirmed the removals."""
    on_progress: Callable[[PassReport], None]
    """Called regularly with the report so far."""


class Reconciler:
    """Compares the bucket with its documents and queues missing events.

    Args:
        store: The bucket.
        images: Its documents; only read.
        publisher: Of synthetic events; None: count only (dry run).
        queues: Work and parking queue of images.
        settings: Age limit and pace.
        options: Of the pass.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        images: Documents,
        publisher: Publisher | None,
        queues: Queues,
        settings: ReconcilerSettings,
        **options: Unpack[PassOptions],
    ) -> None:
        self._store = store
        self._images = images
        self._publisher = publisher
        self._queues = queues
        self._settings = settings
        self._part = options.get("part", WHOLE)
        self._allows_gone = options.get("allows_gone", False)
        self._gone: list[Pair] = []
        """Missing objects found by a pass, up to the limit of removals."""
        self._on_progress: Callable[[PassReport], None] = options.get("on_progress", lambda _: None)

    async def run(self, parked: Parked) -> PassReport:
        """Run one pass; it can be cancelled and repeated at any time.

        Args:
            parked: Skipped: a person decides about these.
        """
        report = PassReport()
        began = asyncio.get_running_loop().time()
        self._gone = []
        cutoff = await self._store.now() - timedelta(seconds=self._settings.min_age_seconds)
        for keys in self._part.ranges:
            await self._compare(keys, cutoff, parked, report)
        await self._settle_gone(cutoff, report)
        report.seconds = asyncio.get_running_loop().time() - began
        return report

    async def _compare(
        self, keys: KeyRange, cutoff: datetime, parked: Parked, report: PassReport
    ) -> None:
        differing: list[Pair] = []
        async with (
            aclosing(self._store.list(after=keys.after, upto=keys.upto)) as objects,
            aclosing(self._documents(keys)) as documents,
        ):
            async for pair in pairs(objects, documents):
                report.objects += pair.listed is not None
                report.documents += pair.document is not None
                state = judge(pair, cutoff)
                if state in TO_QUEUE:
                    differing.append(pair)
                else:
                    report.found[state] += 1
                if len(differing) >= self._settings.parallel:
                    await self._settle(differing, cutoff, parked, report)
                    differing = []
                    self._on_progress(report)
            await self._settle(differing, cutoff, parked, report)

    async def _documents(self, keys: KeyRange) -> AsyncGenerator[Document, None]:
        """Yield the documents of these keys by ``_id``."""
        bucket = self._store.bucket
        async for page in self._images.scan(
            None,
            page=DOCUMENT_PAGE,
            fields={"key": 1, "etag": 1, "status": 1, "sequencer": 1},
            after=f"{bucket}/{keys.after}",
            upto=f"{bucket}/{keys.upto}" if keys.upto else f"{bucket}0",  # "0" follows "/"
        ):
            for document in page:
                yield document

    async def _settle(
        self, differing: list[Pair], cutoff: datetime, parked: Parked, report: PassReport
    ) -> None:
        await self._wait_for_room()
        await asyncio.gather(
            *(self._settle_one(pair, cutoff, parked, report) for pair in differing)
        )

    async def _settle_one(
        self, before: Pair, cutoff: datetime, parked: Parked, report: PassReport
    ) -> None:
        """Verify, as events may have arrived meanwhile; queue what still differs."""
        pair = await self._look_again(before)
        state = State.IN_ORDER if pair is None else judge(pair, cutoff)
        if pair is None or state not in TO_QUEUE:
            report.found[state] += 1
            return
        document_id = f"{self._store.bucket}/{pair.key}"
        if (document_id, pair.listed.etag if pair.listed else None) in parked:
            report.found[State.PARKED] += 1
            return
        report.found[state] += 1
        log.info("object and document differ", id=document_id, state=state)
        if state is not State.GONE or self._allows_gone:
            await self._queue(pair, state, report)
        elif len(self._gone) < MOST_REMOVALS:
            self._gone.append(Pair(pair.key, None, None))

    async def _settle_gone(self, cutoff: datetime, report: PassReport) -> None:
        """Queue removals, or none if they exceed the limit.

        An empty or restored older bucket looks like this, and must not erase annotations.
        """
        gone = report.found[State.GONE]
        documents = report.documents - report.found[State.REMOVED]
        if gone > self._part.most_removals(documents) and not self._allows_gone:
            report.held = gone
            log.warning(
                "too many removals, not queued: run docreco reconcile",
                gone=gone,
                documents=documents,
            )
            return
        for first in range(0, len(self._gone), self._settings.parallel):
            await self._wait_for_room()
            group = self._gone[first : first + self._settings.parallel]
            await asyncio.gather(*(self._queue_gone(pair, cutoff, report) for pair in group))
            self._on_progress(report)

    async def _queue_gone(self, before: Pair, cutoff: datetime, report: PassReport) -> None:
        """Verify again, as the pass may have taken long."""
        pair = await self._look_again(before)
        if pair is not None and judge(pair, cutoff) is State.GONE:
            await self._queue(pair, State.GONE, report)

    async def _queue(self, pair: Pair, state: State, report: PassReport) -> None:
        if self._publisher is None:
            return
        body = notification_for(self._store.bucket, pair)
        is_confirmed = self._allows_gone and pair.listed is None
        headers = {ORIGIN_HEADER: CONFIRMED if is_confirmed else INFERRED}
        await self._publisher.publish(body, queue=self._queues.work, headers=headers)
        report.queued_by_state[state] += 1

    async def _look_again(self, before: Pair) -> Pair | None:
        """Return the current pair with the object's metadata; None: neither exists."""
        document = await self._images.get(f"{self._store.bucket}/{before.key}")
        try:
            now = await self._store.head(before.key)
        except UnreadableObjectError:
            return Pair(before.key, before.listed, document)  # as it is known without its headers
        if now is None and document is None:
            return None
        if now is None or before.listed is None:
            return Pair(before.key, now, document)
        # HEAD truncates times to seconds, a listing to milliseconds
        if now.etag == before.listed.etag and now.stored_at == _whole(before.listed.stored_at):
            now = replace(now, stored_at=before.listed.stored_at)
        return Pair(before.key, now, document)

    async def _wait_for_room(self) -> None:
        """Wait while the queue is long: a backfill must not delay new images."""
        if self._publisher is None:
            return
        most, work = self._settings.max_waiting, self._queues.work
        while await self._publisher.depth(work) >= most:  # noqa: ASYNC110  emptied by other processes
            await asyncio.sleep(ROOM_POLL_SECONDS)


def notification_for(bucket: str, pair: Pair) -> bytes:
    """Return the synthetic event that aligns the document with the object."""
    shown = pair.document.sequencer if pair.document is not None else None
    if pair.listed is not None:
        sequencer = latest(sequencer_at(pair.listed.stored_at), shown)
        return stored_notification(bucket, pair.listed, sequencer=sequencer)
    now = datetime.now(tz=UTC)
    return removed_notification(bucket, pair.key, sequencer=shown or "0", occurred_at=now)


def _whole(time: datetime) -> datetime:
    return time.replace(microsecond=0)
