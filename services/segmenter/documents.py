"""Decide how events and segmentations change the document of a page: pure functions.

Each decision is based on the current document, and is repeated after a conflict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from services.common.domain.errors import TransientError
from services.common.domain.events import ObjectEvent
from services.common.domain.page import GroundTruth, Line, ProposedText, Turn
from services.common.domain.page_document import PageDocument, Run
from services.common.domain.page_request import PageRequest
from services.common.domain.provenance import Provenance
from services.common.domain.records import Rejection
from services.segmenter.merging import Merged
from services.segmenter.provenance import group_of, part_of

Code = Literal[
    "segmented",
    "cut",
    "transcribed",
    "rendered",
    "rejected",
    "duplicate",
    "stale",
    "removed",
    "forgotten",
    "gone",
    "folder",
    "ignored",
]
"""Outcome of an event."""
HANDLED = frozenset(get_args(Code))
_NOT_RENDERED = {"rendered": None, "unrendered": None, "rendering_seconds": None}


class PageDecision(NamedTuple):
    """New state of a page's document, and the outcome."""

    code: Code
    document: PageDocument


@dataclass(frozen=True)
class PageBytes:
    """The object of a page as it was read."""

    etag: str
    size: int
    content_type: str | None
    sha256: str | None
    """Hexadecimal; None if the object was too large to read."""


@dataclass(frozen=True)
class Segmentation:
    """Lines of a page and the run that found them."""

    width: int
    height: int
    merged: Merged
    run: Run
    text_layer: ProposedText | None = None


@dataclass(frozen=True)
class Rendered:
    """A PDF or TIFF whose pages are stored as images."""

    pages: int
    left: int = 0
    """Of them, the last ones, which are not rendered yet."""
    seconds: float = 0.0
    """CPU time that the others took."""


@dataclass(frozen=True)
class Transcribed:
    """A page whose lines the fetcher cuts by its transcription."""

    width: int
    height: int
    transcript: GroundTruth


Result = Segmentation | Transcribed | Rendered | Rejection


def is_up_to_date(page: PageDocument, event: ObjectEvent, version: str) -> bool:
    """Return whether these bytes were segmented by this version already, turned as they are now."""
    if page.etag != event.etag or page.status != "segmented":
        return False
    if not page.is_detected:
        return not page.unrendered
    return bool(page.runs and page.runs[-1].matches(version=version, turn=page.turn))


def stored(
    page: PageDocument,
    event: ObjectEvent,
    provenance: Provenance,
    read: tuple[PageBytes, Result] | None,
    now: datetime,
) -> PageDecision:
    """Decide about a written object.

    Args:
        page: Current state.
        event: Of the write.
        provenance: Of the event.
        read: The bytes and results; None if ``is_up_to_date`` is True.
        now: The time.
    """
    after = page.with_source(provenance)
    if event.is_older_than(page.sequencer):
        late = after.without_details() if page.status == "removed" else after
        return PageDecision("stale", late if page.exists else page)
    after = after.after_write(event, now).having(
        group=group_of(event, provenance), document=part_of(event)
    )
    if page.removed_at is not None:
        after = after.having(removed_at=None)
    if read is None:
        return PageDecision("duplicate", after)
    size, result = read
    after = after.having(
        etag=size.etag,
        size=size.size,
        content_type=size.content_type,
        sha256=size.sha256,
        turn=page.turn if page.sha256 == size.sha256 else 0,
    )
    match result:
        case Segmentation():
            return PageDecision("segmented", _segmented(after, result, now))
        case Transcribed(width=width, height=height, transcript=truth):
            known = {"width": width, "height": height, "ground_truth": truth}
            return PageDecision("transcribed", _with(after, **known, status="segmented"))
        case Rendered():
            known = {
                "rendered": result.pages,
                "unrendered": result.left or None,
                "rendering_seconds": result.seconds,
            }
            return PageDecision("rendered", _with(after, **known, status="segmented"))
        case Rejection():
            is_same = size.sha256 is not None and size.sha256 == page.sha256
            lines = page.lines if is_same else ()  # what people drew comes back with a later run
            return PageDecision(
                "rejected", _with(after, lines=lines, status="rejected", error=result)
            )


def turned(page: PageDocument, event: ObjectEvent, request: PageRequest) -> PageDocument:
    """Return a page as a person turned it, if they saw these bytes, and no later one did it."""
    is_late = page.turned_at and (request.at is None or request.at < page.turned_at)
    if request.turn is None or page.etag != event.etag or is_late:
        return page
    return page.having(turn=request.turn, turned_at=request.at)


def lines_before(page: PageDocument, sha256: str, turn: Turn) -> tuple[Line, ...]:
    """Return the lines that a page has before others are found, if they are of the same bytes.

    Raises:
        TransientError: The page was turned while lines were looked for.
    """
    if page.sha256 != sha256:
        return ()
    if page.turn != turn:
        raise TransientError(f"the page was turned by {page.turn} degrees meanwhile")
    return page.lines


def removed(page: PageDocument, event: ObjectEvent, now: datetime) -> PageDecision:
    """Decide about a removal: lines are erased, sources are kept."""
    if event.is_older_than(page.sequencer):
        return PageDecision("stale", page)
    if not page.exists and event.key.endswith("/"):
        return PageDecision("folder", page)
    erased = _with(page.without_details()).having(runs=(), ground_truth=None, group=None)
    return PageDecision("removed", erased.after_removal(event, now))


def with_spared(page: PageDocument, sha256: str, lines: Sequence[Line]) -> PageDecision:
    """Keep lines as superseded that were annotated while their page was segmented again."""
    known, keys = {line.id for line in page.lines}, {line.id: line.key for line in lines}
    before = (
        line if line.key else line.having(key=keys.get(line.id)) for line in page.lines
    )  # the picture of one that a person replaced is there after all
    added = [line.having(state="superseded") for line in lines if line.id not in known]
    if page.sha256 != sha256 or page.status == "removed":
        return PageDecision("stale", page)
    return PageDecision("segmented", page.having(lines=(*before, *added)))


def _segmented(page: PageDocument, result: Segmentation, now: datetime) -> PageDocument:
    runs = [run for run in page.runs if run.id != result.run.id]
    return page.having(
        width=result.width,
        height=result.height,
        status="segmented",
        **_NOT_RENDERED,
        error=None,
        lines=result.merged.lines,
        text_layer=result.text_layer,
        runs=(*runs, result.run.having(at=now)),
    )


def _with(page: PageDocument, **fields: object) -> PageDocument:
    """Set the state of a page, by default without lines."""
    empty = {"lines": (), "runs": page.runs, "error": None, **_NOT_RENDERED}
    return page.having(**{**empty, **fields})
