"""Decode the image of a page in a child process.

Decoders of images are C code on untrusted bytes: the child has neither credentials nor more memory
and time than a page may take (docs/decisions/0027-untrusted-files-in-a-child.md).
"""

import mmap
import os
from dataclasses import dataclass

import numpy as np

from services.common.domain.errors import PermanentError
from services.common.domain.image_formats import TooManyPartsError
from services.common.domain.line_images import MAX_SIDE
from services.common.domain.normal_form import NoImageError, TooManyPixelsError
from services.common.runtime.bounded_child import (
    BoundedChild,
    ChildCrashedError,
    ChildError,
    ChildLimits,
    InputRefusedError,
)
from services.segmenter.detection import Pixels
from services.segmenter.rendering import PageCostsTooMuchError
from services.segmenter.text_layer import MARK, TextLayer, from_exif

_TARGET = "services.segmenter.decoding_child:decode"
_CHANNELS = 3
_CODES = frozenset({NoImageError.code, TooManyPixelsError.code, TooManyPartsError.code})


class RefusedPageError(PermanentError):
    """The image of a page can't be decoded; ``code`` says why."""

    code = NoImageError.code

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code if code in _CODES else NoImageError.code


@dataclass(frozen=True)
class DecodingLimits:
    """Limits of the image of a page."""

    pixels: int
    seconds: int
    """Of a processor."""
    memory_bytes: int
    """Of the child, without the pixels, which are shared."""


def decode_page(content: bytes, limits: DecodingLimits) -> Pixels:
    """Decode an image; see ``decode_with_text``."""
    return decode_with_text(content, limits)[0]


def decode_with_text(content: bytes, limits: DecodingLimits) -> tuple[Pixels, TextLayer]:
    """Decode an image: first frame, upright, on white. Blocking: use a thread.

    The text layer is that of a page of a PDF, and empty for other images.

    Raises:
        RefusedPageError: It is not an image, corrupt, or too large.
        PageCostsTooMuchError: It exceeded the limit of memory or time.
    """
    bounds = ChildLimits(limits.memory_bytes, limits.seconds)
    size = len(content)
    with os.fdopen(os.memfd_create("page"), "w+b") as file:
        file.write(content)
        file.truncate(size + _CHANNELS * limits.pixels)  # where the child writes the pixels
        asked = (size, limits.pixels, MAX_SIDE, MARK)
        try:
            with BoundedChild(_TARGET, file, bounds, *asked) as child:
                width, height, described = next(child.results())
        except InputRefusedError as error:
            code, _, detail = str(error).partition(": ")
            raise RefusedPageError(code, detail) from error
        except ChildError as error:
            # Ended by an unexpected error, it is damaged; by a signal or a limit, it costs too much
            if isinstance(error, ChildCrashedError) and "exit status" not in str(error):
                raise RefusedPageError(NoImageError.code, str(error)) from error
            raise PageCostsTooMuchError(f"the page: {error}") from error
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as shared:
            count = _CHANNELS * width * height
            pixels = np.frombuffer(shared, np.uint8, count, size).copy()
    return pixels.reshape(height, width, _CHANNELS), from_exif(described)
