"""Ask every source of the overview for its figures, at most every few seconds.

A source that does not answer leaves its figures unknown, which is never shown as 0
(docs/decisions/0042-overview-without-new-rights.md).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from services.common.adapters.fetcher_api import FetcherClient
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection
from services.common.adapters.prometheus import Alert, Prometheus, Series
from services.common.adapters.rabbitmq.messaging import (
    connect,
    depth_of,
    open_channel,
    translate_broker_errors,
)
from services.common.domain.double_reading import DoubleState
from services.common.domain.errors import PipelineError
from services.common.domain.fetcher_answers import BatchPage, HostStatus
from services.common.domain.image_filter import ImageFilter
from services.common.domain.records import Quality
from services.common.runtime.settings import AmqpSettings
from services.review.refreshed_answer import RefreshedAnswer

T = TypeVar("T")

TIMEOUT_SECONDS = 5.0
COUNT_SECONDS = 120.0
"""Timeout of the count of images, of which there may be very many."""
SHOWN_LISTS = 100
SHOWN_HOSTS = 100
UNDECIDED = ImageFilter(double=(DoubleState.DIFFERENT,))
JOBS = ("ocr-api", "fetcher", "consumer", "reconciler", "segmenter", "review", "minio", "rabbitmq")
"""Jobs of Prometheus that are always there."""
THRESHOLD = "ocr:prediction_score:critical_threshold"
READ_RATE = "ocr:predictions:per_minute"
EXPRESSION = (
    f'{{__name__=~"up|{THRESHOLD}|{READ_RATE}"}} or sum by (queue) (rabbitmq_queue_messages) '
    "or ocr_model_info == 1 or sum by (outcome) (consumer_shadow_readings_total) "
    'or label_replace(60 * sum(rate(fetcher_items_total[1m])), "rate", "fetched", "", "")'
)


@dataclass(frozen=True)
class ImageCounts:
    """Number of images by what became of them."""

    read: int
    rejected: int
    annotated: int
    """Of those that were read."""
    with_text: int
    """Annotated with a text: neither unreadable nor not a line."""
    to_decide: int
    """Read differently by two people."""


@dataclass(frozen=True)
class Monitoring:
    """Figures of Prometheus."""

    down: Sequence[str] = ()
    """Services and servers that do not answer it."""
    queues: Mapping[str, int] = field(default_factory=dict)
    """Messages of each queue."""
    read_per_minute: float | None = None
    fetched_per_minute: float | None = None
    threshold: float | None = None
    """Critical threshold of the mean score."""
    served: Sequence[str] = ()
    """Versions of the models that OCR APIs have loaded."""
    shadow: Mapping[str, int] = field(default_factory=dict)
    """Shadow readings by outcome, since the consumers' start."""
    alerts: Sequence[Alert] = ()
    """The firing ones."""


@dataclass(frozen=True)
class Snapshot:
    """Everything at one time; None where the source does not answer."""

    at: datetime
    images: ImageCounts | None = None
    pages: int | None = None
    lists: BatchPage | None = None
    """The newest ones."""
    hosts: Sequence[HostStatus] | None = None
    """Paused ones."""
    parked: Mapping[str, int] | None = None
    """Messages of the parking queues that this service may see."""
    monitoring: Monitoring | None = None
    away: Mapping[str, str] = field(default_factory=dict)
    """Reason of each source that does not answer, by its name."""

    @property
    def batch_names(self) -> dict[str, str]:
        """Names of the newest batches by id."""
        lists = self.lists.batches if self.lists else []
        return {each.batch_id: each.name for each in lists if each.name}


@dataclass(frozen=True)
class OverviewSources:
    """Sources of the figures."""

    images: ImageRepository
    pages: Collection
    fetcher: FetcherClient
    amqp: AmqpSettings
    parked: Mapping[str, str]
    """Parking queues of this service by their usual name."""
    store: Callable[[], Awaitable[None]]
    """Check of the object store."""
    prometheus: Prometheus | None


