from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.common.adapters.synthetic_events import (
    latest,
    removed_notification,
    sequencer_at,
    stored_notification,
    time_of,
)
from services.common.domain.events import EventKind, parse_notification, sequence_order
from services.common.domain.objects import ObjectInfo

NOW = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(key=KEYS)
def test_any_key_survives_the_way_through_a_made_notification(key: str) -> None:
    info = ObjectInfo(key, "e1", 0, NOW, "image/png", {"source-url": "http://a.test/%20"})

    [event] = parse_notification(stored_notification("raw", info, sequencer=sequencer_at(NOW)))

    assert (event.kind, event.bucket, event.key) == (EventKind.CREATED, "raw", key)
    assert (event.etag, event.size, event.content_type) == ("e1", 0, "image/png")
    assert event.occurred_at == NOW
    assert event.metadata == {"source-url": "http://a.test/%20"}


@given(key=KEYS)
def test_any_key_survives_the_way_through_a_made_removal(key: str) -> None:
    body = removed_notification("raw", key, sequencer="1F", occurred_at=NOW)

    [event] = parse_notification(body)

    assert (event.kind, event.key, event.sequencer) == (EventKind.REMOVED, key, "1F")


@given(st.integers(0, 999_999))
def test_synthetic_sequencer_is_never_after_the_real_one(nanoseconds: int) -> None:
    listed = sequencer_at(NOW)
    # A listing cuts what is under a millisecond
    real = f"{round(NOW.timestamp() * 1000) * 1_000_000 + nanoseconds:X}"

    assert sequence_order(listed) <= sequence_order(real)
    assert time_of(real) == NOW


def test_sequencer_of_another_store_is_later_than_any_time() -> None:
    assert time_of("F" * 64) > NOW + timedelta(days=365_000)


def test_latest_compares_numbers_and_skips_missing_ones() -> None:
    assert latest("FF", None, "100") == "100"
