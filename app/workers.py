"""Several worker processes on one port, and a supervisor that replaces dead ones.

See docs/decisions/0022-ocr-api-workers.md.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from app.settings import OcrSettings, share_metrics

log = structlog.stdlib.get_logger(__name__)


class Workers(Multiprocess):
    """uvicorn's supervisor, which detects dead workers by their process status.

    uvicorn's own check is a ping over a pipe: a death during a ping shows only after its timeout,
    and a worker that is still importing a model's libraries is killed.
    """

    @override
    def keep_subprocess_alive(self) -> None:
        for index, worker in enumerate(self.processes):
            if worker.process.is_alive():
                continue
            worker.join()
            if worker.exitcode == STARTUP_FAILURE:  # a replacement would fail, too
                self.should_exit.set()
                return
            log.warning("worker died, replacing it", pid=worker.pid, exit_status=worker.exitcode)
            mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()


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
    )
    with TemporaryDirectory(prefix="ocr-metrics-") as folder, config.bind_socket() as socket:
        share_metrics(Path(folder))
        workers = Workers(config, [socket])
        workers.run()
    has_failed = any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes)
    return STARTUP_FAILURE if has_failed else 0
