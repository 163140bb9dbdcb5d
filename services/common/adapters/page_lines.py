"""Lines of a page with what is known of their images."""

from dataclasses import dataclass

from services.common.adapters.image_repository import ImageRepository
from services.common.domain.image import ImageDocument
from services.common.domain.image_filter import PRESENT, ImageFilter
from services.common.domain.page import Line
from services.common.domain.page_document import PageDocument


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
