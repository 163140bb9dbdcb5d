"""Send a folder of Parquet files, such as a data set of the Hugging Face hub, as one file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from services.cli.errors import CommandError, ExitStatus
from services.common.domain.details import to_split
from services.common.domain.tables.names import is_image

ROWS_AT_ONCE = 100
SPLIT = "split"
_INDEX = re.compile("__index_level_[0-9]+__$")
"""The index of a frame of pandas, where it is no plain count."""


def parquet_files(files: Mapping[str, Path]) -> list[Path]:
    """Return the Parquet files of a folder without image files; empty for any other folder."""
    if any(map(is_image, files)):
        return []
    return [path for path in files.values() if path.suffix.lower() == ".parquet"]


@contextmanager
def merged(paths: Sequence[Path]) -> Iterator[IO[bytes]]:
    """Yield a file with the rows of several, which have the same columns.

    The index of pandas is left out. Where there is no column of splits, the files' names say them:
    ``train-00000-of-00002.parquet``.

    Raises:
        CommandError: One of them can't be read, or has other columns.
    """
    with TemporaryFile() as file:
        _merge(paths, file)
        file.seek(0)
        yield file


def _merge(paths: Sequence[Path], file: IO[bytes]) -> None:
    # Imported here, as it takes long to load
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    splits = [to_split(path.name.partition(".")[0].partition("-")[0]) for path in paths]
    with ExitStack() as stack:
        writer: parquet.ParquetWriter | None = None
        for path, split in zip(paths, splits, strict=True):
            try:
                with parquet.ParquetFile(path) as source:
                    for batch in source.iter_batches(ROWS_AT_ONCE):
                        table = pa.Table.from_batches([batch])
                        index = [each for each in table.column_names if _INDEX.match(each)]
                        table = table.drop_columns(index)
                        if any(splits) and SPLIT not in table.column_names:
                            column = pa.repeat(pa.scalar(split, pa.string()), len(table))
                            table = table.append_column(SPLIT, column)
                        if writer is None:
                            writer = stack.enter_context(parquet.ParquetWriter(file, table.schema))
                        here, first = {*table.column_names}, {*writer.schema.names}
                        if here != first:
                            more, less = sorted(here - first), sorted(first - here)
                            detail = f"it has {more} more and {less} less than {paths[0].name}"
                            raise pa.ArrowInvalid(detail)
                        writer.write_table(table.select(writer.schema.names).cast(writer.schema))
            except (OSError, pa.ArrowException) as error:
                raise CommandError(
                    f"{path}: {error}",
                    status=ExitStatus.REFUSED,
                    hint="The Parquet files of a folder need the same columns.",
                ) from error
