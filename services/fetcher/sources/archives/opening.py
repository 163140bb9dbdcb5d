"""List archives and index their members in a bounded child process.

Members are then read here by the index, at the cost of their content only.

See docs/decisions/0027-untrusted-files-in-a-child.md.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, Any

from services.common.domain.pieces import in_pieces
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.report import Report
from services.common.runtime.bounded_child import (
    BoundedChild,
    ChildError,
    ChildLimits,
    InputRefusedError,
)
from services.fetcher.sources.archives.contents import MemberReader
from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits, ArchiveRefusedError
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.errors import UnreadableFileError
from services.fetcher.sources.lists.reading import fill, pack, unpacked
from services.fetcher.sources.lists.rows import Row
from services.fetcher.sources.spool import Spool, Stop

LISTING = ChildLimits(memory_bytes=768 * 1024 * 1024, cpu_seconds=300)
"""Ground truth is in memory: 64 MiB of it, as Python's objects."""
INDEX_BYTES = 192 * 1024 * 1024
INDEX_BYTES_A_MEMBER = 512
INDEX_SECONDS = 120
RECORDS_AT_ONCE = 1000
_MODULE = "services.fetcher.sources.archives.opening"


def list_archive(
    file: IO[bytes],
    url: str,
    limits: ArchiveLimits,
    report: Report,
    options: ReadingOptions | None = None,
) -> Iterator[Row]:
    """Yield an item or a rejection for each member of an archive, read by a child process.

    Args:
        file: Has a file descriptor; not to be used until all is read.
        url: Of the archive.
        limits: Of its members.
        report: About its texts; complete after the last row.
        options: Format of its tables and texts, given by the sender.

    Raises:
        ArchiveRefusedError: The archive as a whole is refused.
    """
    said = asdict(options or ReadingOptions())
    target, bounds = f"{_MODULE}:rows_in_child", _packed(limits)
    with BoundedChild(target, file, LISTING, url, said, *bounds) as child:
        try:
            for message in child.results():
                if isinstance(message, dict):
                    fill(report, message)
                else:
                    yield from map(unpacked, message)
        except ChildError as error:
            raise ArchiveRefusedError(str(error)) from error


def index_archive(
    file: IO[bytes], limits: ArchiveLimits, spool: Spool, index: IO[bytes], stop: Stop
) -> MemberReader:
    """Return the reader of an archive, with an index made by a child process.

    Raises:
        ArchiveRefusedError: The archive as a whole is refused.
        NoSpaceError: The spool is full.
        ChildStoppedError, WorkStoppedError: ``stop`` was set.
    """
    memory_bytes = INDEX_BYTES + INDEX_BYTES_A_MEMBER * limits.members
    bounds = ChildLimits(memory_bytes, INDEX_SECONDS)
    with (
        BoundedChild(f"{_MODULE}:index_in_child", file, bounds, *_packed(limits)) as child,
        stop.calling(child.kill),
    ):
        try:
            for records in child.results():
                spool.write(index, b64decode(records))
        except ChildError as error:
            raise ArchiveRefusedError(str(error)) from error
    return MemberReader(file, index)


def rows_in_child(
    file: IO[bytes], url: str, options: dict[str, Any], *packed: int
) -> Iterator[Any]:
    """Yield batches of items and rejections, and the report; runs in the child."""
    limits, report = ArchiveLimits(*packed), Report()
    try:
        archive, said = OpenArchive(file, limits), ReadingOptions(**options)
        yield from pack(archive_rows(archive, url, limits, report, said))
    except UnreadableFileError as error:
        raise InputRefusedError(error.detail) from error
    yield asdict(report)


def index_in_child(file: IO[bytes], *packed: int) -> Iterator[str]:
    """Yield batches of index records; runs in the child."""
    try:
        records = OpenArchive(file, ArchiveLimits(*packed)).index()
        for some in in_pieces(records, RECORDS_AT_ONCE):
            yield b64encode(b"".join(some)).decode()
    except UnreadableFileError as error:
        raise InputRefusedError(error.detail) from error


def _packed(limits: ArchiveLimits) -> tuple[int, int, int]:
    return limits.members, limits.decoded_bytes, limits.ratio
