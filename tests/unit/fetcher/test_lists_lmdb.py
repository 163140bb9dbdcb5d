"""Databases of LMDB whose samples are images with their labels."""

import random
from collections.abc import Mapping
from pathlib import Path

import lmdb
import pytest

from services.common.domain.tables.list_format import ReadingOptions, is_lmdb
from services.common.domain.tables.report import Report
from services.fetcher.sources.errors import MalformedListError
from services.fetcher.sources.lists.lmdb_images import open_lmdb
from services.fetcher.sources.lists.parquet_images import ImageRow

pytestmark = pytest.mark.slow

LAYOUT = {
    b"num-samples": b"4",
    b"image-000000001": b"first",
    b"label-000000001": "Où ?".encode(),
    b"image-000000002": b"second",
    b"label-000000003": b"no image",
    b"image-000000004": b"fourth",
    b"label-000000004": b"\xff",
}


def database(path: Path, samples: Mapping[bytes, bytes]) -> Path:
    with lmdb.open(str(path), subdir=False, lock=False) as opened, opened.begin(write=True) as into:
        for key, value in samples.items():
            into.put(key, value)
    return path


def rows_of(path: Path) -> list[ImageRow]:
    with path.open("rb") as file, open_lmdb(file, ReadingOptions(), Report()) as rows:
        return list(rows)


def test_samples_are_images_with_their_labels(tmp_path: Path) -> None:
    path = database(tmp_path / "data.mdb", LAYOUT)

    rows = [(row.name, row.content, row.annotation, row.code) for row in rows_of(path)]

    assert is_lmdb(path.read_bytes()[:512])
    assert rows == [
        ("image-000000001", b"first", "Où ?", ""),
        ("image-000000002", b"second", None, ""),
        ("image-000000003", b"", None, "no_image_bytes"),
        ("image-000000004", b"", None, "invalid_annotation"),
    ]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedListError, match="num-samples"):
        rows_of(database(tmp_path / "data.mdb", {b"key": b"value"}))


@pytest.mark.parametrize("seed", range(8))
def test_damage_is_read_or_refused_and_never_more(tmp_path: Path, seed: int) -> None:
    content = bytearray(database(tmp_path / "data.mdb", LAYOUT).read_bytes())
    chance = random.Random(seed)  # noqa: S311
    for _ in range(200):
        content[chance.randrange(len(content))] = chance.randrange(256)
    damaged = tmp_path / "damaged.mdb"
    damaged.write_bytes(content[: chance.randrange(4096, len(content))])

    try:
        rows = rows_of(damaged)
    except MalformedListError:
        return

    assert {row.name for row in rows} <= {f"image-{each:09d}" for each in range(1, 10_000)}
