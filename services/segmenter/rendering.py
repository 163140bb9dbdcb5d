"""Render a PDF, or a TIFF of several pages, to images in a child process.

PDFium runs no JavaScript and loads no URLs. Documents may take any memory and time, so each is
rendered by a bounded child process:
docs/decisions/0027-untrusted-files-in-a-child.md.
"""

import base64
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from services.common.domain.errors import PermanentError
from services.common.domain.image_formats import is_pdf
from services.common.domain.normal_form import TooManyPixelsError
from services.common.runtime.bounded_child import (
    BoundedChild,
    ChildCrashedError,
    ChildLimitError,
    ChildLimits,
    InputRefusedError,
)

_TARGET = "services.segmenter.rendering_child:render"
_BYTES_PER_PIXEL = 4
"""Size of a result: incompressible RGB in Base64."""
_LEAST_RESULT_BYTES = 1024 * 1024


class UnreadableDocumentError(PermanentError):
    """The PDF or TIFF is corrupt."""

    code = "unreadable_document"


class EncryptedPdfError(PermanentError):
    """The PDF needs a password."""

    code = "encrypted_pdf"


class TooManyPagesError(PermanentError):
    """The document exceeds the limit of pages."""

    code = "too_many_pages"


class PageCostsTooMuchError(PermanentError):
    """A page exceeds its limit of memory or time."""

    code = "page_costs_too_much"


_REFUSALS: dict[str, type[PermanentError]] = {
    **{error.code: error for error in (EncryptedPdfError, TooManyPagesError)},
    TooManyPixelsError.code: PageCostsTooMuchError,
}


@dataclass(frozen=True)
class RenderingLimits:
    """Limits of a document."""

    pages: int
    pixels: int
    """Of a page; a PDF's are rendered smaller, a TIFF's refused."""
    dots_per_inch: int
    seconds: int
    """Of a processor, for each page."""
    document_seconds: int
    """Of a processor, for all of it, however many children render it."""
    memory_bytes: int
    text: bool = True
    """Whether the text layer of a PDF is read."""


class RenderedPage(NamedTuple):
    """A page as an image."""

    number: int
    """From 1."""
    content: bytes
    """WebP."""
    seconds: float
    """CPU time of the child so far."""


@dataclass
class Rendering:
    """An open document."""

    pages: int
    """Of all of it."""
    each: Iterator[RenderedPage]
    """Those that were asked for. Raises the errors of ``open_document``."""


def is_document(content: bytes) -> bool:
    """Return whether a file may have several pages."""
    return is_pdf(content) or is_tiff(content)


def is_tiff(content: bytes) -> bool:
    """Return whether a file is a TIFF."""
    return content[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}


@contextmanager
def open_document(
    content: bytes, limits: RenderingLimits, *, first: int = 1, used: float = 0.0
) -> Iterator[Rendering]:
    """Read a document in a child process for a ``with`` block. Blocking: use a thread.

    Args:
        content: The file.
        limits: Of the document.
        first: Number of the first page to render.
        used: Seconds that the pages before it took.

    Raises:
        UnreadableDocumentError: It is corrupt.
        EncryptedPdfError: It needs a password.
        TooManyPagesError: It has too many pages.
        PageCostsTooMuchError: A page exceeded the limits, or all of it.
    """
    left = limits.document_seconds - math.ceil(used)
    if left < 1:
        raise PageCostsTooMuchError(
            f"document: rendering it takes more than {limits.document_seconds} s of CPU time"
        )
    bounds = ChildLimits(
        memory_bytes=limits.memory_bytes,
        cpu_seconds=left,
        max_result_bytes=_LEAST_RESULT_BYTES + _BYTES_PER_PIXEL * limits.pixels,
    )
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        with BoundedChild(_TARGET, file, bounds, first, asdict(limits)) as child:
            results = child.results()
            with _errors("document"):
                pages: int = next(results)["pages"]
            yield Rendering(pages, _pages(results, first))


def _pages(results: Iterator[dict[str, Any]], first: int) -> Iterator[RenderedPage]:
    number = first
    while True:
        with _errors(f"page {number}"):
            result = next(results, None)
        if result is None:
            return
        yield RenderedPage(number, base64.b64decode(result["webp"]), result["seconds"])
        number += 1


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except InputRefusedError as error:
        code, _, detail = str(error).partition(": ")
        raise _REFUSALS.get(code, UnreadableDocumentError)(f"{what}: {detail}") from error
    except ChildLimitError as error:
        raise PageCostsTooMuchError(f"{what}: {error}") from error
    except ChildCrashedError as error:
        if "exit status" in str(error):  # ended by a signal: PDFium aborts where memory ends
            raise PageCostsTooMuchError(f"{what}: {error}") from error
        raise UnreadableDocumentError(f"{what}: {error}") from error
