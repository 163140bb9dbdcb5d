from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.common.adapters.object_store import ObjectInfo
from services.common.domain.annotations import BYTES_REPLACED_AT, NORMALISATION
from services.common.domain.events import EventKind, ObjectEvent
from services.common.domain.provenance import Provenance
from services.consumer import documents
from services.consumer.documents import Reading
from services.consumer.ocr_client import Prediction

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PREDICTION = Prediction(
    text="industrie",
    score=0.9,
    engine="rapidocr",
    model_version="v1",
    width=320,
    height=48,
    duration_ms=12.5,
)
FROM_LIST = Provenance("http://example.test/a.png", "b1", "industrie", NOW)


def event(
    sequencer: str = "10", etag: str = "e1", kind: EventKind = EventKind.CREATED
) -> ObjectEvent:
    return ObjectEvent(
        kind=kind,
        name="s3:ObjectCreated:Put",
        bucket="raw",
        key="a.png",
        sequencer=sequencer,
        occurred_at=NOW,
        etag=etag,
        size=3,
        content_type="image/png",
        uploaded_by="someone",
    )


def reading(etag: str = "e1", prediction: Prediction | None = PREDICTION) -> Reading:
    info = ObjectInfo("a.png", etag, 3, NOW, "image/png")
    if prediction is None:
        return Reading(info, NOW, "ff", None, "undecodable_image", "broken")
    return Reading(info, NOW, "ff", prediction)


def after(*decisions: documents.Decision) -> dict[str, Any]:
    document: dict[str, Any] = {"_id": "raw/a.png"}
    for decision in decisions:
        document |= decision.fields or {}
    return document


def predicted(sequencer: str = "10", provenance: Provenance = FROM_LIST) -> dict[str, Any]:
    return after(documents.stored(None, event(sequencer), provenance, reading(), NOW))


def test_new_image_gets_the_whole_document() -> None:
    document = predicted()

    assert document == {
        "_id": "raw/a.png",
        "bucket": "raw",
        "key": "a.png",
        "etag": "e1",
        "size": 3,
        "content_type": "image/png",
        "sha256": "ff",
        "width": 320,
        "height": 48,
        "sources": [{"url": "http://example.test/a.png", "batch_id": "b1", "fetched_at": NOW}],
        "sources_count": 1,
        "uploaded_by": "someone",
        "stored_at": NOW,
        "indexed_at": NOW,
        "annotation": {
            "text": "industrie",
            "quality": "ok",
            "by": "batch:b1",
            "at": NOW,
            "normalisation": NORMALISATION,
        },
        "prediction": {
            "text": "industrie",
            "score": 0.9,
            "engine": "rapidocr",
            "model_version": "v1",
            "predicted_at": NOW,
            "duration_ms": 12.5,
        },
        "status": "predicted",
        "error": None,
        "sequencer": "10",
    }


def test_unreadable_image_is_rejected_with_its_reason() -> None:
    decision = documents.stored(None, event(), Provenance(), reading(prediction=None), NOW)

    assert decision.code == "rejected"
    document = after(decision)
    assert document["status"] == "rejected"
    assert document["error"] == {"code": "undecodable_image", "detail": "broken"}
    assert document["prediction"] is None


def test_repeated_event_needs_no_reading() -> None:
    assert not documents.needs_reading(event(), predicted())


def test_copy_with_the_same_bytes_keeps_the_prediction_and_adds_its_source() -> None:
    other = Provenance("http://mirror.test/a.png", "b2", None, NOW)

    decision = documents.stored(predicted(), event("11"), other, None, NOW)

    assert decision.code == "duplicate"
    assert decision.fields is not None
    assert [source["url"] for source in decision.fields["sources"]] == [
        "http://example.test/a.png",
        "http://mirror.test/a.png",
    ]
    assert "prediction" not in decision.fields
    assert decision.fields["sequencer"] == "11"


def test_other_bytes_under_the_key_need_a_reading() -> None:
    assert documents.needs_reading(event("11", etag="e2"), predicted())
    assert documents.stored(predicted(), event("11", etag="e2"), FROM_LIST, None, NOW) == (
        documents.READ_AGAIN,
        None,
    )


def test_older_event_never_overwrites_but_its_source_is_kept() -> None:
    older = Provenance("http://old.test/a.png", "b0", "other", NOW)

    decision = documents.stored(predicted("10"), event("0F", etag="e0"), older, reading("e0"), NOW)

    assert decision.code == "stale"
    assert decision.fields is not None
    assert decision.fields.keys() == {"sources", "sources_count"}
    assert len(decision.fields["sources"]) == 2


def test_repeated_older_event_writes_nothing() -> None:
    assert documents.stored(predicted("10"), event("0F"), FROM_LIST, None, NOW).fields is None


