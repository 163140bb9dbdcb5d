"""``docreco submit FILE`` of an image, a PDF, or a Parquet file of images, with a real bucket."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.common.domain.provenance import from_metadata
from tests.support.datasets import Collected, answer, docreco
from tests.support.web import png

pytestmark = pytest.mark.integration


def key_of(content: bytes) -> str:
    return f"api/{hashlib.sha256(content).hexdigest()}.png"


async def texts_of(collected: Collected) -> dict[str, str | None]:
    """Return the annotations in the bucket by key."""
    keys = [each.key async for each in collected.store.list("api/")]
    heads = {key: await collected.store.head(key) for key in keys}
    return {
        key: from_metadata(dict(head.metadata)).annotation for key, head in heads.items() if head
    }


def write_images(path: Path, images: list[dict[str, Any] | None], **columns: Any) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, kind), **columns}), path, row_group_size=7)


@pytest.mark.parametrize("name", ["one.png", "without_suffix"])
async def test_one_image_is_stored(collected: Collected, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png(1))
    told = await answer("submit", tmp_path / name)
    assert told["counts"]["stored"] == 1
    assert await texts_of(collected) == {key_of(png(1)): None}


async def test_pdf_is_refused_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "page.pdf").write_bytes(b"%PDF-1.7\n")
    status, output = await docreco("submit", tmp_path / "page.pdf")
    assert status == 4
    assert "PDF is not read yet: save its pages as PNG, JPEG or TIFF" in output


async def test_images_of_parquet_are_stored_with_texts(
    collected: Collected, tmp_path: Path
) -> None:
    file = tmp_path / "train-00000.parquet"
    images = [{"bytes": png(each), "path": f"{each}.png"} for each in range(1, 41)]
    texts = [f"line {each}" for each in range(1, 41)]
    write_images(
        file,
        [*images, {"bytes": None, "path": "gone.png"}, None, {"bytes": b"no", "path": None}],
        text=[*texts, "x", "y", "z"],
        writer=["ada"] * 43,
    )
    told = await answer("submit", file, status=1)

    assert told["counts"] == {"stored": 40, "unchanged": 0, "rejected": 3}
    assert told["reading"]["columns"] == {"image": "image", "text": "text"}
    assert told["reading"]["ignored_columns"] == ["writer"]
    assert {each["path"]: each["code"] for each in told["files"] if not each["key"]} == {
        "gone.png": "no_image_bytes",
        "row 42": "no_image_bytes",
        "row 43": "not_an_image",
    }
    assert await texts_of(collected) == {key_of(png(each)): f"line {each}" for each in range(1, 41)}

    status, output = await docreco("submit", file, "--strict")
    assert (status, "gone.png: no_image_bytes" in output) == (4, True)
    dry = await answer("submit", file, "--dry-run")
    assert dry["files"][0] == {"path": "1.png", "annotation": "line 1"}
    assert (await answer("submit", file, status=1))["counts"]["unchanged"] == 40


async def test_export_to_parquet_goes_in_again(collected: Collected, tmp_path: Path) -> None:
    contents = {f"{each}.png": png(each) for each in range(5)}
    for name, content in contents.items():
        await collected.add(name, "read", right=f"Zeile {name}", content=content)
    out = tmp_path / "set"
    await answer(
        "export", "--format", "parquet", "--only-annotated", "--split", "100", "--out", out
    )
    (file,) = (out / "data").iterdir()
    told = await answer("submit", file)

    assert told["counts"]["stored"] == 5
    assert await texts_of(collected) == {
        key_of(content): f"Zeile {name}" for name, content in contents.items()
    }
