"""Cache of refused archives, so that their members do not download them again."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.common.download.errors import DownloadCode, RefusedDownloadError

KEPT_SECONDS = 300.0
KEPT = 1000
"""Cache size; the oldest are evicted first."""


@dataclass(frozen=True)
class _Refusal:
    at: float
    code: DownloadCode
    detail: str
    http_status: int | None


class Refusals:
    """Cache of refusals, for some minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_url: OrderedDict[str, _Refusal] = OrderedDict()

    def add(self, url: str, error: RefusedDownloadError) -> None:
        """Store a refusal."""
        refusal = _Refusal(self._clock(), error.code, error.detail, error.http_status)
        self._by_url[url] = refusal
        self._by_url.move_to_end(url)
        if len(self._by_url) > KEPT:
            self._by_url.popitem(last=False)

    def check(self, url: str) -> None:
        """Raise a cached refusal of an archive.

        Raises:
            RefusedDownloadError: With the same code and detail.
        """
        refusal = self._by_url.get(url)
        if refusal is None:
            return
        if self._clock() - refusal.at > KEPT_SECONDS:
            del self._by_url[url]
            return
        raise RefusedDownloadError(refusal.code, refusal.detail, http_status=refusal.http_status)
