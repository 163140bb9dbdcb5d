"""``docreco export`` against a real store and database, read back as training tools read it."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from services.common.adapters.object_store import sibling
from services.common.domain.ground_truth.reading import read_transcript
from services.common.runtime.settings import S3Settings
from services.datasets import manifest
from services.datasets.manifest import Format
from tests.support.datasets import Collected, annotation, answer, docreco
from tests.support.exports import HOSTILE, check, files, labels
from tests.support.pages import page_file


def hidden(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


def read_by_datasets(out: Path, split: str) -> dict[str, str]:
    """As a person types it: the data card says where each split is."""
    import datasets  # type: ignore[import-untyped]  # noqa: PLC0415  takes seconds

    cache = str(out.with_name(f"cache-{out.name}"))
    loaded = datasets.load_dataset(str(out), split=split, cache_dir=cache)
    for row in loaded:
        assert row["image"].size[0] > row["image"].size[1]
    raw = loaded.cast_column("image", datasets.Image(decode=False))
    return {stem(row["image"]["path"]): row["text"] for row in raw}


def read_trocr(out: Path, split: str) -> dict[str, str]:
    """As unilm's ``trocr/data.py`` reads ``--data-type STR``."""
    found = {}
    for line in (out / f"gt_{split}.txt").read_text(encoding="utf8").split("\n"):
        if line:
            name, text = line.rstrip().split("\t", 1)
            assert (out / "image" / name).is_file()
            found[stem(name)] = text
    return found


def read_paddleocr(out: Path, split: str) -> dict[str, str]:
    """As PaddleOCR's ``SimpleDataSet`` reads a label file."""
    found = {}
    dictionary = set((out / "dict.txt").read_text(encoding="utf8").split("\n")) | {" "}
    for line in (out / f"rec_gt_{split}.txt").read_bytes().splitlines(keepends=True):
        parts = line.decode("utf-8").strip("\n").split("\t")
        assert len(parts) == 2
        assert (out / parts[0]).is_file()
        assert set(parts[1]) <= dictionary
        found[stem(parts[0])] = parts[1]
    return found


def read_doctr(out: Path, split: str) -> dict[str, str]:
    """As docTR's ``RecognitionDataset(img_folder, labels_path)`` reads."""
    known: dict[str, str] = json.loads((out / split / "labels.json").read_text())
    for name in known:
        assert (out / split / "images" / name).is_file()
    return {stem(name): text for name, text in known.items()}


def read_kraken(out: Path, split: str) -> dict[str, str]:
    """As ``ketos train --format-type path -t <split>.txt`` reads."""
    found = {}
    for name in (out / f"{split}.txt").read_text().splitlines():
        image = out / name
        assert image.is_file()
        found[stem(name)] = image.with_suffix(".gt.txt").read_text(encoding="utf8").strip("\n\r")
    return found


def stem(path: str) -> str:
    return Path(path).name.partition(".")[0]


READERS = {
    Format.HF: read_by_datasets,
    Format.TROCR: read_trocr,
    Format.PADDLEOCR: read_paddleocr,
    Format.DOCTR: read_doctr,
    Format.KRAKEN: read_kraken,
    Format.PARQUET: read_by_datasets,
}


@pytest.mark.parametrize("layout", list(READERS))
async def test_reader_gets_every_image_with_its_label(
    some: Collected, tmp_path: Path, layout: Format
) -> None:
    out = tmp_path / "set"
    told = await answer("export", "--format", layout, "--out", out, "--split", "50/25/25")

    assert told["images"] == 8
    assert told["excluded"] == {
        "unreadable": 1, "not_a_line": 1, "low_agreement": 1, "not_read": 1,
    }  # fmt: skip
    found: dict[str, str] = {}
    for split, count in told["splits"].items():
        part = READERS[layout](out, split)
        assert len(part) == count
        found |= part
    assert found == labels(out)
    assert set(found.values()) >= {HOSTILE, "ríght line", "read 0"}
    check(out)
    assert not hidden(tmp_path)
    assert some.store.bucket == told["query"]["bucket"]


async def test_limits_of_an_export_are_in_its_manifest_and_card(
    collected: Collected, tmp_path: Path
) -> None:
    source = {"kind": "archive", "collection": "march", "metadata": {"year": 1916}}
    await collected.add("a.png", "a", right="a", sources=[source])
    await collected.add("b.png", "b", right="b", sources=[source | {"metadata": {"year": 1917}}])
    limits = ("--collection", "march", "--where", "metadata.year=1916")
    told = await answer("export", "--format", "hf", "--out", tmp_path / "set", *limits)
    assert told["images"] == 1
    assert told["query"]["collection"] == "march"
    assert told["query"]["where"] == ["metadata.year=1916"]
    assert '"metadata.year=1916"' in (tmp_path / "set" / "README.md").read_text()


