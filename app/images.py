"""From the bytes of a file to the pixels that an engine reads, whatever the file holds.

See docs/decisions/0020-image-cost-limits.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.errors import ImageTooLargeError, UndecodableImageError, UnsupportedMediaTypeError
from services.common.domain.image_formats import FORMATS, TooManyPartsError, open_image
from services.common.domain.normal_form import (
    TooManyPixelsError,
    check_cost,
    is_sideways,
    reduced_size,
    to_normal_form,
)

Pixels = NDArray[np.uint8]
"""Height x width x 3, red, green, blue."""

SHORT_SIDE = 384
"""Pixels: no engine sees more of a line's height, so larger images are reduced towards it."""
LONG_SIDE, LEAST_SIDE = 16_384, 96
"""Pixels: a line longer than the one is reduced too, but not below the other's height."""


@dataclass(frozen=True)
class LineImage:
    """A decoded image of one line of text."""

    pixels: Pixels
    """Perhaps reduced (``SHORT_SIDE``)."""
    width: int
    """Pixels of the original, upright."""
    height: int
    """Pixels of the original, upright."""


def measure(content: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Return the width and height that a file declares, not yet turned upright.

    Args:
        content: The file; only its header is read.
        max_pixels: Largest width times height.

    Raises:
        UnsupportedMediaTypeError: It is in none of the formats.
        ImageTooLargeError: It has too many pixels.
        UndecodableImageError: Its header is damaged.
    """
    with _opened(content, max_pixels) as image:
        return image.size


def decode(content: bytes, *, max_pixels: int) -> LineImage:
    """Decode a file: first frame, upright, on white.

    Args:
        content: The file.
        max_pixels: Largest width times height; checked before any pixel is decoded.

    Raises:
        UnsupportedMediaTypeError: It is in none of the formats.
        ImageTooLargeError: It has too many pixels.
        UndecodableImageError: It is damaged.
    """
    with _opened(content, max_pixels) as image:
        size = image.size
        # A JPEG can be decoded at a half to an eighth of its size, in less time and memory
        image.draft(None, reduced_size(size, _reduction(size)))
        image.load()
        return _upright(image, size)


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file and check its header; whatever Pillow raises becomes an error of ours."""
    if not content:
        raise UndecodableImageError("the file is empty")
    try:
        with open_image(content) as image:
            check_cost(image, content, max_pixels)
            yield image
    except TooManyPixelsError as error:
        raise ImageTooLargeError(str(error)) from error
    except TooManyPartsError as error:
        raise UndecodableImageError(str(error)) from error
    except UnidentifiedImageError as error:
        names = ", ".join(known.pillow_name for known in FORMATS)
        raise UnsupportedMediaTypeError(f"the file is none of {names}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(str(TooManyPixelsError("the image", max_pixels))) from error
    except Exception as error:  # Pillow raises almost anything on a damaged file
        raise UndecodableImageError(f"the image is damaged: {error}"[:300]) from error


def _upright(image: Image.Image, size: tuple[int, int]) -> LineImage:
    """Turn an image that was perhaps decoded smaller than the size that its file declares."""
    width, height = reversed(size) if is_sideways(image) else size
    normal = to_normal_form(image, factor=_reduction(image.size))
    return LineImage(np.asarray(normal), width, height)


def _reduction(size: tuple[int, int]) -> int:
    """Return by how much an image is larger than any engine needs."""
    short, long = min(size), max(size)
    return max(1, short // SHORT_SIDE, min(long // LONG_SIDE, short // LEAST_SIDE))
