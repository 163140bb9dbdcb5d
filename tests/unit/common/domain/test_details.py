"""Further columns of a list: fields of ``Details`` and bounded, typed metadata."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from bson import BSON
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.domain.batch_item import BatchItem
from services.common.domain.details import (
    FIELDS,
    MAX_KEYS,
    MAX_METADATA_BYTES,
    PARSERS,
    Details,
    to_details,
    to_path,
)
from services.common.domain.provenance import Provenance, from_metadata, to_metadata
from services.common.domain.records import How, Source
from services.common.domain.redaction import Redactor
from services.common.domain.tables.columns import NAMING, ROLES
from services.common.domain.tables.list_format import ListFormat, ReadingOptions
from services.datasets import copies
from services.datasets.formats.writing import FACTS
from services.datasets.manifest import ManifestRecord
from services.fetcher.jobs import FetchJob, parse_job
from services.fetcher.progress import FAILED_COLUMNS
from services.fetcher.sources.errors import MalformedListError
from services.fetcher.sources.lists.formats import OpenList, open_list
from services.fetcher.sources.lists.rows import ListItem
from tests.unit.fetcher.test_lists_parquet import written

A = "https://x.test/a.png"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PATHS = st.none() | st.text().filter(to_path)
OF_EXPORT: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, name=PATHS, collection=PATHS, how=st.none() | st.sampled_from([*How])
)
ROW = {"group": "page 1", "split": "test", "licence": "CC0", "is_page": "yes"}
"""A valid value of each role of a column."""


def opened(content: str, kind: ListFormat, **options: Any) -> OpenList:
    return open_list(BytesIO(content.encode()), kind, ReadingOptions(**options))


def details_of(found: OpenList) -> list[Details]:
    return [row.details for row in found.rows if isinstance(row, ListItem)]


@pytest.mark.parametrize(
    ("names", "without"),
    [
        pytest.param(BatchItem.model_fields, set(), id="item"),
        # ``how`` is the annotation's; a page is in a collection of its own
        pytest.param(Source.model_fields, {"how", "is_page"}, id="source"),
        pytest.param(
            [name.removeprefix("sources.") for name in copies.FIELDS],
            {"how", "is_page"},
            id="sources of an export",
        ),
        # an export has lines
        pytest.param(ManifestRecord.model_fields, {"is_page"}, id="manifest"),
        pytest.param(FACTS, {"is_page"}, id="tables of an export"),
        # metadata is the last column, as JSON
        pytest.param(FAILED_COLUMNS, {"metadata"}, id="failed.csv"),
        # metadata are the columns that have no role
        pytest.param([*PARSERS, *NAMING], {"metadata"}, id="columns of a table"),
        pytest.param([*ROLES, *NAMING], {"metadata"}, id="names of columns"),
    ],
)
def test_each_field_of_details_is_kept(names: Collection[str], without: set[str]) -> None:
    assert {*FIELDS} - {*names} == without


def test_values_keep_the_types_of_their_file() -> None:
    row = {"url": A, "document": 12, "part": "val", "license": "CC-BY-4.0", "n": 7, "x": 1.5}
    row |= {"ok": True, "none": None, "a.b": "dotted", "tags": ["é", 2], "big": 2**70}
    kept: dict[str, Any] = {
        "n": 7,
        "x": 1.5,
        "ok": True,
        "a_b": "dotted",
        "tags": ["é", 2],
        "big": str(2**70),
    }
    whole = Details("12", "validation", "CC-BY-4.0", kept)

    for kind, content in (
        (ListFormat.JSON_LINES, json.dumps(row)),
        (ListFormat.JSON, json.dumps({"items": [row]})),
    ):
        assert details_of(opened(content, kind)) == [whole]
    csv = "url,document,part,n,x,empty\n" + A + ",12,val,07,1.50,\n"
    texts = Details("12", "validation", metadata={"n": "07", "x": "1.50"})
    assert details_of(opened(csv, ListFormat.TABLE)) == [texts]


def test_parquet_keeps_types_and_ignores_bytes() -> None:
    time = pa.array([datetime(2026, 11, 28, 9, 30)], pa.timestamp("ns"))  # noqa: DTZ001
    columns = {"url": [A], "writer": [7], "split": ["test"], "n": [7], "x": [1.5], "at": time}
    columns |= {"tags": [["a", "b"]], "raw": [b"\xff"], "nan": [float("nan")]}
    columns["hand"] = pa.array(["ada"]).dictionary_encode()
    with written(columns) as file:
        found = open_list(file, ListFormat.PARQUET)
        (details,) = details_of(found)
    kept: dict[str, Any] = {"n": 7, "x": 1.5, "at": "2026-11-28 09:30:00.000000000"}
    kept |= {"tags": ["a", "b"], "hand": "ada"}
    assert details == Details("7", "test", metadata=kept)
    assert found.report.ignored_columns == ["raw"]


def test_column_of_groups_can_be_named() -> None:
    content = f"url,document,hand\n{A},d1,ada\n"
    for kind, text in (
        (ListFormat.TABLE, content),
        (ListFormat.JSON_LINES, json.dumps({"url": A, "document": "d1", "hand": "ada"})),
    ):
        found = details_of(opened(text, kind, group_column="hand"))
        assert found == [Details("ada", metadata={"document": "d1"})]
    with pytest.raises(MalformedListError, match="no column is named 'typo'"):
        list(opened(content, ListFormat.TABLE, group_column="typo").rows)


def test_unknown_split_is_metadata() -> None:
    found = details_of(opened(f"url,part\n{A},train\n{A},3\n", ListFormat.TABLE))

    assert found == [Details(split="train"), Details(metadata={"part": "3"})]


def test_what_is_dropped_is_told() -> None:
    names = [f"c{number}" for number in range(MAX_KEYS + 2)]
    wide = opened(f"url,{','.join(names)}\n{A}{',1' * len(names)}\n", ListFormat.TABLE)
    (details,) = details_of(wide)
    assert details.metadata == dict.fromkeys(names[:MAX_KEYS], "1")
    assert wide.report.ignored_columns == names[MAX_KEYS:]
    assert [note.code for note in wide.report.notes] == ["metadata_dropped"]

    rows = [
        {"url": A, "long": "x" * MAX_METADATA_BYTES, "n": 1},
        {"url": A, "bad": "\ud800", "\ud800": {}},
    ]
    found = opened("\n".join(map(json.dumps, rows)), ListFormat.JSON_LINES)
    assert details_of(found) == [Details(metadata={"n": 1}), Details(metadata={"?": {}})]
    assert [(note.line, note.code) for note in found.report.notes] == [
        (1, "metadata_dropped"),
        (2, "metadata_dropped"),
    ]


def test_column_of_metadata_is_unfolded_as_exports_write_it() -> None:
    kept = Details(metadata={"n": 7, "hand": "ada"})
    line = json.dumps({"url": A, "metadata": {"n": 7}, "hand": "ada"})
    assert details_of(opened(line, ListFormat.JSON_LINES)) == [kept]
    table = f'url,metadata,hand\n{A},"{{""n"": 7}}",ada\n'
    assert details_of(opened(table, ListFormat.TABLE)) == [kept]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (f"url,is_page\n{A},TRUE\n{A},0\n{A},maybe\n", ListFormat.TABLE),
        (
            "\n".join(json.dumps({"url": A, "is_page": each}) for each in (True, False, "maybe")),
            ListFormat.JSON_LINES,
        ),
    ],
)
def test_list_may_have_pages(content: str, kind: ListFormat) -> None:
    found = details_of(opened(content, kind))
    assert found == [Details(is_page=True), Details(), Details(metadata={"is_page": "maybe"})]
    assert {each.is_page for each in details_of(opened(content, kind, pages=True))} == {True}


def test_failed_csv_is_no_metadata() -> None:
    header = "url,annotation,code,detail,attempts,code2"
    found = details_of(opened(f"{header}\n{A},text,timeout,none,3,x\n", ListFormat.TABLE))

    assert found == [Details(metadata={"code2": "x"})]


@pytest.mark.parametrize("kind", [ListFormat.TABLE, ListFormat.JSON_LINES, ListFormat.PARQUET])
def test_each_role_of_a_column_is_read(kind: ListFormat) -> None:
    row = {"url": A, **ROW, "hand": "ada"}
    table, line = f"{','.join(row)}\n{','.join(row.values())}\n", json.dumps(row)
    if kind is ListFormat.PARQUET:
        with written({name: [value] for name, value in row.items()}) as file:
            (found,) = details_of(open_list(file, kind))
    else:
        (found,) = details_of(opened(table if kind is ListFormat.TABLE else line, kind))

    assert found.to_fields().keys() == {*ROLES, "metadata"} == {*ROW, "metadata"}
    assert found.metadata == {"hand": "ada"}


@given(
    st.fixed_dictionaries({name: JSON | st.just(value) for name, value in ROW.items()}),
    st.dictionaries(st.text(), JSON, max_size=4),
    OF_EXPORT,
)
@example(ROW, {"0": {"a\t\0": None}, "\0 b": 1}, {"how": None})
@example(ROW, {"hand": "ada"}, {"name": "a/é.png", "collection": "é", "how": How.GIVEN})
def test_any_details_survive_objects_jobs_and_mongodb(
    said: dict[str, Any], others: dict[str, Any], of_export: dict[str, Any]
) -> None:
    details = replace(to_details(said, others.items())[0], **of_export)

    provenance = Provenance(kind="archive", details=details, fetch_id="b1/1", by="ada é")
    headers = to_metadata(provenance)
    if "fetch-id" not in headers:
        # of a provenance, name and collection; the bucket says whether it is a page
        kept = replace(details, name=None, collection=None, is_page=None)
        assert from_metadata(headers) == Provenance(kind="archive", details=kept, by="ada é")
    assert sum(len(name) + len(value) for name, value in headers.items()) < 2048
    job = FetchJob("b1/1", "b1", A, details=details)
    assert parse_job(job.body()) == job
    assert BSON.encode(details.to_fields()).decode() == details.to_fields()


def test_secrets_of_urls_are_redacted_wherever_they_are() -> None:
    url, redacted = "https://x.test/a?token=s3cret", "https://x.test/a?token=REDACTED"
    metadata: dict[str, Any] = {"a": f" {url}", "b": [url, 1]}
    found = Details(url, "test", url, metadata, url, url)

    after = found.redacted(Redactor(["token"]).redact)

    metadata = {"a": f" {redacted}", "b": [redacted, 1]}
    assert after == Details(redacted, "test", redacted, metadata, redacted, redacted)
