"""The one reader of tables: separators, quotes, encodings, columns, and what is told of them."""

import codecs
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain.details import Details
from services.common.domain.tables.columns import Wanted
from services.common.domain.tables.dialect import NoHeaderError
from services.common.domain.tables.json_rows import read_items
from services.common.domain.tables.lines import UnknownEncodingError
from services.common.domain.tables.names import ImageNames
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import MAX_DAMAGED, Report, TableGivenUpError, TableRow
from services.common.domain.tables.table import TableSource, read_table
from services.fetcher.sources.lists.rows import WANTED, is_url

A, B = "https://x.test/a.png", "https://x.test/b.png"


def read(
    content: str | bytes,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    wanted: Wanted = WANTED,
) -> tuple[list[TableRow | Damaged], Report]:
    data = content.encode() if isinstance(content, str) else content
    report = Report()
    source = TableSource(BytesIO(data), is_url, separator, encoding)
    return list(read_table(source, wanted, report)), report


def pairs(content: str | bytes, separator: str | None = None) -> list[tuple[str, str | None]]:
    rows, _ = read(content, separator=separator)
    assert all(isinstance(row, TableRow) for row in rows), rows
    return [(row.where, row.text) for row in rows if isinstance(row, TableRow)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"url,text\n{A},Haus\n", [(A, "Haus")]),
        (f"url;text\n{A};Haus, Maus\n", [(A, "Haus, Maus")]),
        (f"url|text\n{A}|Haus\n", [(A, "Haus")]),
        (f"sep=;\nurl;text\n{A};Haus\n", [(A, "Haus")]),
        (f'"sep=,"\nurl,text\n{A},Haus\n', [(A, "Haus")]),
        (f"url;annotation (a, b, c)\n{A};Haus\n", [(A, "Haus")]),
        (f"My list, of 1914\n\nurl,text\n{A},Haus\n", [(A, "Haus")]),
        (f"# by hand\nurl,text\n{A},Haus\n", [(A, "Haus")]),
        (f"url,text\n{A},Haus,\n{B},Maus,,\n", [(A, "Haus"), (B, "Maus")]),
        (f'url, text\n{A}, "Haus, hoch"\n', [(A, "Haus, hoch")]),
        (f"ID_Doc;Image URL;Transcription;Fonds\n7;{A};Haus;x\n", [(A, "Haus")]),
        (f"{A};Haus\n{B};Maus\n", [(A, "Haus"), (B, "Maus")]),
        (f"{A}\tHello, my dear, friend\n{B}\tHaus\n", [(A, "Hello, my dear, friend"), (B, "Haus")]),
        (
            "https://x.test/8/Paris,_France.jpg\nhttps://x.test/9/Bonn.jpg\n",
            [("https://x.test/8/Paris,_France.jpg", None), ("https://x.test/9/Bonn.jpg", None)],
        ),
        (
            "https://x.test/Paris,_France.jpg\nhttps://x.test/Bonn,_Germany.jpg\n",
            [
                ("https://x.test/Paris,_France.jpg", None),
                ("https://x.test/Bonn,_Germany.jpg", None),
            ],
        ),
        (
            "https://x.test/i?crop=1,2,3\nhttps://x.test/i?crop=4,5,6\n",
            [("https://x.test/i?crop=1,2,3", None), ("https://x.test/i?crop=4,5,6", None)],
        ),
        ("url\nhttps://x.test/Paris,_France.jpg\n", [("https://x.test/Paris,_France.jpg", None)]),
        (f"url,text\n{A},\n{B},\\N\n", [(A, None), (B, None)]),
        (f"url,text\n{A},None\n{B},NA\n", [(A, "None"), (B, "NA")]),
        (f"url,text\n{A},=1+1\n{B},01.50\n", [(A, "=1+1"), (B, "01.50")]),
    ],
)
def test_table_is_read_as_people_write_them(
    content: str, expected: list[tuple[str, str | None]]
) -> None:
    assert pairs(content) == expected


