"""Stream the progress and the failed items of a batch."""

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from io import StringIO

from services.common.domain.batch import BatchState
from services.common.domain.batch_item import BatchItem
from services.common.runtime.periodic import pause
from services.fetcher.answers import to_status
from services.fetcher.batches.service import Batches, CountedBatch

POLL_SECONDS = 0.5
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of formulas (OWASP, CSV injection), as annotations are untrusted."""
FAILED_COLUMNS = (
    *("annotation", "code", "detail", "attempts"),
    *("group", "split", "licence", "is_page", "collection", "name", "how"),
)
"""Fields of an item that a list of failures has."""
HEARTBEAT_POLLS = 30
"""Polls without change before a keep-alive comment, for proxies."""


async def progress_events(
    batches: Batches, batch: CountedBatch, stop: asyncio.Event
) -> AsyncIterator[str]:
    """Yield server-sent events (HTML Living Standard, 9.2): the batch at each change.

    Ends when the batch is finished, or ``stop`` is set.
    """
    shown = ""
    silent_polls = 0
    while not stop.is_set():
        status = to_status(batch).model_dump_json()
        if status != shown:
            shown, silent_polls = status, 0
            yield f"event: progress\ndata: {status}\n\n"
        elif silent_polls >= HEARTBEAT_POLLS:
            silent_polls = 0
            yield ": still here\n\n"
        if batch.state is not BatchState.RUNNING and batch.counts.queued == 0:
            return
        silent_polls += 1
        await pause(stop, POLL_SECONDS)
        batch = await batches.find(batch.batch.id)


async def failed_csv(
    items: AsyncIterator[BatchItem], *, for_spreadsheet: bool = False
) -> AsyncIterator[str]:
    """Yield failed items as CSV (RFC 4180) that can be sent to ``POST /batches``.

    For spreadsheets, formulas are escaped by an apostrophe, and a byte order mark says that it is
    UTF-8; do not submit that list again.
    """
    if for_spreadsheet:
        yield "\ufeff"
    yield _csv_row(["url", *FAILED_COLUMNS, "metadata"])
    async for item in items:
        cells = [item.url, *(getattr(item, name) for name in FAILED_COLUMNS)]
        cells.append(json.dumps(item.metadata, ensure_ascii=False) if item.metadata else None)
        texts = ["" if cell is None else str(cell) for cell in cells]
        yield _csv_row([_as_text(text) for text in texts] if for_spreadsheet else texts)


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _csv_row(cells: list[str]) -> str:
    row = StringIO()
    csv.writer(row).writerow(cells)
    return row.getvalue()
