"""Where an image came from, as its document keeps it: bounded, however many URLs lead to it.

Hosts answer every missing image with the same picture, so one document may have a hundred
thousand sources. The ledger of the fetcher (``fetches``) has those that its document has not.

See docs/decisions/0029-placeholder-images.md.
"""

from collections import Counter
from typing import Any

from services.common.adapters.mongo import Document
from services.common.domain.provenance import PLACEHOLDER_SOURCES, Provenance

MOST_SOURCES = 1000
"""Sources that a document keeps; ``sources_count`` goes on."""


def source_fields(
    document: Document | None, provenance: Provenance, *, is_repeated: bool = False
) -> dict[str, Any]:
    """Return the fields that one more source changes; none where it is known.

    Args:
        document: As it is; None: there is none.
        provenance: Where the image came from this time.
        is_repeated: Whether this very event is in the document: beyond ``MOST_SOURCES`` the
            document can't tell, and a source that comes again is counted again.
    """
    known = list((document or {}).get("sources") or [])
    count = max((document or {}).get("sources_count") or 0, len(known))
    url = provenance.source_url
    is_known = url is None or any(source["url"] == url for source in known)
    if is_known or (is_repeated and count > len(known)):
        return {"sources": known, "sources_count": count} if document is None else {}
    source = {"url": url, "batch_id": provenance.batch_id, "fetched_at": provenance.fetched_at}
    fields = {"sources": _with(known, source), "sources_count": count + 1}
    return fields | ({"placeholder": True} if count + 1 > PLACEHOLDER_SOURCES else {})


def is_placeholder(document: Document | None, fields: Document) -> bool:
    """Return whether a document shows a placeholder once ``fields`` are set."""
    return bool(fields.get("placeholder") or (document or {}).get("placeholder"))


def _with(known: list[Document], source: Document) -> list[Document]:
    """Add a source where there is room, or as the first of its batch.

    The images of a batch are found by their sources, so each batch keeps one at least.
    """
    if len(known) < MOST_SOURCES:
        return [*known, source]
    batches = Counter(each["batch_id"] for each in known)
    largest, number = batches.most_common(1)[0]
    if source["batch_id"] in batches or number == 1:
        return known
    at = max(at for at, each in enumerate(known) if each["batch_id"] == largest)
    return [*known[:at], source, *known[at + 1 :]]
