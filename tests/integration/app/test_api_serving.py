"""The OCR API under several clients: batches, what is dropped, what is turned away, who may ask."""

import asyncio
import threading
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientSession, FormData
from pydantic import SecretStr
from typing_extensions import override

from app.engines.base import EngineReading
from app.images import Pixels, measure
from services.common.runtime.logs import configure_logging
from services.common.runtime.settings import LogSettings
from tests.support.images import damaged_images, draw_line, encode, line_image, oversized_images
from tests.support.running_ocr_api import Api, FakeEngine, running_api
from tests.support.waiting import DEADLINE_SECONDS, deadline, until

KIB = 1024


class PickyEngine(FakeEngine):
    """Reads a picture's width; fails on one that is 13 pixels high, alone or in a batch."""

    @override
    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        super().read_many(images)
        if any(pixels.shape[0] == 13 for pixels in images):
            raise ZeroDivisionError("13")
        return [EngineReading(str(pixels.shape[1]), 0.9) for pixels in images]


class ForgetfulEngine(FakeEngine):
    """Answers a batch with one reading too few."""

    @override
    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        readings = super().read_many(images)
        return readings if len(images) == 1 else readings[1:]


def line(width: int, height: int = 48) -> bytes:
    return encode(draw_line("a").resize((width, height)))


async def send_batch(api: Api, *files: bytes) -> tuple[int, dict[str, Any]]:
    form = FormData(default_to_multipart=True)
    for content in files:
        form.add_field("files", content, filename="image")
    async with api.session.post("/predict/batch", data=form) as response:
        return response.status, await response.json(content_type=None)


async def test_batch_is_answered_in_order_with_errors_by_item() -> None:
    damaged = damaged_images()["half a PNG"]
    bomb = oversized_images()["png bomb"]
    async with running_api(PickyEngine, max_image_bytes=8 * KIB) as api:
        status, body = await send_batch(
            api, line(320), damaged, line(400), b"text", bomb, bytes(9 * KIB), line(300, 13),
            line(500),
        )  # fmt: skip

        outcomes = [item.get("text") or item["error"]["code"] for item in body["items"]]
        assert status == 200
        assert outcomes == [
            "320", "undecodable_image", "400", "unsupported_media_type", "image_too_large",
            "image_too_large", "internal_error", "500",
        ]  # fmt: skip
        assert body["items"][1]["error"]["status"] == 422
        assert api.metric("ocr_rejections_total", code="internal_error") == 1
        assert api.metric("ocr_predictions_total", engine="fake", model_version="1") == 3


async def test_a_batch_has_at_least_one_and_at_most_64_images() -> None:
    async with running_api(PickyEngine) as api:
        status, body = await send_batch(api, *[line(320)] * 64)
        assert status == 200
        assert [item["text"] for item in body["items"]] == ["320"] * 64

        status, body = await send_batch(api, *[line(320)] * 65)
        assert (status, body["code"]) == (422, "invalid_request")
        async with api.session.post("/predict/batch", data=FormData({"file": "a"})) as response:
            assert response.status == 415
        for field, value, filename in (("file", b"a", "a"), ("files", "text", None)):
            form = FormData(default_to_multipart=True)
            form.add_field(field, value, filename=filename)
            async with api.session.post("/predict/batch", data=form) as response:
                assert response.status == 422


async def test_a_batch_with_too_many_bytes_in_all_is_refused() -> None:
    async with running_api(PickyEngine, max_batch_bytes=512 * KIB) as api:
        status, body = await send_batch(api, *[bytes(256 * KIB)] * 3)

    assert (status, body["code"]) == (413, "image_too_large")


