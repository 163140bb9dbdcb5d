"""Lines of handwriting: drawn with a font of handwriting, and badly scanned."""

from importlib.resources import as_file, files

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.support.images import encode

WORDS = (
    "after arrived autumn because before bread brother candle chapel church cousin daughter doctor "
    "evening farm father field garden grain harvest horse house July kitchen letter market meadow "
    "mill money morning mother neighbour night October orchard paid quarter river road school "
    "Sunday sister station summer table thirty village water weather winter yesterday"
)
PAPER, INK = 215, 120
SIZE = 44
"""Height of the font in pixels."""


def line_text(number: int) -> str:
    """Return the text of a line: words and a year."""
    random = np.random.default_rng(number)
    return " ".join([*random.choice(WORDS.split(), 4), str(random.integers(1800, 1950))])


def handwriting(number: int, *, damage: float = 1.0) -> bytes:
    """Return the file of a line that is pale, tilted, blurred, grainy and small.

    Args:
        number: Of the line; each has a text and faults of its own.
        damage: From 0, clean, to 1, hardly legible.
    """
    random = np.random.default_rng(number)
    image = _written(line_text(number)).rotate(
        random.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER
    )
    blurred = image.filter(ImageFilter.GaussianBlur(damage * random.uniform(1.2, 1.8)))
    grain = random.normal(0.0, damage * 22.0, (image.height, image.width))
    pixels = np.clip(np.asarray(blurred) + grain, 0, 255).astype(np.uint8)
    size = [round(side * (1 - damage / 2)) for side in image.size]
    return encode(Image.fromarray(pixels).resize((size[0], size[1])))


def _written(text: str) -> Image.Image:
    with as_file(files("fontpkg_zeyada") / "files" / "Zeyada.ttf") as path:
        # The basic layout is in every build of Pillow; the other one depends on the system
        font = ImageFont.truetype(path, SIZE, layout_engine=ImageFont.Layout.BASIC)
        left, top, right, bottom = font.getbbox(text)
    margin = SIZE // 3
    size = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    image = Image.new("L", size, PAPER)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, INK, font)
    return image
