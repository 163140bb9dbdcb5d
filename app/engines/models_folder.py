"""Local models: found by name, identified by content, promoted by a small file in their folder.

The last promotion that was not rolled back is valid; without one the embedded model is served. The
file is replaced atomically.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import mkstemp

from pydantic import ValidationError

from app.engines.weights import LANGUAGE_FILE, TO_DO, TRAINED_FILE, UnexpectedModelError
from services.common.domain.sizes import MEBIBYTE
from services.common.domain.trained_models import (
    LARGEST_RECORD,
    POINTER,
    RECORD,
    Promotion,
    Promotions,
    in_service,
)
from services.common.runtime.files import FileTooLargeError, check_size, read_bounded

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.onnx")
"""Files of a model: weights, configuration, vocabulary, SentencePiece. Pickled weights (``*.bin``)
execute code when they are loaded, so they are excluded."""

CONFIGURATION = "config.json"
LARGEST = {
    TRAINED_FILE: 256 * MEBIBYTE,
    LANGUAGE_FILE: 16 * MEBIBYTE,
    RECORD: LARGEST_RECORD,
}
"""Limits in bytes of files that are read whole. All columns of PP-OCRv6 small are 21 MB; a language
of 4,000 lines is 1 MB, and takes up to 54 times its size of memory."""
LARGEST_OTHER = MEBIBYTE
"""All 18,710 characters are 75 kB, 1,000 calibrations of up to three numbers 400 kB."""
MOST_FILES = 64
"""Of a model, as all are in memory at once; a training writes three."""
_HASH_LENGTH = 12

RESTORE = "restore it from a backup, or delete it"
"""About a file of the whole folder."""
KEPT = 100
"""Limit of promotions in the file."""


@dataclass(frozen=True)
class LocalModel:
    """A model's folder."""

    name: str
    """Path relative to the models folder: ``microsoft/trocr-small-handwritten``."""
    folder: Path

    @property
    def is_for_default_engine(self) -> bool:
        """Whether it is for the engine ``rapidocr``; otherwise for ``trocr``."""
        return (self.folder / TRAINED_FILE).is_file()

    @property
    def files(self) -> list[Path]:
        """Files of the model, in a fixed order, without metadata of downloads."""
        found = {path for pattern in WANTED for path in self.folder.glob(pattern)}
        return sorted(path for path in found if path.is_file() and path.name != RECORD)

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def content_hash(self) -> str:
        """First 12 hexadecimal digits of a SHA-256 over names and contents; reads all of it."""
        return _hash_of((path.name, _digest(path)) for path in self.files)

    def read(self) -> Mapping[str, bytes]:
        """Return the contents of all its files by name, to be served by the default engine.

        Raises:
            OSError: A file can't be read.
            UnexpectedModelError: They are too large, or too many; nothing was read then.
        """
        files = self.files
        if len(files) > MOST_FILES:
            raise UnexpectedModelError(
                f"{self.folder} has {len(files)} files, at most {MOST_FILES} are read: {TO_DO}"
            )
        for path in files:
            with _as_unexpected(path, TO_DO):
                check_size(path.stat().st_size, limit_of(path.name))
        return {path.name: read_limited(path) for path in files}


def read_limited(path: Path, *, limit: int = 0, to_do: str = TO_DO) -> bytes:
    """Return the content of a file of the models folder.

    Args:
        path: The file.
        limit: Its size at most, in bytes; 0: that of its name.
        to_do: Advice where it is larger.

    Raises:
        OSError: It can't be read.
        UnexpectedModelError: It is too large; nothing was read then.
    """
    with _as_unexpected(path, to_do):
        return read_bounded(path, limit or limit_of(path.name))


@contextmanager
def _as_unexpected(path: Path, to_do: str) -> Iterator[None]:
    try:
        yield
    except FileTooLargeError as error:
        raise UnexpectedModelError(f"{path} is {error}: {to_do}") from error


def limit_of(name: str) -> int:
    """Return the limit in bytes of a file that is read whole."""
    return LARGEST.get(name, LARGEST_OTHER)


