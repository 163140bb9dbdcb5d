"""The list of failed items can be submitted unchanged."""

import csv
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from io import BytesIO, StringIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.domain.batch_item import BatchItem
from services.common.domain.details import NO_DETAILS, Details, to_details, to_path
from services.common.domain.tables.list_format import ListFormat
from services.fetcher.progress import failed_csv
from services.fetcher.sources.addresses import LineAddress, line_url, member_url, name_of
from services.fetcher.sources.errors import Rejection
from services.fetcher.sources.lists.formats import open_list
from services.fetcher.sources.lists.rows import MAX_ANNOTATION_LINES, ListItem, Row, to_row

MOST_LINES = "x\n" * (MAX_ANNOTATION_LINES - 1) + "x"
ODD = st.text(st.sampled_from("a\",;\t\n\r'#= éß日\u2028\x85\x0b\\\ufeff"), max_size=12)


def failed_item(
    url: str, annotation: str | None, detail: str, details: Details = NO_DETAILS
) -> BatchItem:
    said = {"url": url, "annotation": annotation, "code": "timeout", "detail": detail}
    return BatchItem.model_validate({"_id": "b/1", "attempts": 2, **said, **details.to_fields()})


async def listed_again(items: Sequence[ListItem]) -> list[Row]:
    async def failed() -> AsyncIterator[BatchItem]:
        for item in items:
            yield failed_item(item.url, item.annotation, 'no "answer", yet', item.details)

    text = "".join([row async for row in failed_csv(failed())])
    return list(open_list(BytesIO(text.encode()), ListFormat.TABLE).rows)


@settings(max_examples=50)
@example([MOST_LINES, "after it"], "")
@example([MOST_LINES.replace("\n", "\r")], "")
@given(st.lists(ODD, max_size=4), ODD)
async def test_every_item_that_was_taken_is_taken_again(annotations: list[str], odd: str) -> None:
    details, _ = to_details(
        {"group": odd, "split": "test", "licence": odd}, [("n", 7), (odd, {"x": odd})]
    )
    name, how = to_path(" ".join(odd.split())), "accepted" if odd else None
    details = replace(details, name=name, collection=name, how=how)
    rows = [to_row(1, "https://h.test/a,%22b", annotation, details) for annotation in annotations]
    items = [row for row in rows if isinstance(row, ListItem)]
    assert len(items) == len(rows)

    again = await listed_again(items)

    told = [(each.url, each.annotation, each.details) for each in items]
    found = [row for row in again if isinstance(row, ListItem)]
    assert [(row.url, row.annotation, row.details) for row in found] == told


@pytest.mark.parametrize("archive", ["https://h.test/a.zip", "https://h.test/get?id=3"])
@pytest.mark.parametrize("line", [None, LineAddress("x/1.xml", "l1", "0" * 32)])
async def test_member_of_an_archive_is_taken_again(archive: str, line: LineAddress | None) -> None:
    page = member_url(archive, "x/\u00e9 1.png")
    url = line_url(page, line) if line else page

    (again,) = await listed_again([ListItem(1, url, "text", Details(name=name_of(url)))])

    assert isinstance(again, ListItem)
    assert (again.url, again.annotation) == (url, "text")


@pytest.mark.parametrize("formula", ["=1+1", "@SUM(1)", "+1", "-1", "\t=1", "\r=1"])
async def test_no_cell_for_a_spreadsheet_is_a_formula(formula: str) -> None:
    async def failed() -> AsyncIterator[BatchItem]:
        yield failed_item("https://h.test/a", formula, formula)

    text = "".join([row async for row in failed_csv(failed(), for_spreadsheet=True)])

    (row,) = csv.DictReader(StringIO(text.removeprefix("\ufeff"), newline=""))
    assert text.startswith("\ufeffurl,")  # Excel takes it for UTF-8 then
    assert (row["annotation"], row["detail"]) == (f"'{formula}", f"'{formula}")


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_annotation_with_too_many_lines_is_rejected(line_end: str) -> None:
    row = to_row(7, "https://h.test/a", f"x{line_end}" * MAX_ANNOTATION_LINES + "x")

    assert isinstance(row, Rejection)
    assert (row.line, row.code) == (7, "invalid_annotation")
