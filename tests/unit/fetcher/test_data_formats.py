"""Each example of docs/data-formats.md is read as the table behind it says."""

import re
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from services.cli.annotation_files import Row, open_annotations
from services.common.domain.tables.columns import (
    FILE_NAMES,
    KEY_NAMES,
    ROLES,
    TEXT_NAMES,
    URL_NAMES,
)
from services.common.domain.tables.list_format import find_format
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.lists.formats import open_list
from services.fetcher.sources.lists.rows import ListItem

PAGE = Path(__file__).parents[3] / "docs" / "data-formats.md"
LIMITS = ArchiveLimits(members=100, decoded_bytes=10**6, ratio=100)
EXAMPLES = re.findall(
    r"<!-- (list|archive|annotate): (\S+)(?: images: (.*?))? -->\n```text\n(.*?)```\n\n"
    r"\|[^\n]*\|\n\|[-|]+\|\n((?:\|[^\n]*\|\n)+)",
    PAGE.read_text(),
    re.DOTALL,
)


def read_list(name: str, content: str) -> list[list[str]]:
    file_format = find_format(content_type=None, file_name=name)
    assert file_format is not None
    rows = open_list(BytesIO(content.encode()), file_format).rows
    return [
        [str(row.line), row.url, row.annotation or ""] for row in rows if isinstance(row, ListItem)
    ]


def read_archive(name: str, content: str, images: str) -> list[list[str]]:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for image in images.split():
            archive.writestr(image, b"image")
        archive.writestr(name, content)
    rows = archive_rows(OpenArchive(file, LIMITS), "", LIMITS)
    return [
        [row.url.removeprefix("#"), row.annotation or ""]
        for row in rows
        if isinstance(row, ListItem)
    ]


def read_annotations(folder: Path, name: str, content: str) -> list[list[str]]:
    (folder / name).write_text(content)
    with open_annotations(folder / name) as file:
        return [
            [str(row.line), row.where, row.text or ""]
            for row in file.rows()
            if isinstance(row, Row)
        ]


@pytest.mark.parametrize(
    ("kind", "name", "images", "content", "table"), EXAMPLES, ids=[each[1] for each in EXAMPLES]
)
def test_example_is_read_as_the_page_says(  # noqa: PLR0917 - what the page has
    kind: str, name: str, images: str, content: str, table: str, tmp_path: Path
) -> None:
    expected = [
        [cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in table.splitlines()
    ]
    if kind == "list":
        assert read_list(name, content) == expected
    elif kind == "archive":
        assert read_archive(name, content, images) == expected
    else:
        assert read_annotations(tmp_path, name, content) == expected


def test_every_example_of_the_page_is_found() -> None:
    assert len(EXAMPLES) == PAGE.read_text().count("```text\n") > 10
    assert all(len(content.splitlines()) <= 10 for _, _, _, content, _ in EXAMPLES)


@pytest.mark.parametrize("names", [URL_NAMES, FILE_NAMES, KEY_NAMES, TEXT_NAMES, *ROLES.values()])
def test_page_lists_all_names_of_columns(names: tuple[str, ...]) -> None:
    assert ", ".join(f"`{name}`" for name in names) in PAGE.read_text()
