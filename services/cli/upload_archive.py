"""Put the images of an archive on this machine into the bucket, with the fetcher's own guards."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output
from services.cli.upload import MAX_IMAGE_BYTES, Candidate, Uploaded, UploadOptions, upload
from services.common.domain.tables.table import Report
from services.common.runtime.stoppable import Stop
from services.fetcher.archives.addresses import is_archive_path, split_member
from services.fetcher.archives.contents import MemberReader
from services.fetcher.archives.opening import index_archive, list_archive
from services.fetcher.archives.settings import ArchiveSettings
from services.fetcher.archives.unpacking import check_size, unzipped
from services.fetcher.lists.rows import Item, MalformedListError, Row
from services.fetcher.spool import NoSpaceError, Spool


def is_archive(source: str) -> bool:
    """Return whether a path is that of an archive on this machine."""
    return is_archive_path(source) and Path(source).is_file()


async def upload_archive(path: Path, output: Output, options: UploadOptions) -> ExitStatus:
    """Upload all images of an archive with their texts; show what was not taken, and why.

    Raises:
        CommandError: The archive as a whole is refused.
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    settings = ArchiveSettings()
    report = Report()
    with _opened(path, settings, report) as (rows, archive):

        def read(member: str) -> bytes:
            return archive.read(member, max_bytes=MAX_IMAGE_BYTES)

        candidates, refused = [], []
        for row in rows:
            if isinstance(row, Item):
                _, member = split_member(row.url)
                candidates.append(Candidate(member, partial(read, member), row.annotation))
            else:
                refused.append(Uploaded(row.value, "rejected", row.code))
        total = len(candidates)
        return await upload(candidates, refused, report, output, options, total=total)


@contextmanager
def _opened(
    path: Path, settings: ArchiveSettings, report: Report
) -> Iterator[tuple[list[Row], MemberReader]]:
    """Give the rows of an archive, and what reads its members."""
    spool, limits = Spool(settings.max_spool_bytes), settings.limits
    with ExitStack() as stack:
        try:
            size = path.stat().st_size
            if size > settings.max_archive_bytes:
                raise _refused(path, f"it has more than {settings.max_archive_bytes} bytes")
            packed = stack.enter_context(path.open("rb"))
            file = unzipped(packed, spool, lambda _, so_far: check_size(so_far, size, limits))
            stack.callback(spool.discard, file)
            index = stack.enter_context(spool.file())
            rows = list(list_archive(file, "", limits, report))
            reader = index_archive(file, limits, spool, index, Stop())
        except OSError as error:
            raise _refused(path, str(error.strerror)) from error
        except (MalformedListError, NoSpaceError) as error:
            raise _refused(path, error.detail) from error
        yield rows, reader


def _refused(path: Path, detail: str) -> CommandError:
    return CommandError(
        f"{path}: {detail}",
        status=ExitStatus.REFUSED,
        hint="Unpack it, and submit the folder; its limits are settings FETCHER_MAX_ARCHIVE_….",
    )
