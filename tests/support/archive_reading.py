"""Reads archives one after the other, in a bounded child: what a fuzz test watches."""

import resource
import struct
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import IO

from services.fetcher.sources.archives.formats import OpenArchive
from services.fetcher.sources.archives.members import ArchiveLimits, check_size, checked
from services.fetcher.sources.archives.rows import archive_rows
from services.fetcher.sources.errors import UnreadableFileError
from services.fetcher.sources.spool import gunzipped, is_gzip

LIMITS = ArchiveLimits(members=200, decoded_bytes=4_000_000, ratio=100)
MAX_MEMBER_BYTES = 100_000
_LENGTH = struct.Struct("<L")


def packed(contents: Iterable[bytes]) -> bytes:
    """Put archives one after the other."""
    return b"".join(_LENGTH.pack(len(content)) + content for content in contents)


def outcomes(file: IO[bytes]) -> Iterator[str]:
    """Yield what became of each archive, and the most memory that reading them took, in bytes."""
    before = _memory()
    while length := file.read(_LENGTH.size):
        with BytesIO(file.read(_LENGTH.unpack(length)[0])) as content:
            try:
                yield f"read {_read(content)}"
            except UnreadableFileError as error:
                yield f"refused: {error.detail}"
    yield f"memory {_memory() - before}"


def _read(content: BytesIO) -> int:
    """List an archive, and read all its members; return how many there were."""
    size = len(content.getvalue())
    if is_gzip(content):
        whole = BytesIO()
        for piece in gunzipped(content):
            whole.write(piece)
            check_size(whole.tell(), size, LIMITS)
        content = whole
    archive = OpenArchive(content, LIMITS)
    count = len(list(archive_rows(archive, "http://x.test/a.zip", LIMITS)))
    names = [entry.name for _, entry in checked(archive.entries(), LIMITS)]
    for name in names:
        try:
            assert len(archive.read(name, max_bytes=MAX_MEMBER_BYTES)) <= MAX_MEMBER_BYTES + 1
        except UnreadableFileError:
            continue
    return count


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
