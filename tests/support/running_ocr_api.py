"""The OCR API in the test's own process, behind a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import ClientResponse, ClientSession, FormData
from prometheus_client import CollectorRegistry

from app.collect import Collector, OpenStore
from app.engines.base import Engine, EngineReading
from app.images import Pixels
from app.metrics import CollectMetrics, OcrMetrics
from app.predictor import Predictor
from app.queueing import WorkQueue
from app.routes import create_app
from app.service import OcrService
from app.settings import OcrSettings
from services.common.adapters.object_store import open_object_store
from services.common.download.settings import DownloadSettings
from services.common.runtime.server import http_server, serve_until
from services.common.runtime.settings import S3Settings
from tests.support.waiting import DEADLINE_SECONDS, eventually, until


@dataclass
class FakeEngine:
    """Reads always the same; a held one only once its gate is set."""

    reading: EngineReading = field(default_factory=lambda: EngineReading("read", 0.9))
    is_held: bool = False
    gate: threading.Event = field(default_factory=threading.Event)
    calls: int = 0
    name: str = "fake"
    model_version: str = "1"

    best_batch: int = 1
    least_width: int = 1
    batches: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.is_held:
            self.gate.set()

    def read(self, pixels: Pixels) -> EngineReading:
        """Wait for ``gate`` (the warm-up, of blank images, does not) and return ``reading``."""
        if pixels.min() == 255:
            return self.reading
        return self.read_many([pixels])[0]

    def read_many(self, images: Sequence[Pixels]) -> list[EngineReading]:
        """Wait for ``gate`` and return ``reading`` for each; remember how wide they were."""
        self.calls += 1
        self.batches.append([pixels.shape[1] for pixels in images])
        if not self.gate.wait(DEADLINE_SECONDS):
            raise TimeoutError("these images were not released")
        return [self.reading for _ in images]


@dataclass
class Api:
    """A running API.

    Args:
        session: Its base is the API's address.
        registry: What its metrics are registered in.
    """

    session: ClientSession
    registry: CollectorRegistry
    predictor: Predictor
    queue: WorkQueue

    async def is_ready(self) -> bool:
        """Return whether the model is loaded."""
        async with self.session.get("/readyz") as response:
            return response.status == 200

    async def predict(self, content: bytes) -> tuple[int, dict[str, Any]]:
        """Send an image; return the status and the JSON body."""
        async with self.post(content) as response:
            return response.status, await response.json(content_type=None)

    @asynccontextmanager
    async def post(self, content: bytes, *, field: str = "file") -> AsyncIterator[ClientResponse]:
        """Send an image in a form field."""
        form = FormData()
        form.add_field(field, content, filename="image", content_type="application/octet-stream")
        async with self.session.post("/predict", data=form) as response:
            yield response

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of one series."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no series {name} {labels}"
        return value


@asynccontextmanager
async def running_api(
    load: Callable[[], Engine],
    *,
    downloads: DownloadSettings | None = None,
    open_store: OpenStore | None = None,
    wanted: Callable[[], str] = str,
    is_ready: bool = True,
    **settings: Any,
) -> AsyncIterator[Api]:
    """Serve the API with an engine on a free port.

    Args:
        load: Loads the engine.
        downloads: What requests with a URL may reach.
        open_store: Where the images of requests are written, if at all.
        wanted: Says which model is to be served.
        is_ready: Wait until the model is loaded.
        settings: Of the API; no image is refused for a long wait where they do not say so.
    """
    limits = OcrSettings(port=0, **{"max_wait_seconds": 600.0} | settings)
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=limits.low_score_threshold)
    stop = asyncio.Event()
    queue = WorkQueue(
        threads=limits.threads,
        max_waiting=limits.max_waiting,
        max_wait_seconds=limits.max_wait_seconds,
    )
    predictor = Predictor(
        load,
        wanted,
        queue,
        metrics,
        threads=limits.threads,
        max_image_pixels=limits.max_image_pixels,
    )
    service = OcrService(
        predictor,
        metrics,
        downloads=downloads or DownloadSettings(),
        max_image_bytes=limits.max_image_bytes,
        collector=_collector(limits, registry, open_store) if open_store else None,
    )
    app = create_app(limits, service, metrics, registry)
    server = http_server(app, host=limits.host, port=limits.port, drain_seconds=5)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_until(stop, server))
        await until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()
        try:
            async with ClientSession(f"http://{host}:{port}") as session:
                api = Api(session, registry, predictor, queue)
                if is_ready:
                    await eventually(api.is_ready)
                yield api
        finally:
            stop.set()


def _collector(
    limits: OcrSettings, registry: CollectorRegistry, open_store: OpenStore
) -> Collector:
    return Collector(
        open_store,
        CollectMetrics(registry),
        rate=limits.collect_rate,
        max_bytes=limits.collect_buffer_bytes,
        max_images=limits.collect_buffer_images,
        drain_seconds=limits.drain_seconds,
    )


def collecting_api(s3: S3Settings, **settings: Any) -> AbstractAsyncContextManager[Api]:
    """Serve the API, which writes the images of requests to the bucket."""
    return running_api(FakeEngine, open_store=partial(open_object_store, s3), **settings)


async def collected(api: Api, count: int) -> None:
    """Wait until so many images are in the bucket."""
    await until(lambda: api.metric("ocr_collected_total") == count)
