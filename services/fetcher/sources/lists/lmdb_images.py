"""Read images from LMDB, in the layout of deep-text-recognition-benchmark and PARSeq.

Keys are ``num-samples``, and ``image-%09d`` and ``label-%09d`` from 1. The library maps the file
into memory and trusts it: a damaged one may kill the process, which is a bounded child.
"""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from services.common.domain.sizes import MAX_IMAGE_BYTES
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.common.runtime.bounded_child import BoundedChild, ChildLimits, InputRefusedError
from services.fetcher.sources.lists.parquet import results_of
from services.fetcher.sources.lists.parquet_images import ImageRow, image_rows

LIMITS = ChildLimits(256 * 1024 * 1024, cpu_seconds=600, max_result_bytes=2 * MAX_IMAGE_BYTES)
"""Pages of the file that are mapped do not count as memory of the child's own."""
_TARGET = "services.fetcher.sources.lists.lmdb_images:rows_in_child"
_INPUT = "/proc/self/fd/0"


@contextmanager
def open_lmdb(
    file: IO[bytes], options: ReadingOptions, report: Report
) -> Iterator[Iterator[ImageRow]]:
    """Yield the images of a database, for a ``with`` block.

    Args:
        file: Has a file descriptor; not to be used inside the block.
        options: Whether its images are pages.
        report: Complete after the last row.

    Raises:
        MalformedListError: It can't be read, or has another layout; also while reading rows.
    """
    with BoundedChild(_TARGET, file, LIMITS) as child:
        yield image_rows(results_of(child, "LMDB"), report, pages=options.pages)


def rows_in_child(_: IO[bytes]) -> Iterator[Any]:
    """Yield each sample, as of a Parquet file; runs in the child.

    Raises:
        InputRefusedError: It is damaged, or has another layout.
    """
    import lmdb  # noqa: PLC0415  only the child loads what trusts the file

    try:
        with (
            lmdb.open(_INPUT, subdir=False, readonly=True, lock=False, readahead=False) as opened,
            opened.begin(buffers=True) as samples,
        ):
            count = bytes(samples.get(b"num-samples", b"")).decode("ascii", "replace")
            if not count.isdigit():
                raise InputRefusedError("it has no number of samples (num-samples)")
            for number in range(1, int(count) + 1):
                yield _sample(number, samples)
    except lmdb.Error as error:
        raise InputRefusedError(str(error)) from error


def _sample(number: int, samples: Any) -> tuple[Any, ...]:
    """Return number, name, image in base64, text, and the code of an error, if any."""
    name = f"image-{number:09d}"
    image, label = samples.get(name.encode()), samples.get(b"label-%09d" % number)
    if image is None or len(image) > MAX_IMAGE_BYTES:
        return number, name, "", None, "too_large" if image else "no_image_bytes", {}, ""
    try:
        text = None if label is None else bytes(label).decode()
    except UnicodeDecodeError:
        return number, name, "", None, "invalid_annotation", {}, ""
    return number, name, b64encode(image).decode(), text, "", {}, ""
