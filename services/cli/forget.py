"""``docreco forget``: remove an image on request, with a proof."""

from typing import Annotated, Any

import typer

from services.cli.errors import CommandError, ExitStatus
from services.cli.options import Yes, tabular
from services.cli.output import Output, Table, cell, cell_of_lines
from services.common.adapters.mongo import open_database
from services.common.adapters.object_store import open_object_store
from services.common.domain.records import UPLOADED
from services.common.domain.redaction import hide_secrets
from services.common.domain.texts import number_of
from services.common.runtime.settings import AmqpSettings, MongoSettings, S3Settings
from services.erasure.forgetting import NOT_COVERED, ErasureReport, Forgetting
from services.erasure.removal import Target


@tabular
async def forget(
    what: Annotated[
        str, typer.Argument(metavar="URL|KEY", help="Source URL of images, or the key of one.")
    ],
    *,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time limit until it is removed.")
    ] = 60.0,
    allow_again: Annotated[
        bool, typer.Option("--allow-again", help="It may be fetched and stored again later.")
    ] = False,
    yes: Yes = False,
    output: Output,
) -> ExitStatus:
    """Delete an image, or all of a URL, and print the proof of removal."""
    if not what.strip():
        raise typer.BadParameter("must not be empty", param_hint="URL|KEY")
    async with (
        open_object_store(S3Settings()) as store,
        open_database(MongoSettings()) as database,
    ):
        forgetting = Forgetting(
            store, database, AmqpSettings(), pages_bucket=S3Settings().pages_bucket
        )
        found = await forgetting.find(what)
        if found.is_empty:
            nothing = f"nothing found for {hide_secrets(what)}"
            raise CommandError(nothing, status=ExitStatus.REFUSED)
        if not yes:
            output.stderr.print(targets_table(found.targets))
            asked = f"Delete {number_of(len(found.targets), 'image')}, "
            asked += f"{number_of(len(found.pages), 'page')} and the text of "
            asked += f"{number_of(len(found.submitted.items), 'item')} of batches permanently?"
            if not typer.confirm(asked, err=True):
                return ExitStatus.REFUSED
        report = await forgetting.forget(found, wait_seconds=wait, may_come_again=allow_again)
    output.print(report.to_answer(), *_render(report))
    return ExitStatus.OK if report.is_done else ExitStatus.INCOMPLETE


def targets_table(targets: list[Target]) -> Any:
    """Return the table of what is to be deleted."""
    rows = [
        [
            cell(target.key),
            "yes" if target.is_stored else "no",
            cell(target.document.status or "no document"),
            cell_of_lines(target.document.origins or [UPLOADED]),
        ]
        for target in targets
    ]
    return Table("To delete", ("key", "object", "document", "came from"), rows)


def _render(report: ErasureReport) -> list[Any]:
    rows = [
        [
            cell(proof["document"]),
            cell_of_lines(proof["sources"] or [UPLOADED]),
            cell(proof["removed_at"] or "not yet", "" if proof["removed_at"] else "red"),
            cell(proof["erased_at"] or ""),
        ]
        for proof in report.proofs
    ]
    columns = ("document", "came from", "object removed at", "document erased at")
    words = (
        "Objects are deleted, and predictions and annotations are erased from their documents."
        if report.is_done
        else "Some documents are not erased yet: is the consumer running? Repeat the command."
    )
    erased = report.erased
    parked = sum(erased.parked.values())
    looked = (
        f"Also erased: text of {number_of(erased.items, 'item')} of batches, "
        f"{number_of(erased.rows, 'row')} of lists "
        f"(of {number_of(erased.pages_looked_at, 'page')}), "
        f"{number_of(parked, 'parked message')} in {' and '.join(erased.parked)}. "
        f"From now on {number_of(erased.urls_blocked, 'URL')} will not be fetched, "
        f"and {number_of(erased.images_blocked, 'image')} will not be stored."
    )
    left = [f"Not covered: {each}." for each in NOT_COVERED]
    return [Table("Proof of removal", columns, rows), words, looked, *left]
