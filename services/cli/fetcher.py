"""Client of the fetcher for commands, with errors translated into CommandError."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.cli.errors import (
    CommandError,
    ExitStatus,
    RefusedError,
    ServiceDownError,
    address_of,
    reason_of,
)
from services.cli.settings import CliSettings
from services.common.adapters import fetcher_api
from services.common.adapters.fetcher_api import (
    FetcherClient,
    FetcherRefusedError,
    FetcherUnavailableError,
    UnexpectedAnswerError,
)
from services.common.domain.fetcher_answers import BatchDetails, ItemStatus, Problem

SERVICE = "The fetcher"
SHOWN_LINES = 10
COLUMN_HINT = "On the command line: --url-column NAME, --text-column NAME, --group-column NAME."
LIST_SECONDS = 1800.0
"""Timeout of a submission; a shorter one would lead to double submissions."""


@asynccontextmanager
async def open_fetcher(settings: CliSettings) -> AsyncIterator[FetcherClient]:
    """Open a client for an ``async with`` block; it connects lazily.

    Raises:
        CommandError: In the block the fetcher did not answer, or refused.
    """
    async with fetcher_api.open_fetcher(
        settings.fetcher_url,
        token=settings.fetcher_token,
        timeout_seconds=settings.timeout_seconds,
        list_seconds=LIST_SECONDS,
    ) as fetcher:
        try:
            yield fetcher
        except (FetcherUnavailableError, FetcherRefusedError) as error:
            raise _to_command_error(error, settings) from error


async def failures(fetcher: FetcherClient, batch_id: str) -> list[ItemStatus]:
    """Return the failed items of a batch."""
    return [item async for item in fetcher.items(batch_id, outcome="failed")]


async def polled(
    fetcher: FetcherClient, batch_id: str, *, every_seconds: float
) -> AsyncIterator[BatchDetails]:
    """Yield the progress of a batch until it is finished."""
    while True:
        batch = await fetcher.batch(batch_id)
        yield batch
        if batch.is_finished:
            return
        await asyncio.sleep(every_seconds)


def _to_command_error(
    error: FetcherUnavailableError | FetcherRefusedError, settings: CliSettings
) -> CommandError:
    if isinstance(error, UnexpectedAnswerError):
        return CommandError(
            f"Invalid response of the fetcher: {error}",
            status=ExitStatus.REFUSED,
            hint="Check that DOCRECO_FETCHER_URL is the address of the fetcher.",
        )
    if error.problem is None:
        return ServiceDownError(
            SERVICE,
            address_of(settings.fetcher_url),
            setting="DOCRECO_FETCHER_URL",
            reason=reason_of(error.__cause__ or error),
        )
    problem = error.problem
    return RefusedError(
        SERVICE,
        problem.status,
        code=problem.code,
        detail=problem.detail,
        lines=_lines(problem),
        hint=COLUMN_HINT if any(each.code == "no_url_column" for each in problem.rejected) else "",
    )


def _lines(problem: Problem) -> tuple[str, ...]:
    """Return the first errors of lines in a problem."""
    told = [
        f"line {each.line}: {each.detail or each.code}"
        for each in problem.rejected
        if each.detail != problem.detail  # an unreadable list
    ]
    rest = len(told) - SHOWN_LINES
    return (*told[:SHOWN_LINES], *([f"and {rest} more"] if rest > 0 else []))
