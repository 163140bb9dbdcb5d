"""The normal form of images, common to OCR engines, annotators and training tools.

It is the first frame, upright, 8-bit red, green and blue (or grey, in a file), on white. Colour
profiles are not applied: no engine and no common training tool does so.

See docs/decisions/0031-one-normal-form-of-images.md.
"""

import re
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from itertools import islice
from math import ceil
from typing import cast

from PIL import ExifTags, Image, UnidentifiedImageError

from services.common.domain.errors import PermanentError
from services.common.domain.image_formats import (
    BY_PILLOW_NAME,
    ImageFormat,
    TooManyPartsError,
    open_image,
    tile_pixels,
)

LONGEST_SIDE = 65_535
"""Pixels: the limit of JPEG, applied to the formats that have none."""
MAX_PIXELS = 80_000_000
"""Upper limit of ``OCR_MAX_IMAGE_PIXELS``."""
MAX_SCANS = 100
"""A progressive JPEG has about 10; each one costs a pass over the whole image."""
BAND_ROWS = 64
"""Pixels of a large image to downscale at a time."""

SHOWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""Content types that every browser shows."""
TRAINABLE = frozenset({"image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp"})
"""Content types that both Pillow and OpenCV read; many builds of OpenCV have no GIF."""

_START_OF_JPEG = b"\xff\xd8"
_START_OF_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""Marker with length and number of components: the video behind a phone's photo has many markers
alone (ITU-T T.81, B.2.3)."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Inverse of each EXIF orientation."""
_SIDEWAYS = frozenset({5, 6, 7, 8})
_METADATA_CHUNKS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
"""Chunks that may declare a PNG's orientation; after the pixels Pillow finds them by decoding."""
_DEEP = ("I", "F")
_PLAIN = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})
_GREY = frozenset({"1", "L", "LA", "LAB"})
_FULL_SCALES = (1.0, 255.0, 4095.0, 65535.0)
"""White level of images in fractions, 8, 12 and 16 bits: scanners store 12 bits in 16."""
_COMPRESS_LEVEL = 3
"""Of PNG files: higher levels take several times as long for a few per cent."""


class NoImageError(PermanentError):
    """The bytes are not an image of a supported format, or corrupt."""

    code = "not_an_image"


class TooManyPixelsError(PermanentError):
    """The image exceeds the limit of pixels."""

    code = "image_too_large"

    def __init__(self, what: str, max_pixels: int) -> None:
        super().__init__(
            f"{what} is larger than {max_pixels} pixels in all, or {LONGEST_SIDE} on a side"
        )


class Difference(StrEnum):
    """Reason why common readers decode a file differently than the OCR API."""

    ORIENTATION = "orientation"
    """Many readers ignore EXIF."""
    TRANSPARENCY = "transparency"
    """Most readers drop the alpha channel, so transparent areas become black."""
    DEPTH = "depth"
    """More than 8 bits: readers clip them, or divide by another number."""
    COLOURS = "colours"
    """CMYK, YCbCr or CIELAB, which each reader converts by its own formula."""
    ANIMATION = "animation"
    FORMAT = "format"
    """The reader does not know the format."""


@dataclass(frozen=True)
class NormalFile:
    """A file in which every reader sees the normal form."""

    content: bytes
    format: ImageFormat
    rewritten: Difference | None
    """Reason for not being the original file; None: it is."""


def check_cost(image: Image.Image, content: bytes, max_pixels: int) -> None:
    """Refuse images that are too expensive to decode, by the header.

    Raises:
        TooManyPixelsError: It has too many pixels.
        TooManyPartsError: It is a JPEG of too many scans.
        ValueError: It has no pixels.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise ValueError(f"the image has no pixels: {width} x {height}")
    if image.format == "WEBP":
        max_pixels //= 2  # decoding one takes 15 bytes a pixel, twice as much as others
    if width * height > max_pixels or max(width, height) > LONGEST_SIDE:
        raise TooManyPixelsError(f"{width} x {height}", max_pixels)
    if image.format in {"JPEG", "MPO"}:
        scans = islice(_START_OF_SCAN.finditer(content), MAX_SCANS + 1)
        if sum(1 for _ in scans) > MAX_SCANS:
            raise TooManyPartsError(f"the image has more than {MAX_SCANS} scans")
    if tile_pixels(image) > max_pixels:
        raise TooManyPixelsError("a tile of the image", max_pixels)


def is_sideways(image: Image.Image) -> bool:
    """Whether EXIF rotation swaps width and height."""
    return _orientation(image) in _SIDEWAYS


def is_turned(image: Image.Image) -> bool:
    """Whether an image is not upright as it is stored."""
    return _orientation(image) in _TURNS


def reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return the size of an image downscaled by a factor."""
    width, height = size
    return ceil(width / factor), ceil(height / factor)


def to_normal_form(image: Image.Image, *, factor: int = 1) -> Image.Image:
    """Return a decoded image in the normal form, mode ``RGB``."""
    flat = _flat(image, factor)
    turn = _TURNS.get(_orientation(image))
    return flat if turn is None else flat.transpose(turn)


