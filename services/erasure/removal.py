"""Removal on request: delete an image and its predictions, keep the proof."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.forgotten import erase_tombstones
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.rabbitmq import dead_letters
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import OCR_QUEUES, Queues
from services.common.adapters.synthetic_events import ORIGIN_HEADER, removed_notification
from services.common.domain.errors import ObjectNotFoundError, PermanentError
from services.common.domain.image import Decision, ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.keys import image_prefixes
from services.common.domain.normal_form import TRAINABLE, to_normal_file
from services.common.domain.objects import ObjectTooLargeError
from services.common.domain.page_document import PageDocument
from services.common.domain.redaction import REDACTED, beginning, may_be_kept_as
from services.common.download.urls import spellings
from services.common.runtime.periodic import polled
from services.common.runtime.settings import AmqpSettings

ORIGIN = "forget"
MOST_BYTES_READ = 64 * 2**20
"""Larger objects have no key that is derived from their bytes."""


@dataclass(frozen=True)
class Target:
    """An object to remove, and its document."""

    key: str
    is_stored: bool
    document: ImageDocument
    """May be absent."""
    read_sha256: str | None = None
    """Of the bytes read here, if the document has none."""

    @property
    def sha256(self) -> str | None:
        """Of the bytes."""
        return self.document.sha256 or self.read_sha256

    @property
    def says_removed(self) -> bool:
        """Whether the document is a proof of removal already."""
        return self.document.status == "removed"


async def find_targets(store: ObjectStore, database: Database, what: str) -> list[Target]:
    """Find objects by a URL or key (with or without bucket).

    The same bytes under other keys are included.
    """
    if what.startswith(("http://", "https://")):
        keys = await _keys_from(database, what)
    else:
        keys = {what, what.removeprefix(f"{store.bucket}/")}
    named = [await to_target(store, database, key) for key in sorted(keys)]
    found = [each for each in named if each.is_stored or each.document.exists]
    bytes_of = {each.sha256 for each in found if each.sha256 is not None}
    fetched = FetchedItems(database.fetches).matching(urls=spellings(what))
    bytes_of |= {each.sha256 async for each in fetched if each.sha256}
    return found + await find_copies(store, database, bytes_of, keys)


async def find_copies(
    store: ObjectStore, database: Database, hashes: set[str], known: set[str]
) -> list[Target]:
    """Return objects with the given bytes, except those under known keys."""
    where = ImageFilter(hashes=frozenset(hashes), status=PRESENT)
    copies = ImageRepository(database.images).find(where, fields={"key": 1})
    others = {each.key async for each in copies} - known
    unread = [each async for each in _unread_copies(store, database, hashes, known | others)]
    return [await to_target(store, database, key) for key in sorted(others)] + unread


async def other_files(store: ObjectStore, target: Target) -> set[str]:
    """Return the SHA-256 of files that exports may have derived from an image."""
    if not target.is_stored or target.document.status != "predicted":
        return set()
    try:
        content = (await store.read(target.key, max_bytes=MOST_BYTES_READ)).content
        file = await asyncio.to_thread(to_normal_file, content, readable=TRAINABLE)
    except PermanentError:  # missing, too large or not an image: no export has it
        return set()
    return {hashlib.sha256(file.content).hexdigest()}


async def _unread_copies(
    store: ObjectStore, database: Database, hashes: set[str], known: set[str]
) -> AsyncIterator[Target]:
    """Yield objects with the same bytes that the consumer has not read yet.

    Their keys name the hash, but are untrusted, so the bytes are read.
    """
    for digest in sorted(hashes):
        for prefix in image_prefixes(digest):
            async for info in store.list(prefix):
                if info.key in known or info.size > MOST_BYTES_READ:
                    continue
                target = await to_target(store, database, info.key)
                if target.sha256 == digest:
                    yield target


async def to_target(store: ObjectStore, database: Database, key: str) -> Target:
    """Return what has a key, and the hash of its bytes if its document does not know it."""
    document = await ImageRepository(database.images).load(f"{store.bucket}/{key}")
    info = await store.head(key)
    digest = None
    if info is not None and document.sha256 is None and info.size <= MOST_BYTES_READ:
        with suppress(ObjectNotFoundError, ObjectTooLargeError):  # removed or changed meanwhile
            stored = await store.read(key, max_bytes=MOST_BYTES_READ)
            digest = hashlib.sha256(stored.content).hexdigest()
    return Target(key, info is not None, document, digest)


async def _keys_from(database: Database, url: str) -> set[str]:
    """Return the keys of a URL's images, including those without a document yet.

    Only ``fetches`` has URLs with secrets; if it is no longer there, the redacted URL is looked up.
    """
    forms = spellings(url)
    keys = await _keys_with_source(database, forms)
    fetched = FetchedItems(database.fetches).matching(urls=forms)
    keys |= {each.key async for each in fetched if each.key and not each.is_page}
    if keys:
        return keys
    return await _keys_kept_of(database, forms)


async def _keys_with_source(database: Database, urls: set[str]) -> set[str]:
    where = ImageFilter(urls=frozenset(urls))
    return {
        each.key async for each in ImageRepository(database.images).find(where, fields={"key": 1})
    }


async def _keys_kept_of(database: Database, urls: set[str]) -> set[str]:
    """Return the keys of images whose redacted source may be one of these."""
    starts = "|".join(sorted({re.escape(beginning(each)) for each in urls}))
    where = ImageFilter(url_pattern=f"^(?:{starts})[?;#].*={REDACTED}")
    return {
        document.key
        async for document in ImageRepository(database.images).find(where)
        for kept in document.urls
        if any(may_be_kept_as(url, kept) for url in urls)
    }


async def remove(
    targets: list[Target],
    *,
    store: ObjectStore,
    database: Database,
    amqp: AmqpSettings,
    queues: Queues = OCR_QUEUES,
) -> None:
    """Delete objects, whose events erase the rest; queue a removal for missing ones.

    Annotations are erased first, so that those events create no tombstones.

    Raises:
        UnavailableError: A server does not answer; repeat the call.
    """
    await _erase_annotations(targets, store, database)
    for target in targets:
        if target.is_stored:
            await store.erase(target.key)
    missing = [
        (each.key, each.document.sequencer)
        for each in targets
        if each.document.exists and not each.is_stored and not each.says_removed
    ]
    await queue_removals(missing, bucket=store.bucket, amqp=amqp, queues=queues)


async def queue_removals(
    missing: Iterable[tuple[str, str | None]], *, bucket: str, amqp: AmqpSettings, queues: Queues
) -> None:
    """Queue the removal of objects that are missing, by key and the sequencer of the document."""
    async with open_publisher(amqp) as publisher:
        for key, sequencer in missing:
            now = datetime.now(tz=UTC)
            body = removed_notification(bucket, key, sequencer=sequencer or "0", occurred_at=now)
            await publisher.publish(body, queue=queues.work, headers={ORIGIN_HEADER: ORIGIN})


async def drop_parked_events(amqp: AmqpSettings, queues: Queues, ids: set[str]) -> int:
    """Drop parked messages about documents: they hold sources and texts. Return their number."""
    about = {each[: dead_letters.LONGEST_SUBJECT] for each in ids}
    return len(await dead_letters.drop(amqp, queues, lambda message: message.subject in about))


async def prove(
    targets: list[Target], store: ObjectStore, database: Database, *, wait_seconds: float
) -> list[dict[str, Any]]:
    """Wait for every document to be erased; return the proofs.

    ``removed_at`` is None for documents not erased within ``wait_seconds``.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    proofs = []
    for target in targets:
        document_id = f"{store.bucket}/{target.key}"
        ask = partial(_erased, document_id, target, database)
        document = await polled(ask, lambda each: each is not None, deadline=deadline)
        is_gone = await store.head(target.key) is None
        left = document if is_gone and document else ImageDocument.absent(document_id)
        # The sources of an image that was deleted before it was read are recorded late
        sources = left.origins or target.document.origins
        proofs.append(to_proof(left, sources=sources, sha256=left.sha256))
    # An image that had no document before may have an annotation
    await _erase_annotations(targets, store, database)
    await _note_hashes(targets, store, database)
    return proofs


