"""Untrusted lists are read in a child process that can be stopped and has limits."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from services.common.domain.tables.list_format import ListFormat, ReadingOptions
from services.fetcher.sources.errors import MalformedListError
from services.fetcher.sources.lists.reading import open_bounded
from services.fetcher.sources.lists.rows import ListItem, Row

pytestmark = pytest.mark.slow

MANY = 10_000


@contextmanager
def list_file(content: bytes) -> Iterator[IO[bytes]]:
    with TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file


async def rows_of(
    content: bytes, list_format: ListFormat, *, max_rows: int = MANY
) -> tuple[list[Row], str | None]:
    with list_file(content) as file:
        async with open_bounded(file, list_format, ReadingOptions(), max_rows=max_rows) as opened:
            rows = await asyncio.to_thread(list, opened.rows)
            return rows, opened.report.encoding


def children() -> set[str]:
    task = Path("/proc/self/task")
    found = (each / "children" for each in task.iterdir())
    return {pid for each in found if each.exists() for pid in each.read_text().split()}


async def test_rows_and_report_come_from_the_child() -> None:
    content = "url;text\nhttp://x.test/a;é\nftp://x.test/b;c\n".encode("cp1252")

    rows, encoding = await rows_of(content, ListFormat.TABLE)

    assert rows[0] == ListItem(2, "http://x.test/a", "é")
    assert [type(row).__name__ for row in rows] == ["ListItem", "Rejection"]
    assert encoding == "cp1252"


async def test_json_of_very_many_objects_is_refused() -> None:
    content = b'{"items":[' + b"{}," * 12_000_000 + b"{}]}"

    with pytest.raises(MalformedListError, match="memory"):
        await rows_of(content, ListFormat.JSON)


@pytest.mark.parametrize("list_format", [ListFormat.TEXT, ListFormat.TABLE])
async def test_list_has_a_most_number_of_rows(list_format: ListFormat) -> None:
    content = b"http://x.test/a\n" * 3 + b"x\n"

    assert len((await rows_of(content, list_format, max_rows=4))[0]) == 4
    with pytest.raises(MalformedListError, match="FETCHER_MAX_LIST_ROWS"):
        await rows_of(content, list_format, max_rows=3)


async def test_child_ends_with_its_reader() -> None:
    before = children()
    with list_file(b"url,text\n" + b'a","\n' * 500_000) as file:
        async with open_bounded(file, ListFormat.TABLE, ReadingOptions(), max_rows=10**9) as opened:
            await asyncio.to_thread(next, opened.rows)
            assert children() > before
    assert children() == before


async def test_malformed_list_names_its_line_across_the_processes() -> None:
    with pytest.raises(MalformedListError) as caught:
        await rows_of(b'{"items": [\n{"url": }]}', ListFormat.JSON)

    assert [row.line for row in caught.value.rejected] == [2]