def to_normal_file(
    content: bytes, *, readable: Container[str], max_pixels: int = MAX_PIXELS
) -> NormalFile:
    """Return the file itself if readers decode it to the normal form, otherwise a PNG of that.

    Takes up to seconds: call it in a thread.

    Args:
        content: The file.
        readable: Content types that the readers support.
        max_pixels: Largest width times height to decode.

    Raises:
        NoImageError: It is not an image, or corrupt.
        TooManyPixelsError: It has to be decoded, and is too large for that.
    """
    with opened_image(content, max_pixels) as image:
        difference = _difference(image, content, readable, max_pixels)
        if difference is None:
            return NormalFile(content, BY_PILLOW_NAME[image.format or ""], None)
        check_cost(image, content, max_pixels)
        return NormalFile(_to_png(image), BY_PILLOW_NAME["PNG"], difference)


def is_shown_alike(content: bytes) -> bool:
    """Return whether browsers show a file with the pixels that the OCR API reads.

    Takes up to seconds: call it in a thread.
    """
    try:
        with opened_image(content, MAX_PIXELS) as image:
            difference = _difference(image, content, SHOWN, MAX_PIXELS)
    except (NoImageError, TooManyPixelsError):
        return False
    is_turned_jpeg = difference is Difference.ORIENTATION and content.startswith(_START_OF_JPEG)
    return difference is None or is_turned_jpeg  # browsers apply the EXIF orientation of a JPEG


@contextmanager
def opened_image(content: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file; translate Pillow's errors."""
    try:
        with open_image(content) as image:
            yield image
    except TooManyPixelsError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError("the image", max_pixels) from error
    except UnidentifiedImageError as error:
        raise NoImageError("unsupported image format") from error
    except MemoryError:  # says nothing about the file
        raise
    except Exception as error:  # Pillow raises almost anything on a corrupt file
        raise NoImageError(f"the image is damaged: {error}"[:300]) from error


def _difference(
    image: Image.Image, content: bytes, readable: Container[str], max_pixels: int
) -> Difference | None:
    """Compare by the header if that is sufficient."""
    declared = _declared_difference(image, readable)
    if declared is not None:
        return declared
    if _is_turned(image, content, max_pixels):
        return Difference.ORIENTATION
    return _transparency(image, content, max_pixels)


def _declared_difference(image: Image.Image, readable: Container[str]) -> Difference | None:
    if BY_PILLOW_NAME[image.format or ""].content_type not in readable:
        return Difference.FORMAT
    # All readers use the first page of a TIFF, and counting pages reads the whole file
    if image.format in {"GIF", "PNG", "WEBP"} and getattr(image, "is_animated", False):
        return Difference.ANIMATION
    if image.mode.startswith(_DEEP):
        return Difference.DEPTH
    return None if image.mode in _PLAIN else Difference.COLOURS


def _is_turned(image: Image.Image, content: bytes, max_pixels: int) -> bool:
    if image.format == "PNG":
        if not any(chunk in content for chunk in _METADATA_CHUNKS):
            return False
        check_cost(image, content, max_pixels)
    return _orientation(image) in _TURNS


def _transparency(image: Image.Image, content: bytes, max_pixels: int) -> Difference | None:
    """Return whether a pixel is not opaque: many alpha channels are fully opaque."""
    if not image.has_transparency_data:
        return None
    check_cost(image, content, max_pixels)
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return None if low == 255 else Difference.TRANSPARENCY


def _to_png(image: Image.Image) -> bytes:
    image.load()
    normal = to_normal_form(image)
    if image.mode in _GREY or image.mode.startswith(_DEEP):
        normal = normal.convert("L")
    file = BytesIO()
    normal.save(file, "PNG", compress_level=_COMPRESS_LEVEL)
    return file.getvalue()


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  pixels are readable despite corrupt EXIF
        return 1
    return value if isinstance(value, int) else 1


def _flat(image: Image.Image, factor: int) -> Image.Image:
    """Return downscaled 8-bit RGB without copying a large image as a whole."""
    if image.mode.startswith(_DEEP):
        return _to_8_bits(image, factor).convert("RGB")
    if factor == 1:
        return _to_rgb(image)
    width, height = image.size
    flat = Image.new("RGB", reduced_size(image.size, factor))
    for top in range(0, height, BAND_ROWS * factor):
        band = image.crop((0, top, width, min(height, top + BAND_ROWS * factor)))
        flat.paste(_to_rgb(band).reduce(factor), (0, top // factor))
    return flat


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB on a white background."""
    if image.mode == "LAB":
        image = image.getchannel("L")
    elif image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        paper = Image.new("RGB", layer.size, "white")
        paper.paste(layer, mask=layer.getchannel("A"))
        return paper
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(image: Image.Image, factor: int) -> Image.Image:
    """Scale 16-bit, 32-bit and floating point greys; Pillow's conversion clips them."""
    deep = image if image.mode in {"I", "F"} else image.convert("I")
    scales = _FULL_SCALES if deep.mode == "F" else _FULL_SCALES[1:]
    _, brightest = cast("tuple[float, float]", deep.getextrema())
    white = next((scale for scale in scales if brightest <= scale), brightest)
    small = deep.reduce(factor) if factor > 1 else deep
    return small.point(lambda value: value * (255 / white)).convert("L")
