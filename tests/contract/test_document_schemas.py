"""The names of documents' fields are part of the interface."""

import pytest

from services.common.adapters.collections import BATCHES, FETCHES, IMAGES, PAGES
from services.common.adapters.repository import TYPES, schema_of

FIELDS = {
    (IMAGES, ""): "_id bucket key etag size content_type sha256 width height sources sources_count"
    " uploaded_by stored_at indexed_at annotation prediction status error sequencer",
    (IMAGES, "sources"): "kind collection name url batch_id group split metadata licence at by",
    (IMAGES, "annotation"): "text quality by at how",
    (IMAGES, "prediction"): "text score expected_cer engine model_version predicted_at duration_ms",
    (IMAGES, "error"): "code detail",
    (IMAGES, "page"): "id document group number line quad order run score",
    (PAGES, ""): "_id bucket key etag sha256 width height document group sources status runs lines"
    " ground_truth sequencer",
    (PAGES, "document"): "sha256 key number of",
    (PAGES, "lines"): "id key quad baseline order score run state marks",
    (PAGES, "runs"): "id detector version at found kept new gone ms",
    (BATCHES, ""): "_id name kind collection list_url created_at cancelled_at accepted",
    (FETCHES, ""): "_id batch_id url outcome code detail key sha256 attempts finished_at",
}
VALUES = {
    (IMAGES, "status"): {"predicted", "rejected", "removed"},
    (IMAGES, "annotation", "how"): {"given", "accepted", "corrected", "transcribed", None},
    (IMAGES, "annotation", "quality"): {"ok", "unreadable", "not_a_line", "cut_wrong"},
    (BATCHES, "requeue"): {"transient", "all", None},
    (FETCHES, "outcome"): {"queued", "stored", "unchanged", "failed", "cancelled"},
}


@pytest.mark.parametrize(("collection", "part"), FIELDS)
def test_schema_has_the_names_of_the_contract(collection: str, part: str) -> None:
    schema = schema_of(collection)
    schema = schema["properties"][part] if part else schema
    properties = schema.get("items", schema)["properties"]

    assert set(FIELDS[collection, part].split()) <= properties.keys()
    assert set(schema.get("required", ())) <= properties.keys()


@pytest.mark.parametrize("place", VALUES)
def test_schema_has_the_values_of_the_contract(place: tuple[str, ...]) -> None:
    collection, *names = place
    schema = schema_of(collection)
    for name in names:
        schema = schema["properties"][name]

    assert set(schema["enum"]) == VALUES[place]


def test_every_type_has_a_schema_that_names_its_identity() -> None:
    assert all("_id" in schema_of(each)["required"] for each in TYPES)