def test_quotes_mean_nothing_in_tsv() -> None:
    content = f'url\ttext\n{A}\t"Oh, said he\n{B}\t"Oh" said he\n'

    assert pairs(content, "\t") == [(A, '"Oh, said he'), (B, '"Oh" said he')]


def test_quotes_mean_something_in_unicode_text_of_a_spreadsheet() -> None:
    content = codecs.BOM_UTF16_LE + f'url\ttext\r\n{A}\t"a, ""b"""\r\n'.encode("utf-16-le")

    assert pairs(content, "\t") == [(A, 'a, "b"')]


def test_damaged_row_of_utf8_costs_no_other_its_accents() -> None:
    good = "".join(f"https://x.test/{number}.png,Noël\n" for number in range(50))
    content = f"url,text\n{good}".encode() + f"{A},caf".encode() + b"\xe9\n"

    rows, report = read(content)

    assert [row.text for row in rows if isinstance(row, TableRow)] == ["Noël"] * 50
    damaged = rows[-1]
    assert isinstance(damaged, Damaged)
    assert (damaged.line, damaged.code) == (52, "undecodable_row")
    assert "0xE9" in damaged.detail
    assert report.encoding == "utf-8-sig"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("windows-1250", "Žluťoučký"), ("shift_jis", "日本"), ("koi8-r", "дом"), ("mac-roman", "é")],
)
def test_declared_encoding_is_used(encoding: str, text: str) -> None:
    content = f"url,text\n{A},{text}\n".encode(encoding)

    rows, _ = read(content, encoding=encoding)

    assert rows == [TableRow(2, A, text)]


def test_encoding_that_there_is_none_of_is_told() -> None:
    for name in ("latin-99", "base64", "rot13", "punycode"):
        with pytest.raises(UnknownEncodingError):
            read(f"url\n{A}\n", encoding=name)


def test_columns_that_are_used_and_ignored_are_told() -> None:
    (row,), report = read(f"id,Image URL,Transcription,page\n1,{A},Haus,7\n")

    used = {"image": "Image URL", "text": "Transcription", "group": "page"}
    assert (report.columns, report.metadata_columns) == (used, ["id"])
    assert (report.rows, report.with_text) == (1, 1)
    assert isinstance(row, TableRow)
    assert row.details == Details("7", metadata={"id": "1"})


def test_columns_can_be_named_by_a_person() -> None:
    wanted = Wanted(WANTED.where, url_column="lien_scan", text_column="texte vérifié")

    rows, _ = read(f"lien_scan;texte vérifié;text\n{A};Haus;x\n", wanted=wanted)

    assert rows == [TableRow(2, A, "Haus")]
    with pytest.raises(match="lien_scan"):
        read(f"url;text\n{A};Haus\n", wanted=wanted)


def test_missing_column_names_those_that_there_are() -> None:
    with pytest.raises(NoHeaderError, match="'adresse', 'texte_verifie'"):
        read(f"adresse;texte_verifie\n{A};Haus\n")


def test_text_with_bare_separators_is_whole_and_told() -> None:
    rows, report = read(f"url,text\n{A},put down, and up\n{B},Haus\n")

    assert rows == [TableRow(2, A, "put down, and up"), TableRow(3, B, "Haus")]
    assert [(note.line, note.code) for note in report.notes] == [(2, "cells_joined")]


def test_text_that_may_end_anywhere_is_rejected() -> None:
    (row,), _ = read(f"url,text,page\n{A},put down, and up,7\n")

    assert isinstance(row, Damaged)
    assert (row.line, row.code) == (2, "too_many_cells")


def test_what_is_no_table_is_given_up() -> None:
    with pytest.raises(TableGivenUpError):
        read("url,text\n" + 'a","\n' * (MAX_DAMAGED + 1))


LABELS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\t\0", exclude_categories=["Cs"]),
    min_size=1,
).filter(lambda text: text.strip() and text.strip() != "\\N")


