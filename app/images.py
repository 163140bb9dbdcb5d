"""From the bytes of a file to the pixels that an engine reads, whatever the file holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from app.errors import ImageTooLargeError, UndecodableImageError, UnsupportedMediaTypeError
from services.common.images import FORMATS, TooManyPartsError, open_image, tile_pixels

Pixels = NDArray[np.uint8]
"""Height x width x 3, red, green, blue."""

LONGEST_SIDE = 65_535
"""Pixels: the limit of JPEG, applied to the formats that have none."""
SHORT_SIDE = 384
"""Pixels: no engine sees more of a line's height, so larger images are reduced towards it."""
LONG_SIDE, LEAST_SIDE = 16_384, 96
"""Pixels: a line longer than the one is reduced too, but not below the other's height."""
BAND_ROWS = 64
"""Of a large image that are reduced at a time."""
MAX_SCANS = 100
"""A progressive JPEG has about 10; each one costs a pass over the whole image."""

_START_OF_SCAN = b"\xff\xda"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_DEEP = ("I", "F")
_SIDEWAYS = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))
_FULL_SCALES = (1.0, 255.0, 4095.0, 65535.0)
"""White in images of fractions, 8, 12 and 16 bits: scanners store 12 bits in 16."""


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
        image.draft(None, _sides(size, _reduction(size)))
        image.load()
        return _upright(image, size)


@contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file and check its header; whatever Pillow raises becomes an error of ours."""
    if not content:
        raise UndecodableImageError("the file is empty")
    try:
        with open_image(content) as image:
            _check(image, content, max_pixels)
            yield image
    except (ImageTooLargeError, UndecodableImageError):
        raise
    except TooManyPartsError as error:
        raise UndecodableImageError(str(error)) from error
    except UnidentifiedImageError as error:
        names = ", ".join(known.pillow_name for known in FORMATS)
        raise UnsupportedMediaTypeError(f"the file is none of {names}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("the image", max_pixels) from error
    except Exception as error:  # Pillow raises almost anything on a damaged file
        raise UndecodableImageError(f"the image is damaged: {error}"[:300]) from error


def _check(image: Image.Image, content: bytes, max_pixels: int) -> None:
    """Refuse what would cost too much, from the header alone."""
    width, height = image.size
    if width < 1 or height < 1:
        raise UndecodableImageError(f"the image has no pixels: {width} x {height}")
    if image.format == "WEBP":
        max_pixels //= 2  # decoding one takes 15 bytes a pixel, twice what others do
    if width * height > max_pixels or max(width, height) > LONGEST_SIDE:
        raise _too_large(f"{width} x {height}", max_pixels)
    if image.format in {"JPEG", "MPO"} and content.count(_START_OF_SCAN) > MAX_SCANS:
        raise UndecodableImageError(f"the image has more than {MAX_SCANS} scans")
    if tile_pixels(image) > max_pixels:
        raise _too_large("a tile of the image", max_pixels)


def _too_large(what: str, max_pixels: int) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"{what} is larger than {max_pixels} pixels in all, or {LONGEST_SIDE} on a side"
    )


def _upright(image: Image.Image, size: tuple[int, int]) -> LineImage:
    """Turn an image that was perhaps decoded smaller than the size that its file declares."""
    turn = _TURNS.get(_orientation(image))
    width, height = size
    if turn is not None and turn in _SIDEWAYS:
        width, height = height, width
    flat = _flat(image, _reduction(image.size))
    if turn is not None:
        flat = flat.transpose(turn)
    return LineImage(np.asarray(flat), width, height)


def _reduction(size: tuple[int, int]) -> int:
    """Return by how much an image is larger than any engine needs."""
    short, long = min(size), max(size)
    return max(1, short // SHORT_SIDE, min(long // LONG_SIDE, short // LEAST_SIDE))


def _sides(size: tuple[int, int], factor: int) -> tuple[int, int]:
    width, height = size
    return ceil(width / factor), ceil(height / factor)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    return image.reduce(factor) if factor > 1 else image


def _flat(image: Image.Image, factor: int) -> Image.Image:
    """Return 8-bit red, green, blue, reduced; a large image is never there twice as a whole."""
    if image.mode.startswith(_DEEP):
        return _to_8_bits(image, factor).convert("RGB")
    if factor == 1:
        return _to_rgb(image)
    width, height = image.size
    flat = Image.new("RGB", _sides(image.size, factor))
    for top in range(0, height, BAND_ROWS * factor):
        band = image.crop((0, top, width, min(height, top + BAND_ROWS * factor)))
        flat.paste(_to_rgb(band).reduce(factor), (0, top // factor))
    return flat


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged EXIF does not make the pixels unreadable
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit red, green, blue; what is transparent becomes white."""
    if image.mode == "LAB":
        image = image.getchannel("L")
    elif image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", layer.size, "white")
        paper.paste(layer, mask=layer.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image, factor: int) -> Image.Image:
    """Scale 16-bit, 32-bit and floating point greys; Pillow's own conversion cuts them off."""
    deep = image if image.mode in {"I", "F"} else image.convert("I")
    scales = _FULL_SCALES if deep.mode == "F" else _FULL_SCALES[1:]
    brightest = float(np.max(deep.getextrema()))
    white = next((scale for scale in scales if brightest <= scale), brightest)
    return _reduced(deep, factor).point(lambda value: value * (255 / white)).convert("L")
