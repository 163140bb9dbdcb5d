"""Lines of handwriting: drawn with a font of handwriting, and badly scanned."""

from importlib.resources import as_file, files

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.support.images import encode

WORDS = ("garden", "letter", "morning", "brother", "winter", "harvest", "station", "evening")
PAPER, INK = 215, 120
SIZE = 44
"""Height of the font in pixels."""


def line_text(number: int) -> str:
    """Return the text of a line: words and a year."""
    random = np.random.default_rng(number)
    return " ".join([*random.choice(WORDS, 4), str(random.integers(1800, 1950))])


def bad_handwriting(number: int) -> bytes:
    """Return the file of a line that is pale, tilted, blurred, grainy and small."""
    random = np.random.default_rng(number)
    image = _written(line_text(number)).rotate(
        random.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, expand=True, fillcolor=PAPER
    )
    blurred = image.filter(ImageFilter.GaussianBlur(random.uniform(1.2, 1.8)))
    grain = random.normal(0.0, 22.0, (image.height, image.width))
    pixels = np.clip(np.asarray(blurred) + grain, 0, 255).astype(np.uint8)
    return encode(Image.fromarray(pixels).resize((image.width // 2, image.height // 2)))


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
