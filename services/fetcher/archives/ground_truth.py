"""What is known of the images of an archive: tables, a text beside each image, IAM's lines.txt."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO, StringIO
from pathlib import PurePosixPath

from services.fetcher.archives.members import Archive, ArchiveRefusedError
from services.fetcher.lists.lines import detect_encoding
from services.fetcher.lists.table import ANNOTATION_COLUMNS, find_column

NAME_COLUMNS = ("file_name", "filename", "file", "path", "image_path", "image", "img", "name", "id")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
MAX_TABLE_BYTES = 32 * 1024 * 1024
"""A table is read whole."""
MAX_TEXT_BYTES = 64 * 1024
MAX_TRUTH_BYTES = 64 * 1024 * 1024
"""All tables and texts of an archive together."""

_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_TABLES = frozenset({".csv", ".tsv"}) | _JSON_LINES
_IAM_LINE = re.compile(r"(\S+) (?:ok|err) (?:\S+ ){6}(\S.*)")
"""Id, segmentation, grey level, components, box, then the words with ``|`` between them
(IAM Handwriting Database 3.0, ascii/lines.txt)."""


def may_annotate(name: str) -> bool:
    """Return whether a member may hold annotations."""
    return PurePosixPath(name).suffix.lower() in _TABLES | {".txt"}


class GroundTruth:
    """Annotations by the images' paths.

    Args:
        archive: Open.
        names: Of its members that ``may_annotate``.

    Raises:
        ArchiveRefusedError: A table is too large, or broken, or all are too much together.
    """

    def __init__(self, archive: Archive, names: Iterable[str]) -> None:
        self._archive = archive
        self._bytes_left = MAX_TRUTH_BYTES
        self._by_path: dict[str, str] = {}
        self._by_stem: dict[str, str] = {}
        self._beside: set[str] = set()
        for name in names:
            path = PurePosixPath(name)
            if path.name.lower() == "lines.txt":
                self._by_stem.update(_iam_pairs(self._text(name, MAX_TABLE_BYTES)))
            elif path.suffix.lower() in _TABLES:
                self._add_table(path)
            else:
                self._beside.add(name)

    def of(self, name: str) -> str | None:
        """Return the annotation of an image, or None.

        Raises:
            ArchiveRefusedError: The text beside it cannot be read, or all are too much together.
        """
        path = PurePosixPath(name)
        found = self._by_path.get(str(path)) or self._by_stem.get(path.stem)
        if found is not None:
            return found
        for beside in (f"{path.with_suffix('')}.gt.txt", f"{path.with_suffix('')}.txt"):
            if beside in self._beside:
                return self._text(beside, MAX_TEXT_BYTES).strip()
        return None

    def _add_table(self, path: PurePosixPath) -> None:
        text = self._text(str(path), MAX_TABLE_BYTES)
        try:
            is_json = path.suffix.lower() in _JSON_LINES
            pairs = list(_json_pairs(text) if is_json else _table_pairs(text))
        except (ValueError, RecursionError, csv.Error) as error:
            raise ArchiveRefusedError(f"{path}: {error}"[:300]) from error
        for name, annotation in pairs:
            self._by_path[str(PurePosixPath(name))] = annotation
            self._by_path[str(path.parent / name)] = annotation

    def _text(self, name: str, max_bytes: int) -> str:
        content = self._archive.read(name, max_bytes=max_bytes)
        if len(content) > max_bytes:
            raise ArchiveRefusedError(f"{name} has more than {max_bytes} bytes"[:300])
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            detail = f"its tables and texts have more than {MAX_TRUTH_BYTES} bytes together"
            raise ArchiveRefusedError(detail)
        return content.decode(detect_encoding(BytesIO(content)), errors="replace")


def _table_pairs(text: str) -> Iterator[tuple[str, str]]:
    first_line = text.partition("\n")[0]
    delimiter = max(",;\t", key=first_line.count)
    records = csv.reader(StringIO(text), delimiter=delimiter)
    first = next(records, [])
    name_at, text_at = find_column(first, NAME_COLUMNS), find_column(first, ANNOTATION_COLUMNS)
    if name_at is None or text_at is None:
        if len(first) < 2 or PurePosixPath(first[0]).suffix.lower() not in IMAGE_SUFFIXES:
            return  # a table of something else
        name_at, text_at = 0, 1
        yield first[0], first[1]
    for cells in records:
        if len(cells) > max(name_at, text_at):
            yield cells[name_at], cells[text_at]


def _json_pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        row = json.loads(line) if line.strip() else None
        if not isinstance(row, Mapping):
            continue
        names, columns = list(row), list(row.values())
        name_at, text_at = find_column(names, NAME_COLUMNS), find_column(names, ANNOTATION_COLUMNS)
        if name_at is not None and text_at is not None:
            yield str(columns[name_at]), str(columns[text_at])


def _iam_pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if found := _IAM_LINE.fullmatch(line.strip()):
            yield found[1], found[2].replace("|", " ")
