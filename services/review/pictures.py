"""An image as a browser can show it.

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
"""As many as the OCR API reads."""


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
    """Return an image for a browser, with the pixels that the OCR API reads.

    What browsers would show differently, or not at all, becomes PNG. It may block for long.

    Raises:
        NotShownError: It is none.
    """
    try:
        file = to_normal_file(content, readable=SHOWN, max_pixels=MAX_PIXELS)
    except (NoImageError, TooManyPixelsError) as error:
        raise NotShownError(str(error)) from error
    return Picture(file.content, file.format.content_type)
