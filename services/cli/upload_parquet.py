"""Put images into the bucket that a Parquet file holds, as Hugging Face datasets writes it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from services.cli.errors import CommandError, ExitStatus
from services.cli.output import Output
from services.cli.upload import Candidate, Uploaded, UploadOptions, upload
from services.common.domain.tables.table import Report
from services.fetcher.lists.parquet_images import ImageRow, open_images
from services.fetcher.lists.rows import MalformedListError


async def upload_parquet(
    path: Path, text_column: str | None, output: Output, options: UploadOptions
) -> ExitStatus | None:
    """Upload all images of a Parquet file with their texts; None: it holds none, but URLs perhaps.

    Raises:
        CommandError: The file can't be read; or not all of it, and that was asked for.
        ObjectStoreUnavailableError: The bucket does not answer.
    """
    try:
        if options.strict:
            _check_strictly(path, text_column)
        report = Report()
        with path.open("rb") as file, open_images(file, text_column, report) as rows:
            if rows is None:
                return None
            refused: list[Uploaded] = []
            return await upload(_candidates(rows, refused), refused, report, output, options)
    except MalformedListError as error:
        raise CommandError(f"{path}: {error.detail}", status=ExitStatus.REFUSED) from error


def _candidates(rows: Iterator[ImageRow], refused: list[Uploaded]) -> Iterator[Candidate]:
    """Yield rows that hold an image, and note those that hold none."""
    for row in rows:
        if row.code:
            refused.append(Uploaded(row.name, "rejected", row.code))
        else:
            yield Candidate(row.name, partial(bytes, row.content), row.annotation)


def _check_strictly(path: Path, text_column: str | None) -> None:
    report = Report()
    with path.open("rb") as file, open_images(file, text_column, report) as rows:
        wrong = [f"{row.name}: {row.code}" for row in rows or () if row.code]
    if wrong:
        raise MalformedListError(f"nothing is stored (--strict): {'; '.join(wrong[:20])}")