def hash_of_contents(contents: Mapping[str, bytes]) -> str:
    """Return the ``content_hash`` of what ``LocalModel.read`` has returned."""
    return _hash_of((name, sha256(content).hexdigest()) for name, content in contents.items())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _hash_of(digests: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{name} {digest}\n" for name, digest in digests)
    return sha256(lines.encode()).hexdigest()[:_HASH_LENGTH]


def find_model(name: str, models_folder: Path) -> LocalModel | None:
    """Return the model of a folder or of a name in the models folder, or None."""
    for folder in (models_folder / name, Path(name)):
        if any((folder / file).is_file() for file in (CONFIGURATION, TRAINED_FILE)):
            is_inside = folder.resolve().is_relative_to(models_folder.resolve())
            root = models_folder if is_inside else folder.parent
            return LocalModel(folder.resolve().relative_to(root.resolve()).as_posix(), folder)
    return None


def trained_model(name: str, models_folder: Path) -> LocalModel:
    """Return a model that the engine ``rapidocr`` serves, by its name; a path is no name.

    Raises:
        FileNotFoundError: It does not exist.
    """
    model = LocalModel(name, models_folder / name)
    is_name = Path(name).name == name and not name.startswith(".")
    if not is_name or not model.is_for_default_engine:
        raise FileNotFoundError(f"{models_folder} has no model {name} with a {TRAINED_FILE}")
    return model


def make_readable(*paths: Path) -> None:
    """Let others read files and folders of this user, whatever the umask.

    The OCR API may run as another user, as in a container.
    """
    for path in paths:
        if (status := path.stat()).st_uid == os.getuid():
            path.chmod(status.st_mode & 0o7777 | (0o755 if path.is_dir() else 0o644))


@contextmanager
def locked(models_folder: Path) -> Iterator[None]:
    """Hold the lock of the models folder, which other processes wait for."""
    models_folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(models_folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        os.fsync(lock)
    finally:
        os.close(lock)


def write_shared(path: Path, text: str) -> None:
    """Replace a file of the models folder atomically; the user of the OCR API may read it.

    Raises:
        OSError: It can't be written.
        UnexpectedModelError: It would be too large to be read again.
    """
    if (size := len(text.encode())) > (limit := limit_of(path.name)):
        raise UnexpectedModelError(
            f"{path} would be larger than {limit // MEBIBYTE} MiB, its limit ({size} bytes): it "
            "is left as it was"
        )
    # A name of its own: two writers of one file must not mix
    file_number, name = mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    staged = Path(name)
    try:
        with os.fdopen(file_number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        make_readable(path.parent, staged)
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise


def models_in(models_folder: Path) -> Iterator[LocalModel]:
    """Yield the models of the models folder by name."""
    found = {
        file.parent for name in (CONFIGURATION, TRAINED_FILE) for file in models_folder.rglob(name)
    }
    for folder in sorted(found):
        inside = folder.relative_to(models_folder)
        if not any(part.startswith(".") for part in inside.parts):
            yield LocalModel(inside.as_posix(), folder)


class PromotionError(Exception):
    """The file of promotions can't be used."""


def read_promotions(models: Path) -> list[Promotion]:
    """Return all promotions, the latest last.

    Raises:
        PromotionError: The file is damaged or too large, or can't be read.
    """
    try:
        content = read_limited(models / POINTER, to_do=RESTORE)
        return Promotions.model_validate_json(content).promotions
    except FileNotFoundError:
        return []
    except UnexpectedModelError as error:
        raise PromotionError(str(error)) from error
    except (OSError, ValidationError) as error:
        raise PromotionError(f"{models / POINTER} can't be read: {error}") from error


def _kept(promotions: list[Promotion]) -> list[Promotion]:
    """Drop what is too much: the first ones, and those that were taken back before others."""
    surplus = max(0, len(promotions) - KEPT)
    by_worth = sorted(promotions, key=lambda each: each.rolled_back is None)
    gone = {id(each) for each in by_worth[:surplus]}
    return [each for each in promotions if id(each) not in gone]


def change_promotions(
    models: Path, change: Callable[[list[Promotion]], list[Promotion]]
) -> Promotion | None:
    """Update the list by ``change``; return the valid promotion afterwards.

    Raises:
        PromotionError: The file is corrupt or too large.
        UnexpectedModelError: It would be too large.
        OSError: It can't be written.
    """
    with locked(models):
        changed = _kept(change(read_promotions(models)))
        write_shared(
            models / POINTER, Promotions(promotions=changed).model_dump_json(indent=2) + "\n"
        )
    return in_service(changed)
