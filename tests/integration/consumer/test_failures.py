"""Refusals, failures and missing servers while images are read: nothing is lost by them."""

import asyncio
from collections.abc import Callable
from itertools import cycle

import aio_pika
import pytest
from aiohttp import web

from services.common.adapters.rabbitmq.retry_policy import DeliveryOutcome, Queues
from services.common.runtime.settings import AmqpSettings
from tests.support import indexing
from tests.support.indexing import Start
from tests.support.ocr_api import ScriptedOcrApi, prediction, problem
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("status", "code"),
    [(415, "unsupported_media_type"), (422, "undecodable_image"), (413, "image_too_large")],
)
async def test_refused_image_is_rejected_and_the_next_one_read(
    start: Start, ocr_api: ScriptedOcrApi, status: int, code: str
) -> None:
    async def refuse_bad(image: bytes) -> web.Response:
        if image == b"bad":
            return problem(status, code, "what is wrong")
        return web.json_response(prediction())

    ocr_api.answer = refuse_bad
    pipeline = await start()
    await pipeline.upload("bad.png", b"bad")
    await pipeline.upload("good.png", b"good")

    document = await pipeline.document("bad.png")
    assert document["status"] == "rejected"
    assert document["error"] == {"code": code, "detail": "what is wrong"}
    assert document["prediction"] is None
    assert (await pipeline.document("good.png"))["status"] == "predicted"


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: web.Response(status=413, text="<h1>Entity Too Large</h1>"),
        lambda: web.json_response({"detail": [{"loc": ["body"]}]}, status=422),
        lambda: web.json_response({"code": "undecodable_image"}, status=422),
        lambda: problem(422, "invalid_request"),
        lambda: problem(415, ""),
    ],
    ids=["gateway", "other service", "no problem", "not of the image", "no code"],
)
async def test_refusal_that_is_not_of_the_image_rejects_nothing(
    start: Start, ocr_api: ScriptedOcrApi, refusal: Callable[[], web.Response]
) -> None:
    async def refuse(_: bytes) -> web.Response:
        return refusal()

    ocr_api.answer = refuse
    pipeline = await start()
    await pipeline.upload("good.png")

    await pipeline.until_settled("ocr_failed", 2)

    assert pipeline.settled[-1] == (DeliveryOutcome.PARKED, "ocr_failed")
    assert await pipeline.database.images.count({}) == 0


async def test_object_over_the_limit_is_rejected_unread(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    pipeline = await start()
    await pipeline.upload("huge.png", b"x" * 100_001)

    document = await pipeline.document("huge.png")
    assert document["error"]["code"] == "image_too_large"
    assert ocr_api.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(text="garbage"),
        web.Response(text='{"text": "a", "score": NaN}', content_type="application/json"),
        web.json_response(prediction(score=1.5)),
        web.json_response({"text": "only"}),
    ],
    ids=["500", "garbage", "nan", "score over 1", "fields missing"],
)
async def test_image_that_the_api_fails_on_is_retried_later(
    start: Start, ocr_api: ScriptedOcrApi, answer: web.Response
) -> None:
    body, status = answer.body, answer.status

    async def fail_once(_: bytes) -> web.Response:
        if len(ocr_api.seen) == 1:
            return web.Response(body=body, status=status)
        return web.json_response(prediction())

    ocr_api.answer = fail_once
    pipeline = await start()
    await pipeline.upload("a.png")

    assert (await pipeline.document("a.png"))["status"] == "predicted"
    assert pipeline.settled[0] == (DeliveryOutcome.RETRIED, "ocr_failed")


async def test_api_that_is_down_delays_and_loses_nothing(
    start: Start, ocr_api: ScriptedOcrApi
) -> None:
    asked = cycle(("1", "\u00b2"))  # the latter is a digit, and no number

    async def overloaded(_: bytes) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": next(asked)})

    ocr_api.is_ready, ocr_api.answer = False, overloaded
    pipeline = await start()
    for number in range(10):
        await pipeline.upload(f"{number}.png", f"{number}".encode())
    await pipeline.until_settled("ocr_unavailable")
    assert await pipeline.database.images.count({}) == 0

    ocr_api.is_ready, ocr_api.answer = True, ocr_api.read_all
    for number in range(10):
        assert (await pipeline.document(f"{number}.png"))["status"] == "predicted"
    assert DeliveryOutcome.PARKED not in {outcome for outcome, _ in pipeline.settled}


async def test_api_that_hangs_on_one_image_delays_only_that_one(
    start: Start, ocr_api: ScriptedOcrApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "OCR_SECONDS", 2.0)

    async def hang_once(image: bytes) -> web.Response:
        if image == b"slow" and len(set(ocr_api.seen)) == 1:
            await asyncio.Event().wait()
        return web.json_response(prediction())

    ocr_api.answer = hang_once
    pipeline = await start()
    await pipeline.upload("slow.png", b"slow")
    await pipeline.upload("quick.png", b"quick")

    assert (await pipeline.document("quick.png"))["status"] == "predicted"
    assert (await pipeline.document("slow.png"))["status"] == "predicted"


async def test_folder_made_in_the_console_is_no_image(start: Start) -> None:
    pipeline = await start()
    await pipeline.upload("scans/", b"")
    await pipeline.until_settled("folder")

    assert await pipeline.database.images.count({}) == 0


async def test_foreign_message_is_parked(
    start: Start, amqp_settings: AmqpSettings, queues: Queues
) -> None:
    pipeline = await start()
    connection = await aio_pika.connect(str(amqp_settings.url))
    async with connection, connection.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queues.work)
        await pipeline.until_settled("invalid_event")
        queue = await channel.get_queue(queues.parked)
        while (parked := await queue.get(no_ack=True)).body != b"hello":
            assert parked.headers["x-code"] == "foreign_event"
        assert parked.headers["x-code"] == "invalid_event"


async def test_two_consumers_write_each_document_once(start: Start) -> None:
    first, second = await start(), await start()
    for number in range(30):
        await first.upload(f"{number % 10}.png", f"{number % 10}".encode())
    for number in range(10):
        await first.document(f"{number}.png")

    await until(lambda: len(first.settled) + len(second.settled) >= 30)
    assert await first.database.images.count({}) == 10
    assert await first.database.images.count({"status": "predicted"}) == 10