async def test_waiting_images_are_read_together_if_that_is_faster() -> None:
    engine = FakeEngine(is_held=True, best_batch=4)
    async with running_api(lambda: engine, threads=1) as api:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(api.predict(line(320)))
            await until(lambda: engine.calls == 1)
            rest = [tasks.create_task(api.predict(line(width))) for width in (310, 330, 320, 900)]
            await until(lambda: api.queue.waiting == 4)
            assert api.metric("ocr_queue_depth") == 4
            assert api.metric("ocr_in_flight_requests") == 5
            engine.gate.set()

        assert [task.result()[0] for task in rest] == [200] * 4
        assert sorted(map(sorted, engine.batches)) == [[310, 320, 330], [320], [900]]
        assert api.metric("ocr_batch_size_sum") == 5
        assert api.metric("ocr_batch_size_count") == 3
        assert api.metric("ocr_queue_wait_seconds_count") == 5
        assert api.metric("ocr_queue_depth") == 0


async def test_a_picture_that_fails_does_not_take_its_batch_along() -> None:
    configure_logging(LogSettings(), service="test")  # the default shows every local variable
    engine = PickyEngine(is_held=True, best_batch=4)
    async with running_api(lambda: engine, threads=1) as api, asyncio.TaskGroup() as tasks:
        tasks.create_task(api.predict(line(320)))
        await until(lambda: engine.calls == 1)
        good, bad = (tasks.create_task(api.predict(line(300, height))) for height in (48, 13))
        other = tasks.create_task(api.predict(line(90, 14)))
        await until(lambda: api.queue.waiting == 3)
        engine.gate.set()

    assert (good.result()[0], bad.result()[0], other.result()[0]) == (200, 500, 200)


async def test_a_batch_with_too_few_readings_is_read_one_by_one() -> None:
    configure_logging(LogSettings(), service="test")
    engine = ForgetfulEngine(is_held=True, best_batch=4)
    async with running_api(lambda: engine, threads=1) as api:
        async with deadline(), asyncio.TaskGroup() as tasks:
            tasks.create_task(api.predict(line(320)))
            await until(lambda: engine.calls == 1)
            rest = [tasks.create_task(api.predict(line(320))) for _ in range(3)]
            await until(lambda: api.queue.waiting == 3)
            engine.gate.set()

        assert [task.result()[0] for task in rest] == [200] * 3
        assert api.queue.in_work == 0


async def test_headers_that_take_long_leave_no_room_for_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()

    def slow(content: bytes, *, max_pixels: int) -> tuple[int, int]:
        assert gate.wait(DEADLINE_SECONDS)
        return measure(content, max_pixels=max_pixels)

    monkeypatch.setattr("app.predictor.measure", slow)
    async with (
        running_api(PickyEngine, threads=1, max_waiting=1) as api,
        asyncio.TaskGroup() as tasks,
    ):
        accepted = [tasks.create_task(api.predict(line(320))) for _ in range(2)]
        await until(lambda: api.queue.in_work == 2)

        status, body = await api.predict(line(320))

        gate.set()
        assert (status, body["code"]) == (503, "overloaded")
        assert [(await task)[0] for task in accepted] == [200, 200]


async def test_an_image_whose_client_left_is_never_read() -> None:
    engine = FakeEngine(is_held=True)
    async with running_api(lambda: engine, threads=1) as api:
        async with asyncio.TaskGroup() as tasks:
            in_work = tasks.create_task(api.predict(line(320)))
            await until(lambda: engine.calls == 1)
            async with ClientSession(api.session._base_url) as impatient:
                asking = [
                    tasks.create_task(impatient.post("/predict", data={"file": b_file()})),
                    tasks.create_task(impatient.post("/predict/batch", data={"files": b_file()})),
                ]
                await until(lambda: api.queue.waiting == 2)
                for task in asking:
                    task.cancel()

            await until(lambda: api.queue.waiting == 0)
            engine.gate.set()
        assert in_work.result()[0] == 200
        assert engine.calls == 1
        await until(lambda: api.metric("ocr_rejections_total", code="abandoned") == 2)
        assert api.metric("ocr_in_flight_requests") == 0


