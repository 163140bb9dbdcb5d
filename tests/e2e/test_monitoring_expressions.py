"""Every expression of dashboards and alerts, asked of a Prometheus that the real services feed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from aiohttp import ClientSession, FormData, encode_basic_auth

from services.common.adapters.object_store import ObjectStore, sibling
from tests.support import expressions
from tests.support.expressions import Expression
from tests.support.hastened import hasten
from tests.support.images import draw_line, encode, line_image
from tests.support.monitoring import Monitoring, open_monitoring
from tests.support.ocr_api import predict
from tests.support.pages import page_file
from tests.support.pipeline import Client, Pipeline
from tests.support.promql import selectors
from tests.support.review import Person, image_of, open_person
from tests.support.waiting import eventually
from tests.support.web import WebSite

FASTER = 20
CADVISOR = Path(__file__).parent / "cadvisor.txt"
SERVERS = yaml.safe_load(
    (Path(__file__).parents[1] / "contract/server_metrics.yml").read_text(encoding="utf-8")
)
PANELS = list(expressions.dashboard_expressions(rate_interval="5s", period="1m"))
ALERTS = list(expressions.alert_expressions())

NOT_PROVOKED = {
    "ImageAgeHigh": "images would have to wait for five minutes",
    "NotificationsLost": "MinIO's event folder would have to be full",
    "NotificationQueueGrowing": "RabbitMQ would have to be down for long",
    "StorageNearlyFull": "the disk would have to be full",
    "BrokerDiskNearlyFull": "the disk would have to be full",
    "BrokerMemoryHigh": "RabbitMQ would have to use gigabytes",
    "ReconcilerStale": "the reconciler would have to miss three passes",
    "RemovalsHeld": "the bucket would have to be lost",
    "OcrAnnotatedErrorRateHigh": "a hundred images would have to be annotated",
    "EventsMissing": "MinIO would have to lose events",
    "PagesNotSegmented": "the segmenter would have to be down",
}
"""Alerts of which only the metrics are seen here; that they fire is in prometheus/tests."""

FAULT_ONLY = {
    "pipeline: Retried and returned / {{code}}": "a server must be missing",
    "fetcher: mark Alerts": "an alert must fire",
    "pipeline: mark Alerts": "an alert must fire",
    "quality: mark Alerts": "an alert must fire",
    "containers: mark Alerts": "an alert must fire",
}
"""Panels that show nothing while all is well."""


def as_now(expression: Expression) -> str:
    """Return an expression that compares with a week ago, compared with a moment ago."""
    return expression.promql.replace("offset 1w", "offset 5s")


@asynccontextmanager
async def running(work: AsyncIterator[None]) -> AsyncIterator[None]:
    """Do work again and again for the length of the block."""

    async def repeat() -> None:
        async for _ in work:
            await asyncio.sleep(0.3)

    task = asyncio.create_task(repeat())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def load(client: Client, site: WebSite, person: Person) -> AsyncIterator[None]:
    """Submit new, known, missing and broken URLs, upload images and pages, and annotate."""
    pages = sibling(client.store, "pages")
    known = site.add_body(f"/known-{uuid4().hex}.png", line_image("known"))
    while True:
        text = uuid4().hex[:8]
        url = site.add_body(f"/{text}.png", line_image(text))
        broken = site.add_body(f"/broken-{text}.png", line_image(text)[:300])
        items = [{"url": url, "annotation": text}, {"url": known}, {"url": broken}]
        await client.submit(*items, {"url": site.url(f"/missing-{text}.png")})
        await client.store.write(
            f"load/{text}.png", line_image(text), content_type="image/png", metadata={}
        )
        # the same page each time, so that its lines cost the OCR API nothing
        page = page_file(["A page under load"], ["in two columns"])
        await pages.write(f"load/{text}.png", page, content_type="image/png", metadata={})
        task = await person.see("/queue")
        if image_of(task):
            await person.do(task, "save", text)
        yield


def server_metrics() -> dict[str, str]:
    """Return what the record of the servers' metrics says of MinIO and RabbitMQ, as expressions."""
    asked = [
        f'{metric}{{{label}="{value}"}}' if label else metric
        for metric, labels in SERVERS.items()
        if metric.startswith(("minio_", "rabbitmq_"))
        for label, values in (labels or {"": [""]}).items()
        for value in values
    ]
    return {f"record of {each}": each for each in asked}


async def store_in_every_way(store: ObjectStore) -> None:
    """Write an image whole, by a form, as a copy and in parts."""
    client: Any = store.client
    bucket = store.bucket
    key = f"load/{uuid4().hex}.png"
    image = line_image(uuid4().hex[:8])
    await store.write(key, image, content_type="image/png", metadata={})
    form = await client.generate_presigned_post(bucket, f"{key}.form")
    fields = FormData(form["fields"])
    fields.add_field("file", image, filename="line.png")
    async with ClientSession() as session, session.post(form["url"], data=fields) as response:
        assert response.status == 204, await response.text()
    await client.copy_object(Bucket=bucket, Key=f"{key}.copy", CopySource=f"{bucket}/{key}")
    parts = {"Bucket": bucket, "Key": f"{key}.parts"}
    upload = (await client.create_multipart_upload(**parts))["UploadId"]
    part = await client.upload_part(**parts, UploadId=upload, PartNumber=1, Body=image)
    whole = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await client.complete_multipart_upload(**parts, UploadId=upload, MultipartUpload=whole)


