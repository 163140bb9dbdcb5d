"""Remembers which archives were refused, lest each of their members downloads them again."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from services.common.download.errors import DownloadCode, RefusedDownloadError

KEPT_SECONDS = 300.0
KEPT = 1000
"""The oldest are forgotten first."""


@dataclass(frozen=True)
class _Refusal:
    at: float
    code: DownloadCode
    detail: str
    http_status: int | None


class Refusals:
    """Why archives were refused, for some minutes.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_url: OrderedDict[str, _Refusal] = OrderedDict()

    def add(self, url: str, error: RefusedDownloadError) -> None:
        """Remember a refusal."""
        refusal = _Refusal(self._clock(), error.code, error.detail, error.http_status)
        self._by_url[url] = refusal
        self._by_url.move_to_end(url)
        if len(self._by_url) > KEPT:
            self._by_url.popitem(last=False)

    def check(self, url: str) -> None:
        """Refuse an archive once more, if it was refused a short while ago.

        Raises:
            RefusedDownloadError: It was, with the same code and detail.
        """
        refusal = self._by_url.get(url)
        if refusal is None:
            return
        if self._clock() - refusal.at > KEPT_SECONDS:
            del self._by_url[url]
            return
        raise RefusedDownloadError(refusal.code, refusal.detail, http_status=refusal.http_status)
