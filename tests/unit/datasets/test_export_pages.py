"""Lines of pages, exported as PAGE XML or ALTO: the same pages as those that came in."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain.ground_truth.reading import placed, read_transcript
from services.common.domain.ground_truth.transcript import TextLine, Transcript
from services.common.domain.labels import Exclusion, Origin
from services.common.domain.page import Line, PageOfLine
from services.common.domain.provenance import Provenance, from_metadata
from services.datasets.export import _open_writer
from services.datasets.folder import Folder
from services.datasets.formats.pages import PageFiles
from services.datasets.grouping import Splitting
from services.datasets.manifest import ExportQuery, Format, ManifestRecord
from services.datasets.selection import to_record
from services.fetcher.sources.archives.cutting import of_line
from services.segmenter.provenance import line_metadata
from tests import factories
from tests.support.datasets import STORED_AT
from tests.support.transcripts import page_of
from tests.unit.common.domain.test_ground_truth import REGIONS

LAYOUTS = [Format.PAGE, Format.ALTO]
QUAD = (1, 1, 8, 1, 8, 5, 1, 5)
SIZED: dict[str, Any] = {"width": 9, "height": 9, "quad": QUAD}


def record_of(page: PageOfLine, text: str, number: int) -> ManifestRecord:
    return ManifestRecord(
        sha256=f"{number:064x}",
        key=f"lines/{number}.webp",
        etag="etag",
        split="train",
        label=text,
        origin=Origin.ANNOTATION,
        agreement=None,
        score=None,
        engine=None,
        model_version=None,
        hosts=[],
        page=page,
    )


def exported(pages: Mapping[str, Transcript], layout: Format) -> dict[str, bytes]:
    """Return the files of an export by their names, its lines added in any order."""
    records = [
        record_of(
            of_line(page, line, order, identity), line.text, hash((identity, line.id)) % 10**9
        )
        for identity, page in pages.items()
        for order, line in enumerate(page.lines)
        if line.text
    ]
    return written(records, layout)


def written(records: Sequence[ManifestRecord], layout: Format) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as root:
        with Folder(Path(root)) as folder:
            writer = _open_writer(layout, folder, STORED_AT)
            for record in sorted(records, key=lambda each: each.sha256):
                writer.add(record, b"", "webp")
            writer.finish()
        return {each.stem: each.read_bytes() for each in Path(root).rglob("*.xml")}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=20)
@given(st.lists(REGIONS, max_size=2))
def test_pages_that_came_in_go_out_equal(
    layout: Format, pages: list[dict[str, list[TextLine]]]
) -> None:
    came = {}
    for number, regions in enumerate(pages):
        lines = [
            replace(each, id=f"{name}-{at}", region=name)
            for name, some in regions.items()
            for at, each in enumerate(some)
        ]
        page = Transcript("page", f"{number}.jpg", 3000, 4000, tuple(lines))
        came[f"pages/given/{number}"] = placed(page, 3000, 4000)

    found = {
        (each := read_transcript(content)).image: each
        for content in exported(came, layout).values()
    }

    expected = {
        page.image: tuple(line for line in page.lines if line.text)
        for page in came.values()
        if any(line.text for line in page.lines)
    }
    assert {image: page.lines for image, page in found.items()} == expected
    assert {(page.width, page.height) for page in found.values()} <= {(3000, 4000)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lines_that_were_found_have_their_boxes(layout: Format) -> None:
    event = factories.event(bucket="pages", key="scans/0001.png")
    found = Line(id="0a", quad=(10, 10, 90, 12, 90, 30, 10, 28), order=0)
    metadata = line_metadata(found, event, Provenance(), (100, 200))
    page = from_metadata(dict(metadata)).page
    assert page is not None

    (content,) = written([record_of(page, "Haus", 0)], layout).values()

    read = read_transcript(content)
    assert (read.image, read.width, read.height) == ("0001.png", 100, 200)
    assert [(line.id, line.text, line.polygon) for line in read.lines] == [
        ("line-0a", "Haus", found.quad)
    ]


def test_names_of_files_are_those_of_the_pages() -> None:
    _, transcript = page_of("a", image="../é b/0001.jpg")

    (name,) = exported({"pages/given/0": transcript}, Format.ALTO)

    assert name.startswith("0001-")


@pytest.mark.parametrize("layout", list(Format))
def test_only_an_export_of_pages_leaves_other_lines_out(layout: Format) -> None:
    document = factories.document(annotation=factories.annotation("a"), sha256="f" * 64)

    record = to_record(
        [document], ExportQuery(format=layout, bucket="raw"), Splitting.parse("1/0/0", "group")
    )

    assert (record is Exclusion.NOT_OF_A_PAGE) == layout.is_of_pages


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transcription_names_its_image_not_what_its_lines_say(
    tmp_path: Path, layout: Format
) -> None:
    """A page that came twice, under two names, has lines of either."""
    names = ("second.jpg", "first.jpg")  # the line with the smaller hash is the lower one
    pages = [
        PageOfLine(id="pages/a", line=f"{at}", order=1 - at, image=name, **SIZED)
        for at, name in enumerate(names)
    ]
    with Folder(tmp_path) as folder:
        writer = _open_writer(layout, folder, STORED_AT)
        for at, page in enumerate(pages):
            writer.add(record_of(page, "text", at), b"", "webp")
        assert isinstance(writer, PageFiles)
        for key in writer.pages():
            writer.add_image(key, b"image", "png")
        writer.finish()

    (found,) = tmp_path.rglob("*.xml")
    image = read_transcript(found.read_bytes()).image
    assert found.with_suffix(".png").name == image
    assert found.with_name(str(image)).read_bytes() == b"image"


@pytest.mark.parametrize(
    ("page", "is_placed"),
    [(SIZED, True), (SIZED | {"quad": None}, False), (SIZED | {"polygon": [1]}, True)],
    ids=["placed", "without a place", "with a damaged polygon"],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_line_without_a_place_is_left_out(
    layout: Format, page: dict[str, Any], *, is_placed: bool
) -> None:
    """Metadata of an object may say anything of its page."""
    document = factories.document(
        annotation=factories.annotation("a"),
        sha256="f" * 64,
        page={"id": "pages/a", "line": "1"} | page,
    )

    record = to_record(
        [document], ExportQuery(format=layout, bucket="raw"), Splitting.parse("1/0/0", "group")
    )

    assert (record is not Exclusion.NOT_OF_A_PAGE) == is_placed
    if isinstance(record, ManifestRecord):
        (content,) = written([record], layout).values()
        assert [line.polygon for line in read_transcript(content).lines] == [QUAD]
