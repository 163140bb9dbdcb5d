"""Images that MongoDB finds within limits, and messages of commands without matches."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import SortKey, by_change, by_score, by_sha256, paginate
from services.common.adapters.mongo import Database
from services.common.domain.image_filter import ImageFilter, Limits
from tests.support.commands import docreco
from tests.support.review import NOW, known

pytestmark = pytest.mark.usefixtures("mongo_environment")

LETTERS = {"kind": "archive", "collection": "letters", "batch_id": "b1", "name": "p/1.png"}
DIARY = {"kind": "folder", "collection": "diary", "batch_id": "b2", "name": "2.png"}


def image(name: str, *sources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return known(name, 0.5, key=f"{name}.png", sources=list(sources), sha256=name * 64, **changes)


@pytest.fixture
async def images(database: Database) -> ImageRepository:
    """Four images, one of them (c) in both collections, by one source each."""
    year = {"year": 1916}
    await database.images.insert_missing(
        [
            image("a", LETTERS | {"group": "page 1", "metadata": year | {"hand": "Ada"}}),
            image("b", LETTERS | {"metadata": {"year": "1916"}}, stored_at=NOW - timedelta(days=9)),
            image("c", LETTERS, DIARY | {"group": "page 1", "metadata": year}),
            image("d", {"kind": "url", "url": "https://Archive.example/Deed.png"}),
        ]
    )
    return ImageRepository(database.images)


CASES = {
    "collection": (ImageFilter(Limits(collection="letters")), "abc"),
    "batch": (ImageFilter(Limits(batch="b2")), "c"),
    "group": (ImageFilter(Limits(group="page 1")), "ac"),
    "one source": (ImageFilter(Limits(collection="letters", group="page 1")), "a"),
    "typed value": (ImageFilter(Limits(where=("metadata.year=1916",))), "abc"),
    "two values": (ImageFilter(Limits(where=("metadata.year=1916", "metadata.hand=Ada"))), "a"),
    "since": (ImageFilter(Limits(since=NOW - timedelta(days=1))), "acd"),
    "until": (ImageFilter(Limits(until=NOW - timedelta(days=1))), "b"),
    "key": (ImageFilter(text="A.png"), "a"),
    "name": (ImageFilter(text="P/1"), "abc"),
    "url": (ImageFilter(text="deed"), "d"),
    "host": (ImageFilter(host="archive.example"), "d"),
    "text in a collection": (ImageFilter(Limits(collection="diary"), text="2.PNG"), "c"),
    "no sign is special": (ImageFilter(text=".*"), ""),
}


@pytest.mark.parametrize("order", [by_score(), by_change(NOW), by_sha256()])
async def test_filters_find_what_they_say_in_each_order(
    images: ImageRepository, order: SortKey
) -> None:
    found = {}
    for words, (where, _) in CASES.items():
        pages = [page async for page in paginate(images, where, order)]
        assert await images.count(where) == sum(len(page.documents) for page in pages)
        found[words] = "".join(sorted(each.key[0] for page in pages for each in page.documents))
    assert found == {words: expected for words, (_, expected) in CASES.items()}


@pytest.mark.usefixtures("images")
async def test_pages_of_a_collection_are_read_by_its_index(database: Database) -> None:
    """MongoDB's stand-in explains what one stage of two does; MongoDB makes one of them."""
    for field in ("prediction.score", "indexed_at"):
        where = {"sources.collection": "diary", field: {"$gte": by_score().first}}
        plan = await database._database.command(
            {"explain": {"find": "images", "filter": where}, "verbosity": "queryPlanner"}
        )
        assert f"sources.collection_1_{field}_1__id_1" in json.dumps(plan, default=str)


@pytest.mark.usefixtures("images")
async def test_suggestions_from_a_sample_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not json.loads((await docreco("suggest", "--json")).stdout)["is_sample"]
    monkeypatch.setattr("services.datasets.suggestion.MOST_CANDIDATES", 1)

    assert json.loads((await docreco("suggest", "--json")).stdout)["is_sample"]
    assert "without annotation, a random sample." in (await docreco("suggest")).stdout


@pytest.mark.usefixtures("images")
async def test_commands_are_limited_alike() -> None:
    listed = await docreco(
        "images", "--json", "--where", "metadata.hand=Ada", "--since", "2020-01-01"
    )
    assert [row["name"] for row in json.loads(listed.stdout)] == ["p/1.png"]
    counted = await docreco("repredict", "--dry-run", "--json", "--collection", "diary")
    assert json.loads(counted.stdout)["images"] == 1
    report = await docreco("report", "--json", "--since", "2020-01-01", "--group", "page 1")
    assert json.loads(report.stdout)["predictions"] == 2
    suggested = json.loads((await docreco("suggest", "--json", "--group", "page 1")).stdout)
    assert suggested["candidates"] == 2
    groups = {row["image"]: row["group"] for row in suggested["images"]}
    assert groups == {"raw/a.png": "group:page 1", "raw/c.png": "group:page 1"}
    table = (await docreco("suggest", "--csv", "--limit", 1)).stdout.splitlines()
    assert [len(table), table[0].rpartition(",")[2]] == [2, "group"]


COMMANDS = ("export", "report", "evaluate", "calibrate", "repredict", "suggest")


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("command", COMMANDS)
async def test_limit_that_no_image_meets_says_what_there_is(command: str, tmp_path: Path) -> None:
    more = ["--format", "hf", "--out", str(tmp_path / "out")] if command == "export" else []
    result = await docreco(command, "--collection", "letter", "--where", "metadata.a=b", *more)
    assert result.exit_code == 4
    assert "no image has collection letter, metadata.a=b" in result.stderr
    assert "Collections: letters (3), diary (1). Batches: b2 (1), b1 (3)." in result.stderr


@pytest.mark.usefixtures("images")
async def test_images_of_no_collection_say_what_there_is() -> None:
    result = await docreco("images", "--collection", "letter")
    assert result.exit_code == 0
    assert "Collections: letters (3), diary (1)." in result.stdout
