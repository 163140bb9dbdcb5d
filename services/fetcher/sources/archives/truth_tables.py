"""Read the tables of an archive in the formats of training tools, by their names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from io import BytesIO
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from services.common.domain.tables.columns import FILE_NAMES, NULL, Wanted
from services.common.domain.tables.json_rows import load_json, read_items, read_json_lines
from services.common.domain.tables.lines import detect_encoding, open_lines
from services.common.domain.tables.list_format import ReadingOptions
from services.common.domain.tables.names import ImageNames, is_image
from services.common.domain.tables.records import Damaged
from services.common.domain.tables.report import Report, TableRow
from services.common.domain.tables.table import TableSource, read_table
from services.common.runtime.bounded_child import InputRefusedError
from services.fetcher.sources.lists.parquet import to_rows

WANTED = Wanted(where=FILE_NAMES, needs_text=True, has_details=True)
JSON_LINES = frozenset({".jsonl", ".ndjson"})
_IAM_LINE = re.compile(r"(\S+) (?:ok|err) (?:\S+ ){6}(\S.*)")
"""Id, segmentation, grey level, components, box, then the words with ``|`` between them
(IAM Handwriting Database 3.0, ascii/lines.txt)."""


def rows_of(
    name: str, content: bytes, images: ImageNames, report: Report, options: ReadingOptions
) -> Iterator[TableRow | Damaged]:
    """Yield the rows of a table in the format of its name.

    Raises:
        ValueError: It is invalid, with the reason.
    """
    suffix = PurePosixPath(name).suffix.lower()
    file = BytesIO(content)
    folder = str(PurePosixPath(name).parent)
    wanted, encoding = options.wanted(WANTED), options.encoding
    lines = _lines(content, encoding) if suffix == ".txt" else []
    if suffix == ".json" and (image := sample_of(name, images)):
        sample = _json_object(content) | {"file_name": image}
        yield from read_items(iter([sample]), replace(wanted, needs_text=False), report)
    elif suffix == ".json":
        yield from read_items(_json_items(content), wanted, report)
    elif suffix in JSON_LINES:
        yield from read_json_lines(file, wanted, report, encoding)
    elif suffix == ".parquet":
        yield from _parquet_rows(file, wanted, report)
    elif pairs := _iam_pairs(lines) or _spaced_pairs(lines, images, folder):
        for row in pairs:
            report.count(row)
            yield row
    else:
        has_tabs = any("\t" in line for _, line in lines[:10])
        separator = "\t" if has_tabs or suffix in {".tsv", ".tab"} else None
        # Lists of training tools have a text in each row, not missing values of a database
        null = None if has_tabs else NULL
        source = TableSource(file, _names_image, separator, encoding, null=null)
        yield from read_table(source, wanted, report)


def sample_of(name: str, images: ImageNames) -> str | None:
    """Return the image that a JSON file is beside, as in a sample of WebDataset."""
    path = PurePosixPath(name)
    return images.find(path.stem, str(path.parent)) if path.suffix.lower() == ".json" else None


def _json_object(content: bytes) -> dict[str, Any]:
    document = load_json(content)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004  what is invalid is a ValueError
    return document


def _parquet_rows(file: BytesIO, wanted: Wanted, report: Report) -> Iterator[TableRow | Damaged]:
    # Imported here, as its library is slow to load
    from services.fetcher.sources.lists import parquet_reader  # noqa: PLC0415

    try:
        yield from to_rows(parquet_reader.rows(file, asdict(wanted)), report)
    except InputRefusedError as error:
        raise ValueError(str(error)) from error


def _names_image(cell: str) -> bool:
    return is_image(cell.strip().strip('"\ufeff'))


def _json_items(content: bytes) -> Iterator[object]:
    """Yield rows of an array, of ``items``, or of an object whose members are images."""
    document = load_json(content)
    if isinstance(document, Mapping) and isinstance(document.get("items"), list):
        document = document["items"]
    if isinstance(document, list):
        return iter(document)
    if isinstance(document, Mapping) and all(isinstance(text, str) for text in document.values()):
        return ({"file_name": name, "text": text} for name, text in document.items())
    raise ValueError("neither an array of objects, nor an object of texts by their images")


def _lines(content: bytes, encoding: str | None) -> list[tuple[int, str]]:
    file = BytesIO(content)
    lines = open_lines(file, detect_encoding(file, encoding))
    return [(line.number, line.text.strip()) for line in lines if line.text.strip()]


def _iam_pairs(lines: list[tuple[int, str]]) -> list[TableRow]:
    return [
        TableRow(number, found[1], found[2].replace("|", " "))
        for number, line in lines
        if (found := _IAM_LINE.fullmatch(line))
    ]


def _spaced_pairs(lines: list[tuple[int, str]], images: ImageNames, folder: str) -> list[TableRow]:
    """Return the rows of a text of lines ``image text``, with a space between them."""
    lines = [line for line in lines if not line[1].startswith("#")]
    if any("\t" in line for _, line in islice(lines, 10)):
        return []
    pairs = [(number, *line.partition(" ")[::2]) for number, line in lines]
    known = sum(is_image(name) and images.find(name, folder) is not None for _, name, _ in pairs)
    if not known or known * 2 < len(pairs):
        return []
    return [TableRow(number, name, text.strip() or None) for number, name, text in pairs]
