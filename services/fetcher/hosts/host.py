"""What is known of one host: how it answers, and until when it is left alone."""

import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.common.backoff import doubled

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
_NEWS = 0.2
"""Weight of the last download in the mean of their durations."""


@dataclass(eq=False)
class Host:
    """One host, as a process sees it; times are those of the event loop, in seconds.

    Attributes:
        name: As in URLs: name or address, and the port where it is not the usual one.
        waiting: Turns asked for, the first come first.
        active: Turns taken.
        earliest: When the next turn may begin.
        crawl_delay: Seconds between two turns that it asks for itself.
        mean_seconds: Duration of a turn.
        paused_until: It is left alone until then.
        is_silent: It does not answer: one at a time tries it once its pause is over.
        is_known: It answered before; until then, one at a time is enough, and its robots.txt is
            read.
    """

    name: str
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)
    active: int = 0
    earliest: float = 0.0
    crawl_delay: float = 0.0
    mean_seconds: float = 0.0
    paused_until: float = 0.0
    is_silent: bool = False
    is_known: bool = False
    is_listed: bool = False
    timer: "asyncio.TimerHandle | None" = None
    _silences: int = 0
    _pauses: int = 0

    def answered(self) -> None:
        """Note that it answered, whatever it said."""
        self._silences = self._pauses = 0
        self.is_silent = False
        self.is_known = True

    def was_silent(self, now: float) -> bool:
        """Note that it did not answer; return whether it is left alone from now on."""
        self._silences += 1
        most = SILENT_IN_A_ROW if self.is_known else SILENT_AT_FIRST
        if self._silences < most or now < self.paused_until:
            return False
        self.is_silent = True
        self._pause(now, _growing(FIRST_SILENCE_SECONDS, self._pauses))
        return True

    def asked_for_peace(self, now: float, seconds: float | None) -> None:
        """Note that it answered that it is asked too often.

        Args:
            now: Time.
            seconds: How long it wants to be left alone, where it said so.
        """
        self._silences = 0
        self.is_silent = False
        self.is_known = True
        if now >= self.paused_until or seconds is not None:
            self._pause(now, seconds or _growing(FIRST_THROTTLE_SECONDS, self._pauses))

    def took(self, seconds: float) -> None:
        """Note the duration of a turn."""
        self.mean_seconds += _NEWS * (seconds - self.mean_seconds)

    def is_idle(self, now: float) -> bool:
        """Whether nothing is under way, or due, with it."""
        is_busy = self.waiting or self.active or self.timer
        return not is_busy and now >= max(self.earliest, self.paused_until)

    @property
    def is_remarkable(self) -> bool:
        """Whether it gave trouble that is not over."""
        return self._silences > 0 or self._pauses > 0

    def _pause(self, now: float, seconds: float) -> None:
        self._pauses += 1
        self.paused_until = max(self.paused_until, now + seconds)


def _growing(first: float, times: int) -> float:
    """Return an exponential backoff with jitter, in seconds."""
    wait = doubled(first, times, longest=LONGEST_PAUSE_SECONDS)
    return wait * random.uniform(0.75, 1.25)  # noqa: S311
