import codecs
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.domain.annotations import MAX_ANNOTATION_LENGTH
from services.common.domain.details import Details
from services.common.domain.tables.lines import MAX_LINE_LENGTH
from services.common.domain.tables.list_format import ListFormat, ReadingOptions, find_format
from services.common.domain.tables.records import MAX_RECORD_LINES
from services.fetcher.sources.errors import SHOWN_VALUE_LENGTH, MalformedListError, Rejection
from services.fetcher.sources.lists.documents import MAX_NAME_LENGTH, to_name
from services.fetcher.sources.lists.formats import open_list
from services.fetcher.sources.lists.rows import ListItem, Row


def rows_of(content: str | bytes, list_format: ListFormat) -> list[Row]:
    data = content.encode() if isinstance(content, str) else content
    return list(open_list(BytesIO(data), list_format).rows)


def text_rows(content: str | bytes) -> list[Row]:
    return rows_of(content, ListFormat.TEXT)


def table_rows(content: str | bytes) -> list[Row]:
    return rows_of(content, ListFormat.TABLE)


def test_blank_lines_and_comments_are_skipped_but_counted() -> None:
    rows = text_rows(
        "# my list\n\n  https://x.test/a.png \r\n\n#https://x.test/no\nhttp://y.test/b"
    )

    assert rows == [ListItem(3, "https://x.test/a.png"), ListItem(6, "http://y.test/b")]


def test_bad_line_is_reported_and_the_good_ones_go_on() -> None:
    rows = text_rows("https://x.test/a\nftp://x.test/b\nhttps://x.test/c\n")

    assert [type(row) for row in rows] == [ListItem, Rejection, ListItem]
    assert rows[1] == Rejection(
        2, "ftp://x.test/b", "unsupported_scheme", "unsupported scheme: use http or https"
    )


def test_line_without_end_is_reported_once_and_cut_short() -> None:
    rows = text_rows("x" * (3 * MAX_LINE_LENGTH + 5) + "\nhttps://x.test/a\n")

    assert isinstance(rows[0], Rejection)
    assert (rows[0].line, rows[0].code) == (1, "line_too_long")
    assert len(rows[0].value) == SHOWN_VALUE_LENGTH + 1
    assert rows[1:] == [ListItem(2, "https://x.test/a")]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("cp1252"),
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    ],
    ids=["utf-8", "utf-8 with mark", "latin-1", "windows-1252", "utf-16"],
)
def test_accents_survive_every_usual_encoding(encode: Callable[[str], bytes]) -> None:
    rows = table_rows(encode("url,annotation\nhttps://x.test/a,Où est l'été ?\n"))

    assert rows == [ListItem(2, "https://x.test/a", "Où est l'été ?")]


def test_bytes_undefined_in_windows_1252_are_read_as_latin_1() -> None:
    (row,) = table_rows(b"url,annotation\nhttp://x.test/,\x81\xe9\n")

    assert isinstance(row, Rejection)
    assert (row.value, row.code) == ("\x81é", "invalid_annotation")
    assert "control character: U+0081" in row.detail


