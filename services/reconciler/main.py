"""Start the reconciler: a pass now, and one every interval."""

import asyncio
import time
from contextlib import suppress

import structlog
from fastapi import FastAPI

from services.common.errors import UnavailableError
from services.common.health import health_router
from services.common.index import open_index
from services.common.logs import configure_logging
from services.common.messaging import check_broker
from services.common.object_store import open_object_store
from services.common.server import http_server, serve_until, stop_on_signals
from services.common.settings import AmqpSettings, LogSettings, MongoSettings, S3Settings
from services.common.settlement import OCR_QUEUES
from services.reconciler.compare import TO_QUEUE, State
from services.reconciler.metrics import (
    INTERVAL_SECONDS,
    LAST_SUCCESS,
    OBJECTS,
    PASS_SECONDS,
    PASSES,
    QUEUED,
)
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import Report, make_pass

log = structlog.stdlib.get_logger(__name__)

RETRY_SECONDS = 60.0
"""From a pass that failed to the next."""


async def run(settings: ReconcilerSettings) -> None:
    """Make passes until SIGTERM or SIGINT; one under way is given up, as the next repeats it."""
    stop = stop_on_signals()
    amqp = AmqpSettings()
    INTERVAL_SECONDS.set(settings.interval_seconds)
    async with open_object_store(S3Settings()) as store, open_index(MongoSettings()) as index:

        async def one_pass() -> bool:
            try:
                report = await make_pass(
                    settings, store=store, images=index.images, amqp=amqp, queues=OCR_QUEUES
                )
            except UnavailableError as error:
                log.warning("pass failed", code=error.code, error=str(error))
                PASSES.labels(outcome="failed").inc()
                return False
            _publish(report)
            return True

        app = FastAPI(title="DocReco reconciler", openapi_url=None)

        async def rabbitmq() -> None:
            await check_broker(amqp)

        checks = {"minio": store.check, "mongodb": index.check, "rabbitmq": rabbitmq}
        app.include_router(health_router(ready=checks))
        async with asyncio.TaskGroup() as tasks:
            server = http_server(app, host=settings.host, port=settings.port)
            tasks.create_task(serve_until(stop, server))
            while not stop.is_set():
                work = tasks.create_task(one_pass())
                await _first_of(work, stop)
                pause = settings.interval_seconds
                if work.done() and not work.result():
                    pause = min(pause, RETRY_SECONDS)
                work.cancel()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)


async def _first_of(work: asyncio.Task[bool], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()


def _publish(report: Report) -> None:
    found = {state.value: report.found[state] for state in State}
    log.info("pass finished", queued=report.queued, seconds=round(report.seconds, 3), **found)
    for state in State:
        OBJECTS.labels(state=state).set(report.found[state])
    for state in TO_QUEUE:
        QUEUED.labels(state=state).inc(report.found[state])
    PASSES.labels(outcome="done").inc()
    PASS_SECONDS.set(report.seconds)
    LAST_SUCCESS.set(time.time())


if __name__ == "__main__":
    configure_logging(LogSettings(), service="reconciler")
    asyncio.run(run(ReconcilerSettings()))
