"""Views of pages: a picture with the lines in their places."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.page_lines import ReadLine, read_lines
from services.common.adapters.page_repository import PageRepository
from services.common.domain.image import ImageDocument
from services.common.domain.page import Line
from services.common.domain.page_document import PageDocument

NEIGHBOURS = 2
"""Lines shown before and after one."""
AROUND = 2.5
"""Heights of a line that are shown above and below it."""

Box = tuple[int, int, int, int]
"""Left, top, width and height, as in SVG's ``viewBox``."""


@dataclass(frozen=True)
class LineView:
    """A line on its page."""

    number: int
    """In reading order, from 1."""
    read: ReadLine

    @property
    def line(self) -> Line:
        """Its place."""
        return self.read.line

    @property
    def image(self) -> ImageDocument | None:
        """Its image."""
        return self.read.image

    @property
    def points(self) -> str:
        """Its outline, as in SVG."""
        return " ".join(map(str, self._outline))

    @property
    def text(self) -> str | None:
        """Text by a person, otherwise the prediction."""
        image = self.image
        if image is None:
            return None
        if image.annotation is not None:
            return image.annotation.text
        return image.prediction.text if image.prediction else None

    def around(self, page: PageDocument) -> Box:
        """Return the strip of the page in which the line is read, as wide as the page."""
        ys = self._outline[1::2]
        x1, y1, _, _, _, _, x4, y4 = self.line.quad
        height = max(abs(x4 - x1), abs(y4 - y1), 1)
        top = max(0, min(ys) - round(AROUND * height))
        bottom = min(page.height or 0, max(ys) + round(AROUND * height))
        return 0, top, page.width or 0, max(1, bottom - top)

    @property
    def _outline(self) -> Sequence[int]:
        return self.line.polygon or self.line.quad


@dataclass(frozen=True)
class PageView:
    """A page and its lines."""

    page: PageDocument
    lines: list[LineView]

    @property
    def is_shown(self) -> bool:
        """Whether it has a picture: a PDF has none of its own."""
        return bool(self.page.width and self.page.status == "segmented")

    @property
    def box(self) -> Box:
        """All of it."""
        return 0, 0, self.page.width or 0, self.page.height or 0


@dataclass(frozen=True)
class Strip:
    """A line within its page."""

    view: PageView
    now: LineView
    nearby: list[LineView]
    """The lines before, itself, and the lines after it."""

    @property
    def box(self) -> Box:
        """The part of the page that is shown."""
        return self.now.around(self.view.page)


async def view_page(page: PageDocument, images: ImageRepository, bucket: str) -> PageView:
    """Return a page with its current lines, whose images are in ``bucket``.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    read = await read_lines(page, images, bucket)
    lines = [each for each in read if each.line.state == "current"]
    return PageView(page, [LineView(number, each) for number, each in enumerate(lines, start=1)])


async def strip_of(
    image: ImageDocument, pages: PageRepository, images: ImageRepository
) -> Strip | None:
    """Return an image within its page, or None if it has no page with a picture.

    Raises:
        IndexUnavailableError: MongoDB does not answer.
    """
    page = await pages.get(image.page.id) if image.page else None
    if page is None:
        return None
    view = await view_page(page, images, image.bucket)
    at = next((at for at, each in enumerate(view.lines) if each.line.key == image.key), None)
    if at is None or not view.is_shown:
        return None
    nearby = view.lines[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
    return Strip(view, view.lines[at], nearby)
