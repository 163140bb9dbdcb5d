"""Pages of text whose lines are known."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont

LEFT_LINES = (
    "The first line of the page",
    "and the second one below it",
    "a third to have a paragraph",
)
RIGHT_LINES = ("Another column begins", "and ends with this line")
WIDTH, HEIGHT = 1500, 800
FONT_SIZE = 40
_LEADING = 90
_LEFT, _RIGHT, _TOP = 100, 850, 120


def draw_page(
    left: Sequence[str] = LEFT_LINES, right: Sequence[str] = RIGHT_LINES, *, degrees: float = 0.0
) -> Image.Image:
    """Draw two columns of text, turned counter-clockwise around the middle of the page."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(FONT_SIZE)
    for x, column in ((_LEFT, left), (_RIGHT, right)):
        for number, text in enumerate(column):
            draw.text((x, _TOP + number * _LEADING), text, fill="black", font=font)
    return page.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor="white")


def line_boxes() -> dict[str, list[int]]:
    """Return the corners of each line of an upright page, by its text."""
    font, boxes = ImageFont.load_default(FONT_SIZE), {}
    for x, column in ((_LEFT, LEFT_LINES), (_RIGHT, RIGHT_LINES)):
        for number, text in enumerate(column):
            left, top, right, bottom = map(round, font.getbbox(text))
            left, right = left + x, right + x
            top, bottom = (side + _TOP + number * _LEADING for side in (top, bottom))
            boxes[text] = [left, top, right, top, right, bottom, left, bottom]
    return boxes


def page_file(
    left: Sequence[str] = LEFT_LINES,
    right: Sequence[str] = RIGHT_LINES,
    *,
    form: str = "PNG",
    turned: bool = False,
) -> bytes:
    """Draw two columns of text into a file; ``turned``: upright by EXIF alone."""
    file, page, exif = BytesIO(), draw_page(left, right), Image.Exif()
    if turned:
        page, exif[ExifTags.Base.Orientation] = page.transpose(Image.Transpose.ROTATE_90), 6
    page.save(file, form, exif=exif)
    return file.getvalue()


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return an image as the segmenter takes it."""
    return np.asarray(image.convert("RGB"))
