"""``docreco export``, zip, ``docreco submit``: the same images and labels."""

import json
import shutil
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from infra.local.ports import pick_free_ports
from services.common.adapters.object_store import ObjectStore
from services.common.domain.provenance import Provenance, from_metadata
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
            source = {"kind": "archive", "batch_id": "b", **known_of(number)}
            await collected.add(f"{number}.png", "read", right=label, sources=[source])
        yield collected.store


def known_of(number: int) -> dict[str, Any]:
    """Return what is known of an image beside its text."""
    return {
        "name": f"letters/é {number}.png",
        "collection": f"Lettres {number % 2}",
        "group": f"hand {number}",
        "licence": "CC BY 4.0",
        "metadata": {"year": 1900 + number, "notes": ["à", None, 1.5], "how": "by hand"},
    }


async def stored_in(store: ObjectStore) -> dict[str, Provenance]:
    """Return what is said of the stored images, by their hashes."""
    found = {}
    for key in [each.key async for each in store.list("fetched/")]:
        info = await store.head(key)
        assert info is not None
        found[Path(key).stem] = from_metadata(dict(info.metadata))
    return found


def submittable(out: Path, layout: Format, *, packed: bool) -> list[Path]:
    """Return what to submit of an export: all of it, or its Parquet files with images."""
    if layout is Format.PARQUET and packed:
        return sorted((out / "data").iterdir())
    return [Path(shutil.make_archive(str(out), "zip", out)) if packed else out]


@pytest.mark.parametrize(
    ("layout", "packed"),
    [*zip((each for each in Format if not each.is_of_pages), cycle([True, False]), strict=False)],
)
async def test_export_is_submitted_again_as_it_was(
    store: ObjectStore,
    tmp_path: Path,
    layout: Format,
    packed: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", layout, "--out", out, "--only-annotated")
    records = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    exported = {record["sha256"]: LABELS.index(record["label"]) for record in records}
    splits = {record["sha256"]: record["split"] for record in records}
    assert sorted(exported.values()) == list(range(len(LABELS)))

    for source in submittable(out, layout, packed=packed):
        told = await answer("submit", source, "--watch")
        assert told["submission"]["reading"]["notes"] == []

    stored = await stored_in(store)
    assert stored.keys() == exported.keys()
    for sha256, number in exported.items():
        found = stored[sha256]
        details = {**found.details.to_fields(), "name": found.name, "collection": found.collection}
        came = {"split": splits[sha256], "how": "unknown"}  # the annotations have none
        assert details == {**known_of(number), **came}
        assert found.annotation == LABELS[number]


async def test_collection_that_a_person_names_counts(store: ObjectStore, tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "trocr", "--out", out)

    await answer("submit", out, "--collection", "Copies", "--watch")

    stored = await stored_in(store)
    assert {each.collection for each in stored.values()} == {"Copies"}
    assert {each.details.group for each in stored.values()} >= {"hand 0", "hand 1"}
