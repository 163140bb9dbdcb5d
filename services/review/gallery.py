"""Select the images of the gallery."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import (
    SortKey,
    by_change,
    by_score,
    by_score_descending,
    paginate,
)
from services.common.domain.accuracy import confusions
from services.common.domain.annotations import collapse
from services.common.domain.double_reading import READ_TWICE, DoubleState
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import ImageFilter, Limits
from services.common.domain.records import Quality
from services.quality.annotated import how_of, reference_text
from services.quality.tally import length_of
from services.review.found_page import FoundPage, decode, fill_page
from services.review.search_limits import search_seconds

PAGE = 24
FIELDS = dict.fromkeys(
    (
        "prediction",
        "annotation",
        "double_reading.state",
        "annotation_conflict",
        "placeholder",
        "sources_count",
        *(f"sources.{name}" for name in ("kind", "collection", "name", "batch_id", "group")),
        "status",
        "error",
        "indexed_at",
        "key",
        "etag",
    ),
    1,
)


class Order(StrEnum):
    """Sort order of images."""

    NEWEST = "newest"
    WORST = "worst"
    BEST = "best"


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _printable(value: object) -> object:
    return "".join(filter(str.isprintable, value)).strip() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_printable), Field(max_length=200)]
Score = Annotated[Annotated[float, Field(ge=0, le=1)] | None, BeforeValidator(_none_if_empty)]


class GalleryForm(Limits):
    """Filter of a page in its address."""

    host: Text = ""
    cursor: Annotated[str, Field(max_length=4000)] = ""
    wait: bool = False
    """Whether the page was shown already, and waits for the rest of a search."""

    def parameters(self, cursor: str = "") -> list[tuple[str, str]]:
        """Return the query parameters of the page after a cursor."""
        given = self.model_dump(mode="json", exclude_defaults=True, exclude={"cursor", "wait"})
        given |= {"cursor": cursor} if cursor else {}
        lists = ((name, each if isinstance(each, list) else [each]) for name, each in given.items())
        return [(name, str(value)) for name, values in lists for value in values]


class Filters(GalleryForm):
    """Filters of the gallery's form."""

    order: Order = Order.NEWEST
    status: Literal["", "predicted", "rejected", "removed"] = ""
    low: Score = None
    high: Score = None
    annotated: Literal["", "yes", "no", "ok", "unreadable", "not_a_line", "cut_wrong"] = ""
    q: Text = ""
    model: Text = ""
    """As it is shown."""
    how: Literal["", "given", "accepted", "corrected", "transcribed", "unknown"] = ""
    length: Text = ""
    """Name of a band of lengths of the text."""
    errors: Literal["", "none", "some"] = ""
    """Of the prediction, against the text."""
    double: Literal["", "waiting", "agreed", "different", "decided", "twice"] = ""
    """State of a double reading, or all that were read twice."""
    reader: Text = ""
    """One of its two people."""
    misread: Annotated[str, Field(max_length=10)] = ""
    """A confusion that the prediction has, in words."""

    @property
    def needs_text(self) -> bool:
        """Whether only images with a reference text can match."""
        return bool(self.how or self.length or self.errors or self.misread)

    def match_reading(self, document: ImageDocument) -> bool:
        """Whether model, text and errors of an image match, which no query finds."""
        prediction, reference = document.prediction, reference_text(document)
        if self.model and (prediction is None or prediction.model != self.model):
            return False
        if not self.needs_text:
            return True
        if prediction is None or reference is None:
            return False
        read = confusions(reference=reference, hypothesis=collapse(prediction.text))
        return (
            self.how in {"", how_of(document)}
            and self.length in {"", length_of(len(reference))}
            and self.errors in {"", "some" if read else "none"}
            and (not self.misread or any(each.words == self.misread for each in read))
        )


async def find_page(images: ImageRepository, filters: Filters) -> FoundPage[ImageDocument]:
    """Return the images that match the filters.

    Raises:
        InvalidCursorError: The cursor is invalid.
    """
    key = _sort_key(filters)
    after = decode(filters.cursor, key) if filters.cursor else None
    fields = FIELDS | ({"sources.metadata": 1} if filters.where else {})
    parts = paginate(images, where(filters), key, after=after, limit=_limit(filters), fields=fields)
    seconds = search_seconds(wait=filters.wait)
    return await fill_page(parts, key, size=PAGE, seconds=seconds, matches=filters.match_reading)


def where(filters: Filters) -> ImageFilter:
    """Return the filter of images, beside the range of the sort key."""
    status = filters.status or ("predicted" if filters.needs_text else "")
    is_by_change = filters.order is Order.NEWEST
    has_range = is_by_change and not (filters.low is None and filters.high is None)
    is_any = filters.annotated in {"", "yes"}
    said = {"yes": True, "no": False, "": None, **{each.value: each for each in Quality}}
    return ImageFilter(
        filters,
        status=(status,) if status else (),
        scores=_range(filters) if has_range else None,
        annotated=Quality.OK if filters.needs_text and is_any else said[filters.annotated],
        double=_double(filters),
        reader=filters.reader or None,
        read_by=filters.model.partition(" ")[2] or None,
        host=filters.host or None,
        text=filters.q or None,
    )


def _double(filters: Filters) -> tuple[DoubleState, ...]:
    if filters.double == "twice":
        return READ_TWICE
    return (DoubleState(filters.double),) if filters.double else ()


def _limit(filters: Filters) -> int:
    """Return how many documents a query reads; of those that match, few may be shown."""
    return 4 * PAGE if filters.needs_text or filters.model else PAGE + 1


def _range(filters: Filters) -> tuple[float, float]:
    low = 0.0 if filters.low is None else filters.low
    high = 1.0 if filters.high is None else filters.high
    return min(low, high), max(low, high)


def _sort_key(filters: Filters) -> SortKey:
    low, high = _range(filters)
    if filters.order is Order.NEWEST:
        return by_change(datetime.now(tz=UTC))
    return by_score(low, high) if filters.order is Order.WORST else by_score_descending(low, high)