def test_removal_erases_what_was_read_and_keeps_where_it_came_from() -> None:
    later = NOW + timedelta(minutes=1)
    removal = event("20", kind=EventKind.REMOVED)

    document = after(
        documents.Decision("predicted", predicted()), documents.removed(predicted(), removal, later)
    )

    assert document["status"] == "removed"
    assert document["prediction"] is None
    assert document["annotation"] is None
    assert document["sources"][0]["url"] == "http://example.test/a.png"
    assert document["sha256"] == "ff"


def test_removal_of_an_unknown_object_leaves_a_proof() -> None:
    decision = documents.removed(None, event("20", kind=EventKind.REMOVED), NOW)

    assert decision.code == "removed"
    assert decision.fields is not None
    assert decision.fields["sources"] == []


def test_late_removal_does_not_undo_a_later_upload() -> None:
    assert (
        documents.removed(predicted("30"), event("20", kind=EventKind.REMOVED), NOW).fields is None
    )


def test_upload_after_removal_revives_the_document() -> None:
    gone = after(
        documents.Decision("predicted", predicted()),
        documents.removed(predicted(), event("20", kind=EventKind.REMOVED), NOW),
    )
    again = event("30")

    assert documents.needs_reading(again, gone)
    document = gone | (documents.stored(gone, again, FROM_LIST, reading(), NOW).fields or {})
    assert document["status"] == "predicted"
    assert document["prediction"]["text"] == "industrie"


@pytest.mark.parametrize(
    ("by", "kept"), [("batch:b0", False), ("anna", True), ("label-studio:anna", True)]
)
def test_list_annotation_never_replaces_a_persons(by: str, kept: bool) -> None:  # noqa: FBT001
    document = predicted() | {
        "annotation": {"text": "INDUSTRIE", "quality": "ok", "by": by, "at": NOW}
    }

    decision = documents.stored(document, event("11"), FROM_LIST, None, NOW)

    assert decision.fields is not None
    assert (decision.fields["annotation"]["text"] == "INDUSTRIE") is kept


def test_what_a_person_said_is_not_said_of_other_bytes() -> None:
    said = {"text": "INDUSTRIE", "quality": "ok", "by": "anna", "at": NOW}
    document = predicted() | {"annotation": said}
    other = replace(reading("e2"), sha256="ee")

    same = after(
        documents.Decision("predicted", document),
        documents.stored(document, event("11"), Provenance(), reading(), NOW),
    )
    changed = after(
        documents.Decision("predicted", document),
        documents.stored(document, event("11", etag="e2"), Provenance(), other, NOW),
    )

    assert same["annotation"] == said
    assert changed["annotation"] is None
    assert changed["annotation_history"] == [said | {BYTES_REPLACED_AT: NOW}]
    changed["annotation"] = said | {"by": "bob"}
    later, once_more = NOW + timedelta(hours=1), event("12", etag="e3")
    again = documents.stored(changed, once_more, Provenance(), reading("e3"), later).fields
    assert again is not None
    left = [(each["by"], each[BYTES_REPLACED_AT]) for each in again["annotation_history"]]
    assert left == [("anna", NOW), ("bob", later)]


def test_text_of_a_newer_list_replaces_that_of_an_older_one_which_is_kept() -> None:
    document = predicted()
    newer = replace(FROM_LIST, batch_id="b2", annotation="Industrie")

    fields = documents.stored(document, event("11"), newer, None, NOW).fields

    assert fields is not None
    assert (fields["annotation"]["text"], fields["annotation"]["by"]) == ("Industrie", "batch:b2")
    assert fields["annotation_history"] == [document["annotation"]]


def test_text_that_came_with_a_request_to_the_api_does_not_replace_that_of_a_list() -> None:
    document = predicted()
    sent = Provenance(annotation="wrong", fetched_at=NOW)

    fields = documents.stored(document, event("11"), sent, None, NOW).fields

    assert fields is not None
    assert fields["annotation"] == document["annotation"]
    assert "annotation_history" not in fields
    alone = after(documents.stored(None, event(), sent, reading(), NOW))
    assert alone["annotation"]["by"] == "batch:api"


def test_text_that_came_along_is_stored_in_its_normal_form() -> None:
    spelled = replace(FROM_LIST, annotation=" e\u0301tude\u00a0\ufa19\t1 ")

    document = predicted(provenance=spelled)

    assert document["annotation"]["text"] == "étude \ufa19 1"


def test_other_spelling_of_an_annotation_replaces_nothing() -> None:
    before = predicted(provenance=replace(FROM_LIST, annotation="étude"))
    before["annotation"]["text"] = " e\u0301tude "  # as earlier versions stored it
    again = replace(FROM_LIST, batch_id="b2", annotation="e\u0301tude")

    decision = documents.stored(before, event("11"), again, None, NOW)

    assert decision.fields is not None
    assert decision.fields["annotation"] == before["annotation"]
    assert "annotation_history" not in decision.fields
