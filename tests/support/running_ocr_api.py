"""The OCR API in the test's own process, behind a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientResponse, ClientSession, FormData
from prometheus_client import CollectorRegistry

from app.engines.base import Engine, Reading
from app.images import Pixels
from app.metrics import OcrMetrics
from app.predictor import Predictor
from app.routes import create_app
from app.settings import OcrSettings
from services.common.server import http_server, serve_until
from tests.support.waiting import eventually


@dataclass
class FakeEngine:
    """Reads always the same, when it is allowed to."""

    reading: Reading = field(default_factory=lambda: Reading("read", 0.9))
    gate: threading.Event = field(default_factory=threading.Event)
    calls: int = 0
    name: str = "fake"
    model_version: str = "1"

    def read(self, pixels: Pixels) -> Reading:
        """Wait for ``gate`` (the warm-up does not) and return ``reading``."""
        self.calls += 1
        if self.calls > 1 and not self.gate.wait(timeout=30):
            raise TimeoutError(f"nobody let this image of {pixels.shape} pass")
        return self.reading


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
async def running_api(load: Callable[[], Engine], **settings: Any) -> AsyncIterator[Api]:
    """Serve the API with an engine on a free port; the model may still be loading."""
    limits = OcrSettings(port=0, **settings)
    registry = CollectorRegistry()
    metrics = OcrMetrics(registry, low_score_threshold=limits.low_score_threshold)
    stop = asyncio.Event()
    with Predictor(
        load,
        metrics,
        threads=limits.threads,
        max_waiting=limits.max_waiting,
        max_image_pixels=limits.max_image_pixels,
    ) as predictor:
        app = create_app(limits, predictor, metrics, registry)
        server = http_server(app, host=limits.host, port=limits.port, drain_seconds=5)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(predictor.load())
            tasks.create_task(serve_until(stop, server))
            await until(lambda: server.started)
            host, port = server.servers[0].sockets[0].getsockname()
            try:
                async with ClientSession(f"http://{host}:{port}") as session:
                    yield Api(session, registry, predictor)
            finally:
                stop.set()


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It does not within ``seconds``.
    """

    async def answer() -> bool:
        return condition()

    await eventually(answer, seconds=seconds)
