"""Counts and metrics of annotated images by the reconciler."""

import hashlib
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.keyset import LIMIT
from services.common.adapters.mongo import Database, open_database
from services.common.domain.annotations import to_annotation
from services.common.runtime.settings import MongoSettings
from services.reconciler.annotated import Model, count, count_and_publish
from tests.support.datasets import annotation, prediction

BUCKET = "raw"


def document(key: str, read: str, right: str | None = None, **changes: Any) -> dict[str, Any]:
    said = None if right is None else annotation(right)
    return {
        "_id": f"{BUCKET}/{key}",
        "bucket": BUCKET,
        "key": key,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "status": "predicted",
        "prediction": prediction(read),
        "annotation": said,
        "revision": 1,
        **changes,
    }


def shown(name: str) -> dict[str, float]:
    """Return what is shown under a name, by model version."""
    return {
        sample.labels["model_version"]: sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == f"reconciler_annotated_{name}"
    }


async def test_errors_are_counted_by_the_model_that_has_read_last(database: Database) -> None:
    old = prediction("Wlklpedla", version="0")
    await database.images.insert_missing(
        [
            document("a", "industrie", "industrie", history=[old]),
            document("b", " Wikipedla ", "Wikipedia"),
            document("c", "Wlklpedla", "Wikipedia", prediction=old),
            document("d", "l'e\u0301té", "l'été"),
        ]
    )

    counted = await count(ImageRepository(database.images), BUCKET)

    assert {
        model: (each.images, each.exact, each.errors, each.characters)
        for model, each in counted.items()
    } == {Model("fake", "fake-1"): (3, 2, 1, 23), Model("fake", "0"): (1, 0, 3, 9)}


async def test_what_has_no_right_text_counts_nothing(database: Database) -> None:
    removed = {"status": "removed", "prediction": None, "annotation": None}
    await database.images.insert_missing(
        [
            document("unreadable", "x", annotation=annotation("", "unreadable")),
            document("not a line", "x", annotation=annotation("some text", "not_a_line")),
            document("unknown", "x", prediction=prediction("x", score=1.0)),
            document("removed", "x", **removed),
            document("rejected", "x", "right", status="rejected", prediction=None),
            document("elsewhere", "x", "right", bucket="other"),
        ]
    )

    assert await count(ImageRepository(database.images), BUCKET) == {}


async def test_more_than_a_window_is_counted_once(database: Database) -> None:
    many = [document(f"{number:04}", "ab", "abc") for number in range(2 * LIMIT + 1)]
    await database.images.insert_missing(many)

    [tally] = (await count(ImageRepository(database.images), BUCKET)).values()

    assert (tally.images, tally.errors) == (2 * LIMIT + 1, 2 * LIMIT + 1)


async def test_copies_are_counted_once(database: Database) -> None:
    many = [document(f"{number:04}", "ab", "abc") for number in range(LIMIT - 1)]
    last = {"sha256": "f" * 64}  # its copies are on both sides of the end of a page
    copies = [
        document("z1", "abc", annotation=annotation("", "unreadable"), **last),
        document("z2", "ab", "abc", **last),
        document("z3", "abc", "abc", **last),
    ]
    await database.images.insert_missing([*many, *copies])

    [tally] = (await count(ImageRepository(database.images), BUCKET)).values()

    assert (tally.images, tally.errors) == (LIMIT, LIMIT)


async def test_reverted_annotation_leaves_the_error_rates(database: Database) -> None:
    await database.images.insert(document("a", "Wikipedla"))
    await count_and_publish(ImageRepository(database.images), BUCKET)
    assert shown("cer") == {}

    await ImageRepository(database.images).annotate(
        f"{BUCKET}/a", to_annotation("Wikipedia", by="ada")
    )
    assert await count_and_publish(ImageRepository(database.images), BUCKET)

    assert shown("cer") == {"fake-1": pytest.approx(1 / 9)}
    assert shown("exact_ratio") == {"fake-1": 0}
    assert shown("images") == {"fake-1": 1}
    assert shown("characters") == {"fake-1": 9}

    await ImageRepository(database.images).revert(f"{BUCKET}/a", by="ada")
    await count_and_publish(ImageRepository(database.images), BUCKET)
    assert [shown(name) for name in ("cer", "exact_ratio", "images", "characters")] == [{}] * 4


async def test_malformed_document_leaves_the_last_count(database: Database) -> None:
    await database.images.insert(document("a", "ab", "ab"))
    await count_and_publish(ImageRepository(database.images), BUCKET)
    await database.images.insert(document("b", "ab", annotation={"text": 7, "quality": "ok"}))

    assert not await count_and_publish(ImageRepository(database.images), BUCKET)

    assert shown("images") == {"fake-1": 1}


async def test_missing_database_leaves_the_last_count_and_is_told(
    database: Database, mongo_settings: MongoSettings
) -> None:
    await database.images.insert(document("a", "ab", "ab"))
    await count_and_publish(ImageRepository(database.images), BUCKET)
    url = type(mongo_settings.url)("mongodb://127.0.0.1:9/?directConnection=true")
    nowhere = mongo_settings.model_copy(update={"url": url, "timeout_seconds": 0.1})

    async with open_database(nowhere) as missing:
        assert not await count_and_publish(ImageRepository(missing.images), BUCKET)

    assert shown("exact_ratio") == {"fake-1": 1}
