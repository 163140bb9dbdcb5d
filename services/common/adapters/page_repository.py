"""Repository of the ``pages`` collection, which only the segmenter writes."""

from dataclasses import dataclass

from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import Repository
from services.common.domain.page_document import PageDocument, PageStatus


@dataclass(frozen=True)
class PageFilter:
    """Filter of pages: all set fields must match."""

    sha256: str | None = None
    url: frozenset[str] | None = None
    """Of a source."""
    batch: str | None = None
    document: str | None = None
    """Key of their PDF or TIFF."""
    document_sha256: str | None = None
    """Hash of the PDF or TIFF."""
    status: PageStatus | None = None
    is_stored: bool = False
    """Not removed."""
    is_transcribed: bool | None = None
    """Whether their lines are cut by a transcription."""
    besides: str | None = None
    """``_id`` of a page to exclude."""


class PageRepository(Repository[PageDocument, PageFilter]):
    """Reads and changes the documents of pages; see ``Repository``."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection, PageDocument, to_query)


def _is_null(is_set: bool | None) -> Document | None:  # noqa: FBT001
    return None if is_set is None else {"$ne" if is_set else "$eq": None}


def to_query(where: PageFilter) -> Document:
    """Return the query of a filter."""
    query: Document = {
        "sha256": where.sha256,
        "sources.url": where.url and {"$in": sorted(where.url)},
        "sources.batch_id": where.batch,
        "document.key": where.document,
        "document.sha256": where.document_sha256,
        "status": where.status or ({"$ne": "removed"} if where.is_stored else None),
        "ground_truth": _is_null(where.is_transcribed),
        "_id": where.besides and {"$ne": where.besides},
    }
    return {name: value for name, value in query.items() if value is not None}
