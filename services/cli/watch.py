"""``docreco watch``: follow a batch until each of its items has an outcome."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.filesize import decimal

from services.cli.errors import ExitStatus
from services.cli.fetcher import failures, open_fetcher, polled
from services.cli.options import tabular
from services.cli.output import Output, Table, cell, counted, plain
from services.cli.progress import progress_bar
from services.cli.settings import CliSettings
from services.common.adapters.fetcher_api import FetcherClient
from services.common.domain.fetcher_answers import BatchDetails, ItemStatus

SHOWN_FAILURES = 20


@tabular
async def watch(
    batch_id: Annotated[
        str, typer.Argument(metavar="BATCH_ID", help="Batch id, as shown by submit.")
    ],
    *,
    output: Output,
) -> ExitStatus:
    """Follow a batch until each of its items has an outcome; then list failures."""
    settings = CliSettings()
    async with open_fetcher(settings) as fetcher:
        return await watch_batch(fetcher, batch_id, output, every_seconds=settings.poll_seconds)


async def watch_batch(
    fetcher: FetcherClient,
    batch_id: str,
    output: Output,
    *,
    every_seconds: float,
    also: Mapping[str, Any] | None = None,
    shown: Sequence[RenderableType] = (),
) -> ExitStatus:
    """Follow a batch to its end and print its outcomes.

    Args:
        fetcher: Its client.
        batch_id: The batch.
        output: Of the progress bar and the result.
        every_seconds: Polling interval.
        also: Further members of the JSON result.
        shown: Shown before.
    """
    batch = await follow(fetcher, batch_id, output.stderr, every_seconds=every_seconds)
    failed = await failures(fetcher, batch_id)
    codes = Counter(item.code or "unknown" for item in failed)
    document = {
        **(also or {}),
        "batch": batch.model_dump(),
        "failure_codes": dict(codes),
        "failed": [item.model_dump() for item in failed],
    }
    more = [failure_table(failed)] if failed else []
    output.print(document, *shown, *more, f"batch {plain(batch_id)}: {summary(batch, codes)}")
    is_well = batch.state == "completed" and not failed
    return ExitStatus.OK if is_well else ExitStatus.INCOMPLETE


async def follow(
    fetcher: FetcherClient, batch_id: str, console: Console, *, every_seconds: float
) -> BatchDetails:
    """Show a bar until the batch is finished; return its last state."""
    batch = await fetcher.batch(batch_id)  # on failure no bar is left on the screen
    with progress_bar(console) as bar:
        task = bar.add_task("fetching", total=None, words="")
        async for batch in polled(fetcher, batch_id, every_seconds=every_seconds):
            bar.update(task, total=batch.total, completed=batch.done, words=plain(so_far(batch)))
    return batch


def so_far(batch: BatchDetails) -> str:
    """Format the outcomes of a batch, reasons of failures, and size of its images."""
    words = counted({name: n for name, n in batch.counts if name != "queued"})
    if batch.failure_codes:
        words += f" ({counted(batch.failure_codes)})"
    return f"{words}, {decimal(batch.size_bytes)}"


def summary(batch: BatchDetails, codes: Mapping[str, int]) -> str:
    """Format the result of a batch."""
    words = f"{plain(batch.state)}, {plain(counted(dict(batch.counts)))}"
    return f"{words} ({plain(counted(codes))})" if codes else words


def failure_table(failed: list[ItemStatus]) -> Table:
    """Return the failed items with their reasons."""
    rows = [
        [cell(item.label), cell(item.code, "red"), cell(item.detail), cell(item.attempts)]
        for item in failed
    ]
    columns = ("image", "code", "detail", "attempts")
    return Table(f"{len(failed)} failed", columns, rows, most=SHOWN_FAILURES)
