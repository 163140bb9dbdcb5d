"""Effects of events and readings on a document."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import NORMALISATION
from services.common.domain.details import Details
from services.common.domain.events import EventKind
from services.common.domain.image import ImageDocument
from services.common.domain.page import PageOfLine
from services.common.domain.provenance import Provenance
from services.common.domain.records import Rejection
from services.consumer import documents
from services.consumer.documents import LOOKS_LIKE_A_PAGE, without_pages
from tests.factories import NOW, annotation, event, reading

FROM_LIST = Provenance("http://example.test/a.png", "b1", "industrie", NOW)
ABSENT = ImageDocument.absent("raw/a.png")
REMOVAL = event("20", kind=EventKind.REMOVED)
LATER = NOW + timedelta(hours=1)


def predicted(sequencer: str = "10", provenance: Provenance = FROM_LIST) -> ImageDocument:
    return documents.stored(ABSENT, event(sequencer), provenance, reading(), NOW).document


def test_new_image_gets_the_whole_document() -> None:
    assert predicted().to_mongo() == {
        "_id": "raw/a.png",
        "bucket": "raw",
        "key": "a.png",
        "etag": "e1",
        "size": 3,
        "content_type": "image/png",
        "sha256": "ff",
        "width": 320,
        "height": 48,
        "sources": (
            {"kind": "url", "url": "http://example.test/a.png", "batch_id": "b1", "at": NOW},
        ),
        "sources_count": 1,
        "uploaded_by": "someone",
        "stored_at": NOW,
        "indexed_at": NOW,
        "annotation": {
            "text": "industrie",
            "quality": "ok",
            "by": "batch:b1",
            "at": NOW,
            "how": "given",
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
    reason = Rejection(code="undecodable_image", detail="broken")

    code, rejected = documents.stored(ABSENT, event(), Provenance(), reading(result=reason), NOW)

    assert (code, rejected.status, rejected.error) == ("rejected", "rejected", reason)
    assert rejected.to_mongo()["prediction"] is None


def test_repeated_event_needs_no_reading() -> None:
    assert not documents.needs_reading(event(), predicted())


def test_same_bytes_keep_the_prediction_and_add_a_source() -> None:
    other = Provenance("http://mirror.test/a.png", "b2", None, NOW)

    code, copy = documents.stored(predicted(), event("11"), other, None, NOW)

    assert (code, copy.sequencer) == ("duplicate", "11")
    assert [source.url for source in copy.sources] == [
        "http://example.test/a.png",
        "http://mirror.test/a.png",
    ]
    assert copy.prediction == predicted().prediction


def test_other_bytes_under_the_key_need_a_reading() -> None:
    assert documents.needs_reading(event("11", etag="e2"), predicted())


def test_older_event_never_overwrites_but_its_source_is_kept() -> None:
    older, before = Provenance("http://old.test/a.png", "b0", "other", NOW), predicted("10")

    code, after = documents.stored(before, event("0F", etag="e0"), older, reading("e0"), NOW)

    assert code == "stale"
    assert len(after.sources) == 2
    assert after == before.having(sources=after.sources, sources_count=2)


def test_repeated_older_event_changes_nothing() -> None:
    before = predicted("10")
    assert documents.stored(before, event("0F"), FROM_LIST, None, NOW).document == before


def test_removal_erases_the_prediction_but_keeps_the_sources() -> None:
    removed = documents.removed(predicted(), REMOVAL, LATER).document

    assert (removed.status, removed.prediction, removed.annotation) == ("removed", None, None)
    assert removed.sources[0].url == "http://example.test/a.png"
    assert removed.sha256 == "ff"


DETAILED = replace(
    FROM_LIST,
    details=Details(group="g", metadata={"title": "industrie"}),
    page=PageOfLine(id="pages/a", line="l", group="g", text_layer="industrie"),
)


def test_removal_erases_what_sources_and_page_say_of_the_text() -> None:
    before = predicted(provenance=DETAILED)
    assert before.sources[0].metadata
    assert before.page
    assert before.page.text_layer

    removed = documents.removed(before, REMOVAL, LATER).document

    assert "industrie" not in str(removed.to_mongo())
    assert removed.page
    assert removed.page.id == "pages/a"


@pytest.mark.parametrize("when", ["stale", "gone"])
def test_late_event_of_a_removed_image_brings_nothing_back_that_was_erased(when: str) -> None:
    removed = documents.removed(predicted(provenance=DETAILED), REMOVAL, LATER).document
    late = replace(DETAILED, source_url="http://example.test/late.png")

    if when == "stale":
        code, after = documents.stored(removed, event("15"), late, None, LATER)
    else:
        code, after = documents.gone(removed, event("30"), late, LATER)

    assert code == when
    assert after.sources[-1].url == "http://example.test/late.png"
    assert "industrie" not in str(after.to_mongo())
    assert {each.group for each in after.sources} == {None}


def test_removal_of_an_unknown_object_leaves_a_proof() -> None:
    code, proof = documents.removed(ABSENT, REMOVAL, NOW)

    assert code == "removed"
    assert proof.to_mongo()["sources"] == ()


def test_late_removal_does_not_undo_a_later_upload() -> None:
    before = predicted("30")
    assert documents.removed(before, REMOVAL, NOW) == ("stale", before)


def test_upload_after_removal_revives_the_document() -> None:
    gone = documents.removed(predicted(), REMOVAL, NOW).document
    again = event("30")

    assert documents.needs_reading(again, gone)
    document = documents.stored(gone, again, FROM_LIST, reading(), NOW).document
    assert (document.status, document.removed_at) == ("predicted", None)
    assert document.prediction == predicted().prediction


@pytest.mark.parametrize(
    ("by", "kept"), [("batch:b0", False), ("anna", True), ("label-studio:anna", True)]
)
def test_list_annotation_never_replaces_a_persons(by: str, kept: bool) -> None:  # noqa: FBT001
    before = predicted().having(annotation=annotation("INDUSTRIE", by=by))

    after = documents.stored(before, event("11"), FROM_LIST, None, NOW).document

    assert (after.annotation == before.annotation) is kept


def test_what_a_person_said_is_not_said_of_other_bytes() -> None:
    said = annotation("INDUSTRIE")
    before = predicted().having(annotation=said)
    other, changed_event = reading("e2", sha256="ee"), event("11", etag="e2")

    same = documents.stored(before, event("11"), Provenance(), reading(), NOW).document
    changed = documents.stored(before, changed_event, Provenance(), other, NOW).document

    assert same.annotation == said
    assert changed.annotation is None
    assert changed.annotation_history == (said.having(bytes_replaced_at=NOW),)
    changed = changed.having(annotation=said.having(by="bob"))
    once_more = event("12", etag="e3")
    again = documents.stored(changed, once_more, Provenance(), reading("e3"), LATER).document
    left = [(each.by, each.bytes_replaced_at) for each in again.annotation_history]
    assert left == [("ada", NOW), ("bob", LATER)]


def test_reverted_annotation_does_not_come_from_its_tombstone() -> None:
    said = annotation("wrong", by="anna")
    kept = Annotations(said)
    back = predicted(provenance=Provenance()).with_annotations(kept)
    undone = back.with_annotations(back.annotations.reverted(LATER))

    of_other_etag = replace(reading(), etag="e2")
    after = documents.stored(
        undone, event("20", etag="e2"), Provenance(), of_other_etag, LATER, kept=kept
    ).document

    assert after.annotation is None
    assert after.annotation_history == undone.annotation_history


def test_newer_list_replaces_a_text_and_keeps_the_older_one() -> None:
    before = predicted()
    newer = replace(FROM_LIST, batch_id="b2", annotation="Industrie")

    after = documents.stored(before, event("11"), newer, None, NOW).document

    assert after.annotation is not None
    assert (after.annotation.text, after.annotation.by) == ("Industrie", "batch:b2")
    assert after.annotation_history == (before.annotation,)


def test_text_of_an_api_request_does_not_replace_that_of_a_list() -> None:
    before, sent = predicted(), Provenance(annotation="wrong", fetched_at=NOW)

    after = documents.stored(before, event("11"), sent, None, NOW).document
    alone = documents.stored(ABSENT, event(), sent, reading(), NOW).document

    assert after.annotations == before.annotations
    assert alone.annotation is not None
    assert alone.annotation.by == "batch:api"


def test_text_that_came_along_is_stored_in_its_normal_form() -> None:
    spelled = replace(FROM_LIST, annotation=" e\u0301tude\u00a0\ufa19\t1 ")

    said = predicted(provenance=spelled).annotation

    assert said is not None
    assert said.text == "étude \ufa19 1"


def test_other_spelling_of_an_annotation_replaces_nothing() -> None:
    # As earlier versions stored it
    before = predicted().having(annotation=annotation(" e\u0301tude ", by="batch:b1"))
    again = replace(FROM_LIST, batch_id="b2", annotation="e\u0301tude")

    after = documents.stored(before, event("11"), again, None, NOW).document

    assert after.annotations == before.annotations


def test_text_of_other_bytes_is_no_label_of_those_read() -> None:
    of_later_bytes = documents.provenance_of(reading("e2"), event(), FROM_LIST)

    assert of_later_bytes == replace(FROM_LIST, annotation=None)
    assert documents.provenance_of(reading(), event(), FROM_LIST) == FROM_LIST


def test_proof_of_an_image_deleted_unread_has_its_source() -> None:
    code, proof = documents.gone(ABSENT, event(), FROM_LIST, LATER)
    of_upload = documents.gone(ABSENT, event(), Provenance(), LATER)

    assert (code, proof.status, proof.removed_at) == ("gone", "removed", LATER)
    assert [source.url for source in proof.sources] == ["http://example.test/a.png"]
    assert of_upload == ("gone", ABSENT)


@pytest.mark.parametrize(
    ("size", "least", "is_line", "is_page"),
    [
        ((1200, 1600), 800, False, True),
        ((1599, 800), 800, False, True),
        ((1600, 800), 800, False, False),  # as wide as a line
        ((1200, 799), 800, False, False),
        ((1200, 1600), 0, False, False),  # turned off
        ((1200, 1600), 800, True, False),  # known to be one
    ],
)
def test_page_is_not_read_as_one_line(
    size: tuple[int, int],
    least: int,
    is_line: bool,  # noqa: FBT001
    is_page: bool,  # noqa: FBT001
) -> None:
    before = replace(reading(), width=size[0], height=size[1])

    after = without_pages(before, least_height=least, is_line=is_line)

    if is_page:
        assert isinstance(after.result, Rejection)
        assert after.result.code == LOOKS_LIKE_A_PAGE
    else:
        assert after == before
