"""``docreco export`` against a real store and database, read back as training tools read it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.domain.ground_truth.reading import read_transcript
from services.common.runtime.settings import S3Settings
from services.datasets.export import Sources
from services.datasets.export import export as write_export
from services.datasets.folder import replacing
from services.datasets.manifest import Format, Query
from services.datasets.splits import parse_split
from tests.support.datasets import (
    STORED_AT,
    Collected,
    annotation,
    answer,
    docreco,
    prediction,
)
from tests.support.images import line_image
from tests.support.pages import page_file

HOSTILE = "=cmd|' /C calc'!A0,\"q\";\u200f[b]../../<b>&amp;\\n é"


@pytest.fixture
async def some(collected: Collected) -> Collected:
    """Eight images with a label, and one for each reason to have none."""
    for number in range(6):
        url = f"https://host-{number % 2}.example/{number}"
        await collected.add(f"{number}.png", f"read {number}", urls=(url,))
    await collected.add('evil/..=1+1;"|`x`\t é.png', "wrong", right=HOSTILE)
    await collected.add("right.jpg", "rihgt", right=" ri\u0301ght\tline ", content=jpeg())
    await collected.add("blot.png", "x", annotation=annotation("", "unreadable"))
    await collected.add("photo.png", "y", annotation=annotation("", "not_a_line"))
    await collected.add("unsure.png", "z", prediction=prediction("z", score=0.3))
    await collected.add("broken.png", "", status="rejected", prediction=None)
    await collected.add("gone.png", "", status="removed", prediction=None)
    return collected


def jpeg() -> bytes:
    return line_image("right", image_format="JPEG")


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def labels(out: Path) -> dict[str, str]:
    return {record["sha256"]: record["label"] for record in records(out)}


def files(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*")
        if path.is_file()
    }


def hidden(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir() if each.name.startswith(".")]


def check(out: Path) -> None:
    """Check like ``sha256sum --check``, and that there are no other files."""
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = files(out)
    there.pop("SHA256SUMS")
    assert sums == there


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


@pytest.mark.usefixtures("some")
async def test_only_annotated_images_where_asked(tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out, "--only-annotated", "--split", "100")
    assert sorted(labels(out).values()) == sorted([HOSTILE, "ríght line"])
    assert {record["origin"] for record in records(out)} == {"annotation"}


async def test_accepted_texts_are_left_out_where_asked(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    for key, text, how in (
        ("0.png", "read 0", "accepted"),
        ("right.jpg", "ríght line", "corrected"),
    ):
        await some.set(key, annotation=annotation(text) | {"how": how})

    told = await answer("export", "--format", "hf", "--out", out, "--only-corrected")
    assert told["excluded"]["not_corrected"] == 2
    assert [(each["label"], each["how"]) for each in records(out)] == [("ríght line", "corrected")]
    await answer("export", "--format", "hf", "--out", out)
    assert "| accepted | 1 | a person saved a prediction" in (out / "README.md").read_text()


async def test_images_since_a_date(collected: Collected, tmp_path: Path) -> None:
    await collected.add("old.png", "old", stored_at=STORED_AT)
    await collected.add("new.png", "new", stored_at=STORED_AT.replace(day=20))
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out, "--since", "2026-11-20")
    assert list(labels(out).values()) == ["new"]


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


async def test_images_stay_in_their_split_as_data_grows(some: Collected, tmp_path: Path) -> None:
    first, later = tmp_path / "first", tmp_path / "later"
    await answer("export", "--format", "hf", "--out", first, "--split", "50/25/25")
    for number in range(20):
        await some.add(f"more/{number}.png", f"more {number}")
    await answer("export", "--format", "hf", "--out", later, "--split", "50/25/25")
    before = {record["sha256"]: record["split"] for record in records(first)}
    after = {record["sha256"]: record["split"] for record in records(later)}
    assert len(set(before.values())) > 1
    assert before.items() <= after.items()


async def test_equal_bytes_are_exported_once_as_a_person_says(
    collected: Collected, tmp_path: Path
) -> None:
    image = line_image("same")
    await collected.add("a.png", "samme", content=image)
    await collected.add("b.png", "same", content=image, right="same")
    await collected.add("c.png", "sane", content=image)
    out = tmp_path / "set"
    told = await answer("export", "--format", "hf", "--out", out)
    assert told["excluded"] == {"duplicate": 2}
    assert list(labels(out).values()) == ["same"]


@pytest.mark.parametrize("quality", ["unreadable", "not_a_line"])
async def test_image_that_a_person_refused_is_left_out_whatever_its_copies_read(
    collected: Collected, tmp_path: Path, quality: str
) -> None:
    image, other = line_image("same"), line_image("other")
    for content, right in ((image, None), (other, "other")):
        name = "image" if content is image else "other"
        await collected.add(f"{name}/a.png", "read", content=content)
        refusal = annotation("", quality)
        await collected.add(f"{name}/b.png", "read", content=content, annotation=refusal)
        await collected.add(f"{name}/c.png", "read", content=content, right=right)
    out = tmp_path / "set"
    told = await answer("export", "--format", "hf", "--out", out)
    assert told["excluded"] == {quality: 1, "duplicate": 4}
    assert list(labels(out).values()) == ["other"]


@pytest.mark.parametrize("options", [(), ("--only-annotated",)])
async def test_placeholder_whose_sources_disagree_is_left_out_and_counted(
    collected: Collected, tmp_path: Path, options: tuple[str, ...]
) -> None:
    disputed: dict[str, Any] = {"annotation": None, "annotation_conflict": "sources_disagree"}
    image = line_image("photo unavailable")
    await collected.add("a.png", "photo unavailable", content=image, **disputed)
    await collected.add("copy.png", "photo unavailable", content=image)
    await collected.add("b.png", "logo", **disputed | {"annotation": annotation("logo")})
    out = tmp_path / "set"
    told = await answer("export", "--format", "hf", "--out", out, *options)
    assert told["excluded"]["sources_disagree"] == 1
    assert list(labels(out).values()) == ["logo"]
    assert "| sources_disagree | 1 |" in (out / "README.md").read_text()


async def test_image_belongs_to_the_earliest_source_of_its_copies(
    collected: Collected, tmp_path: Path
) -> None:
    image = line_image("same")
    await collected.add("a.png", "same", content=image)
    for key, host, day in (("b.png", "late.example", 9), ("c.png", "early.example", 2)):
        at = STORED_AT.replace(day=day)
        source = {"url": f"https://{host}/", "batch_id": "b", "fetched_at": at}
        await collected.add(key, "same", content=image, sources=[source])
    out = tmp_path / "set"
    shares = ("--split", "50/50")
    await answer("export", "--format", "hf", "--out", out, "--group-by", "source", *shares)
    (record,) = records(out)
    assert record["hosts"] == ["early.example", "late.example"]
    assert record["split"] == parse_split("50/50").place("host:early.example")


@pytest.mark.usefixtures("some")
async def test_host_is_never_in_two_splits_where_asked(tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer(
        *("export", "--format", "hf", "--out", out, "--group-by", "source", "--split", "50/50")
    )
    places: dict[str, set[str]] = {}
    for record in records(out):
        for host in record["hosts"]:
            places.setdefault(host, set()).add(record["split"])
    assert sorted(places) == ["host-0.example", "host-1.example"]
    assert all(len(splits) == 1 for splits in places.values())


@pytest.mark.parametrize(
    ("options", "several", "why"),
    [
        ([], 0, "by a hash of its `group`, or of its bytes where it has none."),
        (["--use-split"], 1, "the split that the sources give puts them there"),
        (["--group-by", "image"], 2, "`--group-by image` does not keep them together"),
    ],
)
async def test_groups_in_two_splits_are_counted(
    collected: Collected, tmp_path: Path, options: list[str], several: int, why: str
) -> None:
    for number in range(16):
        given = "test" if number in {0, 2} else "train"
        source = {"kind": "archive", "batch_id": "b", "collection": "c", "split": given}
        source["group"] = f"hand {number % 2}"
        await collected.add(f"{number}.png", f"line {number}", sources=[source])
    out = tmp_path / "set"

    split = ("--split", "50/50", *options)
    told = await answer("export", "--format", "hf", "--out", out, *split)

    assert (told["groups"], told["groups_in_several_splits"]) == (2, several)
    card = (out / "README.md").read_text()
    assert why in card
    assert "| `c` | `unknown` | 16 |" in card
    assert f"2 groups of images that belong together; **{several}** of them" in card


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


async def test_image_whose_document_does_not_say_yet_that_it_is_gone_is_named_as_removed(
    some: Collected, tmp_path: Path
) -> None:
    """The next export into the folder would not know it."""
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    gone = (await some.document("0.png"))["sha256"]
    await some.store.delete("0.png")
    told = await answer("export", "--format", "hf", "--out", out, status=1)
    assert told["since_last"] == told["since_last"] | {"removed": [gone], "left_out": 0}
    assert f"- `{gone}`" in (out / "README.md").read_text()


async def test_image_that_is_there_under_another_key_is_not_named_as_removed(
    some: Collected, tmp_path: Path
) -> None:
    out, image = tmp_path / "set", line_image("twice")
    for key in ("a.png", "b.png"):
        await some.add(key, "twice", content=image)
    await answer("export", "--format", "hf", "--out", out)
    await some.set("a.png", status="removed", prediction=None)
    await some.set("b.png", prediction=prediction("twice", score=0.1))
    told = await answer("export", "--format", "hf", "--out", out)
    assert told["since_last"] == told["since_last"] | {"removed": [], "left_out": 1}


async def test_object_that_is_gone_or_another_is_counted(some: Collected, tmp_path: Path) -> None:
    await some.store.delete("0.png")
    for key, content in (("1.png", line_image("other")), ("2.png", b"no image")):
        await some.store.write(key, content, content_type="image/png", metadata={})
    await some.set("2.png", sha256=hashlib.sha256(b"no image").hexdigest())
    out = tmp_path / "set"
    told = await answer("export", "--format", "parquet", "--out", out, status=1)
    assert told["lost"] == {"removed": 1, "changed": 1, "no_image": 1}
    assert told["images"] == 5


async def test_strangers_folder_is_left_alone(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "thesis.txt" in output
    assert (out / "thesis.txt").read_text() == "precious"
    assert some.store.bucket


async def test_folder_of_a_stranger_with_checksums_is_left_alone(
    collected: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    (out / "letters").mkdir(parents=True)
    (out / "letters" / "a.txt").write_text("precious")
    (out / "SHA256SUMS").write_text(f"{'0' * 64}  letters/a.txt\n")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "other files than an export" in output
    assert (out / "letters" / "a.txt").read_text() == "precious"
    assert collected.store.bucket


async def test_checkpoint_saved_inside_an_export_is_left_alone(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out, "--split", "100")
    (out / "train" / "model.pt").write_text("a week of training")
    status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "train/model.pt" in "".join(output.split())
    assert (out / "train" / "model.pt").read_text() == "a week of training"
    assert some.store.bucket


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


async def test_interrupted_export_leaves_the_one_before_and_is_made_anew(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    sources = Sources(
        ImageRepository(some.database.images), some.store, sibling(some.store, "pages")
    )
    query = Query(format=Format.HF, bucket=some.store.bucket)

    class StoppedError(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done >= 3:
            raise StoppedError

    await write_export(query, sources, out, lambda *_: None)
    before = files(out)
    await some.add("more.png", "more")
    with pytest.raises(StoppedError):
        await write_export(query, sources, out, stop)
    assert files(out) == before
    assert (tmp_path / ".set.partial").is_dir()
    # the image that was being written at a crash, and no longer matches
    (tmp_path / ".set.partial" / "train" / "left.png").write_bytes(b"half")

    manifest = await write_export(query, sources, out, lambda *_: None)
    assert manifest.images == 9
    check(out)
    assert not (tmp_path / ".set.partial").exists()


async def test_crash_between_the_two_renames_is_mended(some: Collected, tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    out.rename(tmp_path / ".set.before")
    told = await answer("export", "--format", "hf", "--out", out)
    assert told["since_last"]["left_out"] == 0
    assert not (tmp_path / ".set.before").exists()
    assert some.store.bucket


@pytest.mark.usefixtures("some")
async def test_two_exports_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "set"
    with replacing(out):
        status, output = await docreco("export", "--format", "hf", "--out", out)
    assert status == 4
    assert "another export is writing" in output


async def test_pushed_export_is_what_the_folder_holds(some: Collected, tmp_path: Path) -> None:
    out, bucket = tmp_path / "set", f"{some.store.bucket}-out"
    target = ObjectStore(some.store.client, bucket)
    await some.store.client.create_bucket(Bucket=bucket)
    try:
        for name, content in (
            ("kept.txt", b"k"),
            ("SHA256SUMS", b"0" * 64 + b"  kept.txt\n"),
            ("manifest.json", b'{"of": "another program"}'),
        ):
            await target.write(f"sets/a/{name}", content, content_type="text/plain", metadata={})
        arguments = (
            "export",
            "--format",
            "hf",
            "--out",
            out,
            "--push-to",
            f"s3://{bucket}/sets/a/",
        )
        await answer(*arguments)
        await some.set("0.png", status="removed")
        await answer(*arguments)
        there = {info.key async for info in target.list()}
        assert there == {f"sets/a/{name}" for name in files(out)} | {"sets/a/kept.txt"}
        stored = await target.read("sets/a/manifest.json", max_bytes=100_000)
        assert stored.content == (out / "manifest.json").read_bytes()
    finally:
        async for info in target.list():
            await target.delete(info.key)
        await some.store.client.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--format", "hf", "--push-to", "s3://{bucket}/x"], 4, "collected as images again"),
        (["--format", "hf", "--push-to", "https://a/b"], 4, "not an address"),
        (["--format", "hf", "--split", "a/b"], 2, "not a split"),
        (["--format", "hf", "--since", "yesterday"], 2, "no time"),
        ([], 2, "must be one of"),
        (["--from-manifest", "missing.json"], 4, "can't be read"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    collected: Collected, tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    given = [each.format(bucket=collected.store.bucket) for each in arguments]
    got, output = await docreco("export", "--out", tmp_path / "set", *given)
    assert got == status
    assert words in " ".join(output.replace("│", " ").split())
    assert not (tmp_path / "set").exists()


async def test_manifest_of_a_stranger_names_no_file_outside(
    some: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    evil = json.loads(lines[0]) | {"split": "../../evil"}
    (out / "manifest.jsonl").write_text(json.dumps(evil) + "\n")
    status, output = await docreco(
        "export", "--from-manifest", out / "manifest.json", "--out", tmp_path / "again"
    )
    assert status == 4
    assert "can't be read" in output
    assert not (tmp_path / "again").exists()
    assert some.store.bucket


async def test_empty_collection_gives_an_empty_data_set(
    collected: Collected, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    told = await answer("export", "--format", "paddleocr", "--out", out)
    assert told["images"] == 0
    check(out)
    assert collected.store.bucket
