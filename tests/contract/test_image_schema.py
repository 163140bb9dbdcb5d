"""The names of the documents of images and pages are part of the interface."""

from collections.abc import Callable

import pytest

from services.common.adapters.image_schema import image_schema, page_schema
from services.common.adapters.mongo import Document

FIELDS = {
    "": "_id bucket key etag size content_type sha256 width height sources sources_count"
    " uploaded_by stored_at indexed_at annotation prediction status error sequencer",
    "sources": "kind collection name url batch_id group split metadata licence at by",
    "annotation": "text quality by at how",
    "prediction": "text score engine model_version predicted_at duration_ms",
    "error": "code detail",
    "page": "id document group number line quad order run score",
}
PAGE_FIELDS = {
    "": "_id bucket key etag sha256 width height document group sources status runs lines"
    " ground_truth sequencer",
    "document": "sha256 key number of",
    "lines": "id key quad baseline order score run state marks",
    "runs": "id detector version at found kept new gone ms",
}


@pytest.mark.parametrize(
    ("make", "part", "names"),
    [
        *((image_schema, part, names) for part, names in FIELDS.items()),
        *((page_schema, part, names) for part, names in PAGE_FIELDS.items()),
    ],
)
def test_schema_has_the_names_of_the_contract(
    make: Callable[[], Document], part: str, names: str
) -> None:
    schema = make()
    schema = schema["properties"][part] if part else schema
    properties = schema.get("items", schema)["properties"]

    assert set(names.split()) <= properties.keys()
    assert set(schema.get("required", ())) <= properties.keys()


def test_schema_has_the_values_of_the_contract() -> None:
    properties = image_schema()["properties"]

    assert set(properties["status"]["enum"]) == {"predicted", "rejected", "removed"}
    hows = {"given", "accepted", "corrected", "transcribed"}
    assert set(properties["annotation"]["properties"]["how"]["enum"]) == {*hows, None}
    qualities = properties["annotation"]["properties"]["quality"]["enum"]
    assert set(qualities) == {"ok", "unreadable", "not_a_line"}
