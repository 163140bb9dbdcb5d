"""State of one host: how it answers, how fast it may be asked, and until when it is paused.

See docs/decisions/0028-slow-hosts-are-delayed.md.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.common.runtime.backoff import doubled

if TYPE_CHECKING:
    import asyncio

SILENT_IN_A_ROW = 5
"""So many downloads in a row that got no answer make a host one that is not there."""
SILENT_AT_FIRST = 3
"""The same for one that never answered yet."""
FIRST_SILENCE_SECONDS = 30.0
FIRST_THROTTLE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 600.0
"""Of those that the host did not ask for."""
PATIENCE_SECONDS = 1800.0
LEAST_THROTTLES = 3
"""A host that throttles every request for ``PATIENCE_SECONDS``, so often at least, is given up."""
_NEWS = 0.2
"""Weight of the last download in the mean of their durations."""


@dataclass(frozen=True)
class HostState:
    """What is known of a host beyond one process; times are in seconds from now."""

    pause_seconds: float = 0.0
    """It is not asked until then."""
    next_slot_seconds: float = 0.0
    """When its rate limit allows the next request."""
    crawl_delay: float = 0.0
    is_silent: bool = False
    pauses: int = 0
    """In a row, without an answer in between."""
    paused_for_seconds: float = 0.0
    """Since the first of them began."""


@dataclass(eq=False)
class Host:
    """One host, as a process sees it; times are those of the event loop, in seconds.

    Attributes:
        name: As in URLs: name or address, and the port where it is not the usual one.
        is_own: It is no host, but a file that was sent: nobody is to be spared.
        waiting: Slots asked for, the first come first.
        active: Slots taken.
        granted: When the last slot was given.
        earliest: When the next slot may be given.
        reserved_until: Delayed jobs have slots up to then.
        crawl_delay: Seconds between two requests that it asks for itself.
        mean_seconds: Duration of a download.
        paused_until: It is not asked until then.
        is_silent: It does not answer: one at a time tries it once its pause is over.
        is_known: It answered before; until then, one at a time is enough, and its robots.txt is
            read.
        generation: Of the scheduler, when the stored state was read.
        is_stored: Its pause or Crawl-delay is stored, so that it may be forgotten here.
    """

    name: str
    is_own: bool = False
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)
    active: int = 0
    granted: float = 0.0
    earliest: float = 0.0
    reserved_until: float = 0.0
    crawl_delay: float = 0.0
    mean_seconds: float = 0.0
    paused_until: float = 0.0
    is_silent: bool = False
    is_known: bool = False
    is_listed: bool = False
    generation: int = -1
    is_stored: bool = False
    timer: "asyncio.TimerHandle | None" = None
    _silences: int = 0
    _pauses: int = 0
    _paused_since: float = 0.0

    def answered(self) -> None:
        """Note that it answered, whatever it said."""
        self._silences = self._pauses = 0
        self.is_silent = False
        self.is_known = True

    def was_silent(self, now: float) -> None:
        """Note that it did not answer: after some times in a row it is paused."""
        self._silences += 1
        most = SILENT_IN_A_ROW if self.is_known else SILENT_AT_FIRST
        if self._silences >= most and now >= self.paused_until:
            self.is_silent = True
            self._pause(now, _growing(FIRST_SILENCE_SECONDS, self._pauses))

    def throttled(self, now: float, retry_after: float | None) -> None:
        """Note that it answered that it is asked too often.

        Args:
            now: Time.
            retry_after: Seconds until it wants to be asked again, where it said so. Asked again and
                again it gets longer pauses all the same.
        """
        self._silences = 0
        self.is_silent = False
        self.is_known = True
        if now >= self.paused_until:
            self._pause(now, max(retry_after or 0, _growing(FIRST_THROTTLE_SECONDS, self._pauses)))
        else:  # an answer to a request that was under way when the pause began
            self.paused_until = max(self.paused_until, now + (retry_after or 0))

    def took(self, seconds: float) -> None:
        """Note the duration of a download."""
        self.mean_seconds += _NEWS * (seconds - self.mean_seconds)

    def is_idle(self, now: float) -> bool:
        """Whether it can be forgotten: nothing is under way with it, and nothing due is lost."""
        if self.waiting or self.active or self.timer:
            return False
        return self.is_stored or now >= max(self.earliest, self.paused_until)

    def is_given_up(self, now: float) -> bool:
        """Whether jobs fail while it is paused, instead of being delayed."""
        is_hopeless = (
            self._pauses >= LEAST_THROTTLES and now - self._paused_since >= PATIENCE_SECONDS
        )
        return self.is_silent or is_hopeless

    @property
    def is_remarkable(self) -> bool:
        """Whether it gave trouble that is not over."""
        return self._silences > 0 or self._pauses > 0

    def state(self, now: float) -> HostState:
        """Return what another process has to know of it."""
        return HostState(
            pause_seconds=max(0.0, self.paused_until - now),
            next_slot_seconds=max(0.0, self.earliest - now),
            crawl_delay=self.crawl_delay,
            is_silent=self.is_silent,
            pauses=self._pauses,
            paused_for_seconds=now - self._paused_since if self._pauses else 0.0,
        )

    def restore(self, state: HostState, now: float) -> None:
        """Take over what another process, or an earlier one, knew of it."""
        self.earliest = max(self.earliest, now + state.next_slot_seconds)
        self.crawl_delay = max(self.crawl_delay, state.crawl_delay)
        if now + state.pause_seconds > max(now, self.paused_until):
            self.paused_until = now + state.pause_seconds
            self.is_silent = state.is_silent
            self._pauses = state.pauses
            self._paused_since = now - state.paused_for_seconds

    def _pause(self, now: float, seconds: float) -> None:
        if not self._pauses:
            self._paused_since = now
        self._pauses += 1
        self.paused_until = max(self.paused_until, now + seconds)


def _growing(first: float, times: int) -> float:
    """Return an exponential backoff with jitter, in seconds."""
    wait = doubled(first, times, longest=LONGEST_PAUSE_SECONDS)
    return wait * random.uniform(0.75, 1.25)  # noqa: S311
