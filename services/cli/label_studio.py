"""``docreco label-studio``: push images to Label Studio, pull annotations."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import typer

from services.cli.errors import EXIT_STATUSES, CommandError, ExitStatus, address_of, reason_of
from services.cli.limits import limited, open_images
from services.cli.options import DryRun, tabular, textual
from services.cli.output import Output, Table, cell, counted, plain
from services.cli.progress import status_line
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.domain.annotations import AnnotationOutcome
from services.common.domain.image_filter import Limits
from services.common.domain.texts import number_of
from services.common.runtime.settings import MongoSettings, S3Settings
from services.label_studio.client import LabelStudio, open_label_studio
from services.label_studio.errors import (
    LabelStudioNotSetError,
    LabelStudioRefusedError,
    LabelStudioUnavailableError,
)
from services.label_studio.pull import Issue, Pull, PullResult
from services.label_studio.push import Push, SyncAction
from services.label_studio.schemas import Project
from services.label_studio.settings import LabelStudioSettings
from services.label_studio.tasks import LABEL_CONFIG, TaskAddresses

SHOWN = 20
OUTCOMES = (*map(str, AnnotationOutcome), *map(str, PullResult))
NOT_WELL = (
    AnnotationOutcome.CONFLICT.value,
    AnnotationOutcome.UNKNOWN.value,
    PullResult.REJECTED.value,
)
HINTS = {
    401: "Set LABEL_STUDIO_TOKEN to the access token of an account (Account & Settings there).",
    403: "The account of LABEL_STUDIO_TOKEN is not permitted: it must manage the project.",
}

app = typer.Typer(no_args_is_help=True, help="Annotate in Label Studio: images there, texts back.")


@app.command(epilog=EXIT_STATUSES)
@textual
@limited
async def push(
    *,
    limits: Limits,
    limit: Annotated[int, typer.Option(min=0, help="Number of open tasks in the project.")] = 1000,
    dry_run: DryRun = False,
    output: Output,
) -> None:
    """Push the images with the lowest scores and no annotation; only new or changed ones."""
    settings, s3 = LabelStudioSettings(), S3Settings()
    endpoint = settings.s3_endpoint_url or s3.endpoint_url
    as_browsers_see_it = s3.model_copy(update={"endpoint_url": endpoint})
    async with (
        _open_label_studio(settings) as studio,
        open_images(limits) as images,
        open_object_store(s3) as store,
        open_object_store(as_browsers_see_it) as signing,
    ):
        project = await studio.find_project(settings.project)
        if project is None and not dry_run:
            project = await studio.create_project(settings.project, LABEL_CONFIG)
        with _progress(output, "pushing") as progress:
            step = Push(
                studio,
                images,
                TaskAddresses(settings, signing),
                store,
                limits,
                is_dry_run=dry_run,
                on_progress=lambda report: progress(report.counts),
            )
            report = await step.run(project.id if project else None, limit=limit)
    where = _where(settings, project)
    counts = {action.value: report.counts[action] for action in SyncAction}
    answer = {"dry_run": dry_run, "project": where, **counts, "open_tasks": report.open_tasks}
    output.print(answer, *_pushed(counts, report.open_tasks, where, dry_run=dry_run))


def _pushed(counts: dict[str, int], open_tasks: int, where: str, *, dry_run: bool) -> list[str]:
    """Say what became of images that were pushed."""
    would = "would be: " if dry_run else ""
    words = [f"Tasks: {would}{counted(counts)}; {open_tasks} open at {plain(where)}"]
    if counts[SyncAction.NOT_SHOWN]:
        words.append(
            f"{number_of(counts[SyncAction.NOT_SHOWN], 'image')} without task: "
            "browsers can't show these files as they were read (TIFF, transparent, CMYK, …). "
            "Annotate these on the review page."
        )
    return words


@app.command(epilog=EXIT_STATUSES)
@tabular
async def pull(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Every task, not only those that changed since.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier annotations made elsewhere.")
    ] = False,
    dry_run: DryRun = False,
    output: Output,
) -> ExitStatus:
    """Pull annotations from Label Studio into the documents (idempotent)."""
    settings = LabelStudioSettings()
    async with (
        _open_label_studio(settings) as studio,
        open_database(MongoSettings()) as database,
    ):
        project = await _project(studio, settings)
        with _progress(output, "pulling") as progress:
            step = Pull(
                studio,
                database,
                project.id,
                overwrite=overwrite,
                is_dry_run=dry_run,
                on_progress=lambda report: progress(report.counts),
            )
            report = await step.changed(everything=everything)
    counts = {name: report.counts[name] for name in OUTCOMES}
    remarks = [vars(each) for each in report.remarks]
    where = _where(settings, project)
    answer = {"dry_run": dry_run, "project": where, **counts, "remarks": remarks}
    would = "would be: " if dry_run else ""
    words = f"{report.counts.total()} tasks: {would}{counted(counts)}"
    output.print(answer, *_table_of(report.remarks), words)
    is_well = not any(counts[name] for name in NOT_WELL)
    return ExitStatus.OK if is_well else ExitStatus.INCOMPLETE


@app.command(epilog=EXIT_STATUSES)
@textual
async def webhook(
    url: Annotated[
        str,
        typer.Argument(
            help="The review page's URL, as reached by Label Studio: …/webhooks/label-studio"
        ),
    ],
    *,
    output: Output,
) -> None:
    """Create a webhook, so that the review page pulls annotations at once."""
    settings = LabelStudioSettings()
    if settings.webhook_secret is None:
        raise CommandError(
            "LABEL_STUDIO_WEBHOOK_SECRET is not set",
            status=ExitStatus.BAD_SETTING,
            hint="Set it (16 or more characters) for this command and for the review page.",
        )
    secret = settings.webhook_secret.get_secret_value()
    async with _open_label_studio(settings) as studio:
        project = await _project(studio, settings)
        known = [each.id for each in await studio.webhooks(project.id) if each.url == url]
        if known:
            await studio.update_webhook(known[0], url, secret)
        else:
            await studio.create_webhook(project.id, url, secret)
    words = f"Webhook of {plain(_where(settings, project))}: {plain(url)}"
    output.print({"project": _where(settings, project), "url": url}, words)


async def _project(studio: LabelStudio, settings: LabelStudioSettings) -> Project:
    project = await studio.find_project(settings.project)
    if project is None:
        raise CommandError(
            f"Label Studio has no project {settings.project!r}",
            status=ExitStatus.REFUSED,
            hint="docreco label-studio push creates it; LABEL_STUDIO_PROJECT is its title.",
        )
    return project


@asynccontextmanager
async def _open_label_studio(settings: LabelStudioSettings) -> AsyncIterator[LabelStudio]:
    """Open Label Studio's client; translate its errors into CommandError."""
    try:
        async with open_label_studio(settings) as studio:
            yield studio
    except LabelStudioNotSetError as error:
        raise CommandError(
            str(error),
            status=ExitStatus.BAD_SETTING,
            hint="Set LABEL_STUDIO_URL to its address and LABEL_STUDIO_TOKEN to an account's "
            "access token (Account & Settings there). See docs/label-studio.md.",
        ) from error
    except LabelStudioUnavailableError as error:
        raise CommandError(
            f"Label Studio at {address_of(settings.url)}: {reason_of(error)}",
            status=ExitStatus.UNAVAILABLE,
            hint="Is it running, and is LABEL_STUDIO_URL right? Repeat the command to continue.",
        ) from error
    except LabelStudioRefusedError as error:
        raise CommandError(
            f"Label Studio refused: {error}",
            status=ExitStatus.REFUSED,
            hint=HINTS.get(error.status, ""),
        ) from error


@contextmanager
def _progress(output: Output, words: str) -> Iterator[Any]:
    with status_line(output.stderr, words) as show:
        yield lambda counts: show(f"{words}: {_format_counts(counts)}")


def _format_counts(counts: Counter[Any]) -> str:
    return counted({str(name): number for name, number in counts.items()})


def _where(settings: LabelStudioSettings, project: Project | None) -> str:
    site = str(settings.url).rstrip("/")
    return f"{site}/projects/{project.id}" if project else f"{site} (no project yet)"


def _table_of(remarks: Iterable[Issue]) -> list[Any]:
    rows = [
        [cell(each.task), cell(each.outcome, "red"), cell(each.image), cell(each.detail)]
        for each in remarks
    ]
    columns = ("task", "outcome", "image", "why")
    return [Table("Not written", columns, rows, most=SHOWN)] if rows else []
