"""``docreco export``, zip, ``docreco submit`` into an empty bucket: the same images and labels."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.domain.provenance import from_metadata
from services.common.runtime.settings import MongoSettings, S3Settings
from services.datasets.manifest import Format
from tests.support.datasets import Collected, answer, open_collected

pytestmark = pytest.mark.integration

LABELS = ['"Oh, said he', "a, b", "1914-08-03", "12 3 4 5 6 7", "None", "\\N", "\ufa19 🙂", "Ende."]


@pytest.fixture
async def collected(
    s3_settings: S3Settings, mongo_settings: MongoSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Collected]:
    async with open_collected(s3_settings, mongo_settings, monkeypatch) as collected:
        for number, label in enumerate(LABELS):
            await collected.add(f"{number}.png", "read", right=label)
        yield collected


@pytest.fixture
async def empty(s3_settings: S3Settings, collected: Collected) -> AsyncIterator[ObjectStore]:
    other = s3_settings.model_copy(update={"bucket": f"{collected.store.bucket}-again"})
    async with open_object_store(other) as store:
        await store.client.create_bucket(Bucket=store.bucket)
        yield store


async def labels_in(store: ObjectStore) -> dict[str, str | None]:
    labels = {}
    for key in [each.key async for each in store.list()]:
        info = await store.head(key)
        assert info is not None
        labels[Path(key).stem] = from_metadata(dict(info.metadata)).annotation
    return labels


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize("layout", [each for each in Format if each is not Format.PARQUET])
async def test_export_is_submitted_again_with_its_labels(
    empty: ObjectStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: Format,
    packed: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", layout, "--out", out, "--only-annotated")
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    exported = {record["sha256"]: record["label"] for record in records}
    assert sorted(exported.values()) == sorted(LABELS)
    source = Path(shutil.make_archive(str(tmp_path / "set"), "zip", out)) if packed else out
    monkeypatch.setenv("S3_BUCKET", empty.bucket)

    told = await answer("submit", source)

    assert told["counts"] == {"stored": len(LABELS), "unchanged": 0, "rejected": 0}
    assert told["reading"]["notes"] == []
    assert await labels_in(empty) == exported
