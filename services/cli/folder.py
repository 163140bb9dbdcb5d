"""Stream a folder as a tar archive to the fetcher."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from services.cli.errors import CommandError, ExitStatus
from services.common.domain.image_formats import PDF, begins_as_image
from services.common.domain.packing import END, tar_member
from services.common.domain.tables.names import is_image

MAX_FILE_BYTES = 101 * 1024 * 1024
"""Above all limits of the fetcher: larger files are truncated to it, and refused."""
_BEGINNING_BYTES = 64
_SENT_WHOLE = frozenset(
    {
        *(".txt", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".xml"),
        *(".yml", ".yaml"),
    }
)


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by relative path, without links and hidden files.

    Raises:
        CommandError: One of them, or a folder, can't be read, or has the name of another one.
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
                raise _unreadable(path, "permission denied")
            if (name := readable(path.relative_to(folder))) in found:
                raise _unreadable(path, "its name is not UTF-8, and reads as another one's")
            found[name] = path
    return dict(sorted(found.items()))


async def packed(files: dict[str, Path], *, documents: bool = False) -> AsyncIterator[bytes]:
    """Yield a tar of files (deterministic).

    Args:
        files: By their names there.
        documents: Whether PDFs are sent whole.

    Raises:
        CommandError: A file became unreadable.
    """
    pieces = tar_pieces(files, documents=documents)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def tar_pieces(files: dict[str, Path], *, documents: bool = False) -> Iterator[bytes]:
    """Yield a tar of files, one per chunk; see ``packed``."""
    whole = _SENT_WHOLE | ({f".{PDF.extension}"} if documents else set())
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                content = file.read(_BEGINNING_BYTES)
                # of other files, only enough to be detected
                if is_image(name) or path.suffix.lower() in whole or begins_as_image(content):
                    content += file.read(MAX_FILE_BYTES)
        except OSError as error:
            raise _unreadable(path, str(error.strerror)) from error
        yield tar_member(name, content)
    yield END


def readable(path: Path | str) -> str:
    """Return a path as text, also with invalid bytes."""
    return os.fsencode(path).decode(errors="replace")


def _unreadable(path: Path, why: str) -> CommandError:
    return CommandError(
        f"{path}: {why}",
        status=ExitStatus.REFUSED,
        hint="Nothing was sent. Make it readable, or take it out of the folder.",
    )
