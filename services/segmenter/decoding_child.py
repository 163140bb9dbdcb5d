"""Decode the image of a page; runs in the bounded child, which has no credentials.

One is started for each page: what it imports, each page waits for.
"""

import mmap
from collections.abc import Iterator
from typing import IO

from PIL import ExifTags

from services.common.domain.errors import PermanentError
from services.common.domain.normal_form import (
    TooManyPixelsError,
    check_cost,
    opened_image,
    to_normal_form,
)
from services.common.runtime.bounded_child import InputRefusedError

_BAND_ROWS = 512
"""Rows that are copied at once."""


def decode(
    file: IO[bytes], size: int, max_pixels: int, longest_side: int, mark: str
) -> Iterator[tuple[int, int, str]]:
    """Write the pixels of an image behind it, and yield width, height, and its description.

    Args:
        file: The image, with room for the pixels behind it. It is shared with the parent: results
            are JSON, in which an image would take several times its size.
        size: Of the image, in bytes.
        max_pixels: Limit of width times height.
        longest_side: Limit of both.
        mark: Beginning of a description (EXIF) that is wanted.

    Raises:
        InputRefusedError: Its text begins with a code.
    """
    content = file.read(size)
    try:
        with opened_image(content, max_pixels) as image:
            check_cost(image, content, max_pixels)
            if max(image.size) > longest_side:
                raise TooManyPixelsError("a side of the page", longest_side)
            image.load()
            described = image.getexif().get(ExifTags.Base.ImageDescription)
            page = to_normal_form(image)
    except PermanentError as error:
        raise InputRefusedError(f"{error.code}: {error}") from error
    width, height = page.size
    with mmap.mmap(file.fileno(), 0) as shared:
        shared.seek(size)
        for top in range(0, height, _BAND_ROWS):
            band = page.crop((0, top, width, min(height, top + _BAND_ROWS)))
            shared.write(band.tobytes())
    text = described if isinstance(described, str) else ""
    yield width, height, text if text.startswith(mark) else ""
