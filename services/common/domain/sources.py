"""Which sources a document keeps: a bounded number, however many URLs lead to the image.

Hosts answer every missing image with the same picture, so one document may have a hundred
thousand sources. The ledger of the fetcher (``fetches``) has those that its document has not.

See docs/decisions/0029-placeholder-images.md.
"""

from collections import Counter

from services.common.domain.records import Source

MOST_SOURCES = 1000
"""Sources that a document keeps; ``sources_count`` goes on."""


def with_source(known: tuple[Source, ...], source: Source) -> tuple[Source, ...]:
    """Add a source where there is room, or as the first of its batch.

    The images of a batch are found by their sources, so each batch keeps one at least.
    """
    if len(known) < MOST_SOURCES:
        return (*known, source)
    batches = Counter(each.batch_id for each in known)
    largest, number = batches.most_common(1)[0]
    if source.batch_id in batches or number == 1:
        return known
    at = max(at for at, each in enumerate(known) if each.batch_id == largest)
    return (*known[:at], source, *known[at + 1 :])
