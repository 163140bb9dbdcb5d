"""``docreco migrate``: write today's form of documents that earlier versions wrote."""

from dataclasses import asdict

from services.cli.errors import ExitStatus
from services.cli.options import DryRun, tabular
from services.cli.output import Output, Table, cell
from services.cli.progress import status_line
from services.common.adapters.mongo import open_database
from services.common.runtime.settings import MongoSettings
from services.migration.migration import SCAN_SECONDS, Migration, MigrationReport


@tabular
async def migrate(
    *,
    dry_run: DryRun = False,
    output: Output,
) -> ExitStatus:
    """Write today's form of documents that earlier versions wrote; the provisioner does, too.

    It may run beside all services, and again after it was interrupted.
    """
    with status_line(output.stderr, "migrating") as show:

        def on_progress(report: MigrationReport) -> None:
            name, progress = list(report.collections.items())[-1]
            show(f"migrating {name}: {progress.migrated} of {progress.outdated}")

        async with open_database(MongoSettings(), answer_seconds=SCAN_SECONDS) as database:
            migration = Migration(database, is_dry_run=dry_run, on_progress=on_progress)
            report = await migration.run()
    rows = [
        [cell(name), cell(each.outdated), cell(each.migrated)]
        for name, each in report.collections.items()
    ]
    output.print(
        asdict(report),
        Table("Documents of earlier versions", ("collection", "found", "migrated"), rows),
        *(f"left alone: {each}" for each in report.invalid),
        *([f"left alone in all: {report.invalid_count}"] if report.invalid else []),
        *(["nothing was changed: dry run"] if dry_run else []),
    )
    return ExitStatus.INCOMPLETE if report.invalid else ExitStatus.OK
