"""From the documents that are asked for to the records of an export."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from services.common.index import Collection, Document
from services.datasets.labels import Exclusion, label_of
from services.datasets.manifest import Query, Record
from services.datasets.plan import Plan
from services.datasets.splits import Split, hosts_of, parse_split, source_group

PAGE = 500
_NAMES = ("key", "etag", "sha256", "status", "annotation", "prediction", "sources.url")
_HISTORY = ("history.text", "history.model_version")
FIELDS = dict.fromkeys((*_NAMES, *_HISTORY), 1)


def filter_of(query: Query) -> Document:
    """Return which documents a query is about, as MongoDB takes it."""
    where: Document = {
        "bucket": query.bucket,
        "status": {"$in": ["predicted", "rejected"]},
        "sha256": {"$type": "string"},
    }
    if query.since is not None:
        where["stored_at"] = {"$gte": query.since}
    if query.only_annotated:
        where["annotation"] = {"$ne": None}
    return where


async def select(images: Collection, query: Query, plan: Plan) -> Counter[str]:
    """Put all that is asked for into a plan; return why other documents are not in it.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    excluded: Counter[str] = Counter()
    split = parse_split(query.split)
    async for page in pages(images, filter_of(query)):
        records = []
        for document in page:
            record = to_record(document, query, split)
            if isinstance(record, Exclusion):
                excluded[record.value] += 1
            else:
                records.append(record)
        plan.add(records)
    if duplicates := plan.added - plan.count():
        excluded["duplicate"] = duplicates
    return excluded


async def pages(
    images: Collection, where: Document, *, fields: dict[str, int] = FIELDS
) -> AsyncIterator[list[Document]]:
    """Yield documents by pages in the order of ``_id``: a long cursor would die of waiting.

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


def to_record(document: Document, query: Query, split: Split) -> Record | Exclusion:
    """Return what an export holds of a document, or why nothing."""
    label = label_of(
        document, only_annotated=query.only_annotated, min_agreement=query.min_agreement
    )
    if isinstance(label, Exclusion):
        return label
    prediction: dict[str, Any] = document.get("prediction") or {}
    identity = source_group(document) if query.group_by_source else document["sha256"]
    return Record.model_validate(
        {
            "sha256": document["sha256"],
            "key": document["key"],
            "etag": document["etag"],
            "split": split.place(identity),
            "label": label.text,
            "origin": label.origin,
            "agreement": label.agreement,
            "score": prediction.get("score"),
            "engine": prediction.get("engine"),
            "model_version": prediction.get("model_version"),
            "hosts": hosts_of(document),
        }
    )
