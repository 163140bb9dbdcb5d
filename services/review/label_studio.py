"""Label Studio's webhooks, which only name the task to pull.

Label Studio waits a second for the response, and does not retry. So an event is queued and answered
at once, and the task is pulled afterwards; lost events are covered by
``docreco label-studio pull``.
"""

import asyncio
from collections import Counter

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from services.common.adapters.mongo import Database
from services.common.domain.errors import PipelineError, UnavailableError
from services.common.runtime.access import require_bearer
from services.common.runtime.periodic import DependencyGate
from services.label_studio.client import LabelStudio
from services.label_studio.errors import LabelStudioUnavailableError
from services.label_studio.pull import Pull, PullReport
from services.review.guard import WEBHOOK_PATH
from services.review.metrics import LABEL_STUDIO_TASKS

log = structlog.stdlib.get_logger(__name__)

MAX_WAITING = 100
"""Limit of queued tasks; beyond it all changes are pulled together."""
MAX_TRIES = 10
"""Attempts to read a task that Label Studio can't return."""

MAX_LOGGED = 20
"""Limit of logged messages per pull."""


class Inbox:
    """Set of tasks to pull."""

    def __init__(self, studio: LabelStudio, database: Database, title: str) -> None:
        self._studio = studio
        self._database = database
        self._title = title
        self._waiting: dict[int | None, None] = {}
        self._failures: Counter[int | None] = Counter()
        self._arrived = asyncio.Event()
        self._gate = DependencyGate({"mongodb": database.check})

    def note(self, task: int | None) -> None:
        """Queue a task, or all changes."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            task = None
        self._waiting[task] = None
        self._arrived.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Pull queued tasks until ``stop`` is set."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read_all(stop))
            await stop.wait()
            reading.cancel()

    async def _read_all(self, stop: asyncio.Event) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._read_next(stop)

    async def _read_next(self, stop: asyncio.Event) -> None:
        task = next(iter(self._waiting))
        del self._waiting[task]
        try:
            report = await self._read(task)
        except UnavailableError as error:
            self._waiting[task] = None
            await self._gate.wait_until_healthy(error, stop)
        except PipelineError as error:
            log.warning("task pull failed", task=task, code=error.code, error=str(error))
        except Exception:
            log.exception("task pull failed", task=task)
        else:
            self._gate.reset()
            log.info("task pulled", task=task, outcomes=dict(report.counts))
            _log_report(report)

    async def _read(self, task: int | None) -> PullReport:
        project = await self._studio.find_project(self._title)
        if project is None:
            return PullReport()
        pull = Pull(self._studio, self._database, project.id, is_told=False)
        try:
            report = await (pull.changed() if task is None else pull.task(task))
        except LabelStudioUnavailableError as error:
            self._failures[task] += 1
            if self._failures[task] < MAX_TRIES:
                raise
            log.warning("task given up", task=task, code=error.code, error=str(error))
            report = PullReport()
        del self._failures[task]
        return report


def _log_report(report: PullReport) -> None:
    for outcome, count in report.counts.items():
        LABEL_STUDIO_TASKS.labels(outcome=outcome).inc(count)
    for each in report.remarks[:MAX_LOGGED]:
        fields = {"outcome": each.outcome, "image": each.image, "detail": each.detail}
        log.warning("annotation not written", task=each.task, **fields)


class _Named(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: int = Field(ge=1)


class Event(BaseModel):
    """Webhook event; those of deleted annotations do not name the task."""

    model_config = ConfigDict(extra="ignore")

    action: str
    task: _Named | None = None


def webhook_router(inbox: Inbox, secret: SecretStr) -> APIRouter:
    """Build the route, which is authenticated by a secret."""
    knows_secret = Depends(require_bearer(secret, setting="LABEL_STUDIO_WEBHOOK_SECRET"))
    router = APIRouter()

    @router.post(WEBHOOK_PATH, status_code=202, dependencies=[knows_secret])
    async def receive(request: Request) -> None:
        event = Event.model_validate_json(await request.body())
        if event.action.startswith("ANNOTATION"):
            inbox.note(event.task.id if event.task else None)

    return router
