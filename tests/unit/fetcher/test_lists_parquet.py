from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.common.domain.details import Details
from services.common.domain.tables.list_format import ListFormat, sniff_format
from services.fetcher.sources.errors import MalformedListError, Rejection
from services.fetcher.sources.lists import parquet
from services.fetcher.sources.lists.formats import open_list
from services.fetcher.sources.lists.rows import ListItem, Row

pytestmark = pytest.mark.slow


@contextmanager
def written(columns: dict[str, Any], **options: Any) -> Iterator[Any]:
    with TemporaryFile() as file:
        pq.write_table(pa.table(columns), file, **options)
        yield file


def rows_of(columns: dict[str, Any], **options: Any) -> list[Row]:
    with written(columns, **options) as file:
        return list(open_list(file, ListFormat.PARQUET).rows)


@pytest.mark.parametrize("names", [("url", "annotation"), ("Image URL", "TEXT"), ("link", "gt")])
def test_columns_are_found_by_forgiving_names(names: tuple[str, str]) -> None:
    rows = rows_of(
        {"id": [1, 2], names[0]: ["http://x.test/a", "ftp://b"], names[1]: ['é, "b"', None]}
    )

    assert rows[0] == ListItem(1, "http://x.test/a", 'é, "b"', Details(metadata={"id": 1}))
    assert isinstance(rows[1], Rejection)
    assert (rows[1].line, rows[1].code) == (2, "unsupported_scheme")


def test_rows_of_all_groups_keep_order_and_missing_urls_are_told() -> None:
    urls = [f"http://x.test/{number}" for number in range(2500)]

    rows = rows_of({"url": pa.array([*urls, None]).dictionary_encode()}, row_group_size=700)

    assert [row.url for row in rows if isinstance(row, ListItem)] == urls
    assert isinstance(rows[-1], Rejection)
    assert (rows[-1].line, rows[-1].code) == (2501, "invalid_url")


@pytest.mark.parametrize(
    "columns",
    [
        {"a": ["x"]},
        {"text": ["x"]},
        {"url": [1]},
        {"url": [["http://x.test/"]]},
        {"url": [{"a": "b"}]},
    ],
    ids=["none", "annotation only", "number", "list", "struct"],
)
def test_file_without_a_column_of_urls_is_malformed(columns: dict[str, Any]) -> None:
    with pytest.raises(MalformedListError):
        rows_of(columns)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1garbagePAR1", b"PAR1" + b"\xff" * 99 + b"PAR1"]
)
def test_file_that_is_no_parquet_is_malformed(content: bytes) -> None:
    with TemporaryFile() as file:
        file.write(content)
        with pytest.raises(MalformedListError):
            list(open_list(file, ListFormat.PARQUET).rows)


def test_parquet_bomb_is_malformed_and_costs_no_memory_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "MEMORY_BYTES", 200 * 1024 * 1024)
    huge = ["x" * (150 * 1024 * 1024), "y" * (150 * 1024 * 1024)]

    with written({"url": huge}, compression="zstd") as file:
        assert file.tell() < 1024 * 1024
        with pytest.raises(MalformedListError):
            list(open_list(file, ListFormat.PARQUET).rows)


def test_too_long_text_repeated_a_million_times_is_rejected() -> None:
    column = pa.DictionaryArray.from_arrays(
        pa.array([0] * 5000, pa.int32()), ["http://x.test/" + "x" * 5_000_000]
    )

    rows = rows_of({"url": column})

    assert {row.code for row in rows if isinstance(row, Rejection)} == {"url_too_long"}
    assert len(rows) == 5000


def test_reading_may_stop_early() -> None:
    with written({"url": ["http://x.test/"] * 50_000}) as file:
        rows = open_list(file, ListFormat.PARQUET).rows
        assert isinstance(next(rows), ListItem)
        rows.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PAR1...", ListFormat.PARQUET),
        (b"http://x.test/a,b\n", ListFormat.TEXT),
        (b"# mine\nhttp://x.test/a\n", ListFormat.TEXT),
        (b"http://x.test/a\tb\n", ListFormat.TSV),
        (b"\xef\xbb\xbfurl,text\nhttp://x.test/,a\n", ListFormat.TABLE),
        ("url;text\n".encode("utf-16"), ListFormat.TABLE),
        (b'{"url": "http://x.test/"}\n{"url": "http://x.test/"}', ListFormat.JSON_LINES),
        (b'{"items": []}', ListFormat.JSON),
        (b'{\n "items": []}', ListFormat.JSON),
    ],
)
def test_format_is_told_by_the_beginning(content: bytes, expected: ListFormat) -> None:
    with TemporaryFile() as file:
        file.write(content)
        assert sniff_format(file) is expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"height": 1}, "images as struct<bytes: binary, path: string>, are read"),
        ({"bytes": b"x", "path": "a.png"}, "docreco submit FILE stores them in the bucket"),
    ],
    ids=["other", "images"],
)
def test_struct_in_place_of_a_url_says_what_is_read(value: object, words: str) -> None:
    with pytest.raises(MalformedListError, match=words):
        rows_of({"image": [value], "text": ["x"]})


def test_bytes_that_are_no_text_are_rejected_by_column() -> None:
    first, second = rows_of({"url": [b"\xff", b"http://x.test/a"], "text": [b"a", b"\xff"]})

    assert isinstance(first, Rejection)
    assert isinstance(second, Rejection)
    assert (first.code, second.code) == ("invalid_url", "invalid_annotation")


def test_columns_of_one_name_are_refused() -> None:
    columns = [pa.array(["http://x.test/a"]), pa.array(["x"]), pa.array(["y"])]
    with TemporaryFile() as file:
        pq.write_table(pa.Table.from_arrays(columns, names=["url", "text", "text"]), file)
        with pytest.raises(MalformedListError, match="several columns are named 'text'"):
            list(open_list(file, ListFormat.PARQUET).rows)
