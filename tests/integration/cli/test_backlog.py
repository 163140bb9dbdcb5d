"""Counts of ``docreco doctor``, from real servers."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import HttpUrl

from services.cli.backlog import HELD, NOTIFICATIONS, QUEUES, Backlog, backlogs
from services.common.adapters.rabbitmq.dead_letters import drop
from services.common.adapters.rabbitmq.messaging import open_publisher
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES
from services.common.runtime.settings import AmqpSettings, RabbitmqManagementSettings, S3Settings
from services.provisioner.broker import apply_definitions
from tests.support.waiting import eventually

NOWHERE = HttpUrl("http://127.0.0.1:9/")
DEFINITIONS = Path(__file__).parents[3] / "rabbitmq" / "definitions.json"


async def test_what_is_parked_is_counted_beside_what_minio_keeps(
    management: RabbitmqManagementSettings, s3_settings: S3Settings, amqp_settings: AmqpSettings
) -> None:
    await apply_definitions(management, DEFINITIONS.read_bytes())

    async def counts() -> dict[str, int | None]:
        found = await backlogs(s3_settings, management, NOWHERE, timeout_seconds=30)
        return {each.name: each.count for each in found}

    before = await counts()
    assert before.keys() == {*QUEUES, *NOTIFICATIONS, HELD}
    assert [name for name, count in before.items() if count is None] == [HELD]
    subject = f"test-{uuid4()}"
    body = json.dumps({"fetch_id": subject}).encode()
    async with open_publisher(amqp_settings) as publisher:
        await publisher.publish(body, queue="fetch.parked")

    async def counted() -> bool:
        return (await counts())["fetch.parked"] > (before["fetch.parked"] or 0)  # type: ignore[operator]

    await eventually(counted)
    dropped = await drop(amqp_settings, FETCH_QUEUES, lambda message: message.subject == subject)
    assert [message.body for message in dropped] == [body]


async def test_servers_that_do_not_answer_are_said_to_be_unknown(
    management: RabbitmqManagementSettings, s3_settings: S3Settings
) -> None:
    found = await backlogs(
        s3_settings.model_copy(update={"endpoint_url": NOWHERE}),
        management.model_copy(update={"url": NOWHERE}),
        NOWHERE,
        timeout_seconds=30,
    )

    assert {each.count for each in found} == {None}
    assert all(each.detail for each in found)


async def test_targets_of_minio_are_summed(
    management: RabbitmqManagementSettings, s3_settings: S3Settings
) -> None:
    async def metrics(_: web.Request) -> web.Response:
        lines = [
            "# TYPE minio_notify_target_failed_events counter",
            'minio_notify_target_failed_events{target_id="A"} 2',
            'minio_notify_target_failed_events{target_id="B"} 3',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    application = web.Application()
    application.router.add_get("/minio/v2/metrics/cluster", metrics)
    async with TestServer(application) as server:
        url = HttpUrl(str(server.make_url("/")))
        settings = s3_settings.model_copy(update={"endpoint_url": url})
        found = await backlogs(settings, management, NOWHERE, timeout_seconds=30)

    [failed] = [each for each in found if each.name == "minio_notify_target_failed_events"]
    assert failed == Backlog(failed.name, 5, failed.meaning, needs_a_person=True)


@pytest.mark.parametrize(
    ("result", "count", "detail"),
    [
        ([{"metric": {}, "value": [1732700000.1, "100"]}], 100, ""),
        ([], None, "Prometheus has no pass of the reconciler"),
    ],
)
async def test_held_removals_are_asked_of_prometheus(
    management: RabbitmqManagementSettings,
    s3_settings: S3Settings,
    result: list[object],
    count: int | None,
    detail: str,
) -> None:
    async def query(request: web.Request) -> web.Response:
        assert request.query["query"] == f"max({HELD})"
        return web.json_response({"status": "success", "data": {"result": result}})

    application = web.Application()
    application.router.add_get("/api/v1/query", query)
    async with TestServer(application) as server:
        url = HttpUrl(str(server.make_url("/")))
        found = await backlogs(s3_settings, management, url, timeout_seconds=30)

    [held] = [each for each in found if each.name == HELD]
    assert (held.count, held.detail, held.needs_a_person) == (count, detail, True)