class Broker:
    """Changes of the test to RabbitMQ."""

    def __init__(self, pipeline: Pipeline) -> None:
        addresses = pipeline.addresses
        password = addresses.rabbitmq_management_password.get_secret_value()
        user = encode_basic_auth(addresses.rabbitmq_management_user, password)
        self._session = ClientSession(
            f"{addresses.rabbitmq_management_url}/api/", headers={"Authorization": user}
        )

    async def publish(self, exchange: str, routing_key: str) -> None:
        """Publish an invalid message."""
        body = {
            "properties": {},
            "routing_key": routing_key,
            "payload": "no event",
            "payload_encoding": "string",
        }
        path = f"exchanges/%2F/{exchange}/publish"
        async with self._session.post(path, json=body) as response:
            assert response.status == 200, await response.text()

    async def close(self) -> None:
        """Remove what was published, and hang up."""
        async with self._session:
            for queue in ("ocr.parked", "raw.unrouted"):
                await self._session.delete(f"queues/%2F/{queue}/contents")


async def silent(monitoring: Monitoring, asked: dict[str, str]) -> list[str]:
    """Ask until each expression has answered once; return the names of those that did not."""
    left = dict(asked)

    async def all_answered() -> bool:
        for name, promql in list(left.items()):
            if await monitoring.values(promql):
                del left[name]
        return not left

    with suppress(TimeoutError):
        await eventually(all_answered)
    return sorted(left)


async def test_every_panel_shows_something_under_load(
    pipeline: Pipeline, client: Client, site: WebSite, tmp_path: Path
) -> None:
    asked = {each.where: as_now(each) for each in PANELS if each.where not in FAULT_ONLY}
    metrics = {
        f"{each.where} selects {selector.promql}": selector.promql
        for each in ALERTS
        if each.where.rpartition(" ")[2] in NOT_PROVOKED
        for selector in selectors(hasten(each.promql, FASTER))
    }
    site.add_body("/metrics", CADVISOR.read_bytes(), content_type="text/plain")

    async with open_monitoring(pipeline, tmp_path, faster=FASTER) as monitoring:
        watch_containers(monitoring, site)
        await store_in_every_way(client.store)
        async with open_person(pipeline.review_url) as ada, running(load(client, site, ada)):
            everything = asked | metrics | server_metrics()
            assert await silent(monitoring, everything) == []
        [restarts] = [each for each in asked if "Restarts, in this period" in each]
        assert await monitoring.values(asked[restarts]) == [0]
        started_again = CADVISOR.read_bytes().replace(b" 1.795501e+09", b" 1.795502e+09")
        site.add_body("/metrics", started_again, content_type="text/plain")
        assert await silent(monitoring, {"": f"{asked[restarts]} == 1"}) == []


def watch_containers(monitoring: Monitoring, site: WebSite) -> None:
    """Have what the site has at /metrics scraped as cAdvisor's."""
    containers = [{"targets": [site.url("").removeprefix("http://").rstrip("/")]}]
    (monitoring.targets / "cadvisor.yml").write_text(yaml.safe_dump(containers))


async def test_alerts_and_the_rest_of_the_panels_show_their_faults(
    pipeline: Pipeline, client: Client, site: WebSite, tmp_path: Path
) -> None:
    asked = {
        each.where: hasten(each.promql, FASTER)
        for each in ALERTS
        if each.where.rpartition(" ")[2] not in NOT_PROVOKED
    }
    later = {"alert TargetMissing", "alert TargetDown"}
    later |= {f"{kind} OcrNoPredictionsWhileImagesArrive" for kind in ("alert", "Grafana alert")}
    panels = {each.where: as_now(each) for each in PANELS if each.where in FAULT_ONLY}
    assert len(panels) == len(FAULT_ONLY)
    broker = Broker(pipeline)
    try:
        async with open_monitoring(pipeline, tmp_path, faster=FASTER) as monitoring:
            scraped = {job: f'up{{job="{job}"}} == 1' for job in ("ocr-api", "fetcher", "rabbitmq")}
            assert await silent(monitoring, scraped) == []
            site.add_body("/metrics", b"# no container\n", content_type="text/plain")
            watch_containers(monitoring, site)
            await spoil(pipeline, client, site, broker)
            faults = {name: promql for name, promql in asked.items() if name not in later}
            assert await silent(monitoring, faults) == []

            (monitoring.targets / "fetcher.yml").unlink()
            await pipeline.stop("ocr-api")
            await client.store.write(
                f"load/{uuid4().hex}.png",
                line_image(uuid4().hex[:8]),
                content_type="image/png",
                metadata={},
            )
            rest = panels | {name: asked[name] for name in later}
            try:
                assert await silent(monitoring, rest) == []
            finally:
                await pipeline.start("ocr-api")
    finally:
        await broker.close()


async def spoil(pipeline: Pipeline, client: Client, site: WebSite, broker: Broker) -> None:
    """Make everything go wrong that can in a short time, but for the OCR API's end."""
    await broker.publish("amq.default", "ocr.jobs")
    await broker.publish("raw.events", "nowhere")
    async with ClientSession(pipeline.ocr_url) as ocr:
        blank = encode(draw_line(" " * 20))
        statuses = await asyncio.gather(*(predict(ocr, blank) for _ in range(120)))
    assert {200, 503} <= set(statuses)
    lost = [{"url": site.url(f"/lost-{uuid4().hex}.png")} for _ in range(30)]
    assert (await client.completed(await client.submit(*lost)))["failed"] == 30
