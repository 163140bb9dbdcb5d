"""Time limits of searches for pages (docs/decisions/0033-keyset-pages-read-ranges.md).

A page answers within ``FIRST_SECONDS``, with what it has found until then; if that is not all, it
asks for itself again, with ``wait``.
"""

FIRST_SECONDS = 0.1
SEARCH_SECONDS = 5.0
"""The page then offers to continue the search."""


def search_seconds(*, wait: bool) -> float:
    """Return the time limit of a search.

    Args:
        wait: Whether the page was shown already, and waits for the rest.
    """
    return SEARCH_SECONDS if wait else FIRST_SECONDS
