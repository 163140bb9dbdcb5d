"""The document of an image with very many URLs."""

from dataclasses import replace
from datetime import timedelta

import bson
import pytest

from services.common.domain.annotation_history import MOST_EARLIER
from services.common.domain.details import Details, to_details
from services.common.domain.events import EventKind, ObjectEvent
from services.common.domain.image import SOURCES_DISAGREE, ImageDocument
from services.common.domain.provenance import (
    FEW_SOURCES,
    MOST_BATCHES,
    MOST_SOURCES,
    MOST_SOURCES_LENGTH,
    PLACEHOLDER_SOURCES,
    Provenance,
)
from services.common.domain.sizes import MEBIBYTE
from services.consumer import documents
from tests import factories
from tests.factories import NOW, annotation, reading

BY_HAND = annotation("photo unavailable", by="anna")


def event(number: int) -> ObjectEvent:
    return factories.event(f"{0x1000 + number:X}")


def origin(number: int, text: str | None, batch: str = "b1") -> Provenance:
    at = NOW + timedelta(seconds=number)
    return Provenance(f"http://a.test/{number:06d}.png", batch, text, at)


def apply(document: ImageDocument | None, number: int, provenance: Provenance) -> ImageDocument:
    before = document or ImageDocument.absent("raw/a.png")
    read = reading() if document is None else None
    return documents.stored(before, event(number), provenance, read, NOW).document


def of_urls(
    count: int, text: str | None = None, document: ImageDocument | None = None
) -> ImageDocument:
    """Return a document that so many URLs led to; ``{}`` in a text is the URL's number."""
    for number in range(count):
        said = None if text is None else text.format(number)
        document = apply(document, number, origin(number, said))
    assert document is not None
    return document


def text_of(document: ImageDocument) -> str | None:
    return document.annotation.text if document.annotation else None


def test_url_in_many_collections_is_no_placeholder() -> None:
    document = None
    for number in range(PLACEHOLDER_SOURCES + 1):
        source = replace(origin(0, None), collection=f"c{number}")
        document = apply(apply(document, 2 * number, source), 2 * number + 1, source)
    assert document is not None
    assert document.sources_count == PLACEHOLDER_SOURCES + 1
    assert not document.placeholder


def test_bytes_in_another_collection_are_another_source() -> None:
    document = None
    for number, collection in enumerate(("first", "second", "second")):
        sent = Provenance(kind="api", collection=collection)
        document = apply(document, number, sent)
    assert document is not None
    assert [each.collection for each in document.sources] == ["first", "second"]


def test_url_is_a_source_of_each_batch_that_had_it() -> None:
    first = replace(origin(0, None), details=Details("g1", metadata={"n": 1}))
    document = apply(None, 0, first)
    for number, batch in enumerate(("b2", "b2", "b3")):
        document = apply(document, number, origin(0, None, batch))
    assert [each.batch_id for each in document.sources] == ["b1", "b2", "b3"]
    assert document.sources_count == 3
    assert {(each.group, each.metadata["n"]) for each in document.sources if each.metadata} == {
        ("g1", 1)
    }
    assert all(each.metadata for each in document.sources)


def test_frequent_url_keeps_its_first_and_latest_batches() -> None:
    document = None
    for number in range(MOST_BATCHES + 5):
        document = apply(document, number, origin(0, None, f"b{number}"))
    document = apply(document, 900, origin(1, None, "b0"))

    batches = [each.batch_id for each in document.sources]
    assert batches == ["b0", *(f"b{each}" for each in range(6, MOST_BATCHES + 5)), "b0"]
    assert document.sources_count == MOST_BATCHES + 6


def test_source_that_comes_again_says_more_of_itself() -> None:
    url, document = origin(5, None), None
    for number, (late, details) in enumerate(
        [
            (0, Details("g1", metadata={"n": 1, "x": 1})),
            (1, Details(metadata={"n": 2})),
            (-1, Details("late", licence="CC0", metadata={"n": 0})),
        ]
    ):
        at = NOW + timedelta(seconds=late)
        document = apply(document, number, replace(url, fetched_at=at, details=details))

    assert document is not None
    (source,) = document.sources
    kept = (source.group, source.licence, source.metadata)
    assert kept == ("g1", "CC0", {"n": 2, "x": 1})


def test_removal_erases_what_sources_say() -> None:
    said = Details("g1", "train", "CC0", {"text": "said twice"})
    document = apply(None, 1, replace(origin(1, None), details=said))
    (source,) = documents.removed(document, event(2), NOW).document.sources

    assert (source.group, source.metadata) == (None, None)
    assert (source.url, source.split, source.licence) == (
        origin(1, None).source_url,
        "train",
        "CC0",
    )


@pytest.mark.slow
def test_document_of_very_many_urls_stays_small() -> None:
    document = of_urls(MOST_SOURCES + 100, "text {}")

    assert len(document.sources) == MOST_SOURCES
    assert document.sources_count == MOST_SOURCES + 100
    assert len(document.annotation_history) <= MOST_EARLIER
    assert len(bson.encode(document.to_mongo())) < 300_000


