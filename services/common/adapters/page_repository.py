"""Repository of the ``pages`` collection, and the lines of a page with their images.

Only the segmenter writes the collection.
"""

from dataclasses import dataclass

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.mongo import Collection, Document
from services.common.adapters.repository import Repository
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.page import Line
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


@dataclass(frozen=True)
class ReadLine:
    """A line and the document of its image."""

    line: Line
    image: ImageDocument | None
    """None: the consumer has not read it yet."""


async def read_lines(page: PageDocument, images: ImageRepository, bucket: str) -> list[ReadLine]:
    """Return the lines of a page in reading order, also those of its transcription."""
    if page.ground_truth is None:
        ids = frozenset(f"{bucket}/{line.key}" for line in page.lines)
        found = images.find(ImageFilter(ids=ids))
        known = {image.key: image async for image in found}
        lines = [ReadLine(line, known.get(line.key or "")) for line in page.lines]
    else:
        where = ImageFilter(pages=frozenset({page.id}), status=PRESENT)
        lines = [ReadLine(_to_line(image), image) async for image in images.find(where)]
    return sorted(lines, key=lambda each: (each.line.order, each.line.state))


def _to_line(image: ImageDocument) -> Line:
    """Return a line that only its image knows: the fetcher cut it by a transcription."""
    known = image.page.model_dump(exclude_none=True) if image.page else {}
    names = ("quad", "polygon", "baseline", "order", "score", "run")
    place = {name: known[name] for name in names if name in known}
    return Line(id=known.get("line", ""), key=image.key, **place)
