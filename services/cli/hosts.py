"""``docreco hosts``: list paused hosts."""

from typing import Annotated

import typer

from services.cli.fetcher import open_fetcher
from services.cli.options import tabular
from services.cli.output import Output, Table, cell
from services.cli.settings import CliSettings

REASONS = {
    "throttled": "throttled (429 or Retry-After)",
    "silent": "does not answer",
    "crawl_delay": "long Crawl-delay",
}


@tabular
async def hosts(
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Limit of hosts.")] = 100,
    output: Output,
) -> None:
    """Show paused hosts with reason and time: their URLs wait."""
    async with open_fetcher(CliSettings()) as fetcher:
        found = await fetcher.hosts(limit=limit)
    rows = [
        [
            cell(each.host),
            cell(REASONS.get(each.reason, each.reason)),
            cell(each.until.astimezone(), form="%Y-%m-%d %H:%M:%S"),
        ]
        for each in found
    ]
    shown = Table("Hosts", ["host", "reason", "until"], rows, empty="No host is delayed.")
    output.print({"hosts": [each.model_dump() for each in found]}, shown)
