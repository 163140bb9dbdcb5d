"""``docreco repredict``: have images read again, behind the fresh ones."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated

import typer

from services.cli.broker import told_of_servers
from services.cli.errors import ExitStatus
from services.cli.images import Status
from services.cli.output import Output, run
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Document, open_index
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.settlement import REPREDICT_QUEUES
from services.common.domain.jobs import RepredictJob, job_for
from services.common.runtime.settings import AmqpSettings, MongoSettings

PAGE = 500


def repredict(
    *,
    model_version_not: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Only what this version has not read."),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Only these; without it what was predicted or rejected.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000_000_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only, queue nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Have images read again while no fresh one waits; the earlier prediction is kept."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        if status is Status.REMOVED:
            raise typer.BadParameter("what is removed can't be read again", param_hint="--status")
        where = selection(model_version_not, status)
        with told_of_servers():
            async with open_index(MongoSettings()) as index:
                images = ImageRepository(index.images)
                if dry_run:
                    count = min(limit, await images.count(where))
                else:
                    async with open_publisher(AmqpSettings()) as publisher:
                        count = await queue_all(
                            images, publisher, where, limit, REPREDICT_QUEUES.work
                        )
        words = f"{count} would be read again" if dry_run else f"{count} queued to be read again"
        output.answer({"dry_run": dry_run, "images": count}, words)
        return ExitStatus.OK

    run(output, work)


def selection(model_version_not: str | None, status: Status | None) -> Document:
    """Return which documents are meant; none without bytes that were read."""
    statuses = [Status.PREDICTED.value, Status.REJECTED.value] if status is None else [status.value]
    where: Document = {"status": {"$in": statuses}, "etag": {"$type": "string"}}
    if model_version_not is not None:
        where["prediction.model_version"] = {"$ne": model_version_not}
    return where


async def queue_all(
    images: ImageRepository, publisher: Publisher, where: Document, limit: int, queue: str
) -> int:
    """Queue a job for each document that is meant; return how many.

    Raises:
        UnavailableError: A server is missing; what was queued until then is queued.
    """
    count = 0
    async for jobs in _pages(images, where, limit):
        await asyncio.gather(*(publisher.publish(job.body(), queue=queue) for job in jobs))
        count += len(jobs)
    return count


async def _pages(
    images: ImageRepository, where: Document, limit: int
) -> AsyncGenerator[list[RepredictJob], None]:
    """Yield jobs by pages in the order of ``_id``: a long cursor would die of waiting."""
    fields = {"key": 1, "etag": 1, "prediction.predicted_at": 1}
    last, left = "", limit
    while left > 0:
        page = [
            job_for(document)
            async for document in images.find(
                {**where, "_id": {"$gt": last}},
                sort=[("_id", 1)],
                limit=min(PAGE, left),
                fields=fields,
            )
        ]
        if not page:
            return
        yield page
        last, left = page[-1].document_id, left - len(page)