def b_file() -> BytesIO:
    return BytesIO(line(310))


async def test_requests_that_hold_too_much_memory_are_turned_away() -> None:
    engine = FakeEngine(is_held=True)
    async with running_api(lambda: engine, max_held_bytes=64 * KIB) as api:
        padded = line_image("a") + bytes(40 * KIB)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(api.predict(padded))
            await until(lambda: engine.calls == 1)

            status, body = await api.predict(padded)

            assert (status, body["code"]) == (503, "overloaded")
            assert api.metric("ocr_shed_requests_total") == 1
            engine.gate.set()
        assert first.result()[0] == 200
        assert (await api.predict(padded))[0] == 200


@pytest.mark.parametrize(("width", "least_width"), [(320, 1), (64, 320)])
async def test_a_slow_engine_sheds_what_would_wait_too_long(width: int, least_width: int) -> None:
    engine = FakeEngine(is_held=True, least_width=least_width)
    async with running_api(lambda: engine, threads=1, max_wait_seconds=0.5) as api:
        api.queue.set_up(batch_size=1, seconds_per_pixel=0.3 / 15_000)
        async with asyncio.TaskGroup() as tasks:
            accepted = [tasks.create_task(api.predict(line(width))) for _ in range(2)]
            await until(lambda: engine.calls == 1 and api.queue.waiting == 1)

            async with deadline(), api.post(line(width)) as response:
                body = await response.json(content_type=None)

            assert (response.status, body["code"]) == (503, "overloaded")
            assert response.headers["Retry-After"] == "1"
            engine.gate.set()
        assert [task.result()[0] for task in accepted] == [200, 200]


async def test_with_a_token_only_health_and_documentation_are_open() -> None:
    async with running_api(FakeEngine, api_token=SecretStr("correct-token")) as api:
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
            async with api.session.get(path) as response:
                assert response.status == 200, path
        for path in ("/predict", "/predict/batch"):
            for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer ü"}):
                async with api.session.post(path, headers=header) as response:
                    body = await response.json(content_type=None)
                assert (response.status, body["code"]) == (401, "unauthorized")
                assert response.headers["WWW-Authenticate"] == "Bearer"
        api.session.headers["Authorization"] = "Bearer correct-token"
        assert (await api.predict(line(320)))[0] == 200
        assert (await send_batch(api, line(320)))[0] == 200


async def test_the_loaded_model_can_be_seen_in_the_metrics() -> None:
    async with running_api(PickyEngine) as api:
        assert api.metric("ocr_model_info", engine="fake", model_version="1") == 1


async def test_another_model_is_served_without_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that can't be loaded is not, until it can: the model before goes on reading."""
    monkeypatch.setattr("app.predictor.CHECK_SECONDS", 0.01)
    engines: dict[str, FakeEngine] = {"one": FakeEngine(), "two": FakeEngine(model_version="2")}
    asked, wanted = list[str](), ["one"]

    def load() -> FakeEngine:
        asked.append(wanted[0])
        return engines[wanted[0]]

    async def version() -> Any:
        async with api.session.get("/readyz") as response:
            return (await response.json(content_type=None)).get("model_version")

    async with running_api(load, wanted=lambda: wanted[0]) as api:
        assert await version() == "1"
        wanted[0] = "two"
        await until(lambda: api.predictor.model["model_version"] == "2")
        _, read = await api.predict(line(320))
        assert read["model_version"] == await version() == "2"
        assert api.metric("ocr_model_info", engine="fake", model_version="1") == 0
        assert api.metric("ocr_model_info", engine="fake", model_version="2") == 1
        wanted[0] = "missing"
        await until(lambda: asked[-1] == "missing")
        assert (await api.predict(line(320)))[1]["model_version"] == "2"
        engines["missing"] = FakeEngine(model_version="3")
        await until(lambda: api.predictor.model["model_version"] == "3")
    assert [each for each in asked if each != "missing"] == ["one", "two"]
