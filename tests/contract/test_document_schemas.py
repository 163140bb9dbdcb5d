"""The names of documents' fields are part of the interface."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from services.common.adapters.collections import BATCHES, FETCHES, IMAGES, INDEXES, PAGES
from services.common.adapters.mongo import Document
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
READERS = re.compile("ImageRepository|PageRepository|SortKey")
READ = re.compile(r'"([a-z_.]+)": -?1[,}]|\("([a-z_.]+)", -?1\)|SortKey\("([a-z_.]+)"')
"""A field of a projection or an order."""


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


def paths_of(schema: Document, parent: str = "") -> set[str]:
    """Return the dotted paths of all fields."""
    paths: set[str] = set()
    for name, field in schema.get("properties", {}).items():
        path = f"{parent}{name}"
        paths |= {path, *paths_of(field.get("items", field), f"{path}.")}
    return paths


def fields_read() -> Iterator[tuple[str, Path]]:
    """Yield the fields of ``images`` and ``pages`` in projections and orders, with their files."""
    for file in sorted(Path("services").rglob("*.py")):
        text = file.read_text()
        if "migration" in file.parts or not READERS.search(text):
            continue
        for found in READ.findall(text):
            yield "".join(found), file
        if "dict.fromkeys(" in text:
            for value in vars(import_module(".".join(file.with_suffix("").parts))).values():
                if isinstance(value, dict) and set(map(repr, value.values())) == {"1"}:
                    yield from ((name, file) for name in value)


def test_fields_that_are_read_exist() -> None:
    known, read = paths_of(schema_of(IMAGES)) | paths_of(schema_of(PAGES)), set(fields_read())

    assert {(name, str(file)) for name, file in read if name not in known} == set()
    assert {"sources.collection", "error.code", "prediction.score"} < {name for name, _ in read}


@pytest.mark.parametrize("collection", TYPES)
def test_indexed_fields_exist(collection: str) -> None:
    indexed = {name.lstrip("-") for index in INDEXES[collection] for name in index.fields}

    assert indexed <= paths_of(schema_of(collection))