@pytest.mark.parametrize(
    "header",
    ["url,annotation", "URL,Text", "Image_URL,label", " image-url , Ground Truth ", '"url","gt"'],
)
def test_column_names_are_forgiving(header: str) -> None:
    assert table_rows(f"{header}\nhttp://x.test/,abc\n") == [ListItem(2, "http://x.test/", "abc")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separator_is_found(separator: str) -> None:
    content = f"id{separator}url{separator}text\n1{separator}http://x.test/{separator}a b\n"

    details = Details(metadata={"id": "1"})
    assert table_rows(content) == [ListItem(2, "http://x.test/", "a b", details)]


def test_annotation_is_taken_in_the_form_in_which_it_is_stored() -> None:
    assert table_rows('url,annotation\nhttp://x.test/a," e\u0301  \ufa19\u00a0b"\n') == [
        ListItem(2, "http://x.test/a", "é \ufa19 b")
    ]


def test_annotations_keep_quotes_and_commas_but_no_line_ends() -> None:
    content = 'url,annotation\nhttp://x.test/a,"a, ""b""\nc"\nhttp://x.test/d,e\n'

    assert table_rows(content) == [
        ListItem(2, "http://x.test/a", 'a, "b" c'),
        ListItem(4, "http://x.test/d", "e"),
    ]


def test_table_without_column_names_is_read_by_position() -> None:
    assert table_rows("http://x.test/a;b,été\nhttp://x.test/c\n") == [
        ListItem(1, "http://x.test/a;b", "été"),
        ListItem(2, "http://x.test/c"),
    ]


def test_quote_that_is_never_closed_costs_only_its_own_line() -> None:
    content = 'url,annotation\nhttp://x.test/a,"oops\nhttp://x.test/b,b\nhttp://x.test/c,c\n'

    first, *others = table_rows(content)

    assert isinstance(first, Rejection)
    assert (first.line, first.code) == (2, "malformed_row")
    assert others == [ListItem(3, "http://x.test/b", "b"), ListItem(4, "http://x.test/c", "c")]


@pytest.mark.slow
@pytest.mark.parametrize("line", ['a","c', f'a","{"c" * 9_000}'], ids=["short", "long"])
def test_open_quotes_in_every_line_are_read_in_linear_time(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed = Counter[str]()
    make_reader = csv.reader

    def count(text: str) -> str:
        fed.update(lines=1, characters=len(text))
        return text

    def counting_reader(lines: Iterable[str], **options: Any) -> Iterator[list[str]]:
        return make_reader(map(count, lines), **options)

    monkeypatch.setattr(csv, "reader", counting_reader)
    bad = [line] * 2_000

    rows = table_rows("\n".join(["url,text", *bad, "http://x.test/a,b"]))

    codes = [row.code for row in rows if isinstance(row, Rejection)]
    assert codes == ["malformed_row"] * len(bad)
    assert rows[-1] == ListItem(len(bad) + 2, "http://x.test/a", "b")
    assert fed["lines"] <= MAX_RECORD_LINES * len(rows) * 1.1
    assert fed["characters"] <= 2 * MAX_LINE_LENGTH * len(rows)


def test_record_may_have_as_many_lines_as_the_limit_and_no_more() -> None:
    def table(line_count: int) -> str:
        return 'url,text\nhttp://x.test/a,"' + "\n".join(["b"] * line_count) + '"\n'

    (row,) = table_rows(table(MAX_RECORD_LINES))
    assert isinstance(row, ListItem)

    rejected, *_ = table_rows(table(MAX_RECORD_LINES + 1))
    assert isinstance(rejected, Rejection)
    assert (rejected.line, rejected.code) == (2, "malformed_row")
    assert "a quote unclosed" in rejected.detail


def test_row_without_url_is_reported() -> None:
    rows = table_rows("text,url\nabc\n,\nd,\n")

    assert [(row.line, row.code) for row in rows if isinstance(row, Rejection)] == [
        (2, "invalid_url"),
        (4, "invalid_url"),
    ]


def test_too_long_line_in_a_quoted_cell_costs_only_its_row() -> None:
    long_line = "y" * (MAX_LINE_LENGTH + 1)
    content = f'url,annotation\nhttp://x.test/a,"b\n{long_line}\nhttp://x.test/c,d\n'

    rows = table_rows(content)

    assert [(row.line, row.code) for row in rows if isinstance(row, Rejection)] == [
        (2, "malformed_row"),
        (3, "line_too_long"),
    ]
    assert rows[2] == ListItem(4, "http://x.test/c", "d")


@pytest.mark.parametrize("content", ["a,b\n1,2\n", '"url\n', "\n \nname\n"])
def test_table_without_a_url_column_is_malformed_and_says_where(content: str) -> None:
    with pytest.raises(MalformedListError) as caught:
        table_rows(content)

    assert caught.value.rejected[0].code == "no_url_column"


@pytest.mark.parametrize("list_format", [ListFormat.TEXT, ListFormat.TABLE])
@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_empty_list_has_no_rows(content: str, list_format: ListFormat) -> None:
    assert rows_of(content, list_format) == []


def test_items_of_a_json_list_are_checked_one_by_one() -> None:
    document = {
        "name": "mine",
        "items": [
            {"url": "http://x.test/a", "annotation": " é "},
            {"url": "http://x.test/b", "annotation": None},
            "http://x.test/c",
            {"annotation": "no url"},
            {"url": 7},
            {"url": "http://x.test/d", "annotation": True},
            {"url": "http://x.test/e", "annotation": "\ud800"},
            {"url": "http://x.test/\ud800"},
            {"url": "http://x.test/f", "annotation": "x" * (MAX_ANNOTATION_LENGTH + 1)},
        ],
    }

    opened = open_list(BytesIO(json.dumps(document).encode()), ListFormat.JSON)
    rows = list(opened.rows)

    assert opened.name == "mine"
    assert rows[:2] == [ListItem(1, "http://x.test/a", "é"), ListItem(2, "http://x.test/b")]
    assert [(row.line, row.code) for row in rows[2:] if isinstance(row, Rejection)] == [
        (3, "malformed_row"),
        (4, "invalid_url"),
        (5, "invalid_url"),
        (6, "invalid_annotation"),
        (7, "invalid_annotation"),
        (8, "invalid_url"),
        (9, "invalid_annotation"),
    ]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('{"items": [\n{"url": "http://x.test/"},\n]}', [3]),
        ("[" * 100_000, [1]),
        ("{}", []),
        ('{"items": {}}', []),
        ('{"items": [], "name": true}', []),
        (b"\xff\xfe\x00", [1]),
    ],
)
def test_malformed_json_list_says_on_which_line(content: str | bytes, lines: list[int]) -> None:
    with pytest.raises(MalformedListError) as caught:
        rows_of(content, ListFormat.JSON)

    assert [row.line for row in caught.value.rejected] == lines


