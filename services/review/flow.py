"""The flow of images as stages, and what is wrong with it: pure, of a snapshot."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from services.common.adapters.prometheus import Alert
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
    Queues,
)
from services.common.domain.fetcher_answers import Batch
from services.review.overview import Monitoring, Snapshot

DOCTOR = "docreco doctor"
EXPORT = "docreco export --format hf --only-annotated --out dataset"
OURS = frozenset({"MessagesParked", "TargetDown", "TargetMissing"})
"""Alerts of what is shown without them."""
SHOWN_HOSTS = 3
PARKED = {
    OCR_QUEUES.parked: ("Images", "docreco parked list"),
    FETCH_QUEUES.parked: ("Fetches", "docreco parked list --queue fetch"),
    PAGE_QUEUES.parked: ("Pages", "docreco parked list --queue pages"),
}


class Kind(StrEnum):
    """Kind of a note; the class of its badge."""

    PLAIN = "plain"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Note:
    """A remark on a stage."""

    words: str
    kind: Kind = Kind.PLAIN
    path: str = ""
    """Page that shows it."""


@dataclass(frozen=True)
class Stage:
    """A stage of the flow."""

    name: str
    count: int | None
    """None: unknown."""
    what: str
    path: str
    """Page that shows these."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Trouble:
    """A fault, and what mends it."""

    kind: Kind
    what: str
    detail: str = ""
    command: str = ""
    path: str = ""
    """Page that shows it."""


def stages(now: Snapshot, suspects: int | None = None) -> list[Stage]:
    """Return the stages in order; pages only where there are any.

    Args:
        now: The figures.
        suspects: Number of labels that may be wrong; None: unknown.
    """
    monitoring = now.monitoring or Monitoring()
    pages = _pages(now, monitoring)
    has_pages = bool(pages.count or pages.notes)
    return [
        *_lists(now, monitoring),
        *([pages] if has_pages else []),
        _stored(now, monitoring),
        *_images(now, monitoring, suspects),
    ]


def _lists(now: Snapshot, monitoring: Monitoring) -> Iterator[Stage]:
    lists = now.lists.batches if now.lists else []
    running = sum(not each.is_finished for each in lists)
    notes = [Note(f"{running} running", Kind.BUSY, "/batches")] if running else []
    if now.lists and now.lists.next:
        notes.append(Note(f"the newest {len(lists)}"))
    yield Stage(
        "Lists",
        len(lists) if now.lists else None,
        "batch" if len(lists) == 1 else "batches",
        "/batches",
        tuple(notes),
    )
    fetched = _sum(lists, "stored") + _sum(lists, "unchanged")
    yield Stage(
        "Fetched",
        fetched if now.lists else None,
        "of these lists",
        "/batches",
        tuple(
            _notes(
                (_sum(lists, "queued"), "waiting", Kind.BUSY, "/batches"),
                (_sum(lists, "failed"), "failed", Kind.WARN, "/batches"),
                (len(now.hosts or ()), "hosts paused", Kind.WARN, "#wrong"),
                (monitoring.fetched_per_minute, "a minute", Kind.PLAIN, ""),
            )
        ),
    )


def _pages(now: Snapshot, monitoring: Monitoring) -> Stage:
    notes = _notes(
        (_waiting(monitoring, PAGE_QUEUES), "waiting", Kind.BUSY, ""),
        (parked(now).get(PAGE_QUEUES.parked), "parked", Kind.BAD, "#wrong"),
    )
    return Stage("Pages", now.pages, "cut into lines", "/gallery", tuple(notes))


def _stored(now: Snapshot, monitoring: Monitoring) -> Stage:
    waiting = _waiting(monitoring, OCR_QUEUES)
    stopped = parked(now).get(OCR_QUEUES.parked, 0)
    images = now.images
    known = images.read + images.rejected + (waiting or 0) + stopped if images else None
    notes = list(
        _notes(
            (waiting, "waiting to be read", Kind.BUSY, ""),
            (stopped, "parked", Kind.BAD, "#wrong"),
        )
    )
    if waiting is None:
        notes.append(Note("waiting: unknown"))
    return Stage("Stored", known, "images", "/gallery", tuple(notes))


