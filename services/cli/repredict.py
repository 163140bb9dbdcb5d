"""``docreco repredict``: queue images to be read again, behind new ones."""

import asyncio
from typing import Annotated

import typer

from services.cli.images import Status
from services.cli.limits import limited, open_images
from services.cli.options import DryRun, textual
from services.cli.output import Output
from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.rabbitmq.messaging import Publisher, open_publisher
from services.common.adapters.rabbitmq.retry_policy import REPREDICT_QUEUES
from services.common.domain.events import RepredictJob
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter, Limits
from services.common.runtime.settings import AmqpSettings

PAGE = 500


@textual
@limited
async def repredict(
    *,
    limits: Limits,
    model_version_not: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Only images without prediction of this version."),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Only this status; default: predicted and rejected.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Limit of images.")] = 1_000_000_000,
    dry_run: DryRun = False,
    output: Output,
) -> None:
    """Queue images to be read again when idle; earlier predictions are kept."""
    if status is Status.REMOVED:
        raise typer.BadParameter("removed images can't be read again", param_hint="--status")
    where = selection(limits, model_version_not, status)
    async with open_images(limits) as images:
        if dry_run:
            count = min(limit, await images.count(where))
        else:
            async with open_publisher(AmqpSettings()) as publisher:
                count = await queue_all(images, publisher, where, limit, REPREDICT_QUEUES.work)
    words = f"{count} would be read again" if dry_run else f"{count} queued to be read again"
    output.print({"dry_run": dry_run, "images": count}, words)


def selection(limits: Limits, model_version_not: str | None, status: Status | None) -> ImageFilter:
    """Return the filter of documents to read again."""
    statuses = PRESENT if status is None else (status.value,)
    return ImageFilter(limits, status=statuses, not_read_by=model_version_not, is_stored=True)


async def queue_all(
    images: ImageRepository, publisher: Publisher, where: ImageFilter, limit: int, queue: str
) -> int:
    """Queue a job per matching document; return their number.

    Raises:
        UnavailableError: A server does not answer; jobs queued so far remain.
    """
    count, fields = 0, {"key": 1, "etag": 1, "prediction.predicted_at": 1}
    async for page in images.scan(where, page=min(PAGE, limit), fields=fields):
        jobs = [job_for(document) for document in page[: limit - count]]
        await asyncio.gather(*(publisher.publish(job.body(), queue=queue) for job in jobs))
        count += len(jobs)
        if count == limit:
            break
    return count


def job_for(document: ImageDocument) -> RepredictJob:
    """Return the job for a document in its current state."""
    return RepredictJob(
        document_id=document.id,
        key=document.key,
        etag=document.etag or "",
        replaces=document.prediction.predicted_at if document.prediction else None,
    )
