"""The names of the document of an image are part of the interface."""

import pytest

from services.common.adapters.image_schema import image_schema

FIELDS = {
    "": "_id bucket key etag size content_type sha256 width height sources sources_count"
    " uploaded_by stored_at indexed_at annotation prediction status error sequencer",
    "sources": "kind collection name url batch_id group split metadata licence at by",
    "annotation": "text quality by at how",
    "prediction": "text score engine model_version predicted_at duration_ms",
    "error": "code detail",
}


@pytest.mark.parametrize("part", FIELDS)
def test_schema_has_the_names_of_the_contract(part: str) -> None:
    schema = image_schema()
    schema = schema["properties"][part] if part else schema
    properties = schema.get("items", schema)["properties"]

    assert set(FIELDS[part].split()) <= properties.keys()
    assert set(schema.get("required", ())) <= properties.keys()


def test_schema_has_the_values_of_the_contract() -> None:
    properties = image_schema()["properties"]

    assert set(properties["status"]["enum"]) == {"predicted", "rejected", "removed"}
    hows = {"given", "accepted", "corrected", "transcribed"}
    assert set(properties["annotation"]["properties"]["how"]["enum"]) == {*hows, None}
    qualities = properties["annotation"]["properties"]["quality"]["enum"]
    assert set(qualities) == {"ok", "unreadable", "not_a_line"}
