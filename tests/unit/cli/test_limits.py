"""Limits of the images of a command or a page, and their parsing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer

from services.cli.limits import limited, parse_time, to_limits
from services.common.adapters.image_repository import narrowed, to_query
from services.common.domain.image_filter import ImageFilter, Limits

DAY = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30", DAY),
        ("2026-11-30T14:00", DAY.replace(hour=14)),
        ("2026-11-30 14:00+02:00", DAY.replace(hour=12)),
    ],
)
def test_time_is_read_as_utc_where_it_has_no_zone(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(("text", "hours"), [("30m", 0.5), ("3h", 3), ("2d", 48), ("4w", 672)])
def test_length_of_time_is_before_now(text: str, hours: float) -> None:
    at = parse_time(text)
    assert at is not None
    ago = datetime.now(tz=UTC) - at
    assert abs(ago - timedelta(hours=hours)) < timedelta(minutes=1)


def test_time_alone_is_of_today() -> None:
    now = datetime.now(tz=UTC)
    at = parse_time("14:05")
    assert at is not None
    assert (at.hour, at.minute) == (14, 5)
    assert abs(at - now) < timedelta(days=1)


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "-1d", "7y", "99999w", "7d ", "25:00", "0001-01-01T00:00+23:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1916", ["1916", 1916]),
        ("3.50", ["3.50", 3.5]),
        ("true", ["true", True]),
        ("", [""]),
        ("a=b", ["a=b"]),
        *((each, [each]) for each in ("Ada", "null", '"1916"', "NaN", "1e999", "9" * 19)),
        *((each, [each]) for each in ("9" * 400, "-" + "9" * 400, "9" * 5000, "[" * 5000)),
    ],
)
def test_metadata_is_found_by_text_and_by_typed_value(value: str, expected: list[Any]) -> None:
    assert to_limits(where=[f"metadata.year={value}"]).metadata == {"year": expected}


@pytest.mark.parametrize(
    "text", ["year=1916", "metadata.=1", "metadata.year", "metadata.$where=1", "metadata.a..b=1"]
)
def test_condition_that_is_none_of_metadata_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"metadata\.KEY=VALUE"):
        to_limits(where=[text])


def test_second_value_of_a_key_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match=r"metadata\.year has several values"):
        to_limits(where=["metadata.year=1916", "metadata.hand=Ada", "metadata.year=1917"])
    assert to_limits(where=["metadata.year=1916"] * 2).where == ("metadata.year=1916",)


def test_limits_are_said_in_words() -> None:
    limits = Limits(collection="letters", group=" ", where=("metadata.hand=Ada",))
    assert limits.words == "collection letters, metadata.hand=Ada"


def test_command_that_has_an_option_of_a_decorator_is_refused() -> None:
    def export(limits: Limits, until: str) -> None: ...

    with pytest.raises(TypeError, match="export has options already: until"):
        limited(export)


@pytest.mark.parametrize(
    ("limits", "field", "led_by"),
    [
        (Limits(), "indexed_at", []),
        (Limits(), "prediction.score", ["status", "annotation.quality"]),
        (Limits(collection="letters"), "indexed_at", ["sources.collection"]),
        (Limits(collection="letters"), "sha256", []),
        (Limits(collection="letters", batch="b"), "prediction.score", ["sources.batch_id"]),
    ],
)
def test_range_is_read_by_the_index_that_has_the_limit(
    limits: Limits, field: str, led_by: list[str]
) -> None:
    where = ImageFilter(limits, status=("predicted",), annotated=False, text="x")
    within, rest = narrowed(to_query(where), field, {field: {"$gte": 0}})
    assert list(within) == [*led_by, field]
    assert rest == to_query(where)


def test_group_is_read_whole_and_in_no_range() -> None:
    query = to_query(ImageFilter(Limits(group="page 1")))
    within, rest = narrowed(query, "indexed_at", {"indexed_at": {"$gte": 0}})
    assert within == {"sources.group": "page 1"}
    assert rest == {"$and": [{"indexed_at": {"$gte": 0}}, within]}
