"""Render a PDF or TIFF; runs in the bounded child, which has no credentials.

Results: ``{"pages": n}``, then ``{"webp": …, "seconds": …}`` of each page.
"""

import base64
import math
import resource
from collections.abc import Iterator
from io import BytesIO
from typing import IO, Any, Protocol

import pypdfium2
from PIL import Image

from services.common.domain.errors import PermanentError
from services.common.domain.normal_form import check_cost, opened_image, to_normal_form
from services.common.runtime.bounded_child import InputRefusedError
from services.segmenter.rendering import RenderingLimits, is_tiff
from services.segmenter.text_layer import NO_TEXT, TextLayer, to_exif
from services.segmenter.text_layer_child import read_layer

POINTS_PER_INCH = 72
LONGEST_SIDE = 16_383
"""Pixels: WebP has no larger images."""
_PASSWORD = 4
"""FPDF_ERR_PASSWORD of PDFium's fpdfview.h."""


def render(file: IO[bytes], first: int, limits: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the number of pages, and then each from ``first`` on.

    Args:
        file: A PDF or TIFF.
        first: Number of the first page to render.
        limits: ``RenderingLimits``.

    Raises:
        InputRefusedError: Its text begins with a code.
    """
    bounds = RenderingLimits(**limits)
    content = file.read()
    try:
        pages: _Pages = (_TiffPages if is_tiff(content) else _PdfPages)(content, bounds)
        if len(pages) > bounds.pages:
            raise InputRefusedError(f"too_many_pages: more than {bounds.pages} pages")
        yield {"pages": len(pages)}
        for number in range(first, len(pages) + 1):
            _allow(bounds.seconds)
            image = BytesIO()
            picture, layer = pages.read(number)
            picture.save(image, "WEBP", lossless=True, quality=0, method=0, exif=to_exif(layer))
            webp = base64.b64encode(image.getvalue()).decode()
            yield {"webp": webp, "seconds": _used_seconds()}
    except PermanentError as error:
        if isinstance(error, InputRefusedError):
            raise
        raise InputRefusedError(f"{error.code}: {error}") from error


def _used_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _allow(seconds: int) -> None:
    """Raise the limit of CPU time by some seconds."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(_used_seconds()) + seconds
    # SIGXCPU tells of the limit, and SIGKILL, at the hard one, does not
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, most - 1), most))


class _Pages(Protocol):
    def __len__(self) -> int: ...

    def read(self, number: int) -> tuple[Image.Image, TextLayer]: ...


class _PdfPages:
    def __init__(self, content: bytes, limits: RenderingLimits) -> None:
        self._limits = limits
        try:
            self._document = pypdfium2.PdfDocument(content)
        except pypdfium2.PdfiumError as error:
            if getattr(error, "err_code", None) == _PASSWORD:
                raise InputRefusedError("encrypted_pdf: a password is needed") from error
            raise InputRefusedError(f"unreadable_document: {error}") from error

    def __len__(self) -> int:
        return len(self._document)

    def read(self, number: int) -> tuple[Image.Image, TextLayer]:
        """Render a page, at a lower resolution if it would be too large, and read its text."""
        try:
            page = self._document[number - 1]
            width, height = page.get_size()
            scale = self._limits.dots_per_inch / POINTS_PER_INCH
            scale = min(scale, LONGEST_SIDE / max(width, height, 1))
            scale = min(scale, math.sqrt(self._limits.pixels / max(width * height, 1)))
            image: Image.Image = page.render(scale=scale).to_pil()
        except pypdfium2.PdfiumError as error:
            raise InputRefusedError(f"unreadable_document: {error}") from error
        if not self._limits.text:
            return image.convert("RGB"), NO_TEXT
        _allow(self._limits.seconds)
        return image.convert("RGB"), read_layer(self._document, page, image.size)


class _TiffPages:
    def __init__(self, content: bytes, limits: RenderingLimits) -> None:
        self._content = content
        self._max_pixels = limits.pixels
        self._pages = self._count(limits.pages + 1)

    def __len__(self) -> int:
        return self._pages

    def read(self, number: int) -> tuple[Image.Image, TextLayer]:
        """Decode a page, downscaled to WebP's limit."""
        with opened_image(self._content, self._max_pixels) as image:
            image.seek(number - 1)
            check_cost(image, self._content, self._max_pixels)
            image.load()
            factor = math.ceil(max(image.size) / LONGEST_SIDE)
            return to_normal_form(image, factor=factor), NO_TEXT

    def _count(self, most: int) -> int:
        """Count pages one by one: Pillow's own count has no limit."""
        with opened_image(self._content, self._max_pixels) as image:
            for number in range(1, most):
                try:
                    image.seek(number)
                except EOFError:
                    return number
            return most
