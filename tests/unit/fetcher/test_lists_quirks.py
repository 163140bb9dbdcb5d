"""Quirks of lists as people and programs write them, which went wrong in other tools."""

import json
from io import BytesIO
from urllib.parse import unquote

import pytest

from services.common.domain.tables.list_format import find_format
from services.common.domain.tables.names import ImageNames
from services.fetcher.sources.errors import MalformedListError, Rejection
from services.fetcher.sources.lists.formats import OpenList, open_list
from services.fetcher.sources.lists.rows import ListItem, Row

A, B = "https://x.test/a.png", "https://x.test/b.png"
BOTH = [(A, "Haus"), (B, "Maus")]


def opened(name: str, content: str | bytes) -> OpenList:
    file_format = find_format(content_type=None, file_name=name)
    assert file_format is not None
    data = content.encode() if isinstance(content, str) else content
    return open_list(BytesIO(data), file_format)


def pairs(rows: list[Row]) -> list[tuple[str, str | None]]:
    assert all(isinstance(row, ListItem) for row in rows), rows
    return [(row.url, row.annotation) for row in rows if isinstance(row, ListItem)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", f"{A} Haus\n{B} Maus und Hof\n", [(A, "Haus"), (B, "Maus und Hof")]),
        ("a.txt", "https://x.test/a b.png\n", [("https://x.test/a%20b.png", None)]),
        ("a.txt", f"<{A}>\n{B},\n", [(A, None), (B, None)]),
        ("a.txt", f'"{A}"\n{B};\n', [(A, None), (B, None)]),
        ("a.txt", f"{A}, Haus\n{B}, Maus\n", BOTH),
        ("a.txt", f'"{A}";"Haus"\n{B}; Maus\n', BOTH),
        ("a.txt", f"{A};v=1\n{B};v=2\n", [(f"{A};v=1", None), (f"{B};v=2", None)]),
        ("a.txt", f"{A} put down, and up\n", [(A, "put down, and up")]),
        ("a.txt", f"url|text\n{A}|Haus\n{B}|Maus\n", BOTH),
        ("a.txt", f"# 1914\nurl;text\n{A};Haus\n{B};Maus\n", BOTH),
        ("a.txt", "# 1914\n" * 12 + f"url,text\n{A},Haus\n{B},Maus\n", BOTH),
        ("a.csv", f"url,text\n{A},Haus\n\ufeff{B},Maus\n", BOTH),
        ("a.csv", f"url,text\r{A},Haus\r{B},Maus\r", BOTH),
        ("a.csv", f"url,text\n{A},Haus\n{B},Maus\n".encode("utf-16-le"), BOTH),
        ("a.csv", f"url,text\n{A},Haus\n{B},Maus\n".encode("utf-16-be"), BOTH),
        ("a.csv", f'url;score;text\n{A};0,97;"Haus"\n{B};0,5;Maus\n', BOTH),
        ("a.csv", f"Unnamed: 0, url ,text \n0,{A},Haus\n1,{B},Maus\n", BOTH),
        ("a.csv", f"url\ttext\n{A}\tHaus\n\n\n{B}\tMaus\n", BOTH),
        (
            "a.csv",
            f"url,text\n{A},\u201cl\u2019été\u201d €\n".encode("cp1252"),
            [(A, "\u201cl\u2019été\u201d €")],
        ),
        (
            "a.jsonl",
            f'\ufeff{{"url":"{A}","text":"Haus"}}\n\ufeff{{"url":"{B}","text":"Maus"}}\n',
            BOTH,
        ),
        (
            "a.jsonl",
            f'[\n{{"url":"{A}","text":"Haus"}},\n{{"url":"{B}","text":"Maus"}}\n]\n',
            BOTH,
        ),
    ],
    ids=[
        *("text behind URL", "space in URL", "brackets", "quotes", "commas in txt"),
        *("semicolons in txt", "parameters of a path", "commas of a text", "bars in txt"),
        *("comment above header in txt", "comments in txt", "mark within"),
        *("carriage returns", "UTF-16 LE", "UTF-16 BE", "decimal commas", "index column"),
        *("tabs in csv", "smart quotes", "marks in JSON lines", "array as JSON lines"),
    ],
)
def test_quirk_is_read_as_meant(
    name: str, content: str | bytes, expected: list[tuple[str, str | None]]
) -> None:
    assert pairs(list(opened(name, content).rows)) == expected


WHOLE_URLS = [
    "https://x.imgix.test/{}.jpg?auto=format,compress",
    "https://x.imgix.test/{}.jpg?fit=crop,w=1|2;x",
    "https://s3.test/{}.png?X-Amz-SignedHeaders=host;range&X-Amz-Signature=a,b",
    "https://iiif.test/2/{}.tif;1/full/full/0/default.jpg",
    "https://iiif.test/2/{}.jp2/full/800,/0/default.jpg",
    "https://iiif.test/2/{}.jpg/10,20,300,40/!800,800/0/default.jpg",
    "https://iiif.test/2/{}.jpg,1/full/800,/0/default",
    "https://thumbor.test/300x200/filters:quality(80),fill(red)/x.test/{}.jpg",
    "https://thumbor.test/{}.jpg;filters:sharpen",
    "https://res.cloudinary.test/demo/w_100,h_100/{}.jpg",
    "https://res.cloudinary.test/demo/{}.jpg,w_100,h_100",
    "https://wiki.test/Brief.jpg,_Seite_{}.jpg",
    "https://wiki.test/Brief.jpg,_Seite_{}",
    "https://x.test/{}.jpg,large",
    "https://x.test/{}.jpg,800",
    "https://x.test/{}.jpg|size=large",
    "https://x.test/{}.jpg;v=1",
    "https://x.test/{}.jpg,https://x.test/{}",
]


