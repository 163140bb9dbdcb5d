"""Each body that a real MinIO sent (see minio_events/), as this project understands it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.errors import InvalidEventError
from services.common.domain.events import EventKind, parse_notification, sequence_order

BODIES = Path(__file__).with_name("minio_events")
IGNORED = {"put-tagging", "delete-tagging", "delete-missing"}
REMOVED = {
    "delete",
    "delete-multi-1",
    "delete-multi-2",
    "delete-folder-marker",
    "versioned-delete-marker",
    "versioned-delete-version",
    "versioned-delete-the-marker",
}


def kind_of(name: str) -> EventKind:
    if name in IGNORED:
        return EventKind.IGNORED
    return EventKind.REMOVED if name in REMOVED else EventKind.CREATED


@pytest.mark.parametrize("path", sorted(BODIES.glob("*.json")), ids=lambda path: path.stem)
def test_real_body_is_understood(path: Path) -> None:
    [event] = parse_notification(path.read_bytes())

    # MinIO's top-level Key is bucket and key in plain text: the record's escaped key must agree
    assert event.document_id == json.loads(path.read_bytes())["Key"]
    assert event.kind is kind_of(path.stem)
    assert event.uploaded_by == "minioadmin"
    assert event.occurred_at.tzinfo is not None
    assert int(event.sequencer, 16) > 0


def test_put_carries_size_etag_type_and_metadata() -> None:
    [event] = parse_notification((BODIES / "put.json").read_bytes())

    assert (event.size, event.etag) == (208, "135d55a5c87bc3cfe39d102796d96c20")
    assert event.content_type == "image/png"
    assert event.metadata["source-url"] == "http://example.test/a?b=1&c=2"
    assert "content-type" not in event.metadata


def test_zero_byte_object_has_size_zero() -> None:
    [event] = parse_notification((BODIES / "zero-byte.json").read_bytes())

    assert event.size == 0


def test_removal_has_no_size() -> None:
    [event] = parse_notification((BODIES / "delete.json").read_bytes())

    assert (event.size, event.etag) == (None, None)


def damaged(**changes: object) -> bytes:
    body = json.loads((BODIES / "put.json").read_bytes())
    record = body["Records"][0]
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = record
        for parent in parents:
            target = target[parent]
        target[last] = value
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"Records": []}',
        b'{"Records": [{}]}',
        b"\xff\xfe",
        damaged(s3__object__key=""),
        damaged(s3__object__sequencer="not hexadecimal"),
        damaged(s3__object__size=-1),
        damaged(s3__bucket={}),
        damaged(eventTime="yesterday"),
        damaged(eventTime="2026-11-24T00:29:38"),
        damaged(eventName=""),
    ],
)
def test_malformed_body_is_an_invalid_event(body: bytes) -> None:
    with pytest.raises(InvalidEventError):
        parse_notification(body)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("s3:ObjectRemoved:DeleteAllVersions", EventKind.REMOVED),
        ("s3:ObjectRemoved:NoOP", EventKind.IGNORED),
        ("s3:ObjectAccessed:Delete", EventKind.IGNORED),
    ],
)
def test_what_was_not_recorded_is_understood_by_its_name(name: str, kind: EventKind) -> None:
    [event] = parse_notification(damaged(eventName=name))
    assert event.kind is kind


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidEventError):
        parse_notification(body)


@given(st.integers(1, 2**80), st.integers(1, 2**80), st.integers(0, 3))
def test_sequencers_are_ordered_as_numbers(first: int, second: int, zeros: int) -> None:
    a, b = "0" * zeros + f"{first:X}", f"{second:x}"

    assert (sequence_order(a) < sequence_order(b)) == (first < second)
