"""Output to a terminal: untrusted text is never markup or control characters."""

import csv
import json
import unicodedata
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from services.cli.errors import (
    CommandError,
    ExitStatus,
    ServiceDownError,
    address_of,
    reason_of,
    translate_errors,
)
from services.cli.forget import targets_table
from services.cli.output import Output, Table, cell, counted, plain, to_csv, to_json
from services.cli.rows import image_row, image_table
from services.cli.settings import CliSettings
from services.common.adapters.repository import InvalidDocumentError
from services.common.domain.errors import DatabaseUnavailableError
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import NO_LIMITS, Limits
from services.erasure.removal import Target
from tests import factories

CLEAR_SCREEN = "\x1b[2J"
RIGHT_TO_LEFT = "\N{RIGHT-TO-LEFT OVERRIDE}"


def rendered(*shown: object) -> str:
    console = Console(file=StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(*shown)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def document(**changes: Any) -> ImageDocument:
    return factories.document(
        **{
            "_id": "raw/fetched/ab/" + "ab" * 32 + ".png",
            "status": "predicted",
            "prediction": {"text": "bonjour", "score": 0.25},
            "annotation": {"text": "bonsoir"},
            "sources": [{"url": "http://site.example/images/one.png?size=2"}],
            "error": None,
            **changes,
        }
    )


@given(st.text())
def test_no_text_puts_a_control_character_on_a_terminal(text: str) -> None:
    for character in plain(text):
        assert character.isprintable() or unicodedata.category(character) == "Zs"


@pytest.mark.parametrize(
    "hostile", [CLEAR_SCREEN, "\r", "\n", "\x07", "\x9b31m", RIGHT_TO_LEFT, "\N{LINE SEPARATOR}"]
)
def test_hostile_characters_are_replaced(hostile: str) -> None:
    shown = rendered(Table("t", ("image",), [[cell(f"a{hostile}b")]]))
    assert f"a{hostile[0]}" not in shown
    assert "a\N{REPLACEMENT CHARACTER}" in shown


def test_table_is_cut_to_first_rows_and_keys_unless_wide() -> None:
    rows = [[cell(f"raw/{number}", short=f"…{number}"), cell(0.25, form=".0%")] for number in "ab"]
    made = Table("Images", ("image", "CER"), rows, most=1)
    cut, wide = (
        " ".join(rendered(made.shown(is_wide=is_wide)).split()) for is_wide in (False, True)
    )
    assert all(each in cut for each in ("…a", "25%", "the first 1", "--wide"))
    assert "…b" not in cut
    assert all(each in wide for each in ("raw/a", "raw/b"))
    assert "--wide" not in wide
    assert to_csv([made]) == "image,CER\r\nraw/a,0.25\r\nraw/b,0.25\r\n"


def test_tables_are_one_table_as_csv(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = 'a"b,\nc'
    tables = [
        Table("one", ("x", "y"), [[cell(hostile), cell(None)]]),
        Table("two", ("z",), [["1"]]),
    ]
    Output(as_csv=True).print({}, *tables, "a sentence")
    written = capsys.readouterr()
    assert list(csv.DictReader(StringIO(written.out, newline=""))) == [
        {"table": "one", "x": hostile, "y": "", "z": ""},
        {"table": "two", "x": "", "y": "", "z": "1"},
    ]
    assert written.err == "a sentence\n"


def test_empty_table_is_a_sentence_or_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = Table("Hosts", ("host", "until"), [], empty="No host is delayed.")
    Output().print([], nothing)
    Output(as_csv=True).print([], nothing)
    Output(as_csv=True).print([], image_table("Images", []))
    Output(as_csv=True).print([], "no table")
    said, header, columns = capsys.readouterr().out.splitlines()
    assert (said, header) == ("No host is delayed.", "host,until")
    assert columns.startswith("image,status,prediction,")


def test_urls_of_an_image_stand_on_lines_of_their_own() -> None:
    urls = ["http://a.test/1", f"http://a.test/{CLEAR_SCREEN}"]
    document = ImageDocument.model_validate(
        {"_id": "raw/a.png", "sources": [{"url": url} for url in urls]}
    )
    target = Target("a.png", is_stored=True, document=document)
    shown = rendered(targets_table([target]))
    assert shown.count("http://a.test/") == 2
    assert shown.count("\N{REPLACEMENT CHARACTER}") == 1


def test_untrusted_markup_is_shown_as_it_is() -> None:
    row = image_row(document(prediction={"text": "[red]x[/red] [link=http://evil]y", "score": 1.0}))
    shown = rendered(image_table("t", [row]))
    assert "[red]x[/red] [link=http://evil]y" in shown


def test_placeholder_is_shown_as_one() -> None:
    many = document(
        placeholder=True,
        sources_count=54_321,
        annotation=None,
        annotation_conflict="sources_disagree",
    )
    shown = rendered(image_table("t", [image_row(many)]))
    assert "placeholder of 54321 URLs, whose texts conflict" in shown
    assert "placeholder" not in rendered(image_table("t", [image_row(document())]))


def test_accents_and_other_scripts_stay() -> None:
    assert plain("« œuf » ñ 漢字 €") == "« œuf » ñ 漢字 €"


def test_error_with_hostile_text_is_replaced_line_by_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = CommandError(f"first{CLEAR_SCREEN}\n[b]second", status=ExitStatus.REFUSED, hint="do it")
    Output().error(error)
    written = capsys.readouterr()
    assert written.out == ""
    assert CLEAR_SCREEN not in written.err
    assert written.err.splitlines()[1:] == ["[b]second", "do it"]


def test_json_answer_is_one_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).print({"text": "é[red]"}, "for people")
    assert json.loads(capsys.readouterr().out) == {"text": "é[red]"}


@given(st.text())
def test_json_answer_has_no_control_character_and_loses_none(text: str) -> None:
    shown = to_json({"text": text, "list": [text]})
    assert json.loads(shown) == {"text": text, "list": [text]}
    for character in shown.replace("\n", ""):
        assert character.isprintable() or unicodedata.category(character) == "Zs"


@pytest.mark.parametrize("hostile", [CLEAR_SCREEN, "\x9b2J", RIGHT_TO_LEFT, "\U000e0001"])
def test_hostile_characters_are_escaped_in_json(hostile: str) -> None:
    shown = to_json({"text": f"é{hostile}"})
    assert hostile[0] not in shown
    assert "é" in shown


def test_counts_leave_out_zeros() -> None:
    assert counted({"stored": 12, "failed": 0, "cancelled": 3}) == "12 stored, 3 cancelled"
    assert counted({"stored": 0}) == "nothing"


@pytest.mark.parametrize(
    ("said", "read", "rate"),
    [
        ("abcd", "abcd", 0.0),
        ("abcd", "abxd", 0.25),
        ("abcd", "", 1.0),
        ("an \u00e9t\u00e9", "an  e\u0301te\u0301 ", 0.0),
        ("an  \u00e9t\u00e9 ", "an \u00e9t\u00e9", 0.0),  # of a version without normal form
        ("a\x07b", "ab", None),
        ("", "x", None),
    ],
)
def test_error_rate_of_a_row(said: str, read: str, rate: float | None) -> None:
    note, prediction = factories.annotation(said), factories.prediction(read)
    row = image_row(factories.document(annotation=note, prediction=prediction))
    assert row.cer == (rate if rate is None else pytest.approx(rate))


@pytest.mark.parametrize("quality", ["unreadable", "not_a_line", "cut_wrong"])
def test_row_of_a_refused_image_has_no_error_rate(quality: str) -> None:
    note = factories.annotation("", quality=quality)
    row = image_row(factories.document(annotation=note, prediction=factories.prediction("x")))
    assert row.cer is None


def test_row_of_a_read_image_has_all_of_it() -> None:
    row = image_row(document())
    assert (row.prediction, row.score, row.annotation) == ("bonjour", 0.25, "bonsoir")
    assert row.cer == pytest.approx(2 / 7)
    assert row.label == "one.png"
    assert row.short_image == "one.png"
    named = image_row(document(sources=[{"name": "lines/7.png", "collection": "c"}]))
    assert named.short_image == "7.png"
    assert image_row(document(sources=[])).short_image == "abababababab….png"


def test_row_without_annotation_has_no_error_rate() -> None:
    assert image_row(document(annotation=None)).cer is None


def test_row_of_an_upload_is_known_by_its_key() -> None:
    row = image_row(factories.document(_id="raw/scans/page 1.png"))
    assert row.label == "page 1.png"
    assert row.short_image == "page 1.png"
    assert "(uploaded)" in rendered(image_table("t", [row]))


def test_row_shows_the_source_that_was_asked_for() -> None:
    known = [
        {"url": "http://a.test/1"},
        {"kind": "archive", "collection": "a", "name": "1.png", "batch_id": "b1"},
        {"kind": "folder", "collection": "b", "name": "2.png", "batch_id": "b2"},
    ]
    image = factories.document(sources=known)
    limits = [Limits(collection="b"), Limits(batch="b1"), NO_LIMITS]
    asked = [image_row(image, each) for each in limits]
    assert [each.name for each in asked] == ["2.png", "1.png", "1.png"]
    assert [each.origin for each in asked] == ["b: 2.png", "a: 1.png", "http://a.test/1"]


def test_rejected_image_shows_its_reason() -> None:
    error = {"code": "undecodable_image", "detail": "damaged"}
    row = image_row(document(status="rejected", prediction=None, error=error))
    assert "rejected: undecodable_image" in rendered(image_table("t", [row]))


def test_address_in_a_message_has_no_password() -> None:
    assert address_of("amqp://user:s@ecret@host:5672/v?x=1") == "amqp://host:5672"
    assert address_of("mongodb://u:p@a:1,b:2/db?replicaSet=r") == "mongodb://a:1,b:2"


def test_reasons_are_short() -> None:
    assert reason_of(ConnectionRefusedError(111, "Connection refused")) == "connection refused"
    assert reason_of(TimeoutError()) == "timeout"
    assert len(reason_of(ValueError("x" * 1000))) < 210


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCRECO_FETCHER_URL", "not an address")
    with pytest.raises(CommandError, match="fetcher_url") as raised, translate_errors():
        CliSettings()
    assert raised.value.status is ExitStatus.BAD_SETTING


def test_foreign_document_is_named() -> None:
    with pytest.raises(CommandError, match="invalid_document: raw") as raised, translate_errors():
        raise InvalidDocumentError("raw/a.png: key: Input should be a valid string")
    assert raised.value.status is ExitStatus.REFUSED


def test_mongodb_that_is_down_is_named_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URL", "mongodb://user:secret@127.0.0.1:1/")
    with pytest.raises(ServiceDownError) as raised, translate_errors():
        raise DatabaseUnavailableError("127.0.0.1:1: [Errno 111] Connection refused")
    assert "mongodb://127.0.0.1:1" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "MONGO_URL" in raised.value.hint