async def test_split_of_few_images_is_warned_of(
    collected: Collected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "FEWEST_TO_MEASURE", 3)
    for number, split in enumerate(["train", "train", "train", "test"]):
        source = {"kind": "archive", "split": split}
        await collected.add(f"{number}.png", f"{number}", right=f"{number}", sources=[source])
    asked, card = (
        ("export", "--format", "hf", "--out", tmp_path / "set"),
        tmp_path / "set/README.md",
    )

    assert (await answer(*asked, "--split", "100/0"))["warnings"] == []
    assert "Warning" not in card.read_text()
    given = "test has 1 image, which says little: annotate more images"
    assert (await answer(*asked, "--use-split"))["warnings"] == [given]
    assert f"\n**Warning**: {given}.\n" in card.read_text()
    _, shown = await docreco(*asked, "--split", "1/0/99999999")
    few = "Warning: train has 0 images, which says little: annotate more images, or change --split."
    assert few in shown
    assert "Warning: validation" not in shown


@pytest.mark.parametrize("layout", list(Format))
async def test_manifest_makes_the_same_bytes_again(
    some: Collected, tmp_path: Path, layout: Format
) -> None:
    out, again = tmp_path / "set", tmp_path / "again"
    await answer("export", "--format", layout, "--out", out, "--min-agreement", "0.5")
    await some.set("right.jpg", annotation=annotation("something else"))
    await some.add("later.png", "later")

    await answer("export", "--from-manifest", out / "manifest.json", "--out", again)

    assert files(again) == files(out)


async def test_manifest_makes_another_layout(some: Collected, tmp_path: Path) -> None:
    out, other = tmp_path / "set", tmp_path / "other"
    await answer("export", "--format", "hf", "--out", out)
    await some.store.delete("0.png")
    told = await answer(
        *("export", "--from-manifest", out / "manifest.json", "--format", "kraken"),
        *("--out", other),
        status=1,
    )
    assert told["lost"] == {"removed": 1}
    assert len(read_kraken(other, "train")) == told["splits"]["train"]


async def test_card_tells_what_is_in_it_and_what_was_removed_since(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    removed = (await some.document("0.png"))["sha256"]
    await some.store.delete("0.png")
    await some.set("0.png", status="removed", prediction=None)
    await some.set("1.png", annotation=annotation("", "unreadable"))
    told = await answer("export", "--format", "hf", "--out", out)

    assert told["since_last"]["removed"] == [removed]
    assert told["since_last"]["left_out"] == 1
    card = (out / "README.md").read_text()
    for words in (
        *("| `host-1.example` | 2 |", "| `(uploaded)` | 2 |", "| `fake fake-1` | 6 |"),
        *(f"- `{removed}`", "| annotation | 2 |", '"min_agreement": 0.9', "| low_agreement | 1 |"),
    ):
        assert words in card
    assert removed not in (out / "manifest.jsonl").read_text()
    check(out)


async def test_line_that_was_drawn_again_is_in_a_transcription_once(
    collected: Collected, tmp_path: Path
) -> None:
    """Both are annotated: each image says its text, but the page says it once."""
    place = {"id": "pages/a", "quad": [1, 1, 9, 1, 9, 5, 1, 5], "width": 1500, "height": 800}
    for line, replaces, right in (
        ("old", None, "a line"),
        ("new", ["old"], "a line"),
        ("kept", None, "another"),
        ("not annotated", ["kept"], None),
    ):
        page = {**place, "line": line, "replaces": replaces}
        await collected.add(f"lines/{line}.webp", line, right=right, page=page)

    told = await answer(
        *("export", "--format", "page", "--only-annotated", "--out", tmp_path / "pages"), status=1
    )
    lines = await answer("export", "--format", "hf", "--only-annotated", "--out", tmp_path / "hf")

    assert (told["images"], told["excluded"]) == (2, {"replaced": 1})
    assert (lines["images"], lines["excluded"]) == (3, {})


async def test_images_of_pages_lie_beside_their_transcriptions(
    collected: Collected, tmp_path: Path
) -> None:
    pages = sibling(collected.store, S3Settings().pages_bucket)
    await pages.client.create_bucket(Bucket=pages.bucket)
    upright, stored = page_file(form="JPEG"), page_file(form="JPEG", turned=True)
    for key, content in (("a.jpg", upright), ("turned.jpg", stored), ("changed.jpg", b"new")):
        await pages.write(key, content, content_type="image/jpeg", metadata={})
    ids = [f"{pages.bucket}/{name}.jpg" for name in ("a", "turned", "changed", "gone")]
    for number, (page_id, was) in enumerate(
        zip([*ids, f"{collected.store.bucket}/0"], [upright, stored, b"", b"", b""], strict=True)
    ):
        place = {"line": "1", "quad": [1, 1, 9, 1, 9, 5, 1, 5], "width": 1500, "height": 800}
        key = f"lines/00/{hashlib.sha256(was).hexdigest()}/{number}.webp"
        await collected.add(key, "read", right="a line", page={"id": page_id, **place})

    exported = await answer("export", "--format", "alto", "--out", tmp_path / "set", status=1)

    assert exported["page_images_missing"] == 3
    check(tmp_path / "set")
    beside = {}
    for path in sorted((tmp_path / "set").glob("*/*.xml")):
        image = path.with_name(read_transcript(path.read_bytes()).image)
        if image.exists():
            beside[path.name.partition("-")[0]] = image
    assert {name: path.suffix for name, path in beside.items()} == {"a": ".jpg", "turned": ".png"}
    assert beside["a"].read_bytes() == upright
    with Image.open(beside["turned"]) as opened:
        assert opened.size == (1500, 800)
