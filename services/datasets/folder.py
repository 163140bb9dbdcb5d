"""Atomically written folder with checksums of its files."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, Self

from services.common.domain.errors import PermanentError
from services.datasets.manifest import UnreadableManifestError, read_manifest

SUMS = "SHA256SUMS"
"""Format of ``sha256sum --check``."""


class FolderInUseError(PermanentError):
    """The folder can't be used for an export."""

    code = "folder_in_use"


class _LineFile:
    """A text file that is hashed while written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("wb")
        self._hash: Any = hashlib.sha256()

    def append(self, text: str) -> None:
        block = text.encode()
        self._file.write(block)
        self._hash.update(block)

    def close(self) -> str:
        self._file.close()
        return str(self._hash.hexdigest())


class Growing(Protocol):
    """A file that is written incrementally by another module."""

    def close(self) -> None:
        """Write the rest, and close the file."""
        ...


class Folder:
    """Files of an export; paths are relative, with ``/``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._growing: dict[str, _LineFile] = {}
        self._foreign: dict[str, Growing] = {}
        self._sums = (root / SUMS).open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, name: str) -> Path:
        """Return the path of a file, and create its folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        self.path(name).write_bytes(content)
        self._note(name, hashlib.sha256(content).hexdigest())

    def append(self, name: str, text: str) -> None:
        """Append to a text file, which is created if missing."""
        if name not in self._growing:
            self._growing[name] = _LineFile(self.root / name)
        self._growing[name].append(text)

    def keep_open(self, name: str, file: Growing) -> None:
        """Register another module's open file, to be closed and hashed with the folder."""
        self._foreign[name] = file

    def note(self, name: str) -> None:
        """Add the checksum of a file written by another module."""
        with self.path(name).open("rb") as file:
            self._note(name, hashlib.file_digest(file, "sha256").hexdigest())

    def close(self) -> None:
        """Close all files and the list of checksums."""
        for name, file in self._growing.items():
            self._note(name, file.close())
        self._growing.clear()
        for name, foreign in self._foreign.items():
            foreign.close()
            self.note(name)
        self._foreign.clear()
        self._sums.close()

    def _note(self, name: str, digest: str) -> None:
        self._sums.write(f"{digest}  {name}\n")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces ``target`` if the block succeeds.

    Leftovers of an interrupted export are deleted.

    Raises:
        FolderInUseError: ``target`` is not an export (or empty), or is being written.
    """
    target = target.resolve()  # of a link, what it names is replaced
    check_replaceable(target)
    staging = target.with_name(f".{target.name}.partial")
    staging.mkdir(parents=True, exist_ok=True)
    lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(lock, target)
        for left in staging.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield staging
        _exchange(staging, target)
    finally:
        os.close(lock)


def check_replaceable(target: Path) -> None:
    """Refuse a folder that holds anything but an export.

    Raises:
        FolderInUseError: It does.
    """
    before = target.with_name(f".{target.name}.before")
    if before.exists() and not target.exists():
        before.rename(target)  # interrupted between the two renames
    if not target.exists():
        return
    if not target.is_dir():
        raise FolderInUseError(f"{target} is not a folder")
    ours = {SUMS, *listed(target)} if _is_export(target) else set()
    strange = min((name for name in _leaves(target) if name not in ours), default=None)
    if strange is not None:
        raise FolderInUseError(f"{target} holds other files than an export: {strange}")


def listed(folder: Path) -> Iterator[str]:
    """Yield the files of an export, from its checksums."""
    path = folder / SUMS
    if path.exists():
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield line.rstrip("\n").partition("  ")[2]


def _is_export(folder: Path) -> bool:
    try:
        read_manifest(folder)
    except UnreadableManifestError:
        return False
    return True


def _leaves(folder: Path) -> Iterator[str]:
    """Yield all files by path with ``/``, without following links."""
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            if path.is_symlink() or not path.is_dir():
                yield path.relative_to(folder).as_posix()


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(f"another export is writing {target}") from error


def _exchange(staging: Path, target: Path) -> None:
    before = target.with_name(f".{target.name}.before")
    if before.exists():
        shutil.rmtree(before)
    if target.exists():
        target.rename(before)
    staging.rename(target)
    if before.exists():
        shutil.rmtree(before)
