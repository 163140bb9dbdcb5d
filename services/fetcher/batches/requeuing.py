"""Requeue failed items, and items whose job may be lost."""

from services.common.adapters.mongo import Document
from services.fetcher.batches.expander import Expander
from services.fetcher.batches.ledger import Ledger, RetryScope


async def requeue(batch: Document, scope: RetryScope, ledger: Ledger, expander: Expander) -> int:
    """Requeue items of a batch for the dispatcher; return their number.

    Published items without document are included, as their jobs may be lost. Duplicates are
    detected by the worker.
    """
    requeued = await ledger.requeue(batch["_id"], scope)
    async for jobs in expander.untouched(batch, ledger):
        requeued += await ledger.queue(jobs)
    return requeued
