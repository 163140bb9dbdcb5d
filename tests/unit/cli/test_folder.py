"""Folders are sent with all that the fetcher reads of them."""

import os
from io import BytesIO
from pathlib import Path

import pytest

from services.cli.errors import CommandError
from services.cli.folder import files_of, tar_pieces
from services.common.domain.tables.report import Report
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits
from services.fetcher.sources.archives.rows import archive_rows
from tests.support.images import line_image

LIMITS = ArchiveLimits(members=100, decoded_bytes=10**8, ratio=10_000)


def test_catalogue_of_a_folder_is_sent_whole(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(line_image("a"))
    lines = ["schema: https://htr-united.github.io/schema/2023-06-27", "title: Lines of a parish"]
    lines += ["license:", "  - name: CC-BY 4.0"]
    (tmp_path / "htr-united.yml").write_text("\n".join(lines))

    report, content = Report(), b"".join(tar_pieces(files_of(tmp_path)))
    rows = list(archive_rows(OpenArchive(BytesIO(content), LIMITS), "x", LIMITS, report))

    assert len(rows) == 1
    assert (report.licence, report.data_set["data_set"]) == ("CC-BY 4.0", "Lines of a parish")


def test_no_file_is_lost_where_names_are_not_utf8(tmp_path: Path) -> None:
    for name in (b"B\xe4r.png", b"B\xf6r.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"")

    with pytest.raises(CommandError, match="not UTF-8"):
        files_of(tmp_path)
