"""Backlog: queued, parked and undelivered messages, for ``docreco doctor``."""

import asyncio
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from pydantic import HttpUrl

from services.cli.errors import reason_of
from services.cli.output import Table, cell
from services.common.adapters.prometheus import Prometheus, PrometheusUnavailableError
from services.common.adapters.rabbitmq.retry_policy import (
    FETCH_QUEUES,
    OCR_QUEUES,
    PAGE_QUEUES,
    REPREDICT_QUEUES,
)
from services.common.runtime.settings import RabbitmqManagementSettings, S3Settings

QUEUES = {
    OCR_QUEUES.work: ("images wait to be read", False),
    REPREDICT_QUEUES.work: ("images wait to be read again", False),
    PAGE_QUEUES.work: ("pages wait to be cut into lines", False),
    FETCH_QUEUES.work: ("URLs wait to be fetched", False),
    OCR_QUEUES.parked: ("images failed: docreco parked list", True),
    PAGE_QUEUES.parked: ("pages failed: docreco parked list --queue pages", True),
    FETCH_QUEUES.parked: ("fetches failed: docreco parked list --queue fetch", True),
    "raw.unrouted": ("unroutable events: is ocr.jobs bound?", True),
    "pages.unrouted": ("unroutable events: is pages.jobs bound?", True),
}
"""Queues to count; whether messages in them need a person."""
NOTIFICATIONS = {
    "minio_notify_target_queue_length": ("events wait on MinIO's disk for RabbitMQ", False),
    "minio_notify_target_failed_events": (
        "events lost by MinIO: docreco reconcile finds their images",
        True,
    ),
}
"""MinIO's metrics of its notification targets; whether they need a person."""
HELD = "reconciler_removals_held"
"""The reconciler's metric in Prometheus."""


@dataclass(frozen=True)
class Backlog:
    """A count of waiting things."""

    name: str
    count: int | None
    """None if the server does not answer."""
    meaning: str
    needs_a_person: bool
    detail: str = ""


async def backlogs(
    s3: S3Settings,
    management: RabbitmqManagementSettings,
    prometheus_url: HttpUrl,
    *,
    timeout_seconds: float,
) -> list[Backlog]:
    """Ask RabbitMQ's management API, MinIO's metrics and Prometheus.

    Servers that do not answer have no counts.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        queues, notifications, held = await asyncio.gather(
            _queues(session, management),
            _notifications(session, s3),
            _removals_held(session, prometheus_url),
        )
    return [*queues, *notifications, held]


def backlog_table(found: list[Backlog]) -> Table:
    """Return the table for people."""
    rows = [
        [
            cell(each.name),
            cell("?" if each.count is None else each.count, _style(each)),
            cell(each.detail or each.meaning),
        ]
        for each in found
    ]
    return Table("Waiting, parked and undelivered", ("name", "count", "meaning"), rows)


def _style(backlog: Backlog) -> str:
    if backlog.count is None:
        return "yellow"
    return "red" if backlog.count and backlog.needs_a_person else "green"


async def _queues(
    session: aiohttp.ClientSession, settings: RabbitmqManagementSettings
) -> list[Backlog]:
    login = aiohttp.encode_basic_auth(settings.user, settings.password.get_secret_value())
    url = f"{str(settings.url).rstrip('/')}/api/queues/%2F"
    counts: dict[str, int] = {}
    detail = ""
    try:
        async with session.get(
            url, headers={"Authorization": login}, raise_for_status=True
        ) as response:
            for each in await response.json():
                name = _shown_name(each["name"])
                counts[name] = counts.get(name, 0) + each.get("messages", 0)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = f"RabbitMQ's management API: {reason_of(error)}"
    return [
        Backlog(name, counts.get(name), meaning, needs_a_person, _why(name, counts, detail))
        for name, (meaning, needs_a_person) in QUEUES.items()
    ]


def _shown_name(queue: str) -> str:
    """Return the displayed name of a queue: partitions count as one."""
    return FETCH_QUEUES.work if queue in FETCH_QUEUES.partitions else queue


def _why(name: str, counts: dict[str, int], detail: str) -> str:
    return detail or ("" if name in counts else "no such queue: run the provisioner")


async def _notifications(session: aiohttp.ClientSession, s3: S3Settings) -> list[Backlog]:
    url = f"{str(s3.endpoint_url).rstrip('/')}/minio/v2/metrics/cluster"
    detail = ""
    counts: dict[str, int] = {}
    try:
        async with session.get(url, raise_for_status=True) as response:
            counts = _read(await response.text())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = f"MinIO's metrics: {reason_of(error)}"
    return [
        # MinIO omits metrics without value
        Backlog(name, None if detail else counts.get(name, 0), meaning, needs_a_person, detail)
        for name, (meaning, needs_a_person) in NOTIFICATIONS.items()
    ]


async def _removals_held(session: aiohttp.ClientSession, prometheus_url: HttpUrl) -> Backlog:
    count, detail = None, ""
    try:
        found = await Prometheus(session, prometheus_url).query(f"max({HELD})")
    except PrometheusUnavailableError as error:
        detail = f"Prometheus: {reason_of(error)}"
    else:
        count = int(found[0].value[1]) if found else None
        detail = "" if found else "Prometheus has no pass of the reconciler"
    meaning = "removals held, as many objects are missing: run docreco reconcile"
    return Backlog(HELD, count, meaning, needs_a_person=True, detail=detail)


def _read(text: str) -> dict[str, int]:
    """Sum each metric over its targets."""
    counts: dict[str, int] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removesuffix("_total")  # which the parser adds to counters
            if name in NOTIFICATIONS:
                counts[name] = counts.get(name, 0) + int(sample.value)
    return counts
