"""Waits that grow."""

MOST_DOUBLINGS = 20
"""By then any wait is the longest; a power of hundreds would be too large for a float."""


def doubled(first: float, times: int, *, longest: float) -> float:
    """Return a wait that was doubled some times, in seconds, and is no longer than the longest."""
    return min(longest, first * 2.0 ** min(times, MOST_DOUBLINGS))
