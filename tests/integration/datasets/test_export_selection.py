"""The images and splits of an export: copies, groups, and what is gone or left out."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from services.datasets.splits import parse_split
from tests.support.datasets import STORED_AT, Collected, annotation, answer, prediction
from tests.support.exports import HOSTILE, labels, records
from tests.support.images import line_image


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
async def test_refused_image_is_left_out_whatever_its_copies_read(
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
async def test_placeholder_with_differing_texts_is_excluded(
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


async def test_missing_object_is_named_as_removed_at_once(some: Collected, tmp_path: Path) -> None:
    """The next export into the folder would not know it."""
    out = tmp_path / "set"
    await answer("export", "--format", "hf", "--out", out)
    gone = (await some.document("0.png"))["sha256"]
    await some.store.delete("0.png")
    told = await answer("export", "--format", "hf", "--out", out, status=1)
    assert told["since_last"] == told["since_last"] | {"removed": [gone], "left_out": 0}
    assert f"- `{gone}`" in (out / "README.md").read_text()


async def test_image_with_another_key_is_not_named_as_removed(
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