async def _erased(document_id: str, target: Target, database: Database) -> ImageDocument | None:
    """Return a document where it says that its image was removed."""
    document = await ImageRepository(database.images).load(document_id)
    # Where it was restored without a new document state, only a later removal is the proof
    came_back = target.says_removed and target.is_stored
    is_known = came_back and document.sequencer == target.document.sequencer
    return document if document.status == "removed" and not is_known else None


async def _note_hashes(targets: list[Target], store: ObjectStore, database: Database) -> None:
    """Add the hash of bytes read only here to the proof, so that they can be allowed again."""
    for target in targets:
        document_id = f"{store.bucket}/{target.key}"
        await ImageRepository(database.images).change(document_id, partial(_with_hash, target))


def _with_hash(target: Target, document: ImageDocument) -> Decision[None]:
    is_known = document.status != "removed" or document.sha256 is not None
    if is_known or target.read_sha256 is None:
        return Decision(None, document)
    return Decision(None, document.having(sha256=target.read_sha256))


async def _erase_annotations(targets: list[Target], store: ObjectStore, database: Database) -> None:
    ids = [f"{store.bucket}/{each.key}" for each in targets]
    hashes = [each.sha256 for each in targets if each.sha256 is not None]
    await ImageRepository(database.images).erase_annotations(ids)
    await erase_tombstones(database.tombstones, documents=ids, hashes=hashes)


def to_proof(
    left: ImageDocument | PageDocument, *, sources: list[str], sha256: str | None
) -> dict[str, Any]:
    """Return the proof that an image or a page was erased: what is left of its document."""
    is_removed = left.status == "removed"
    image = left if isinstance(left, ImageDocument) else ImageDocument.absent(left.id)
    return {
        "document": left.id,
        "sources": sources,
        "sha256": sha256,
        "stored_at": left.stored_at,
        "removed_at": left.removed_at if is_removed else None,
        "erased_at": left.indexed_at if is_removed else None,
        "prediction": image.prediction and image.prediction.to_mongo(),
        "annotation": image.annotation and image.annotation.to_mongo(),
    }
