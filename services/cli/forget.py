"""``docreco forget``: remove an image on request, and prove it."""

from typing import Annotated, Any

import typer

from services.cli.broker import told_of_servers
from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output, cell, run, table
from services.common.index import open_index
from services.common.object_store import open_object_store
from services.common.removal import Target, find_targets, prove, remove
from services.common.settings import AmqpSettings, MongoSettings, S3Settings


def forget(
    what: Annotated[
        str, typer.Argument(metavar="URL|KEY", help="Where images came from, or one's key.")
    ],
    *,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="For the proof.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Delete an image, or all that came from a URL, and print the proof that nothing read stays."""
    output = Output(as_json=as_json)

    async def work() -> ExitStatus:
        with told_of_servers():
            async with (
                open_object_store(S3Settings()) as store,
                open_index(MongoSettings()) as index,
            ):
                targets = await find_targets(store, index, what)
                if not targets:
                    raise CommandError(f"nothing is known of {what}", status=ExitStatus.REFUSED)
                if not yes:
                    output.asides.print(_targets_table(targets))
                    if not typer.confirm(f"Delete {len(targets)} for ever?", err=True):
                        return ExitStatus.REFUSED
                dropped = await remove(targets, store=store, index=index, amqp=AmqpSettings())
                proofs = await prove(targets, store, index, wait_seconds=wait)
        is_done = all(proof["removed_at"] is not None for proof in proofs)
        answer = {"is_done": is_done, "parked_messages_dropped": dropped, "proofs": proofs}
        output.answer(answer, *_for_people(proofs, is_done=is_done))
        return ExitStatus.OK if is_done else ExitStatus.INCOMPLETE

    run(output, work)


def _targets_table(targets: list[Target]) -> Any:
    rows = [
        [
            cell(target.key),
            "yes" if target.is_stored else "no",
            cell((target.document or {}).get("status", "no document")),
            cell("\n".join(target.sources) or "(uploaded)"),
        ]
        for target in targets
    ]
    return table("To delete", ("key", "object", "document", "came from"), rows)


def _for_people(proofs: list[dict[str, Any]], *, is_done: bool) -> list[Any]:
    rows = [
        [
            cell(proof["document"]),
            cell("\n".join(proof["sources"]) or "(uploaded)"),
            cell(proof["removed_at"] or "not yet", "" if proof["removed_at"] else "red"),
            cell(proof["erased_at"] or ""),
        ]
        for proof in proofs
    ]
    columns = ("document", "came from", "object removed at", "document erased at")
    words = (
        "Objects are gone, and their documents hold no prediction and no annotation any more."
        if is_done
        else "Some documents are not erased yet: is the consumer running? Give the command again."
    )
    return [table("Proof of removal", columns, rows), words]
