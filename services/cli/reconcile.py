"""``docreco reconcile``: compare the bucket with the documents once, and queue missing events."""

import re
from typing import Annotated, Any

import typer

from services.cli.errors import ExitStatus
from services.cli.options import DryRun, tabular
from services.cli.output import Output, Table, cell, counted
from services.cli.progress import status_line
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.reconciler.compare import MOST_PARTS, TO_QUEUE, BucketPart, State
from services.reconciler.passes import compare_buckets
from services.reconciler.settings import ReconcilerSettings
from services.reconciler.walk import PassReport

MEANINGS = {
    State.IN_ORDER: "object and document agree",
    State.MISSING: "object without a document",
    State.CHANGED: "object newer than its document",
    State.GONE: "document whose object is missing",
    State.REMOVED: "document of a removed object",
    State.YOUNG: "changed recently: its event is in flight",
    State.PARKED: "its message is parked: see docreco parked list",
    State.FOLDER: "empty folder",
}

HELD = (
    "{} removals held, as too many objects are missing. Is S3_ENDPOINT_URL the "
    "right store, its disk mounted, its copy the newest? Where they are meant to be gone: "
    "docreco reconcile --allow-gone"
)


AllowGone = Annotated[
    bool, typer.Option("--allow-gone", help="Confirm removals: queue any number of them.")
]
MinAge = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Ignore younger changes; default: RECONCILER_MIN_AGE_SECONDS.",
    ),
]
PartOption = Annotated[
    str,
    typer.Option(
        metavar="N/PARTS",
        help="Compare one part of the buckets, for instance 3/16; several may run at once.",
    ),
]


def _part(text: str) -> BucketPart:
    match = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text)
    number, parts = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= parts <= MOST_PARTS:
        raise typer.BadParameter(
            f"{text!r} is no N/PARTS, from 1/1 to {MOST_PARTS}/{MOST_PARTS}", param_hint="--part"
        )
    return BucketPart(number - 1, parts)


@tabular
async def reconcile(
    *,
    dry_run: DryRun = False,
    allow_gone: AllowGone = False,
    min_age: MinAge = None,
    part: PartOption = "1/1",
    output: Output,
) -> ExitStatus:
    """Compare buckets with documents; queue new, changed and removed objects."""
    chosen, settings = _part(part), ReconcilerSettings()
    if min_age is not None:
        settings = settings.model_copy(update={"min_age_seconds": min_age})
    with status_line(output.stderr, "comparing") as show:

        def on_progress(report: PassReport) -> None:
            show(f"comparing: {report.objects} objects, {report.queued} queued")

        async with (
            open_object_store(S3Settings()) as store,
            open_database(MongoSettings()) as database,
        ):
            report = await compare_buckets(
                settings,
                store=store,
                pages_bucket=S3Settings().pages_bucket,
                database=database,
                amqp=AmqpSettings(),
                part=chosen,
                is_dry_run=dry_run,
                allows_gone=allow_gone,
                on_progress=on_progress,
            )
    output.print(_document(report, is_dry_run=dry_run), *_render(report, dry_run=dry_run))
    return ExitStatus.INCOMPLETE if report.held else ExitStatus.OK


def _document(report: PassReport, *, is_dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": is_dry_run,
        "objects": report.objects,
        "documents": report.documents,
        "found": {state.value: report.found[state] for state in State},
        "queued": report.queued,
        "held": report.held,
        "seconds": report.seconds,
    }


def _render(report: PassReport, *, dry_run: bool) -> list[Any]:
    rows = [
        [
            cell(state.value, "yellow" if state in TO_QUEUE and report.found[state] else ""),
            cell(report.found[state]),
            cell(MEANINGS[state]),
        ]
        for state in State
    ]
    seen = counted({"objects": report.objects, "documents": report.documents})
    what = "nothing queued: dry run" if dry_run else f"{report.queued} queued"
    shown = [
        Table("Buckets and documents", ("state", "count", "meaning"), rows),
        f"{seen} in {report.seconds:.1f} s; {what}",
    ]
    return [*shown, cell(HELD.format(report.held), "red")] if report.held else shown
