"""Documents of ``review_leases``, each of which expires by itself.

Leases of images, so that two people never annotate the same one; answers, for Undo; and sessions
that have ended.
"""

import hashlib
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from services.common.adapters.mongo import Collection, Document
from services.common.domain.errors import DuplicateDocumentError
from services.review.metrics import LEASES
from services.review.sessions import Session

KEPT = timedelta(days=1)
"""Retention of who skipped or annotated an image."""
LATELY = timedelta(minutes=10)
"""Period of the rate of annotations."""
_NOT_ANSWERING = {"answering_by": "", "answering_at": ""}


class Answer(NamedTuple):
    """A session's annotation of an image, finished or begun."""

    image: str
    at: datetime
    """As in the annotation, to check whether it was written."""


class Progress(NamedTuple):
    """Images that people annotated within a day."""

    done: dict[str, int]
    """Images by person."""
    per_minute: float | None
    """Rate of one person in the last minutes; None below two images."""


@dataclass(frozen=True)
class Leases:
    """Leases and skips, a document per image; answers, a document per session and image.

    Args:
        collection: ``review_leases``, with a TTL index of a day.
        seconds: Duration of a lease.
    """

    collection: Collection
    seconds: float

    async def take(self, image: str, session: str) -> bool:
        """Acquire or renew a lease; return False if another session has it."""
        now = datetime.now(tz=UTC)
        is_free = [{"session": session}, {"until": {"$lte": now}}]
        where = {"_id": image, "$or": is_free}
        try:
            is_taken = await self.collection.update_one(
                where, {"$set": self._until(session, now)}, upsert=True
            )
        except DuplicateDocumentError:
            is_taken = False
        LEASES.labels(outcome="taken" if is_taken else "refused").inc()
        return is_taken

    async def keep(self, images: list[str], session: str) -> None:
        """Renew a session's leases of some images."""
        now = datetime.now(tz=UTC)
        where = {"_id": {"$in": images}, "session": session}
        await self.collection.update_many(where, {"$set": self._until(session, now)})

    async def taken(self, session: str) -> set[str]:
        """Return the images that are not available to a session."""
        now = datetime.now(tz=UTC)
        others = self.collection.find({"until": {"$gt": now}, "session": {"$ne": session}})
        skipped = self.collection.find({"skipped": session})
        return {each["_id"] async for each in others} | {each["_id"] async for each in skipped}

    async def release(self, image: str, session: str) -> None:
        """Release a lease."""
        where = {"_id": image, "session": session}
        await self.collection.update_one(where, {"$set": {"until": datetime.now(tz=UTC)}})

    async def skip(self, image: str, session: str) -> None:
        """Release a lease, and exclude the image for this session."""
        now = datetime.now(tz=UTC)
        await self.collection.update_one(
            {"_id": image, "session": session},
            {"$set": {"until": now}, "$addToSet": {"skipped": session}},
        )
        LEASES.labels(outcome="skipped").inc()

    async def begin(self, answer: Answer, session: str) -> None:
        """Record the start of an annotation, so that Undo works after a crash."""
        fields = {"image": answer.image, "answering_by": session, "answering_at": answer.at}
        change = {"$set": {**fields, "expires_at": datetime.now(tz=UTC) + KEPT}}
        await self.collection.update_one(_of(answer.image, session), change, upsert=True)

    async def begun(self, image: str, session: str) -> Answer | None:
        """Return a session's interrupted annotation of an image."""
        where = {**_of(image, session), "answering_by": session}
        found = await self.collection.find_one(where)
        return None if found is None else Answer(image, found["answering_at"])

    async def done(self, answer: Answer, session: str, name: str) -> None:
        """Release a lease as annotated by a person, for Undo and progress."""
        fields = {"done_by": session, "done_at": answer.at, "done_name": name}
        expires_at = datetime.now(tz=UTC) + KEPT
        fields |= {"image": answer.image, "expires_at": expires_at}
        change = {"$set": fields, "$unset": _NOT_ANSWERING}
        await self.collection.update_one(_of(answer.image, session), change, upsert=True)
        await self.release(answer.image, session)

    async def progress(self, name: str) -> Progress:
        """Return how many images each person annotated within a day, and how fast this one is."""
        now = datetime.now(tz=UTC)
        where, fields = {"done_at": {"$gt": now - KEPT}}, {"done_name": 1, "done_at": 1}
        done: dict[str, list[datetime]] = defaultdict(list)
        async for each in self.collection.find(where, fields=fields):
            done[str(each.get("done_name") or "")].append(each["done_at"])
        lately = sorted(at for at in done[name] if at > now - LATELY)
        minutes = (lately[-1] - lately[0]) / timedelta(minutes=1) if lately else 0.0
        return Progress(
            done={who: len(times) for who, times in done.items() if who and times},
            per_minute=(len(lately) - 1) / minutes if minutes else None,
        )

    async def last_done(self, session: str) -> Answer | None:
        """Return a session's last annotation, finished or begun, that is not undone."""
        answers = [
            Answer(str(each.get("image", each["_id"])), each[f"{name}_at"])
            for name in ("done", "answering")
            async for each in self.collection.find(
                {f"{name}_by": session}, sort=[(f"{name}_at", -1)], limit=1
            )
        ]
        return max(answers, key=lambda answer: answer.at, default=None)

    async def undone(self, answer: Answer, session: str) -> None:
        """Delete the record of a session's annotation."""
        for name in ("done", "answering"):
            where = {f"{name}_by": session, f"{name}_at": answer.at}
            change = {"$unset": {f"{name}_by": "", f"{name}_at": "", f"{name}_name": ""}}
            await self.collection.update_one(where, change)

    async def claim(self, form: str, session: str, last: Answer | None) -> Answer | None:
        """Note what a form is about to undo; return what was noted first, if it was."""
        said = {"image": last.image, "undone_at": last.at} if last else {}
        record = {**_once(form, session), **said, "expires_at": datetime.now(tz=UTC) + KEPT}
        try:
            await self.collection.insert(record)
        except DuplicateDocumentError:
            return _noted(await self.collection.find_one(_once(form, session)))
        return last

    async def claim_instead(
        self, form: str, session: str, last: Answer, following: Answer | None
    ) -> Answer | None:
        """Note what a form undoes as ``last`` can't be undone; return what is noted then."""
        where = {**_once(form, session), "image": last.image, "undone_at": last.at}
        said = {"image": following.image, "undone_at": following.at} if following else {}
        change = {"$set": said} if said else {"$unset": {"image": "", "undone_at": ""}}
        await self.collection.update_one(where, change)
        return _noted(await self.collection.find_one(_once(form, session)))

    async def end(self, form: str, session: str) -> None:
        """Record that a form has undone what was noted."""
        await self.collection.update_one(_once(form, session), {"$set": {"is_undone": True}})

    async def undone_by(self, form: str, session: str) -> Answer | None:
        """Return what a form has undone."""
        where = {**_once(form, session), "is_undone": True}
        return _noted(await self.collection.find_one(where))

    def _until(self, session: str, now: datetime) -> dict[str, object]:
        until = now + timedelta(seconds=self.seconds)
        return {"session": session, "until": until, "expires_at": now + KEPT}


class EndedSessions:
    """Revoked sessions, shared by all processes and kept over restarts.

    Args:
        collection: ``review_leases``.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def add(self, session: Session) -> None:
        """Revoke a session."""
        expires_at = datetime.fromtimestamp(session.expires, tz=UTC)
        with suppress(DuplicateDocumentError):
            await self._collection.insert({"_id": _ended(session), "expires_at": expires_at})

    async def has(self, session: Session) -> bool:
        """Whether a session was revoked."""
        return await self._collection.find_one({"_id": _ended(session)}) is not None


def _once(form: str, session: str) -> dict[str, object]:
    """Return which document is about a form, of which nothing is known but that it is a text."""
    return {"_id": f"form {session} {hashlib.sha256(form.encode(errors='replace')).hexdigest()}"}


def _noted(found: Document | None) -> Answer | None:
    return Answer(found["image"], found["undone_at"]) if found and "image" in found else None


def _of(image: str, session: str) -> dict[str, object]:
    """Return which document is about the answer of a session."""
    return {"_id": f"answer {session} {image}"}


def _ended(session: Session) -> str:
    return f"ended:{hashlib.sha256(session.id.encode()).hexdigest()}"
