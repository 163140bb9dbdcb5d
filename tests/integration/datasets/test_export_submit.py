"""``docreco export``, zip, ``docreco submit``: the same images and labels."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from infra.local.ports import pick_free_ports
from services.common.adapters.object_store import ObjectStore, sibling
from services.common.domain.keys import given_key, line_key
from services.common.domain.provenance import Provenance, from_metadata
from services.datasets.manifest import Format
from services.fetcher.sources.archives.cutting import of_line
from tests.support.datasets import Collected, answer, open_collected
from tests.support.fetcher import Surroundings, running_fetcher
from tests.support.transcripts import page_of

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


async def add_page(surroundings: Surroundings) -> tuple[str, dict[str, dict[str, Any]]]:
    """Collect a page with a line that no person read; return its hash, and its lines by key."""
    store, lines = surroundings.store, {}
    pages = sibling(store, surroundings.s3.pages_bucket)
    content, transcript = page_of("Haus", "& <Maus>", "é", "a guess")
    page_key = given_key(digest := hashlib.sha256(content).hexdigest(), "png")
    await pages.write(page_key, content, content_type="image/png", metadata={})
    for order, line in enumerate(transcript.lines):
        right = None if order == 3 else line.text
        source = {"kind": "archive", "batch_id": "b", **known_of(order)}
        of_page = of_line(transcript, line, order, f"{pages.bucket}/{page_key}")
        key, place = line_key(digest, of_page.line), of_page.to_mongo()
        await Collected(store, surroundings.database).add(
            key, str(line.text), right=right, page=place, sources=[source]
        )
        page = of_page.having(group=known_of(order)["group"]).to_mongo()
        lines[key] = {"text": right, "page": page, **known_of(order)}
    return digest, lines


@pytest.mark.parametrize(("layout", "packed"), [(Format.PAGE, True), (Format.ALTO, False)])
async def test_pages_are_submitted_again_as_they_were(
    store: ObjectStore,
    surroundings: Surroundings,
    tmp_path: Path,
    layout: Format,
    packed: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    digest, lines = await add_page(surroundings)
    out = tmp_path / "set"
    told = await answer("export", "--format", layout, "--out", out, "--split", "100")
    assert (told["images"], told["page_images_missing"]) == (4, 0)

    told = await answer("submit", *submittable(out, layout, packed=packed), "--watch")

    assert told["submission"]["reading"]["note_counts"] == {"prediction_dropped": 1}
    assert told["batch"]["counts"]["failed"] == 0
    found = {}
    for key in [each.key async for each in store.list(f"lines/{digest[:2]}/{digest}/")]:
        info = await store.head(key)
        assert info is not None
        stored = from_metadata(dict(info.metadata))
        assert stored.page is not None
        metadata = stored.details.metadata or {}
        kept = {name: metadata.get(name) for name in known_of(0)["metadata"]}
        known = {**stored.details.to_fields(), "name": stored.name, "metadata": kept}
        known["collection"] = stored.collection
        page = stored.page.having(image="page.png").to_mongo()
        found[key] = {name: known.get(name) for name in known_of(0)}
        found[key] |= {"text": stored.annotation, "page": page}
    assert found == lines


async def test_collection_that_a_person_names_counts(store: ObjectStore, tmp_path: Path) -> None:
    out = tmp_path / "set"
    await answer("export", "--format", "trocr", "--out", out)

    await answer("submit", out, "--collection", "Copies", "--watch")

    stored = await stored_in(store)
    assert {each.collection for each in stored.values()} == {"Copies"}
    assert {each.details.group for each in stored.values()} >= {"hand 0", "hand 1"}
