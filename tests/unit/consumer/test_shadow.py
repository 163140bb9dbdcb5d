"""Shadow reading, with a store, a candidate and documents of the test."""

import asyncio
from typing import cast

import pytest
from prometheus_client import REGISTRY

from services.common.adapters.object_store import ObjectStore
from services.common.domain.errors import OcrUnavailableError, PredictionRefusedError
from services.consumer.shadow import MOST_WAITING, ShadowReader
from tests.support.waiting import deadline
from tests.unit.consumer.test_worker import LIMIT, Bench, OcrApi


class Shadow(Bench):
    """A worker, and a shadow reader of what it has read."""

    def __init__(self, rate: float = 1.0) -> None:
        super().__init__()
        self.candidate = OcrApi()
        self.candidate.text, self.candidate.version = "industry", "candidate"
        self.reader = ShadowReader(
            store=cast("ObjectStore", self.store),
            recogniser=self.candidate,
            images=self.documents,
            rate=rate,
            max_object_bytes=LIMIT,
            is_idle=lambda: True,
        )

    async def offered(self) -> None:
        """Have an image read, and offer it to the candidate."""
        await self.worker.handle(self.store.put())
        self.reader.offer(self.documents.image)


def counted(code: str) -> float:
    value = REGISTRY.get_sample_value("consumer_shadow_readings_total", {"outcome": code})
    assert value is not None, f"{code} is not there from the start"
    return value


@pytest.mark.parametrize(
    ("text", "code", "disagreement"),
    [("industry", "disagreed", pytest.approx(2 / 9)), ("industrie", "agreed", None)],
)
async def test_reading_of_the_candidate_is_kept_beside_the_prediction(
    text: str, code: str, disagreement: object
) -> None:
    shadow, count = Shadow(), counted(code)
    await shadow.offered()
    before, shadow.candidate.text = shadow.documents.image, text

    await shadow.reader.read_next()

    image = shadow.documents.image
    assert image.prediction == before.prediction
    assert [(each.text, each.model_version) for each in image.history] == [(text, "candidate")]
    assert image.disagreement == disagreement
    assert [each.model_version for each in image.readings] == ["1", "candidate"]
    assert counted(code) == count + 1


@pytest.mark.parametrize("code", ["same_model", "obsolete", "refused", "failed"])
async def test_reading_that_is_of_no_use_changes_nothing(code: str) -> None:
    shadow, count = Shadow(), counted(code)
    await shadow.offered()
    if code == "same_model":
        shadow.candidate.version = "1"
    elif code == "obsolete":
        await shadow.worker.handle(shadow.store.remove())
    else:
        refusal = PredictionRefusedError("undecodable_image", "broken")
        shadow.candidate.error = refusal if code == "refused" else OcrUnavailableError("away")
    before = shadow.documents.image

    await shadow.reader.read_next()

    assert shadow.documents.image == before
    assert counted(code) == count + 1


async def test_stop_does_not_wait_for_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    shadow, stop = Shadow(), asyncio.Event()
    await shadow.offered()
    before = shadow.documents.image

    async def stop_meanwhile(_: bytes) -> None:
        stop.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(shadow.candidate, "predict", stop_meanwhile)

    async with deadline():
        await shadow.reader.run(stop)

    assert shadow.documents.image == before


async def test_share_without_room_is_dropped_and_counted() -> None:
    all_of_them, none, count = Shadow(), Shadow(rate=0), counted("dropped")
    await all_of_them.offered()
    for _ in range(MOST_WAITING):
        all_of_them.reader.offer(all_of_them.documents.image)
        none.reader.offer(all_of_them.documents.image)

    assert counted("dropped") == count + 1
    assert (len(all_of_them.reader), len(none.reader)) == (MOST_WAITING, 0)
