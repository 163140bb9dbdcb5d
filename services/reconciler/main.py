"""Run the reconciler: passes, counts of annotated images, and early events of people's uploads."""

import asyncio
import time
from collections.abc import Mapping
from functools import partial

import structlog
from fastapi import FastAPI

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Database, open_database
from services.common.adapters.object_store import ObjectStore, open_object_store
from services.common.adapters.rabbitmq.messaging import check_broker
from services.common.domain.errors import UnavailableError
from services.common.runtime.health import health_router, running
from services.common.runtime.logs import configure_logging
from services.common.runtime.periodic import periodic
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.reconciler.annotated import count_and_publish
from services.reconciler.compare import TO_QUEUE, BucketPart, State
from services.reconciler.metrics import (
    INTERVAL_SECONDS,
    LAST_SUCCESS,
    MISSING_PASSES,
    OBJECTS,
    PASS_SECONDS,
    PASSES,
    QUEUED,
    REMOVALS_HELD,
)
from services.reconciler.passes import compare_buckets
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.uploads import queue_uploads
from services.reconciler.walk import PassReport

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 60.0
"""Pause after a failed pass or count, or a lost stream of events."""


async def run(settings: ReconcilerSettings) -> None:
    """Run passes until SIGTERM or SIGINT; a running pass is cancelled, as the next repeats it."""
    stop = stop_on_signals()
    amqp, s3 = AmqpSettings(), S3Settings()
    INTERVAL_SECONDS.set(settings.interval_seconds)

    async def rabbitmq() -> None:
        await check_broker(amqp)

    async with (
        open_object_store(s3) as store,
        open_database(MongoSettings()) as database,
        asyncio.TaskGroup() as tasks,
    ):
        repeat = partial(periodic, stop=stop, retry_seconds=RETRY_SECONDS)
        passes = Passes(settings, store, database, amqp)
        comparing = tasks.create_task(repeat(passes.next, seconds=settings.interval_seconds))
        one_count = partial(count_and_publish, ImageRepository(database.images), store.bucket)
        counting = tasks.create_task(repeat(one_count, seconds=settings.annotated_interval_seconds))
        is_beside = s3.endpoint_url.scheme == "http"  # an outside store's connections are encrypted
        one_stream = partial(queue_uploads, s3, amqp) if is_beside else stop.wait
        listening = tasks.create_task(repeat(one_stream, seconds=RETRY_SECONDS))
        app = FastAPI(title="DocReco reconciler", openapi_url=None)
        app.include_router(
            health_router(
                ready={"minio": store.check, "mongodb": database.check, "rabbitmq": rabbitmq},
                alive={
                    "comparing": running(comparing),
                    "counting": running(counting),
                    "listening": running(listening),
                },
            )
        )
        server = http_server(app, host=settings.host, port=settings.port)
        tasks.create_task(serve_until(stop, server))
        await stop.wait()
        for each in (comparing, counting, listening):
            each.cancel()


class Passes:
    """Runs passes over the parts of the buckets by turns, and publishes what they found."""

    def __init__(
        self,
        settings: ReconcilerSettings,
        store: ObjectStore,
        database: Database,
        amqp: AmqpSettings,
    ) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._amqp = amqp
        self._reports: dict[int, PassReport] = {}
        self._failed: set[int] = set()
        """Parts whose last pass met an unexpected error."""
        # A restart does not start from the beginning
        self._next = int(time.time() / settings.interval_seconds)

    async def next(self) -> bool:
        """Run the next pass; return False if a server is missing."""
        part = BucketPart(self._next % self._settings.parts, self._settings.parts)
        try:
            self._reports[part.number] = await compare_buckets(
                self._settings,
                store=self._store,
                pages_bucket=S3Settings().pages_bucket,
                database=self._database,
                amqp=self._amqp,
                part=part,
            )
        except UnavailableError as error:
            log.warning("pass failed", code=error.code, error=str(error))
            PASSES.labels(outcome="failed").inc()
            return False
        except Exception:
            # A foreign document must end neither the other parts nor the counts and uploads
            log.exception("pass failed", part=part.number)
            PASSES.labels(outcome="failed").inc()
            self._failed.add(part.number)
            self._next += 1
            return True
        self._failed.discard(part.number)
        publish(self._reports, last=part.number)
        if not self._failed:  # else the alert on its age would never fire
            LAST_SUCCESS.set(time.time())
        self._next += 1
        return True


def publish(reports: Mapping[int, PassReport], *, last: int) -> None:
    """Set the metrics: what the newest passes of all parts found together.

    Args:
        reports: By part.
        last: The part that was compared last.
    """
    report, known = reports[last], sum(reports.values(), PassReport())
    found = {state.value: report.found[state] for state in State}
    log.info(
        "pass finished",
        queued=report.queued,
        held=report.held,
        seconds=round(report.seconds, 3),
        **found,
    )
    for state in State:
        OBJECTS.labels(state=state).set(known.found[state])
    for state in TO_QUEUE:
        QUEUED.labels(state=state).inc(report.queued_by_state[state])
    if report.found[State.MISSING]:
        MISSING_PASSES.inc()
    else:
        MISSING_PASSES.set(0)
    REMOVALS_HELD.set(known.held)
    PASSES.labels(outcome="done").inc()
    PASS_SECONDS.set(report.seconds)


if __name__ == "__main__":
    configure_logging(LogSettings(), service="reconciler")
    asyncio.run(run(ReconcilerSettings()))
