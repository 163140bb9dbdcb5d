"""Supported image formats, detected by content."""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image
from typing_extensions import override

from services.common.domain.errors import PermanentError

MAX_READS = 30_000
"""Limit of segments of a file: 20 MB of empty ones take Pillow 10 s and 700 MB."""
MAX_TAGS = 4_000
"""Entries of a TIFF's directory; real ones have some dozens."""

_TILE_WIDTH, _TILE_LENGTH = 322, 323
"""Tags of TIFF 6.0, section 15."""
_RAW = frozenset({1, 2, 7})
"""Types that Pillow does not unpack (bytes, text): a colour profile may be long."""


class TooManyPartsError(PermanentError):
    """The file has more segments than any real image."""

    code = "too_many_parts"

    def __init__(self, detail: str = f"the file has more than {MAX_READS} parts") -> None:
        super().__init__(detail)


@dataclass(frozen=True)
class ImageFormat:
    """A format that both the fetcher stores and the OCR API reads."""

    pillow_name: str
    extension: str
    content_type: str


PDF_MARK = b"%PDF-"
PDF_START_BYTES = 1024
PDF_REFUSED = "a PDF is no line of text: submit it as pages (--pages; over HTTP: pages=true)"
_MARKS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FORMATS = (
    ImageFormat("PNG", "png", "image/png"),
    ImageFormat("JPEG", "jpg", "image/jpeg"),
    ImageFormat("WEBP", "webp", "image/webp"),
    ImageFormat("TIFF", "tif", "image/tiff"),
    ImageFormat("BMP", "bmp", "image/bmp"),
    ImageFormat("GIF", "gif", "image/gif"),
)
PDF = ImageFormat("PDF", "pdf", "application/pdf")
"""Only pages may be of this format."""
CONTENT_TYPES = tuple(known.content_type for known in FORMATS)
PILLOW_NAMES = tuple(known.pillow_name for known in FORMATS)
BY_EXTENSION = {known.extension: known for known in FORMATS}
BY_PILLOW_NAME = {known.pillow_name: known for known in FORMATS}
BY_PILLOW_NAME["MPO"] = BY_PILLOW_NAME["JPEG"]  # written by phones: a JPEG with appended data


class _File(BytesIO):
    """A file in memory with a limited number of reads."""

    _reads = 0

    @override
    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > MAX_READS:
            raise TooManyPartsError
        return super().read(size)


def begins_as_image(start: bytes) -> bool:
    """Return whether a file may be an image by its first bytes, cheaper than ``sniff``."""
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_bmp = start[:2] == b"BM" and start[6:10] == bytes(4)
    return start.startswith(_MARKS) or is_webp or is_bmp


def is_pdf(start: bytes) -> bool:
    """Return whether a file is a PDF by its first bytes; it may have any bytes before its header.

    See "Adobe Supplement to ISO 32000", appendix H, note 13.
    """
    return PDF_MARK in start[:PDF_START_BYTES] and not begins_as_image(start)


def sniff_page(content: bytes) -> ImageFormat | None:
    """Return the format of a page: a PDF, or an image; None if it is not supported."""
    return PDF if is_pdf(content) else sniff(content)


def sniff(content: bytes) -> ImageFormat | None:
    """Return the format declared by the header, or None if it is not supported.

    A truncated image still has its format (except WebP, which Pillow opens only when complete).
    Never raises on bad bytes; a header of too many parts has no format.
    """
    try:
        with open_image(content) as image:
            return BY_PILLOW_NAME[image.format or ""]
    except Exception:  # noqa: BLE001  Pillow raises almost anything on a hostile header
        return None


def open_image(content: bytes) -> Image.Image:
    """Open an untrusted image: the header now, pixels when loaded, with a common limit of reads.

    Raises:
        TooManyPartsError: It has more than ``MAX_READS`` parts; so may ``load`` raise.
        PIL.UnidentifiedImageError: The format is not supported.
        Exception: Pillow raises almost anything on a corrupt file.
    """
    _check_directory(content)
    return Image.open(_File(content), formats=PILLOW_NAMES)


def tile_pixels(image: Image.Image) -> int:
    """Return the pixels of a TIFF's tile, which are declared independently of the image's size."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_TILE_WIDTH, 1)) * int(tags.get(_TILE_LENGTH, 1))


def _check_directory(content: bytes) -> None:
    """Refuse a TIFF if its first directory (TIFF 6.0, section 2), or a list in it, is too long.

    Pillow unpacks both when it opens the file: 2 million strips take it 7 s and 700 MB.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return
    is_big = content[2:4] in {b"\x2b\0", b"\0\x2b"}  # BigTIFF: 64-bit counts and offsets
    position, count, entry = ("Q", "Q", "HHQ8x") if is_big else ("L", "H", "HHL4x")
    try:
        (first,) = struct.unpack_from(order + position, content, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, content, first)
        start = first + struct.calcsize(order + count)
        listed = content[
            start : start + min(entries, MAX_TAGS + 1) * struct.calcsize(order + entry)
        ]
        rows = struct.iter_unpack(order + entry, listed)
        values = [number for _, kind, number in rows if kind not in _RAW]
    except (struct.error, OverflowError):
        return  # corrupt: Pillow reports it
    # Pillow does not unpack more values than the file has bytes
    if len(listed) > MAX_TAGS * struct.calcsize(order + entry) or any(
        MAX_READS < value <= len(content) for value in values
    ):
        raise TooManyPartsError
