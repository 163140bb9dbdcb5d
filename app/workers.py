"""Several processes on one port, watched by a parent that replaces those that die."""

from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app.settings import OcrSettings, share_metrics

log = structlog.stdlib.get_logger(__name__)

HANGING_SECONDS = 60
"""A process that leaves its parent without answer so long is replaced; imports may take a while."""


class Workers(Multiprocess):
    """uvicorn's supervisor, which also forgets the gauges of processes that died."""

    @override
    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            log.warning("worker died and was replaced", pid=pid)
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def serve_with_workers(settings: OcrSettings, *, app: str) -> int:
    """Serve until SIGTERM or SIGINT, each process draining; return the exit status.

    Args:
        settings: Port and number of processes.
        app: Import string of a function that builds the application, in each process.
    """
    config = uvicorn.Config(
        app,
        factory=True,
        workers=settings.workers,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
        timeout_worker_healthcheck=HANGING_SECONDS,
    )
    with TemporaryDirectory(prefix="ocr-metrics-") as folder, config.bind_socket() as socket:
        share_metrics(Path(folder))
        workers = Workers(config, [socket])
        workers.run()
    has_failed = any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes)
    return STARTUP_FAILURE if has_failed else 0
