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
from services.common.domain.fetcher_answers import BatchStatus
from services.common.domain.texts import Plural, Text
from services.review.overview import Monitoring, Snapshot

DOCTOR = "docreco doctor"
EXPORT = "docreco export --format hf --only-annotated --out dataset"
OURS = frozenset({"MessagesParked", "TargetDown", "TargetMissing"})
"""Alerts of what is shown without them."""
SHOWN_HOSTS = 3
IMAGES = Text("images")
RUNNING = Plural("%(count)s running", "%(count)s running")
WAITING = Plural("%(count)s waiting", "%(count)s waiting")
FAILED = Plural("%(count)s failed", "%(count)s failed")
PARKED_NOTE = Plural("%(count)s parked", "%(count)s parked")
REJECTED = Plural("%(count)s rejected", "%(count)s rejected")
LEFT = Plural("%(count)s left", "%(count)s left")
HOSTS_PAUSED = Plural("%(count)s host paused", "%(count)s hosts paused")
WAITING_TO_BE_READ = Plural("%(count)s waiting to be read", "%(count)s waiting to be read")
TO_BE_READ_AGAIN = Plural("%(count)s to be read again", "%(count)s to be read again")
WITHOUT_TEXT = Plural("%(count)s without a text", "%(count)s without a text")
TO_DECIDE = Plural("%(count)s to decide", "%(count)s to decide")
SUSPECT = Plural("%(count)s suspect", "%(count)s suspect")
A_MINUTE = Plural("%(count)s a minute", "%(count)s a minute")
PARKED = {
    OCR_QUEUES.parked: (
        Text("Images that failed for good: %(count)s parked"),
        "docreco parked list",
    ),
    FETCH_QUEUES.parked: (
        Text("Fetches that failed for good: %(count)s parked"),
        "docreco parked list --queue fetch",
    ),
    PAGE_QUEUES.parked: (
        Text("Pages that failed for good: %(count)s parked"),
        "docreco parked list --queue pages",
    ),
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

    words: Text
    kind: Kind = Kind.PLAIN
    path: str = ""
    """Page that shows it."""


@dataclass(frozen=True)
class Stage:
    """A stage of the flow."""

    name: Text
    count: int | None
    """None: unknown."""
    what: Text
    path: str
    """Page that shows these."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Trouble:
    """A fault, and how to fix it."""

    kind: Kind
    what: Text | str
    """A string is that of an alert, in English."""
    detail: str = ""
    command: str = ""
    path: str = ""
    """Page that shows it."""


def stages(now: Snapshot, suspects: int | None = None) -> list[Stage]:
    """Return the stages in order; pages only where there are any."""
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
    notes = list(_notes((running, RUNNING, Kind.BUSY, "/batches")))
    if now.lists and now.lists.next:
        notes.append(Note(Text("the newest %(count)s", {"count": len(lists)})))
    yield Stage(
        Text("Lists"),
        len(lists) if now.lists else None,
        Plural("batch", "batches").of(len(lists)),
        "/batches",
        tuple(notes),
    )
    fetched = _sum(lists, "stored") + _sum(lists, "unchanged")
    yield Stage(
        Text("Fetched"),
        fetched if now.lists else None,
        Text("of these lists"),
        "/batches",
        tuple(
            _notes(
                (_sum(lists, "queued"), WAITING, Kind.BUSY, "/batches"),
                (_sum(lists, "failed"), FAILED, Kind.WARN, "/batches"),
                (
                    len(now.hosts or ()),
                    HOSTS_PAUSED,
                    Kind.WARN,
                    "#wrong",
                ),
                (monitoring.fetched_per_minute, A_MINUTE, Kind.PLAIN, ""),
            )
        ),
    )


def _pages(now: Snapshot, monitoring: Monitoring) -> Stage:
    notes = _notes(
        (_waiting(monitoring, PAGE_QUEUES), WAITING, Kind.BUSY, ""),
        (parked(now).get(PAGE_QUEUES.parked), PARKED_NOTE, Kind.BAD, "#wrong"),
    )
    return Stage(Text("Pages"), now.pages, Text("cut into lines"), "/gallery", tuple(notes))


def _stored(now: Snapshot, monitoring: Monitoring) -> Stage:
    waiting = _waiting(monitoring, OCR_QUEUES)
    stopped = parked(now).get(OCR_QUEUES.parked, 0)
    images = now.images
    known = images.read + images.rejected + (waiting or 0) + stopped if images else None
    notes = list(
        _notes(
            (
                waiting,
                WAITING_TO_BE_READ,
                Kind.BUSY,
                "",
            ),
            (stopped, PARKED_NOTE, Kind.BAD, "#wrong"),
        )
    )
    if waiting is None:
        notes.append(Note(Text("waiting: unknown")))
    return Stage(Text("Stored"), known, IMAGES, "/gallery", tuple(notes))


def _images(now: Snapshot, monitoring: Monitoring, suspects: int | None) -> Iterator[Stage]:
    counts = now.images
    read = counts.read if counts else None
    annotated = counts.annotated if counts else None
    with_text = counts.with_text if counts else None
    notes = _notes(
        (counts.rejected if counts else None, REJECTED, Kind.WARN, "/gallery?status=rejected"),
        (
            monitoring.queues.get(REPREDICT_QUEUES.work),
            TO_BE_READ_AGAIN,
            Kind.BUSY,
            "",
        ),
        (monitoring.read_per_minute, A_MINUTE, Kind.PLAIN, ""),
    )
    yield Stage(Text("Read"), read, IMAGES, "/gallery?status=predicted", tuple(notes))
    notes = _notes(
        (counts.read - counts.annotated if counts else None, LEFT, Kind.BUSY, "/queue"),
        (
            counts.annotated - counts.with_text if counts else None,
            WITHOUT_TEXT,
            Kind.PLAIN,
            "",
        ),
        (counts.to_decide if counts else None, TO_DECIDE, Kind.WARN, "/queue?mode=decide"),
        (suspects, SUSPECT, Kind.WARN, "/suspects"),
    )
    yield Stage(Text("Annotated"), annotated, IMAGES, "/gallery?annotated=yes", tuple(notes))
    yield Stage(Text("To export"), with_text, Text("with a text"), "/gallery?annotated=ok")


def _notes(*counts: tuple[float | None, Plural, Kind, str]) -> Iterator[Note]:
    """Yield a note for each count that is not 0 or unknown."""
    for count, words, kind, path in counts:
        if count and round(count):
            yield Note(words.of(round(count)), kind, path)


def parked(now: Snapshot) -> Mapping[str, int]:
    """Return the messages of the parking queues, as far as they are known."""
    queues = now.monitoring.queues if now.monitoring else {}
    known = {name: count for name, count in queues.items() if name in PARKED}
    return known | dict(now.parked or {})


def troubles(now: Snapshot, mean: float | None) -> list[Trouble]:
    """Return what is wrong, the worst first."""
    monitoring = now.monitoring or Monitoring()
    found = [*_away(now, monitoring), *_stopped(now), *_quality(monitoring, mean)]
    alerts = (_alert(each) for each in monitoring.alerts if each.name not in OURS)
    return sorted([*found, *alerts], key=lambda each: each.kind is not Kind.BAD)


def _away(now: Snapshot, monitoring: Monitoring) -> Iterator[Trouble]:
    for name, reason in now.away.items():
        yield Trouble(
            Kind.BAD, Text("%(server)s does not answer", {"server": name}), reason, DOCTOR
        )
    for name in monitoring.down:
        what = Text("%(server)s does not answer Prometheus", {"server": name})
        yield Trouble(Kind.BAD, what, command=DOCTOR)


def _stopped(now: Snapshot) -> Iterator[Trouble]:
    for queue, count in parked(now).items():
        if count and queue in PARKED:
            text, command = PARKED[queue]
            what = Text(text.message, {"count": count})
            yield Trouble(Kind.BAD, what, "", command)
    if now.hosts:
        named = ", ".join(f"{each.host} ({each.reason})" for each in now.hosts[:SHOWN_HOSTS])
        what = Text("Paused hosts: %(count)s", {"count": len(now.hosts)})
        yield Trouble(Kind.WARN, what, named, "docreco hosts")


def _quality(monitoring: Monitoring, mean: float | None) -> Iterator[Trouble]:
    if mean is not None and monitoring.threshold is not None and mean < monitoring.threshold:
        values = {"mean": mean, "threshold": monitoring.threshold}
        what = Text("Mean score of the newest images: %(mean)s, below %(threshold)s", values)
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


def _sum(lists: Iterable[BatchStatus], outcome: str) -> int:
    return sum(getattr(each.counts, outcome) for each in lists)
