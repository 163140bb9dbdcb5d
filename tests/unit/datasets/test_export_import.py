"""Exports in any layout are imported again: the same images with the same labels."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from services.cli.folder import files_of, tar_pieces
from services.common.domain.annotation_history import Annotations
from services.common.domain.annotations import UnacceptableAnnotationError, normalise
from services.common.domain.details import Details, to_name, to_path
from services.common.domain.labels import Origin
from services.common.domain.provenance import Provenance, from_metadata, to_metadata
from services.common.domain.records import Annotation, How
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.datasets.manifest import Format, SplitName
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.lists.parquet_images import open_images
from services.fetcher.sources.lists.rows import ListItem
from tests.support.datasets import STORED_AT
from tests.support.exports import write_images

pytestmark = pytest.mark.slow

Lines = Sequence[tuple[SplitName, str, bytes]]
IMPORTED = [each for each in Format if each is not Format.PARQUET and not each.is_of_pages]
LIMITS = ArchiveLimits(members=1000, decoded_bytes=10_000_000, ratio=1000)
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
NASTY = [
    '"Oh, said he', 'he said "no"', '""', "'", "a, b, and c", "a;b", "a|b|c", "|", "a\tb",
    "1914-08-03", "1918-11-11 11:00:00", "2020-01-01T00:00:00Z", "12", "1.50", "007", "-0", "1e5",
    "12 3 4 5 6 7", "0 0.5 0.5 0.1 0.1", "None", "NA", "nan", "null", "true", "NULL", "\\N", "\\",
    "a\\nb", "\\\\server\\x", "🙂", "\U0001f469\u200d\U0001f467", "a\u2028b", "a\x85b", "=1+1",
    "=cmd|' /C calc'!A0", "-", "#", "# a", "...", "Ende …", "a.", "x.png", "a/b.png", "x.png y",
    "http://a.test/b.png", "@x", "text", "file_name", "+1", "file_name,text", "sep=;", "{}",
    "\u200f\u05e9\u05dc", "\u0645\u0631", "\ufa19", "e\u0301", '{"a": "b"}', "<b>&amp;", "[1]",
    "id ok 154 1 408 768 27 51 AT A|MOVE", "\ufeffa",
]  # fmt: skip


@cache
def image(number: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 10), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def lines_of(labels: Mapping[SplitName, Sequence[str]]) -> Lines:
    """Give each label, as an export has it, an image of its own."""
    texts = [(split, normalise(text)) for split, some in labels.items() for text in some]
    return [(split, text, image(number)) for number, (split, text) in enumerate(texts)]


def by_hash(lines: Lines) -> dict[str, str | None]:
    return {hashlib.sha256(content).hexdigest(): text for _, text, content in lines}


def zipped(folder: Path) -> BytesIO:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return content


def packed(folder: Path) -> BytesIO:
    """Return a folder as ``docreco submit FOLDER`` sends it."""
    return BytesIO(b"".join(tar_pieces(files_of(folder))))


def read_archive(content: BytesIO, report: Report) -> dict[str, str | None]:
    """Return the texts of an archive by the names of its images; nothing in it is rejected."""
    rows = list(archive_rows(OpenArchive(content, LIMITS), "https://h.test/a", LIMITS, report))
    assert [row for row in rows if not isinstance(row, ListItem)] == []
    items = [row for row in rows if isinstance(row, ListItem)]
    found: dict[str, str | None] = {
        Path(item.url.partition("#")[2]).stem: item.annotation for item in items
    }
    assert len(found) == len(items)
    return found


def is_label(text: str) -> bool:
    try:
        return bool(normalise(text))
    except UnacceptableAnnotationError:
        return False


LABEL = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.sampled_from("ab\"',;\t|\\#= .1-:é\u0301\ufa19\u200f🙂\ufeff"), max_size=12),
    st.text(max_size=30),
).filter(is_label)


@pytest.mark.parametrize("layout", IMPORTED)
@settings(max_examples=25)
@example({"train": NASTY})
@example({"train": ["1914-08-03"], "test": ["12"], "validation": ["null"]})
@given(
    st.dictionaries(st.sampled_from(SPLITS), st.lists(LABEL, min_size=1, max_size=6), min_size=1)
)
def test_export_is_imported_as_it_was(
    layout: Format, labels: Mapping[SplitName, Sequence[str]]
) -> None:
    lines = lines_of(labels)
    with TemporaryDirectory() as parent:
        out = write_images(Path(parent, "set"), lines, layout=layout)
        for content in (zipped(out), packed(out)):
            report = Report()
            assert read_archive(content, report) == by_hash(lines)
            assert report.notes == []


@pytest.mark.parametrize("layout", IMPORTED)
def test_layout_alone_has_all_labels(layout: Format, tmp_path: Path) -> None:
    """Without what only this project writes beside the files of the layout."""
    lines = lines_of({"train": NASTY, "test": ["12 3 4 5 6", "1914-08-03"]})
    out = write_images(tmp_path / "set", lines, layout=layout)
    for name in ("README.md", "SHA256SUMS", "manifest.json", "manifest.jsonl"):
        (out / name).unlink()

    assert read_archive(zipped(out), Report()) == by_hash(lines)


def details_in(out: Path, layout: Format) -> dict[str, Details]:
    """Return what is read of images beside their texts, by the hash that names each."""
    if layout is not Format.PARQUET:
        rows = archive_rows(OpenArchive(zipped(out), LIMITS), "https://h.test/a", LIMITS)
        return {Path(row.url).stem: row.details for row in rows if isinstance(row, ListItem)}
    found = {}
    for path in (out / "data").iterdir():
        with path.open("rb") as file, open_images(file, ReadingOptions(), Report()) as images:
            found.update({Path(row.name).stem: row.details for row in images or ()})
    return found


@pytest.mark.parametrize("layout", [*IMPORTED, Format.PARQUET])
@settings(max_examples=4)
@example(
    {
        "name": "letters/é 1.png",
        "collection": "Lettres",
        "group": "hand 7",
        "licence": "CC BY 4.0",
        "metadata": {"year": 1916, "box": {"shelves": [1.5, None, "à"]}, "is_old": True},
    }
)
@example({"collection": r"\N", "group": r"\N", "metadata": {"name": r"\N"}})
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=20).filter(lambda text: to_path(text) == text),
            "collection": st.sampled_from(NASTY),
            "group": st.sampled_from(NASTY).filter(lambda text: to_name(text) == text),
            "metadata": st.dictionaries(
                st.sampled_from(["year", "name", "how", "metadata", "text", "{}"]),
                st.sampled_from([1, 0.1, True, *NASTY]) | st.lists(st.none() | st.integers(0, 9)),
                min_size=1,
            ),
        },
    )
)
def test_what_is_known_of_an_image_comes_back(layout: Format, known: dict[str, Any]) -> None:
    lines = lines_of({"train": ["plain"], "test": ["known"]})
    (plain, some), said = by_hash(lines), {"by": "ada", "how": How.CORRECTED, "score": 0.5}
    with TemporaryDirectory() as parent:
        out = write_images(Path(parent, "set"), lines, layout=layout, known={"known": known | said})

        assert details_in(out, layout) == {
            plain: Details(split="train", how="unknown"),
            some: Details(split="test", how="corrected", **known),
        }


def texts_in(out: Path, layout: Format, report: Report) -> dict[str, str | None]:
    if layout is not Format.PARQUET:
        return read_archive(zipped(out), report)
    (path,) = (out / "data").iterdir()
    with path.open("rb") as file, open_images(file, ReadingOptions(), report) as images:
        return {Path(row.name).stem: row.annotation for row in images or ()}


@pytest.mark.parametrize("layout", [*IMPORTED, Format.PARQUET])
def test_prediction_of_an_export_is_no_annotation(layout: Format, tmp_path: Path) -> None:
    lines = lines_of({"train": ["guess", "given"]})
    known = {"guess": {"origin": Origin.PREDICTION}, "given": {"how": How.GIVEN}}
    out, report = write_images(tmp_path / "set", lines, layout=layout, known=known), Report()

    assert set(texts_in(out, layout, report).values()) == {None, "given"}
    assert (report.with_text, report.note_counts) == (1, {"prediction_dropped": 1})
    assert {each.how for each in details_in(out, layout).values()} == {None, "given"}


def test_text_edited_in_an_export_is_given(tmp_path: Path) -> None:
    lines, known = lines_of({"train": ["guess"]}), {"guess": {"origin": Origin.PREDICTION}}
    out = write_images(tmp_path / "set", lines, layout=Format.TROCR, known=known)
    table = out / "gt_train.txt"
    table.write_text(table.read_text().replace("guess", "right"))

    assert set(read_archive(zipped(out), report := Report()).values()) == {"right"}
    assert (report.notes, {each.how for each in details_in(out, Format.TROCR).values()}) == (
        [],
        {None},
    )


@pytest.mark.parametrize(
    ("how", "known"), [(None, How.GIVEN), ("unknown", None), *((each.value, each) for each in How)]
)
def test_how_of_an_export_stays(how: str | None, known: How | None) -> None:
    sent = Provenance(batch_id="b2", annotation="a", details=Details(how=how))

    came = Annotations().with_given(from_metadata(to_metadata(sent)), STORED_AT).current

    assert came is not None
    assert Annotation(**came.to_mongo()).known_how is known


@pytest.mark.parametrize("layout", [Format.HF, Format.PARQUET])
@pytest.mark.parametrize(
    "labels",
    [
        {"train": NASTY, "validation": ["1914-08-03", "1918-11-11"], "test": ["null"]},
        {"train": ["12", "13"], "test": ["1.50"]},
        {"train": ["2020-01-01T00:00:00Z"]},
        {"train": ["12"], "validation": ["13"]},
        {"test": ["true"], "train": ["NA"]},
    ],
)
def test_datasets_reads_the_label_that_was_exported(
    layout: Format, labels: Mapping[SplitName, Sequence[str]], tmp_path: Path
) -> None:
    import datasets  # type: ignore[import-untyped]  # noqa: PLC0415  takes seconds

    lines = lines_of(labels)
    out = write_images(tmp_path / "set", lines, layout=layout)

    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))

    found = {}
    for split, rows in loaded.items():
        for row in rows.cast_column("image", datasets.Image(decode=False)):
            found[Path(row["image"]["path"]).stem] = (split, row["text"])
    assert found == {
        hashlib.sha256(content).hexdigest(): (split, text) for split, text, content in lines
    }


def test_third_text_decides_nothing_where_two_disagree(tmp_path: Path) -> None:
    table = "file_name,text\na.png,Haus\na.png,Maus\na.png,Laus\nb.png,e\u0301\nb.png,é\n"
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / name).write_bytes(image(number))
    report = Report()

    texts = read_archive(packed(tmp_path), report)

    assert texts == {"a": None, "b": "é"}
    assert {note.code for note in report.notes} == {"texts_disagree"}
