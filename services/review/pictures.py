"""Convert images for browsers.

See docs/decisions/0019-images-through-the-review-page.md.
"""

from dataclasses import dataclass

from services.common.domain.errors import PermanentError
from services.common.domain.normal_form import (
    SHOWN,
    NoImageError,
    TooManyPixelsError,
    to_normal_file,
)

MAX_PIXELS = 25_000_000
"""Limit of the OCR API."""


class NotShownError(PermanentError):
    """The object is not an image, or can't be converted."""

    code = "not_an_image"


@dataclass(frozen=True)
class Picture:
    """Bytes for a browser."""

    content: bytes
    content_type: str
    """Of the bytes, not the object's."""


def to_picture(content: bytes) -> Picture:
    """Return an image for a browser, with the pixels that the OCR API reads.

    Images that browsers show differently are converted to PNG. Blocking: call it in a thread.

    Raises:
        NotShownError: It can't be shown.
    """
    try:
        file = to_normal_file(content, readable=SHOWN, max_pixels=MAX_PIXELS)
    except (NoImageError, TooManyPixelsError) as error:
        raise NotShownError(str(error)) from error
    return Picture(file.content, file.format.content_type)
