"""Start the OCR API: the one place where it is wired together."""

import asyncio
import warnings
from functools import partial

from prometheus_client import REGISTRY

from app.engines.loading import load_engine
from app.metrics import OcrMetrics
from app.predictor import Predictor
from app.routes import create_app
from app.settings import OcrSettings
from services.common.logs import configure_logging
from services.common.server import http_server, serve_until, stop_on_signals
from services.common.settings import LogSettings


async def run(settings: OcrSettings) -> None:
    """Serve until SIGTERM or SIGINT; the model loads meanwhile, and ``/readyz`` tells when."""
    stop = stop_on_signals()
    metrics = OcrMetrics(REGISTRY, low_score_threshold=settings.low_score_threshold)
    with Predictor(
        partial(load_engine, settings.engine),
        metrics,
        threads=settings.threads,
        max_waiting=settings.max_waiting,
        max_image_pixels=settings.max_image_pixels,
    ) as predictor:
        app = create_app(settings, predictor, metrics, REGISTRY)
        server = http_server(
            app, host=settings.host, port=settings.port, drain_seconds=settings.drain_seconds
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(predictor.load())
            tasks.create_task(serve_until(stop, server))


if __name__ == "__main__":
    # Damaged images make Pillow warn; the answer to their sender says what is wrong
    warnings.filterwarnings("ignore", module=r"PIL\.")
    configure_logging(LogSettings(), service="ocr-api")
    asyncio.run(run(OcrSettings()))
