"""Undo keeps every value that was ever written."""

from datetime import UTC, datetime
from typing import Any

from services.common.adapters.annotation_history import _without_last

AT = datetime(2026, 11, 24, tzinfo=UTC)


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "by": "ada", "at": AT, "quality": "ok", **more}


def test_first_annotation_leaves_none() -> None:
    left = _without_last({"annotation": said("a")})
    assert left["annotation"] is None
    assert [each["text"] for each in left["annotation_history"]] == ["a"]


def test_what_was_undone_before_does_not_come_back() -> None:
    history = [said("a"), said("b", undone_at=AT)]
    left = _without_last({"annotation": said("c"), "annotation_history": history})
    assert left["annotation"] == said("a")
    assert [each["text"] for each in left["annotation_history"]] == ["b", "c"]
    again = _without_last(left)
    assert again["annotation"] is None
    assert [each["text"] for each in again["annotation_history"]] == ["b", "c", "a"]


def test_what_was_said_of_other_bytes_is_not_said_of_these() -> None:
    history = [said("of other bytes", bytes_replaced_at=AT)]
    left = _without_last({"annotation": said("a"), "annotation_history": history})
    assert left["annotation"] is None
    assert [each["text"] for each in left["annotation_history"]] == ["of other bytes", "a"]