@given(st.lists(LABELS, min_size=1, max_size=5))
def test_every_label_survives_tsv(labels: list[str]) -> None:
    content = "url\ttext\n" + "".join(f"{A}\t{label}\n" for label in labels)

    assert [text for _, text in pairs(content, "\t")] == labels


@pytest.mark.parametrize(
    ("name", "folder", "found"),
    [
        ("lines/a.png", "", "lines/a.png"),
        ("a.png", "lines", "lines/a.png"),
        ("a.png", "", "lines/a.png"),
        ("lines\\a.png", "", "lines/a.png"),
        ("./lines/a.png", "", "lines/a.png"),
        ("C:\\data\\lines\\a.png", "", "lines/a.png"),
        ("LINES/A.PNG", "", "lines/a.png"),
        ("a", "", "lines/a.png"),
        ("Ma\u0308rz.png", "", "M\u00e4rz.png"),
        ("twice.png", "", None),
        ("one/twice.png", "", "one/twice.png"),
        ("twice.png", "two", "two/twice.png"),
        ("none.png", "", None),
        ("other/a.png", "", None),
        ("/home/me/scans/lines/a.png", "", "lines/a.png"),
        ("", "", None),
    ],
)
def test_names_meet(name: str, folder: str, found: str | None) -> None:
    images = ImageNames(["lines/a.png", "M\u00e4rz.png", "one/twice.png", "two/twice.png"])

    assert images.find(name, folder) == found


def test_names_that_differ_only_in_composition_mean_no_image() -> None:
    assert ImageNames(["M\u00e4rz.png", "Ma\u0308rz.png"]).find("M\u00e4rz.png") is None


def test_url_with_separators_ends_where_it_is_an_images() -> None:
    iiif = "https://i.test/1/0,0,100,50/full/0/default.jpg"

    rows, report = read(f"url,annotation\n{iiif},hello, you\n")
    nameless, _ = read(f"{iiif},hello\n{iiif},there\n")

    assert rows == [TableRow(2, iiif, "hello, you")]
    assert [note.code for note in report.notes] == ["cells_joined"]
    assert [(row.where, row.text) for row in nameless if isinstance(row, TableRow)] == [
        (iiif, "hello"),
        (iiif, "there"),
    ]


def test_url_that_may_end_anywhere_is_rejected() -> None:
    (row,), _ = read("url,annotation\nhttps://x.test/i?id=1,2,hello\n")

    assert isinstance(row, Damaged)
    assert row.code == "too_many_cells"


def test_second_column_that_may_be_the_text_is_noted() -> None:
    rows, report = read(f"url,label,transcription\n{A},handwritten,Bonjour\n")

    details = Details(metadata={"label": "handwritten"})
    assert rows == [TableRow(2, A, "Bonjour", details=details)]
    assert [note.code for note in report.notes] == ["several_text_columns"]


def test_quotes_that_csv_would_undo_are_noted_in_tsv() -> None:
    rows, report = read(f'url\ttext\n{A}\t"He said ""x"""\n', separator="\t")

    assert rows == [TableRow(2, A, '"He said ""x"""')]
    assert [note.code for note in report.notes] == ["quotes_kept"]


def test_damaged_utf16_is_no_text() -> None:
    content = codecs.BOM_UTF16_LE + f"url,text\n{A},été".encode("utf-16-le")

    rows, _ = read(content[:-1])

    assert [row.code for row in rows if isinstance(row, Damaged)] == ["undecodable_row"]


def test_json_takes_one_member_for_a_role_in_all_rows() -> None:
    report = Report()
    lines = [
        {"url": A, "annotation": "right", "text": "guess"},
        {"url": B, "text": "guess"},
        {"image": B, "annotation": "right"},
    ]

    rows = list(read_items(iter(lines), WANTED, report))

    guess = Details(metadata={"text": "guess"})
    assert rows == [
        TableRow(1, A, "right", details=guess),
        TableRow(2, B, None, details=guess),
        TableRow(3, "", None),
    ]
    assert [note.code for note in report.notes] == ["several_text_columns"]
