"""Queue of images to annotate."""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import by_score, paginate
from services.common.domain.annotations import AnnotationOutcome, is_same, to_annotation
from services.common.domain.image import ImageDocument
from services.common.domain.records import Annotation, Confirmation, Quality, to_milliseconds
from services.review.found_page import fill_page
from services.review.leases import Answer, Leases
from services.review.metrics import ANNOTATIONS, UNDONE
from services.review.queue_filter import Mode, QueueFilter, of_second_reader, where
from services.review.queue_search import QueueSearch, SearchCut
from services.review.refreshed_answer import RefreshedAnswer
from services.review.search_limits import SearchLock, search_seconds
from services.review.sessions import Session
from services.review.suspects import SuspectList

MOST_LEFT = 200
"""Limit of the count of images that are left: more take longer to count than a page may take."""


@dataclass(frozen=True)
class Task:
    """The current image, and the next one to preload."""

    now: ImageDocument | None
    next: ImageDocument | None
    cut: SearchCut | None = None
    """Set if the search timed out: there may be further images."""


@dataclass(frozen=True)
class Queue:
    """Assigns images to people.

    Args:
        images: Repository of images.
        leases: Of images.
        suspects: Images whose annotation may be wrong.
        suggestions: Images whose annotation would teach most.
        second_share: Share of images that two people read.
        reviewers: People who decide where they have read differently; empty: everybody.
        search_lock: Serialises searches, which would try the same images.
    """

    images: ImageRepository
    leases: Leases
    suspects: SuspectList
    suggestions: RefreshedAnswer[dict[str, ImageDocument]]
    second_share: float = 0.0
    reviewers: frozenset[str] = frozenset()
    search_lock: SearchLock = field(default_factory=SearchLock)

    def is_reviewer(self, session: Session) -> bool:
        """Whether a person decides where two have read an image differently."""
        return not self.reviewers or session.name in self.reviewers

    async def task(self, session: Session, wanted: QueueFilter, *expected: str) -> Task:
        """Return the current and the next image of a person.

        Args:
            session: Id of the session.
            wanted: The filter.
            expected: Preferred images, if available.
        """
        got: dict[str, ImageDocument] = {}

        async def is_enough(image: str) -> bool:
            if image not in got and (document := await self._take(image, session, wanted)):
                got[image] = document
            return len(got) == 2

        for image in expected:
            if await is_enough(image):
                break
        cut = None
        if len(got) < 2:
            seconds = None if wanted.wait else search_seconds(wait=False)
            async with self.search_lock.acquire(seconds) as is_acquired:
                cut = (
                    await self._fill(is_enough, session, wanted) if is_acquired else SearchCut(None)
                )
        now, later = [*got.values(), None, None][:2]
        return Task(now, later, cut)

    async def following(
        self, session: Session, wanted: QueueFilter, image: str
    ) -> ImageDocument | None:
        """Lease the image that follows the one in front of a person.

        Other searches do not wait for it, nor it for them: the person has something to do.
        """
        got: list[ImageDocument] = []

        async def is_enough(other: str) -> bool:
            if other != image and (document := await self._take(other, session, wanted)):
                got.append(document)
            return bool(got)

        await self._fill(is_enough, session, replace(wanted, wait=True))
        return got[0] if got else None

    async def _fill(
        self,
        is_enough: Callable[[str], Awaitable[bool]],
        session: Session,
        wanted: QueueFilter,
    ) -> SearchCut | None:
        """Offer images until there are enough; return where the search timed out, if it did."""
        taken = await self.leases.taken(session.id)
        async for found in self.search.find(wanted, session.name, taken):
            if isinstance(found, SearchCut):
                return found
            if await is_enough(found):
                break
        return None

    async def answer(
        self,
        session: Session,
        image: str,
        *,
        text: str,
        quality: Quality,
        etag: str,
        shown: Sequence[str] | None = None,
        suspect: str | None = None,
    ) -> AnnotationOutcome:
        """Save an annotation and release the lease.

        Args:
            session: Whose answer it is.
            image: Id of its document.
            text: What they say it reads.
            quality: What they say of it.
            etag: Of the bytes that they looked at.
            shown: Predictions that their page showed; None: it does not say.
            suspect: Text of the suspect annotation that they replace or confirm; None: they were
                shown an image without annotation.

        Raises:
            UnacceptableAnnotationError: The annotation is invalid.
        """
        answer = Answer(image, to_milliseconds(datetime.now(tz=UTC)))
        said = to_annotation(
            text if quality is Quality.OK else "", quality, by=session.name, at=answer.at
        )
        if suspect is not None:
            said = said.having(confirmed=Confirmation(by=said.by, at=said.at))
        if await self._is_finished(session, said, image):
            return AnnotationOutcome.UNCHANGED
        await self.leases.begin(answer, session.id)
        outcome = await self.images.annotate(
            image,
            said,
            overwrite=lambda current: current.text == suspect,
            etag=etag,
            shown=shown,
            second_share=self.second_share if suspect is None else None,
            is_reviewer=self.is_reviewer(session),
        )
        if outcome is AnnotationOutcome.WRITTEN:
            ANNOTATIONS.labels(quality=quality).inc()
            await self.leases.done(answer, session.id, session.name)
        else:
            await self.leases.undone(answer, session.id)
            await self.leases.release(image, session.id)
        return outcome

    async def _is_finished(self, session: Session, said: Annotation, image: str) -> bool:
        """Finish an interrupted annotation; return whether it was saved already.

        The person repeats it, as they saw no confirmation. If the new text differs, the saved one
        is reverted.
        """
        earlier = await self.leases.begun(image, session.id)
        if earlier is None:
            return False
        ours = {"by": said.by, "at": earlier.at}
        saved = (await self.images.load(image)).reading_by(**ours)
        if saved is None:
            return False
        if is_same(saved, said):
            await self.leases.done(earlier, session.id, session.name)
            return True
        await self.images.revert(image, **ours)
        return False

    async def undo(self, session: Session, form: str = "") -> Answer | None:
        """Revert a session's last annotation, and return it.

        Args:
            session: The person's login.
            form: Identifies a form: sent again, as by a reload or after a failure, it reverts the
                same annotation, and nothing more. Empty: one that is sent once.
        """
        form = form or secrets.token_hex()
        if known := await self.leases.undone_by(form, session.id):
            return known
        last = await self.leases.claim(form, session.id, await self.leases.last_done(session.id))
        while last is not None:
            mine = {"by": session.name, "at": last.at}
            is_reverted = await self.images.revert(last.image, **mine)
            if is_reverted:
                UNDONE.inc()
            # An earlier Undo may have been interrupted before its confirmation
            document = await self.images.load(last.image)
            is_undone = is_reverted or document.has_reverted(**mine)
            await self.leases.undone(last, session.id)
            if is_undone:
                await self.leases.end(form, session.id)
                return last
            before = await self.leases.last_done(session.id)
            last = await self.leases.claim_instead(form, session.id, last, before)
        return None

    @property
    def search(self) -> QueueSearch:
        """Search of images."""
        return QueueSearch(self.images, self.suspects, self.suggestions)

    async def left(self, session: Session, wanted: QueueFilter) -> int | None:
        """Count the images that are left for a person, up to ``MOST_LEFT``; None: unknown."""
        if wanted.mode is Mode.SUSPECTS:
            return len(self.suspects.ids(wanted.limits, wanted.host))
        if wanted.mode is Mode.DISAGREEMENT:
            return None
        if wanted.mode is Mode.DECIDE:
            return await self.images.count(where(wanted), most=MOST_LEFT)
        left = await self.images.count(of_second_reader(wanted, session.name), most=MOST_LEFT)
        if left == MOST_LEFT:
            return left
        key, most = by_score(), MOST_LEFT - left
        pages = paginate(self.images, where(wanted), key, limit=most, fields={key.field: 1})
        found = await fill_page(pages, key, size=most, seconds=search_seconds(wait=True))
        return None if found.is_cut else left + len(found.documents)

    async def _take(
        self, image: str, session: Session, wanted: QueueFilter
    ) -> ImageDocument | None:
        """Lease an image to this session, if it is still one of those that are wanted."""
        if not await self.leases.take(image, session.id):
            return None
        # Read after the lease: the last holder may have annotated it
        document = await self.images.get(image)
        if document is None or not self._is_wanted(document, wanted, session):
            if document is None or not self.suspects.reasons(document):
                self.suspects.discard(image)
            (self.suggestions.last or {}).pop(image, None)
            await self.leases.release(image, session.id)
            return None
        return document

    def _is_wanted(self, document: ImageDocument, wanted: QueueFilter, session: Session) -> bool:
        double = document.double_reading
        if document.status != "predicted" or (
            document.is_read_twice and not self.is_reviewer(session)
        ):
            return False
        if wanted.mode is Mode.SUSPECTS:
            return bool(self.suspects.reasons(document))
        if wanted.mode is Mode.DECIDE:
            return document.is_undecided
        is_second = double is not None and double.waits_for(session.name)
        return document.annotation is None or is_second
