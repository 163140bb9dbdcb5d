"""Files that training tools would read differently are rewritten by an export, and told."""

import hashlib
import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from services.datasets.manifest import Format
from tests.support.datasets import Collected, answer
from tests.support.images import line_image, readable_images

ODD = {
    "turned.jpg": ("orientation", "exif-rotated jpeg"),
    "clear.png": ("transparency", "transparent paper"),
    "deep.png": ("depth", "12 bits stored in 16"),
    "moving.gif": ("format", "animated gif"),
}


@pytest.fixture
async def collected(collected: Collected) -> Collected:
    """Four images that are rewritten, and one that is not."""
    for key, (_, name) in ODD.items():
        content = readable_images("image")[name]
        await collected.add(key, "image", right="image", content=content)
    await collected.add("plain.jpg", "image", right="image", content=plain())
    return collected


def plain() -> bytes:
    return line_image("image", image_format="JPEG")


def files(out: Path) -> dict[str, bytes]:
    return {str(each.relative_to(out)): each.read_bytes() for each in out.rglob("*.*")}


@pytest.mark.usefixtures("collected")
async def test_rewritten_files_are_counted_and_named(tmp_path: Path) -> None:
    out = tmp_path / "set"

    told = await answer("export", "--format", "trocr", "--out", out)

    reasons = {reason: 1 for reason, _ in ODD.values()}
    assert told["rewritten"] == reasons
    assert told["lost"] == {}
    card = (out / "README.md").read_text()
    assert all(f"| {reason} | 1 |" in card for reason in reasons)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    records = {record["key"]: record for record in map(json.loads, lines)}
    for key, (reason, name) in ODD.items():
        assert records[key]["rewritten"] == reason
        original = hashlib.sha256(readable_images("image")[name]).hexdigest()
        assert records[key]["sha256"] == original
        with Image.open(out / "image" / f"{original}.png") as image:
            assert image.mode in {"L", "RGB"}
            assert image.width > image.height
    kept = records["plain.jpg"]
    assert kept["rewritten"] is None
    assert (out / "image" / f"{kept['sha256']}.jpg").read_bytes() == plain()


@pytest.mark.usefixtures("collected")
async def test_parquet_holds_the_rewritten_files(tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "parquet", "--out", out, "--split", "100")

    rows = parquet.read_table(out / "data" / "train-00000.parquet").to_pylist()

    assert len(rows) == len(ODD) + 1
    for row in rows:
        with Image.open(BytesIO(row["image"]["bytes"])) as image:
            assert image.mode in {"L", "RGB"}
            assert image.width > image.height


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("layout", [Format.HF, Format.PARQUET])
async def test_export_with_rewritten_files_can_be_repeated(tmp_path: Path, layout: Format) -> None:
    out, again = tmp_path / "set", tmp_path / "again"
    told = await answer("export", "--format", layout, "--out", out)

    await answer("export", "--from-manifest", out / "manifest.json", "--out", again)

    assert told["rewritten"]
    assert files(again) == files(out)


async def test_image_that_can_not_be_rewritten_is_lost_and_told(
    collected: Collected, tmp_path: Path
) -> None:
    half = readable_images("image")["transparent paper"][:-200]
    await collected.add("half.png", "image", right="image", content=half)

    told = await answer("export", "--format", "hf", "--out", tmp_path / "set", status=1)

    assert told["lost"] == {"no_image": 1}
