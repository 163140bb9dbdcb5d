"""Views of pages: a picture with the lines in their places."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.adapters.image_repository import ImageRepository
from services.common.adapters.page_repository import PageRepository, ReadLine, read_lines
from services.common.domain.image import ImageDocument
from services.common.domain.page import Line
from services.common.domain.page_document import PageDocument
from services.common.domain.page_request import turned_points, turned_size

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
    person: str
    """To whom it is shown."""

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
        """Text by a person, otherwise the prediction, which is all that a second reader may see."""
        image = self.image
        said = image and (image.shown_to(self.person) or image.prediction)
        return said.text if said else None

    def around(self, page: PageDocument) -> Box:
        """Return the strip of the turned page in which the line is read, as wide as the page."""
        stored = (page.width or 0, page.height or 0)
        ys = turned_points(self._outline, page.turn, *stored)[1::2]
        x1, y1, _, _, _, _, x4, y4 = self.line.quad
        height = max(abs(x4 - x1), abs(y4 - y1), 1)
        page_width, page_height = turned_size(page.turn, *stored)
        top = max(0, min(ys) - round(AROUND * height))
        bottom = min(page_height, max(ys) + round(AROUND * height))
        return 0, top, page_width, max(1, bottom - top)

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
        """All of it, turned."""
        return 0, 0, *turned_size(self.page.turn, self.page.width or 0, self.page.height or 0)

    @property
    def is_sideways(self) -> bool:
        """Whether most of its lines stand."""
        standing = sum("tall" in each.line.marks for each in self.lines)
        return 2 * standing > len(self.lines)

    @property
    def is_cuttable(self) -> bool:
        """Whether people may draw its lines: others are cut by their transcription."""
        return self.is_shown and self.page.is_detected


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


def turning(page: PageDocument) -> str:
    """Return the SVG transformation of the stored page to the turned one."""
    width, height = page.width, page.height
    of_turn = {90: f"0 1 -1 0 {height} 0", 180: f"-1 0 0 -1 {width} {height}"}
    return f"matrix({of_turn.get(page.turn, f'0 -1 1 0 0 {width}')})" if page.turn else ""


async def view_page(
    page: PageDocument, images: ImageRepository, bucket: str, person: str
) -> PageView:
    """Return a page with its current lines, whose images are in ``bucket``, for a person."""
    read = await read_lines(page, images, bucket)
    lines = [each for each in read if each.line.state == "current"]
    numbered = enumerate(lines, start=1)
    return PageView(page, [LineView(number, each, person) for number, each in numbered])


async def strip_of(
    image: ImageDocument, pages: PageRepository, images: ImageRepository, person: str
) -> Strip | None:
    """Return an image within its page, or None if it has no page with a picture."""
    page = await pages.get(image.page.id) if image.page else None
    if page is None:
        return None
    view = await view_page(page, images, image.bucket, person)
    at = next((at for at, each in enumerate(view.lines) if each.line.key == image.key), None)
    if at is None or not view.is_shown:
        return None
    nearby = view.lines[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]
    return Strip(view, view.lines[at], nearby)