@pytest.mark.slow
def test_document_of_many_long_sources_fits_mongodb() -> None:
    long = "u" * 7000
    details, _ = to_details({}, [("box", list(range(10)) * 250)])

    document = ImageDocument.absent("raw/a.png")
    for number in range(MOST_SOURCES):
        provenance = origin(number, None)
        url = f"{provenance.source_url}/{long}"
        document = document.with_source(
            replace(provenance, source_url=url, details=details, batch_id=f"b{number % 3}")
        )

    assert document.sources_count == MOST_SOURCES
    assert {each.batch_id for each in document.sources} == {"b0", "b1", "b2"}
    assert len(document.sources) >= FEW_SOURCES
    assert len(bson.encode(document.to_mongo())) < 8 * MEBIBYTE


@pytest.mark.slow
def test_long_sources_of_new_batches_replace_several_short_ones() -> None:
    long, (details, _) = "u" * 8000, to_details({}, [("box", [1234567] * 800)])

    document = of_urls(MOST_SOURCES)
    for number in range(MOST_SOURCES + 100):
        provenance = origin(9000 + number, None, f"later-{number}")
        url = f"{provenance.source_url}/{long}"
        document = document.with_source(replace(provenance, source_url=url, details=details))

    lengths = [each.length for each in document.sources]
    assert max(lengths) > 14_000
    assert sum(lengths) <= MOST_SOURCES_LENGTH
    assert {"b1", "later-0", "later-100"} <= {each.batch_id for each in document.sources}
    assert len(bson.encode(document.to_mongo())) < 8 * MEBIBYTE


def test_image_of_many_urls_is_a_placeholder() -> None:
    assert "placeholder" not in of_urls(PLACEHOLDER_SOURCES).to_mongo()
    assert of_urls(PLACEHOLDER_SOURCES + 1).placeholder is True


def test_placeholder_whose_lists_disagree_has_no_annotation() -> None:
    before = of_urls(PLACEHOLDER_SOURCES, "text {}")
    document = apply(before, 900, origin(900, None))

    assert text_of(before) == f"text {PLACEHOLDER_SOURCES - 1}"
    assert document.annotation is None
    assert document.annotation_conflict == SOURCES_DISAGREE
    texts = {each.text for each in document.annotation_history}
    assert f"text {PLACEHOLDER_SOURCES - 1}" in texts
    assert all(each.disputed_at for each in document.annotation_history)
    later = apply(document, 901, origin(901, "yet another"))
    assert (later.annotation, later.annotation_conflict) == (None, SOURCES_DISAGREE)


def test_placeholder_whose_lists_agree_keeps_its_annotation() -> None:
    document = of_urls(2 * PLACEHOLDER_SOURCES, "photo unavailable")

    assert text_of(document) == "photo unavailable"
    assert document.annotation_conflict is None
    assert document.annotation_history == ()


def test_late_event_of_a_placeholder_tells_that_lists_disagree() -> None:
    document = of_urls(PLACEHOLDER_SOURCES + 1, "one text")

    late = apply(document, -5, origin(-5, "another text"))

    assert (late.annotation, late.annotation_conflict) == (None, SOURCES_DISAGREE)
    assert late.sources_count == document.sources_count + 1
    same = apply(document, -6, origin(-6, "one text"))
    assert same.annotation == document.annotation


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_person_says_of_a_placeholder_stays(when: str) -> None:
    first = of_urls(1, "text {}")
    if when == "before":
        first = first.having(annotation=BY_HAND)
    document = of_urls(PLACEHOLDER_SOURCES + 5, "text {}", first)
    if when == "after":
        document = document.having(annotation=BY_HAND)

    later = apply(document, 900, origin(900, "other"))
    late = apply(later, -5, origin(-5, "yet another"))

    assert late.annotation == BY_HAND


def test_event_that_comes_twice_is_counted_once() -> None:
    document = of_urls(MOST_SOURCES + 5)

    once = apply(document, 5000, origin(5000, None))
    twice = apply(once, 5000, origin(5000, None))

    assert once.sources_count == MOST_SOURCES + 6
    assert twice.sources_count == once.sources_count
    known = apply(once, 5001, origin(3, None))
    assert known.sources_count == once.sources_count


def test_every_batch_keeps_a_source_to_be_found_by() -> None:
    document = of_urls(MOST_SOURCES)

    for number in range(5):
        provenance = origin(9000 + number, None, batch=f"later-{number}")
        document = apply(document, 9000 + number, provenance)

    batches = [each.batch_id for each in document.sources]
    assert len(batches) == MOST_SOURCES
    assert {f"later-{number}" for number in range(5)} < set(batches)
    assert document.sources[0].url == "http://a.test/000000.png"


def test_removal_ends_the_dispute() -> None:
    document = of_urls(PLACEHOLDER_SOURCES + 5, "text {}")
    removal = replace(event(990), kind=EventKind.REMOVED)

    after = documents.removed(document, removal, NOW).document

    assert (after.annotation_conflict, after.annotation_history) == (None, ())


def test_earlier_texts_of_people_outlast_those_of_lists() -> None:
    by_hand = BY_HAND.having(undone_at=NOW)
    document = of_urls(1, "text {}").having(annotation_history=(by_hand,))

    for number in range(MOST_EARLIER + 20):  # of one URL, so that it is no placeholder
        document = apply(
            document, number, replace(origin(0, f"text {number}"), batch_id=f"{number}")
        )

    history = document.annotation_history
    assert len(history) == MOST_EARLIER
    assert document.annotation_history_count == MOST_EARLIER + 20
    assert history[0].by == "anna"
    assert all(each.is_given for each in history[1:])