def _images(now: Snapshot, monitoring: Monitoring, suspects: int | None) -> Iterator[Stage]:
    counts = now.images
    read = counts.read if counts else None
    annotated = counts.annotated if counts else None
    with_text = counts.with_text if counts else None
    notes = _notes(
        (counts.rejected if counts else None, "rejected", Kind.WARN, "/gallery?status=rejected"),
        (monitoring.queues.get(REPREDICT_QUEUES.work), "to be read again", Kind.BUSY, ""),
        (monitoring.read_per_minute, "a minute", Kind.PLAIN, ""),
    )
    yield Stage("Read", read, "images", "/gallery?status=predicted", tuple(notes))
    notes = _notes(
        (counts.read - counts.annotated if counts else None, "left", Kind.BUSY, "/queue"),
        (counts.annotated - counts.with_text if counts else None, "without a text", Kind.PLAIN, ""),
        (suspects, "suspect", Kind.WARN, "/suspects"),
    )
    yield Stage("Annotated", annotated, "images", "/gallery?annotated=yes", tuple(notes))
    yield Stage("To export", with_text, "with a text", "/gallery?annotated=ok")


def _notes(*counts: tuple[float | None, str, Kind, str]) -> Iterator[Note]:
    """Yield a note for each count that is not 0 or unknown."""
    for count, words, kind, path in counts:
        if count and round(count):
            yield Note(f"{round(count):,} {words}", kind, path)


def parked(now: Snapshot) -> Mapping[str, int]:
    """Return the messages of the parking queues, as far as they are known."""
    queues = now.monitoring.queues if now.monitoring else {}
    known = {name: count for name, count in queues.items() if name in PARKED}
    return known | dict(now.parked or {})


def troubles(now: Snapshot, mean: float | None) -> list[Trouble]:
    """Return what is wrong, the worst first.

    Args:
        now: The figures.
        mean: Mean score of the newest images.
    """
    monitoring = now.monitoring or Monitoring()
    found = [*_away(now, monitoring), *_stopped(now), *_quality(monitoring, mean)]
    alerts = (_alert(each) for each in monitoring.alerts if each.name not in OURS)
    return sorted([*found, *alerts], key=lambda each: each.kind is not Kind.BAD)


def _away(now: Snapshot, monitoring: Monitoring) -> Iterator[Trouble]:
    for name, reason in now.away.items():
        yield Trouble(Kind.BAD, f"{name} does not answer", reason, DOCTOR)
    for name in monitoring.down:
        yield Trouble(Kind.BAD, f"{name} does not answer Prometheus", command=DOCTOR)


def _stopped(now: Snapshot) -> Iterator[Trouble]:
    for queue, count in parked(now).items():
        if count and queue in PARKED:
            what, command = PARKED[queue]
            yield Trouble(Kind.BAD, f"{what} that failed for good: {count:,} parked", "", command)
    if now.hosts:
        named = ", ".join(f"{each.host} ({each.reason})" for each in now.hosts[:SHOWN_HOSTS])
        yield Trouble(Kind.WARN, f"Paused hosts: {len(now.hosts)}", named, "docreco hosts")


def _quality(monitoring: Monitoring, mean: float | None) -> Iterator[Trouble]:
    if mean is not None and monitoring.threshold is not None and mean < monitoring.threshold:
        what = f"Mean score of the newest images: {mean:.2f}, below {monitoring.threshold:g}"
        yield Trouble(Kind.BAD, what, path="/gallery?order=worst")


def _alert(alert: Alert) -> Trouble:
    said, is_critical = alert.annotations, alert.labels.get("severity") == "critical"
    return Trouble(
        Kind.BAD if is_critical else Kind.WARN,
        said.get("summary") or alert.name,
        said.get("description", ""),
        path=f"/alerts/{alert.name}",
    )


def _waiting(monitoring: Monitoring, queues: Queues) -> int | None:
    """Return the waiting messages, also those that wait for a retry; None if unknown."""
    names = (queues.work, *queues.delays)
    known = [monitoring.queues[name] for name in names if name in monitoring.queues]
    return sum(known) if known else None


def _sum(lists: Iterable[Batch], outcome: str) -> int:
    return sum(each.counts.get(outcome, 0) for each in lists)
