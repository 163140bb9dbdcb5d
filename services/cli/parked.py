"""``docreco parked``: list, replay or drop parked messages."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.cli.errors import EXIT_STATUSES, CommandError, ExitStatus
from services.cli.options import Yes, tabular, textual
from services.cli.output import Output, Table, cell
from services.common.adapters.rabbitmq import dead_letters
from services.common.adapters.rabbitmq.dead_letters import ParkedMessage, Wanted
from services.common.adapters.rabbitmq.retry_policy import FETCH_QUEUES, OCR_QUEUES, PAGE_QUEUES
from services.common.domain.redaction import hide_secrets
from services.common.runtime.settings import AmqpSettings

app = typer.Typer(
    no_args_is_help=True, help="List, replay or drop parked (dead-lettered) messages."
)


class ParkingQueue(StrEnum):
    """Parking queue."""

    OCR = "ocr"
    PAGES = "pages"
    FETCH = "fetch"


QUEUES = {
    ParkingQueue.OCR: OCR_QUEUES,
    ParkingQueue.PAGES: PAGE_QUEUES,
    ParkingQueue.FETCH: FETCH_QUEUES,
}

Queue = Annotated[
    ParkingQueue, typer.Option(help="Parked images (ocr), pages (pages) or downloads (fetch).")
]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Only this code; may be repeated.")]
Reason = Annotated[str | None, typer.Option(help="Only reasons that contain this text.")]
Limit = Annotated[int, typer.Option(min=1, help="Limit, the oldest first.")]
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids as shown by list; default: all.")
]


@app.command("list", epilog=EXIT_STATUSES)
@tabular
async def list_parked(
    *,
    queue: Queue = ParkingQueue.OCR,
    code: Codes = None,
    reason: Reason = None,
    limit: Limit = 100,
    output: Output,
) -> None:
    """List parked messages with their reasons."""
    wanted = _wanted([], code, reason)
    found = await dead_letters.peek(AmqpSettings(), QUEUES[queue], wanted, limit=limit)
    shown = _table("parked", found)
    output.print([_summary(message) for message in found], shown)


@app.command("show", epilog=EXIT_STATUSES)
@textual
async def show(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="Id as shown by list.")],
    *,
    queue: Queue = ParkingQueue.OCR,
    output: Output,
) -> None:
    """Show headers and body of one parked message."""
    wanted = _wanted([message_id], None, None)
    found = await dead_letters.peek(AmqpSettings(), QUEUES[queue], wanted, limit=1)
    if not found:
        raise CommandError(f"no parked message with id {message_id}", status=ExitStatus.REFUSED)
    message = found[0]
    whole = {**_summary(message), "headers": message.headers, "body": _body(message)}
    lines = [f"{name}: {value}" for name, value in _summary(message).items()]
    lines += [f"header {name}: {value}" for name, value in sorted(message.headers.items())]
    lines.append(json.dumps(_body(message), ensure_ascii=False, indent=2))
    output.print(whole, *(cell(line) for text in lines for line in text.splitlines()))


@app.command("replay", epilog=EXIT_STATUSES)
@textual
async def replay(
    ids: Ids = None,
    *,
    queue: Queue = ParkingQueue.OCR,
    code: Codes = None,
    reason: Reason = None,
    limit: Limit = 1_000_000,
    output: Output,
) -> None:
    """Replay parked messages from the first attempt; their history is kept."""
    wanted = _wanted(ids, code, reason)
    done = await dead_letters.replay(AmqpSettings(), QUEUES[queue], wanted, limit=limit)
    output.print([_summary(message) for message in done], f"{len(done)} replayed")


@app.command("drop", epilog=EXIT_STATUSES)
@textual
async def drop(
    ids: Ids = None,
    *,
    queue: Queue = ParkingQueue.OCR,
    code: Codes = None,
    reason: Reason = None,
    limit: Limit = 1_000_000,
    yes: Yes = False,
    output: Output,
) -> ExitStatus:
    """Delete parked messages permanently, after confirmation."""
    amqp, wanted = AmqpSettings(), _wanted(ids, code, reason)
    found = await dead_letters.peek(amqp, QUEUES[queue], wanted, limit=limit)
    if found and not yes:
        output.stderr.print(_table("to drop", found[:20]))
        if not typer.confirm(f"Drop {len(found)} permanently?", err=True):
            return ExitStatus.REFUSED
    # Only the shown ones: more may have been parked meanwhile
    shown = {message.id for message in found}
    done = await dead_letters.drop(amqp, QUEUES[queue], lambda message: message.id in shown)
    output.print([_summary(message) for message in done], f"{len(done)} dropped")
    return ExitStatus.OK


def _wanted(ids: list[str] | None, codes: list[str] | None, reason: str | None) -> Wanted:
    def wanted(message: ParkedMessage) -> bool:
        return (
            (not ids or message.id in ids)
            and (not codes or message.code in codes)
            and (reason is None or reason.casefold() in message.reason.casefold())
        )

    return wanted


def _summary(message: ParkedMessage) -> dict[str, Any]:
    return {
        "id": message.id,
        "code": message.code,
        "reason": message.reason,
        "subject": message.subject,
        "parked_at": None if message.parked_at is None else message.parked_at.isoformat(),
        "first_failure": message.first_failure,
        "attempts": message.attempts,
        "replays": message.replays,
    }


def _body(message: ParkedMessage) -> Any:
    try:
        body = json.loads(message.body)
    except ValueError:
        return hide_secrets(message.body.decode(errors="replace"))
    if isinstance(body, dict) and isinstance(body.get("url"), str):
        body["url"] = hide_secrets(body["url"])
    return body


def _table(title: str, messages: list[ParkedMessage]) -> Table:
    rows = [
        [
            cell(message.id),
            cell(message.code, "red"),
            cell(message.subject),
            cell(message.reason),
            cell(message.parked_at, form="%Y-%m-%d %H:%M:%S"),
            cell(message.attempts),
            cell(message.replays),
        ]
        for message in messages
    ]
    columns = ("id", "code", "about", "reason", "parked at (UTC)", "attempts", "replays")
    return Table(f"{len(messages)} {title}", columns, rows, empty="Nothing is parked.")