class Overview:
    """The figures of the overview."""

    def __init__(self, sources: OverviewSources) -> None:
        self._state = RefreshedAnswer(partial(ask_servers, sources))
        self._images = RefreshedAnswer(partial(count_images, sources.images))

    async def latest(self) -> Snapshot | None:
        """Return the figures; None if the first ones take long."""
        state, counted = await asyncio.gather(self._state.latest(), self._images.latest())
        if state is None:
            return None
        if isinstance(counted, str):
            return replace(state, away={"MongoDB": counted, **state.away})
        return replace(state, images=counted)

    def batch_names(self) -> dict[str, str]:
        """Return the names of the newest batches by the last answer, without waiting."""
        state = self._state.ask()
        return state.batch_names if state else {}

    async def close(self) -> None:
        """Stop asking."""
        await self._state.aclose()
        await self._images.aclose()


@asynccontextmanager
async def open_overview(sources: OverviewSources) -> AsyncIterator[Overview]:
    """Make an overview for an ``async with`` block."""
    overview = Overview(sources)
    overview.batch_names()
    try:
        yield overview
    finally:
        await overview.close()


async def ask_servers(sources: OverviewSources) -> Snapshot:
    """Ask everything but the number of images, all at once."""
    away: dict[str, str] = {}

    async def ask(name: str, answer: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await answer
        except PipelineError as error:
            away[name] = str(error)
        except TimeoutError:
            away[name] = f"no answer within {TIMEOUT_SECONDS:g} s"
        return None

    async with asyncio.TaskGroup() as tasks:
        pages = tasks.create_task(ask("MongoDB", sources.pages.size()))
        lists = tasks.create_task(ask("The fetcher", sources.fetcher.batches(limit=SHOWN_LISTS)))
        hosts = tasks.create_task(ask("The fetcher", sources.fetcher.hosts(limit=SHOWN_HOSTS)))
        parked = tasks.create_task(ask("RabbitMQ", _parked(sources.amqp, sources.parked)))
        tasks.create_task(ask("MinIO", sources.store()))
        monitoring = tasks.create_task(ask("Prometheus", _monitoring(sources.prometheus)))
    return Snapshot(
        at=datetime.now(tz=UTC),
        pages=pages.result(),
        lists=lists.result(),
        hosts=hosts.result(),
        parked=parked.result(),
        monitoring=monitoring.result(),
        away=away,
    )


async def count_images(images: ImageRepository) -> ImageCounts | str:
    """Count images by what became of them; return the reason if MongoDB does not answer."""
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            counts = await images.count_states()
            to_decide = await images.count(UNDECIDED)
    except PipelineError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {COUNT_SECONDS:g} s"
    read = {quality: count for (status, quality), count in counts.items() if status == "predicted"}
    return ImageCounts(
        read=sum(read.values()),
        rejected=counts.total() - sum(read.values()),
        annotated=sum(count for quality, count in read.items() if quality),
        with_text=read.get(Quality.OK, 0),
        to_decide=to_decide,
    )


async def _parked(amqp: AmqpSettings, queues: Mapping[str, str]) -> dict[str, int]:
    async with connect(amqp) as connection:
        channel = await open_channel(connection, confirms=False)
        with translate_broker_errors():
            return {name: await depth_of(channel, queue) for name, queue in queues.items()}


async def _monitoring(prometheus: Prometheus | None) -> Monitoring | None:
    if prometheus is None:
        return None
    return to_monitoring(*await asyncio.gather(prometheus.query(EXPRESSION), prometheus.alerts()))


def to_monitoring(found: Sequence[Series], alerts: Sequence[Alert]) -> Monitoring:
    """Read the answers of Prometheus."""
    named: dict[str, float] = {}
    queues: dict[str, int] = {}
    shadow: dict[str, int] = {}
    served: set[str] = set()
    down, missing = [], set(JOBS)
    for labels, value in ((each.metric, each.value[1]) for each in found):
        if labels.get("__name__") == "up":
            missing.discard(labels["job"])
            down += [] if value else [f"{labels['job']} at {labels['instance']}"]
        elif "queue" in labels:
            queues[labels["queue"]] = int(value)
        elif "outcome" in labels:
            shadow[labels["outcome"]] = int(value)
        elif "model_version" in labels:
            served.add(labels["model_version"])
        else:
            named[labels.get("__name__") or labels["rate"]] = value
    return Monitoring(
        down=sorted([*down, *missing]),
        queues=queues,
        read_per_minute=named.get(READ_RATE),
        fetched_per_minute=named.get("fetched"),
        threshold=named.get(THRESHOLD),
        served=tuple(sorted(served)),
        shadow=shadow,
        alerts=[each for each in alerts if each.state == "firing"],
    )
