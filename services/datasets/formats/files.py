"""Layouts of plain files: one per image, and labels in the format of a training tool.

Labels are normalised, without tabs and line ends, so only JSON needs escapes. The tools' readers
are described in docs/datasets.md.
"""

import json
from typing import Any, Protocol

from services.datasets.folder import Folder
from services.datasets.formats.writing import FACTS, facts_of, file_name
from services.datasets.manifest import ManifestRecord


class _Rows(Protocol):
    def add(self, row: dict[str, Any]) -> None: ...


class ImageFolder:
    """``imagefolder`` of Hugging Face datasets: a folder a split, labels in ``metadata.parquet``.

    Not in ``metadata.jsonl``: there the library guesses the type of a column by its values,
    whatever the data card declares, and ``1914-08-03`` becomes a time.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._rows: dict[str, _Rows] = {}

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        name = file_name(record, extension)
        self._folder.write(f"{record.split}/{name}", content)
        row = {"file_name": name, "text": record.label, "origin": record.origin.value}
        self._rows_of(record.split).add(row | facts_of(record))

    def finish(self) -> None:
        """Do nothing: the folder closes the label files."""

    def _rows_of(self, split: str) -> _Rows:
        if split not in self._rows:
            # Imported here, as its library is slow to load
            from services.datasets.formats.parquet import TextTable  # noqa: PLC0415

            name = f"{split}/metadata.parquet"
            table = TextTable(self._folder.path(name), ("file_name", "text", "origin", *FACTS))
            self._folder.keep_open(name, table)
            self._rows[split] = table
        return self._rows[split]


class TrOcr:
    """TrOCR's own (unilm, ``--data-type STR``): ``gt_<split>.txt`` beside one folder ``image``."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        name = file_name(record, extension)
        self._folder.write(f"image/{name}", content)
        self._folder.append(f"gt_{record.split}.txt", f"{name}\t{record.label}\n")

    def finish(self) -> None:
        """Do nothing."""


class PaddleOcr:
    """PaddleOCR's recognition lists (``SimpleDataSet``), and the dictionary of the labels."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._characters: set[str] = set()

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        name = f"{record.split}/{file_name(record, extension)}"
        self._folder.write(name, content)
        self._folder.append(f"rec_gt_{record.split}.txt", f"{name}\t{record.label}\n")
        self._characters.update(record.label)

    def finish(self) -> None:
        """Write the characters of all labels, one per line; a space is ``use_space_char``."""
        characters = sorted(self._characters - {" "})
        self._folder.write("dict.txt", "".join(f"{each}\n" for each in characters).encode())


class DocTr:
    """docTR's ``RecognitionDataset``: ``images`` and ``labels.json`` in a folder per split."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._begun: set[str] = set()

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        name = file_name(record, extension)
        self._folder.write(f"{record.split}/images/{name}", content)
        before = ",\n" if record.split in self._begun else "{\n"
        self._begun.add(record.split)
        entry = f"{before}{json.dumps(name)}: {json.dumps(record.label)}"
        self._folder.append(f"{record.split}/labels.json", entry)

    def finish(self) -> None:
        """Close the JSON documents."""
        for split in sorted(self._begun):
            self._folder.append(f"{split}/labels.json", "\n}\n")


class Kraken:
    """kraken's line pairs: ``<name>.gt.txt`` beside each image, and lists for ``ketos train``."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def add(self, record: ManifestRecord, content: bytes, extension: str) -> None:
        """Write one image."""
        name = f"{record.split}/{file_name(record, extension)}"
        self._folder.write(name, content)
        self._folder.write(f"{record.split}/{record.sha256}.gt.txt", record.label.encode())
        self._folder.append(f"{record.split}.txt", f"{name}\n")

    def finish(self) -> None:
        """Do nothing."""