@pytest.mark.parametrize("url", WHOLE_URLS)
def test_url_with_a_separator_is_kept_whole(url: str) -> None:
    urls = [url.format(each, each) for each in range(3)]
    rows = pairs(list(opened("a.txt", "\n".join(urls)).rows))
    assert [(unquote(url), text) for url, text in rows] == [(url, None) for url in urls]


@pytest.mark.parametrize("url", WHOLE_URLS)
def test_text_behind_a_space_has_no_part_of_its_url(url: str) -> None:
    lines = [f"{url.format(each, each)} {text} Welt" for each, text in enumerate(["Hallo", "Du"])]
    for row in opened("a.txt", "\n".join(lines)).rows:
        text = row.annotation if isinstance(row, ListItem) else None
        assert text in {None, "Hallo Welt", "Du Welt"}


def test_line_like_a_pair_makes_no_table_of_whole_urls() -> None:
    urls = [f"https://iiif.test/{each}/full/800,/0/default.jpg" for each in range(50)]
    odd = ["https://x.test/Brief.jpg,_Seite_1.jpg", "https://x.test/1.jpg, Seite 1"]
    rows = pairs(list(opened("a.txt", "\n".join([*odd, *urls])).rows))
    assert [url for url, _ in rows[2:]] == urls
    assert not any(text for _, text in rows)


def test_quote_in_a_pair_of_a_text_file_ends_with_its_line() -> None:
    texts = ['"Hallo', "Welt", 'Welt"', '"Ja", sagte er', '"Er rief ""Ja"""', "", "12"]
    read = [*texts[:4], 'Er rief "Ja"', None, "12"]
    rows = pairs(list(opened("a.txt", "\n".join(f"{A},{text}" for text in texts)).rows))
    assert rows == [(A, text) for text in read]


def test_texts_in_doubt_are_noted_with_what_was_done() -> None:
    read, kept = opened("a.txt", f"{A},ein Haus\n{B},Maus\n"), opened("a.txt", f"{A},Haus\n{B}\n")
    assert pairs(list(read.rows)) == [(A, "ein Haus"), (B, "Maus")]
    assert pairs(list(kept.rows)) == [(f"{A},Haus", None), (B, None)]
    notes = [*read.report.notes, *kept.report.notes]
    assert [(note.line, note.code) for note in notes] == [
        (1, "text_in_doubt"),
        (2, "text_in_doubt"),
        (1, "text_in_doubt"),
    ]
    assert [note.detail.split(":")[0] for note in notes] == [
        "'ein Haus' is read as a text",
        "'Maus' is read as a text",
        "'Haus' is kept in the URL",
    ]


def test_ground_truth_of_donut_is_its_text() -> None:
    texts = ('{"gt_parse": {"text_sequence": "Haus"}}', '{"gt_parse": {"menu": [{"nm": "Tee"}]}}')
    lines = [json.dumps({"url": A, "ground_truth": text}) for text in texts]
    first, second = opened("a.jsonl", "\n".join(lines)).rows
    assert first == ListItem(1, A, "Haus")
    assert isinstance(second, Rejection)
    assert second.code == "invalid_annotation"


def test_second_column_of_a_name_is_noted() -> None:
    found = opened("a.csv", f"url,text,text\n{A},,Haus\n")
    assert pairs(list(found.rows)) == [(A, None)]
    (note,) = found.report.notes
    assert (note.line, note.code) == (1, "duplicate_column")


def test_list_of_file_names_says_what_to_submit() -> None:
    found = opened("labels.csv", "file_name,text\na.png,Haus\n")
    with pytest.raises(MalformedListError, match=r"'file_name' names files: submit the folder"):
        list(found.rows)


def test_very_many_columns_are_read() -> None:
    names, values = ",".join(f"c{each}" for each in range(3000)), ",".join(["1"] * 3000)
    assert pairs(list(opened("a.csv", f"url,text,{names}\n{A},Haus,{values}\n").rows)) == [BOTH[0]]


@pytest.mark.parametrize(
    "name", ["lines/a b.png", "lines/a%20b.png", "file:///home/ada/lines/a%20b.png"]
)
def test_name_in_a_table_may_be_percent_encoded(name: str) -> None:
    assert ImageNames(["lines/a b.png", "lines/c.png"]).find(name) == "lines/a b.png"


def test_percent_sign_in_a_file_name_is_found_as_it_stands() -> None:
    names = ["a%20b.png", "a b.png"]
    assert [ImageNames(names).find(name) for name in names] == names
