"""Decode an untrusted image file into the pixels that an engine reads.

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
"""Height x width x RGB."""

SHORT_SIDE = 384
"""Pixels: larger images are downscaled towards it, as engines use less of a line's height."""
LONG_SIDE, LEAST_SIDE = 16_384, 96
"""Pixels: longer lines are downscaled too, but not below the second's height."""


@dataclass(frozen=True)
class LineImage:
    """A decoded image of one line of text."""

    pixels: Pixels
    """Perhaps downscaled (``SHORT_SIDE``)."""
    width: int
    """Pixels of the original, upright."""
    height: int
    """Pixels of the original, upright."""


def measure(content: bytes, *, max_pixels: int) -> tuple[int, int]:
    """Return the declared width and height, before EXIF rotation.

    Raises:
        UnsupportedMediaTypeError: The format is not supported.
        ImageTooLargeError: It has too many pixels.
        UndecodableImageError: Its header is corrupt.
    """
    with _opened(content, max_pixels) as image:
        return image.size


def decode(content: bytes, *, max_pixels: int) -> LineImage:
    """Decode a file: first frame, upright, on white.

    Args:
        content: The file.
        max_pixels: Largest width times height; checked before any pixel is decoded.

    Raises:
        UnsupportedMediaTypeError: The format is not supported.
        ImageTooLargeError: It has too many pixels.
        UndecodableImageError: It is corrupt.
    """
    with _opened(content, max_pixels) as image:
        size = image.size
        # A JPEG can be decoded at a half to an eighth of its size, in less time and memory
        image.draft(None, reduced_size(size, _reduction(size)))
        image.load()
        return _upright(image, size)


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file and check its header; translate Pillow's errors."""
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
        raise UnsupportedMediaTypeError(f"image format is not one of {names}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(str(TooManyPixelsError("the image", max_pixels))) from error
    except Exception as error:  # Pillow raises almost anything on a corrupt file
        raise UndecodableImageError(f"the image is corrupt: {error}"[:300]) from error


def _upright(image: Image.Image, size: tuple[int, int]) -> LineImage:
    """Rotate an image upright; it may have been decoded smaller than its declared size."""
    width, height = reversed(size) if is_sideways(image) else size
    normal = to_normal_form(image, factor=_reduction(image.size))
    return LineImage(np.asarray(normal), width, height)


def _reduction(size: tuple[int, int]) -> int:
    """Return the factor by which an image is larger than any engine needs."""
    short, long = min(size), max(size)
    return max(1, short // SHORT_SIDE, min(long // LONG_SIDE, short // LEAST_SIDE))
