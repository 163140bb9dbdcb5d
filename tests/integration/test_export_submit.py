"""``docreco export``, zip, ``docreco submit``: the same images and labels."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.local.ports import pick_free_ports
from services.common.adapters.object_store import ObjectStore
from services.common.domain.provenance import from_metadata
from services.datasets.manifest import Format
from tests.support.datasets import answer, open_collected
from tests.support.fetcher import Surroundings, running_fetcher

pytestmark = pytest.mark.integration

LABELS = ['"Oh, said he', "a, b", "1914-08-03", "12 3 4 5 6 7", "None", "\\N", "\ufa19 🙂", "Ende."]


@pytest.fixture
async def store(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ObjectStore]:
    """A bucket with annotated images, and a fetcher that stores there."""
    port = pick_free_ports().fetcher_port
    monkeypatch.setenv("DOCRECO_FETCHER_URL", f"http://127.0.0.1:{port}")
    async with (
        open_collected(surroundings.s3, surroundings.mongo, monkeypatch) as collected,
        running_fetcher(surroundings, port=port),
    ):
        for number, label in enumerate(LABELS):
            await collected.add(f"{number}.png", "read", right=label)
        yield collected.store


async def labels_in(store: ObjectStore) -> dict[str, str | None]:
    labels = {}
    for key in [each.key async for each in store.list("fetched/")]:
        info = await store.head(key)
        assert info is not None
        labels[Path(key).stem] = from_metadata(dict(info.metadata)).annotation
    return labels


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
@pytest.mark.parametrize(
    "layout", [each for each in Format if each is not Format.PARQUET and not each.is_of_pages]
)
async def test_export_is_submitted_again_with_its_labels(
    store: ObjectStore,
    tmp_path: Path,
    layout: Format,
    packed: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", layout, "--out", out, "--only-annotated")
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    exported = {record["sha256"]: record["label"] for record in records}
    assert sorted(exported.values()) == sorted(LABELS)
    source = Path(shutil.make_archive(str(tmp_path / "set"), "zip", out)) if packed else out

    told = await answer("submit", source, "--watch")

    assert told["batch"]["counts"]["stored"] == len(LABELS)
    assert told["submission"]["reading"]["notes"] == []
    assert await labels_in(store) == exported
