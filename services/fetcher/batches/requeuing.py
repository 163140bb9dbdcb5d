"""What a retry queues again: what failed, and what nothing is known of."""

from services.common.adapters.mongo import Document
from services.fetcher.batches.expander import Expander
from services.fetcher.batches.ledger import Ledger, RetryScope


async def requeue(batch: Document, scope: RetryScope, ledger: Ledger, expander: Expander) -> int:
    """Make items of a batch queued again, for the dispatcher to publish; return how many.

    Among them are those that were published and have no document: their jobs may be lost. One that
    is not comes twice then, and its worker sees that.
    """
    requeued = await ledger.requeue(batch["_id"], scope)
    async for jobs in expander.untouched(batch, ledger):
        requeued += await ledger.queue(jobs)
    return requeued
