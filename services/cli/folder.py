"""Pack a folder into a tar while it is sent: the fetcher reads it as it reads any archive."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from services.cli.errors import CommandError, ExitStatus
from services.common.domain.image_formats import begins_as_image
from services.common.domain.packing import END, tar_member
from services.common.domain.tables.names import is_image

MAX_FILE_BYTES = 64 * 1024 * 1024
"""More than is read of any file: of a larger one just enough is sent for it to be refused."""
_BEGINNING_BYTES = 64
_SENT_WHOLE = frozenset({".txt", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet"})


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their paths in it; no links, none that is hidden.

    Raises:
        CommandError: One of them, or a folder, can't be read.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename), str(error.strerror)) from error

    found: dict[str, Path] = {}
    for top, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(top, name) for name in names if not name.startswith(".")):
            if path.is_symlink() or not path.is_file():
                continue
            if not os.access(path, os.R_OK):
                raise _unreadable(path, "it may not be read")
            found[_readable(path.relative_to(folder))] = path
    return dict(sorted(found.items()))


async def packed(files: dict[str, Path]) -> AsyncIterator[bytes]:
    """Yield a tar of files; the same files give the same bytes.

    Raises:
        CommandError: One of them can't be read any more.
    """
    pieces = tar_pieces(files)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def tar_pieces(files: dict[str, Path]) -> Iterator[bytes]:
    """Yield a tar of files, one in a piece."""
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                content = file.read(_BEGINNING_BYTES)
                # of what is neither image nor text, enough to tell that it is none
                if is_image(name) or path.suffix.lower() in _SENT_WHOLE or begins_as_image(content):
                    content += file.read(MAX_FILE_BYTES)
        except OSError as error:
            raise _unreadable(path, str(error.strerror)) from error
        yield tar_member(name, content)
    yield END


def _readable(path: Path) -> str:
    """Return a path as text, also where it has bytes that are none."""
    return os.fsencode(path).decode(errors="replace")


def _unreadable(path: Path, why: str) -> CommandError:
    return CommandError(
        f"{path}: {why}",
        status=ExitStatus.REFUSED,
        hint="Nothing was sent. Make it readable, or take it out of the folder.",
    )
