"""Removal of pages on request: the segmenter removes what was made of them, and the proof stays."""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from services.common.adapters.fetched_items import FetchedItems
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database
from services.common.adapters.object_store import ObjectStore
from services.common.adapters.page_repository import PageFilter, PageRepository
from services.common.adapters.rabbitmq.retry_policy import Queues
from services.common.domain.errors import ObjectNotFoundError
from services.common.domain.image_filter import ImageFilter
from services.common.domain.keys import lines_prefix
from services.common.domain.page_document import PageDocument
from services.common.domain.provenance import from_metadata, to_source
from services.common.download.urls import spellings
from services.common.runtime.periodic import polled
from services.common.runtime.settings import AmqpSettings
from services.erasure.removal import queue_removals, to_proof


async def find_pages(store: ObjectStore, database: Database, what: str) -> list[PageDocument]:
    """Find pages by a URL, or by a key with the bucket before it.

    Pages with the same bytes, those that were rendered of a PDF or TIFF, and those that wait in the
    bucket without a document are included.
    """
    pages = PageRepository(database.pages)
    named, keys = [], set[str]()
    if what.startswith(("http://", "https://")):
        forms = spellings(what)
        named = [each async for each in pages.find(PageFilter(url=frozenset(forms)))]
        items = FetchedItems(database.fetches).matching(urls=forms)
        keys = {each.key async for each in items if each.key and each.is_page}
    elif what.startswith(f"{store.bucket}/"):
        keys = {what.removeprefix(f"{store.bucket}/")}
    for key in sorted(keys - {each.key for each in named}):
        page = await pages.load(f"{store.bucket}/{key}")
        known = page if page.exists else await _waiting(store, page, key)
        named += [known] if known is not None else []
    found = {each.id: each for each in named}
    filters = [PageFilter(document=each.key) for each in named]  # also of its earlier bytes
    for sha256 in sorted({each.sha256 for each in named if each.sha256}):
        filters += [PageFilter(sha256=sha256), PageFilter(document_sha256=sha256)]
    for where in filters:
        found |= {each.id: each async for each in pages.find(where)}
    return [found[each] for each in sorted(found)]


async def _waiting(store: ObjectStore, page: PageDocument, key: str) -> PageDocument | None:
    """Return what is known of a page that has no document yet, or None if it is not stored."""
    info = await store.head(key)
    if info is None:
        return None
    digest = hashlib.sha256()
    try:
        async with store.stream(key) as pieces:
            async for piece in pieces:
                digest.update(piece)
    except ObjectNotFoundError:
        return None
    source = to_source(from_metadata(dict(info.metadata)))
    known = {"bucket": store.bucket, "key": key, "sha256": digest.hexdigest()}
    return page.having(**known, sources=(source,) if source else ())


async def keys_of_lines(
    store: ObjectStore, database: Database, pages: Sequence[PageDocument]
) -> set[str]:
    """Return the keys of the line images of pages, also of those without a document yet."""
    if not pages:
        return set()
    where = ImageFilter(pages=frozenset(page.id for page in pages))
    found = ImageRepository(database.images).find(where, fields={"key": 1})
    keys = {image.key async for image in found}
    for sha256 in sorted({page.sha256 for page in pages if page.sha256}):
        keys |= {info.key async for info in store.list(lines_prefix(sha256))}
    return keys


async def remove_pages(
    pages: Sequence[PageDocument], *, store: ObjectStore, amqp: AmqpSettings, queues: Queues
) -> None:
    """Delete the objects of pages, whose events erase the rest; queue a removal for missing ones.

    Raises:
        UnavailableError: A server does not answer; repeat the call.
    """
    missing = [
        (page.key, page.sequencer)
        for page in pages
        if not await store.erase(page.key) and page.status != "removed"
    ]
    await queue_removals(missing, bucket=store.bucket, amqp=amqp, queues=queues)


async def prove_pages(
    pages: Sequence[PageDocument], database: Database, *, wait_seconds: float
) -> list[dict[str, Any]]:
    """Wait for the documents of pages to be erased; return the proofs.

    ``removed_at`` is None for documents not erased within ``wait_seconds``.
    """
    repository = PageRepository(database.pages)
    deadline = asyncio.get_running_loop().time() + wait_seconds
    proofs = []
    for page in pages:
        ask = partial(repository.load, page.id)
        left = await polled(ask, lambda each: each.status == "removed", deadline=deadline)
        sources = left.origins or page.origins
        proofs.append(to_proof(left, sources=sources, sha256=left.sha256 or page.sha256))
    return proofs
