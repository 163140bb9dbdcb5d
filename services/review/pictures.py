"""An image as a browser can show it."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from services.common.errors import PermanentError
from services.common.images import open_image, sniff, tile_pixels

MAX_PIXELS = 25_000_000
"""As many as the OCR API reads."""
SHOWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""What every browser shows as it is; the others are converted."""


class NotShownError(PermanentError):
    """The object is no image, or can't be converted."""

    code = "not_an_image"


@dataclass(frozen=True)
class Picture:
    """Bytes for a browser."""

    content: bytes
    content_type: str
    """Of what the bytes are, whatever the object's own says."""


def to_picture(content: bytes) -> Picture:
    """Return an image for a browser: TIFF and BMP become PNG. It may block for long.

    Raises:
        NotShownError: It is none.
    """
    known = sniff(content)
    if known is None:
        raise NotShownError("the object is not an image in one of our formats")
    if known.content_type in SHOWN:
        return Picture(content, known.content_type)
    try:
        with open_image(content) as image:
            _check(image)
            file = BytesIO()
            _to_8_bits(image).save(file, "PNG", compress_level=1)
    except NotShownError:
        raise
    except Exception as error:  # Pillow raises almost anything on a damaged file
        raise NotShownError(f"the image is damaged: {error}"[:300]) from error
    return Picture(file.getvalue(), "image/png")


def _check(image: Image.Image) -> None:
    if max(image.width * image.height, tile_pixels(image)) > MAX_PIXELS:
        raise NotShownError(f"the image has more than {MAX_PIXELS} pixels")


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts off what is over 255
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image if image.mode in {"1", "L", "RGB", "RGBA"} else image.convert("RGB")
