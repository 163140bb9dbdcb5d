"""Pages with their transcription in an archive: each of their lines is an image."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from services.common.domain.batch import Batch, PageProgress
from services.common.domain.ground_truth.writing import to_alto, to_page
from services.common.domain.line_images import cut_line, to_webp
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.common.download.errors import RefusedDownloadError
from services.fetcher.jobs import job_of
from services.fetcher.sources.addresses import (
    LineAddress,
    line_url,
    member_url,
    name_of,
    split_line,
    split_member,
)
from services.fetcher.sources.archives import cut_pages
from services.fetcher.sources.archives.cut_pages import LineDownload
from services.fetcher.sources.archives.cutting import CutLine, cut_page
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits
from services.fetcher.sources.archives.pages import page_digest
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.archives.settings import ArchiveSettings
from services.fetcher.sources.archives.source import FRESH_SECONDS, ArchiveSource
from services.fetcher.sources.errors import Rejection
from services.fetcher.sources.lists.rows import ListItem, Row, to_row
from services.fetcher.sources.spool import Spool
from tests.support.archives import Host, zip_of
from tests.support.transcripts import packed_page, page_of
from tests.support.virtual_time import Clock

LIMITS = ArchiveLimits(members=100, decoded_bytes=10**8, ratio=10_000)
URL = "https://x.test/pages.zip"
NOW = datetime(2026, 11, 28, tzinfo=UTC)


def listed(
    files: Mapping[str, bytes], options: ReadingOptions | None = None
) -> tuple[list[Row], Report]:
    report, archive = Report(), OpenArchive(BytesIO(zip_of(files)), LIMITS)
    return list(archive_rows(archive, URL, LIMITS, report, options)), report


def codes_of(files: Mapping[str, bytes]) -> tuple[list[str], list[str]]:
    """Return the codes of what is rejected and of what is noted."""
    rows, report = listed(files)
    rejected = [each.code for each in rows if isinstance(each, Rejection)]
    return rejected, [each.code for each in report.notes]


@pytest.mark.parametrize("name", ["é 1#.png", "a?transcript=b&line=c.png"])
def test_addresses_of_lines_are_told_apart_from_names(name: str) -> None:
    of_page = LineAddress("page/ä&=?.xml", "eSc_line_1 &", "0" * 32)
    page = member_url(URL, name)
    line = line_url(page, of_page)

    assert (split_member(line), split_line(line)) == ((URL, name), of_page)
    assert (split_member(page), split_line(page)) == ((URL, name), None)
    assert name_of(line) == f"{name}#eSc_line_1 &"
    assert to_row(1, line) == ListItem(1, line)


def test_each_line_of_a_page_is_an_item() -> None:
    rows, report = listed(
        {
            "a/line.png": b"a picture",
            **packed_page("p1", "Un", "Deux"),
            "b/line.png": b"another",
        }
    )

    items = [
        (row.line, name_of(row.url), row.annotation) for row in rows if isinstance(row, ListItem)
    ]
    assert items == [(2, "p1.png#l0", "Un"), (3, "p1.png#l1", "Deux")]
    refused = [(row.line, row.code) for row in rows if isinstance(row, Rejection)]
    assert refused == [(1, "transcript_missing"), (5, "transcript_missing")]
    details = next(row.details for row in rows if isinstance(row, ListItem))
    assert details.group == "p1.png"
    assert details.metadata == {"page": "p1.png", "line": "l0", "tags": ["Typewritten"]}
    assert (report.rows, report.with_text, report.notes) == (2, 2, [])


@pytest.mark.parametrize(
    ("catalogue", "licence", "data_set"),
    [
        (
            (
                "title: L'Été\nlicense:\n  - name: 'CC-BY 4.0'\n    url: https://x.test\n"
                "url: https://y.test\n"
            ),
            "CC-BY 4.0",
            {"data_set": "L'Été", "data_set_url": "https://y.test"},
        ),
        ("license: CC0 # free\n", "CC0", {}),
        (
            'title: "A: b"\nlicense: [{name: "Etalab 2.0", url: y}]\n',
            "Etalab 2.0",
            {"data_set": "A: b"},
        ),
        ("licenses of others: 7\ntitle:\n  x\n", None, {}),
    ],
)
def test_licence_and_title_of_a_catalogue_are_of_the_whole(
    catalogue: str, licence: str | None, data_set: dict[str, str]
) -> None:
    files = {"set/htr-united.yml": catalogue.encode(), **packed_page("set/p1", "Un")}
    rows, report = listed(files)

    assert (report.licence, report.data_set) == (licence, data_set)
    batch = Batch(id="b", created_at=NOW, pages=PageProgress(), licence=licence, reading=report)
    details = next(job_of(batch, "1", row, 0).details for row in rows if isinstance(row, ListItem))
    assert details.licence == licence
    own = {"page": "set/p1.png", "line": "l0", "tags": ["Typewritten"]}
    assert details.metadata == own | data_set
    assert not any(isinstance(row, Rejection) for row in rows)


def test_archive_of_pages_has_documents_and_pages_without_lines() -> None:
    files = {"1.pdf": b"%PDF-1.7", "2.pdf": b"<html>", "3.png": b"", "3.txt": b"its text"}
    rows, report = listed(files | packed_page("4", "Un"), ReadingOptions(pages=True))

    items = [row for row in rows if isinstance(row, ListItem)]
    known = [(name_of(row.url), row.annotation, row.details.is_page) for row in items]
    assert known == [("1.pdf", None, True), ("3.png", None, True), ("4.png#l0", "Un", None)]
    assert report.note_counts == {"text_of_page": 1}
    refused = [row for row in rows if isinstance(row, Rejection)]
    assert [(row.value, row.code) for row in refused] == [("2.pdf", "not_an_image")]


def test_pages_in_several_folders_are_grouped_by_folder() -> None:
    rows, _ = listed({**packed_page("one/p1", "a"), **packed_page("two/p1", "b", seed=1)})

    assert [row.details.group for row in rows if isinstance(row, ListItem)] == ["one", "two"]


def test_transcription_in_the_folder_page_is_found() -> None:
    content, transcript = page_of("a", image="0001.png")
    other, _ = page_of("b", image="0001.png", seed=1)
    files = {
        "doc1/0001.png": content,
        "doc1/page/0001.xml": to_page(transcript, NOW),
        "doc2/0001.png": other,
        "doc2/page/0001.xml": to_page(transcript, NOW),
    }

    rows, report = listed(files)

    assert [name_of(row.url) for row in rows if isinstance(row, ListItem)] == [
        "doc1/0001.png#l0",
        "doc2/0001.png#l0",
    ]
    assert report.notes == []


def changed(**values: object) -> bytes:
    return to_alto(replace(page_of("a")[1], **values))  # type: ignore[arg-type]


PNG, ALTO = (packed_page("page", "a")[each] for each in ("page.png", "page.xml"))
PAGE = to_page(page_of("a")[1], NOW)
TURNED = BytesIO()
_exif = Image.Exif()
_exif[0x0112] = 3
Image.open(BytesIO(PNG)).save(TURNED, "PNG", exif=_exif)
SIDEWAYS = BytesIO()
_turned = Image.open(BytesIO(PNG)).transpose(Image.Transpose.ROTATE_90)
_turned.save(SIDEWAYS, "TIFF", tiffinfo={0x0112: 6})
ODD = {
    "no image": ({"a.xml": ALTO, "b.jpg": b"line"}, [], ["page_image_missing"]),
    "wrong image name": (
        {"page.png": PNG, "page.xml": changed(image="default.jpg")},
        [],
        ["image_name_differs"],
    ),
    "name of another page": (
        {"page.png": PNG, "page.xml": changed(image="b.png"), "b.png": PNG},
        [],
        ["page_image_ambiguous"],
    ),
    "page without transcription": (
        {"page.png": PNG, "page.xml": ALTO, "other.png": PNG},
        ["transcript_missing"],
        [],
    ),
    "picture elsewhere": (
        {"data/page.png": PNG, "data/page.xml": ALTO, "logo.png": PNG},
        ["transcript_missing"],
        [],
    ),
    "line elsewhere": (
        {"data/page.png": PNG, "data/page.xml": ALTO, "a.png": PNG, "a.gt.txt": b"a"},
        [],
        [],
    ),
    "damaged transcription": ({"page.png": PNG, "page.xml": ALTO[:-9]}, ["damaged_xml"], []),
    "another size": (
        {"page.png": PNG, "page.xml": changed(width=900)},
        ["page_size_differs"],
        [],
    ),
    "turned by EXIF": ({"page.png": TURNED.getvalue(), "page.xml": ALTO}, ["page_turned"], []),
    "sideways TIFF": (
        {"page.tif": SIDEWAYS.getvalue(), "page.xml": changed(image="page.tif")},
        [],
        [],
    ),
    "no image behind the name": ({"page.png": b"?", "page.xml": ALTO}, ["not_an_image"], []),
    "no lines": ({"page.png": PNG, "page.xml": changed(lines=())}, ["page_without_lines"], []),
    "both dialects": (
        {"page.png": PNG, "page.xml": PAGE, "alto/page.xml": ALTO},
        [],
        ["several_transcripts"],
    ),
    "the same dialect twice": (
        {"page.png": PNG, "page.xml": ALTO, "alto/page.xml": ALTO},
        ["several_transcripts"],
        [],
    ),
    "another XML": (
        {"page.png": PNG, "page.xml": ALTO, "mets.xml": b"<mets/>"},
        [],
        ["no_ground_truth"],
    ),
    "line without text": (
        packed_page("page", "a", None),
        [],
        ["line_without_text"],
    ),
}


@pytest.mark.parametrize(("files", "rejected", "noted"), ODD.values(), ids=ODD)
def test_what_is_odd_about_pages_is_told(
    files: dict[str, bytes], rejected: list[str], noted: list[str]
) -> None:
    assert codes_of(files) == (rejected, noted)


@contextmanager
def source_of(files: Mapping[str, bytes]) -> Iterator[ArchiveSource]:
    host, spool = Host(zip_of(files)), Spool(10_000_000)
    source = ArchiveSource(host, ArchiveSettings(), spool, max_item_bytes=100, timeout_seconds=60)
    try:
        yield source
    finally:
        source.close()


def line_at(line: str, page: bytes, transcript: bytes) -> str:
    address = LineAddress("page.xml", line, page_digest(transcript, page))
    return line_url(member_url(URL, "page.png"), address)


@pytest.mark.slow
async def test_lines_are_cut_once_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    content, transcript = page_of("Un", None)
    cuts: list[str] = []

    def counted(*args: Any) -> dict[str, CutLine]:
        cuts.append("page")
        return cut_page(*args)

    monkeypatch.setattr(cut_pages, "cut_page", counted)

    with source_of({"page.png": content, "page.xml": to_alto(transcript)}) as source:
        found = [
            await source.get(line_at(line.id, content, to_alto(transcript)))
            for line in transcript.lines
        ]

    page = Image.open(BytesIO(content))
    assert cuts == ["page"]
    for download, line in zip(found, transcript.lines, strict=True):
        assert isinstance(download, LineDownload)
        assert download.line is not None
        assert download.content == to_webp(cut_line(page, line.polygon, line.baseline))
        of_page, sha256 = download.line.page, hashlib.sha256(content).hexdigest()
        assert (of_page.name, of_page.polygon) == (line.id, line.polygon)
        assert (of_page.image, of_page.tags) == ("page.png", line.tags)
        assert download.line.key == f"lines/{sha256[:2]}/{sha256}/{of_page.line}.webp"
    assert (
        len({each.line.key for each in found if isinstance(each, LineDownload) and each.line}) == 2
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "line", "code"),
    [(PNG, "none", "line_not_cut"), (b"no image", "l0", "archive_refused")],
)
async def test_a_line_that_is_not_there_is_refused(page: bytes, line: str, code: str) -> None:
    with (
        source_of({"page.png": page, "page.xml": ALTO}) as source,
        pytest.raises(RefusedDownloadError) as caught,
    ):
        await source.get(line_at(line, page, ALTO))

    assert caught.value.code == code


@pytest.mark.slow
@pytest.mark.parametrize("member", ["page.png", "page.xml"])
async def test_a_page_that_changed_since_its_list_is_refused(member: str) -> None:
    rows, _ = listed(packed_page("page", "a"))
    (url,) = (row.url for row in rows if isinstance(row, ListItem))
    other = {"page.png": packed_page("page", "a", seed=1)["page.png"], "page.xml": PAGE}[member]

    with source_of({"page.png": PNG, "page.xml": ALTO, member: other}) as source:
        for address in (url, url.rpartition("&page=")[0]):
            with pytest.raises(RefusedDownloadError) as caught:
                await source.get(address)

            assert caught.value.code == "page_changed"


@pytest.mark.slow
async def test_an_archive_from_before_the_list_is_downloaded_again() -> None:
    host, spool, clock = Host(zip_of(packed_page("page", "a"))), Spool(10_000_000), Clock()
    source = ArchiveSource(
        host, ArchiveSettings(), spool, max_item_bytes=100, timeout_seconds=60, clock=clock
    )
    listed_now = packed_page("page", "b", seed=1)
    try:
        await source.get(line_at("l0", PNG, ALTO))
        host._content = zip_of(listed_now)
        clock.now += FRESH_SECONDS
        found = await source.get(line_at("l0", *listed_now.values()))
    finally:
        source.close()

    assert isinstance(found, LineDownload)
    assert host.downloads == {URL: 2}