def test_each_line_of_json_lines_is_an_item_or_reported() -> None:
    lines = [
        '{"url": "http://x.test/a", "annotation": "é"}',
        "",
        '["http://x.test/b"]',
        '{"url": ',
        "[" * 20_000,
        '{"url": "' + "x" * MAX_LINE_LENGTH,
        '{"url": "ftp://x.test/"}',
        '{"url": "http://x.test/c"}',
    ]

    rows = rows_of("\n".join(lines), ListFormat.JSON_LINES)

    assert (rows[0], rows[-1]) == (
        ListItem(1, "http://x.test/a", "é"),
        ListItem(8, "http://x.test/c"),
    )
    assert [(row.line, row.code) for row in rows[1:-1] if isinstance(row, Rejection)] == [
        (3, "malformed_row"),
        (4, "malformed_row"),
        (5, "malformed_row"),
        (6, "line_too_long"),
        (7, "unsupported_scheme"),
    ]


def test_name_of_a_list_has_a_limit() -> None:
    assert to_name("x" * MAX_NAME_LENGTH)
    with pytest.raises(MalformedListError):
        to_name("x" * (MAX_NAME_LENGTH + 1))


@pytest.mark.parametrize(
    ("content_type", "file_name", "expected"),
    [
        ("text/csv; charset=utf-8", None, ListFormat.TABLE),
        ("TEXT/PLAIN", None, ListFormat.TEXT),
        ("application/json", None, ListFormat.JSON),
        ("application/octet-stream", "a.b.CSV", ListFormat.TABLE),
        ("text/plain", "list.csv", ListFormat.TABLE),
        ("application/gzip", "list.CSV.gz", ListFormat.TABLE),
        ("application/octet-stream", "list.jsonl", ListFormat.JSON_LINES),
        ("application/x-ndjson", None, ListFormat.JSON_LINES),
        ("application/gzip", "list.gz", None),
        ("application/octet-stream", "list", None),
        (None, None, None),
    ],
)
def test_format_is_told_by_name_or_content_type(
    content_type: str | None, file_name: str | None, expected: ListFormat | None
) -> None:
    assert find_format(content_type=content_type, file_name=file_name) is expected


LINES = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(exclude_characters="\r\n\t", exclude_categories=["Cs"])),
        st.integers(0, 99).map(lambda number: f"http://x.test/{number}"),
        st.sampled_from(['"', '""', 'http://x.test/,"a', 'b",c', "#", "a,b", " ", "http://"]),
    ),
    max_size=30,
)


@given(LINES)
def test_every_line_of_a_text_list_is_accepted_or_reported(lines: list[str]) -> None:
    rows = text_rows("\ufeff" + "\n".join(lines))

    expected = [
        number
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.strip().startswith("#")
    ]
    assert [row.line for row in rows] == expected


@given(LINES)
def test_every_table_line_is_accepted_rejected_or_in_a_record(lines: list[str]) -> None:
    rows = table_rows("\n".join(["url,annotation", *lines]))

    begun = [row.line for row in rows]
    assert begun == sorted(set(begun))
    for number, line in enumerate(lines, start=2):
        is_blank = not "".join(each for each in line if each not in "\0\ufeff,").strip()
        is_quoted_somewhere = '"' in "".join(lines[: number - 1])
        assert number in begun or is_blank or is_quoted_somewhere


@given(st.binary(max_size=2000), st.sampled_from([ListFormat.TEXT, ListFormat.TABLE]))
@example(b'"', ListFormat.TEXT)
@example(b"< >", ListFormat.TEXT)
def test_arbitrary_bytes_are_read_or_malformed_never_a_bug(
    content: bytes, list_format: ListFormat
) -> None:
    try:
        rows = rows_of(content, list_format)
    except MalformedListError:
        return
    for row in rows:
        text = row.url if isinstance(row, ListItem) else row.value
        assert text.encode()


def test_columns_that_are_named_hold_in_a_text_file_too() -> None:
    options = ReadingOptions(url_column="adresse", text_column="texte")
    table = b"adresse;texte\nhttps://x.test/a.png;hello\n"

    assert list(open_list(BytesIO(table), ListFormat.TEXT, options).rows) == [
        ListItem(2, "https://x.test/a.png", "hello")
    ]
    with pytest.raises(MalformedListError, match="adresse"):
        list(open_list(BytesIO(b"https://x.test/a.png\n"), ListFormat.TEXT, options).rows)


def test_json_document_is_read_in_the_encoding_that_is_said() -> None:
    content = '[{"url": "http://x.test/a", "text": "é"}]'.encode("cp1252")

    opened = open_list(BytesIO(content), ListFormat.JSON, ReadingOptions(encoding="cp1252"))

    assert list(opened.rows) == [ListItem(1, "http://x.test/a", "é")]
