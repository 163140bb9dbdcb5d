"""Which image formats the project reads, and how it tells them apart: by content, never by name."""

from dataclasses import dataclass
from io import BytesIO

from PIL import Image


@dataclass(frozen=True)
class ImageFormat:
    """A format that both the fetcher stores and the OCR API reads."""

    pillow_name: str
    extension: str
    content_type: str


FORMATS = (
    ImageFormat("PNG", "png", "image/png"),
    ImageFormat("JPEG", "jpg", "image/jpeg"),
    ImageFormat("WEBP", "webp", "image/webp"),
    ImageFormat("TIFF", "tif", "image/tiff"),
    ImageFormat("BMP", "bmp", "image/bmp"),
    ImageFormat("GIF", "gif", "image/gif"),
)
PILLOW_NAMES = tuple(known.pillow_name for known in FORMATS)
_BY_PILLOW_NAME = {known.pillow_name: known for known in FORMATS}
_BY_PILLOW_NAME["MPO"] = _BY_PILLOW_NAME["JPEG"]  # what phones write: a JPEG with more behind it


def sniff(content: bytes) -> ImageFormat | None:
    """Return the format that the first bytes declare, or None where it is none of ours.

    Only the header is read, so a truncated image still has its format (but for WebP, which Pillow
    opens whole or not at all). Never raises on bad bytes.
    """
    try:
        with Image.open(BytesIO(content), formats=PILLOW_NAMES) as image:
            return _BY_PILLOW_NAME[image.format or ""]
    except Image.DecompressionBombError:
        return None
    except Exception:  # noqa: BLE001  Pillow raises almost anything on a hostile header
        return None
