"""Wire and start the OCR API."""

import asyncio
import signal
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, PlatformCollector
from prometheus_client.multiprocess import MultiProcessCollector

from app.collect import LONGEST_DRAIN_SECONDS, Collector
from app.engines.loading import load_engine, load_fallback, wanted_model
from app.metrics import CollectMetrics, OcrMetrics
from app.predictor import Predictor
from app.processes import ProcessesCollector, return_freed_memory, silence_libtiff
from app.queueing import WorkQueue
from app.routes import create_app
from app.service import OcrService
from app.settings import OcrSettings
from app.workers import serve_with_workers
from services.common.download.settings import DownloadSettings
from services.common.runtime.logs import configure_logging
from services.common.runtime.server import http_server, serve_until, stop_on_signals
from services.common.runtime.settings import LogSettings, S3Settings


@dataclass(frozen=True)
class Configuration:
    """Settings of this service, except its engine's."""

    ocr: OcrSettings
    downloads: DownloadSettings
    s3: S3Settings | None
    """None if no image is collected: no password of the bucket is needed then."""


def configure() -> Configuration:
    """Read all settings.

    Raises:
        pydantic.ValidationError: A setting is invalid.
    """
    settings = OcrSettings()
    return Configuration(settings, DownloadSettings(), S3Settings() if settings.collect else None)


def build(config: Configuration, registry: CollectorRegistry) -> tuple[OcrService, OcrMetrics]:
    """Wire the service without starting it."""
    settings = config.ocr
    metrics = OcrMetrics(registry, low_score_threshold=settings.low_score_threshold)
    queue = WorkQueue(
        threads=settings.threads,
        max_waiting=settings.max_waiting,
        max_wait_seconds=settings.max_wait_seconds,
    )
    predictor = Predictor(
        partial(load_engine, settings.engine, threads=settings.threads),
        partial(wanted_model, settings.engine),
        queue,
        metrics,
        threads=settings.threads,
        max_image_pixels=settings.max_image_pixels,
        fall_back=partial(load_fallback, settings.engine, threads=settings.threads),
    )
    service = OcrService(
        predictor,
        metrics,
        downloads=config.downloads,
        max_image_bytes=settings.max_image_bytes,
        collector=_build_collector(settings, config.s3, registry) if config.s3 else None,
    )
    return service, metrics


def _build_collector(
    settings: OcrSettings, s3: S3Settings, registry: CollectorRegistry
) -> Collector:
    # A tenth of the start-up time and 11 MB, only needed to collect
    from services.common.adapters.object_store import open_object_store  # noqa: PLC0415

    return Collector(
        partial(open_object_store, s3),
        CollectMetrics(registry),
        rate=settings.collect_rate,
        max_bytes=settings.collect_buffer_bytes,
        max_images=settings.collect_buffer_images,
        drain_seconds=min(settings.drain_seconds, LONGEST_DRAIN_SECONDS),
    )


def worker() -> FastAPI:
    """Build the application of one worker process; each shows the metrics of all."""
    _prepare_process()
    config, shown = configure(), CollectorRegistry()
    MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
    PlatformCollector(shown)
    service, metrics = build(config, CollectorRegistry())
    if (parent := parent_process()) is not None:
        assert parent.pid is not None  # noqa: S101  it runs
        shown.register(ProcessesCollector(parent.pid))
        _stop_with(parent)
    return create_app(config.ocr, service, metrics, shown, wait_for_model=True)


async def run(config: Configuration) -> None:
    """Serve until SIGTERM or SIGINT; ``/readyz`` is 200 once the model is loaded."""
    stop = stop_on_signals()
    settings = config.ocr
    service, metrics = build(config, REGISTRY)
    app = create_app(settings, service, metrics, REGISTRY)
    server = http_server(
        app, host=settings.host, port=settings.port, drain_seconds=settings.drain_seconds
    )
    await serve_until(stop, server)


def main() -> int:
    """Run the command line; return its exit status."""
    _prepare_process()
    config = configure()  # also if only the workers need it: refuse to start on an invalid setting
    if config.ocr.workers > 1:
        return serve_with_workers(config.ocr, app="app.main:worker")
    asyncio.run(run(config))
    return 0


def _prepare_process() -> None:
    return_freed_memory()
    silence_libtiff()
    # Pillow warns of corrupt images; the response says what is wrong
    warnings.filterwarnings("ignore", module=r"PIL\.")
    configure_logging(LogSettings(), service="ocr-api")


def _stop_with(parent: BaseProcess) -> None:
    """Send this process SIGTERM when its parent is gone, so that the port is freed."""
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def stop() -> None:
        loop.remove_reader(sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(sentinel, stop)


if __name__ == "__main__":
    sys.exit(main())
