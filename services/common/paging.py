"""Many documents, a page at a time: a cursor that is long open dies of waiting."""

from collections.abc import AsyncIterator, Mapping

from services.common.index import Collection, Document, Filter

PAGE = 500


async def pages(
    images: Collection, where: Filter, *, fields: Mapping[str, int]
) -> AsyncIterator[list[Document]]:
    """Yield documents by pages in the order of ``_id``.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    last = ""
    while True:
        found = images.find(
            {**where, "_id": {"$gt": last}}, sort=[("_id", 1)], limit=PAGE, fields=fields
        )
        page = [document async for document in found]
        if not page:
            return
        yield page
        last = page[-1]["_id"]
